"""The command: python -m grading SUBMISSIONS."""

import argparse
import sys
import warnings
from datetime import datetime
from pathlib import Path

from tqdm import tqdm

from . import batch, report
from .course import assignment
from .grade import Settings, guess_number
from .roster import read_roster
from .sandbox import KINDS, SandboxBroken
from .submissions import find_submissions

DESCRIPTION = """Grade submitted notebooks: marks, feedback for each student and a class report.

SUBMISSIONS is a folder of notebooks, a zip from a learning platform (Moodle, Canvas, Blackboard; zips inside of it are fine),
or an nbgrader course. Students' code runs in a sandbox. A run that is interrupted goes on where it was."""


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m grading", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("submissions", type=Path, metavar="SUBMISSIONS", help="folder, zip, or nbgrader course")
    add("--out", type=Path, help="where results go (default: build/grades/<name of SUBMISSIONS>)")
    add("--notebook", type=int, choices=(1, 2, 3), help="which notebook of the course it is (default: what most of them are)")
    add("--roster", type=Path, metavar="CSV", help="class list: who handed in nothing gets a row, too")
    add(
        "--deadline", type=datetime.fromisoformat, metavar="TIME", help="for example 2026-11-30T23:59: what is later is marked late"
    )
    add("--jobs", type=int, metavar="N", help="processes (default: one for each core)")
    add("--scheduler", metavar="tcp://…", help="address of a Dask scheduler: the cluster grades")
    add(
        "--sandbox",
        choices=("auto", *KINDS),
        default="auto",
        help="how students' code is shut in (default: bubblewrap where it works)",
    )
    add(
        "--image",
        default="ai-for-medical-diagnosis",
        help="container image for docker and podman; it needs requirements.txt installed",
    )
    add("--seed", type=int, default=-1, help="draws the hidden cases (default: drawn once and kept in the output folder)")
    add("--cpu", type=int, default=0, metavar="S", help="CPU seconds for one exercise (default: 10, with Keras 60)")
    add("--memory", type=int, default=0, metavar="MIB", help="memory of one exercise (default: 2048, with Keras 4096)")
    add("--all-or-nothing", action="store_true", help="no partial credit")
    add("--again", action="store_true", help="grade everybody again, finished or not")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Grade; 0 when everybody has a result."""
    options = arguments(argv)
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        submissions = find_submissions(options.submissions)
        number = options.notebook or guess_number([content for one in submissions[:60] for _, content in one.files[:2]])
        if number is None:
            print(
                "None of the notebooks has an exercise of this course. Which one was asked for? Say --notebook 1, 2 or 3.",
                file=sys.stderr,
            )
            return 2
        homework = assignment(number)
        folder = options.out or Path("build") / "grades" / options.submissions.resolve().stem
        roster = read_roster(options.roster) if options.roster else None
        settings = Settings(
            number, options.seed, options.sandbox, options.image, options.cpu, options.memory, not options.all_or_nothing
        )
        print(f"{homework.name}: {len(submissions)} submissions → {folder}")

        def progress(stream, total):
            return tqdm(stream, total=total, unit="submission", smoothing=0.05, disable=None)

        results, facts = batch.grade_class(
            submissions, folder, settings, jobs=options.jobs, scheduler=options.scheduler, progress=progress, again=options.again
        )
    except (FileNotFoundError, ValueError, SandboxBroken, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on where it was.", file=sys.stderr)
        return 130
    summary = report.write_all(folder, homework, submissions, results, facts, roster, options.deadline)
    failed = summary["statuses"].get("grader failed", 0)
    print(f"{facts['run']} graded in {facts['seconds']:.1f} s, {facts['resumed']} finished before; sandbox: {facts['sandbox']}")
    print(f"marks: {folder / 'grades.csv'}\nreport: {folder / 'report.html'}\nfeedback: {folder / 'feedback'}")
    if failed:
        print(f"{failed} could not be graded; their rows say why.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
