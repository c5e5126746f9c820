"""What a folder of results remembers of its last run: whose submissions they are, and the options that decide marks.

A run that is repeated without `--roster` or `--deadline` must not write the marks anew without them; and the results of two classes
must never lie in one folder.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .batch import write_text

FILE = "run.json"
REMEMBERED = ("notebook", "roster", "deadline", "cpu", "memory", "all_or_nothing")


def recall(folder: Path, submissions: Path, given: dict[str, Any], say: Callable[[str], None] = print) -> dict[str, Any]:
    """The options of a run: those given, and for others those of the last run in this folder, which are said.

    Parameters
    ----------
    folder : Path
        Where results go.
    submissions : Path
    given : dict
        Option → value, None where it was not given, "none" to forget what it was.
    say : callable

    Raises
    ------
    ValueError
        When the folder holds the results of other submissions.
    """
    path, last = folder / FILE, {}
    if path.exists():
        try:
            last = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            say(f"{path} is damaged; options of the last run are not known.")
    here = str(Path(submissions).resolve())
    if last.get("submissions", here) != here:
        raise ValueError(
            f"{folder} holds the results of {last['submissions']}, and these submissions are {here}. Name another folder with "
            f"--out; if it is the same class that was moved, delete {path} first."
        )
    options = dict(given)
    for name in REMEMBERED:
        if options.get(name) is None and last.get(name) is not None:
            options[name] = last[name]
            option = f"--{name.replace('_', '-')}"
            value = "" if last[name] is True else f" {last[name]}"
            forget = "--no-all-or-nothing" if name == "all_or_nothing" else f"{option} none"
            how = f" ({forget} to leave it out)" if name in ("roster", "deadline", "all_or_nothing") else ""
            say(f"As in the last run: {option}{value}{how}")
        elif options.get(name) == "none":
            options[name] = None
    return options


def remember(folder: Path, submissions: Path, options: dict[str, Any]) -> None:
    """Store the options for the next run."""
    kept = {name: options[name] for name in REMEMBERED if options.get(name) not in (None, False)}
    write_text(folder / FILE, json.dumps({"submissions": str(Path(submissions).resolve()), **kept}, indent=1) + "\n")
