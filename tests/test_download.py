"""`python -m data.download`: archives in the published formats, made of simulated cohorts, served by this machine."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from download_server import chest_files, tar_of, task01_members
from test_medmnist import npz_of

from data import medmnist, nih
from data.decathlon import read_brain
from data.download import archives, brats
from data.download import command as download
from data.download import decathlon as decathlon_archive
from data.download import nih as nih_archive
from data.download.fetch import Patience
from data.errors import DataError

ROOT = Path(__file__).resolve().parents[1]
HASTE = Patience(tries=3, pause=0.0, timeout=(2, 2))


def serve(site, monkeypatch, key, contents):
    """Put simulated files on the server under published names, and their sums into the list in place of the real ones."""
    archive = archives.ARCHIVES[key]
    files = []
    for file in archive.files:
        content = contents.get(file.name)
        if content is not None:
            site.files[f"/{key}/{file.name}"] = content
            md5 = hashlib.md5(content).hexdigest() if file.md5 else None
            file = replace(file, size=len(content) if file.size else None, md5=md5, about=len(content))
        files.append(file)
    monkeypatch.setitem(download.ARCHIVES, key, replace(archive, files=tuple(files)))


def run(site, *arguments):
    return download.main([*map(str, arguments), "--mirror", site.url, "--quiet"], HASTE)


def notebook_folder(out, capsys):
    """What the last line says DATA_DIR is to be."""
    assert f"DATA_DIR = {str(out)!r}" in capsys.readouterr().out


# -- ChestMNIST ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size, name, compressed", [(28, "chestmnist.npz", True), (64, "chestmnist_64.npz", False)])
def test_chestmnist(site, monkeypatch, tmp_path, capsys, size, name, compressed):
    content, arrays = npz_of(size=size, compressed=compressed)
    serve(site, monkeypatch, "chestmnist", {name: content})
    out = tmp_path / "chest"
    assert run(site, "chestmnist", "--size", size, "--out", out) == 0
    notebook_folder(out, capsys)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chest = nih.read_chest_folder(out)
    films, table = nih.load_films(chest, size, progress=False)
    order = ("train", "val", "test")
    np.testing.assert_array_equal(films, np.concatenate([arrays[f"{split}_images"] for split in order]))
    np.testing.assert_array_equal(table[list(nih.FINDINGS)], np.concatenate([arrays[f"{split}_labels"] for split in order]))
    assert table["split"].value_counts().to_dict() == {"train_val": 24, "test": 6}
    assert table["Patient ID"].is_unique  # not known, and the note says so
    assert "PATIENTS ARE NOT KNOWN" in (out / download.NOTICE_FILE).read_text()
    assert chest.source == "real patients: chest"
    assert run(site, "chestmnist", "--size", size, "--out", out) == 0 and len(site.requests) == 1  # it is there


def test_members_with_paths_that_lead_out(tmp_path):
    """Neither a zip nor a tar writes anywhere but into the folder."""
    rng = np.random.default_rng(0)
    arrays = {
        f"{s}_{kind}": a
        for s in medmnist.SPLITS
        for kind, a in (("labels", np.zeros((2, 14), np.uint8)), ("images", rng.integers(0, 256, (2, 28, 28), np.uint8)))
    }
    np.savez(tmp_path / "c.npz", **arrays)
    with zipfile.ZipFile(tmp_path / "c.npz", "a") as archive:
        archive.writestr("../../evil.npy", b"x")
    assert medmnist.convert(tmp_path / "c.npz", tmp_path / "a" / "b" / "out", progress=False) == 6
    film = cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes()
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        for name in ("../../00000001_000.png", "/00000002_000.png", "images/00000003_000.png", "../evil.png"):
            info = tarfile.TarInfo(name)
            info.size = len(film)
            tar.addfile(info, io.BytesIO(film))
        link = tarfile.TarInfo("images/00000004_000.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert nih_archive.unpack(tmp_path / "a.tar.gz", tmp_path / "a" / "b" / "nih", progress=False) == 3
    found = sorted(path.name for path in (tmp_path / "a" / "b" / "nih" / "images").iterdir())
    assert found == ["00000001_000.png", "00000002_000.png", "00000003_000.png"]  # inside, whatever the name led to; no link
    assert not list(tmp_path.rglob("evil*"))


# -- NIH ChestX-ray14 ---------------------------------------------------------------------------------------------------


def nih_contents(header_of_2026=False):
    """The simulated folder as NIH publishes it: two archives of films, tables and lists beside them."""
    files = chest_files()
    films = sorted(name for name in files if name.startswith("images/"))
    contents = {name: files[name] for name in (nih.TABLE_FILE, nih.BOX_FILE, "train_val_list.txt", "test_list.txt")}
    if header_of_2026:
        lines = contents[nih.TABLE_FILE].decode().splitlines()
        contents[nih.TABLE_FILE] = "\n".join(line.replace("Patient Gender", "Patient Sex") + "," for line in lines).encode()
    for part in (1, 2):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            folder = tarfile.TarInfo("images")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            for name in films[part - 1 :: 2]:
                info = tarfile.TarInfo(name)
                info.size = len(files[name])
                tar.addfile(info, io.BytesIO(files[name]))
        contents[f"images_{part:03d}.tar.gz"] = buffer.getvalue()
    return contents, films


@pytest.mark.parametrize("header_of_2026", [False, True])
def test_nih(site, monkeypatch, tmp_path, capsys, header_of_2026):
    contents, films = nih_contents(header_of_2026)
    serve(site, monkeypatch, "nih", contents)
    out = tmp_path / "nih"
    assert run(site, "nih", "--parts", 1, 2, "--out", out) == 0
    notebook_folder(out, capsys)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chest = nih.read_chest_folder(out)
    assert sorted(chest.table["Image Index"]) == [Path(name).name for name in films] and len(chest.boxes) > 0
    for name in films:
        assert (out / name).read_bytes() == chest_files()[name]
    if not header_of_2026:
        for name in (nih.TABLE_FILE, "train_val_list.txt", "test_list.txt", nih.BOX_FILE):
            assert (out / name).read_bytes() == contents[name]  # all films are there: the published files, byte for byte
    assert {"Patient Gender", "View Position"} <= set(pd.read_csv(out / nih.TABLE_FILE).columns)
    assert "NIH Clinical Center" in (out / download.NOTICE_FILE).read_text()


def test_nih_one_part_without_boxes(site, monkeypatch, tmp_path, capsys):
    contents, films = nih_contents()
    serve(site, monkeypatch, "nih", {name: content for name, content in contents.items() if name != nih.BOX_FILE})
    out = tmp_path / "nih"
    assert run(site, "nih", "--parts", 1, "--out", out, "--delete-archives") == 0
    assert "Continuing without BBox_List_2017.csv" in capsys.readouterr().out
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(nih.read_chest_folder(out).table) == len(films[::2])
    assert not list(tmp_path.glob("downloads/nih/*.tar.gz"))


def test_nih_interrupted(site, monkeypatch, tmp_path, capsys):
    contents, films = nih_contents()
    serve(site, monkeypatch, "nih", contents)
    out, second = tmp_path / "nih", "/nih/images_002.tar.gz"
    site.faults[second] = [("cut", 1000), *[("status", 500)] * 2]
    assert run(site, "nih", "--parts", 1, 2, "--out", out) == 1
    assert "1 kB have arrived and are kept" in capsys.readouterr().err
    assert not out.exists() and (tmp_path / "nih.partial").exists()
    site.requests.clear()
    assert run(site, "nih", "--parts", 1, 2, "--out", out) == 0
    assert [entry[:2] for entry in site.requests] == [[second, "bytes=1000-"]]
    assert len(nih.read_chest_folder(out).table) == len(films)
    assert run(site, "nih", "--parts", 1, "--out", out) == 1  # another request for the same folder
    assert "holds something else than what was asked for" in capsys.readouterr().err


def test_nih_archive_that_is_damaged(tmp_path):
    content = nih_contents()[0]["images_001.tar.gz"]
    for broken, words in ((content[: len(content) // 2], "damaged or cut off"), (b"no gzip", "damaged or cut off")):
        (tmp_path / "a.tar.gz").write_bytes(broken)
        with pytest.raises(DataError, match=f"a.tar.gz: {words}.*Move it away"):
            nih_archive.unpack(tmp_path / "a.tar.gz", tmp_path / "out", progress=False)
    assert not list((tmp_path / "out").glob(".unpacked*"))


@pytest.mark.parametrize(
    "table, words",
    [
        (b"", "not a table"),
        (b"\xff\xfe\x00binary", "not a table"),
        (
            b"Image Index,Finding Labels,Patient ID\n00000001_000.png,Hernia,1\n",
            "but no Patient Age, Patient Gender, View Position",
        ),
        (b"id,label\n1,2\n", "it has the columns id, label"),
    ],
)
def test_nih_table_with_other_columns(site, monkeypatch, tmp_path, capsys, table, words):
    serve(site, monkeypatch, "nih", nih_contents()[0] | {nih.TABLE_FILE: table})
    assert run(site, "nih", "--parts", 1, "--out", tmp_path / "nih") == 1
    message = capsys.readouterr().err
    assert words in message and f"downloads/nih/{nih.TABLE_FILE}" in message and "Move it away and run again" in message
    assert not (tmp_path / "nih").exists()


# -- Decathlon and BraTS ------------------------------------------------------------------------------------------------


def test_decathlon_whole(site, monkeypatch, tmp_path, capsys):
    serve(site, monkeypatch, "decathlon", {"Task01_BrainTumour.tar": tar_of(task01_members())})
    site.faults["/decathlon/Task01_BrainTumour.tar"] = [("cut", 20_000)]
    out = tmp_path / "brain"
    assert run(site, "decathlon", "--out", out) == 0
    notebook_folder(out, capsys)
    assert [entry[1] for entry in site.requests] == [None, "bytes=20000-"]
    cohort = read_brain(out, strict=True)
    assert len(cohort) == 12 and not (out / "imagesTs").exists() and "CC BY-SA 4.0" in (out / download.NOTICE_FILE).read_text()


def test_decathlon_some_cases(site, monkeypatch, tmp_path, capsys):
    serve(site, monkeypatch, "decathlon", {"Task01_BrainTumour.tar": tar_of(task01_members())})
    out = tmp_path / "brain"
    assert run(site, "decathlon", "--cases", 3, "--out", out) == 0
    assert re.search(r"Index of the tar: \d+ requests", capsys.readouterr().out)
    assert len(read_brain(out, strict=True)) == 3
    assert sorted(path.name for path in out.iterdir()) == [
        "DOWNLOADED.json",
        "LICENCE_AND_CITATION.txt",
        "dataset.json",
        "imagesTr",
        "labelsTr",
    ]
    assert json.loads((out / "DOWNLOADED.json").read_text())["request"] == {"archive": "decathlon", "cases": 3}


def test_decathlon_tar_that_is_cut_off(tmp_path):
    (tmp_path / "t.tar").write_bytes(tar_of(task01_members())[:30_000])
    with pytest.raises(DataError, match="t.tar: damaged or cut off.*Move it away"):
        decathlon_archive.unpack(tmp_path / "t.tar", tmp_path / "out", progress=False)


@pytest.mark.parametrize(
    "parts, enhancing", [(("_flair", "_t1", "_t1ce", "_t2", "_seg"), 4), (("-t2f", "-t1n", "-t1c", "-t2w", "-seg"), 3)]
)
def test_brats(tmp_path, capsys, parts, enhancing):
    import test_decathlon

    source = test_decathlon.brats(tmp_path / "mine", parts=parts, enhancing=enhancing, cases=2)
    assert download.main(["brats", "--from", str(source), "--quiet"]) == 0
    notebook_folder(source.resolve(), capsys)  # read in place
    out = tmp_path / "converted"
    assert download.main(["brats", "--from", str(source), "--out", str(out), "--quiet"]) == 0
    theirs, ours = read_brain(source), read_brain(out, strict=True)
    assert (out / "imagesTr").is_dir() and len(ours) == 2
    for one, other in zip(ours, theirs):
        np.testing.assert_array_equal(one.image(), other.image())
        np.testing.assert_array_equal(one.label(), other.label())
        np.testing.assert_allclose(one.affine, other.affine)
    assert "do not pass it on" in (out / download.NOTICE_FILE).read_text()


def test_brats_with_a_broken_case(tmp_path, capsys):
    import test_decathlon

    source = test_decathlon.brats(tmp_path / "mine", cases=2)
    broken = next(source.rglob("Brats18_X_2_t1.nii.gz"))
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.warns(UserWarning, match="Brats18_X_2 is left out"):
        assert download.main(["brats", "--from", str(source), "--quiet"]) == 1
    assert "1 of 2 cases cannot be used" in capsys.readouterr().err
    with pytest.raises(DataError, match="Brats18_X_2_t1.nii.gz"):
        brats.convert(source, tmp_path / "out", progress=False)


# -- the command --------------------------------------------------------------------------------------------------------


def test_full_disk_is_noticed_before_anything_is_asked_for(site, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "total used free")(10**10, 0, 10**8))
    for arguments in (["chestmnist"], ["nih"], ["decathlon"], ["decathlon", "--cases", 20]):
        assert run(site, *arguments, "--out", tmp_path / "x") == 1
        assert "only 100 MB are free on this disk. Nothing was downloaded" in capsys.readouterr().err
    assert site.requests == [] and list(tmp_path.iterdir()) == []


def test_no_network(tmp_path, capsys):
    assert (
        download.main(
            ["chestmnist", "--size", "28", "--out", str(tmp_path / "x"), "--mirror", "http://127.0.0.1:9", "--quiet"], HASTE
        )
        == 1
    )
    message = capsys.readouterr().err
    assert "DATA_DIR = None" in message and "Traceback" not in message and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["nih", "--cases", "3"], "--cases belongs to decathlon"),
        (["brats"], "needs --from"),
        (["chestmnist", "--size", "32"], "invalid choice"),
        (["decathlon", "--cases", "-1"], "at least 1"),
    ],
)
def test_wrong_options(arguments, words, capsys):
    with pytest.raises(SystemExit):
        download.main(arguments)
    assert words in capsys.readouterr().err


def test_list_and_help():
    """The list names every file with its published sum; both work as commands."""
    command = [sys.executable, "-m", "data.download"]
    listed = subprocess.run(
        [*command, "--list"], cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ).stdout
    for archive in archives.ARCHIVES.values():
        assert all(file.name in listed and (file.md5 or "not published") in listed for file in archive.files)


def test_published_lists_are_consistent():
    for archive in archives.ARCHIVES.values():
        assert archive.licence and archive.citation and archive.page.startswith("http")
        for file in archive.files:
            assert file.confirmed and file.bytes > 0
            assert file.md5 is None or re.fullmatch("[0-9a-f]{32}", file.md5)
            assert file.url is None or file.url.startswith("https://")
    sums = [file.md5 for archive in archives.ARCHIVES.values() for file in archive.files if file.md5]
    assert len(sums) == len(set(sums)) == 4 + 12 + 1
    assert sum(archives.CHESTMNIST_FILMS.values()) == 112_120
    assert 44e9 < sum(file.bytes for file in archives.NIH.files) < 46e9
