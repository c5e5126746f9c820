"""Fetches published files: resumed at the byte where it stopped, checked, and never half a file taken for a whole one.

pooch looks whether a file is already there, compares checksums and puts the file in its place. What pooch does not have is
resuming, so the bytes come through `resume`, which pooch calls as its downloader.
"""

import json
import os
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests
from tqdm.auto import tqdm
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from data.download.archives import RemoteFile
from data.errors import DataError
from data.storage import actionable_disk_errors

OFFLINE = "Without a network the notebooks run as they are, on the simulated cohorts: leave DATA_DIR = None."
OPTION = "--out"  # names another folder, for `data.storage.actionable_disk_errors`
_BLOCK = 2**18
LOST = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.BaseHTTPError,  # urllib3's, of which requests' own are made
)
_WAIT = Retry(retry_after_max=120)  # reads Retry-After, seconds or date; nobody waits longer than two minutes for it
NO_NETWORK = "no network, or the server's name is not known"
HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"course in medical imaging (pooch {pooch.__version__})"}


@dataclass(frozen=True)
class Patience:
    """How long to go on: `tries` times in a row without a new byte, `pause` seconds (doubled each time) in between."""

    tries: int = 5
    pause: float = 1.0
    timeout: tuple[float, float] = (15, 60)  # seconds to connect, and between two blocks

    def goes_on(self, host: str, problem: "Interrupted", failures: int, begun: bool) -> bool:
        """Wait, and say so, before another try; False when it is time to give up: at once without any network from the start."""
        if failures >= self.tries or (str(problem) == NO_NETWORK and not begun):
            return False
        seconds = max(self.pause * 2 ** max(0, failures - 1), problem.wait)
        if seconds >= 1:
            tqdm.write(f"{host}: {problem}. Trying again in {seconds:.0f} s", file=sys.stderr)
        time.sleep(seconds)
        return True


class Interrupted(Exception):
    """The connection ended early, or the server asks to come again: worth another try."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.wait = wait


def human(count: float) -> str:
    """Bytes for people: 3.9 GB (powers of 1000, as disks and publishers count)."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def require_space(folder: Path, needed: int, what: str) -> None:
    """Stop before a download that the disk has no room for.

    Raises
    ------
    DataError
        When fewer than `needed` bytes, and 2 % of them as a margin, are free where `folder` is or will be.
    """
    folder = folder.resolve()
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if free < needed * 1.02:
        raise DataError(
            f"{folder}: {what} needs {human(needed)}, but only {human(free)} are free on this disk. Nothing was downloaded. "
            "Free some space, or name a folder on another disk with --out."
        )


def mirrored(archive: str, file: RemoteFile, mirror: str | None) -> RemoteFile:
    """The same file at ``<mirror>/<archive>/<name>``; checksums stay the publisher's."""
    if not mirror:
        return file
    url = f"{mirror.rstrip('/')}/{archive}/{file.name}"
    return RemoteFile(file.name, url, file.size, file.md5, file.about, file.confirmed, file.optional)


def missing_bytes(files: list[RemoteFile], folder: Path) -> int:
    """Bytes of `files` that are not in `folder` yet, neither as a file nor in its ``.partial``."""
    total = 0
    for file in files:
        if not (folder / file.name).exists():
            total += max(0, file.bytes - _length(folder / f"{file.name}.partial"))
    return total


def fetch(file: RemoteFile, folder: Path, *, page: str, progress: bool = True, patience: Patience = Patience()) -> Path:
    """Find a published file in a folder, or download it there.

    A file that a person has put there by hand is checked and used.

    Parameters
    ----------
    file : RemoteFile
    folder : Path
        Made when it does not exist. While the download runs it holds ``<name>.partial``.
    page : str
        Where a person finds the file, for messages.
    progress : bool
        Show a bar.
    patience : Patience

    Returns
    -------
    Path
        ``folder / file.name``, whole and with the published checksum (where one is published).

    Raises
    ------
    DataError
        Says what is wrong and what to do. What arrived stays in ``.partial`` and the next call resumes there; a file whose
        checksum is wrong is kept as ``<name>.wrong`` and never used.
    """
    target = folder / file.name
    by_hand = f"You can also get {file.name} with a browser from {page} and put it into {folder}: it will be checked and used."
    if target.exists() and not _is_published(target, file):
        raise DataError(
            f"{target}: this file is not the published one ({_difference(target, file)}). It was left as it is. Move it away "
            "and run again to download it."
        )
    if target.exists():
        return target
    if file.url is None:
        raise DataError(f"{file.name}: {file.confirmed}. {by_hand}")

    def download(url: str, output_file: str, _pooch: object) -> None:
        partial = folder / f"{file.name}.partial"
        resume(url, partial, size=file.size, label=file.name, advice=by_hand, progress=progress, patience=patience)
        if not _is_published(partial, file):
            wrong = folder / f"{file.name}.wrong"
            difference = _difference(partial, file)
            os.replace(partial, wrong)
            raise DataError(
                f"{url}: what arrived is not the published file ({difference}). It is kept as {wrong} and will not be used. "
                f"Run again. If the same sum comes again, the publisher has changed the file: please open an issue. {by_hand}"
            )
        os.replace(partial, output_file)
        _state_file(partial).unlink(missing_ok=True)

    known = f"md5:{file.md5}" if file.md5 else None
    pooch.get_logger().setLevel("WARNING")  # its notes on temporary files would stand between the bars
    with actionable_disk_errors(target, OPTION):
        folder.mkdir(parents=True, exist_ok=True)
        pooch.retrieve(file.url, known_hash=known, fname=file.name, path=folder, downloader=download)
    if known is None:
        found = pooch.file_hash(str(target), alg="md5")
        tqdm.write(f"{file.name}: no checksum is published; computed: {target.stat().st_size:,} bytes, MD5 {found}")
    return target


def resume(
    url: str,
    partial: Path,
    *,
    first: int = 0,
    length: int | None = None,
    size: int | None = None,
    validator: str | None = None,
    label: str = "",
    advice: str = "",
    progress: bool = True,
    patience: Patience = Patience(),
) -> None:
    """Bring a file up to all bytes of `url`, or to `length` of them from byte `first` on.

    Parameters
    ----------
    url : str
    partial : Path
        What it holds already is kept, and the request asks for the rest, provided that the server still has the same file
        (its ETag or date, and its size). Otherwise it starts anew.
    first, length : int
        A part of the file at `url`. Then the server must support ranges.
    size : int, optional
        Bytes of the whole file at `url` as published.
    validator : str, optional
        ETag or date that the file must have, for a part of it.
    label, advice : str
        For the bar and for messages.

    Raises
    ------
    DataError
        When the server refuses, offers another file, or `patience` ends.
    """
    state = _read_state(partial)
    if _length(partial) and state.get("url") != url:
        partial.unlink()
    host = urlsplit(url).netloc
    failures, most = 0, _length(partial)
    with tqdm(total=length or size, desc=label, unit="B", unit_scale=True, disable=not progress) as bar, requests.Session() as web:
        while True:
            try:
                with actionable_disk_errors(partial, OPTION):
                    _append(web, url, partial, first, length, size, validator, bar, patience)
                return
            except LOST as error:
                problem = Interrupted(plainly(error))
            except requests.RequestException as error:
                raise unusable(url, error) from error
            except Interrupted as error:
                problem = error
            gained = _length(partial) - most  # beyond all earlier tries, so that starting anew for ever is no progress
            most = max(most, _length(partial))
            failures = 0 if gained >= _BLOCK else failures + 1
            if not patience.goes_on(host, problem, failures, _length(partial) > 0):
                arrived = _length(partial)
                kept = f" {human(arrived)} have arrived and are kept; the same command resumes there." if arrived else ""
                raise DataError(
                    f"{host}: {problem}. Check the connection and, behind a proxy, the variable HTTPS_PROXY.{kept} {advice} "
                    f"{OFFLINE}"
                )


def _append(web, url: str, partial: Path, first: int, length: int | None, size: int | None, validator, bar, patience) -> None:
    """One request for what is missing; returns when `partial` is complete, raises `Interrupted` when it is not."""
    have = _length(partial)
    if length is not None and have >= length:
        if have > length:
            partial.unlink()
            raise Interrupted("the part on disk is longer than the member")
        return
    if size is not None and have == size:
        return  # a run was stopped between the last byte and the check
    state = _read_state(partial) if have else {}
    headers = dict(HEADERS)
    if have or length is not None:
        headers["Range"] = f"bytes={first + have}-" + ("" if length is None else str(first + length - 1))
    if have and length is None and state.get("validator"):
        headers["If-Range"] = state["validator"]  # the rest if the file is the same, else all of the new one
    with web.get(url, headers=headers, stream=True, timeout=patience.timeout) as response:
        if response.status_code == 416:
            whole = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
            if length is None and whole and int(whole[1]) == have and {size, state.get("total")} <= {None, have}:
                return
            partial.unlink(missing_ok=True)
            raise Interrupted("the server has fewer bytes than the part on disk, so that it starts anew")
        start, total = accepted(response, url, length is not None)
        if size is not None and total is not None and total != size:
            raise DataError(
                f"{url}: the server offers {total:,} bytes, but the publisher's list says {size:,}. Nothing was downloaded; what "
                "is on disk is unchanged. Try later or from another network; if it stays, please open an issue."
            )
        tag = response_validator(response)
        if start is not None and validator and tag != validator:
            raise DataError(f"{url}: the file on the server has changed since its index was read. Run again.")
        if have and start is not None and (start != first + have or (total, tag) != (state.get("total"), state.get("validator"))):
            partial.unlink()
            raise Interrupted("the file on the server has changed, so that it starts anew")
        if start is None:
            have = 0  # the server sends all of it, whatever was asked for
        if not have:
            _state_file(partial).write_text(json.dumps({"url": url, "validator": tag, "total": total}), encoding="utf-8")
        expected = length if length is not None else total
        bar.total = expected or bar.total
        bar.n = have
        bar.refresh()
        with partial.open("ab" if have else "wb") as output:
            # read1 gives what has arrived; iter_content would wait for a whole block and lose it when the connection ends
            while block := response.raw.read1(_BLOCK):
                output.write(block)
                output.flush()  # so that a kill loses nothing
                bar.update(len(block))
                have += len(block)
                if expected is not None and have > expected:
                    break
    if expected is not None and have < expected:
        raise Interrupted(f"the connection ended after {have:,} of {expected:,} bytes")
    if expected is not None and have > expected:
        partial.unlink()
        raise Interrupted(f"the server sent more than the {expected:,} bytes that it announced")


def accepted(response: requests.Response, url: str, ranged: bool) -> tuple[int | None, int | None]:
    """First byte (None: the whole file comes) and total size (None: unknown) of a good answer; raises for any other."""
    status, host = response.status_code, urlsplit(url).netloc
    if status in (408, 425, 429) or status >= 500:
        raise Interrupted(f"the server answers {status} {response.reason}", _asked_to_wait(response))
    if status not in (200, 206):
        raise DataError(
            f"{url}: {host} answers {status} {response.reason}. The address may have changed, or this network is not let in. "
            f"Look at the archive's page with a browser; --mirror names another server. {OFFLINE}"
        )
    if "text/html" in response.headers.get("Content-Type", ""):
        raise DataError(
            f"{url}: {host} sent a web page in place of the file (a login, a consent form or an error). Open the archive's page "
            f"with a browser; --mirror names another server. {OFFLINE}"
        )
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise DataError(
            f"{url}: {host} (or a proxy before it) compresses the file on the way, although it was asked not to, so bytes cannot "
            f"be counted. Try from another network; --mirror names another server. {OFFLINE}"
        )
    if status == 206:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not span:
            raise Interrupted("the server does not say which bytes it sends")
        return int(span[1]), None if span[2] == "*" else int(span[2])
    if ranged:
        raise DataError(f"{url}: {host} does not send parts of a file. Download the whole archive (without --cases).")
    announced = response.headers.get("Content-Length", "")
    return None, int(announced) if announced.isdigit() else None


def unusable(url: str, error: requests.RequestException) -> DataError:
    """What to tell a person about an address that leads nowhere: redirects without end, not a URL at all."""
    return DataError(
        f"{url}: this address cannot be used ({error}). Check --mirror, or look at the archive's page with a browser. {OFFLINE}"
    )


def _asked_to_wait(response: requests.Response) -> float:
    """Seconds of the header Retry-After; 0 without one, or with one that cannot be read."""
    try:
        return _WAIT.get_retry_after(response.raw) or 0.0
    except InvalidHeader:
        return 0.0


def response_validator(response: requests.Response) -> str | None:
    """What tells this version of a file from another: a strong ETag or else the date; for If-Range."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def plainly(error: Exception) -> str:
    """A connection error in a few words."""
    text = str(error)
    if re.search(r"resolve|getaddrinfo|Name or service", text):
        return NO_NETWORK
    if isinstance(error, requests.Timeout) or "timed out" in text:
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "no secure connection (a certificate was refused)"
    return "the connection was refused or broke off"


def _is_published(path: Path, file: RemoteFile) -> bool:
    if file.size is not None and path.stat().st_size != file.size:
        return False
    if file.md5 is None:
        return not _is_web_page(path)
    return pooch.file_hash(str(path), alg="md5") == file.md5


def _is_web_page(path: Path) -> bool:
    """Whether a file is HTML: what some servers send with status 200 and any type when they mean "no"."""
    with path.open("rb") as stream:
        return stream.read(200).lstrip().lower().startswith((b"<!doctype", b"<html"))


def _difference(path: Path, file: RemoteFile) -> str:
    size = path.stat().st_size
    if file.size not in (None, size):
        return f"{size:,} bytes in place of {file.size:,}"
    if file.md5 is None:
        return "a web page: a login, a consent form or an error"
    return f"MD5 {pooch.file_hash(str(path), alg='md5')} in place of {file.md5}"


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _state_file(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def _read_state(partial: Path) -> dict:
    try:
        return json.loads(_state_file(partial).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
