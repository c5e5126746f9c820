"""Files, tables and robustness of the simulated chest cohort."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from data.chest_simulator import cohort
from data.chest_simulator import film as chest_film
from data.chest_simulator import patients as chest_patients
from data.chest_simulator.site import SITES
from data.errors import DataError
from data.nih import FINDINGS, read_chest_folder

SMALL = {"films": 24, "seed": 5, "size": 48, "progress": False}
ROOT = Path(__file__).resolve().parents[1]


def digest(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return cohort.chest_cohort(tmp_path_factory.mktemp("chest") / "small", **SMALL, jobs=1)


@pytest.fixture(scope="module")
def table() -> list[chest_patients.Film]:
    return chest_patients.plan_cohort(1500, cohort.SEED)


def test_folder_has_the_nih_format(small):
    entry = small / "Data_Entry_2017_v2020.csv"
    assert entry.read_text().splitlines()[0] == cohort.ENTRY_HEADER
    frame = pd.read_csv(entry)
    assert list(frame.columns[-4:]) == ["OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"]
    assert len(frame) == SMALL["films"] and frame["Image Index"].is_unique
    assert set(frame["Patient Gender"]) <= {"M", "F"} and set(frame["View Position"]) <= {"PA", "AP"}
    known = {*FINDINGS, "No Finding"}
    assert all(set(labels.split("|")) <= known for labels in frame["Finding Labels"])
    for name in frame["Image Index"]:
        image = cv2.imread(str(small / "images" / name), cv2.IMREAD_UNCHANGED)
        assert image.shape == (48, 48) and image.dtype == np.uint8 and image.std() > 10
    assert sorted(p.name for p in (small / "images").iterdir()) == sorted(frame["Image Index"])
    assert sorted(p.name for p in small.iterdir()) == sorted(
        [
            "BBox_List_2017.csv",
            "Data_Entry_2017_v2020.csv",
            "SIMULATED.json",
            "images",
            "radiologist_labels.csv",
            "test_list.txt",
            "train_val_list.txt",
            "truth.csv",
        ]
    )
    assert json.loads((small / "SIMULATED.json").read_text())["simulated"] is True


def test_lists_labels_and_boxes_fit_together(small):
    truth = pd.read_csv(small / "truth.csv").set_index("Image Index")
    assert list(truth.columns) == list(FINDINGS)
    lists = [set((small / name).read_text().split()) for name in ("train_val_list.txt", "test_list.txt")]
    assert not lists[0] & lists[1] and lists[0] | lists[1] == set(truth.index)
    reading = pd.read_csv(small / "radiologist_labels.csv").set_index("Image ID")
    assert set(reading.index) == lists[1]
    assert list(reading.columns) == ["Patient ID", "Abnormal", *(n.replace("_", " ") for n in FINDINGS), "Other"]
    for name in FINDINGS:
        assert ((reading[name.replace("_", " ")] == "YES") == (truth.loc[reading.index, name] == 1)).all()
    assert ((reading["Abnormal"] == "YES") == truth.loc[reading.index].any(axis=1)).all()
    header, *rows = (small / "BBox_List_2017.csv").read_text().splitlines()
    assert header == cohort.BOX_HEADER
    for row in rows:
        image, label, x, y, w, h = row.split(",")
        assert truth.loc[image, "Infiltration" if label == "Infiltrate" else label] == 1
        assert float(x) >= 0 and float(y) >= 0 and float(x) + float(w) <= 1024 and float(y) + float(h) <= 1024


def test_same_bytes_whatever_the_number_of_processes(small, tmp_path):
    again = cohort.chest_cohort(tmp_path / "again", **SMALL, jobs=2)
    assert digest(again) == digest(small)


def test_another_seed_gives_other_films(small, tmp_path):
    other = cohort.chest_cohort(tmp_path / "other", **(SMALL | {"films": 8, "seed": 6}), jobs=1)
    assert not {v for k, v in digest(other).items() if k.endswith("png")} & set(digest(small).values())


def test_finds_what_is_there(small, monkeypatch):
    monkeypatch.setattr(cohort, "_draw_all", lambda *_: pytest.fail("drawn again"))
    assert cohort.chest_cohort(small, **SMALL) == small
    with pytest.raises(DataError, match="something other than the cohort.*seed=99"):
        cohort.chest_cohort(small, **(SMALL | {"seed": 99}))


def test_default_folder_is_named_after_what_it_holds(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    made = cohort.chest_cohort(films=2, seed=1, size=32, progress=False)
    assert made == tmp_path.resolve() / f"chest-2-32-1-v{cohort.VERSION}"


def test_resumes_after_an_interruption(small, tmp_path, monkeypatch):
    real, drawn = chest_film.simulate_film, []

    def stop_at_ten(*arguments):
        if len(drawn) == 10:
            raise KeyboardInterrupt
        drawn.append(1)
        return real(*arguments)

    monkeypatch.setattr(chest_film, "simulate_film", stop_at_ten)
    with pytest.raises(KeyboardInterrupt):
        cohort.chest_cohort(tmp_path / "cut", **SMALL, jobs=1)
    assert not (tmp_path / "cut").exists()
    kept = sorted((tmp_path / "cut.partial" / "images").glob("*.png"))
    assert len(kept) == 10
    times = [p.stat().st_mtime_ns for p in kept]
    again = []
    monkeypatch.setattr(chest_film, "simulate_film", lambda *a: again.append(1) or real(*a))
    made = cohort.chest_cohort(tmp_path / "cut", **SMALL, jobs=1)
    assert len(again) == SMALL["films"] - 10
    assert [(made / "images" / p.name).stat().st_mtime_ns for p in kept] == times
    assert digest(made) == digest(small)


def test_resumes_when_killed_while_tidying_up(small, tmp_path, monkeypatch):
    """The notes beside the films are deleted last; a kill in the middle of that must not spoil the next run."""
    real = cohort.remove_folder

    def killed(folder):
        next(iter(sorted(folder.iterdir()))).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(cohort, "remove_folder", killed)
    with pytest.raises(KeyboardInterrupt):
        cohort.chest_cohort(tmp_path / "tidy", **SMALL, jobs=1)
    assert not (tmp_path / "tidy").exists()
    monkeypatch.setattr(cohort, "remove_folder", real)
    assert digest(cohort.chest_cohort(tmp_path / "tidy", **SMALL, jobs=1)) == digest(small)


@pytest.mark.parametrize("wrong", [{"films": 0}, {"size": 8}, {"jobs": 0}])
def test_impossible_arguments(wrong, tmp_path):
    with pytest.raises(DataError, match="cannot be made"):
        cohort.chest_cohort(tmp_path / "x", **(SMALL | wrong))


def test_importing_is_light():
    code = "import sys; import data.chest_simulator.cohort; print([m for m in ('tensorflow', 'keras', 'cv2', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_twins_of_a_cohort(small):
    truth = pd.read_csv(small / "truth.csv").set_index("Image Index")
    name, finding = next((n, f) for n, row in truth.iterrows() for f in FINDINGS if row[f])
    stored = cv2.imread(str(small / "images" / name), cv2.IMREAD_UNCHANGED)
    shown, bare, boxes = cohort.simulate_twins(small, name, finding)
    assert np.array_equal(shown, stored) and not np.array_equal(bare, stored) and boxes
    absent = next(f for f in ("Mass", "Nodule") if not truth.loc[name, f])
    more, same, _ = cohort.simulate_twins(small, name, absent, 0.9)
    assert np.array_equal(same, stored) and not np.array_equal(more, stored)
    with pytest.raises(DataError, match=f"{absent} cannot be taken away"):
        cohort.simulate_twins(small, name, absent)
    with pytest.raises(DataError, match=f"{finding} cannot be added"):
        cohort.simulate_twins(small, name, finding, 0.5)
    with pytest.raises(DataError, match="no X-ray nobody.png"):
        cohort.simulate_twins(small, "nobody.png", finding)
    with pytest.raises(DataError, match="only simulated patients have twins"):
        cohort.simulate_twins(small / "images", name, finding)


def test_hospital_b_is_another_cohort_that_the_reader_knows(small, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    made = cohort.chest_cohort(**SMALL, site="B", jobs=1)
    assert made.name.startswith("chest-24-48-5-B-v")
    assert json.loads((made / "SIMULATED.json").read_text())["site"] == "B"
    chest = read_chest_folder(made)
    assert len(chest.table) == 24 and (chest.table["split"] == "test").sum() == len(chest.manual) == 19
    assert not {v for k, v in digest(made).items() if k.endswith("png")} & set(digest(small).values())
    with pytest.raises(DataError, match="no simulated hospital 'C'.*A, B"):
        cohort.chest_cohort(**SMALL, site="C")


# The table behind the films ------------------------------------------------------------------------------------------


def test_splits_share_no_patient(table):
    test, rest = ({film.patient for film in table if film.test == which} for which in (True, False))
    assert test and rest and not test & rest
    assert sum(film.test for film in table) == 420 and len(table) == 1500


def test_every_finding_has_its_positives(table):
    for name in FINDINGS:
        assert sum(name in film.severity for film in table if film.test) >= 12, name
        rest = [name in film.severity for film in table if not film.test]
        assert np.mean(rest) >= 0.02, name


@pytest.mark.parametrize("seed", range(4))
def test_positives_hold_for_any_seed(seed):
    films = chest_patients.plan_cohort(1500, seed)
    counts = [sum(name in film.severity for film in films if film.test) for name in FINDINGS]
    assert min(counts) >= 12


def test_prevalence_co_occurrence_and_follow_up_follow_nih():
    films = [film for film in chest_patients.plan_cohort(12_000, 0) if not film.test]
    truth = np.array([[name in film.severity for name in FINDINGS] for film in films])
    for k, name in enumerate(FINDINGS):
        published = chest_patients.NIH_COUNTS[name] / chest_patients.NIH_FILMS
        if published > 0.04:
            assert truth[:, k].mean() == pytest.approx(published, rel=0.3), name
        else:  # raised over the floor, as the data card says
            assert chest_patients.FLOOR <= truth[:, k].mean() < 0.05, name

    def lift(a, b):
        i, j = FINDINGS.index(a), FINDINGS.index(b)
        return (truth[:, i] & truth[:, j]).mean() / truth[:, i].mean() / truth[:, j].mean()

    assert lift("Effusion", "Atelectasis") > 1.5 and lift("Effusion", "Cardiomegaly") > 1.5
    assert lift("Edema", "Infiltration") > 1.5 and lift("Emphysema", "Pneumothorax") > 1.5
    portable = np.array([film.view == "AP" for film in films])
    assert portable.mean() == pytest.approx(0.40, abs=0.06)
    assert truth[portable].any(1).mean() > truth[~portable].any(1).mean()
    counts = pd.Series([film.patient for film in films]).value_counts()
    assert (counts == 1).mean() > 0.4 and counts.max() > 15
    ages = [film.age for film in films if film.follow_up == 0]
    assert 42 < np.mean(ages) < 52
    assert np.mean([film.sex == "M" for film in films if film.follow_up == 0]) == pytest.approx(0.565, abs=0.04)


def test_findings_persist_in_a_patient(table):
    films = chest_patients.plan_cohort(8000, 2)
    before = {(film.patient, film.follow_up): set(film.severity) for film in films}
    pairs = [(set(film.severity), before[film.patient, film.follow_up - 1]) for film in films if film.follow_up]
    for name in ("Emphysema", "Fibrosis", "Cardiomegaly"):
        again = np.mean([name in now for now, earlier in pairs if name in earlier])
        assert again > 0.5, name


def test_text_mined_labels_err_as_stated():
    films = chest_patients.plan_cohort(20_000, 1)
    for name in ("Effusion", "Infiltration", "Atelectasis"):
        truth = np.array([name in film.severity for film in films])
        label = np.array([name in film.labels for film in films])
        sensitivity, precision = chest_patients.LABEL_QUALITY[name]
        assert label[truth].mean() == pytest.approx(sensitivity, abs=0.04)
        assert truth[label].mean() == pytest.approx(precision, abs=0.07)


def test_hospital_b_has_other_patients_and_habits():
    a, b = (chest_patients.plan_cohort(3000, 0, site) for site in "AB")

    def share(films, which):
        return np.mean([which(film) for film in films])

    assert not {film.patient for film in b if film.test} & {film.patient for film in b if not film.test}
    assert share(b, lambda film: film.view == "AP") > share(a, lambda film: film.view == "AP") + 0.15
    for name, factor in SITES["B"].more.items():
        if name not in ("Hernia", "Fibrosis"):  # rare ones are held up by the least number of positives
            ratio = share(b, lambda film, f=name: f in film.severity) / share(a, lambda film, f=name: f in film.severity)
            assert (ratio > 1.1) == (factor > 1) and (ratio < 0.9) == (factor < 1), (name, ratio)
    setups = [cohort.person_and_setup(film, 0, "B")[1] for film in b[:40]]
    assert {setup.marker[0] for setup in setups} == {"R"} and not any(setup.text for setup in setups)
