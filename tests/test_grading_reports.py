"""Marks, feedback and class report: everybody has a row, nothing that a student wrote can do harm, copies are found."""

import csv
import inspect
import io
import json
import random
import re
import textwrap
import unicodedata
from datetime import datetime
from html.parser import HTMLParser

import pytest
from answers import collect

from grading import class_report, marks, report, similarity
from grading.batch import safe_name
from grading.course import assignment
from grading.feedback import block, feedback_html, feedback_markdown, inline
from grading.grade import OUTCOMES
from grading.pages import parts
from grading.roster import match, read_roster
from grading.submissions import Submission
from grading.synthetic_class import body, disguise
from grading.texts import COLOUR, MEANING, SYMBOL, visible
from grading.typical_answers import RIGHT, UNUSUAL, WRONG

HOMEWORK = assignment(2)
GIVEN, STUBS, SOLUTION = class_report.handed_out(HOMEWORK)
EVIL = "</pre></code><script>alert(1)</script><img src=x onerror=alert(1)>\n```\n# not a heading\n````\x1b[31mred\x00\u202egnp.exe {{ 7*7 }}"
FACTS = {"run": 3, "resumed": 0, "seconds": 1.0, "sandbox": "bubblewrap"}


def result(outcomes: dict[str, str] | None = None, **changes) -> dict:
    """A result as the grader makes it, all right unless said otherwise."""
    exercises = {}
    for name, most in HOMEWORK.points.items():
        outcome = (outcomes or {}).get(name, "right")
        exercises[name] = {
            "outcome": outcome,
            "points": most if outcome == "right" else 0.0,
            "max": most,
            "message": "All checks passed.",
            "hint": "",
            "group": "",
            "share": 1.0,
            "code": body(name, RIGHT[name][0], STUBS[name]),
            "helpers": "",
            "cell": 3,
        } | changes
    return {
        "status": "graded",
        "note": "",
        "exercises": exercises,
        "total": sum(e["points"] for e in exercises.values()),
        "seconds": 0.1,
    }


def row(**changes) -> dict:
    return {"student": "ada", "name": "Ada", "late": "", "total": 95.0, "max": 100.0, "submitted": ""} | changes


def test_every_outcome_has_its_words():
    assert set(SYMBOL) == set(COLOUR) == set(MEANING) == set(OUTCOMES)


# ---- marks ------------------------------------------------------------------------------------------------------------

PEOPLE = {
    "1": "=cmd('calc')",
    "2": "Ada Lovelace",
    "3": "Ada Lovelace",
    "4": 'O\'Brien "Q", Jr.',
    "5": "王小明",
    "6": "\t+41\u202e",
    "7": "@SUM(A1)",
    "8": "-1+1",
    "9": "عمر",
}


def written(tmp_path, roster=None, **changes) -> dict[str, list[dict]]:
    submissions = [Submission(student, name, time=datetime(2026, 11, 20, 12)) for student, name in PEOPLE.items() if student != "9"]
    results = {one.student: result({"get_ppv": "wrong"}) for one in submissions} | changes
    report.write_all(tmp_path, HOMEWORK, submissions, results, FACTS, roster, datetime(2026, 11, 20, 11) if roster else None)
    return {path.stem: list(csv.DictReader(path.open(encoding="utf-8-sig", newline=""))) for path in tmp_path.glob("grades*.csv")}


def roster_of(tmp_path, text: str):
    (tmp_path / "roster.csv").write_text(text, encoding="utf-8")
    return read_roster(tmp_path / "roster.csv")


def test_everybody_has_one_row_and_no_cell_is_a_formula(tmp_path):
    out = io.StringIO()
    csv.writer(out).writerows([("id", "name"), *PEOPLE.items()])
    tables = written(tmp_path, roster_of(tmp_path, out.getvalue()))
    rows = {one["student"]: one for one in tables["grades"]}
    assert set(rows) == set(PEOPLE) and len(tables["grades"]) == len(PEOPLE)
    assert rows["9"]["missing"] == rows["9"]["status"] == "missing" and float(rows["9"]["total"]) == 0 and not rows["9"]["feedback"]
    assert (
        rows["2"]["late"] == "late" and rows["2"]["name"] == rows["3"]["name"] == "Ada Lovelace" and rows["5"]["name"] == "王小明"
    )
    assert (
        float(rows["1"]["total"])
        == sum(HOMEWORK.points.values()) - HOMEWORK.points["get_ppv"]
        == sum(float(rows["1"][name]) for name in HOMEWORK.points)
    )
    for table in tables.values():
        for value in (value for one in table for value in one.values()):
            assert value == "-" or not value.lstrip().startswith(("=", "+", "-", "@", "\t", "\r")), value
    assert (tmp_path / "grades.csv").read_bytes()[:3] == b"\xef\xbb\xbf", "spreadsheets need it to read names"


def test_columns_that_platforms_look_for(tmp_path):
    tables = written(tmp_path)
    moodle, canvas, blackboard = (tables[f"grades_{name}"] for name in ("moodle", "canvas", "blackboard"))
    assert moodle[0]["Identifier"] == "Participant 1" and {"Grade", "Last modified (grade)", "Feedback comments"} <= set(moodle[0])
    assert (
        list(canvas[0])[:5] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
        and canvas[0]["Student"].strip() == "Points Possible"
    )
    assert float(canvas[0][HOMEWORK.name]) == 100 and canvas[1]["ID"] == "1" and float(canvas[1][HOMEWORK.name]) == 93
    assert "Username" in blackboard[0] and f"{HOMEWORK.name} [Total Pts: 100 Score]" in blackboard[0]


def test_a_platforms_own_table_is_filled_in(tmp_path):
    text = (
        "Identifier,Full name,Email address,Status,Grade,Maximum Grade,Grade can be changed,Last modified (submission),Last modified (grade)\n"
        "Participant 2,Ada Lovelace,ada2@x.org,Submitted,,100,Yes,-,-\nParticipant 77,Nobody,n@x.org,No submission,,100,Yes,-,-\n"
    )
    moodle = {one["Identifier"]: one for one in written(tmp_path, roster_of(tmp_path, text))["grades_moodle"]}
    assert moodle["Participant 2"]["Email address"] == "ada2@x.org" and float(moodle["Participant 2"]["Grade"]) == 93
    assert float(moodle["Participant 77"]["Grade"]) == 0 and "Feedback comments" not in moodle["Participant 2"]
    title = f"{HOMEWORK.name} (4711)"
    text = f'Student,ID,SIS User ID,SIS Login ID,Section,{title},Final Score\n    Points Possible,,,,,100,(read only)\n"Lovelace, Ada",2,u2,ada,A1,,\n'
    canvas = written(tmp_path, roster_of(tmp_path, text))["grades_canvas"]
    assert float(canvas[0][title]) == 100 and "Final Score" not in canvas[0]
    ada = next(one for one in canvas if one["ID"] == "2")
    assert ada["SIS User ID"] == "u2" and ada["Student"] == "Lovelace, Ada" and float(ada[title]) == 93


def test_a_class_list_is_read_whatever_it_looks_like(tmp_path):
    roster = roster_of(
        tmp_path, "\ufeffSurname;First name;Username;Email address\nLovelace;Ada;ADA;ada@x.org\nAda;Bob;bob;bob@x.org\n"
    )
    assert [(one.student, one.name) for one in roster.people] == [("ADA", "Ada Lovelace"), ("bob", "Bob Ada")]
    found = match(roster, {"ada": "", "bob@x.org": "", "eve": "Eve"})
    assert {student: person.student for student, person in found.items()} == {"ada": "ADA", "bob@x.org": "bob"}
    for text, words in [("id,name\n", "no rows"), ("colour,shape\nred,round\n", "no column of ids"), ("id\n1\n1\n", "twice")]:
        with pytest.raises(ValueError, match=words):
            roster_of(tmp_path, text)


def test_two_students_of_one_name_are_never_taken_for_each_other(tmp_path):
    roster = roster_of(tmp_path, "id,name\nx1,Ada Lovelace\nx2,Ada Lovelace\nx3,Emmy Noether\n")
    found = match(roster, {"501": "Ada Lovelace", "502": "Ada Lovelace", "503": "emmy noether"})
    assert {student: person.student for student, person in found.items()} == {"503": "x3"}
    rows = marks.rows_of(HOMEWORK, [Submission("501", "Ada Lovelace")], {"501": result()}, roster)
    assert [(one["student"], one["status"]) for one in rows] == [
        ("501", "graded"),
        ("x1", "missing"),
        ("x2", "missing"),
        ("x3", "missing"),
    ]
    assert "Not on the class list" in rows[0]["note"]


# ---- feedback ---------------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data):
        self.text.append(data)


def test_nothing_that_a_student_wrote_is_markup(tmp_path):
    graded = result({"get_ppv": "wrong", "get_npv": "error"}, message=EVIL, hint=EVIL, code=EVIL, helpers=EVIL, group=EVIL) | {
        "note": EVIL
    }
    student = "../<script>x</script>"
    page = feedback_html(HOMEWORK, row(student=student, name=EVIL), graded)
    report.write_all(tmp_path, HOMEWORK, [Submission(student, EVIL)], {student: graded}, FACTS)
    for html in (page, (tmp_path / "report.html").read_text(encoding="utf-8")):
        seen = Tags(html)
        assert not seen.tags & {"script", "img", "iframe", "object", "svg", "link"} and not [
            a for a in seen.attributes if a.startswith("on")
        ]
        assert "<script>alert(1)</script>" in "".join(seen.text), "it is shown, as text"
        assert "{{ 7*7 }}" in "".join(seen.text) and "default-src 'none'" in html
        assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", html) and "⟨U+202E⟩" in html
    assert [path.name for path in (tmp_path / "feedback").iterdir() if path.suffix == ".html"] == [f"{safe_name(student)}.html"]


def test_markdown_cannot_be_left(tmp_path):
    graded = result({"get_ppv": "wrong"}, message=EVIL, hint=EVIL, code=EVIL, helpers=EVIL) | {"note": EVIL}
    text = feedback_markdown(HOMEWORK, row(name=EVIL), graded)
    fence, outside = "", []
    for line in text.split("\n"):
        ticks = re.match("`{3,}", line)
        if not fence and ticks:
            fence = ticks[0]
        elif fence and line == fence:
            fence = ""
        elif not fence:
            outside.append(line)
    assert not fence and not [line for line in outside if re.search(r"(?<!\\)<|\]\(", line)] and "# not a heading" not in outside
    assert "\x00" not in text and "\u202e" not in text
    longest = block("`````\nx")
    assert longest.startswith("``````\n") and longest.endswith("\n``````")


def test_feedback_says_what_the_check_said():
    message = "get_ppv: something is not right yet (1 checks passed before this one)\n  input:    get_ppv(y=[1])\n  expected: 0.5\n  got:      0.75\n  where:    cell 3 line 2"
    assert parts(message).fields == [("input", "get_ppv(y=[1])"), ("expected", "0.5"), ("got", "0.75"), ("where", "cell 3 line 2")]
    graded = result({"get_ppv": "wrong"}, message=message, hint="this is the sensitivity", code="def get_ppv(y): return np.mean(y)")
    page, text = feedback_html(HOMEWORK, row(), graded), feedback_markdown(HOMEWORK, row(), graded)
    for part in ("95 of 100 points", "this is the sensitivity", "np.mean(y)", "get_ppv(y=[1])"):
        assert part in page and part in text
    assert text.count("```python") == 1, "right answers are not commented"


def test_one_slip_in_seven_exercises_is_told_once():
    names = HOMEWORK.exercises[:7]
    graded = result(
        dict.fromkeys(names, "wrong"), message="m", hint="`>` in place of `>=`: a *threshold* of 0.5 (exactly) is positive."
    )
    for name in names:
        graded["exercises"][name]["message"] = f"{name}: something is not right yet\n  input:    {name}(y=[1])"
    graded["exercises"]["get_ppv"] |= {"outcome": "wrong", "hint": "another"}
    page, text = feedback_html(HOMEWORK, row(), graded), feedback_markdown(HOMEWORK, row(), graded)
    assert page.count("<b>Hint:</b>") == text.count("**Hint:**") == 1 + (graded["exercises"]["get_ppv"]["hint"] == "another")
    assert all(f'id="{name}"' in page and f"`{name}`" in text for name in names), "each can be found"
    assert page.count('class="card"') == 3 and "<code>&gt;</code> in place of <code>&gt;=</code>" in page
    assert r"**Hint:** `>` in place of `>=`: a \*threshold\* of 0.5 (exactly) is positive." in text
    nothing = result(dict.fromkeys(HOMEWORK.points, "not found"), message="The file is empty.", code="")
    assert feedback_html(HOMEWORK, row(), nothing).count('class="card"') == 1


def test_code_between_backticks_is_code_and_nothing_else_is():
    assert inline("use `np.unique(ids)`, not `a_b*c`") == "use `np.unique(ids)`, not `a_b*c`"
    assert inline("`` `x` `` and get_ppv of 0.5 - 1!") == "`` `x` `` and get_ppv of 0.5 - 1!"
    assert inline("` <b> _x_ [a](b)") == r"\` \<b\> \_x\_ \[a\](b)"


def test_names_on_disk_are_distinct():
    """On file systems that take large for small letters and put umlauts together, too."""
    first = safe_name("Ada Lovelace")
    ids = [
        "Ada Lovelace",
        first,
        safe_name(first),
        "ada",
        "Ada",
        "ADA",
        "Zo\u00e9",
        "Zoe\u0301",
        "\udce9ve",
        "\udceave",
        "?ve",
        "con",
        "a.",
        "a",
        "x" * 60,
        "x" * 61,
    ]
    assert len({unicodedata.normalize("NFC", safe_name(one)).casefold() for one in ids}) == len(ids)
    assert safe_name("student001") == "student001" and not any(safe_name(one).casefold() in ("con", "nul") for one in ids)


def test_long_and_strange_texts_stay_readable():
    assert visible("a\r\nb\tc\u200cd") == "a\nb\tc\u200cd" and visible("\ud800\x07") == "⟨U+D800⟩⟨U+0007⟩"
    assert len(visible("x" * 10**6)) < 25_000


# ---- class report -----------------------------------------------------------------------------------------------------


def test_the_report_groups_mistakes(tmp_path):
    wrong = {"message": "m", "group": "this is the sensitivity"}
    results = (
        {f"s{i}": result({"get_ppv": "wrong"}, **wrong) for i in range(4)}
        | {"t": result({"get_ppv": "wrong"}, group="other")}
        | {"u": result()}
    )
    summary = report.write_all(tmp_path, HOMEWORK, [Submission(student) for student in results], results, FACTS)
    groups = summary["mistakes"]["get_ppv"]
    assert [(group["said"], group["count"]) for group in groups] == [("this is the sensitivity", 4), ("other", 1)] and set(
        summary["mistakes"]
    ) == {"get_ppv"}
    assert summary["exercises"]["get_ppv"] == dict.fromkeys(OUTCOMES, 0) | {"right": 1, "wrong": 5}
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["exercises"] == summary["exercises"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "this is the sensitivity" in page and f'href="feedback/{safe_name("s0")}.html"' in page


def test_the_report_finds_copies_that_moved_their_code_to_helpers(tmp_path):
    work = {
        name: body(name, text, STUBS[name]).replace(f"def {name}", "def work")
        for name, text in UNUSUAL.items()
        if name in HOMEWORK.points
    }
    results = {}
    for student in ("ada", "bob", "eve"):
        results[student] = result()
        for name in FEW:
            results[student]["exercises"][name] |= {"code": ""}
        for name, source in work.items() if student != "eve" else ():
            call = body(name, f"return work({', '.join(['y', 'pred', 'th'][: 3 if name.startswith('get') else 2])})", STUBS[name])
            results[student]["exercises"][name] |= {"code": call, "helpers": source if student == "ada" else disguise(source)}
    summary = report.write_all(tmp_path, HOMEWORK, [Submission(student) for student in results], results, FACTS)
    assert [group["students"] for group in summary["alike"]] == [["ada", "bob"]]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "my_elbat" in page and 'class="same"' in page, "side by side, with what is alike marked"


def test_an_empty_class_and_one_of_unreadable_files_have_a_report(tmp_path):
    nothing = result(dict.fromkeys(HOMEWORK.points, "not found"), code="", message="The file is empty.") | {"status": "unreadable"}
    summary = report.write_all(tmp_path, HOMEWORK, [Submission("a")], {"a": nothing}, FACTS)
    assert summary["statuses"] == {"unreadable": 1} and not summary["mistakes"] and not summary["alike"]


# ---- similarity -------------------------------------------------------------------------------------------------------


FEW = {"positives_needed", "net_benefit"}  # long answers, written in a handful of ways: a small drawn class would be full of copies


def source_of(function) -> str:
    """Source of an answer; empty for one that was made by a program."""
    try:
        return textwrap.dedent(inspect.getsource(function))
    except OSError:
        return ""


BANK = {}
for exercise in HOMEWORK.exercises:  # right answers of several authors
    sources = [source_of(function) for function in collect()[0][exercise].values()]
    sources = [source[source.index("def ") :] for source in sources if source.startswith(("@right", "def "))]
    BANK[exercise] = [source for source in sources if similarity.tokens(source)] or [SOLUTION[exercise]]


def with_unusual(own: dict[str, str]) -> dict[str, str]:
    return own | {name: body(name, text, STUBS[name]) for name, text in UNUSUAL.items() if name in own}


@pytest.mark.parametrize("size", [12, 120])
def test_copies_are_found_whatever_they_are_called_and_nobody_else(size):
    rng = random.Random(size)
    one = {
        f"s{i}": {
            name: body(name, rng.choice(RIGHT[name] + WRONG[name]), STUBS[name]) for name in HOMEWORK.exercises if name not in FEW
        }
        for i in range(size)
    }
    one["ada"] = with_unusual(one["s0"])
    one["bob"] = {name: disguise(source) for name, source in one["ada"].items()}
    one["eve"] = one["bob"] | {
        "get_accuracy": "def get_accuracy(y, pred, th=0.5):\n    nonsense = [i ** 2 for i in range(50)]\n"
        + one["bob"]["get_accuracy"].split("\n", 1)[1]
    }
    assert one["ada"]["bootstrap_patients"] != one["bob"]["bootstrap_patients"]
    pairs = similarity.suspicious_pairs(one, GIVEN)
    assert similarity.groups(pairs) == [["ada", "bob", "eve"]]
    assert "bootstrap_patients" in pairs[0].exercises and pairs[0].share > 0.9


@pytest.mark.parametrize("seed", range(5))
def test_right_answers_of_different_authors_are_not_alike(seed):
    """A small class in which nobody copied: for each exercise, every student has another author's answer."""
    rng, most = random.Random(seed), min(len(answers) for answers in BANK.values() if len(answers) > 1)
    order = {name: rng.sample(answers, len(answers)) for name, answers in BANK.items()}
    one = {f"s{i}": {name: answers[i % len(answers)] for name, answers in order.items()} for i in range(most)}
    assert most >= 4 and similarity.suspicious_pairs(one, GIVEN) == []


def test_a_large_class_that_answers_in_the_usual_ways_is_not_alike():
    rng = random.Random(2)
    one = {f"s{i}": {name: rng.choice(answers) for name, answers in BANK.items()} for i in range(200)}
    assert similarity.suspicious_pairs(one, GIVEN) == []


def test_stubs_hints_and_the_lessons_own_answer_say_nothing():
    for answers in (STUBS, SOLUTION):
        assert similarity.suspicious_pairs({"a": dict(answers), "b": dict(answers)}, GIVEN) == []
    assert similarity.of_text(
        "Use `np.unique(ids, return_inverse=True)` or\n```python\nx = np.bincount(np.asarray(ids).ravel(), minlength=3)\n```"
    )
    own = similarity.like_the_solution(
        {"a": SOLUTION, "b": {name: disguise(s) for name, s in SOLUTION.items()}, "c": {n: b[0] for n, b in BANK.items()}},
        SOLUTION,
        STUBS,
    )
    assert (
        own["a"] == own["b"] == ["bootstrap_patients", "positives_needed", "expected_calibration_error", "net_benefit"]
        and "c" not in own
    )


def test_strange_programs_do_not_stop_the_comparison():
    deep = "def f():\n    return " + "-" * 3000 + "1"
    assert similarity.pieces("def f(:") == {} and similarity.pieces("\x00") == {} and isinstance(similarity.pieces(deep), dict)
    assert similarity.common_lines("def f(:", "x = 1") == (set(), set())
