"""Files and names made to stop the grader, or to take somebody else's place: one student's problem, in little time."""

import io
import json
import random
import time
import zipfile

import pytest
from test_grading_submissions import NOTEBOOK, tar_of, zip_of

from grading import archives, class_report
from grading.choice import choose, kind_of
from grading.roster import Person, Roster, match
from grading.submissions import Submission, find_submissions


def unnamed_zip() -> bytes:
    """A zip with a member that has no name, which Python's zipfile stumbles over."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo(""), b"x")
        archive.writestr("n.ipynb", NOTEBOOK)
    return out.getvalue()


def heavy() -> dict[str, bytes]:
    """Archives of a few hundred kilobytes that hold tens of thousands of files, folders or copies of themselves."""
    junk = zip_of({f"__MACOSX/{i}": b"" for i in range(12_000)})
    return {
        "junk": zip_of({f"{i}.zip": junk for i in range(30)}),
        "many": zip_of({str(i): b"" for i in range(30_000)}),
        "folders": zip_of({**{f"a{i}/x": b"" for i in range(9_000)}, **{f"b{i}/": b"" for i in range(9_000)}}),
        "tar": tar_of({str(i): b"" for i in range(25_000)}),
    }


def test_archives_of_very_many_files_cost_seconds_and_nobody_else(tmp_path):
    students = heavy() | {"unnamed": unnamed_zip(), "ada": zip_of({"n.ipynb": NOTEBOOK})}
    (tmp_path / "class.zip").write_bytes(
        zip_of({f"{name}_{n}_assignsubmission_file_/w.zip": data for n, (name, data) in enumerate(students.items())})
    )
    start = time.process_time()
    found = {one.name: one for one in find_submissions(tmp_path / "class.zip")}
    assert time.process_time() - start < 30, "about 3 s on a usual machine"
    assert set(found) == set(students) and len(found["ada"].files) == len(found["unnamed"].files) == 1
    assert all("files" in found[name].problem for name in ("many", "junk", "tar")) and not found["ada"].problem


def test_damaged_archives_end_as_a_problem_and_never_as_an_error():
    """Bytes of zips and tars changed, cut and doubled by chance; the seed is fixed."""
    rng, files = random.Random(1), {"a/n.ipynb": NOTEBOOK, "b.ipynb": NOTEBOOK * 3, "c.txt": b"x" * 300}
    whole = {"x.zip": zip_of(files), "x.tgz": tar_of(files), "x.tar": tar_of(files, "w"), "x.tar.xz": tar_of(files, "w:xz")}
    whole["z.zip"] = zip_of(whole)
    for _ in range(3_000):
        name = rng.choice(list(whole))
        data = bytearray(whole[name])
        for _ in range(rng.choice([1, 1, 2, 4, 16])):
            at = rng.randrange(len(data))
            match rng.randrange(4):
                case 0:
                    data[at] = rng.randrange(256)
                case 1:
                    data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"PK\1\2"])
                case 2:
                    del data[at : at + rng.randrange(1, 40)]
                case 3:
                    data[at:at] = data[max(0, at - 30) : at]
        budget = archives.Budget(archives.MAX_TOTAL)
        assert list(archives._entries(name, lambda most, data=bytes(data): data[:most], None, budget, 0)), "every file has a row"


def test_a_name_defined_very_often_does_not_hold_up_the_choice():
    cell = {"cell_type": "code", "source": "get_ppv = 1\n" * 40_000}
    start = time.process_time()
    assert kind_of(json.dumps({"cells": [cell]}).encode()).number == 2
    files = [(f"{i}.ipynb", json.dumps({"cells": [cell], "metadata": {"i": i}}).encode()) for i in range(3)]
    assert choose(Submission("eve", files=files), 2).file == files[-1]
    assert time.process_time() - start < 10, "well below a second on a usual machine"


@pytest.mark.parametrize(
    "cells",
    [
        '[], "worksheets": [{"cells": 7}]',
        '[], "worksheets": [{"cells": {"a": 1}}, 5, null]',
        '{"a": 1}',
        '[1, null, "x", {"cell_type": ["code"], "source": {"a": 1}}, {"cell_type": "code", "source": NaN}]',
        '[{"cell_type": "code", "source": ' + "[" * 940 + "]" * 940 + "}]",
        '[{"cell_type": "code", "source": ' + "[" * 5_000 + "]" * 5_000 + "}]",
    ],
)
def test_cells_that_are_none_are_unreadable_and_no_error(cells):
    assert kind_of(f'{{"cells": {cells}}}'.encode()).state in ("unreadable", "another")


def test_a_line_written_thousands_of_times_does_not_hold_up_the_report():
    code = "def get_ppv(y, pred, th=0.5):\n" + "    0\n" * 6_000
    start = time.process_time()
    shown = class_report._beside("get_ppv", code, code, set())
    assert [len(side) for side in shown["sides"]] == [6_002, 6_002] and time.process_time() - start < 10


# ---- nobody becomes somebody else --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["ada.ipynb:\n  :submitters:\n  - :sid: eve\n", "[" * 5_000, "x:\n  :created_at: 2026-13-45\n"])
def test_gradescopes_list_counts_in_what_gradescope_hands_out_only(tmp_path, text):
    """Anybody can hand in a file that is called like it."""
    for name in ("ada", "bob"):
        (tmp_path / f"{name}.ipynb").write_bytes(NOTEBOOK)
    (tmp_path / "submission_metadata.yml").write_text(text)
    assert {one.student for one in find_submissions(tmp_path)} == {"ada", "bob"}
    (tmp_path / "export.zip").write_bytes(
        zip_of({f"submission_{i}/n.ipynb": NOTEBOOK for i in (1, 2)} | {"submission_metadata.yml": text.encode()})
    )
    assert len(find_submissions(tmp_path / "export.zip")) == 2


def matched(people: dict[str, str], students: dict[str, str]) -> dict[str, str]:
    roster = Roster([Person(student, name, frozenset([student])) for student, name in people.items()], [], [])
    return {student: person.student for student, person in match(roster, students).items()}


@pytest.mark.parametrize(
    "people, repositories, expected",
    [
        (["ada", "bob"], ["ada", "bob", "eve-ada"], {"ada": "ada", "bob": "bob"}),
        (["ada", "bob", "eve-ada"], ["ada", "bob", "eve-ada"], {"ada": "ada", "bob": "bob", "eve-ada": "eve-ada"}),
        (["ada"], ["ada", "eve-ada"], {}),  # which of them is not known
        (["ada"], ["ada"], {"ada": "ada"}),
    ],
)
def test_a_github_name_that_ends_like_anothers_is_not_hers(people, repositories, expected):
    found = matched(dict.fromkeys(people, ""), {f"homework-2-{name}": "" for name in repositories})
    assert found == {f"homework-2-{name}": person for name, person in expected.items()}


@pytest.mark.parametrize(
    "students, expected",
    [
        ({"101": "Ada Lovelace", "205": "Eve"}, {"101": "101", "205": "205"}),
        ({"101": "Eve", "205": "Ada Lovelace"}, {}),  # numbers of the platform's, that happen to be the university's
        ({"101": "Ada Lovelace", "205": "Ada Lovelace"}, {"101": "101"}),  # Eve calls herself Ada
        ({"205": "Ada Lovelace"}, {}),
        ({"101": "ada", "205": ""}, {"101": "101", "205": "205"}),
        ({"7": "Ada Lovelace", "8": "Ada Lovelace"}, {}),
    ],
)
def test_an_id_of_one_beside_the_name_of_another_is_neithers(students, expected):
    assert matched({"101": "Ada Lovelace", "205": "Eve"}, students) == expected
