"""Fetching one file from a server that misbehaves: what is on disk afterwards, what was asked for, and what a person is told."""

import errno
import hashlib
import json
import shutil
import time
from collections import namedtuple
from email.utils import formatdate

import numpy as np
import pytest
import requests
from download_server import Site, start
from urllib3 import HTTPResponse

from data.download import fetch as module
from data.download.archives import RemoteFile
from data.download.fetch import Patience, fetch, human, require_space, resume
from data.errors import DataError

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, np.uint8).tobytes()
MD5 = hashlib.md5(CONTENT).hexdigest()
PATH = "/a/films.npz"
HASTE = Patience(tries=3, pause=0.0, timeout=(2, 0.3))


@pytest.fixture
def site():
    site = Site(files={PATH: CONTENT})
    server = start(site)
    yield site
    server.shutdown()
    server.server_close()


def get(site, folder, *, size=len(CONTENT), md5=MD5, name="films.npz", path=PATH, patience=HASTE):
    file = RemoteFile(name, site.url + path, size, md5, len(CONTENT))
    return fetch(file, folder, page="https://example.org/page", progress=False, patience=patience)


def asked(site):
    return [entry[1] for entry in site.requests]


def test_a_file_arrives_once(site, tmp_path):
    path = get(site, tmp_path / "new")
    assert path.read_bytes() == CONTENT and path == tmp_path / "new" / "films.npz"
    assert get(site, tmp_path / "new") == path
    assert asked(site) == [None]  # one request, and none the second time
    assert [item.name for item in (tmp_path / "new").iterdir()] == ["films.npz"]


@pytest.mark.parametrize("fault", ["cut", "reset", "stall"])
@pytest.mark.parametrize("at", [1, 65_536, 200_001])
def test_goes_on_at_the_byte_where_the_connection_ended(site, tmp_path, fault, at):
    site.faults[PATH] = [(fault, at)]
    assert get(site, tmp_path).read_bytes() == CONTENT
    first, second = site.requests
    start_of_rest = int(second[1].removeprefix("bytes=").removesuffix("-")) if second[1] else 0
    assert first[2] == at and second[2] == len(CONTENT) - start_of_rest
    if fault != "reset":  # a reset may throw away what the other side had not read yet
        assert start_of_rest == at
    assert start_of_rest <= at


def test_goes_on_in_another_process(site, tmp_path):
    site.faults[PATH] = [("cut", 1000), ("status", 503), ("status", 503)]
    with pytest.raises(DataError, match=r"503.*1 kB have arrived and are kept; the same command resumes there.*DATA_DIR = None"):
        get(site, tmp_path)
    assert not (tmp_path / "films.npz").exists()
    assert (tmp_path / "films.npz.partial").read_bytes() == CONTENT[:1000]
    site.requests.clear()
    assert get(site, tmp_path).read_bytes() == CONTENT
    assert asked(site) == ["bytes=1000-"] and site.requests[0][2] == len(CONTENT) - 1000


def test_many_interruptions(site, tmp_path):
    site.faults[PATH] = [("cut", 70_000)] * 2 + [None]
    assert get(site, tmp_path).read_bytes() == CONTENT
    assert asked(site) == [None, "bytes=70000-", "bytes=140000-"]


def test_a_slow_link_is_no_error(site, tmp_path):
    site.block, site.delay = 20_000, 0.02  # longer in all than the time allowed between two blocks
    assert get(site, tmp_path).read_bytes() == CONTENT
    assert len(site.requests) == 1


def test_server_without_ranges_starts_anew(site, tmp_path):
    site.ranges = False
    site.faults[PATH] = [("cut", 100_000)]
    assert get(site, tmp_path).read_bytes() == CONTENT
    assert asked(site) == [None, "bytes=100000-"] and site.requests[1][2] == len(CONTENT)


def test_file_that_changed_in_between_starts_anew(site, tmp_path):
    site.files[PATH] = CONTENT[::-1]
    site.faults[PATH] = [("cut", 5000), *[("status", 500)] * 2]
    with pytest.raises(DataError):
        get(site, tmp_path)
    site.files[PATH] = CONTENT
    assert get(site, tmp_path).read_bytes() == CONTENT


def test_changed_length_without_an_etag_starts_anew(site, tmp_path):
    site.etag = False
    site.files[PATH] = CONTENT + b"old"
    site.faults[PATH] = [("cut", 5000), *[("status", 500)] * 2]
    with pytest.raises(DataError):
        get(site, tmp_path, size=None)
    site.files[PATH] = CONTENT
    assert get(site, tmp_path, size=None).read_bytes() == CONTENT


def test_stopped_between_last_byte_and_check(site, tmp_path):
    (tmp_path / "films.npz.partial").write_bytes(CONTENT)
    (tmp_path / "films.npz.partial.json").write_text(
        json.dumps({"url": site.url + PATH, "total": len(CONTENT), "validator": site.tag(PATH)})
    )
    assert get(site, tmp_path).read_bytes() == CONTENT
    assert site.requests == []
    (tmp_path / "films.npz").rename(tmp_path / "films.npz.partial")
    (tmp_path / "films.npz.partial.json").write_text(
        json.dumps({"url": site.url + PATH, "total": len(CONTENT), "validator": site.tag(PATH)})
    )
    assert get(site, tmp_path, size=None).read_bytes() == CONTENT  # size not known beforehand: 416 says it is complete
    assert asked(site) == [f"bytes={len(CONTENT)}-"] and site.requests[0][2] == 0


def test_416_with_too_much_on_disk_starts_anew(site, tmp_path):
    (tmp_path / "films.npz.partial").write_bytes(CONTENT + b"too much")
    (tmp_path / "films.npz.partial.json").write_text(json.dumps({"url": site.url + PATH, "total": None, "validator": None}))
    assert get(site, tmp_path, size=None).read_bytes() == CONTENT
    assert asked(site) == [f"bytes={len(CONTENT) + 8}-", None]


def test_server_that_sends_other_bytes_than_asked_for(site, tmp_path):
    site.faults[PATH] = [("cut", 1000), ("more",)]
    assert get(site, tmp_path).read_bytes() == CONTENT


def test_part_of_another_address_is_not_used(site, tmp_path):
    (tmp_path / "films.npz.partial").write_bytes(b"x" * 1000)
    assert get(site, tmp_path).read_bytes() == CONTENT
    assert asked(site) == [None]


def test_redirects_keep_the_range(site, tmp_path):
    site.faults["/link"] = [("redirect", PATH), ("redirect", PATH)]
    site.faults[PATH] = [("cut", 4096)]
    assert get(site, tmp_path, path="/link").read_bytes() == CONTENT
    assert [entry[:2] for entry in site.requests] == [
        ["/link", None],
        [PATH, None],
        ["/link", "bytes=4096-"],
        [PATH, "bytes=4096-"],
    ]


@pytest.mark.parametrize("status, words", [(401, "Unauthorized"), (403, "Forbidden"), (404, "Not Found"), (410, "Gone")])
def test_refusals_are_final(site, tmp_path, status, words):
    site.faults[PATH] = [("status", status)] * 5
    with pytest.raises(DataError, match=rf"127.0.0.1:\d+ answers {status} {words}.*browser.*--mirror.*DATA_DIR = None"):
        get(site, tmp_path)
    assert len(site.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_passing_faults_of_the_server_are_tried_again(site, tmp_path, status):
    site.faults[PATH] = [("status", status, {"Retry-After": "0"})] * 2
    assert get(site, tmp_path).read_bytes() == CONTENT
    assert len(site.requests) == 3


@pytest.mark.parametrize("soon", [0, 1])
def test_retry_after_is_waited_for(site, tmp_path, soon):
    """As a number of seconds, and as a date; an answer in words is no reason to wait."""
    site.faults[PATH] = [
        ("status", 503, {"Retry-After": header}) for header in (str(soon), formatdate(time.time() + 1 + soon, usegmt=True))
    ]
    before = time.monotonic()
    assert get(site, tmp_path).read_bytes() == CONTENT
    assert 2 * soon - 1 <= time.monotonic() - before < 10 and len(site.requests) == 3


@pytest.mark.parametrize("header, seconds", [("soon", 0), ("86400", 120), ("7", 7), (None, 0)])
def test_how_long_a_server_is_waited_for(header, seconds):
    """What cannot be read is no reason to wait, and nobody waits a day."""
    answer = requests.Response()
    answer.raw = HTTPResponse(headers={"Retry-After": header} if header else {})
    assert module._asked_to_wait(answer) == seconds


def test_redirects_without_end(site, tmp_path):
    site.faults["/loop"] = [("redirect", "/loop")] * 99
    with pytest.raises(DataError, match="/loop: this address cannot be used .Exceeded 30 redirects.*DATA_DIR = None"):
        get(site, tmp_path, path="/loop")
    assert not (tmp_path / "films.npz").exists()


@pytest.mark.parametrize("url", ["no address", "ftp://example.org/x", "http://"])
def test_address_that_is_none(tmp_path, url):
    with pytest.raises(DataError, match="this address cannot be used.*--mirror"):
        fetch(RemoteFile("x", url, 5, "0"), tmp_path, page="https://page", progress=False, patience=HASTE)


def test_compressed_on_the_way(site, tmp_path):
    site.faults[PATH] = [("gzip",)]
    with pytest.raises(DataError, match="compresses the file on the way, although it was asked not to"):
        get(site, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_web_page_that_says_it_is_a_file(site, tmp_path):
    """Tables have no published sum: what they are not can be told all the same."""
    site.faults[PATH] = [("page",)]
    with pytest.raises(DataError, match="not the published file .a web page.*kept as .*films.npz.wrong and will not be used"):
        get(site, tmp_path, size=None, md5=None)
    assert get(site, tmp_path, size=None, md5=None).read_bytes() == CONTENT


def test_a_web_page_is_not_taken_for_the_file(site, tmp_path):
    site.faults[PATH] = [("html",)]
    with pytest.raises(DataError, match="sent a web page in place of the file"):
        get(site, tmp_path, size=None, md5=None)
    assert list(tmp_path.iterdir()) == []


def test_wrong_length_is_noticed_before_the_download(site, tmp_path):
    with pytest.raises(DataError, match="offers 300,000 bytes, but the publisher's list says 299,999. Nothing was downloaded"):
        get(site, tmp_path, size=len(CONTENT) - 1)
    assert list(tmp_path.iterdir()) == []


def test_fewer_bytes_than_announced(site, tmp_path):
    site.faults[PATH] = [("length", len(CONTENT) + 50), None] * 10  # it lies, is found out, and lies again
    with pytest.raises(DataError, match="fewer bytes|starts anew|ended after"):
        get(site, tmp_path, size=None, md5=None)
    assert not (tmp_path / "films.npz").exists()


def test_nothing_announced_and_cut_off(site, tmp_path):
    site.faults[PATH] = [("no length", 1000)]
    with pytest.raises(DataError, match="1,000 bytes in place of 300,000.*kept as .*films.npz.wrong and will not be used"):
        get(site, tmp_path)
    assert not (tmp_path / "films.npz").exists()
    assert get(site, tmp_path).read_bytes() == CONTENT


def test_wrong_checksum(site, tmp_path):
    site.faults[PATH] = [("flip", 150_000)]
    with pytest.raises(
        DataError, match=f"MD5 [0-9a-f]{{32}} in place of {MD5}.*Run again.*with a browser from https://example.org/page"
    ):
        get(site, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(".json")) == ["films.npz.wrong"]
    assert get(site, tmp_path).read_bytes() == CONTENT


def test_a_file_by_that_name_that_is_another_is_left_alone(site, tmp_path):
    (tmp_path / "films.npz").write_bytes(b"my own")
    with pytest.raises(DataError, match="not the published one .6 bytes in place of 300,000.. It was left as it is. Move it away"):
        get(site, tmp_path)
    assert (tmp_path / "films.npz").read_bytes() == b"my own" and site.requests == []


def test_a_file_that_was_put_there_by_hand_is_used(site, tmp_path):
    (tmp_path / "films.npz").write_bytes(CONTENT)
    assert get(site, tmp_path).read_bytes() == CONTENT and site.requests == []


def test_unknown_checksum_is_computed_and_said(site, tmp_path, capsys):
    get(site, tmp_path, size=None, md5=None)
    assert f"no checksum is published; computed: 300,000 bytes, MD5 {MD5}" in "".join(capsys.readouterr())


def test_unknown_address(tmp_path):
    file = RemoteFile("boxes.csv", None, confirmed="its address could not be confirmed")
    with pytest.raises(DataError, match="boxes.csv: its address could not be confirmed.*with a browser from https://page"):
        fetch(file, tmp_path, page="https://page", progress=False)


@pytest.mark.parametrize(
    "url, words", [("http://127.0.0.1:9/x", "refused or broke off"), ("http://nowhere.invalid/x", "no network|refused")]
)
def test_no_network_is_one_clear_sentence(tmp_path, url, words):
    with pytest.raises(DataError, match=rf"({words}).*HTTPS_PROXY.*Without a network.*DATA_DIR = None"):
        fetch(RemoteFile("x", url, 5, "0"), tmp_path, page="https://page", progress=False, patience=Patience(2, 0.0, (2, 2)))
    assert [path for path in tmp_path.iterdir() if not path.name.endswith(".json")] == []


def test_a_network_that_goes_away_in_the_middle_is_waited_for(site, tmp_path, monkeypatch):
    """From the start it is said at once; with bytes on disk a lost name is like any lost connection."""
    site.faults[PATH] = [("cut", 70_000)]
    send, lost = requests.Session.send, []

    def without_names(session, request, **options):
        if len(site.requests) == 1 and not lost:
            lost.append(request.url)
            raise requests.ConnectionError("Failed to resolve the name")
        return send(session, request, **options)

    monkeypatch.setattr(requests.Session, "send", without_names)
    assert get(site, tmp_path).read_bytes() == CONTENT and len(lost) == 1
    assert asked(site) == [None, "bytes=70000-"]


def test_full_disk_in_the_middle(site, tmp_path, monkeypatch):
    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        monkeypatch.context() as patch,
        pytest.raises(
            DataError, match="the disk is full. What has been written is kept.*run again to resume, or name a folder with --out"
        ),
    ):
        patch.setattr(module, "_append", no_space)
        get(site, tmp_path)
    assert get(site, tmp_path).read_bytes() == CONTENT


def test_full_disk_is_noticed_before(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**10, 0, 2 * 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="films needs 3.9 GB, but only 2.0 GB are free.*Nothing was downloaded.*--out"):
        require_space(tmp_path / "not" / "yet", 3_889_293_042, "films")
    require_space(tmp_path, 1_900_000_000, "films")


def test_part_of_a_file(site, tmp_path):
    part = tmp_path / "part"
    site.faults[PATH] = [("cut", 100)]
    resume(site.url + PATH, part, first=1000, length=5000, progress=False, patience=HASTE)
    assert part.read_bytes() == CONTENT[1000:6000]
    assert asked(site) == ["bytes=1000-5999", "bytes=1100-5999"]
    site.ranges = False
    with pytest.raises(DataError, match="does not send parts of a file. Download the whole archive"):
        resume(site.url + PATH, tmp_path / "other", first=1000, length=5000, progress=False, patience=HASTE)


def test_sizes_for_people():
    assert [human(count) for count in (12, 1500, 82_800_000, 3_889_293_042)] == ["12 bytes", "1.5 kB", "82.8 MB", "3.9 GB"]
