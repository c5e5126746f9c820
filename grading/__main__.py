"""The command: python -m grading SUBMISSIONS."""

import argparse
import errno
import sys
import time
import warnings
from pathlib import Path

if __name__ == "__main__" and not {"-h", "--help"} & set(sys.argv):
    print("Starting the grader …", file=sys.stderr, flush=True)  # reading Python's libraries takes seconds

from tqdm import tqdm

from . import batch, report
from .choice import asked
from .course import assignment
from .deadline import read_deadline, rule
from .grade import Settings
from .last_run import recall, remember
from .roster import join, read_roster
from .submissions import find_submissions
from .walls import KINDS, SandboxBroken

DESCRIPTION = """Grade submitted notebooks: marks, feedback for each student and a class report.

SUBMISSIONS is a folder of notebooks, an archive from a learning platform (Moodle, Canvas, Blackboard, Brightspace, Sakai,
Gradescope; archives inside of it are fine), or an nbgrader course. Students' code runs in a sandbox. The same command resumes a
run that was interrupted. Options that decide marks are remembered in the folder of results."""

FULL = {errno.ENOSPC, errno.EDQUOT}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m grading", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("submissions", type=Path, metavar="SUBMISSIONS", help="folder, zip, or nbgrader course")
    add("--out", type=Path, help="where results go (default: grades/<name of SUBMISSIONS>)")
    add("--notebook", type=int, choices=(1, 2, 3), help="which notebook of the course it is (default: what most of them are)")
    add("--roster", metavar="CSV", help="class list: who handed in nothing gets a row, too")
    add(
        "--deadline",
        metavar="TIME",
        help="for example 2026-11-30T23:59 (this computer's time zone) or 2026-11-30T23:59+01:00: what is later is marked late. "
        "Times that a platform writes without a zone are taken to be in the deadline's",
    )
    add("--jobs", type=int, metavar="N", help="processes (default: one for each core)")
    add("--scheduler", metavar="tcp://…", help="address of a Dask scheduler: the cluster grades")
    add(
        "--sandbox",
        choices=("auto", *KINDS),
        default="auto",
        help="how students' code is shut in (default: bubblewrap; `process` protects little, see the README)",
    )
    add(
        "--image",
        default="ai-for-medical-diagnosis",
        help="container image for docker and podman; it needs requirements.txt installed",
    )
    add("--seed", type=int, default=-1, help="draws the hidden cases (default: drawn once and kept in the output folder)")
    add("--cpu", type=int, metavar="S", help="CPU seconds for one exercise (default: 10, with Keras 60)")
    add("--memory", type=int, metavar="MIB", help="memory of one exercise (default: 2048, with Keras 4096)")
    add("--all-or-nothing", action=argparse.BooleanOptionalAction, default=None, help="no partial credit")
    add("--again", action="store_true", help="grade everybody again, finished or not")
    return parser.parse_args(argv)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Grade; 0 when everybody has a result."""
    options = arguments(argv)
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    folder = options.out or Path("grades") / options.submissions.resolve().stem
    try:
        return _grade(options, folder)
    except (FileNotFoundError, ValueError, SandboxBroken, ImportError) as error:
        _say(f"error: {error}")
        return 2
    except batch.ClusterLost as error:
        _say(f"error: {error} What is graded is kept; then the same command resumes.")
        return 2
    except OSError as error:
        what = "the disk is full" if error.errno in FULL else error.strerror or str(error)
        _say(
            f"error: {error.filename2 or error.filename or folder} cannot be read or written: {what}. What is graded is kept. "
            f"{'Make room' if error.errno in FULL else 'Name another folder with --out'}; then the same command resumes."
        )
        return 2
    except KeyboardInterrupt:
        _say("\nInterrupted. The same command resumes.")
        return 130


def _grade(options: argparse.Namespace, folder: Path) -> int:
    start = time.perf_counter()
    if not options.submissions.exists():
        raise FileNotFoundError(f"{options.submissions} does not exist.")
    if options.submissions.is_dir() and folder.resolve().is_relative_to(options.submissions.resolve()):
        raise ValueError(f"The results would lie in {folder}, among the submissions. Name a folder elsewhere with --out.")
    given = {name: getattr(options, name) for name in ("notebook", "deadline", "cpu", "memory", "all_or_nothing")}
    given["roster"] = str(Path(options.roster).resolve()) if options.roster and options.roster != "none" else options.roster
    chosen = recall(folder, options.submissions, given, _say)
    deadline = read_deadline(chosen["deadline"]) if chosen["deadline"] else None
    roster = read_roster(Path(chosen["roster"])) if chosen["roster"] else None
    _say(f"Reading {options.submissions} …")
    notes: list[str] = []
    submissions = find_submissions(options.submissions, roster.known if roster else (), notes)
    submissions = join(roster, submissions) if roster else submissions
    number = chosen["notebook"] or asked(submissions)
    if number is None:
        raise ValueError("No notebook has an exercise of this course. Which one was asked for? Say --notebook 1, 2 or 3.")
    homework = assignment(number)
    for note in notes:
        _say(note)
    print(f"{homework.name}: {len(submissions)} submissions → {folder}")
    if deadline:
        print(f"deadline: {rule(deadline)}")
        if any(one.time and not one.platform for one in submissions):
            print(
                "No platform says when these were handed in: late is told by the times of the files, which may be those of copies."
            )
    remember(folder, options.submissions, chosen)
    settings = Settings(
        number,
        options.seed,
        options.sandbox,
        options.image,
        chosen["cpu"] or 0,
        chosen["memory"] or 0,
        not chosen["all_or_nothing"],
        hidden=(str(options.submissions.resolve()),),
    )
    _say(f"Read in {time.perf_counter() - start:.0f} s. Starting the sandbox; the lesson's own answers are graded first …")

    def progress(stream, total):
        return tqdm(stream, total=total, unit="submission", smoothing=0.05, disable=None)

    results, facts = batch.grade_class(
        submissions, folder, settings, jobs=options.jobs, scheduler=options.scheduler, progress=progress, again=options.again
    )
    summary = report.write_all(folder, homework, submissions, results, facts, roster, deadline)
    print(f"{facts['run']} graded in {facts['seconds']:.1f} s, {facts['resumed']} finished before; sandbox: {facts['sandbox']}")
    print(_counts(summary))
    print(f"marks: {folder / 'grades.csv'}\nreport: {folder / 'report.html'}\nfeedback: {folder / 'feedback'}")
    if failed := summary["statuses"].get("grader failed", 0):
        _say(f"{failed} could not be graded; their rows say why.")
    return 1 if failed else 0


def _counts(summary: dict) -> str:
    """How many were graded, and what became of the others: all add up to the number of rows."""
    counts = {"graded": 0, "unreadable": 0, "wrong notebook": 0, "missing": 0} | summary["statuses"]
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    return f"{summary['students']} students: {said}; {summary['late']} late"


if __name__ == "__main__":
    sys.exit(main())
