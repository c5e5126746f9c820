"""Our networks and the same ones in PyTorch and MONAI, one after the other in every round; ratios go into README.md here.

    python -m venv build/torch && build/torch/bin/pip install -r benchmarks/requirements.txt
    python -m benchmarks.compare --torch build/torch/bin/python                       # everything; writes README.md
    python -m benchmarks.compare --torch build/torch/bin/python --stand-in avx2       # as on a processor without AVX-512
    python -m benchmarks.compare --torch build/torch/bin/python --jobs brain --rounds 5 --dry

A machine's speed changes while it is measured, that of two contenders in one round hardly: so each round gives a ratio,
and the table the ratios' median and quartiles. The processor's own clock does not count what other programs take; on one
core, where no thread waits for another, it is the better one on a machine that is not idle.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.inputs import JOBS

ROOT = Path(__file__).resolve().parents[1]
STORE = ROOT / "build" / "benchmarks.json"
README = Path(__file__).with_name("README.md")
OURS, THEIRS = "Keras", ("PyTorch", "PyTorch, channels last")
FULL = {
    "chest": {"batch": 32, "side": 128, "tile": 0},
    "brain": {"batch": 2, "side": 64, "tile": 0},
    "scan": {"batch": 0, "side": 0, "tile": 96},
}
SMALL = {
    "chest": {"batch": 2, "side": 32, "tile": 0},
    "brain": {"batch": 1, "side": 32, "tile": 0},
    "scan": {"batch": 0, "side": 0, "tile": 32},
}
MEANING = {
    "chest train": "DenseNet121, training step",
    "chest predict": "DenseNet121, inference",
    "brain train": "3D U-Net, training step",
    "brain predict": "3D U-Net, inference",
    "scan box": "whole scan, cut to the brain for both",
    "scan whole": "whole scan, as archived",
}


# What makes this machine behave like another: each of both sides' libraries told to use no more than that.
STAND_INS = {
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "no-onednn": {"TF_ENABLE_ONEDNN_OPTS": "0"},
}
VECTORS = {  # flags of /proc/cpuinfo, the widest vectors first
    "AVX-512": ("avx512f", "avx512bw", "avx512vl", "avx512dq"),
    "AVX2": ("avx2", "fma"),
    "AVX": ("avx",),
    "SVE": ("sve",),
    "NEON": ("asimd",),
}
EXTRAS = {"VNNI": "avx512_vnni", "bfloat16": "avx512_bf16", "AMX": "amx_tile"}


class Contender:
    """A process that waits until it is its turn; see `serve`."""

    def __init__(self, python: str, module: str, cores: int, stand_in: str | None = None):
        own = {name: str(cores) for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")} | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        environment = os.environ | own | STAND_INS.get(stand_in, {})
        self.process = subprocess.Popen(
            [python, "-m", module], cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, **request) -> dict:
        """Send a request and wait for its answer."""
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.process.args[-1]} ended; its last words are above.")
        return json.loads(answer)

    def close(self) -> None:
        """End it."""
        self.process.stdin.close()
        self.process.wait()


def compare(job: str, size: dict, ours: Contender, theirs: Contender, rounds: int, seconds: float) -> list[dict]:
    """One row a contender: quartiles of its time over ours in the same round, and the largest difference of outputs."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = {name: None if job.endswith("train") else f"{folder}/{number}.npy" for number, name in enumerate((OURS, *THEIRS))}
        common = size | {"weights": str(Path(folder) / "weights.npz")}
        ours.ask(prepare=job, output=outputs[OURS], **common)
        for name in THEIRS:
            theirs.ask(prepare=f"{job} {name}", output=outputs[name], channels_last=name != THEIRS[0], **common)
        turns = [(OURS, ours, job), *((name, theirs, f"{job} {name}") for name in THEIRS)]
        times = max(1, round(seconds / ours.ask(run=job, times=1)["seconds"]))
        taken, load = {name: [] for name, _, _ in turns}, [os.getloadavg()[0]]
        for number in tqdm(range(rounds), desc=job, unit="round"):
            for name, who, what in turns[:: 1 if number % 2 else -1]:  # A B C, C B A, …
                answer = who.ask(run=what, times=times)
                taken[name].append((answer["seconds"] / times, answer["processor"] / times))
            load.append(os.getloadavg()[0])
        seconds, processor_seconds = np.median(taken[OURS], axis=0)
        common = {"job": job, "cores": size["cores"], "rounds": rounds, "load": float(np.mean(load))}
        common |= {"ours": float(seconds), "ours_processor": float(processor_seconds)}
        rows = []
        for name in THEIRS:
            ratios, processor_ratios = np.divide(taken[name], taken[OURS]).T
            quartiles = dict(zip(("low", "median", "high"), np.percentile(ratios, (25, 50, 75)).tolist()))
            row = common | {"against": name, **quartiles, "processor": float(np.median(processor_ratios))}
            if outputs[name]:
                found, expected = np.load(outputs[name]), np.load(outputs[OURS])
                brain = expected.any(axis=-1) if job.startswith("scan") else ...  # outside, `predict_scan` gives 0
                row["difference"] = float(np.abs(found - expected)[brain].max())
            rows.append(row)
        return rows


def table(rows: list[dict]) -> str:
    """Rows as a Markdown table: a line a job, kind of processor and number of cores; their two memory formats side by side."""
    lines = [
        "| | vectors | cores | channels first | channels last | by processor time | rounds, load | largest difference |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for first, last in zip(rows[::2], rows[1::2], strict=True):
        ratios = " | ".join(f"**{row['median']:.2f}** ({row['low']:.2f}–{row['high']:.2f})" for row in (first, last))
        difference = f"{max(first['difference'], last['difference']):.0e}" if "difference" in first else "–"
        lines.append(
            f"| {MEANING[first['job']]} | {first['vectors']} | {first['cores']} | {ratios} "
            f"| {first['processor']:.2f}, {last['processor']:.2f} | {first['rounds']}, {first['load']:.1f} | {difference} |"
        )
    return "\n".join(lines)


def write_between(file: Path, name: str, text: str) -> None:
    """Replace what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` in a file."""
    before, rest = file.read_text(encoding="utf-8").split(f"<!-- {name} -->\n")
    file.write_text(f"{before}<!-- {name} -->\n{text}\n<!-- /{name} -->" + rest.split(f"<!-- /{name} -->")[1], encoding="utf-8")


def cpuinfo(name: str) -> str:
    """What /proc/cpuinfo says under `name` of the first core; nothing where there is no such file or name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")


def processor() -> str:
    """Name of the processor, as the system gives it."""
    return cpuinfo("model name") or platform.processor() or platform.machine()


def features() -> str:
    """Flags of the processor as Linux names them; of one without /proc/cpuinfo only what its architecture tells."""
    return cpuinfo("flags") or cpuinfo("Features") or {"arm64": "asimd"}.get(platform.machine(), "")


def vectors(flags: str, stand_in: str | None = None) -> str:
    """The widest vectors that a processor with these flags has, or those that the stand-in leaves it; marked as a stand-in then."""
    have = set(flags.split())
    widest = next((name for name, needed in VECTORS.items() if have.issuperset(needed)), "unknown")
    match stand_in:
        case "avx2":
            return "AVX2 (stand-in)" if widest == "AVX-512" else widest
        case "no-onednn":
            return f"{widest}, TensorFlow without oneDNN"
    return widest


def main(arguments: list[str] | None = None) -> list[dict]:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch", required=True, help="Python of an environment with benchmarks/requirements.txt")
    parser.add_argument("--jobs", nargs="+", default=["chest", "brain", "scan"], help="beginnings of: " + ", ".join(JOBS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cores", type=int, default=2, help="for each contender")
    parser.add_argument(
        "--stand-in",
        choices=STAND_INS,
        help="avx2: both sides use no more than AVX2; no-onednn: TensorFlow as it is where nobody switches oneDNN on",
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="length of our turn; the others do as much work")
    parser.add_argument("--small", action="store_true", help="tiny batches and scans: does it run?")
    parser.add_argument("--dry", action="store_true", help="print the table and leave README.md as it is")
    config = parser.parse_args(arguments)
    jobs = [job for job in JOBS if job.startswith(tuple(config.jobs))]
    if not jobs:
        parser.error(f"--jobs {' '.join(config.jobs)}: none of {', '.join(JOBS)} begins so")
    rows = []
    ours = Contender(sys.executable, "benchmarks.ours", config.cores, config.stand_in)
    theirs = Contender(config.torch, "benchmarks.theirs", config.cores, config.stand_in)
    sizes = SMALL if config.small else FULL
    try:
        for job in jobs:
            found = compare(job, sizes[job.split()[0]] | {"cores": config.cores}, ours, theirs, config.rounds, config.seconds)
            rows += [row | {"stand_in": config.stand_in, "vectors": vectors(features(), config.stand_in)} for row in found]
            if not (config.dry or config.small):
                keep(rows)
    finally:
        ours.close()
        theirs.close()
    print(table(rows))
    return rows


def keep(rows: list[dict]) -> None:
    """Write rows into README.md here; those of other jobs, measured in other calls, stay."""
    STORE.parent.mkdir(exist_ok=True)
    known = [row for row in json.loads(STORE.read_text()) if "vectors" in row] if STORE.exists() else []
    new = {_key(row) for row in rows}
    rows = rows + [row for row in known if _key(row) not in new]
    rows.sort(key=_key)
    STORE.write_text(json.dumps(rows, indent=1))
    flags = features().split()
    extras = "".join(f", {name}" for name, flag in EXTRAS.items() if flag in flags)
    machine = (
        f"{processor()} ({vectors(' '.join(flags))}{extras}), {os.cpu_count()} cores; Keras {version('keras')} on {keras_backend()}"
    )
    write_between(README, "compare", f"Measured on {machine}.\n\n{table(rows)}")


def _key(row: dict) -> tuple:
    """What a row is about, in the order of the table; the memory formats of one measurement have the same."""
    return JOBS.index(row["job"]), -row["cores"], "(" in row["vectors"], row["vectors"]


def keras_backend() -> str:
    """Our side's engine with its version; Keras is not imported here, so that this process stays out of the way."""
    names = ["jax"] if os.environ.get("KERAS_BACKEND") == "jax" else ["tensorflow-cpu", "tensorflow"]  # by system
    for name in names:
        with suppress(PackageNotFoundError):
            return f"{name} {version(name)}"
    return "an unknown backend"


if __name__ == "__main__":
    main()
