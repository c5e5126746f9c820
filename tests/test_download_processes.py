"""`make data` as a person calls it: processes of their own, killed, two at once, without a network."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from download_server import publish, tar_of, task01_members
from test_download import nih_contents
from test_medmnist import npz_of

from data.decathlon import read_brain
from data.download.archives import ARCHIVES
from data.download.command import NOTICE_FILE
from data.nih import load_films, read_chest_folder
from tools.lesson import ROOT


def contents(key: str) -> dict[str, bytes]:
    """Simulated files under the names that the publisher gives them."""
    if key == "chestmnist":
        return {"chestmnist_64.npz": npz_of(films=20, size=64)[0], "chestmnist.npz": npz_of(films=300)[0]}
    return {"Task01_BrainTumour.tar": tar_of(task01_members())} if key == "decathlon" else nih_contents()[0]


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "data.download", *map(str, arguments)]


def data_dir(stdout: str) -> Path:
    """The folder that the last lines tell a person to set."""
    [line] = [line.strip() for line in stdout.splitlines() if line.strip().startswith("DATA_DIR = ")]
    return Path(eval(line.removeprefix("DATA_DIR = ")))


@pytest.mark.parametrize(
    "key, options, members",
    [
        ("chestmnist", "--size 64", 20),
        ("nih", "--parts 1 2", None),
        ("decathlon", "", 12),
        ("decathlon", "--cases 3", 3),
        ("decathlon", "--cases 3 --spread", 3),
    ],
)
def test_make_data(site, tmp_path, key, options, members):
    env = publish(site, key, contents(key), tmp_path)
    out = tmp_path / "with a blank" / "real"
    make = ["make", "-o", ".venv/.installed", "data", f"PYTHON={sys.executable}", f"ARCHIVE={key} {options} --out '{out}'"]
    done = subprocess.run(make, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert data_dir(done.stdout) == out and ARCHIVES[key].licence.splitlines()[0] in done.stdout
    assert ARCHIVES[key].citation in (out / NOTICE_FILE).read_text()
    if key == "decathlon":
        cohort = read_brain(data_dir(done.stdout), strict=True)
        assert len(cohort) == members and cohort[0].image().shape[-1] == 4
    else:
        chest = read_chest_folder(data_dir(done.stdout))
        assert members in (None, len(chest.table)) and len(load_films(chest, 32, progress=False)[0]) == len(chest.table)


def test_make_data_for_brats(tmp_path):
    import test_decathlon

    source, out = test_decathlon.brats(tmp_path / "mine", cases=2), tmp_path / "out"
    make = ["make", "-o", ".venv/.installed", "data", f"PYTHON={sys.executable}", f"ARCHIVE=brats --from {source} --out {out}"]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(read_brain(data_dir(done.stdout), strict=True)) == 2


def wait_for(condition, what: str) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


def test_killed_in_the_middle(site, tmp_path):
    """SIGKILL, so that nothing can tidy up: the next call asks for the bytes that are missing, and for no other."""
    env = publish(site, "chestmnist", contents("chestmnist"), tmp_path)
    call = command("chestmnist", "--size", 28, "--out", tmp_path / "x")
    partial = tmp_path / "downloads" / "chestmnist" / "chestmnist.npz.partial"
    site.block, site.delay = 2000, 0.2
    with subprocess.Popen(call, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: partial.exists() and partial.stat().st_size > 20_000, "the first bytes")
        process.send_signal(signal.SIGKILL)
    arrived, whole = partial.stat().st_size, site.files["/chestmnist/chestmnist.npz"]
    assert 20_000 < arrived < len(whole) and partial.read_bytes() == whole[:arrived] and not (tmp_path / "x").exists()
    site.requests.clear()
    site.delay = 0
    done = subprocess.run(call, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [entry[1:] for entry in site.requests] == [[f"bytes={arrived}-", len(whole) - arrived]]
    assert len(read_chest_folder(tmp_path / "x").table) == 300


def test_two_at_once(site, tmp_path):
    """The second one says so and goes; the first one is not disturbed."""
    env = publish(site, "chestmnist", contents("chestmnist"), tmp_path)
    call = command("chestmnist", "--size", 28, "--out", tmp_path / "x")
    site.block, site.delay = 2000, 0.5  # a minute, if nobody stops it
    with subprocess.Popen(call, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        wait_for(lambda: site.requests, "the first call")
        second = subprocess.run(call, cwd=ROOT, env=env, capture_output=True, text=True)
        assert second.returncode == 1 and "another process is downloading chestmnist here. Wait for it to finish" in second.stderr
        site.delay = 0
        assert first.wait(60) == 0, first.stderr.read()
    assert len(site.requests) == 1 and len(read_chest_folder(tmp_path / "x").table) == 300


@pytest.mark.parametrize("arguments", [("chestmnist",), ("nih", "--parts", 1), ("decathlon", "--cases", 2)])
def test_without_a_network(tmp_path, arguments):
    """A server's name that nobody knows: one sentence, at once, and what to do instead."""
    env = os.environ | {"NO_PROXY": "*", "no_proxy": "*", "COURSE_MIRROR": "http://nowhere.invalid"}
    before = time.monotonic()
    done = subprocess.run(command(*arguments, "--out", tmp_path / "x"), cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr and not (tmp_path / "x").exists()
    assert "nowhere.invalid: no network, or the server's name is not known" in done.stderr and "DATA_DIR = None" in done.stderr
    assert time.monotonic() - before < 10
