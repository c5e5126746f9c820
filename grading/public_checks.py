"""The public checks of one notebook, without running its other cells: `python -m grading.public_checks NOTEBOOK`.

For students (a GitHub Classroom workflow calls it on each push) and for a quick look. It runs the code here, in this very
process, without a sandbox: on the machine of whoever wrote it. Marks are made by `python -m grading`.
"""

import contextlib
import io
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import public_tests

from .inside import loading, notebook

SECONDS = 120  # for one check; only where the system has alarms (Linux, macOS)


class _TooLong(BaseException):
    """Not an Exception: neither the check nor the student's code takes it for an error of its own."""


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*_: object) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _check(name: str, answer: notebook.Answer) -> tuple[str, str]:
    """Outcome and message of one exercise."""
    if answer.found != "found":
        return "wrong" if answer.found == "broken" else answer.found, answer.note
    space = loading.namespace(loading.MODULES)
    with contextlib.redirect_stdout(io.StringIO()):
        left_out = loading.load(answer.code, space, SECONDS / 10)
    note = "".join(f"\nA line that was left out: {place} line {line} ({error})" for error, place, line, _ in left_out)
    try:
        with contextlib.redirect_stdout(io.StringIO()), _time_limit():
            getattr(public_tests, f"{name}_test")(space[name])
    except NotImplementedError:
        return "not attempted", ""
    except _TooLong:
        return "wrong", f"It takes longer than {SECONDS} seconds."
    except (Exception, SystemExit) as error:
        return "wrong", (str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}") + note
    return "right", ""


def check_notebook(path: Path) -> list[tuple[str, str, str]]:
    """The exercises of a notebook file, checked.

    Returns
    -------
    list of (exercise, outcome, message)
        The outcome is "right", "wrong", "not attempted" or "not found".

    Raises
    ------
    NotebookError
        When the file is no notebook of this course.
    """
    found = notebook.find_answers(notebook.read_cells(path.read_bytes()), list(public_tests.EXERCISES))
    numbers = [public_tests.EXERCISES[name] for name, answer in found.items() if answer.found != "not found"]
    if not numbers:
        raise notebook.NotebookError(f"{path} has none of the exercises of this course.")
    number = max(set(numbers), key=numbers.count)
    return [(name, *_check(name, answer)) for name, answer in found.items() if public_tests.EXERCISES[name] == number]


def main() -> int:
    """Print a line for each exercise; 0 when none is wrong, 1 when one is, 2 when there is nothing to check."""
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    try:
        results = check_notebook(Path(sys.argv[1]))
    except (OSError, notebook.NotebookError) as error:
        print(error)
        return 2
    for name, outcome, message in results:
        print(f"- {name}: {outcome}")
        if message:
            print("\n".join(f"      {line}" for line in message.split("\n")))
    print(f"\n{sum(outcome == 'right' for _, outcome, _ in results)} of {len(results)} exercises pass their public check.")
    return int(any(outcome == "wrong" for _, outcome, _ in results))


if __name__ == "__main__":
    sys.exit(main())
