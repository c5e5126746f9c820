"""What was measured when the notebooks ran, and the parts of the README that are written from it.

``tools/measured.json`` is written by ``tools.build_notebooks`` (the simulated cohorts) and by
``tools.run_notebooks --record`` (real patients too), never by hand.
``python -m tools.results`` writes what stands between marks in the README, and the address in CITATION.cff.
"""

import argparse
import json
import math
import os
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tools.execution import Run
from tools.lesson import REPOSITORY, ROOT, lesson_paths, notebook_title, read_cells

MEASURED = ROOT / "tools" / "measured.json"
SIMULATED = "simulated"
COMMANDS = "commands"  # where the times of `make check` and `make test` are, beside the notebooks
TOPICS = {
    "01": "leakage between patients, class imbalance, DenseNet121, GradCAM, shortcuts",
    "02": "sensitivity to net benefit, ROC, thresholds, bootstrap, calibration, subgroups",
    "03": "MR sequences, patches, 3D U-Net, soft Dice, HD95, failures",
}
EXERCISE = re.compile("^### Exercise ", re.MULTILINE)  # some ask for several functions, which are checked one by one
TIME = re.compile(r"\*\*Time:\*\* about (.+?) with the exercises")


def load(path: Path = MEASURED) -> dict[str, Any]:
    """The measurements so far: notebook name → kind of data ("simulated", "real") → what was measured."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def record(name: str, run: Run, *, cold: bool, path: Path = MEASURED) -> None:
    """Store what a complete run of the notebook `name` measured; what is there of other notebooks and data stays.

    Parameters
    ----------
    name : str
        Stem of the lesson.
    run : Run
        A run without failure.
    cold : bool
        The embedded cohort was generated in this run.
    path : Path
        The JSON file.

    Raises
    ------
    ValueError
        When the run failed or gave no headline.
    """
    if run.failure:
        raise ValueError(f"{name}: a run that failed is not recorded.")
    if not run.headlines:
        raise ValueError(f"{name}: no headline to record. The last cell of a lesson calls util.headline(…).")
    measured = load(path)
    source = run.headlines[-1]["source"]
    kind = SIMULATED if source.startswith(SIMULATED) else "real"
    measured.setdefault(name, {})[kind] = {
        "source": source,
        "numbers": {key: value for headline in run.headlines for key, value in headline["numbers"].items()},
        "seconds": round(run.seconds),
        "peak_mib": round(run.peak_mib),
        "cold": cold,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "keras": version("keras"),
    }
    _store(measured, path)


def _store(measured: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(dict(sorted(measured.items())), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def table(measured: dict[str, Any], titles: dict[str, str]) -> str:
    """The measurements as a Markdown table: one line a notebook, one number a cell.

    The number is a notebook's first headline; time and memory are those of the simulated cohort.
    """
    lines = ["|notebook||simulated|real patients|time|memory|", "|---|---|---:|---:|---:|---:|"]
    setups, warm = set(), False
    for name, kinds in sorted(measured.items()):
        if name == COMMANDS:
            continue
        simulated = kinds.get(SIMULATED) or next(iter(kinds.values()))
        what = next(iter(simulated["numbers"]))
        values = [number(kinds[kind]["numbers"].get(what, math.nan)) if kind in kinds else "–" for kind in (SIMULATED, "real")]
        mark = "" if simulated["cold"] else "*"
        warm |= bool(mark)
        lines.append(
            f"|[{titles.get(name, name)}]({name}.ipynb)|{what}|{values[0]}|{values[1]}"
            + f"|{duration(simulated['seconds'])}{mark}|{simulated['peak_mib'] / 1024:.1f} GiB|".replace(" ", "\u00a0")
        )
        setups |= {f"{entry['cores']} cores, Python {entry['python']}, Keras {entry['keras']}" for entry in kinds.values()}
    lines += ["", f"Measured on {'; '.join(sorted(setups))}, without a GPU; time and memory are of the whole notebook."]
    if warm:
        lines[-1] += " \\* The simulated cohort was there already."
    return "\n".join(lines)


def notebooks(root: Path = ROOT) -> str:
    """The notebooks side by side: picture, title, topics, time and number of exercises."""
    columns = []
    for path in lesson_paths(root):
        nb, name = read_cells(path), path.stem[:2]
        time = TIME.search(nb.cells[0].source)
        if not time:
            raise ValueError(f"{path.name}: the first cell does not say “**Time:** about … with the exercises”.")
        columns.append(
            [
                f"![{notebook_title(nb)}, simulated](.github/pictures/{name}.png)",
                f"**[{notebook_title(nb)}]({path.stem}.ipynb)**",
                TOPICS[name],
                f"{time[1]} · {sum(len(EXERCISE.findall(cell.source)) for cell in nb.cells)} exercises",
            ]
        )
    rows = [f"|{'|'.join(row)}|" for row in zip(*columns)]
    return "\n".join([rows[0], "|---" * len(columns) + "|", *rows[1:]])


def start(measured: dict[str, Any]) -> str:
    """The commands to begin with, and how long the notebooks take together."""
    seconds = sum(kinds[SIMULATED]["seconds"] for kinds in measured.values() if SIMULATED in kinds)
    took = {name: f": {math.ceil(seconds / 60)} minutes" for name, seconds in measured.get(COMMANDS, {}).items()}
    return f"""```bash
git clone --depth 1 https://github.com/{REPOSITORY}
cd {REPOSITORY.split("/")[1]}
make lab     # opens JupyterLab: write the exercises yourself, in your own copy (work/)
make run     # the three solved notebooks, executed from top to bottom: {math.ceil(seconds / 60)} minutes
make test    # every test, the notebooks included{took.get("test", "")}
```"""


def badge() -> str:
    """The state of the tests on the main branch, and the licences."""
    workflow, shield = f"https://github.com/{REPOSITORY}/actions/workflows/tests.yml", "https://img.shields.io/badge"
    tests = f"[![tests]({workflow}/badge.svg)]({workflow})"
    return f"{tests} ![code: MIT]({shield}/code-MIT-blue) ![text: CC BY 4.0]({shield}/text-CC%20BY%204.0-blue)"


def number(value: float) -> str:
    """A number as a reader wants it: counts whole, everything else with three decimals."""
    value = float(value)  # a nan comes out of a notebook as text: JSON has none
    return f"{value:,.0f}" if value.is_integer() and abs(value) > 1 else f"{value:.3f}"


def duration(seconds: float) -> str:
    """Seconds as minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def write_block(text: str, name: str, block: str) -> str:
    """`text` with `block` between the marks ``<!-- name:begin -->`` and ``<!-- name:end -->``.

    Raises
    ------
    ValueError
        When the marks are not there, in this order.
    """
    before, begin, rest = text.partition(f"<!-- {name}:begin -->\n")
    _, end, after = rest.partition(f"<!-- {name}:end -->")
    if not begin or not end:
        raise ValueError(f"There are no marks <!-- {name}:begin --> and <!-- {name}:end --> around the block to write.")
    return f"{before}{begin}{block}\n{end}{after}"


def pages(root: Path = ROOT) -> dict[Path, str]:
    """What is written from measurements and from the address of the repository: file → its text as it should be."""
    measured = load(root / "tools" / "measured.json")
    titles = {path.stem: notebook_title(read_cells(path)) for path in lesson_paths(root)}
    readme, citation = root / "README.md", root / "CITATION.cff"
    text = readme.read_text(encoding="utf-8")
    for name, block in [
        ("badge", badge()),
        ("notebooks", notebooks(root)),
        ("start", start(measured)),
        ("results", table(measured, titles)),
    ]:
        text = write_block(text, name, block)
    address = f'repository-code: "https://github.com/{REPOSITORY}"'
    cited = re.sub(r"^repository-code: .*$", address, citation.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {readme: text, citation: cited}


def main() -> int:
    """Command line: write the measured results and the address of the repository where they are shown."""
    parser = argparse.ArgumentParser(prog="python -m tools.results", description=main.__doc__)
    parser.add_argument("--took", nargs=2, metavar=("COMMAND", "SECONDS"), help="store a measured time first, such as: test 712")
    took = parser.parse_args().took
    try:
        if took:
            measured = load()
            measured.setdefault(COMMANDS, {})[took[0]] = round(float(took[1]))
            _store(measured, MEASURED)
        for path, text in pages().items():
            changed = path.read_text(encoding="utf-8") != text
            path.write_text(text, encoding="utf-8")
            print(f"{path.name}: " + ("written" if changed else "was up to date"))
    except (OSError, ValueError) as error:
        print(f"results: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
