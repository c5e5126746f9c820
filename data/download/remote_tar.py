"""Reads the table of contents of a tar on a web server, and single members of it, without downloading the rest.

A tar has no table of contents: before each member stands a header of 512 bytes that says how long the member is, so one walks
from header to header with HTTP range requests. Small neighbours (macOS' ``._`` doubles, long names, masks) come
along in one request; a member that is larger than the window costs one. `RemoteTar.last_members` reads the tar from its end too, so
that small members which lie behind gigabytes of large ones cost a few requests, not one for each of the large ones.
"""

import tarfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests

from data.download.fetch import HEADERS, LOST, OFFLINE, Interrupted, Patience, accepted, plainly, response_validator, unusable
from data.errors import DataError

_SMALL_WINDOW = 2**13  # a ._ double, a long name and a header
_LARGE_WINDOW = 2**22  # dozens of masks
_SMALL_MEMBER = 2**18
_END_WINDOW = 2**23
_END_MOST = 2**26  # bytes that are held in memory at most


@dataclass(frozen=True)
class Member:
    """A regular file in a tar: its name, where its bytes begin, how many they are."""

    name: str
    offset: int
    size: int


class RemoteTar:
    """An uncompressed tar on a server that supports ranges.

    Attributes
    ----------
    requests, received : int
        Requests made and bytes received so far.
    total : int or None
        Size of the tar, known after the first request.
    validator : str or None
        ETag or date of the tar; the walk stops with an error when it changes.
    position : int
        Where the next header stands: a later walk can begin there.
    """

    def __init__(self, url: str, *, position: int = 0, patience: Patience = Patience()):
        self.url = url
        self.position = position
        self.requests = 0
        self.received = 0
        self.total: int | None = None
        self.validator: str | None = None
        self._web = requests.Session()
        self._patience = patience
        self._start, self._buffer = 0, b""
        self._end_start, self._end = 0, b""  # what `last_members` has received
        self._recent: deque[int] = deque(maxlen=3)  # sizes of the last members, to guess how far to read ahead

    def members(self) -> Iterator[Member]:
        """Walk over the regular files, in the order of the tar; a caller that has what it needs just stops.

        Raises
        ------
        DataError
            When a header is damaged, the tar is cut off, or the server refuses or changes the file.
        """
        long_name, pax, place = None, {}, self.position
        while True:
            header = self._read(place, tarfile.BLOCKSIZE)
            if header.count(0) == tarfile.BLOCKSIZE:
                return
            try:
                info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                raise DataError(
                    f"{self.url}: no tar header at byte {place:,} ({error}). The file on the server is damaged or not an "
                    "uncompressed tar."
                ) from error
            if info.size < 0:
                raise DataError(f"{self.url}: the tar header at byte {place:,} is damaged (size {info.size:,}).")
            data = place + tarfile.BLOCKSIZE
            if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):  # about the next member
                content = self._read(data, info.size)
                if info.type == tarfile.XHDTYPE:
                    pax = _pax_records(content)
                else:
                    long_name = content.rstrip(b"\0").decode("utf-8", "surrogateescape")
                place = data + _blocks(info.size)
                continue
            if info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse") for key in pax):
                raise DataError(f"{self.url}: {info.name} is stored sparse, which is not supported. Download the whole archive.")
            if info.type in (tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE):
                place = data + _blocks(info.size)
                continue
            size = int(pax.get("size", info.size))
            name = pax.get("path") or long_name or info.name
            long_name, pax = None, {}
            self._recent.append(size)
            if not info.isreg() and info.type in tarfile.SUPPORTED_TYPES:
                size = 0  # links and folders have no bytes
            place = self.position = data + _blocks(size)  # not before: a later walk begins with what stands before a header
            if info.isreg():
                yield Member(name, data, size)

    def last_members(self) -> tuple[int, list[Member]]:
        """The members at the end of the tar, as far as they are small, found backwards from the end.

        The blocks of the last megabytes that have a header's magic and checksum are candidates. The last member is one that
        ends where only zeros follow; the one before it ends where that one begins, and so on. What merely looks like a
        header inside a member's bytes does not fit into this chain: the longest one is taken.

        Returns
        -------
        first : int
            Where the header of the first of them stands; the tar's size when none was found.
        members : list of Member
        """
        self._read(0, tarfile.BLOCKSIZE)  # for the tar's size
        start, end, first = self.total, b"", None
        begins: dict[int, int] = {}  # where a member ends: where its header stands
        while start and len(end) < _END_MOST:
            stop, start = start, max(0, start - _END_WINDOW) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
            window = self._request(start, stop - start)
            end = window + end
            begins |= {place + start + length: place + start for place, length in _headers(window) if length <= _SMALL_MEMBER}
            used = start + len(end.rstrip(b"\0"))
            first = min((_chain(begins, header) for stops, header in begins.items() if used <= stops < self.total), default=None)
            if first is None or first - start > _SMALL_MEMBER:
                break  # what lies before is no small member: its header would be in the window
        if first is None or first - start <= _SMALL_MEMBER < start:
            return self.total, []
        self._end_start, self._end = first, end[first - start :]
        position, self.position = self.position, first
        members = list(self.members())
        self.position = position
        self._recent.clear()
        return first, members

    def holds(self, member: Member) -> bool:
        """Whether all bytes of a member were received together with the index."""
        return self._end_start <= member.offset and member.offset + member.size <= self._end_start + len(self._end)

    def bytes_of(self, member: Member) -> bytes:
        """All bytes of a small member."""
        return self._read(member.offset, member.size)

    def _read(self, start: int, count: int) -> bytes:
        """Bytes of the tar, from what was received last if they are in it."""
        if self._end_start <= start and start + count <= self._end_start + len(self._end):
            return self._end[start - self._end_start : start - self._end_start + count]
        inside = start - self._start
        if not (inside >= 0 and inside + count <= len(self._buffer)):
            if self.total is not None and start + count > self.total:
                raise DataError(f"{self.url}: the tar on the server is cut off: it ends at byte {self.total:,} inside a member.")
            all_small = len(self._recent) == self._recent.maxlen and max(self._recent) <= _SMALL_MEMBER
            window = max(count, _LARGE_WINDOW if all_small else _SMALL_WINDOW)
            self._start, self._buffer = start, self._request(start, window)
            inside = 0
        part = self._buffer[inside : inside + count]
        if len(part) < count:
            raise DataError(f"{self.url}: the tar on the server is cut off: it ends at byte {self.total:,} inside a member.")
        return part

    def _request(self, start: int, count: int) -> bytes:
        host, failures = urlsplit(self.url).netloc, 0
        while True:
            try:
                return self._once(start, count)
            except LOST as error:
                problem = Interrupted(plainly(error))
            except requests.RequestException as error:
                raise unusable(self.url, error) from error
            except Interrupted as error:
                problem = error
            failures += 1
            if not self._patience.goes_on(host, problem, failures, self.total is not None):
                raise DataError(
                    f"{host}: {problem}, while the archive's index was read. Run again: it resumes where it stopped. {OFFLINE}"
                )

    def _once(self, start: int, count: int) -> bytes:
        self.requests += 1
        headers = HEADERS | {"Range": f"bytes={start}-{start + count - 1}"}
        with self._web.get(self.url, headers=headers, stream=True, timeout=self._patience.timeout) as response:
            if response.status_code == 416:
                raise DataError(f"{self.url}: the tar on the server is cut off: it has no byte {start:,}.")
            first, total = accepted(response, self.url, True)
            tag = response_validator(response)
            if self.total is not None and (total, tag) != (self.total, self.validator):
                raise DataError(f"{self.url}: the file on the server has changed since its index was begun. Run again.")
            if first != start:
                raise Interrupted("the server sent other bytes than those asked for")
            content = response.content
            wanted = count if total is None else min(count, total - start)
            if len(content) != wanted:
                raise Interrupted(f"{len(content):,} of {wanted:,} bytes arrived")
            self.total, self.validator = total, tag
            self.received += len(content)
            return content


def _blocks(size: int) -> int:
    """Bytes that a member occupies: whole blocks of 512."""
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _chain(begins: dict[int, int], header: int) -> int:
    """First of the headers that lead to this one without a gap, each member ending where the next begins."""
    while header in begins:
        header = begins[header]
    return header


def _headers(window: bytes) -> Iterator[tuple[int, int]]:
    """Place of each block that is a tar header, and how many bytes it and its member occupy."""
    for place in range(0, len(window) - tarfile.BLOCKSIZE + 1, tarfile.BLOCKSIZE):
        if window[place + 257 : place + 262] == b"ustar":
            try:
                info = tarfile.TarInfo.frombuf(window[place : place + tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
            except tarfile.HeaderError:
                continue
            data = info.isreg() or info.type not in tarfile.SUPPORTED_TYPES  # links and folders have no bytes
            data = data or info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
            yield place, tarfile.BLOCKSIZE + (_blocks(info.size) if data and info.size > 0 else 0)


def _pax_records(content: bytes) -> dict[str, str]:
    """``path`` and ``size`` of an extended header: records "length key=value" with a newline at the end."""
    records = {}
    while content and content[0]:
        length, _, rest = content.partition(b" ")
        record = rest[: int(length) - len(length) - 2]
        key, _, value = record.partition(b"=")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        content = content[int(length) :]
    return records
