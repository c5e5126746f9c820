"""X-rays as training takes them: decoded once, mixed into batches, split by patient."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data import nih
from data.errors import DataError

pytest.importorskip("keras")
from test_train_chest import SIZE, config, copied, folder, make_folder  # noqa: F401  fixtures

from models.chest import films as film_store
from models.chest.films import MixedBatches, open_sources, open_store, split_patients


def test_batches_depend_on_seed_and_step_alone(config):
    training, _ = open_sources(config, progress=False)
    whole = MixedBatches(training, [8], config, range(8))
    later = MixedBatches(training, [8], config, range(8), first=5)
    share = MixedBatches(training, [8], config, range(4, 8))
    for ours, theirs in zip(whole[7], later[2], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(whole[7], share[7], strict=True):
        np.testing.assert_array_equal(ours[4:], theirs)
    other = MixedBatches(training, [8], dataclasses.replace(config, seed=1), range(8))
    assert (whole[7][0] != other[7][0]).any()


def test_every_film_comes_once_in_a_pass(config):
    config = dataclasses.replace(config, mixup=0.0)
    training, _ = open_sources(config, progress=False)
    films = len(training[0].rows)
    batches = MixedBatches(training, [8], config, range(8))
    drawn = [batches._pass(0, place // films)[place % films] for place in range(2 * films)]
    assert sorted(drawn[:films]) == sorted(drawn[films:]) == sorted(training[0].rows)
    assert drawn[:films] != drawn[films:]


def test_patients_are_in_one_part_only(config):
    store = open_store(config.folders[0], SIZE, Path(config.cache), progress=False)
    parts = [split_patients([store], fold, 4)[0] for fold in range(4)]
    assert (np.sum(parts, axis=0) == 1).all()
    for part in parts:
        assert not set(store.table["Patient ID"][part]) & set(store.table["Patient ID"][~part])
    assert set(store.table["split"]) == {"train_val"}
    assert not split_patients([store], -1, 4)[0].any()


def test_a_patient_in_two_real_folders_is_held_out_of_both(config, folder, tmp_path):
    other = copied(folder, tmp_path / "other", lambda table: table["Patient ID"].between(10, 40))
    simulated = make_folder(tmp_path / "simulated", patients=20)
    (simulated / nih.SIMULATED_FILE).write_text("{}")
    config = dataclasses.replace(config, folders=(str(folder), str(other), str(simulated)), keep_out=("3", "11"))
    training, validation = open_sources(config, progress=False)
    trained = training[0].patients | training[1].patients
    assert not trained & (validation[0].patients | validation[1].patients)
    assert trained & validation[2].patients  # who was simulated is nobody else
    assert not {3, 11} & (trained | validation[0].patients | validation[1].patients)
    listed = tmp_path / "official_test_list.txt"
    listed.write_text("# of another archive too\n3\n11\n99999\n")
    again = open_sources(dataclasses.replace(config, keep_out=(str(listed),)), progress=False)
    assert [source.patients for source in again[0]] == [source.patients for source in training]
    with pytest.raises(DataError, match="--keep-out 77777: no such patient"):
        open_sources(dataclasses.replace(config, keep_out=("77777", "3")), progress=False)
    listed.write_text("\n".join(map(str, range(30))))
    with pytest.raises(DataError, match="every patient is held out"):
        open_sources(dataclasses.replace(config, folders=(str(folder),), keep_out=(str(listed),)), progress=False)


def test_broken_films_are_named_and_left_out(folder, tmp_path):
    copy = copied(folder, tmp_path / "copy", lambda table: table["Patient ID"] < 9)
    path = copy / "images" / "00000002_001.png"
    path.write_bytes(path.read_bytes()[:-20])
    gone = copy / "images" / "00000003_001.png"
    gone.unlink()
    gone.symlink_to(tmp_path / "on another disk.png")
    with pytest.warns(
        UserWarning, match="2 broken X-rays are left out:\n.*00000002_001.png.*\n.*00000003_001.png: the X-ray is not on disk"
    ):
        store = open_store(copy, SIZE, tmp_path / "cache", progress=False)
    assert path.name not in set(store.table["Image Index"]) and len(store.films) == len(store.table) == len(store.labels)
    for row in (0, len(store.table) - 1):
        np.testing.assert_array_equal(store.films[row], nih.read_film(copy / "images" / store.table["Image Index"][row], SIZE))


def test_decoding_goes_on_where_it_was_stopped(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(film_store, "CHUNK", 8)
    read, calls = nih.read_film, []

    def stopped(path, size):
        calls.append(path.name)
        if len(calls) > 20:
            raise KeyboardInterrupt
        return read(path, size)

    monkeypatch.setattr(film_store.nih, "read_film", stopped)
    with pytest.raises(KeyboardInterrupt):
        open_store(folder, SIZE, tmp_path, progress=False)
    again = []
    monkeypatch.setattr(film_store.nih, "read_film", lambda path, size: (again.append(path.name), read(path, size))[1])
    store = open_store(folder, SIZE, tmp_path, progress=False)
    assert len(again) == 48 - 16  # two whole chunks were kept
    for film, name in zip(store.films, store.table["Image Index"], strict=True):
        np.testing.assert_array_equal(film, read(folder / "images" / name, SIZE))
    again.clear()
    open_store(folder, SIZE, tmp_path, progress=False)
    assert not again  # all are there


def test_better_labels_must_be_complete(folder, tmp_path):
    copy = copied(folder, tmp_path / "copy", lambda table: table["Patient ID"] < 9)
    names = pd.read_csv(copy / nih.TABLE_FILE)["Image Index"]
    truth = pd.DataFrame({"Image Index": names, **dict.fromkeys(nih.FINDINGS, 1)})
    truth.to_csv(copy / "truth.csv", index=False)
    store = open_store(copy, SIZE, tmp_path / "cache", labels="truth.csv", progress=False)
    assert store.labels.all()
    truth.loc[3, "Mass"] = np.nan
    truth.to_csv(copy / "truth.csv", index=False)
    with pytest.raises(DataError, match=f"truth.csv: X-ray {names[3]}.*other than 0 and 1"):
        open_store(copy, SIZE, tmp_path / "cache", labels="truth.csv", progress=False)
