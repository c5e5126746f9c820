"""What the tests over lessons and notebooks share: the exercises of the course, and how to run a lesson's own code."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from tools.lesson import ROOT, lesson_paths

LESSONS = lesson_paths()
NAMES = ["01_chest_xray_classification", "02_diagnostic_model_evaluation", "03_brain_tumor_segmentation"]
EXERCISES = {
    "01": ["check_for_leakage", "repair_leakage", "compute_class_freqs", "get_weighted_loss", "grad_cam"],
    "02": [
        *["true_positives", "true_negatives", "false_positives", "false_negatives"],
        *["get_accuracy", "get_prevalence", "get_sensitivity", "get_specificity", "get_ppv", "get_npv"],
        *["bootstrap_patients", "positives_needed", "expected_calibration_error", "net_benefit"],
    ],
    "03": [
        *["get_sub_volume", "standardize", "up_step"],
        *["single_class_dice_coefficient", "dice_coefficient", "soft_dice_loss"],
        *["compute_class_sens_spec", "get_regions", "lesion_recall"],
    ],
}


def solved(lesson: Path) -> NotebookNode:
    """The committed solved notebook of a lesson."""
    return nbformat.read(ROOT / f"{lesson.stem}.ipynb", as_version=4)


def student(lesson: Path) -> NotebookNode:
    """The committed student notebook of a lesson."""
    return nbformat.read(ROOT / "student" / f"{lesson.stem}.ipynb", as_version=4)


def python_of(source: str) -> ast.Module:
    """Syntax tree of a cell, with IPython's ! and % translated."""
    return ast.parse(TransformerManager().transform_cell(source))


def imports_of(nb: NotebookNode) -> ast.Module:
    """All import statements at the top level of the code cells, as one module."""
    return ast.Module(
        [
            node
            for cell in nb.cells
            if cell.cell_type == "code"
            for node in python_of(cell.source).body
            if isinstance(node, (ast.Import, ast.ImportFrom))
        ],
        [],
    )


def run_exercises(nb: NotebookNode) -> dict[str, Any]:
    """Execute the imports and the exercise cells of a built notebook, nothing else; return the names they define."""
    namespace: dict[str, Any] = {"__name__": "lesson"}
    exec(compile(imports_of(nb), "imports", "exec"), namespace)
    for cell in nb.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            exec(compile(cell.source, cell.metadata.nbgrader.grade_id, "exec"), namespace)
    return namespace


def strings_of(value: Any) -> Iterator[str]:
    """All strings in nested lists and dictionaries, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings_of(item)


def texts_of_outputs(nb: NotebookNode) -> Iterator[tuple[int, str]]:
    """Cell index and text of every output that is not a picture."""
    for index, cell in enumerate(nb.cells):
        for output in cell.get("outputs", []):
            data = {mime: value for mime, value in output.get("data", {}).items() if not mime.startswith("image/")}
            yield index, "\n".join([output.get("text", ""), *output.get("traceback", []), json.dumps(data)])
