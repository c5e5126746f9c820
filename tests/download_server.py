"""A web server on this machine that misbehaves in the way a test asks for, and simulated archives in the published formats."""

import gzip
import hashlib
import io
import json
import os
import re
import socket
import struct
import tarfile
import tempfile
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Site:
    """What the server has and how it behaves.

    `files` maps a path to bytes, or to anything with a length that can be sliced. `faults` maps a path to what happens at its
    next requests, one entry each: ``None`` (all well), ``("status", code, headers)``, ``("cut", n)`` and ``("reset", n)`` (the
    connection ends after n bytes), ``("stall", n)`` (nothing more comes after n bytes), ``("redirect", path)``, ``("html",)``,
    ``("length", n)`` (announces n bytes), ``("no length", n)`` (announces nothing and ends after n bytes), ``("more",)``
    (sends other bytes than asked for), ``("flip", n)`` (byte n is wrong), ``("gzip",)`` (compresses, although asked not to),
    ``("page",)`` (a web page that says it is a file).
    """

    files: dict = field(default_factory=dict)
    faults: dict = field(default_factory=dict)
    ranges: bool = True
    etag: bool = True
    block: int = 2**16
    delay: float = 0.0
    requests: list = field(default_factory=list)  # (path, Range header or None, bytes sent)
    url: str = ""

    def tag(self, path: str) -> str:
        content = self.files[path]
        return '"' + hashlib.md5(bytes(content[0:1000]) + str(len(content)).encode()).hexdigest() + '"'


def start(site: Site) -> ThreadingHTTPServer:
    """Serve a site on a free port; `site.url` is its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # header and body go out at once: 40 ms less a request

        def log_message(self, *_):
            pass

        def do_HEAD(self):  # as Box does
            self.send_error(404)

        def do_GET(self):
            path = self.path.split("?")[0]
            asked = self.headers.get("Range")
            entry = [path, asked, 0]
            site.requests.append(entry)
            queue = site.faults.get(path, [])
            fault = (queue.pop(0) if queue else None) or (None,)
            if fault[0] == "status":
                return self.answer(fault[1], fault[2] if len(fault) > 2 else {}, b"no")
            if fault[0] == "redirect":
                return self.answer(302, {"Location": site.url + fault[1]}, b"")
            if fault[0] == "html":
                return self.answer(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>please log in</html>")
            if fault[0] == "page":
                return self.answer(
                    200, {"Content-Type": "application/octet-stream"}, b"\n<!DOCTYPE html><html>please log in</html>"
                )
            if fault[0] == "gzip":
                return self.answer(200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(site.files[path][:])))
            if path not in site.files:
                return self.answer(404, {}, b"not here")
            content = site.files[path]
            first, last, status, headers = 0, len(content) - 1, 200, {"Content-Type": "application/octet-stream"}
            if site.etag:
                headers["ETag"] = site.tag(path)
            unchanged = self.headers.get("If-Range") in (None, site.tag(path))
            if asked and site.ranges and unchanged:
                span = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
                first, last = int(span[1]), min(int(span[2] or last), last)
                if fault[0] == "more":
                    first = max(0, first - 7)
                if first > last:
                    return self.answer(416, {"Content-Range": f"bytes */{len(content)}"}, b"")
                status, headers["Content-Range"] = 206, f"bytes {first}-{last}/{len(content)}"
            length = last - first + 1
            if fault[0] != "no length":
                headers["Content-Length"] = str(fault[1] if fault[0] == "length" else length)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if fault[0] in ("no length", "length"):
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            stop = first + min(length, fault[1] if fault[0] in ("cut", "reset", "stall", "no length") else length)
            place = first
            while place < stop:
                block = bytes(content[place : min(place + site.block, stop)])
                if fault[0] == "flip" and place <= fault[1] < place + len(block):
                    block = bytearray(block)
                    block[fault[1] - place] ^= 0xFF
                entry[2] += len(block)  # before: a test may look as soon as the bytes are there
                try:
                    self.wfile.write(block)
                except OSError:
                    return None
                place += len(block)
                time.sleep(site.delay)
            if fault[0] == "stall":
                time.sleep(0.6)
            if fault[0] == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if fault[0] in ("cut", "reset", "stall"):
                self.close_connection = True
                self.connection.close()
            return None

        def answer(self, status: int, headers: dict, body: bytes):
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):  # connections that a test breaks off
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


def tar_of(members: dict[str, bytes], form=tarfile.USTAR_FORMAT) -> bytes:
    """A tar with folders and macOS' doubles, as the Decathlon's was made on a Mac."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        folder = tarfile.TarInfo("Task01_BrainTumour")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in members.items():
            place, _, last = name.rpartition("/")
            double = tarfile.TarInfo(f"{place}/._{last}")
            double.size = 163
            double.pax_headers = {"SCHILY.xattr.com.apple": "x" * 300} if form == tarfile.PAX_FORMAT else {}
            tar.addfile(double, io.BytesIO(b"m" * 163))
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@cache
def task01_members() -> dict[str, bytes]:
    """Members of a tar like Task01: 12 cases (three simulated patients, each under four numbers) and one without a mask."""
    from data.brain_simulator.cohort import brain_cohort

    with tempfile.TemporaryDirectory() as folder:
        cohort = brain_cohort(Path(folder) / "c", cases=3, spacing=8, progress=False, jobs=1)
        index = json.loads((cohort / "dataset.json").read_text())
        members, training = {}, []
        for number in range(1, 13):
            name, source = f"BRATS_{number:03d}.nii.gz", f"BRATS_{(number - 1) % 3 + 1:03d}.nii.gz"
            for part in ("imagesTr", "labelsTr"):
                members[f"Task01_BrainTumour/{part}/{name}"] = (cohort / part / source).read_bytes()
            training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    members["Task01_BrainTumour/imagesTs/BRATS_485.nii.gz"] = members["Task01_BrainTumour/imagesTr/BRATS_001.nii.gz"]
    index |= {"training": training, "numTraining": 12, "test": ["./imagesTs/BRATS_485.nii.gz"], "numTest": 1}
    return {"Task01_BrainTumour/dataset.json": json.dumps(index).encode()} | dict(sorted(members.items()))


@cache
def chest_files() -> dict[str, bytes]:
    """All files of a small simulated folder in the NIH format."""
    from data.chest_simulator.cohort import chest_cohort

    with tempfile.TemporaryDirectory() as folder:
        cohort = chest_cohort(Path(folder) / "c", films=16, size=32, progress=False, jobs=1)
        return {path.relative_to(cohort).as_posix(): path.read_bytes() for path in cohort.rglob("*") if path.is_file()}


def publish(site: Site, key: str, contents: dict[str, bytes], folder: Path) -> dict[str, str]:
    """Put files on the server under published names; the environment of a process that takes their sums for the published ones.

    The process runs the course's own code: only the list in `data.download.archives` is changed, before it is imported by anybody.
    """
    sums = {name: (len(content), hashlib.md5(content).hexdigest()) for name, content in contents.items()}
    site.files |= {f"/{key}/{name}": content for name, content in contents.items()}
    (folder / "sitecustomize.py").write_text(
        "from dataclasses import replace\n"
        "from data.download import archives\n"
        f"sums, archive = {sums!r}, archives.ARCHIVES[{key!r}]\n"
        "files = [replace(f, size=sums[f.name][0] if f.size else None, md5=sums[f.name][1] if f.md5 else None, about=sums[f.name][0])\n"
        "         if f.name in sums else f for f in archive.files]\n"
        f"archives.ARCHIVES[{key!r}] = replace(archive, files=tuple(files))\n"
    )
    root = Path(__file__).resolve().parents[1]
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (folder, root))), "COURSE_MIRROR": site.url}
