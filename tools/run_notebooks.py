"""Runs the notebooks from top to bottom, with the solutions in, and writes the executed copies to build/.

``make run`` runs all three on the embedded, simulated cohorts. With real data::

    make run DATA=/path/to/folder      # the folder holds nih/, brats/ and predictions/, or some of them
    python -m tools.run_notebooks 01 --data-dir-chest /path/to/nih
"""

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from tools import results
from tools.build_notebooks import select, write_notebook
from tools.execution import Run, execute, inject_parameters, kernel_environment
from tools.lesson import ROOT, LessonError, make_notebook
from tools.outputs import clean_outputs

DATA_FOLDERS = {"01": "nih", "02": "predictions", "03": "brats"}  # notebook → its folder below --data


def run_lesson(
    lesson: Path,
    target: Path,
    *,
    parameters: dict[str, Any] | None = None,
    student: bool = False,
    cwd: Path = ROOT,
    env: dict[str, str] | None = None,
    show: bool = True,
) -> Run:
    """Execute one lesson and write the executed copy, whole or up to the failure.

    Parameters
    ----------
    lesson : Path
        The lesson.
    target : Path
        Where the executed copy goes.
    parameters : dict, optional
        Values for the cell tagged ``parameters``: DATA_DIR, QUICK.
    student : bool
        Execute the student version, which stops at the first exercise.
    cwd : Path
        Folder in which the kernel starts.
    env : dict, optional
        Environment of the kernel; default `kernel_environment()`.
    show : bool
        Show the progress on stderr.
    """
    nb = inject_parameters(make_notebook(lesson, student=student), parameters or {})
    run = execute(nb, title=lesson.stem[:2], cwd=cwd, env=env, show=show)
    write_notebook(clean_outputs(run.notebook), target)
    return run


def report(lesson: Path, target: Path, run: Run) -> str:
    """The lines that say what came out of a notebook and where it is."""
    lines = [f"{lesson.stem}: {results.duration(run.seconds)}, {run.peak_mib / 1024:.1f} GiB of memory at most"]
    for headline in run.headlines:
        lines += [f"    {name}: {results.number(value)}" for name, value in headline["numbers"].items()]
        lines += [f"    ({headline['source']})"]
    lines += [f"    FAILED, executed as far as it went: {target}" if run.failure else f"    {target}"]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit code 1 when a notebook failed."""
    parser = argparse.ArgumentParser(prog="python -m tools.run_notebooks", description=__doc__.splitlines()[0])
    parser.add_argument("lessons", nargs="*", help="beginnings of lesson names, such as 02 (default: all)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder that holds nih/, brats/, predictions/")
    parser.add_argument("--data-dir-chest", type=Path, metavar="DIR", help="chest X-rays in NIH format, for 01")
    parser.add_argument("--data-dir-predictions", type=Path, metavar="DIR", help="prediction tables, for 02")
    parser.add_argument("--data-dir-brain", type=Path, metavar="DIR", help="Decathlon or BraTS folder, for 03")
    parser.add_argument("--quick", action="store_true", help="a short pass: fewer X-rays, scans and steps")
    parser.add_argument("--cold", action="store_true", help="generate the cohorts anew, so that the times are cold ones")
    parser.add_argument("--record", action="store_true", help="store the results for the README (tools/measured.json)")
    parser.add_argument("--build-dir", type=Path, default=ROOT / "build", metavar="DIR", help="default: build/")
    options = parser.parse_args(arguments)
    if options.quick and options.record:
        parser.error("--record needs complete runs: leave out --quick")
    folders = {"01": options.data_dir_chest, "02": options.data_dir_predictions, "03": options.data_dir_brain}
    for number, name in DATA_FOLDERS.items():
        if options.data and not folders[number] and (options.data / name).is_dir():
            folders[number] = options.data / name
    for folder in [options.data, *folders.values()]:
        if folder and not folder.is_dir():
            parser.error(f"{folder} is not a folder")
    if options.data and not any(folders.values()):
        parser.error(f"{options.data} holds none of {', '.join(DATA_FOLDERS.values())}")
    reports, failures = [], []
    with tempfile.TemporaryDirectory() if options.cold else contextlib.nullcontext() as cache:
        env = kernel_environment(COURSE_CACHE=cache) if cache else None
        for lesson in select(options.lessons):
            folder = folders.get(lesson.stem[:2])
            parameters = {"DATA_DIR": str(folder.resolve())} if folder else {}
            parameters |= {"QUICK": True} if options.quick else {}
            target = options.build_dir.resolve() / f"{lesson.stem}{'-real' if folder else ''}.ipynb"
            run = run_lesson(lesson, target, parameters=parameters, env=env)
            reports.append(report(lesson, target, run))
            if run.failure:
                failures.append(run.failure)
                print(f"\n{run.failure}\n", file=sys.stderr)
            elif options.record:
                results.record(lesson.stem, run, cold=options.cold)
    print("\n" + "\n".join(reports))
    if failures:
        print(f"\n{len(failures)} of {len(reports)} notebooks failed; see the errors above.", file=sys.stderr)
    return int(bool(failures))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LessonError as problem:
        sys.exit(f"run: {problem}")
    except KeyboardInterrupt:
        sys.exit("\nrun: stopped.")
