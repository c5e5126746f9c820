"""The public checks of one notebook, without running its other cells: `python -m grading.public_checks NOTEBOOK`.

For students (a GitHub Classroom workflow calls it on each push) and for a quick look. It runs the code here, in this very
process, without a sandbox: on the machine of whoever wrote it. Marks are made by `python -m grading`.
"""

import contextlib
import io
import sys
from pathlib import Path

import public_tests

from . import notebook


def check_notebook(path: Path) -> list[tuple[str, str, str]]:
    """(exercise, "right" | "wrong" | "not attempted" | "not found", message) for each exercise of the notebook."""
    cells = notebook.read_cells(path.read_bytes())
    found = notebook.find_answers(cells, list(public_tests.EXERCISES))
    numbers = [public_tests.EXERCISES[name] for name, answer in found.items() if answer.found != "not found"]
    number = max(set(numbers), key=numbers.count, default=0)
    results = []
    for name, answer in found.items():
        if public_tests.EXERCISES[name] != number:
            continue
        if answer.found != "found":
            results.append((name, "wrong" if answer.found == "broken" else answer.found, answer.note))
            continue
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                import numpy
                import pandas

                space = {"np": numpy, "pd": pandas, "__name__": "__main__"}
                for cell, line, source in answer.code:
                    exec(compile("\n" * (line - 1) + source, cell, "exec"), space)
                getattr(public_tests, f"{name}_test")(space[name])
            results.append((name, "right", ""))
        except NotImplementedError:
            results.append((name, "not attempted", ""))
        except (Exception, SystemExit) as error:
            results.append((name, "wrong", str(error) or type(error).__name__))
    return results


def main() -> int:
    try:
        results = check_notebook(Path(sys.argv[1]))
    except (IndexError, OSError, notebook.NotebookError) as error:
        print(error if sys.argv[1:] else __doc__)
        return 2
    for name, outcome, message in results:
        print(f"- {name}: {outcome}")
        if message:
            print("\n".join(f"      {line}" for line in message.split("\n")))
    print(f"{sum(outcome == 'right' for _, outcome, _ in results)} of {len(results)} exercises pass their public check.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
