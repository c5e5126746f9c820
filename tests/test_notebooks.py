"""The committed notebooks: built from today's lessons, executed, readable, without solutions where students work."""

import ast
import re
from pathlib import Path

import pytest
from course import EXERCISES, LESSONS, NAMES, python_of, run_exercises, solved, strings_of, student, texts_of_outputs
from nbgrader.nbgraderformat import MetadataValidator
from nbgrader.preprocessors import CheckCellMetadata

from tools import results
from tools.build_notebooks import LIMIT, figures_of
from tools.execution import HEADLINE_MIME
from tools.lesson import ROOT, SOLUTION, find_exercises, lesson_sha256, make_notebook, read_cells, solution_lines
from tools.outputs import MACHINE_PATH

REBUILD = "The lesson has changed since; run: make notebooks"
NO_SUMMARY = re.compile(
    r"^##\s+[\d.\s]*(set-?up|references|sources|further reading|where to go|what (comes )?next|summary|headline)", re.I
)

each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem[:2])


def test_the_three_lessons_are_there():
    assert [path.stem for path in LESSONS] == NAMES


# -- built from the lesson ---------------------------------------------------------------------------------------------


@each_lesson
def test_solved_notebook_matches_its_lesson(lesson):
    nb, fresh = solved(lesson), make_notebook(lesson)
    assert nb.metadata.course.lesson_sha256 == lesson_sha256(lesson), REBUILD
    assert nb.metadata == fresh.metadata
    assert [(c.id, c.cell_type, c.source, c.metadata) for c in nb.cells] == [
        (c.id, c.cell_type, c.source, c.metadata) for c in fresh.cells
    ], REBUILD


@each_lesson
def test_student_notebook_matches_its_lesson(lesson):
    nb, fresh = student(lesson), make_notebook(lesson, student=True, figures=figures_of(solved(lesson)))
    assert nb.metadata.course.lesson_sha256 == lesson_sha256(lesson), REBUILD
    assert nb == fresh, REBUILD


# -- the solved notebook, as a reader scrolls it -----------------------------------------------------------------------


@each_lesson
def test_solved_notebook_is_executed_from_top_to_bottom(lesson):
    code = [cell for cell in solved(lesson).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]


@each_lesson
@pytest.mark.parametrize("folder", ["", "student"])
def test_notebook_is_small_enough_to_render(lesson, folder):
    assert (ROOT / folder / f"{lesson.stem}.ipynb").stat().st_size < LIMIT


@each_lesson
def test_outputs_name_nothing_of_the_machine(lesson):
    places = [str(place) for place in (ROOT, ROOT.parent, Path.home()) if len(place.parts) > 1]
    for index, text in texts_of_outputs(solved(lesson)):
        assert not MACHINE_PATH.search(text), f"cell {index + 1}: {MACHINE_PATH.search(text)}"
        assert not [place for place in places if re.search(re.escape(place) + r"(?![\w.\-])", text)], f"cell {index + 1}"


@each_lesson
def test_outputs_are_plain(lesson):
    """No widget (GitHub does not show it), no carriage return, no warning or log line."""
    nb = solved(lesson)
    assert "widgets" not in nb.metadata
    for index, cell in enumerate(nb.cells):
        for output in cell.get("outputs", []):
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {}), f"cell {index + 1}"
            assert output.get("name") != "stderr", f"cell {index + 1}: {output.text[:300]}"
            assert "\r" not in output.get("text", ""), f"cell {index + 1}"


@each_lesson
def test_every_figure_has_a_caption(lesson):
    nb = solved(lesson)
    for index, cell in enumerate(nb.cells):
        if any(mime.startswith("image/") for output in cell.get("outputs", []) for mime in output.get("data", {})):
            follower = nb.cells[index + 1] if index + 1 < len(nb.cells) else None
            assert follower is not None and follower.cell_type == "markdown", f"cell {index + 1} has a figure, no caption"
            assert follower.source.startswith("*Figure"), f"cell {index + 1}: {follower.source[:60]!r} is no caption"


@each_lesson
def test_figures_are_numbered_in_order(lesson):
    captions = [re.match(r"\*Figures? (\d+)", cell.source) for cell in read_cells(lesson).cells]
    numbers = [int(match[1]) for match in captions if match]
    assert numbers == sorted(set(numbers)) and numbers[0] == 1
    assert not [cell.source for cell in read_cells(lesson).cells if re.match(r"\*Figure(?! \d)s?(?! \d)", cell.source)]


@each_lesson
def test_every_section_has_a_summary(lesson):
    text = "\n".join(cell.source for cell in read_cells(lesson).cells if cell.cell_type == "markdown")
    sections = re.split(r"^(?=##\s)", text, flags=re.MULTILINE)[1:]
    assert sections
    missing = [s.splitlines()[0] for s in sections if not NO_SUMMARY.match(s) and not re.search(r"\*\*Summary|### .*Summary", s)]
    assert not missing


@each_lesson
def test_the_last_cell_gives_the_headline(lesson):
    nb = solved(lesson)
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    headlines = [o.data[HEADLINE_MIME] for o in code[-1].outputs if HEADLINE_MIME in o.get("data", {})]
    assert len(headlines) == 1
    assert headlines[0]["source"].startswith(results.SIMULATED), "committed notebooks are made of simulated data only"
    assert results.load()[lesson.stem][results.SIMULATED]["numbers"] == headlines[0]["numbers"], REBUILD


@each_lesson
def test_a_notebook_begins_with_title_setup_and_parameters(lesson):
    cells = make_notebook(lesson).cells
    code = [cell for cell in cells if cell.cell_type == "code"][:2]
    assert [cell.metadata.get("tags") for cell in code] == [["setup"], ["parameters"]]
    namespace = {}
    exec(code[1].source, namespace)
    assert namespace["DATA_DIR"] is None and namespace["QUICK"] is False
    assert all(name in cells[0].source.split("\n")[2] for name in ("colab", "mybinder", "nbviewer"))


# -- the student notebook ----------------------------------------------------------------------------------------------


@each_lesson
def test_student_notebook_holds_no_solution(lesson):
    lines = solution_lines(read_cells(lesson))
    assert lines
    strings = [text for text in strings_of(student(lesson)) if len(text) < 50_000]  # longer ones are pictures
    leaks = [line for line in lines if any(line in text for text in strings)]
    assert not leaks
    assert not [text for text in strings if "BEGIN SOLUTION" in text or "END SOLUTION" in text]


@each_lesson
def test_student_notebook_has_no_outputs(lesson):
    for cell in student(lesson).cells:
        assert cell.cell_type != "code" or (cell.outputs == [] and cell.execution_count is None)


@each_lesson
def test_student_notebook_has_every_exercise_with_check_and_points(lesson):
    nb = student(lesson)
    assert [exercise.name for exercise in nb.metadata.course.exercises] == EXERCISES[lesson.stem[:2]]
    for name in EXERCISES[lesson.stem[:2]]:
        index = next(i for i, cell in enumerate(nb.cells) if cell.metadata.get("nbgrader", {}).get("grade_id") == name)
        exercise, check = nb.cells[index], nb.cells[index + 1]
        assert "raise NotImplementedError" in exercise.source
        assert f"def {name}(" in exercise.source and '"""' in exercise.source
        assert check.metadata.nbgrader.grade_id == f"{name}_test" and check.metadata.nbgrader.points > 0
        assert f"public_tests.{name}_test({name})" in check.source
        points = check.metadata.nbgrader.points
        prompt = next(cell.source for cell in nb.cells[index::-1] if cell.cell_type == "markdown")
        assert re.search(rf"\b{points:g} points?\b", prompt), f"{name}: the prompt does not say “({points:g} points)”"


@each_lesson
def test_nbgrader_accepts_the_metadata(lesson):
    for nb in (solved(lesson), student(lesson)):
        MetadataValidator().validate_nb(nb)
        CheckCellMetadata().preprocess(nb, {})
        for cell in nb.cells:
            if "nbgrader" in cell.metadata:
                assert cell.metadata.nbgrader.locked == cell.metadata.nbgrader.grade


# -- solutions and checks fit together ---------------------------------------------------------------------------------


@each_lesson
def test_solutions_pass_their_checks(lesson):
    import public_tests

    namespace = run_exercises(make_notebook(lesson))
    for name in EXERCISES[lesson.stem[:2]]:
        getattr(public_tests, f"{name}_test")(namespace[name])


@each_lesson
def test_blank_exercises_stop_at_not_implemented(lesson):
    import public_tests

    namespace = run_exercises(make_notebook(lesson, student=True))
    for name in EXERCISES[lesson.stem[:2]]:
        with pytest.raises(NotImplementedError):
            getattr(public_tests, f"{name}_test")(namespace[name])


@each_lesson
def test_exercises_have_the_signatures_of_the_lesson(lesson):
    """The blank version keeps name and arguments: only the body between the marks goes."""
    full, blank = make_notebook(lesson), make_notebook(lesson, student=True)

    def heads(nb):
        cells = [cell for cell in nb.cells if cell.metadata.get("nbgrader", {}).get("solution")]
        trees = [python_of(cell.source).body for cell in cells]
        return [[(node.name, ast.unparse(node.args)) for node in body if hasattr(node, "args")] for body in trees]

    assert heads(full) == heads(blank)
    marked = [cell for cell in read_cells(lesson).cells if SOLUTION.search(cell.source)]
    assert len(marked) == len(find_exercises(read_cells(lesson)))


def test_the_readme_shows_what_was_measured():
    assert not [path.name for path, text in results.pages().items() if path.read_text(encoding="utf-8") != text], (
        "run: make results"
    )
