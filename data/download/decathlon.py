"""Lays out Task01_BrainTumour of the Medical Segmentation Decathlon: the whole tar, or some cases out of it.

The training part is laid out (images with masks); the 266 test images have no masks and are left in the tar.
"""

import gzip
import json
import re
import tarfile
import zlib
from dataclasses import astuple
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm.auto import tqdm

from data.decathlon import read_brain
from data.download.fetch import OPTION, Patience, require_space, resume
from data.download.remote_tar import Member, RemoteTar
from data.errors import DataError
from data.storage import actionable_disk_errors, atomic_file

_WANTED = re.compile(r"(?:\./)?(?:[^/]+/)?((?:imagesTr|labelsTr)/[^/\\:.][^/\\:]*\.nii(?:\.gz)?|dataset\.json)")


def inside(name: str) -> str | None:
    """Path in the laid-out folder of a member of the tar; None for what is not needed (test images, ``._`` doubles)."""
    match = _WANTED.fullmatch(name)
    return match[1] if match else None


def unpack(archive: Path, folder: Path, *, progress: bool = True) -> None:
    """Unpack the training part of the whole tar; an interrupted call resumes.

    Raises
    ------
    DataError
        When the tar is cut off, or lacks a file that its ``dataset.json`` lists.
    """
    try:
        with (
            tarfile.open(archive, "r:") as tar,
            tqdm(
                total=archive.stat().st_size, desc=f"unpacking {archive.name}", unit="B", unit_scale=True, disable=not progress
            ) as bar,
        ):
            for member in tar:
                bar.update(max(0, member.offset_data - bar.n))
                name = inside(member.name)
                target = folder / (name or "")
                if not name or not member.isreg() or (target.is_file() and target.stat().st_size == member.size):
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with atomic_file(target) as temporary, temporary.open("wb") as output:
                    source, left = tar.extractfile(member), member.size
                    while block := source.read(2**20):
                        output.write(block)
                        left -= len(block)
                    if left:
                        raise tarfile.ReadError(f"{member.name} ends {left:,} bytes too early")
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive}: damaged or cut off ({error}). Move it away and run again to download it anew.") from error
    index = _index(folder / "dataset.json", f"{archive}")
    _write_index(folder, index, index["training"])
    read_brain(folder, strict=True)  # headers and lengths; the voxels are those of the tar, whose MD5 has been compared


def fetch_cases(
    url: str, folder: Path, cases: int, *, spread: bool = False, progress: bool = True, patience: Patience = Patience()
) -> RemoteTar:
    """Fetch images and masks of some cases out of the tar on the server.

    Parameters
    ----------
    url : str
    folder : Path
        What is there of an interrupted call is used: index, whole files, and the part of the file that was under way.
    cases : int
        How many; all where there are fewer.
    spread : bool
        Take them evenly spread over the archive's list, for which the tar's headers have to be walked from its first image to
        its last; otherwise those whose images stand first in the tar, which takes the fewest requests.

    Returns
    -------
    RemoteTar
        With the number of `requests` that the index took.

    Raises
    ------
    DataError
        When the server has no ranges, the tar lacks what its ``dataset.json`` lists, or a file is damaged.
    """
    tar, members = _walk(url, folder, cases, spread, progress, patience)
    index = _index(folder / _PUBLISHED, url)
    chosen = choose(index["training"], cases, None if spread else members)
    wanted = [_clean(entry[part]) for entry in chosen for part in ("image", "label")]
    absent = [name for name in wanted if name not in members]
    if absent:
        raise DataError(f"{url}: dataset.json lists {absent[0]}, but the tar has no such member. Download the whole archive.")
    missing = [name for name in wanted if not (folder / name).exists()]
    require_space(folder, sum(members[name].size for name in missing), f"{len(chosen)} cases")
    total = sum(members[name].size for name in missing)
    with tqdm(total=total, desc=f"{len(chosen)} cases", unit="B", unit_scale=True, disable=not progress) as bar:
        for name in missing:
            _fetch_member(tar, members[name], folder / name, patience)
            bar.update(members[name].size)
    _write_index(folder, index, chosen)
    check(folder, progress=progress)
    (folder / _INDEX).unlink()
    (folder / _PUBLISHED).unlink()
    return tar


def _fetch_member(tar: RemoteTar, member: Member, target: Path, patience: Patience) -> None:
    """Fetch one file of a case; it gets its name when its own checksum has been compared."""
    partial = target.with_name(target.name + ".partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    if tar.holds(member):
        with actionable_disk_errors(partial, OPTION):
            partial.write_bytes(tar.bytes_of(member))
    else:
        resume(
            tar.url,
            partial,
            first=member.offset,
            length=member.size,
            size=tar.total,
            validator=tar.validator,
            label=target.name,
            progress=False,
            patience=patience,
        )
    try:
        check_gzip(partial, target.name)
    except DataError:
        partial.unlink()  # of no use: the next call fetches it anew
        raise
    with actionable_disk_errors(target, OPTION):
        partial.rename(target)
        partial.with_name(partial.name + ".json").unlink(missing_ok=True)


def choose(training: list[dict], cases: int, members: dict[str, Member] | None = None) -> list[dict]:
    """`cases` entries of a list: evenly spread over it, or those whose images stand first in the tar.

    Parameters
    ----------
    training : list of dict
        Entries "image" and "label" of ``dataset.json``.
    cases : int
        All where there are fewer.
    members : dict of str to Member, optional
        What is known of the tar. With it, entries whose image and mask are known come first, in the order of the tar.
    """
    training = sorted(training, key=lambda entry: entry["image"])
    cases = min(cases, len(training))
    if members is None:
        return [training[int(place)] for place in np.linspace(0, len(training) - 1, cases).round()]

    def place(entry: dict) -> float:
        image, label = (members.get(_clean(entry[part])) for part in ("image", "label"))
        return image.offset if image and label else float("inf")

    return sorted(training, key=place)[:cases]


def check_gzip(path: Path, name: str) -> None:
    """Decompress a file to its end, so that its own checksum and length are compared.

    Raises
    ------
    DataError
        When it is damaged.
    """
    try:
        with gzip.open(path) if name.endswith(".gz") else path.open("rb") as stream:
            while stream.read(2**20):
                pass
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise DataError(
            f"{name}: damaged on the way or on the server ({error}). Run again: only this file is fetched anew."
        ) from error


def check(folder: Path, *, progress: bool = True) -> None:
    """Read every image and mask of a laid-out folder as the lessons do, one case at a time.

    Raises
    ------
    DataError
        When one cannot be used.
    """
    for case in tqdm(read_brain(folder, strict=True), desc="checking", unit="case", disable=not progress):
        case.image()
        case.label()


_INDEX = "tar-index.json"
_PUBLISHED = "dataset-published.json"  # as long as a run is under way, beside the tables that it makes of it


def _walk(
    url: str, folder: Path, cases: int, spread: bool, progress: bool, patience: Patience
) -> tuple[RemoteTar, dict[str, Member]]:
    """Index of the tar, as far as it is needed; what an earlier call has read of it is used if the tar is the same."""
    folder.mkdir(parents=True, exist_ok=True)
    known = _read_walk(folder / _INDEX, url)
    tar = RemoteTar(url, position=known.get("position", 0), patience=patience)
    members = {name: Member(*fields) for name, fields in known.get("members", {}).items()}
    end = known.get("end")
    if known:
        tar.total, tar.validator = known["total"], known["validator"]

    def note(member: Member) -> bool:
        """Remember a member; whether it is one that counts."""
        bar.update()
        name = inside(member.name)
        if name == "dataset.json":
            with atomic_file(folder / _PUBLISHED) as path:
                path.write_bytes(tar.bytes_of(member))
        elif name:
            members[name] = member
        return name is not None

    try:
        with tqdm(desc="index of the tar", unit="member", initial=len(members), disable=not progress) as bar:
            if end is None:
                end, last = tar.last_members()
                for member in last:
                    note(member)
            walk, counts = tar.members(), True
            while tar.position < end and not (counts and _enough(folder, cases, spread, members)):
                member = next(walk, None)
                if member is None:
                    break
                counts = note(member)
    except DataError as error:
        if known and "changed" in str(error):
            (folder / _INDEX).unlink(missing_ok=True)
            (folder / _PUBLISHED).unlink(missing_ok=True)
            end = None
        raise
    finally:
        if end is not None:
            content = {
                "url": url,
                "total": tar.total,
                "validator": tar.validator,
                "position": tar.position,
                "end": end,
                "members": {name: astuple(member) for name, member in members.items()},
            }
            with atomic_file(folder / _INDEX) as path:
                path.write_text(json.dumps(content), encoding="utf-8")
    return tar, members


def _read_walk(path: Path, url: str) -> dict:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if known.get("url") == url else {}


def _enough(folder: Path, cases: int, spread: bool, members: dict[str, Member]) -> bool:
    """Whether the members that are known hold all files of the cases that will be chosen."""
    if not (folder / _PUBLISHED).exists():
        return False
    chosen = choose(_index(folder / _PUBLISHED, str(folder))["training"], cases, None if spread else members)
    return all(_clean(entry[part]) in members for entry in chosen for part in ("image", "label"))


def _clean(path: str) -> str:
    """``./imagesTr/BRATS_001.nii.gz`` as a path inside the folder, and nothing that leads out of it."""
    name = inside(str(PurePosixPath(path)))
    if name is None or name == "dataset.json":
        raise DataError(f"dataset.json: {path!r} is not a path such as ./imagesTr/BRATS_001.nii.gz. Download the archive again.")
    return name


def _index(path: Path, where: str) -> dict:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        [(entry["image"], entry["label"]) for entry in index["training"]]
        return index
    except FileNotFoundError:
        raise DataError(f"{where}: no dataset.json in it. Is it Task01_BrainTumour of the Decathlon?") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{where}: its dataset.json is not a Decathlon index ({error}). Download the archive again.") from error


def _write_index(folder: Path, index: dict, training: list[dict]) -> None:
    """``dataset.json`` with only the cases that are in the folder; all else as published."""
    restricted = index | {"training": training, "test": [], "numTraining": len(training), "numTest": 0}
    with atomic_file(folder / "dataset.json") as path:
        path.write_text(json.dumps(restricted, indent=1) + "\n", encoding="utf-8")
