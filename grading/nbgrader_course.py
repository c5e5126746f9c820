"""Lays out a standard nbgrader course directory: `python -m grading.nbgrader_course FOLDER`, or `make nbgrader-course`.

`source/<assignment>/<notebook>.ipynb` with solutions, points and hidden tests between nbgrader's markers, and
`nbgrader_config.py`. Then `nbgrader generate_assignment`, `validate`, `autograde` and `generate_feedback` work as they are.
The hidden tests are the checks on other random cases. nbgrader runs them in the student's own process: for marks that
count, `python -m grading FOLDER` grades the same `submitted/` folder in a sandbox.
"""

import argparse
import json
import secrets
from pathlib import Path

from .batch import write_text
from .course import ROOT, assignment, notebook

HIDDEN_TEST = "public_tests.{name}_test({name}, seed={seed})"

CONFIG = '''\
"""nbgrader's settings for this course."""
import os
import sys
from pathlib import Path

c = get_config()
c.CourseDirectory.course_id = "ai-for-medical-diagnosis"
c.ClearSolutions.code_stub = {{"python": "# Write your code here in place of the next line.\\nraise NotImplementedError"}}
c.ExecutePreprocessor.timeout = 600  # seconds for one cell; some train a network
c.ExecutePreprocessor.allow_errors = True  # one cell that fails must not take the marks of the others
c.ExecutePreprocessor.startup_timeout = 300

# The notebooks' first cell finds util.py, public_tests.py and data/ here:
os.environ.setdefault("COURSE_DIR", {course!r})
# Kernels are started as `python`: it must be the one of this environment, activated or not.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
'''


def make_course(folder: Path, numbers: tuple[int, ...] = (1, 2, 3), seed: int | None = None) -> list[Path]:
    """Write the course directory; existing submissions and marks in it are left alone.

    Returns
    -------
    list of Path
        The source notebooks.
    """
    seed = secrets.randbits(128) if seed is None else seed
    written = []
    for number in numbers:
        homework = assignment(number)
        tests = {name: HIDDEN_TEST.format(seed=seed, name=name) for name in homework.exercises}
        path = folder / "source" / homework.name / f"{homework.name}.ipynb"
        write_text(path, json.dumps(notebook(number, solved=True, hidden_tests=tests), indent=1) + "\n")
        written.append(path)
    config = folder / "nbgrader_config.py"
    if not config.exists():
        write_text(config, CONFIG.format(course=str(ROOT)))
    return written


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m grading.nbgrader_course", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("nbgrader-course"))
    parser.add_argument("--notebook", type=int, choices=(1, 2, 3), action="append", help="only this one (may be given again)")
    options = parser.parse_args()
    available = tuple(int(path.name[:2]) for path in sorted((ROOT / "lessons").glob("[0-9][0-9]_*.py")))
    written = make_course(options.folder, tuple(options.notebook or available))
    print(*written, sep="\n")
    print(f"\nNext:  source .venv/bin/activate; cd {options.folder}; nbgrader generate_assignment {written[0].stem}")


if __name__ == "__main__":
    main()
