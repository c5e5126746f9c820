"""The tools that build, run and report, tried on a miniature lesson."""

import base64
import io
import json
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat import NotebookNode
from PIL import Image

from tools import results
from tools.build_notebooks import build, write_picture
from tools.execution import Run, execute, inject_parameters
from tools.lesson import (
    REPOSITORY,
    ROOT,
    LessonError,
    find_exercises,
    lesson_paths,
    make_notebook,
    read_cells,
    section_of,
    solution_lines,
)
from tools.outputs import MACHINE_PATH, clean_outputs, fit_outputs, render_terminal, scrub, shrink_figure, shrink_png

LESSON = '''\
# %% [markdown]
# # Counting
#
# You will count.

# %% tags=["parameters"]
DATA_DIR = None
QUICK = False

# %% [markdown]
# ## 1. Doubles
# Write `double` (2 points).

# %% exercise="double"
def double(number):
    """Twice the number."""
    ### BEGIN SOLUTION
    secret_factor = 2
    return secret_factor * number
    ### END SOLUTION

# %% check="double" points=2
assert double(4) == 8

# %% tags=["example"]
import matplotlib.pyplot as plt
from tqdm import tqdm

fig = plt.figure(figsize=(1, 1))
plt.plot([double(1), 2])
plt.show()

# %% [markdown]
# *Figure 1.* A [line](https://example.org), *rising*
# with `double`.
#
# More text.

# %%
import sys
from pathlib import Path
from IPython.display import display

for _ in tqdm(range(3), desc="counting"):
    pass
print(Path.cwd(), object(), QUICK)
display({"text/plain": "x", "application/vnd.course.headline+json": {"source": "simulated", "numbers": {"twice": 2.5}}}, raw=True)
'''


@pytest.fixture(scope="module")
def lesson(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("course") / "lessons" / "01_counting.py"
    path.parent.mkdir()
    path.write_text(LESSON)
    return path


@pytest.fixture(scope="module")
def built(lesson) -> tuple[Run, NotebookNode, NotebookNode]:
    root = lesson.parents[1]
    run = build(lesson, root, show=False)
    return (
        run,
        nbformat.read(root / "01_counting.ipynb", as_version=4),
        nbformat.read(root / "student" / "01_counting.ipynb", as_version=4),
    )


def changed(lesson: Path, old: str, new: str, tmp_path: Path) -> Path:
    """A copy of the lesson with `old` replaced."""
    assert old in LESSON
    path = tmp_path / lesson.name
    path.write_text(LESSON.replace(old, new))
    return path


def test_solved_notebook_is_executed_and_clean(built):
    run, solved, _ = built
    assert not run.failure
    code = [cell for cell in solved.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    streams = {o.name: o.text for o in code[-1].outputs if o.output_type == "stream"}
    assert set(streams) == {"stdout"}, "a finished progress bar is no error output"
    text = "".join(o.text for o in code[-1].outputs if o.output_type == "stream")
    assert text.count("counting") == 1 and "100%" in text and "\r" not in text
    assert ". <object object at 0x…> False" in text
    assert not MACHINE_PATH.search(json.dumps(solved))
    figure = next(o for cell in code for o in cell.outputs if "image/png" in o.get("data", {}))
    assert figure.metadata["image/png"]["alt"] == "Figure 1. A line, rising with double."
    assert solved.metadata.course.version == "solved"
    assert solved.metadata.course.exercises == [{"name": "double", "points": 2}]


def test_measures_time_memory_and_headline(built):
    run = built[0]
    assert run.headlines == [{"source": "simulated", "numbers": {"twice": 2.5}}]
    assert 0 < run.seconds < 120
    assert 20 < run.peak_mib < 2000


def test_student_notebook_has_stub_figure_and_no_solution(built, lesson):
    _, solved, student = built
    assert "raise NotImplementedError" in student.cells[3].source
    assert '"""Twice the number."""' in student.cells[3].source
    assert "secret_factor" not in json.dumps(student)
    assert all(not cell.outputs and cell.execution_count is None for cell in student.cells if cell.cell_type == "code")
    picture = student.cells[6]
    assert picture.metadata.tags == ["example-figure"]
    png = base64.b64decode(picture.attachments["right_answer"]["image/png"])
    assert png.startswith(b"\x89PNG")
    assert picture.source.startswith("<details>"), "folded: a right answer draws the same figure above"
    assert "![Figure 1. A line, rising with double.](attachment:right_answer)" in picture.source
    assert "student%2F01_counting.ipynb" in student.cells[0].source
    assert "student" not in solved.cells[0].source
    assert {cell.id for cell in solved.cells} < {cell.id for cell in student.cells}


def test_nbgrader_metadata(built):
    for nb in built[1:]:
        exercise, check = nb.cells[3].metadata.nbgrader, nb.cells[4].metadata.nbgrader
        assert (exercise.grade_id, exercise.solution, exercise.grade, exercise.locked) == ("double", True, False, False)
        assert (check.grade_id, check.solution, check.grade, check.locked) == ("double_test", False, True, True)
        assert check.points == 2
        assert sum("nbgrader" in cell.metadata for cell in nb.cells) == 2


def test_rebuilding_changes_no_ids(lesson):
    assert [c.id for c in make_notebook(lesson).cells] == [c.id for c in make_notebook(lesson).cells]
    assert len({c.id for c in make_notebook(lesson).cells}) == len(make_notebook(lesson).cells)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("    ### BEGIN SOLUTION\n", "", "no ### BEGIN SOLUTION"),
        ('exercise="double"', "", "does not say exercise"),
        ('# %% check="double" points=2', "# %%", "no cell with check"),
        (" points=2", "", "points"),
        ('check="double"', 'check="treble"', "check"),
        ("# # Counting", "# Counting", "begin with the title"),
    ],
)
def test_a_lesson_that_breaks_a_convention_is_named(lesson, tmp_path, old, new, message):
    with pytest.raises(LessonError, match=message) as error:
        make_notebook(changed(lesson, old, new, tmp_path))
    assert "01_counting.py" in str(error.value)


def test_solution_lines_are_those_that_stand_nowhere_else(lesson):
    assert solution_lines(read_cells(lesson)) == ["secret_factor = 2", "return secret_factor * number"]


def test_the_setup_cell_is_written_from_one_file_and_folded(lesson):
    assert (ROOT / "lessons" / "setup.py").read_text().count("REPOSITORY") == 1
    for path in lesson_paths():
        cell = next(cell for cell in make_notebook(path).cells if "setup" in cell.metadata.get("tags", []))
        assert f'url = "https://github.com/{REPOSITORY}"' in cell.source
        assert cell.metadata.jupyter.source_hidden is True


def test_photographs_are_compressed_as_much_as_the_notebook_s_limit_asks():
    grain = np.random.default_rng(0).normal(128, 30, (400, 500)).clip(0, 255).astype(np.uint8)
    figure = nbformat.v4.new_output("display_data", {"image/png": png(Image.fromarray(grain).convert("RGB"))})
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[figure])])
    roomy, tight = (fit_outputs(nb, limit).cells[0].outputs[0].data["image/jpeg"] for limit in (10**6, 120_000))
    assert len(tight) < 120_000 < len(roomy)
    assert "image/png" in nb.cells[0].outputs[0].data, "the executed notebook itself is left as it is"


def test_figures_keep_their_size_on_the_page():
    figure = nbformat.v4.new_output("display_data", {"image/png": png(Image.new("L", (200, 100)))})
    figure.metadata = NotebookNode({"image/png": {"width": 100, "height": 50}, "needs_background": "light"})
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[figure])])
    assert clean_outputs(nb).cells[0].outputs[0].metadata == {"image/png": {"width": 100, "height": 50}}


def test_sections(lesson):
    nb = read_cells(lesson)
    assert section_of(nb, 0) == "Counting"
    assert section_of(nb, 5) == "1. Doubles"
    assert [(e.name, e.cell, e.check_cell) for e in find_exercises(nb)] == [("double", 3, 4)]


def test_injected_parameters_win(lesson):
    nb = inject_parameters(make_notebook(lesson), {"QUICK": True, "DATA_DIR": "/a b/c"})
    namespace = {}
    for cell in nb.cells[1:3]:
        exec(cell.source, namespace)
    assert namespace["QUICK"] is True and namespace["DATA_DIR"] == "/a b/c"
    assert "papermill" not in nb.metadata
    with pytest.raises(ValueError, match="parameters"):
        inject_parameters(nbformat.v4.new_notebook(), {"QUICK": True})


def test_a_failing_cell_is_described_and_nothing_is_overwritten(lesson, tmp_path):
    broken = tmp_path / "lessons" / "01_counting.py"
    broken.parent.mkdir()
    broken.write_text(LESSON.replace("secret_factor = 2", "secret_factor = 3"))
    run = build(broken, tmp_path, show=False)
    assert run.error_name == "AssertionError" and run.failed_cell == 4
    assert "1. Doubles" in run.failure and "assert double(4) == 8" in run.failure and "cell 5 of" in run.failure
    assert not (tmp_path / "01_counting.ipynb").exists() and not (tmp_path / "student").exists()
    assert (tmp_path / "build" / "failed" / "01_counting.ipynb").exists()


def test_a_kernel_that_dies_is_described():
    source = "import os\nos._exit(9)"
    run = execute(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), title="x", show=False)
    assert run.error_name == "DeadKernelError" and "memory" in run.failure


@pytest.mark.parametrize(
    "raw, shown",
    [
        ("a 10%\ra 100%\n", "a 100%\n"),
        ("a long line\rshort     \nnext", "short     e\nnext"),
        ("outer\n\rinner 1\x1b[A\rOUTER\n\rinner 2\n", "OUTER\ninner 2\n"),
        ("12\b\b34", "34"),
        ("\rx\x1b[0m\x1b[37m\x1b[0m y", "x\x1b[0m y"),
        ("one\ntwo\x1b[K\n", "one\ntwo\n"),
        ("\x1b[1m1/2\x1b[0m\r\x1b[1m2/2\x1b[0m", "\x1b[1m2/2\x1b[0m"),
    ],
)
def test_terminal_control(raw, shown):
    assert render_terminal(raw) == shown


def stream_cell(name: str, text: str) -> NotebookNode:
    return nbformat.v4.new_code_cell("x", outputs=[nbformat.v4.new_output("stream", name=name, text=text)])


def test_nested_progress_bars_collapse_to_their_last_state():
    pieces = ["outer:  0%|  | 0/2\n\rinner: 50%|# | 1/2", f"\x1b[A\n\r{18 * ' '}\x1b[A\r", "outer: 99%|##| 2/2\n"]
    nb = nbformat.v4.new_notebook(cells=[stream_cell("stderr", "")])
    nb.cells[0].outputs = [nbformat.v4.new_output("stream", name="stderr", text=piece) for piece in pieces]
    clean_outputs(nb)
    assert [(o.name, o.text.split("%")[0]) for o in nb.cells[0].outputs] == [("stdout", "outer: 99")]
    assert "inner" not in nb.cells[0].outputs[0].text


def test_log_noise_goes_and_warnings_stay():
    noise = (
        "2026-01-01 10:00:00.123456: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.\n"
        "E0000 00:00:1767225600.000000     123 cuda_dnn.cc:8310] Unable to register cuDNN factory\n"
    )
    nb = nbformat.v4.new_notebook(cells=[stream_cell("stderr", noise), stream_cell("stderr", noise + "UserWarning: x\n")])
    clean_outputs(nb)
    assert nb.cells[0].outputs == []
    assert nb.cells[1].outputs[0].text == "UserWarning: x\n"


def test_paths_of_this_machine_go():
    home = Path.home()
    text = f"{home}/x {home} {home}stead /srv/course/data/x.png /srv/course /srv/course-2 <f at 0x7f3a2b1c4d5e>"
    assert scrub(text, Path("/srv/course")) == f"~/x ~ {home}stead ./data/x.png . /srv/course-2 <f at 0x…>"


def test_ids_of_tables_do_not_change():
    def cell(random_id):
        html = (
            f"<style>\n#T_{random_id} caption {{}}\n#T_{random_id}_row0_col0, #T_{random_id}_row1 {{}}</style>"
            f'<table id="T_{random_id}"><td id="T_{random_id}_row0_col0">T_abc</td></table>'
        )
        output = nbformat.v4.new_output("display_data", data={"text/html": html})
        return nbformat.v4.new_code_cell("x", id="0123456789ab", outputs=[output])

    pages = [
        clean_outputs(nbformat.v4.new_notebook(cells=[cell(x)])).cells[0].outputs[0].data["text/html"] for x in ("1a2b3", "f00ba")
    ]
    assert pages[0] == pages[1] and "1a2b3" not in pages[0]
    assert pages[0].count("T_0123450") == 5


def png(picture: Image.Image, **options) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return base64.b64encode(buffer.getvalue()).decode()


def pixels(encoded: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"), dtype=int)


def test_pictures_shrink_and_look_the_same():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (200, 200))
    plot = png(Image.fromarray(np.dstack([x, x, x, 0 * x + 255]).astype("uint8")))
    small = shrink_png(plot)
    assert len(small) < 0.8 * len(plot) and np.abs(pixels(small) - pixels(plot)).max() <= 8
    noise = png(Image.fromarray(rng.integers(0, 256, (200, 200, 3)).astype("uint8")))
    assert (pixels(shrink_png(noise)) == pixels(noise)).all(), "too many colours for a palette: none is lost"
    frames = [Image.fromarray((x * k % 256).astype("uint8")) for k in (1, 2)]
    film = png(frames[0], save_all=True, append_images=frames[1:])
    assert shrink_png(film) == film, "an animation stays one"


def test_results_table_has_one_number_a_cell(tmp_path, built):
    path = tmp_path / "measured.json"
    results.record("01_counting", built[0], cold=False, path=path)
    headlines = [{"source": "real patients: nih", "numbers": {"films": 390.0, "twice": 0.7}}]
    results.record("01_counting", Run(NotebookNode(), 75, 2048, headlines), cold=False, path=path)
    results.record("02_other", Run(NotebookNode(), 75, 2048, built[0].headlines), cold=True, path=path)
    measured = results.load(path)
    measured["01_counting"]["simulated"] |= {"seconds": 100, "peak_mib": 512}
    lines = results.table(measured, {"01_counting": "Counting"}).splitlines()
    assert lines[2] == "|[Counting](01_counting.ipynb)|twice|2.500|0.700|1\u00a0min\u00a040\u00a0s*|0.5\u00a0GiB|"
    assert lines[3] == "|[02_other](02_other.ipynb)|twice|2.500|–|1\u00a0min\u00a015\u00a0s|2.0\u00a0GiB|"
    assert lines[-1].endswith("\\* The simulated cohort was there already.")
    assert "executed from top to bottom: 3 minutes" in results.start(measured)
    measured[results.COMMANDS] = {"test": 700}
    assert "notebooks included: 12 minutes" in results.start(measured) and "test" not in results.table(measured, {})


def test_blocks_are_written_between_their_marks():
    text = "# A\n\n<!-- results:begin -->\nold\n<!-- results:end -->\n\nEnd.\n"
    new = results.write_block(text, "results", "new")
    assert new == text.replace("old", "new") == results.write_block(new, "results", "new")
    for broken in ("# A\n", "<!-- results:end -->\n<!-- results:begin -->\n"):
        with pytest.raises(ValueError, match="marks"):
            results.write_block(broken, "results", "new")


def test_failed_runs_are_not_recorded(tmp_path):
    path = tmp_path / "measured.json"
    with pytest.raises(ValueError, match="failed"):
        results.record("x", Run(NotebookNode(), failure="no"), cold=True, path=path)
    with pytest.raises(ValueError, match="headline"):
        results.record("x", Run(NotebookNode()), cold=True, path=path)
    assert not path.exists()


def test_picture_of_the_readme_is_the_named_part_of_a_figure(tmp_path):
    figure = Image.new("L", (1600, 450), 10)
    figure.paste(200, (800, 0, 1600, 450))
    output = nbformat.v4.new_output("display_data", {"image/png": png(figure)})
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("draw()", outputs=[output])])
    lesson = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("draw()", metadata={"picture": [0.5, 0, 1, 1]})])
    write_picture(nb, lesson, tmp_path / "pictures" / "01.png")
    picture = Image.open(tmp_path / "pictures" / "01.png").convert("RGB")
    assert picture.size == (640, 360) and picture.getpixel((320, 180)) == (200, 200, 200)
    lesson.cells[0].metadata.picture = [0, 0, 0.25, 1]  # narrower than the README's pictures: on white, not stretched
    write_picture(nb, lesson, tmp_path / "pictures" / "01.png")
    picture = Image.open(tmp_path / "pictures" / "01.png").convert("RGB")
    assert picture.getpixel((320, 180)) == (10, 10, 10) and picture.getpixel((20, 180)) == (255, 255, 255)
    panels = Image.new("L", (1000, 1000), 255)  # four panels; the cut goes through the second column and the second row
    for left in (20, 520):
        for top in (20, 520):
            panels.paste(60 if left == top == 20 else 0, (left, top, left + 480, top + 480))
    nb.cells[0].outputs = [nbformat.v4.new_output("display_data", {"image/png": png(panels)})]
    lesson.cells[0].metadata.picture = [0, 0, 0.54, 0.53]
    write_picture(nb, lesson, tmp_path / "pictures" / "01.png")
    grey = np.asarray(Image.open(tmp_path / "pictures" / "01.png").convert("L"))
    assert ((grey > 40) & (grey < 80)).mean() > 0.45 and not (grey < 10).any()  # the first panel alone, large
    lesson.cells[0].metadata.pop("picture")
    write_picture(nb, lesson, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_photographs_become_jpeg_and_charts_stay_png():
    def encoded(pixels):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return base64.b64encode(file.getvalue()).decode()

    grain = np.random.default_rng(0).normal(128, 10, (400, 600, 1)).clip(0, 255).astype(np.uint8)
    noise = np.repeat(grain, 3, axis=2)  # grey, as the grain of a film is
    mime, data = shrink_figure(encoded(noise))
    assert mime == "image/jpeg" and len(data) < len(encoded(noise)) / 2
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
    assert np.abs(back - noise).mean() < 4
    chart = np.full((400, 600, 3), 255, np.uint8)
    chart[200] = (0, 114, 178)
    assert shrink_figure(encoded(chart))[0] == "image/png"


@pytest.mark.parametrize(
    "value, text", [(0.8118, "0.812"), (1234.0, "1,234"), (1.0, "1.000"), ("nan", "nan"), (float("nan"), "nan")]
)
def test_numbers_as_a_reader_wants_them(value, text):
    """A notebook's nan arrives as text: a folder without boxes has no pointing game."""
    assert results.number(value) == text
