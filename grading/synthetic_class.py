"""Makes a class that hands in one notebook: `python -m grading.synthetic_class FOLDER --students 500 --notebook 2`.

Right and wrong in many ways, half done, renamed, re-ordered, with Windows line ends, in other encodings, in Python 2, as zips
inside of zips, broken, empty, hostile, late, copied, missing. Beside the submissions, `expected.json` says what each one
deserves, and `roster.csv` lists the class. With `--layout`, it comes as the zip that a learning platform would give out.
"""

import argparse
import ast
import copy
import csv
import io
import json
import os
import random
import re
import zipfile
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from .course import assignment, notebook
from .typical_answers import RIGHT, UNUSUAL, WRONG

NUMBER = 2
KINDS = {  # kind of submission → how many of 100
    "solution": 8,
    "right": 24,
    "mixed": 28,
    "half done": 10,
    "windows": 3,
    "byte order mark": 1,
    "utf-16": 1,
    "python 2": 2,
    "reordered": 3,
    "doubled": 2,
    "merged": 2,
    "raw": 1,
    "extra cells": 4,
    "renamed": 2,
    "copied": 0.8,
    "untouched": 1,
    "broken": 1,
    "empty": 1,
    "other notebook": 1,
    "zipped": 1,
    "zip in zip": 1,
    "bomb": 0.4,
    "traversal": 0.4,
    "loop": 0.6,
    "exit": 0.6,
    "no notebook": 0.4,
    "missing": 1,
}
LAYOUTS = ("folder", "zip", "moodle", "canvas", "blackboard")
DEADLINE = datetime(2026, 11, 20, 23, 59)
IN_TIME, TOO_LATE = datetime(2026, 11, 20, 12, 0), datetime(2026, 11, 21, 9, 30)
LATE = 0.04  # share of the class
NAMES = [
    "Ada Lovelace",
    "عمر الخيام",
    "王小明",
    "=cmd('calc')",
    'Conor "Con" O\'Brien, Jr.',
    "Søren Ångström",
    "Ada Lovelace",
    "<b>Bobby</b>",
    "Ngũgĩ wa Thiong'o",
    "Emmy Noether",
    "+41 Zürich",
    "@Grace Hopper",
    "-Mary Jackson",
    "Иван Петров",
]


def body(name: str, text: str, stub: str) -> str:
    """The stub with another body in place of `raise NotImplementedError`."""
    indent = re.search(r"(?m)^([ \t]*)raise NotImplementedError", stub)
    if indent is None:
        raise ValueError(f"The stub of {name} does not raise NotImplementedError.")
    return stub.replace(indent[0], "\n".join(f"{indent[1]}{line}" for line in text.split("\n")))


def find_cell(nb: dict[str, Any], grade_id: str) -> dict[str, Any]:
    """The cell with this id of nbgrader's."""
    return next(cell for cell in nb["cells"] if cell["metadata"].get("nbgrader", {}).get("grade_id") == grade_id)


def disguise(source: str) -> str:
    """A function as somebody hands it in who copied it: other names, other layout, a comment."""
    tree = ast.parse(source)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in names:
            node.id = f"my_{node.id[::-1]}"
    lines = ast.unparse(tree).split("\n")
    return "\n".join([*lines[:-1], "    # I worked this out myself", *lines[-1:]])


def _code(source: str) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": 1, "source": source}


def submission(
    kind: str, number: int, rng: random.Random, student: dict[str, Any], solved: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """A notebook of this kind, and what each exercise deserves ("right", "wrong", "not attempted", "not found", …)."""
    names = assignment(number).exercises
    nb, expected = copy.deepcopy(student), dict.fromkeys(names, "right")
    for name in names:
        cell = find_cell(nb, name)
        stub = cell["source"]
        mistake = (kind == "mixed" and rng.random() < 0.35) or (kind == "half done" and rng.random() < 0.1)
        if kind == "untouched" or (kind == "half done" and rng.random() < 0.55):
            expected[name] = "not attempted"
        elif mistake:
            cell["source"], expected[name] = body(name, rng.choice(WRONG[name]), stub), "wrong"
        elif kind == "solution":
            cell["source"] = find_cell(solved, name)["source"]
        elif kind == "copied" and name in UNUSUAL:
            cell["source"] = body(name, UNUSUAL[name], stub)
        else:  # bodies that need no other exercise, so that one mistake is one mistake
            cell["source"] = body(name, rng.choice(RIGHT[name]), stub)
    some = rng.choice(names)
    stub = find_cell(student, some)["source"]
    if kind == "python 2":
        broken = rng.choice([name for name in names if name != some])
        find_cell(nb, some)["source"] += '\nprint "it works"'
        find_cell(nb, broken)["source"] = body(broken, 'print "hello"\nreturn 1', find_cell(student, broken)["source"])
        expected[broken] = "error"
    elif kind == "reordered":
        rng.shuffle(nb["cells"])
        nb["cells"] = [
            cell
            for cell in nb["cells"]
            if rng.random() < 0.9 or cell["metadata"].get("nbgrader", {}).get("solution") or "import" in cell["source"]
        ]
    elif kind == "doubled":
        nb["cells"] += copy.deepcopy([find_cell(nb, some), find_cell(student, rng.choice(names))])
    elif kind == "merged":
        imports = "import keras\nimport tensorflow as tf\n" if number != 2 else ""
        nb["cells"] = [_code(f"import numpy as np\n{imports}" + "\n".join(find_cell(nb, name)["source"] for name in names))]
    elif kind == "raw":
        find_cell(nb, some)["cell_type"] = "raw"
    elif kind == "extra cells":
        find_cell(nb, some)["source"] = (
            f"%%time\n{find_cell(nb, some)['source']}\n%matplotlib inline\n!pip install numpy\nplt.plot(undefined)"
        )
        nb["cells"].insert(3, _code("%%bash\nrm -rf ~\n"))
        nb["cells"] += [
            _code("model.fit(everything, epochs=10**9)\nplt.show()"),
            _code("while True:\n    pass"),
            _code(f"print({some})"),
        ]
    elif kind == "renamed":
        cell = find_cell(nb, some)
        cell["source"], expected[some] = cell["source"].replace(f"def {some}(", f"def my_{some}("), "not found"
    elif kind == "loop":
        find_cell(nb, some)["source"], expected[some] = body(some, "while True:\n    pass", stub), "timeout"
    elif kind == "exit":
        find_cell(nb, some)["source"], expected[some] = body(some, "import os\nos._exit(0)", stub), "error"
    return nb, expected


def handed_in(
    kind: str, nb: dict[str, Any], other: dict[str, Any], deserved: dict[str, str]
) -> tuple[str, bytes, str, dict[str, str]]:
    """What the file of this kind is: its ending, its bytes, the status and the outcomes that it deserves."""
    nothing = dict.fromkeys(deserved, "not found")
    text = json.dumps(nb, indent=1, ensure_ascii=kind != "utf-16")
    if kind == "windows":
        for cell in nb["cells"]:
            cell["source"] = cell["source"].replace("\n", "\r\n")
        text = json.dumps(nb, indent=1).replace("\n", "\r\n")
    data = text.encode({"byte order mark": "utf-8-sig", "utf-16": "utf-16"}.get(kind, "utf-8"))
    match kind:
        case "broken":
            return ".ipynb", data[: len(data) // 2], "unreadable", nothing
        case "empty":
            return ".ipynb", b"", "unreadable", nothing
        case "other notebook":
            return ".ipynb", json.dumps(other).encode(), "wrong notebook", nothing
        case "no notebook":
            return ".zip", _zip({"essay.docx": b"Dear professor"}), "unreadable", nothing
        case "bomb":
            return ".zip", _bomb(), "unreadable", nothing
        case "traversal":
            return ".zip", _zip({"../../../../tmp/escaped.ipynb": data}), "graded", deserved
        case "zipped":
            return ".zip", _zip({"work/02.ipynb": data}), "graded", deserved
        case "zip in zip":
            return ".zip", _zip({"inner.zip": _zip({"work/02.ipynb": data}), "__MACOSX/._x.ipynb": b"x"}), "graded", deserved
    return ".ipynb", data, "graded", deserved


def _zip(files: dict[str, bytes], times: dict[str, datetime] | None = None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            when = (times or {}).get(name, IN_TIME)
            archive.writestr(zipfile.ZipInfo(name, when.timetuple()[:6]), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


@cache
def _bomb() -> bytes:
    """A small zip that unpacks to 300 MiB."""
    return _zip({"bomb.ipynb": b"0" * (300 << 20)})


def _place(layout: str, place: int, student: str, name: str, ending: str, late: bool) -> tuple[str, str]:
    """The student's id on this platform, and the name that the platform gives to the file."""
    time = (TOO_LATE if late else IN_TIME).strftime("%Y-%m-%d-%H-%M-%S")
    if layout == "moodle":
        plain = re.sub(r'[/\\:*?"<>|]', "", name)
        return str(40000 + place), f"{plain}_{40000 + place}_assignsubmission_file_/homework{ending}"
    if layout == "canvas":
        plain = "".join(c for c in name.lower() if c.isalnum())
        return str(7000 + place), f"{plain}_{'LATE_' if late else ''}{7000 + place}_{910000 + place}_homework{ending}"
    if layout == "blackboard":
        return student, f"Homework 2_{student}_attempt_{time}_homework{ending}"
    return student, f"{student}{ending}"


def _kinds_of(students: int, kinds: dict[str, float], rng: random.Random) -> list[str]:
    """One kind for each student, as the shares say; each kind at least once while there is room, "copied" at least twice."""
    counts = {
        kind: max(2 if kind == "copied" else 1, round(share * students / sum(kinds.values()))) for kind, share in kinds.items()
    }
    while sum(counts.values()) != students:  # what is too many or too few falls on the most frequent kind
        counts[max(counts, key=counts.get)] += 1 if sum(counts.values()) < students else -1
    every = [kind for kind, count in counts.items() for _ in range(count)]
    rng.shuffle(every)
    return every


def make_class(
    folder: Path,
    students: int = 500,
    seed: int = 1,
    kinds: dict[str, float] | None = None,
    number: int = NUMBER,
    layout: str = "folder",
) -> dict[str, dict[str, Any]]:
    """Write a class into `folder`.

    Parameters
    ----------
    folder : Path
    students : int
    seed : int
        The same seed makes the same class.
    kinds : dict of str to float, optional
        Kind of submission → how frequent it is, relative to the others.
    number : {1, 2, 3}
        The notebook that was asked for.
    layout : {"folder", "zip", "moodle", "canvas", "blackboard"}
        A folder of files, or `class.zip` as a platform names its members.

    Returns
    -------
    dict
        Student → {"kind", "name", "status", "exercises", "late"}: what is deserved. Also in `expected.json`.
    """
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    student_nb, solved, other = notebook(number), notebook(number, solved=True), notebook(1 if number == 2 else 2)
    for cell in solved["cells"]:
        cell["source"] = "\n".join(
            line for line in cell["source"].split("\n") if not line.strip().startswith(("### BEGIN", "### END"))
        )
    expected: dict[str, dict[str, Any]] = {}
    files: dict[str, bytes] = {}
    times: dict[str, datetime] = {}
    for place, kind in enumerate(_kinds_of(students, kinds or KINDS, rng)):
        name = NAMES[place] if place < len(NAMES) else f"Student Number{place:03d}"
        nb, deserved = submission(kind, number, rng, student_nb, solved)
        if kind == "copied" and any(one["kind"] == "copied" for one in expected.values()):  # the first one wrote it
            for cell in (find_cell(nb, exercise) for exercise in deserved if exercise in UNUSUAL):
                cell["source"] = disguise(cell["source"])
        ending, data, status, deserved = handed_in(kind, nb, other, deserved)
        late = kind != "missing" and rng.random() < LATE
        student, where = _place(layout, place, f"student{place:03d}", name, ending, late)
        if kind == "missing":
            status, deserved = "missing", dict.fromkeys(deserved, "not found")
        else:
            files[where], times[where] = data, TOO_LATE if late else IN_TIME
        expected[student] = {"kind": kind, "name": name, "status": status, "exercises": deserved, "late": late}
    if layout == "folder":
        for where, data in files.items():
            (folder / where).write_bytes(data)
            os.utime(folder / where, (times[where].timestamp(), times[where].timestamp()))
    else:
        (folder / "class.zip").write_bytes(_zip(files, times))
    (folder / "expected.json").write_text(json.dumps(expected, indent=1), encoding="utf-8")
    with (folder / "roster.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "name"), *((student, one["name"]) for student, one in expected.items())])
    return expected


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m grading.synthetic_class", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--students", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--notebook", type=int, choices=(1, 2, 3), default=NUMBER)
    parser.add_argument("--layout", choices=LAYOUTS, default="folder", help="how the submissions come")
    options = parser.parse_args()
    expected = make_class(options.folder, options.students, options.seed, number=options.notebook, layout=options.layout)
    where = options.folder if options.layout == "folder" else options.folder / "class.zip"
    print(
        f"{len(expected)} students, {sum(one['status'] != 'missing' for one in expected.values())} submissions: {where}\n"
        f"class list: {options.folder / 'roster.csv'}; deadline: {DEADLINE.isoformat(timespec='minutes')}\n"
        f"what everyone deserves: {options.folder / 'expected.json'}"
    )


if __name__ == "__main__":
    main()
