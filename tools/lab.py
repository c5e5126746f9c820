"""Opens JupyterLab on your own copies of the student notebooks: `make lab`.

The copies are in work/, which git ignores: saving one changes no tracked file, and `git pull` meets no conflict.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HIDDEN = ("@jupyter/nbgrader", "jupyterlab-jupytext")  # extensions of the instructor's environment


def copy_notebooks(source: Path, target: Path) -> list[Path]:
    """Copy the notebooks of `source` that `target` does not have; what is there is somebody's work and stays.

    Returns
    -------
    list of Path
        The new copies.
    """
    target.mkdir(exist_ok=True)
    new = [target / notebook.name for notebook in sorted(source.glob("*.ipynb")) if not (target / notebook.name).exists()]
    for copy in new:
        shutil.copyfile(source / copy.name, copy)
    return new


def refusal(options: list[str], user: int | None) -> str:
    """Why JupyterLab would not start, and what to do; empty where it will."""
    if user == 0 and "--allow-root" not in options:
        return "JupyterLab refuses to run as root. Use an ordinary account, or in a container: make lab OPTIONS=--allow-root"
    return ""


def environment(folder: Path) -> dict[str, str]:
    """Environment for a JupyterLab without the instructor's menus and without its question about news; written to `folder`."""
    settings = {
        "page_config.json": {"disabledExtensions": dict.fromkeys(HIDDEN, True)},
        "default_setting_overrides.json": {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}},
    }
    (folder / "labconfig").mkdir()
    for name, content in settings.items():
        (folder / "labconfig" / name).write_text(json.dumps(content), encoding="utf-8")
    paths = [str(folder), *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])]
    return os.environ | {"JUPYTER_CONFIG_PATH": os.pathsep.join(paths)}


def main(options: list[str]) -> int:
    """Command line; `options` go to JupyterLab."""
    problem = refusal(options, os.geteuid() if hasattr(os, "geteuid") else None)
    if problem:
        print(problem, file=sys.stderr)
        return 1
    new = copy_notebooks(ROOT / "student", ROOT / "work")
    print(f"Your notebooks are in {ROOT / 'work'} ({len(new)} new, the others as you left them).")
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(environment(Path(folder)))
        from jupyterlab.labapp import main as lab

        lab([f"--ServerApp.root_dir={ROOT}", "--LabApp.default_url=/lab/tree/work", *options])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
