"""What a graded answer finds of the course: the modules of every student's copy, without what answers an exercise.

A function of the course that does what an exercise asks stays importable and raises: who calls it in place of writing one
is told so.
"""

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("util.py", "brain_charts.py", "brain_figures.py", "chest_figures.py", "heat_maps.py", "sliders.py")
PACKAGES = ("data", "models")
DATA = ("data/predictions/*", "models/*.weights.h5", "models/*/*.txt", "models/*/*.json")
ANSWERS = {  # file → function → the exercise that it answers, or nearly
    "data/decathlon.py": {"standardize_scan": "standardize"},
    "models/metrics.py": {"binned_calibration_error": "expected_calibration_error", "resample_patients": "bootstrap_patients"},
    "models/brain/evaluate.py": {"score": "single_class_dice_coefficient"},
    "models/brain/network.py": {"_dice": "soft_dice_loss"},
    "models/chest/predict.py": {"heat_map": "grad_cam"},
    "models/chest/prediction_tables.py": {"weighted_loss": "get_weighted_loss"},
}


def withheld(source: str, answers: dict[str, str]) -> str:
    """A module in which these functions raise. `answers`: function → the exercise that it answers."""
    lines = source.split("\n")
    for node in reversed(ast.parse(source).body):
        if isinstance(node, ast.FunctionDef) and (exercise := answers.get(node.name)):
            text = f"{node.name} of the course answers the exercise {exercise}: write your own"
            lines[node.body[0].lineno - 1 : node.end_lineno] = [f"    raise RuntimeError({text!r})"]
    return "\n".join(lines)


def _sources(folder: Path) -> Iterator[Path]:
    """The modules of a package. What else lies in its folder, downloaded images say, is not looked at."""
    for path in folder.iterdir():
        if path.suffix == ".py":
            yield path
        elif (path / "__init__.py").exists():
            yield from _sources(path)


def copy_course(folder: Path, root: Path = ROOT) -> None:
    """Write the course into a folder as a graded answer finds it."""
    files = [*(root / name for name in MODULES), *(file for name in PACKAGES for file in _sources(root / name))]
    for file in [*files, *(file for pattern in DATA for file in root.glob(pattern))]:
        name = file.relative_to(root).as_posix()
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name in ANSWERS:
            target.write_text(withheld(file.read_text(encoding="utf-8"), ANSWERS[name]), encoding="utf-8")
        else:
            shutil.copyfile(file, target)
