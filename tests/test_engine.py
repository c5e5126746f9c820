"""The engine's settings are made before TensorFlow is imported, wherever we import it, and a user's own setting wins."""

import ast
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from models import ENGINE

ROOT = Path(__file__).parents[1]
SETUP = ROOT / "lessons" / "setup.py"  # becomes the cell tagged "setup" of each notebook
GIVEN_THEM = {ROOT / "public_tests.py", ROOT / "grading" / "inside" / "worker.py"}  # by the notebook, by the sandbox
SPY = """
import importlib, importlib.abc, json, os, sys

class Reached(BaseException): pass

class Spy(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ("keras", "tensorflow"):
            raise Reached

sys.meta_path.insert(0, Spy())
before, ours, seen = dict(os.environ), json.loads(sys.argv[1]), {}
for module in json.loads(sys.argv[2]):
    try:
        importlib.import_module(module)
    except Reached:
        seen[module] = {name: os.environ.get(name) for name in ours}
    os.environ.clear()
    os.environ.update(before)
    for name in [name for name in sys.modules if name.split(".")[0] in ("models", "benchmarks", "data", "util")]:
        del sys.modules[name]
print(json.dumps(seen))
"""


def modules() -> dict[str, Path]:
    """Names and files of all modules that the course imports or runs."""
    files = [
        *ROOT.glob("*.py"),
        *(file for folder in ("data", "models", "grading", "tools", "benchmarks") for file in (ROOT / folder).rglob("*.py")),
    ]
    files = [file for file in files if "__pycache__" not in file.parts]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imports(file: Path) -> list[tuple[str, int]]:
    """Top-level names that a file imports, in functions too, with their lines; in order."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                found += [(alias.name.split(".")[0], node.lineno) for alias in names]
            case ast.ImportFrom(module=str(module), level=0):
                found.append((module.split(".")[0], node.lineno))
    return sorted(found, key=lambda one: one[1])


def engine_line(file: Path) -> int | None:
    """Line of the first import of Keras or TensorFlow."""
    return next((line for name, line in imports(file) if name in ("keras", "tensorflow")), None)


def sets_it(file: Path) -> bool:
    """Whether the package, or the file before its first import of the engine, imports `models`."""
    packages = [parent / "__init__.py" for parent in file.parents if parent.is_relative_to(ROOT) and parent != ROOT]
    early = any(name == "models" and line < engine_line(file) for name, line in imports(file))
    return (
        early
        or ROOT / "models" in file.parents
        or any("models" in dict(imports(package)) for package in packages if package.exists())
    )


def test_no_file_imports_the_engine_before_its_settings():
    users = {file for file in modules().values() if engine_line(file)}
    assert len(users) > 12 and ROOT / "benchmarks" / "ours.py" in users
    assert [str(file) for file in users - GIVEN_THEM if not sets_it(file)] == []


def test_every_notebook_sets_up_before_it_imports_the_engine():
    lessons = [file for file in (ROOT / "lessons").glob("0*.py") if engine_line(file)]
    assert len(lessons) == 2 and "models" in dict(imports(SETUP))
    for lesson in lessons:
        before = lesson.read_text(encoding="utf-8").splitlines()[: engine_line(lesson)]
        assert '# %% tags=["setup"]' in before, lesson.name


@pytest.mark.parametrize("own", [None, "0"])
def test_settings_are_made_before_the_import_and_a_users_own_wins(own):
    names = [name for name, file in modules().items() if engine_line(file) and file not in GIVEN_THEM and "grading" not in name]
    env = {name: value for name, value in os.environ.items() if name not in ENGINE} | (dict.fromkeys(ENGINE, own) if own else {})
    command = [sys.executable, "-c", SPY, json.dumps(list(ENGINE)), json.dumps(names)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)
    assert {"models.chest.train", "models.brain.network", "benchmarks.pipelines"} <= set(seen)
    expected = dict.fromkeys(ENGINE, own) if own else ENGINE
    assert all(found == expected for found in seen.values()), seen


def test_the_sandbox_has_the_settings():
    from grading import walls

    assert walls.environment().items() >= ENGINE.items()


FAULTS = """
import resource, models
faults = []
for _ in range(5):
    block = b"x" * (64 << 20)
    del block
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[0])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc", reason="malloc of glibc")
def test_freed_memory_is_used_again_and_a_users_own_setting_wins():
    def faults(**own: str) -> int:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
        done = subprocess.run([sys.executable, "-c", FAULTS], cwd=ROOT, env=env | own, capture_output=True, text=True, check=True)
        return int(done.stdout)

    kept, *returned = (
        faults(),
        faults(MALLOC_MMAP_THRESHOLD_="1000000"),
        faults(GLIBC_TUNABLES="glibc.malloc.mmap_threshold=1000000"),
    )
    assert min(returned) > 10 * (kept + 1)
