"""Measures the grader beside nbgrader, in one run, on the same submissions: `python -m grading.benchmark`.

A synthetic class hands in a notebook; the grader marks all of it, nbgrader a handful. Also says whether every submission got the
mark that it deserves. On a machine with other work to do the CPU seconds say more than the seconds.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from . import batch, report
from .course import ROOT, assignment
from .grade import Settings
from .nbgrader_course import make_course
from .submissions import find_submissions
from .synthetic_class import make_class


def disagreements(expected: dict[str, dict], results: dict[str, dict]) -> list[str]:
    """Where outcome, status or points differ from what a submission deserves."""
    found = []
    for student, deserved in expected.items():
        if deserved["status"] == "missing":
            continue
        result = results.get(student)
        if result is None or result["status"] != deserved["status"]:
            found.append(f"{student} ({deserved['kind']}): {result and result['status']}, not {deserved['status']}")
            continue
        for name, outcome in deserved["exercises"].items():
            exercise = result["exercises"][name]
            same = exercise["outcome"] == outcome or {exercise["outcome"], outcome} == {"wrong", "error"}  # 1/0 in a wrong formula
            fair = (exercise["points"] == exercise["max"]) == (outcome == "right")
            if not (same and fair):
                found.append(
                    f"{student} ({deserved['kind']}): {name} is {exercise['outcome']}, not {outcome}: {exercise['message'][:200]}"
                )
    return found


def nbgrader(*arguments: str, folder: Path) -> float:
    """Run an nbgrader command in a course directory; seconds."""
    start = time.perf_counter()
    environment = os.environ | {"COURSE_DIR": str(ROOT), "JUPYTER_PLATFORM_DIRS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments], cwd=folder, capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"nbgrader {' '.join(arguments)}: {(done.stdout + done.stderr)[-3000:]}")
    return time.perf_counter() - start


def _used() -> float:
    """CPU seconds of this process and of all that it has started and that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def run(folder: Path, students: int, handful: int, jobs: int | None = None, number: int = 2) -> dict[str, Any]:
    """Make the class, grade it, let nbgrader grade `handful` of it; the figures."""
    shutil.rmtree(folder, ignore_errors=True)
    expected = make_class(folder / "class", students, number=number)
    submissions = find_submissions(folder / "class")
    homework = assignment(number)
    start, used = time.perf_counter(), _used()
    results, facts = batch.grade_class(
        submissions,
        folder / "out",
        Settings(number, -1),
        jobs=jobs,
        progress=lambda stream, total: tqdm(stream, total=total, unit="submission"),
    )
    report.write_all(folder / "out", homework, submissions, results, facts)
    seconds, cpu = time.perf_counter() - start, _used() - used
    figures = {
        "notebook": homework.name,
        "submissions": len(submissions),
        "cores": jobs or os.cpu_count(),
        "sandbox": facts["sandbox"],
        "seconds": round(seconds, 1),
        "each": round(seconds / len(submissions), 3),
        "CPU seconds": round(cpu, 1),
        "CPU each": round(cpu / len(submissions), 3),
        "seconds before the first": facts["self_test_seconds"],
        "load": os.getloadavg()[0],
        "wrong marks": disagreements(expected, results),
    }
    if handful:
        course = folder / "course"
        make_course(course, (number,))
        figures["nbgrader generate_assignment"] = round(nbgrader("generate_assignment", homework.name, folder=course), 1)
        chosen = [s for s, deserved in expected.items() if deserved["kind"] in ("solution", "right", "mixed", "half done")][
            :handful
        ]
        for student in chosen:
            place = course / "submitted" / student / homework.name
            place.mkdir(parents=True)
            shutil.copy(folder / "class" / f"{student}.ipynb", place / f"{homework.name}.ipynb")
        used = _used()
        took = nbgrader("autograde", homework.name, folder=course)
        figures |= {
            "nbgrader submissions": handful,
            "nbgrader each": round(took / handful, 2),
            "nbgrader CPU each": round((_used() - used) / handful, 2),
            "times nbgrader's rate": round(took / handful / (seconds / len(submissions)), 1),
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m grading.benchmark", description=__doc__.split("\n")[0])
    parser.add_argument("--notebook", type=int, choices=(1, 2, 3), default=2)
    parser.add_argument("--students", type=int, default=500)
    parser.add_argument("--nbgrader", type=int, default=5, metavar="N", help="submissions that nbgrader grades, too (0: none)")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "grading-benchmark")
    options = parser.parse_args()
    print(json.dumps(run(options.folder, options.students, options.nbgrader, options.jobs, options.notebook), indent=1))


if __name__ == "__main__":
    main()
