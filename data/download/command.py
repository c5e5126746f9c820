"""Real archives in one command: fetches them, checks them, lays them out in the two folder formats of the course.

    python -m data.download                          what there is: sizes, licences
    python -m data.download chestmnist --size 64     NIH's X-rays at 28, 64, 128 or 224 pixels, from MedMNIST
    python -m data.download nih --parts 1            NIH ChestX-ray14 at full size: one of its 12 archives, or all
    python -m data.download decathlon --cases 20     brain scans of 20 patients out of the Decathlon's tar, or all of it
                                                     (--spread: from all over its list, not the first ones)
    python -m data.download brats --from FOLDER      check BraTS scans that you have; with --out, convert them

Run again after an interruption: it resumes at the byte where it stopped. The folder that is printed at the end is what
DATA_DIR in a notebook is set to.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from filelock import FileLock, Timeout

from data import medmnist
from data.download import brats
from data.download import decathlon as decathlon_archive
from data.download import nih as nih_archive
from data.download.archives import ARCHIVES, CHESTMNIST_FILMS, CHESTMNIST_SIZES, Archive, RemoteFile
from data.download.fetch import OPTION, Patience, fetch, human, mirrored, missing_bytes, require_space
from data.errors import DataError
from data.nih import read_chest_folder
from data.storage import actionable_disk_errors, partial_folder

NOTICE_FILE = "LICENCE_AND_CITATION.txt"
RECEIPT_FILE = "DOWNLOADED.json"
MIRROR_VARIABLE = "COURSE_MIRROR"
_CASE_BYTES = 12_000_000  # image and mask of one Decathlon case, until its index has been read


def default_root() -> Path:
    """Where archives go without ``--out``: ``data/real`` in the course, which git does not see."""
    return Path(__file__).parents[1] / "real"


class Job:
    """One call: which archive, where to, from where, and how it talks.

    Parameters
    ----------
    archive : Archive
    out : Path, optional
        Folder to make; by default `default_root` / `name`.
    name : str
        Of the default folder.
    request : dict
        What was asked for: the same request finds the folder of an earlier call.
    mirror : str, optional
        ``<mirror>/<archive>/<file>`` in place of the publisher's addresses.
    """

    def __init__(
        self, archive: Archive, out: Path | None, name: str, request: dict, mirror: str | None, progress: bool, patience: Patience
    ):
        self.archive, self.mirror, self.progress, self.patience = archive, mirror, progress, patience
        self.final = (out or default_root() / name).expanduser().resolve()
        self.request = {"archive": archive.key} | request
        self.downloads = self.final.parent / "downloads" / archive.key
        self.fetched: list[dict] = []

    @property
    def partial(self) -> Path:
        """Where `final` is being made."""
        return self.final.with_name(self.final.name + ".partial")

    def is_done(self) -> bool:
        """Whether an earlier call has made this folder; an error when there is another one in its place."""
        for folder in (self.final, self.partial):
            if not folder.exists() or (folder.is_dir() and {path.name for path in folder.iterdir()} <= self._unused(folder)):
                continue
            if _receipt(folder).get("request") != self.request:
                what = (
                    "an unfinished call for something else" if folder == self.partial else "something else than what was asked for"
                )
                raise DataError(f"{folder}: holds {what}. Name another folder with --out, or move this one away.")
        return self.final.exists() and any(self.final.iterdir())

    def _unused(self, folder: Path) -> set[str]:
        """Files of a folder that stand for nothing: an unfinished call of which nothing has arrived."""
        return {NOTICE_FILE, RECEIPT_FILE} if folder == self.partial else set()

    def files(self, names: list[str]) -> list[RemoteFile]:
        """The published files of these names, at the mirror if there is one."""
        known = {file.name: file for file in self.archive.files}
        return [mirrored(self.archive.key, known[name], self.mirror) for name in names]

    def arrived(self) -> int:
        """Bytes that an interrupted call has laid out."""
        return sum(path.stat().st_size for path in self.partial.rglob("*") if path.is_file()) if self.partial.exists() else 0

    def require_space(self, packed: int, unpacked: int) -> None:
        """Stop when the disk has no room for what is still to download and to lay out."""
        needed = packed + max(0, unpacked - self.arrived())
        say(f"To download: {human(packed)}. Disk needed, laid out and in all: {human(needed)}.")
        require_space(self.final, needed, self.archive.title.split(":")[0])

    def fetch(self, file: RemoteFile) -> Path:
        """Download one file, or find it."""
        path = fetch(file, self.downloads, page=self.archive.page, progress=self.progress, patience=self.patience)
        self.fetched.append({"name": file.name, "url": file.url, "bytes": path.stat().st_size, "published MD5": file.md5})
        return path

    @contextmanager
    def laid_out(self) -> Iterator[Path]:
        """Give a ``.partial`` folder to fill, with the licence in it; it gets its name only when it is complete.

        One call at a time: the lock is the system's, so that a killed call does not block the next.
        """
        lock = FileLock(self.final.parent / f".{self.archive.key}.lock", timeout=0)
        try:
            if self.final.is_relative_to(default_root().resolve()):  # git is never to see them
                default_root().mkdir(parents=True, exist_ok=True)
                (default_root() / ".gitignore").write_text("*\n", encoding="utf-8")
            with actionable_disk_errors(self.final, OPTION):
                self.final.parent.mkdir(parents=True, exist_ok=True)
                lock.acquire()
            if self.is_done():
                raise DataError(f"{self.final}: another call has just made it. Run again to see what DATA_DIR is to be.")
            if self.final.is_dir():
                self.final.rmdir()  # an empty one, as `is_done` has seen
            with partial_folder(self.final, OPTION) as partial:
                (partial / NOTICE_FILE).write_text(self.archive.notice(), encoding="utf-8")
                self._write_receipt(partial)
                yield partial
                self._write_receipt(partial)
        except Timeout:
            raise DataError(
                f"{self.final.parent}: another process is downloading {self.archive.key} here. "
                "Wait for it to finish, or choose another folder with --out."
            ) from None
        finally:
            lock.release()

    def _write_receipt(self, folder: Path) -> None:
        receipt = {"request": self.request, "source": self.archive.page, "date": date.today().isoformat(), "files": self.fetched}
        (folder / RECEIPT_FILE).write_text(json.dumps(receipt, indent=1) + "\n", encoding="utf-8")


def chestmnist(job: Job, size: int) -> None:
    """ChestMNIST at `size` pixels as an NIH-format folder."""
    [file] = job.files([next(f.name for f, pixels in zip(job.archive.files, CHESTMNIST_SIZES) if pixels == size)])
    films = sum(CHESTMNIST_FILMS.values())
    job.require_space(missing_bytes([file], job.downloads), medmnist.bytes_needed(films, size))
    with job.laid_out() as folder:
        npz = job.fetch(file)
        medmnist.convert(npz, folder, progress=job.progress)
        note = medmnist.NOTE.format(name=file.name)
        (folder / NOTICE_FILE).write_text(f"{job.archive.notice()}\n{note}", encoding="utf-8")
        read_chest_folder(folder)
    say(f"\n{note}\n{npz} is not needed any more.")


def nih(job: Job, parts: list[int], delete_archives: bool) -> None:
    """NIH ChestX-ray14: tables, and the X-rays of some or all of the 12 archives."""
    tables = job.files([file.name for file in job.archive.files if not file.name.startswith("images_")])
    archives = job.files([f"images_{part:03d}.tar.gz" for part in parts])
    packed = missing_bytes([*tables, *archives], job.downloads)
    unpacked = nih_archive.bytes_needed(sum(file.bytes for file in archives))
    job.require_space(max(file.bytes for file in archives) if delete_archives else packed, unpacked)
    with job.laid_out() as folder:
        for file in tables:
            try:
                job.fetch(file)
            except DataError as error:
                if not file.optional:
                    raise
                say(f"Continuing without {file.name}. {error}")
        for file in archives:
            if not (folder / f".unpacked-{file.name}.txt").exists():
                path = job.fetch(file)
                nih_archive.unpack(path, folder, progress=job.progress)
                if delete_archives:
                    path.unlink()
        films = nih_archive.write_tables(job.downloads, folder)
        read_chest_folder(folder)
        for mark in folder.glob(".unpacked-*"):  # not before: they say which archives an interrupted call has done with
            mark.unlink()
    say(f"{films:,} films." + ("" if delete_archives else f" The archives in {job.downloads} are not needed any more."))


def decathlon(job: Job, cases: int | None, spread: bool) -> None:
    """Decathlon Task01: the whole tar, or some cases by range requests."""
    [file] = job.files(["Task01_BrainTumour.tar"])
    if cases is None:
        job.require_space(missing_bytes([file], job.downloads), file.bytes)
        with job.laid_out() as folder:
            path = job.fetch(file)
            decathlon_archive.unpack(path, folder, progress=job.progress)
        say(f"{path} is not needed any more.")
        return
    job.require_space(max(0, cases * _CASE_BYTES - job.arrived()), 0)  # until the index says it exactly
    with job.laid_out() as folder:
        tar = decathlon_archive.fetch_cases(file.url, folder, cases, spread=spread, progress=job.progress, patience=job.patience)
        job.fetched.append({"name": file.name, "url": file.url, "bytes": tar.total, "what": "part of it, by range requests"})
    say(
        f"Index of the tar: {tar.requests} requests, {human(tar.received)}. Each file was checked by its own gzip checksum; the MD5"
    )
    say("of the whole tar cannot be compared without the whole tar.")


def brats_folder(job: Job, source: Path, convert: bool, edition: int | None) -> None:
    """Check BraTS scans that a person has; with `convert`, write them in the Decathlon's format."""
    cohort, problems = brats.verify(source, edition=edition, progress=job.progress)
    if problems:
        raise DataError(
            f"{source}: {len(problems)} of {len(cohort) + len(cohort.broken)} cases cannot be used:\n" + "\n".join(problems)
        )
    say(f"{source}: {len(cohort)} cases, all files whole, labels as expected.")
    if not convert:
        say(f"The notebooks read this folder in place:\n\n    DATA_DIR = {str(source.resolve())!r}\n")
        return
    job.require_space(0, brats.bytes_needed(source))
    with job.laid_out() as folder:
        brats.convert(source, folder, edition=edition, progress=job.progress)


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


def catalogue() -> str:
    """What there is, with sizes, for people."""
    lines = ["Archives (python -m data.download ARCHIVE; --help for all options)\n"]
    for archive in ARCHIVES.values():
        lines.append(f"{archive.key}: {archive.title}")
        for file in archive.files:
            size = f"{file.size:,} bytes" if file.size else f"about {human(file.about)}"
            lines.append(f"    {file.name:<26} {size:>20}   MD5 {file.md5 or 'not published'}")
        lines.append("    " + archive.licence.split("\n")[0] + "\n")
    return "\n".join(lines)


def _receipt(folder: Path) -> dict:
    try:
        return json.loads((folder / RECEIPT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data.download", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", nargs="?", choices=sorted(ARCHIVES), help="what to get; without it, the list")
    parser.add_argument("--list", action="store_true", help="list archives, files, sizes, checksums")
    parser.add_argument("--out", type=Path, help="folder to make (default: data/real/<name>; downloads go beside it)")
    parser.add_argument("--size", type=int, choices=CHESTMNIST_SIZES, help="chestmnist: pixels a side (default 64)")
    parser.add_argument(
        "--parts", type=int, nargs="+", choices=range(1, 13), metavar="N", help="nih: which of the 12 archives (default all)"
    )
    parser.add_argument("--delete-archives", action="store_true", help="nih: delete each archive when its X-rays are unpacked")
    parser.add_argument("--cases", type=int, metavar="N", help="decathlon: so many patients (default all, 7.6 GB)")
    parser.add_argument(
        "--spread",
        action="store_true",
        help="decathlon: cases from all over the list, not the first in the tar; some hundred requests more",
    )
    parser.add_argument("--from", type=Path, dest="source", metavar="FOLDER", help="brats: the scans that you have")
    parser.add_argument(
        "--edition", type=int, metavar="YEAR", help="brats: year of the release, where names do not tell the labels"
    )
    parser.add_argument(
        "--mirror",
        metavar="URL",
        default=os.environ.get(MIRROR_VARIABLE),
        help=f"get URL/<archive>/<file> in place of the publisher's addresses (or set {MIRROR_VARIABLE})",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


_OPTIONS = {
    "size": "chestmnist",
    "parts": "nih",
    "delete_archives": "nih",
    "cases": "decathlon",
    "spread": "decathlon",
    "source": "brats",
    "edition": "brats",
}


def _run(options: argparse.Namespace, patience: Patience) -> Path | None:
    """Do what the command line asks; the folder that was made, or found."""
    key = options.archive
    size, parts = options.size or 64, sorted(set(options.parts or range(1, 13)))
    name, request = {
        "chestmnist": (f"chestmnist-{size}", {"size": size}),
        "nih": ("nih" if len(parts) == 12 else "nih-" + "-".join(map(str, parts)), {"parts": parts}),
        "decathlon": (
            f"decathlon-{options.cases}{'-spread' * options.spread}" if options.cases else "decathlon",
            {"cases": options.cases} | ({"spread": True} if options.spread else {}),
        ),
        "brats": (
            "brats",
            {"from": str(options.source and options.source.resolve())} | ({"edition": options.edition} if options.edition else {}),
        ),
    }[key]
    job = Job(ARCHIVES[key], options.out, name, request, options.mirror, not options.quiet, patience)
    converts = key != "brats" or options.out is not None
    if converts and job.is_done():
        say("It is there already, whole.")
        return job.final
    say(job.archive.notice())
    if key == "chestmnist":
        chestmnist(job, size)
    elif key == "nih":
        nih(job, parts, options.delete_archives)
    elif key == "decathlon":
        decathlon(job, options.cases, options.spread)
    else:
        brats_folder(job, options.source, converts, options.edition)
    return job.final if converts else None


def main(arguments: list[str] | None = None, patience: Patience = Patience()) -> int:
    """Command line; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list or not options.archive:
        say(catalogue())
        return 0
    for option, archive in _OPTIONS.items():
        if getattr(options, option) and archive != options.archive:
            parser.error(f"--{'from' if option == 'source' else option.replace('_', '-')} belongs to {archive}")
    if options.cases is not None and options.cases < 1:
        parser.error("--cases must be at least 1")
    if options.spread and not options.cases:
        parser.error("--spread needs --cases")
    if options.archive == "brats" and options.source is None:
        parser.error("brats needs --from FOLDER: BraTS is given to registered people only, so that it cannot be downloaded here")
    try:
        final = _run(options, patience)
    except DataError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What has arrived is kept; the same command resumes there.", file=sys.stderr)
        return 130
    if final:
        say(f"Licence and citation: {final / NOTICE_FILE}\n\nIn the notebook:\n\n    DATA_DIR = {str(final)!r}\n")
    return 0
