"""The grader's side of the sandbox: starts it, hands it exercises, calls the student's functions in it, ends it.

Four kinds (their commands: `walls`):

* ``bubblewrap``: no network, a read-only view of Python and the system's libraries and of nothing else. Taken where it works;
  where it does not, nobody is graded until the instructor names another one.
* ``docker`` / ``podman``: a container for each exercise.
* ``process``: an ordinary process with limits and a system call filter; newer kernels hide files from it, too. There
  is no second wall behind these: what it does not protect is said at the start.

In the first and the last a template process imports NumPy (and TensorFlow) once, computes nothing, and each exercise
runs in a fork of it: TensorFlow starts its threads at the first operation, so a fork before that is as good as new.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import walls
from .handed_out import copy_course
from .inside import confine, wire
from .walls import INSIDE, SandboxBroken

START_SECONDS = 900  # importing TensorFlow on a busy machine
UNREADABLE = "the answer could not be read: is it something else than numbers and arrays, or very large?"
STRETCH = 10  # how much longer a wall-clock limit may become where the machine is busy: waiting for a core is nobody's fault


class TooLate(wire.Ended):
    """No answer within the wall-clock limit."""


@dataclass(frozen=True)
class Limits:
    """What one exercise of one student may use."""

    cpu: int = 10  # seconds
    wall: float = 20.0  # seconds; a process that sleeps uses no CPU
    memory: int = 2 << 30  # bytes
    tensorflow: bool = False


class SandboxEnded(BaseException):
    """The student's process ended or had to be ended. Not an Exception, so that no check takes it for a wrong answer."""

    def __init__(self, how: str, text: str) -> None:
        super().__init__(text)
        self.how, self.text = how, text  # how: "timeout" or "crash"


class SandboxBusy(SandboxBroken):
    """The machine had no time for the student's process: to be tried again with more patience."""


class Session:
    """One exercise of one student, running in a sandbox."""

    def __init__(self, fd_in: int, fd_out: int, limits: Limits, finish: Callable[[], dict], patience: float = 1.0) -> None:
        self.patience = patience  # where nobody measures how long the process waited for a core, the load of the machine must do
        self.fd_in, self.fd_out, self.limits, self.finish = fd_in, fd_out, limits, finish
        self.waited = 0.0  # seconds, for answers of the student's code; the grader's own work does not count
        self.ahead = b""  # what came together with what was asked for: the rest of a short message takes no second look
        self.closed = False

    def ask(self, tree: Any, buffers: list[bytes] = (), most: int = wire.MAX_ANSWER) -> tuple[Any, list[bytearray]]:
        """Send a message, receive the answer, of at most so many bytes of JSON.

        Raises
        ------
        SandboxEnded
            When there is none in time, or it is no message.
        """
        if self.closed:  # its file numbers may belong to somebody else by now
            raise SandboxEnded("crash", "your code has ended before")
        try:
            wire.send(self.fd_out, tree, buffers)
            return wire.receive(self.fd_in, self._read, most)
        except (wire.Ended, wire.WireError) as error:
            raise self.ended(error) from None

    def ended(self, error: Exception) -> SandboxEnded | SandboxBroken:
        """What to say about a process that does not answer any more. In our own words: what it sent may hold hidden inputs."""
        status = self.close()
        if status.get("how") == "failed":
            raise SandboxBroken(f"the sandbox could not be made: {status.get('text', 'no reason given')}")
        if isinstance(error, TooLate) and status.get("starved", 0) > 0.3 * self.waited:
            return SandboxBusy(f"this machine is overloaded: a student's process waited {status['starved']:.0f} s for a core")
        if status.get("how") == "slow" or isinstance(error, TooLate):
            return SandboxEnded("timeout", f"no answer within {self.limits.cpu} seconds: is there a loop that does not end?")
        if isinstance(error, wire.WireError):
            return SandboxEnded("crash", UNREADABLE)
        if status.get("how") == "signal":
            return SandboxEnded("crash", "Python itself was ended: out of memory, or a crash in a library")
        return SandboxEnded("crash", "your code ended Python (os._exit, quit) or closed its files")

    def _read(self, fd: int, count: int) -> bytearray:
        """wire.read_exactly, but for no longer than the limit (on a machine that is overloaded: in proportion)."""
        data = bytearray(count)
        view, at = memoryview(data), min(count, len(self.ahead))
        view[:at], self.ahead = self.ahead[:at], self.ahead[at:]
        while at < count:
            start = time.monotonic()
            ready = select.select([fd], [], [], max(0.0, self.limits.wall - self.waited) or 1.0)[0]
            self.waited += time.monotonic() - start
            if not ready:
                if self.waited < self.limits.wall * min(self.patience, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))):
                    continue
                raise TooLate("too late")
            try:
                part = os.read(fd, 1 << 16)
            except OSError as error:  # the other side ended before it had read everything
                raise wire.Ended(str(error)) from None
            if not part:
                raise wire.Ended("the pipe was closed")
            fits = min(len(part), count - at)
            view[at : at + fits], self.ahead = part[:fits], part[fits:]
            at += fits
        return data

    def close(self) -> dict:
        """End the process; how it ended."""
        if self.closed:
            return self.status
        self.closed = True
        for fd in {self.fd_in, self.fd_out}:
            with contextlib.suppress(OSError):
                os.close(fd)
        self.status = self.finish()
        return self.status

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class Sandbox:
    """A place to run exercises one after the other. Keeps a warm template where the kind allows it."""

    def __init__(
        self,
        kind: str = "auto",
        *,
        tensorflow: bool = False,
        image: str = "ai-for-medical-diagnosis",
        warm: bool = True,
        hidden: tuple[str, ...] = (),
        libraries: Sequence[str] = (),
        given: Sequence[str] = (),
    ) -> None:
        self.kind, self.tensorflow, self.image, self.hidden = walls.choose(kind), tensorflow, image, hidden
        self.prepared = {"libraries": list(libraries), "given": list(given)}  # what the template imports and reads once for all
        if self.kind == "process":
            warnings.warn(walls.unprotected(confine.landlock() > 0), stacklevel=2)
        self.warm = warm and self.kind in ("bubblewrap", "process") and sys.platform == "linux"
        self.process: subprocess.Popen | None = None
        self.folder: tempfile.TemporaryDirectory | None = None  # of the course, and of what an ordinary process may write
        self.started = 0  # templates that had to be started
        self.import_seconds = 0.0

    # -- the template ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self.stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # keeps messages apart
        with theirs:
            number = str(theirs.fileno())
            if self.kind == "process":
                command = [sys.executable, "-sBP", str(INSIDE / "worker.py"), "template", number]
                variables = walls.environment() | {"HOME": self._place("scratch")}
            else:
                inner = ["/inside/worker.py", "template", number]
                command, variables = walls.bubblewrap_command(inner, self.hidden, self._place("course")), None
            self.process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=variables,
                cwd=self._place("scratch"),
            )
        self.control = ours
        begin = {**self.prepared, "tensorflow": self.tensorflow, "alone": self.kind == "bubblewrap"}
        self.control.send(json.dumps(begin).encode())
        try:
            self.import_seconds = self._control_message(START_SECONDS)["ready"]
        except (wire.Ended, OSError, ValueError) as error:
            self.process.kill()
            text = self.process.stderr.read().decode(errors="replace")[-500:]
            raise SandboxBroken(f"the sandbox does not start ({error}): {text}") from None
        self.started += 1

    def _place(self, name: str) -> str:
        """`course`: a copy of what notebooks import. `scratch`: where an ordinary process may write."""
        if self.folder is None:
            self.folder = tempfile.TemporaryDirectory(prefix="grading-")
            os.chmod(self.folder.name, 0o755)  # a container's user is somebody else
            for made in ("scratch", "course"):
                (Path(self.folder.name) / made).mkdir()
            copy_course(Path(self.folder.name) / "course")
        return str(Path(self.folder.name).resolve() / name)

    def _control_message(self, seconds: float) -> dict:
        """What the template (not the student) says."""
        if not select.select([self.control], [], [], seconds)[0]:
            raise wire.Ended("it does not answer")
        data = self.control.recv(65536)
        if not data:
            raise wire.Ended("it is gone")
        return json.loads(data)

    def _finish_fork(self) -> dict:
        """End the running exercise; the template tells how it ended. A template that does not is replaced."""
        try:
            if not select.select([self.control], [], [], 0)[0]:
                self.control.send(b'{"stop": 1}')
            return self._control_message(30 * STRETCH)
        except (wire.Ended, OSError, ValueError) as error:
            self.stop()
            return {"how": "failed", "text": f"the template failed: {error}"}

    def stop(self) -> None:
        """End the template and everything in it."""
        if self.process is not None:
            self.control.close()  # the template ends when the grader hangs up
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(2)
            self.process.kill()
            self.process.wait()
            self.process.stderr.close()
            self.process = None
        if self.folder is not None:
            self.folder.cleanup()
            self.folder = None

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    # -- one exercise ---------------------------------------------------------------------------------------------------

    def session(self, limits: Limits) -> Session:
        """A fresh process for one exercise.

        Raises
        ------
        SandboxBroken
            When there is no way to start one.
        """
        if self.warm:
            with contextlib.suppress(SandboxBroken):
                return self._fork(limits)
            self.stop()
            self.warm = False  # for example: this system lets ordinary users make no namespaces inside of others
        return self._once(limits)

    def _fork(self, limits: Limits) -> Session:
        if self.process is None or self.process.poll() is not None:
            self._start()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                job = self._job(limits, self._place("scratch")) | {"wall": 2 * STRETCH * limits.wall}
                socket.send_fds(self.control, [json.dumps(job).encode()], [theirs.fileno()])
        except OSError:
            self.stop()
            ours.close()
            raise SandboxBroken("the template is gone") from None
        fd = ours.detach()
        return Session(fd, fd, limits, self._finish_fork)

    def _job(self, limits: Limits, scratch: str) -> dict[str, Any]:
        """What the worker is told: limits, the folder that it may write to, the course, what it may read (empty: all it sees)."""
        if self.kind != "process":
            return {**asdict(limits), "scratch": "/tmp", "course": "/course", "readable": []}
        scratch, course = str(Path(scratch).resolve()), self._place("course")
        return {**asdict(limits), "scratch": scratch, "course": course, "readable": [course, *walls.readable(self.hidden)]}

    def _once(self, limits: Limits) -> Session:
        if self.kind in ("docker", "podman"):
            command = walls.container_command(self.kind, self.image, limits.memory, self._place("course"))
        elif self.kind == "bubblewrap":
            command = walls.bubblewrap_command(["/inside/worker.py", "once", "0", "1"], self.hidden, self._place("course"))
        else:
            command = [sys.executable, "-sBP", str(INSIDE / "worker.py"), "once", "0", "1"]
        scratch = tempfile.TemporaryDirectory(prefix="grading-") if self.kind == "process" else None
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=None if self.kind in ("docker", "podman") else walls.environment(),
            cwd=scratch and scratch.name,
        )

        def finish() -> dict:
            # The process may have ended already; what is left of it is killed with its whole group.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
            before = process.poll()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if scratch:
                scratch.cleanup()
            code = before if before is not None else -signal.SIGKILL
            code = 128 - code if code > 128 else code  # bubblewrap and containers: 128 + signal
            if before is None or -code in (signal.SIGXCPU, signal.SIGKILL):
                return {"how": "slow", "code": 9}
            return {"how": "signal", "code": -code} if code < 0 else {"how": "exit", "code": code}

        fd_in, fd_out = os.dup(process.stdout.fileno()), os.dup(process.stdin.fileno())
        process.stdout.close()
        process.stdin.close()
        with contextlib.suppress(wire.Ended):
            wire.send(fd_out, self._job(limits, scratch.name if scratch else ""))
        return Session(fd_in, fd_out, limits, finish, patience=STRETCH / 3)
