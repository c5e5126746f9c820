"""Makes a class that hands in notebook 02: `python -m grading.synthetic_class FOLDER --students 500`.

Right and wrong in many ways, half done, renamed, re-ordered, with Windows line ends, in Python 2, as zips inside of zips,
broken, empty, hostile. Beside the submissions, `expected.json` says what each one deserves.
"""

import argparse
import copy
import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

from .course import assignment, notebook

NUMBER = 2
RIGHT = {  # exercise → other ways to write it
    "true_positives": ["return ((pred >= th) & (y == 1)).sum()", "n = 0\nfor a, b in zip(y, pred):\n    if a == 1 and b >= th:\n        n += 1\nreturn n"],
    "true_negatives": ["return np.sum((pred < th) * (y == 0))", "return len([1 for a, b in zip(y, pred) if a == 0 and not b >= th])"],
    "false_positives": ["said = pred >= th\nreturn np.count_nonzero(said & (y == 0))"],
    "false_negatives": ["return np.logical_and(pred < th, y == 1).sum()"],
    "get_accuracy": ["return np.mean((pred >= th) == y)", "right = 0\nfor a, b in zip(y, pred):\n    right += int((b >= th) == (a == 1))\nreturn right / len(y) if len(y) else np.nan"],
    "get_prevalence": ["return np.mean(y)", "return y.sum() / y.size if y.size else np.nan"],
    "get_sensitivity": ["sick = pred[y == 1]\nreturn np.mean(sick >= th) if sick.size else np.nan"],
    "get_specificity": ["healthy = pred[y == 0]\nreturn np.mean(healthy < th) if healthy.size else float('nan')"],
    "get_ppv": ["called = y[pred >= th]\nreturn called.mean() if len(called) else np.nan"],
    "get_npv": ["called = y[pred < th]\nreturn 1 - called.mean() if len(called) else np.nan"],
    "bootstrap_patients": ["ids = np.unique(patient_ids)\ndrawn = rng.choice(ids, len(ids))\nreturn np.concatenate([np.where(patient_ids == i)[0] for i in drawn])"],
    "expected_calibration_error": ["which = np.clip(np.digitize(pred, np.linspace(0, 1, n_bins + 1)) - 1, 0, n_bins - 1)\ntotal = 0\nfor k in set(which.tolist()):\n"
                                   "    m = which == k\n    total += m.sum() / len(y) * abs(np.mean(y[m]) - np.mean(pred[m]))\nreturn total"],
}  # fmt: skip
WRONG = {  # exercise → typical mistakes
    "true_positives": ["return np.sum((pred > th) & (y == 1))", "return np.sum((pred >= 0.5) & (y == 1))", "return np.sum(y == 1)"],
    "true_negatives": ["return np.sum((pred <= th) & (y == 0))", "return np.sum((pred >= th) & (y == 0))"],
    "false_positives": ["return np.sum((pred < th) & (y == 1))", "return np.sum((pred > th) & (y == 0))"],
    "false_negatives": ["return np.sum((pred >= th) & (y == 0))", "return np.sum(pred < th)"],
    "get_accuracy": ["return np.mean((pred > th) == y)", "return np.sum((pred >= th) == y)", "return np.mean(pred == y)"],
    "get_prevalence": ["return np.sum(y)", "return np.mean(y == 0)", "return round(np.mean(y), 1)"],
    "get_sensitivity": ["return np.sum((pred >= th) & (y == 1)) / np.sum(pred >= th)", "return np.sum((pred >= th) & (y == 1)) / max(np.sum(y == 1), 1)"],
    "get_specificity": ["return np.sum((pred < th) & (y == 0)) / np.sum(pred < th)", "return int(np.sum((pred < th) & (y == 0))) / int(np.sum(y == 0))"],
    "get_ppv": ["return np.sum((pred >= th) & (y == 1)) / np.sum(y == 1)", "return np.mean(y[pred > 0.5])"],
    "get_npv": ["return np.sum((pred < th) & (y == 0)) / np.sum(y == 0)", "return 0.5"],
    "bootstrap_patients": ["return rng.integers(0, len(patient_ids), len(patient_ids))", "ids = np.unique(patient_ids)\ndrawn = rng.choice(ids, len(ids))\nreturn np.flatnonzero(np.isin(patient_ids, drawn))"],
    "expected_calibration_error": ["return np.abs(y - pred).mean()", "return abs(y.mean() - pred.mean())"],
}  # fmt: skip
KINDS = {  # kind of submission → how many of 100
    "solution": 12, "right": 24, "mixed": 26, "half done": 10, "windows": 3, "python 2": 2, "reordered": 3, "doubled": 3, "merged": 2, "raw": 1,
    "magics": 3, "renamed": 2, "copied": 2, "untouched": 1, "broken": 1, "empty": 1, "other notebook": 1, "zipped": 1, "zip in zip": 1, "bomb": 0.4,
    "traversal": 0.4, "loop": 0.6, "exit": 0.6,
}  # fmt: skip


def body(name: str, text: str, stub: str) -> str:
    """The stub with another body in place of `raise NotImplementedError`."""
    return stub.replace("raise NotImplementedError", text.replace("\n", "\n    "))


def find_cell(nb: dict[str, Any], grade_id: str) -> dict[str, Any]:
    return next(cell for cell in nb["cells"] if cell["metadata"].get("nbgrader", {}).get("grade_id") == grade_id)


def submission(kind: str, rng: random.Random, student: dict[str, Any], solved: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """A notebook of this kind, and what each exercise deserves ("right", "wrong", "not attempted", "not found", …)."""
    names = assignment(NUMBER).exercises
    nb, expected = copy.deepcopy(student), dict.fromkeys(names, "right")
    for name in names:
        cell = find_cell(nb, name)
        stub, solution = cell["source"], find_cell(solved, name)["source"]
        mistake = kind == "mixed" and rng.random() < 0.35 or kind == "half done" and rng.random() < 0.1
        if kind == "untouched" or (kind == "half done" and rng.random() < 0.55):
            expected[name] = "not attempted"
        elif mistake:
            cell["source"], expected[name] = body(name, rng.choice(WRONG[name]), stub), "wrong"
        elif kind in ("solution", "other notebook", "copied"):
            cell["source"] = solution
        else:  # bodies that need no other exercise, so that one mistake is one mistake
            cell["source"] = body(name, rng.choice(RIGHT[name]), stub)
    some = rng.choice(names)
    if kind == "python 2":
        find_cell(nb, some)["source"] += '\nprint "it works"'
        broken = rng.choice([name for name in names if name != some])
        find_cell(nb, broken)["source"] = find_cell(student, broken)["source"].replace("raise NotImplementedError", 'print "hello"\n    return 1')
        expected[broken] = "error"
    elif kind == "reordered":
        rng.shuffle(nb["cells"])
        nb["cells"] = [cell for cell in nb["cells"] if rng.random() < 0.9 or cell["metadata"].get("nbgrader", {}).get("solution")]
    elif kind == "doubled":
        nb["cells"] += copy.deepcopy([find_cell(nb, some), find_cell(student, rng.choice(names))])
    elif kind == "merged":
        sources = [find_cell(nb, name)["source"] for name in names]
        nb["cells"] = [{"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": 1, "source": "import numpy as np\n" + "\n".join(sources)}]
    elif kind == "raw":
        find_cell(nb, some)["cell_type"] = "raw"
    elif kind == "magics":
        find_cell(nb, some)["source"] = "%%time\n" + find_cell(nb, some)["source"] + "\n%matplotlib inline\n!pip install numpy\nplt.plot(y)"
        nb["cells"].insert(3, {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": 1, "source": "%%bash\nrm -rf ~\n"})
    elif kind == "renamed":
        cell = find_cell(nb, some)
        cell["source"], expected[some] = cell["source"].replace(f"def {some}(", f"def my_{some}("), "not found"
    elif kind == "loop":
        find_cell(nb, some)["source"], expected[some] = body(some, "while True:\n    pass", find_cell(student, some)["source"]), "timeout"
    elif kind == "exit":
        find_cell(nb, some)["source"], expected[some] = body(some, "import os\nos._exit(0)", find_cell(student, some)["source"]), "error"
    return nb, expected


def make_class(folder: Path, students: int = 500, seed: int = 1, kinds: dict[str, float] | None = None) -> dict[str, dict[str, Any]]:
    """Write a class into `folder`; returns (and writes) what is expected of each student: {"kind", "exercises", "status"}."""
    rng, kinds = random.Random(seed), kinds or KINDS
    folder.mkdir(parents=True, exist_ok=True)
    student_nb, solved = notebook(NUMBER), notebook(NUMBER, solved=True)
    for cell in solved["cells"]:
        cell["source"] = "\n".join(line for line in cell["source"].split("\n") if not line.strip().startswith(("### BEGIN", "### END")))
    every = [kind for kind, share in kinds.items() for _ in range(max(1, round(share * students / sum(kinds.values()))))]
    while len(every) < students:
        every.append("mixed")
    every = sorted(every, key=lambda kind: kinds[kind])[-students:] if len(every) > students else every
    rng.shuffle(every)
    expected: dict[str, dict[str, Any]] = {}
    copied = submission("right", random.Random(99), student_nb, solved)
    strange = "weight = 3 * np.arange(7)[::-1]\n    base = float(weight[2] - 12) * weight.max()\n    "  # what two copies share and nobody else has
    for name in ("true_positives", "false_positives", "get_accuracy", "get_prevalence"):
        cell = find_cell(copied[0], name)
        at = cell["source"].rindex('"""') + 3  # after the docstring
        cell["source"] = cell["source"][:at] + "\n    " + strange.rstrip() + cell["source"][at:]
    for number, kind in enumerate(every):
        name = f"student{number:03d}"
        nb, deserved = submission(kind, rng, student_nb, solved) if kind != "copied" else copy.deepcopy(copied)
        status = "graded"
        text = json.dumps(nb, indent=1)
        if kind == "windows":
            nb = json.loads(text)
            for cell in nb["cells"]:
                cell["source"] = cell["source"].replace("\n", "\r\n")
            text = json.dumps(nb, indent=1).replace("\n", "\r\n")
        data = text.encode()
        none = dict.fromkeys(deserved, "not found")
        path = folder / f"{name}.ipynb"
        if kind == "broken":
            data, deserved, status = data[: len(data) // 2], none, "unreadable"
        elif kind == "empty":
            data, deserved, status = b"", none, "unreadable"
        elif kind == "other notebook":
            data, deserved, status = json.dumps(notebook(1)).encode(), none, "wrong notebook"
        elif kind in ("zipped", "zip in zip", "traversal", "bomb"):
            path = folder / f"{name}.zip"
            if kind == "bomb":
                data, deserved, status = _zip({"bomb.ipynb": b"0" * (300 << 20)}), none, "unreadable"
            else:
                data = _zip({"../../../../tmp/escaped.ipynb" if kind == "traversal" else "work/02.ipynb": data})
            if kind == "zip in zip":
                data = _zip({"inner.zip": data, "__MACOSX/._x.ipynb": b"x"})
        path.write_bytes(data)
        expected[name] = {"kind": kind, "status": status, "exercises": deserved}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1))
    return expected


def _zip(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m grading.synthetic_class", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--students", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    expected = make_class(options.folder, options.students, options.seed)
    print(f"{len(expected)} submissions in {options.folder}")


if __name__ == "__main__":
    main()
