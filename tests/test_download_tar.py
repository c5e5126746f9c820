"""Members of a tar on a server: the index, how many requests it takes, and fetching some cases out of it."""

import io
import json
import tarfile

import numpy as np
import pytest
from download_server import tar_of, task01_members

from data.decathlon import read_brain
from data.download import decathlon as decathlon_archive
from data.download import remote_tar
from data.download.decathlon import choose, fetch_cases
from data.download.fetch import Patience
from data.download.remote_tar import RemoteTar
from data.errors import DataError

HASTE = Patience(tries=3, pause=0.0, timeout=(2, 0.5))
TAR = "/decathlon/Task01_BrainTumour.tar"


class Virtual:
    """A tar of any length of which only the headers exist, and the `contents` of some members; all else is zeros."""

    def __init__(self, sizes: dict[str, int]):
        self.headers, self.contents, self.places, place = {}, {}, {}, 0
        for name, size in sizes.items():
            for member, length in ((f"{name.rpartition('/')[0]}/._{name.rpartition('/')[2]}", 163), (name, size)):
                info = tarfile.TarInfo(member)
                info.size = length
                self.headers[place] = info.tobuf(tarfile.USTAR_FORMAT)
                self.places[member] = (place + 512, length)
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
        for name, text in self.contents.items():
            offset, size = self.places[name]
            text = text.ljust(size)  # as JSON, blanks at its end are nothing
            for place in range(max(offset, span.start), min(offset + size, span.stop)):
                content[place - span.start] = text[place - offset]
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


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("window", [2**14, 2**15, 2**20])
def test_last_members_are_those_of_tarfile(site, monkeypatch, form, window):
    """Small members behind large ones, long names among them, and bytes inside a member that look like a header."""
    monkeypatch.setattr(remote_tar, "_END_WINDOW", window)
    monkeypatch.setattr(remote_tar, "_SMALL_MEMBER", 2**13)
    lure = tarfile.TarInfo("Task01_BrainTumour/labelsTr/lure.nii.gz")
    lure.size = 1024
    long = "x" * (30 if form == tarfile.USTAR_FORMAT else 130)
    small = {f"Task01_BrainTumour/labelsTr/{long}_{n}.nii.gz": bytes([n]) * 700 * n for n in range(1, 9)}
    small["Task01_BrainTumour/labelsTr/z.nii.gz"] = bytes(1024) + lure.tobuf() + bytes(512)
    small["Task01_BrainTumour/labelsTr/zz.nii.gz"] = lure.tobuf()  # as if the lure's content were the end of the tar
    site.files[TAR] = tar_of(
        {"Task01_BrainTumour/imagesTr/a.nii.gz": b"a" * 60_000, "Task01_BrainTumour/imagesTr/b.nii.gz": b"b" * 50_000} | small, form
    )
    tar = RemoteTar(site.url + TAR, patience=HASTE)
    first, members = tar.last_members()
    with tarfile.open(fileobj=io.BytesIO(site.files[TAR])) as reference:
        theirs = [(member.name, member.offset_data, member.size) for member in reference if member.isreg()]
    ours = [(member.name, member.offset, member.size) for member in members]
    assert ours == theirs[-2 * len(small) :]  # each with its ._ double, and nothing of the large ones
    assert first <= members[0].offset and all(tar.holds(member) for member in members)
    requests = tar.requests
    assert (
        all(tar.bytes_of(member) == small[member.name] for member in members if member.name in small) and tar.requests == requests
    )
    assert [(member.name, member.offset, member.size) for member in tar.members()] == theirs  # the walk from the start is as before


@pytest.mark.parametrize("end", [-10240, -10240 - 300, 70_000])
def test_no_last_members_in_a_tar_that_is_cut_off(site, end):
    site.files[TAR] = tar_of({"Task01_BrainTumour/a.nii.gz": b"a" * 100_000, "Task01_BrainTumour/b.nii.gz": b"end" * 5000})[:end]
    tar = RemoteTar(site.url + TAR, patience=HASTE)
    assert tar.last_members() == (len(site.files[TAR]), []) or end == -10240
    with pytest.raises(DataError, match="cut off"):
        list(tar.members())


def sparse_member(form):
    """A member of which only the parts that are not zero are stored, as GNU tar --sparse writes it."""
    info = tarfile.TarInfo("Task01_BrainTumour/imagesTr/BRATS_001.nii.gz")
    info.size = 512
    if form == tarfile.GNU_FORMAT:
        info.type = tarfile.GNUTYPE_SPARSE
    else:
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": info.name,
            "GNU.sparse.realsize": "99999",
        }
    return info.tobuf(form) + bytes(512)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_sparse_members_are_refused(site, form):
    site.files[TAR] = sparse_member(form) + bytes(10240)
    with pytest.raises(DataError, match="stored sparse.*Download the whole archive"):
        list(RemoteTar(site.url + TAR, patience=HASTE).members())


def test_negative_size_ends_the_walk(site):
    header = bytearray(tarfile.TarInfo("Task01_BrainTumour/a.nii.gz").tobuf())
    header[124:136] = b"\xff" * 12  # base 256: -1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    site.files[TAR] = bytes(header) + bytes(10240)
    with pytest.raises(DataError, match="header at byte 0 is damaged .size -1"):
        list(RemoteTar(site.url + TAR, patience=HASTE).members())


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


def test_number_of_requests_of_the_whole_index(site, measured):
    """One request for each member that is larger than the window, next to none for the others."""
    site.files[TAR] = published_layout(("dataset.json", "imagesTr", "imagesTs", "labelsTr"))
    tar = RemoteTar(site.url + TAR, patience=HASTE)
    members = [member for member in tar.members() if "/._" not in member.name]
    large = sum(member.size > 2**20 for member in members)
    assert len(members) == 484 * 2 + 266 + 1 and large == 750
    assert large <= tar.requests <= large + 20
    assert tar.received < 60e6
    measured.append(
        f"Whole index of a simulated tar laid out as Task01 ({len(site.files[TAR]) / 1e9:.1f} GB, {2 * len(members)} members): "
        f"{tar.requests} requests, {tar.received / 1e6:.1f} MB"
    )


@pytest.mark.parametrize(
    "order, spread, most",
    [
        (("dataset.json", "imagesTr", "imagesTs", "labelsTr"), False, 26),  # 20 images; 5 for the masks at the end
        (("imagesTr", "labelsTr", "dataset.json", "imagesTs"), False, 500),  # the masks lie between images: 484 of them to pass
        (("labelsTr", "imagesTs", "imagesTr", "dataset.json"), False, 300),  # 266 images without masks to pass
        (("dataset.json", "labelsTr", "imagesTr", "imagesTs"), False, 30),
        (("dataset.json", "imagesTr", "imagesTs", "labelsTr"), True, 492),  # to the last image
    ],
)
def test_number_of_requests_for_twenty_cases(site, tmp_path, order, spread, most, measured):
    """Index of a tar of 7 GB, in the layouts that come into question: which one the publisher's tar has could not be found out."""
    site.files[TAR] = layout = published_layout(order)
    layout.contents["Task01_BrainTumour/dataset.json"] = json.dumps(
        {
            "training": [
                {part: f"./{folder}/BRATS_{n:03d}.nii.gz" for part, folder in (("image", "imagesTr"), ("label", "labelsTr"))}
                for n in range(1, 485)
            ]
        }
    ).encode()
    tar, members = decathlon_archive._walk(site.url + TAR, tmp_path, 20, spread, False, HASTE)
    chosen = choose(json.loads(layout.contents["Task01_BrainTumour/dataset.json"])["training"], 20, None if spread else members)
    assert len({entry["image"] for entry in chosen}) == 20
    for entry in chosen:
        for path in entry.values():
            member = members[path.removeprefix("./")]
            assert (member.offset, member.size) == layout.places["Task01_BrainTumour" + path[1:]]
    assert tar.requests <= most and tar.requests == len(site.requests)
    measured.append(
        f"Index for 20 cases, {' '.join(order)}{', spread' * spread}: {tar.requests} requests, {tar.received / 1e6:.1f} MB"
    )


def test_requests_survive_a_bad_connection(site):
    site.files[TAR] = tar_of({"Task01_BrainTumour/a.nii.gz": bytes(100_000), "Task01_BrainTumour/b.nii.gz": b"end"})
    site.faults[TAR] = [("cut", 100), ("status", 503), None, ("reset", 5), None]
    members = list(RemoteTar(site.url + TAR, patience=HASTE).members())
    assert [member.name for member in members if "/._" not in member.name] == [
        "Task01_BrainTumour/a.nii.gz",
        "Task01_BrainTumour/b.nii.gz",
    ]


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
def scans(monkeypatch):
    """Members of a small Task01: twelve numbers, three simulated patients; what counts as small is smaller too."""
    for name, size in (("_END_WINDOW", 2**14), ("_SMALL_MEMBER", 2**12)):
        monkeypatch.setattr(remote_tar, name, size)
    return dict(task01_members())


@pytest.mark.parametrize(
    "spread, names",
    [(False, ["BRATS_001", "BRATS_002", "BRATS_003", "BRATS_004"]), (True, ["BRATS_001", "BRATS_005", "BRATS_008", "BRATS_012"])],
)
def test_some_cases_become_a_decathlon_folder(site, scans, tmp_path, spread, names):
    site.files[TAR] = tar_of(scans)
    tar = fetch_cases(site.url + TAR, tmp_path, 4, spread=spread, progress=False, patience=HASTE)
    cohort = read_brain(tmp_path, strict=True)
    assert [case.name for case in cohort] == names
    for name in (f"imagesTr/{names[1]}.nii.gz", f"labelsTr/{names[3]}.nii.gz"):
        assert (tmp_path / name).read_bytes() == scans[f"Task01_BrainTumour/{name}"]
    index = json.loads((tmp_path / "dataset.json").read_text())
    assert index["numTraining"] == len(index["training"]) == 4 and index["modality"]["2"].lower() == "t1gd"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.json", "imagesTr", "labelsTr"]
    assert sum(len(list(folder.iterdir())) for folder in tmp_path.glob("*Tr")) == 8
    assert len(site.requests) == tar.requests + 4  # the masks have come along with the index
    assert fetch_cases(site.url + TAR, tmp_path / "all", 99, progress=False, patience=HASTE)
    assert len(read_brain(tmp_path / "all", strict=True)) == 12


def test_interrupted_calls_go_on(site, scans, tmp_path):
    site.files[TAR] = tar_of(scans)
    site.faults[TAR] = [*[None] * 4, *[("status", 500)] * 3]  # size, two for the end, one header; then nothing more
    with pytest.raises(DataError, match="500.*while the archive's index was read"):
        fetch_cases(site.url + TAR, tmp_path / "c", 3, progress=False, patience=HASTE)
    first = [entry[1] for entry in site.requests[:4]]
    site.faults[TAR] = [*[None] * 2, ("cut", 100), *[("status", 500)] * 2]  # the rest of the index, one file, and some of the next
    site.requests.clear()
    with pytest.raises(DataError, match="500.*100 bytes have arrived and are kept"):
        fetch_cases(site.url + TAR, tmp_path / "c", 3, progress=False, patience=HASTE)
    assert not {entry[1] for entry in site.requests} & set(first)  # nothing of the index was asked for twice
    site.requests.clear()
    tar = fetch_cases(site.url + TAR, tmp_path / "c", 3, progress=False, patience=HASTE)
    assert tar.requests == 0 and len(site.requests) == 5  # the index is known, one file of six too
    member = scans["Task01_BrainTumour/labelsTr/BRATS_001.nii.gz"]
    assert site.requests[0][2] == len(member) - 100
    assert len(read_brain(tmp_path / "c", strict=True)) == 3


def test_a_corrupted_member_is_noticed_and_only_it_is_fetched_again(site, scans, tmp_path):
    damaged = dict(scans)
    name = "Task01_BrainTumour/labelsTr/BRATS_002.nii.gz"
    content = bytearray(damaged[name])
    content[len(content) // 2] ^= 0xFF
    site.files[TAR] = tar_of(damaged | {name: bytes(content)})
    with pytest.raises(DataError, match="BRATS_002.nii.gz: damaged.*only this file is fetched anew"):
        fetch_cases(site.url + TAR, tmp_path, 2, progress=False, patience=HASTE)
    assert not (tmp_path / "labelsTr/BRATS_002.nii.gz").exists() and not (tmp_path / "dataset.json").exists()
    site.etag = True
    site.requests.clear()
    site.files[TAR] = tar_of(scans)
    fetch_cases(site.url + TAR, tmp_path, 2, progress=False, patience=HASTE)
    assert len(site.requests) == 1 and len(read_brain(tmp_path, strict=True)) == 2


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda members: members.pop("Task01_BrainTumour/labelsTr/BRATS_001.nii.gz"),
            "lists labelsTr/BRATS_001.nii.gz, but the tar has no",
        ),
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
        fetch_cases(site.url + TAR, tmp_path, 3, spread=True, progress=False, patience=HASTE)


def test_server_without_ranges(site, scans, tmp_path):
    site.files[TAR], site.ranges = tar_of(scans), False
    with pytest.raises(DataError, match="does not send parts of a file. Download the whole archive"):
        fetch_cases(site.url + TAR, tmp_path, 3, progress=False, patience=HASTE)


def test_changed_tar_starts_a_new_index(site, scans, tmp_path):
    site.files[TAR] = tar_of(scans)
    site.faults[TAR] = [*[None] * 4, *[("status", 500)] * 3]
    with pytest.raises(DataError):
        fetch_cases(site.url + TAR, tmp_path, 3, progress=False, patience=HASTE)
    site.files[TAR] = tar_of(dict(reversed(scans.items())))
    with pytest.raises(DataError, match="changed since its index was begun. Run again"):
        fetch_cases(site.url + TAR, tmp_path, 3, progress=False, patience=HASTE)
    fetch_cases(site.url + TAR, tmp_path, 3, progress=False, patience=HASTE)
    assert len(read_brain(tmp_path, strict=True)) == 3


@pytest.mark.parametrize(
    "name",
    [
        "Task01_BrainTumour/imagesTs/BRATS_485.nii.gz",
        "Task01_BrainTumour/imagesTr/._BRATS_001.nii.gz",
        "Task01_BrainTumour/._dataset.json",
        "Task01_BrainTumour/imagesTr/..\\..\\b.nii.gz",
        "/etc/imagesTr/b.nii.gz",
        "C:imagesTr/../b.nii.gz",
        "../dataset.json.x",
        "Task01_BrainTumour/imagesTr/a/../b.nii.gz",
    ],
)
def test_members_that_are_not_laid_out(name):
    assert decathlon_archive.inside(name) is None
