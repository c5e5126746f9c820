"""The repository as a whole: layout, direction of imports, no legacy API, no scans, not too large."""

import ast
import hashlib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import jupytext
import pytest
from course import NAMES, python_of

from tools.lesson import REPOSITORY, ROOT, lesson_paths

OURS = {
    "util",
    "brain_charts",
    "brain_figures",
    "chest_figures",
    "heat_maps",
    "sliders",
    "public_tests",
    "data",
    "models",
    "grading",
    "tools",
    "lessons",
    "tests",
    "benchmarks",
}
MAY_IMPORT = {
    "util": {"brain_charts", "brain_figures", "chest_figures", "heat_maps", "sliders", "data", "models.metrics"},
    "brain_charts": {"data"},
    "brain_figures": {"data", "sliders"},
    "chest_figures": {"data", "models.metrics"},
    "heat_maps": {"models.metrics"},
    "sliders": set(),
    "public_tests": set(),
    "data": {"data", "models.ENGINE"},
    "models": {"models", "data"},
    "lessons": {"util", "public_tests", "data", "models"},
    "grading": {"grading", "public_tests", "tools.lesson", "models.ENGINE"},
    "tools": {"tools"},
    "benchmarks": {"benchmarks", "models", "data"},
}
LEGACY = re.compile(
    r"^(tf|tensorflow)\.keras\b|^tensorflow\.python\b|^(tf|tensorflow)\.(compat\.v1|Session|placeholder|contrib)\b"
    r"|^keras\.(backend|preprocessing|engine|objectives|contrib|layers\.merge)\b|^keras_contrib\b|^K\.\w+"
    r"|\.(fit_generator|predict_generator|evaluate_generator|get_session|learning_phase)$|\bImageDataGenerator$"
    r"|^(np|numpy)\.random\.(seed|rand|randn|randint|choice|shuffle|permutation|uniform|normal)$"
)
IMPORT_TO_PACKAGE = {
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "IPython": "ipykernel",
    "matplotlib_inline": "ipykernel",
    "yaml": "pyyaml",
    "tensorflow": "tensorflow-cpu",
    "xdist": "pytest-xdist",
}
USED_WITHOUT_IMPORT = {"jupyterlab", "ipykernel", "jinja2", "h5py", "tensorflow", "tensorflow-cpu", "keras"}
SCANS = (".nii", ".nii.gz", ".dcm", ".mha", ".mhd", ".nrrd", ".npy", ".npz", ".tif", ".tiff", ".zip", ".tar", ".gz", ".pkl")


@cache
def tracked() -> list[Path]:
    """Files that git tracks, as absolute paths; the tests that need them are skipped outside a clone."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git clone")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


@cache
def sources() -> dict[Path, ast.Module]:
    """Syntax trees of all our Python files; of a lesson, its code cells."""
    folders = [ROOT / name for name in OURS if (ROOT / name).is_dir()]
    files = [*ROOT.glob("*.py"), *(file for folder in folders for file in folder.rglob("*.py"))]
    trees = {}
    for file in sorted(files):
        if ROOT / "data" / "cache" in file.parents:
            continue
        if file.parent.name == "lessons":
            cells = jupytext.reads(file.read_text(encoding="utf-8"), fmt="py:percent").cells
            body = [node for cell in cells if cell.cell_type == "code" for node in python_of(cell.source).body]
            trees[file] = ast.Module(body, [])
        else:
            trees[file] = ast.parse(file.read_text(encoding="utf-8"))
    return trees


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an attribute chain, as far as it has names."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def imported(file: Path, tree: ast.Module) -> set[str]:
    """Full names of all modules that a file imports; relative ones resolved."""
    package = file.relative_to(ROOT).parts[:-1]
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], node.module or ""]) if node.level else node.module
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def layer(file: Path) -> str:
    """The part of the course a file belongs to."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def requirements(name: str) -> dict[str, str]:
    """Package → whole line of a requirements file."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line.strip() and line[0] not in "#-"]
    return {re.match(r"[\w.\-]+", line)[0].lower(): line for line in lines}


def test_layout():
    expected = ["README.md", "requirements.txt", "requirements-dev.txt", "Makefile", "LICENSE", "util.py", "public_tests.py"]
    expected += [
        f"{folder}{name}{end}" for name in NAMES for folder, end in [("", ".ipynb"), ("student/", ".ipynb"), ("lessons/", ".py")]
    ]
    expected += ["data", "models", "grading", "tests", "tools", ".ci/run"]
    assert not [name for name in expected if not (ROOT / name).exists()]
    assert [path.stem for path in lesson_paths()] == NAMES


def test_imports_go_one_way():
    wrong = []
    for file, tree in sources().items():
        allowed = MAY_IMPORT.get(layer(file), OURS)
        wrong += [
            f"{file.relative_to(ROOT)} imports {name}"
            for name in imported(file, tree)
            if name.split(".")[0] in OURS and not any(f"{name}.".startswith(f"{part}.") for part in allowed)
        ]
    assert not wrong


def test_no_legacy_api():
    """The bank of answers is left out: some wrong answers in it draw from the global generator on purpose."""
    wrong = []
    for file, tree in sources().items():
        if file.parent == ROOT / "tests" / "answers":
            continue
        names = imported(file, tree) | {dotted(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        wrong += [f"{file.relative_to(ROOT)}: {name}" for name in names if LEGACY.search(name)]
    assert not wrong


@pytest.mark.parametrize("name", ["tf.keras.Model", "keras.backend.mean", "K.sum", "model.fit_generator", "np.random.seed"])
def test_the_test_above_knows_legacy_names(name):
    assert LEGACY.search(name)


@pytest.mark.parametrize(
    "name", ["keras.ops.mean", "tf.GradientTape", "np.random.default_rng", "keras.config.backend", "tf.data.Dataset"]
)
def test_the_test_above_lets_current_names_pass(name):
    assert not LEGACY.search(name)


def test_no_scans_and_no_archives_are_committed():
    names = [file.relative_to(ROOT).as_posix() for file in tracked()]
    assert not [name for name in names if name.lower().endswith(SCANS)]
    assert not [name for name in names if name.endswith((".h5", ".keras")) and not name.startswith("models/")]
    pictures = [name for name in names if name.startswith("data/") and name.lower().endswith((".png", ".jpg", ".jpeg"))]
    assert not [name for name in pictures if name.count("/") > 1], "only the data card's own pictures, beside it"


def test_nothing_generated_is_committed():
    names = [file.relative_to(ROOT).as_posix() for file in tracked()]
    assert not [name for name in names if re.search(r"^build/|^data/cache/|__pycache__|\.venv/|\.ipynb_checkpoints", name)]


@pytest.mark.parametrize("what, most", [(["-1"], 30e6), ([], 120e6)], ids=["depth 1", "whole history"])
def test_a_clone_is_small(what, most):
    command = ["git", "rev-list", "--objects", "--disk-usage", *what, "HEAD"]
    used = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if used.returncode:
        pytest.skip("not a git clone")
    assert int(used.stdout) < most


def test_only_continuous_integration_knows_where_its_data_are():
    neighbour = "/".join(["..", "shared"])
    text = [file for file in tracked() if file.suffix in {".py", ".md", ".ipynb", ".txt", ".yml", ".json", ".ini", ""}]
    found = [file.relative_to(ROOT).as_posix() for file in text if neighbour in file.read_text("utf-8", "replace")]
    assert found == [".ci/run"]


def test_the_address_of_the_repository_is_written_once():
    """Moving the course to another account takes one line; `make notebooks` writes the rest."""
    generated = {"README.md", "CITATION.cff", *(file.relative_to(ROOT).as_posix() for file in tracked() if file.suffix == ".ipynb")}
    text = [file for file in tracked() if file.suffix not in {".png", ".h5", ".csv"}]
    named = [file.relative_to(ROOT).as_posix() for file in text if REPOSITORY in file.read_text("utf-8", "replace")]
    assert [name for name in named if name not in generated] == ["tools/lesson.py"]


def test_weights_are_those_of_the_checksums():
    lines = (ROOT / "models" / "checksums.txt").read_text().split("\n")
    listed = {name: digest for digest, name in (line.split() for line in lines if line.strip() and line[0] != "#")}
    assert {path.name for path in (ROOT / "models").glob("*.h5")} == set(listed)
    for name, digest in listed.items():
        assert hashlib.sha256((ROOT / "models" / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "benchmarks/requirements.txt"])
def test_every_requirement_is_pinned_and_explained(name):
    for line in requirements(name).values():
        assert re.match(r"[\w.\-]+==\d+\.\d+\.\*(;[^#]+)?\s+# \w", line), line


def test_what_is_imported_is_required_and_the_reverse():
    student = set(requirements("requirements.txt"))
    both = student | set(requirements("requirements-dev.txt"))
    used = set()
    for file, tree in sources().items():
        top = {name.split(".")[0] for name in imported(file, tree)} - OURS - set(sys.stdlib_module_names)
        packages = {IMPORT_TO_PACKAGE.get(name, name).lower() for name in top}
        required = both if layer(file) in {"tools", "tests", "grading"} else student
        required = both | set(requirements("benchmarks/requirements.txt")) if layer(file) == "benchmarks" else required
        local = {path.stem for path in (ROOT / "tests").rglob("*")} if layer(file) == "tests" else set()
        if (
            file.parent == ROOT / "grading" / "inside"
        ):  # started in the sandbox as a script, with nothing of the course but its neighbours
            local = {path.stem for path in file.parent.glob("*.py")} | {"inside"}
        optional = {"google", "jax", "pydicom"}  # Colab's own module; another backend for training; DICOM for who has it
        assert packages - local - optional <= required, f"{file.relative_to(ROOT)}: {packages - local - optional - required}"
        if layer(file) not in {"tools", "tests", "grading", "benchmarks"}:
            used |= packages
    assert student - used <= USED_WITHOUT_IMPORT, f"required but not used: {student - used - USED_WITHOUT_IMPORT}"


def test_continuous_integration_calls_make_test():
    lines = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[-1] == "exec make test"
    assert subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=False).returncode == 0


@pytest.mark.parametrize("name, most", [("README.md", 800), ("data/README.md", 900)])
def test_cards_fit_a_screen(name, most):
    assert len((ROOT / name).read_text(encoding="utf-8").split()) <= most


def test_links_between_pages_lead_somewhere():
    """Files and headings that our Markdown pages name in their own repository."""
    pages = [file for file in tracked() if file.suffix == ".md"]
    anchors = {
        page: {re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in page.read_text("utf-8").split("\n")}
        for page in pages
    }
    broken = []
    for page in pages:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if "://" not in link and (not target.exists() or (anchor and anchor not in anchors.get(target, ()))):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken


def test_the_licence_names_both():
    text = (ROOT / "LICENSE").read_text()
    assert "MIT License" in text and "CC BY 4.0" in text
