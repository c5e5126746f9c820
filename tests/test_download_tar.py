"""Members of a tar on a server: the index, how many requests it takes, and fetching some cases out of it."""

import io
import json
import tarfile

import numpy as np
import pytest
from download_server import Site, start, tar_of, task01_members

from data import decathlon_archive
from data.decathlon import read_brain
from data.decathlon_archive import fetch_cases
from data.errors import DataError
from data.fetch import Patience
from data.remote_tar import RemoteTar

HASTE = Patience(tries=3, pause=0.0, timeout=(2, 0.5))
TAR = "/decathlon/Task01_BrainTumour.tar"


@pytest.fixture
def site():
    site = Site()
    server = start(site)
    yield site
    server.shutdown()
    server.server_close()


class Virtual:
    """A tar of any length of which only the headers exist."""

    def __init__(self, sizes: dict[str, int]):
        self.headers, place = {}, 0
        for name, size in sizes.items():
            for member, length in ((f"{name.rpartition('/')[0]}/._{name.rpartition('/')[2]}", 163), (name, size)):
                info = tarfile.TarInfo(member)
                info.size = length
                self.headers[place] = info.tobuf(tarfile.USTAR_FORMAT)
                place += 512 + -(-length // 512) * 512
        self.length = place + 10240

    def __len__(self):
        return self.length

    def __getitem__(self, span):
        content = bytearray(span.stop - span.start)
        for place in range(span.start // 512 * 512, span.stop, 512):
            if place in self.headers and place >= span.start:
                part = self.headers[place][: span.stop - place]
                content[place - span.start : place - span.start + len(part)] = part
        return bytes(content)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_index_is_that_of_tarfile(site, form):
    rng = np.random.default_rng(1)
    names = ["Task01_BrainTumour/dataset.json", *(f"Task01_BrainTumour/imagesTr/{'x' * (n * 30)}_{n:03d}.nii.gz" for n in range(6))]
    members = {name: rng.bytes(int(rng.integers(0, 40_000))) for name in names if form != tarfile.USTAR_FORMAT or len(name) < 90}
    site.files[TAR] = tar_of(members, form)
    tar = RemoteTar(site.url + TAR, patience=HASTE)
    ours = {member.name: (member.offset, member.size) for member in tar.members()}
    with tarfile.open(fileobj=io.BytesIO(site.files[TAR])) as reference:
        theirs = {member.name: (member.offset_data, member.size) for member in reference if member.isreg()}
    assert ours == theirs and set(members) <= set(ours)
    assert tar.requests == len(site.requests) and tar.total == len(site.files[TAR])


def published_layout(order: tuple[str, ...]) -> Virtual:
    """As many members as Task01 has, of about its sizes: 484 + 266 images of some MB, 484 masks of some ten kB."""
    rng = np.random.default_rng(2)
    numbers = {"imagesTr": range(1, 485), "imagesTs": range(485, 751), "labelsTr": range(1, 485)}
    sizes = {}
    for part in order:
        if part == "dataset.json":
            sizes[f"Task01_BrainTumour/{part}"] = 60_000
        for number in numbers.get(part, ()):
            size = rng.integers(15_000, 90_000) if part == "labelsTr" else rng.integers(7_000_000, 12_000_000)
            sizes[f"Task01_BrainTumour/{part}/BRATS_{number:03d}.nii.gz"] = int(size)
    return Virtual(sizes)


@pytest.mark.parametrize(
    "order", [("dataset.json", "imagesTr", "imagesTs", "labelsTr"), ("labelsTr", "imagesTs", "imagesTr", "dataset.json")], ids=["a", "b"]
)
def test_number_of_requests(site, order, measured):
    """One request for each member that is larger than the window, next to none for the others."""
    site.files[TAR] = published_layout(order)
    tar = RemoteTar(site.url + TAR, patience=HASTE)
    members = [member for member in tar.members() if "/._" not in member.name]
    large = sum(member.size > 2**20 for member in members)
    assert len(members) == 484 * 2 + 266 + 1 and large == 750
    assert large <= tar.requests <= large + 20
    assert tar.received < 60e6
    measured.append(
        f"Index of a tar laid out as Task01 ({len(site.files[TAR]) / 1e9:.1f} GB, {2 * len(members)} members): {tar.requests} requests, "
        f"{tar.received / 1e6:.1f} MB"
    )


def test_requests_survive_a_bad_connection(site):
    site.files[TAR] = tar_of({"Task01_BrainTumour/a.nii.gz": bytes(100_000), "Task01_BrainTumour/b.nii.gz": b"end"})
    site.faults[TAR] = [("cut", 100), ("status", 503), None, ("reset", 5), None]
    members = list(RemoteTar(site.url + TAR, patience=HASTE).members())
    assert [member.name for member in members if "/._" not in member.name] == ["Task01_BrainTumour/a.nii.gz", "Task01_BrainTumour/b.nii.gz"]


@pytest.mark.parametrize(
    "broken, message",
    [
        (lambda content: content[:1500], "cut off"),
        (lambda content: b"\x1f\x8b" + content[2:], "no tar header at byte 0"),
        (lambda content: b"not a tar" * 1000, "no tar header at byte 0"),
    ],
)
def test_what_is_no_tar(site, broken, message):
    site.files[TAR] = broken(tar_of({"Task01_BrainTumour/a.nii.gz": bytes(100_000)}))
    with pytest.raises(DataError, match=message):
        list(RemoteTar(site.url + TAR, patience=HASTE).members())


def test_tar_that_changes_under_way(site):
    site.files[TAR] = tar_of({"Task01_BrainTumour/a.nii.gz": bytes(100_000), "Task01_BrainTumour/b.nii.gz": b"end"})
    walk = RemoteTar(site.url + TAR, patience=HASTE).members()
    next(walk), next(walk)
    site.files[TAR] = tar_of({"Task01_BrainTumour/c.nii.gz": bytes(200_000)})
    with pytest.raises(DataError, match="has changed since its index was begun. Run again"):
        list(walk)


# Some cases of a Decathlon tar made of simulated scans


@pytest.fixture
def scans():
    """Members of a small Task01: twelve numbers, three simulated patients."""
    return dict(task01_members())


def test_some_cases_become_a_decathlon_folder(site, scans, tmp_path):
    site.files[TAR] = tar_of(scans)
    tar = fetch_cases(site.url + TAR, tmp_path, 4, progress=False, patience=HASTE)
    cohort = read_brain(tmp_path, strict=True)
    assert [case.name for case in cohort] == ["BRATS_001", "BRATS_005", "BRATS_008", "BRATS_012"]
    for name in ("imagesTr/BRATS_005.nii.gz", "labelsTr/BRATS_012.nii.gz"):
        assert (tmp_path / name).read_bytes() == scans[f"Task01_BrainTumour/{name}"]
    index = json.loads((tmp_path / "dataset.json").read_text())
    assert index["numTraining"] == len(index["training"]) == 4 and index["modality"]["2"].lower() == "t1gd"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.json", "imagesTr", "labelsTr"]
    assert sum(len(list(folder.iterdir())) for folder in tmp_path.glob("*Tr")) == 8
    assert len(site.requests) == tar.requests + 8
    assert fetch_cases(site.url + TAR, tmp_path / "all", 99, progress=False, patience=HASTE)
    assert len(read_brain(tmp_path / "all", strict=True)) == 12


def test_interrupted_calls_go_on(site, scans, tmp_path):
    site.files[TAR] = tar_of(scans)
    site.faults[TAR] = [None, *[("status", 500)] * 3]  # the index stops at its second request
    with pytest.raises(DataError, match="500.*while the archive's index was read"):
        fetch_cases(site.url + TAR, tmp_path / "c", 3, progress=False, patience=HASTE)
    decathlon_archive._walk(site.url + TAR, tmp_path / "c", 3, False, HASTE)  # the next call finishes it
    site.faults[TAR] = [None, ("cut", 100), *[("status", 500)] * 2]  # then the second file
    with pytest.raises(DataError, match="500.*100 bytes have arrived and are kept"):
        fetch_cases(site.url + TAR, tmp_path / "c", 3, progress=False, patience=HASTE)
    site.requests.clear()
    tar = fetch_cases(site.url + TAR, tmp_path / "c", 3, progress=False, patience=HASTE)
    assert tar.requests == 0 and len(site.requests) == 5  # the index is known, one file of six too
    member = scans["Task01_BrainTumour/labelsTr/BRATS_001.nii.gz"]
    assert site.requests[0][2] == len(member) - 100
    assert len(read_brain(tmp_path / "c", strict=True)) == 3


def test_a_corrupted_member_is_noticed_and_only_it_is_fetched_again(site, scans, tmp_path):
    damaged = dict(scans)
    name = "Task01_BrainTumour/labelsTr/BRATS_012.nii.gz"
    content = bytearray(damaged[name])
    content[len(content) // 2] ^= 0xFF
    site.files[TAR] = tar_of(damaged | {name: bytes(content)})
    with pytest.raises(DataError, match="BRATS_012.nii.gz: damaged.*only this file is fetched anew"):
        fetch_cases(site.url + TAR, tmp_path, 2, progress=False, patience=HASTE)
    assert not (tmp_path / "labelsTr/BRATS_012.nii.gz").exists() and not (tmp_path / "dataset.json").exists()
    site.etag = True
    site.requests.clear()
    site.files[TAR] = tar_of(scans)
    fetch_cases(site.url + TAR, tmp_path, 2, progress=False, patience=HASTE)
    assert len(site.requests) == 1 and len(read_brain(tmp_path, strict=True)) == 2


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda members: members.pop("Task01_BrainTumour/labelsTr/BRATS_001.nii.gz"), "lists labelsTr/BRATS_001.nii.gz, but the tar has no"),
        (lambda members: members.pop("Task01_BrainTumour/dataset.json"), "no dataset.json"),
        (lambda members: members.update({"Task01_BrainTumour/dataset.json": b"{"}), "not a Decathlon index"),
        (
            lambda members: members.update(
                {"Task01_BrainTumour/dataset.json": b'{"training": [{"image": "../../x.nii.gz", "label": "labelsTr/a.nii.gz"}]}'}
            ),
            "is not a path such as",
        ),
    ],
)
def test_tar_that_is_not_task01(site, scans, tmp_path, change, message):
    members = dict(scans)
    change(members)
    site.files[TAR] = tar_of(members)
    with pytest.raises(DataError, match=message):
        fetch_cases(site.url + TAR, tmp_path, 3, progress=False, patience=HASTE)


def test_server_without_ranges(site, scans, tmp_path):
    site.files[TAR], site.ranges = tar_of(scans), False
    with pytest.raises(DataError, match="does not send parts of a file. Download the whole archive"):
        fetch_cases(site.url + TAR, tmp_path, 3, progress=False, patience=HASTE)


def test_changed_tar_starts_a_new_index(site, scans, tmp_path):
    site.files[TAR] = tar_of(scans)
    site.faults[TAR] = [None, *[("status", 500)] * 3]
    with pytest.raises(DataError):
        fetch_cases(site.url + TAR, tmp_path, 3, progress=False, patience=HASTE)
    site.files[TAR] = tar_of(dict(reversed(scans.items())))
    with pytest.raises(DataError, match="changed since its index was begun. Run again"):
        fetch_cases(site.url + TAR, tmp_path, 3, progress=False, patience=HASTE)
    fetch_cases(site.url + TAR, tmp_path, 3, progress=False, patience=HASTE)
    assert len(read_brain(tmp_path, strict=True)) == 3


@pytest.mark.parametrize("name", ["Task01_BrainTumour/imagesTs/BRATS_485.nii.gz", "Task01_BrainTumour/imagesTr/._BRATS_001.nii.gz",
                                  "Task01_BrainTumour/._dataset.json", "../dataset.json.x", "Task01_BrainTumour/imagesTr/a/../b.nii.gz"])  # fmt: skip
def test_members_that_are_not_laid_out(name):
    assert decathlon_archive.inside(name) is None
