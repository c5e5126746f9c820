"""Builds the committed notebooks from the lessons: the solved, executed one at the root and the blank one in student/.

``make notebooks`` builds all; ``python -m tools.build_notebooks 02`` one.
"""

import argparse
import base64
import contextlib
import io
import sys
import tempfile
from pathlib import Path

import nbformat
import numpy as np
from nbformat import NotebookNode
from PIL import Image, ImageOps

from tools import results
from tools.execution import Run, execute, kernel_environment
from tools.lesson import LANGUAGE_INFO, ROOT, LessonError, lesson_paths, make_notebook, read_cells
from tools.outputs import fit_outputs

PICTURE_SIZE = (640, 360)  # of the README's pictures
LIMIT = 1_000_000  # bytes; GitHub does not render much more


def figures_of(nb: NotebookNode) -> dict[str, tuple[str, str]]:
    """The last figure that each cell drew (mime type, base64), by cell id."""
    return {
        cell.id: (mime, output.data[mime].replace("\n", ""))
        for cell in nb.cells
        for output in cell.get("outputs", [])
        for mime in ("image/png", "image/jpeg")
        if mime in output.get("data", {})
    }


def write_notebook(nb: NotebookNode, path: Path) -> int:
    """Validate `nb`, write it to `path`, return its size in bytes."""
    nbformat.validate(nb)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, path)
    return path.stat().st_size


def build(lesson: Path, root: Path = ROOT, *, env: dict[str, str] | None = None, show: bool = True) -> Run:
    """Build both notebooks of a lesson below `root`.

    When a cell fails, nothing at the root or in student/ changes; the executed part is written to ``build/failed/``.
    """
    run = execute(make_notebook(lesson), title=lesson.stem[:2], cwd=root, env=env, show=show)
    solved = run.notebook = fit_outputs(run.notebook, LIMIT, root)
    solved.metadata.language_info = NotebookNode(LANGUAGE_INFO)  # without the Python version of this machine
    if run.failure:
        write_notebook(solved, root / "build" / "failed" / f"{lesson.stem}.ipynb")
        return run
    write_picture(solved, read_cells(lesson), root / ".github" / "pictures" / f"{lesson.stem[:2]}.png")
    student = make_notebook(lesson, student=True, figures=figures_of(solved))
    for nb, path in [(solved, root / f"{lesson.stem}.ipynb"), (student, root / "student" / f"{lesson.stem}.ipynb")]:
        size = write_notebook(nb, path)
        print(f"  {path.relative_to(root)}  {size / 1e3:.0f} kB")
        if size > LIMIT:
            print(f"  TOO LARGE: more than {LIMIT / 1e3:.0f} kB. The largest cells:\n{_largest(nb)}", file=sys.stderr)
    return run


def write_picture(nb: NotebookNode, lesson: NotebookNode, path: Path) -> None:
    """Write the picture that stands for the notebook in the README: the part of a figure that the lesson names, on white.

    Parameters
    ----------
    nb : NotebookNode
        The executed notebook.
    lesson : NotebookNode
        Its lesson, where one cell may say ``picture=[left, top, right, bottom]``, in fractions of its figure.
    path : Path
        The PNG file.
    """
    figures = figures_of(nb)
    for cell, source in zip(nb.cells, lesson.cells, strict=True):
        if "picture" in source.metadata and cell.id in figures:
            figure = Image.open(io.BytesIO(base64.b64decode(figures[cell.id][1]))).convert("RGB")
            left, top, right, bottom = source.metadata.picture
            width, height = figure.size
            part = figure.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))
            path.parent.mkdir(parents=True, exist_ok=True)
            part = ImageOps.expand(part.crop(_whole_panels(part)), border=round(part.width / 60), fill="white")
            picture = ImageOps.pad(part, PICTURE_SIZE, Image.Resampling.LANCZOS, color="white")
            picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def _whole_panels(part: Image.Image) -> tuple[int, int, int, int]:
    """Box (left, top, right, bottom) without white margins and without slivers of panels that the cut went through.

    A sliver lies at an edge, takes less than a tenth of the side, and a white line parts it from the rest.
    """
    ink = np.asarray(part.convert("L")) < 250
    box = []
    for _ in range(2):  # columns, then the rows of what is left
        drawn = ink.any(axis=0)
        pieces = np.flatnonzero(np.diff(np.concatenate([[False], drawn, [False]]).astype(int))).reshape(-1, 2)
        kept = [(a, b) for a, b in pieces if (a > 0 and b < len(drawn)) or b - a >= len(drawn) / 10] or list(pieces)
        box.append((int(kept[0][0]), int(kept[-1][1])))
        ink = ink[:, slice(*box[-1])].T
    (left, right), (top, bottom) = box
    return left, top, right, bottom


def _largest(nb: NotebookNode, count: int = 5) -> str:
    sizes = sorted(((len(str(cell)), index) for index, cell in enumerate(nb.cells)), reverse=True)[:count]
    return "\n".join(f"    {size / 1e3:5.0f} kB  cell {index + 1}: {nb.cells[index].source[:70]!r}" for size, index in sizes)


def _remarks(nb: NotebookNode) -> list[str]:
    """What an author should see in an executed notebook: warnings and whatever else went to stderr."""
    return [
        f"  cell {index + 1} wrote to stderr: {output.text.strip()[:200]}"
        for index, cell in enumerate(nb.cells)
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stderr"
    ]


def select(patterns: list[str]) -> list[Path]:
    """Lessons whose name begins with one of the patterns; all, when there is no pattern.

    Raises
    ------
    LessonError
        When a pattern fits no lesson.
    """
    lessons = lesson_paths()
    for pattern in patterns:
        if not any(lesson.stem.startswith(pattern) for lesson in lessons):
            names = ", ".join(lesson.stem for lesson in lessons) or "none"
            raise LessonError(f"No lesson begins with {pattern!r}. There are: {names}.")
    return [lesson for lesson in lessons if not patterns or lesson.stem.startswith(tuple(patterns))]


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit code 1 when a notebook failed."""
    parser = argparse.ArgumentParser(prog="python -m tools.build_notebooks", description=__doc__.splitlines()[0])
    parser.add_argument("lessons", nargs="*", help="beginnings of lesson names, such as 02 (default: all)")
    parser.add_argument("--cold", action="store_true", help="generate the cohorts anew, so that the times are cold ones")
    options = parser.parse_args(arguments)
    failed = False
    with tempfile.TemporaryDirectory() if options.cold else contextlib.nullcontext() as cache:
        env = kernel_environment(COURSE_CACHE=cache) if cache else None
        for lesson in select(options.lessons):
            print(lesson.stem)
            run = build(lesson, env=env)
            if run.failure:
                print(f"\n{run.failure}\n", file=sys.stderr)
                failed = True
                continue
            results.record(lesson.stem, run, cold=options.cold)
            print("\n".join(_remarks(run.notebook)))
            print(f"  {results.duration(run.seconds)}, {run.peak_mib / 1024:.1f} GiB at most")
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LessonError as problem:
        sys.exit(f"notebooks: {problem}")
    except KeyboardInterrupt:
        sys.exit("\nnotebooks: stopped.")
