"""The grader's side of the sandbox: starts it, hands it exercises, calls the student's functions in it, ends it.

Four ways, the best one that works here is taken unless the instructor names one:

* ``bubblewrap``: no network, a read-only view of Python and the system's libraries and of nothing else.
* ``docker`` / ``podman``: a container for each exercise, by option only.
* ``process``: an ordinary process with limits and a system call filter; newer kernels hide files from it, too. There
  is no second wall behind these: a warning is given.

In the first and the last a template process imports NumPy (and TensorFlow) once, computes nothing, and each exercise
runs in a fork of it: TensorFlow starts its threads at the first operation, so a fork before that is as good as new.
"""

import contextlib
import functools
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models import ENGINE

from .inside import wire

INSIDE = Path(__file__).resolve().parent / "inside"
ROOT = INSIDE.parents[1]
KINDS = ("bubblewrap", "docker", "podman", "process")
START_SECONDS = 900  # importing TensorFlow on a busy machine
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


class SandboxBroken(BaseException):
    """The sandbox itself does not work: nothing about the student. Not an Exception, so that no check takes it for an answer."""


class SandboxBusy(SandboxBroken):
    """The machine had no time for the student's process: to be tried again with more patience."""


def environment() -> dict[str, str]:
    """Environment variables of the sandbox: none of the instructor's."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "KERAS_BACKEND": "tensorflow",
        "MPLBACKEND": "agg",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "KERAS_HOME": "/tmp",
        **ENGINE,
    }


def bubblewrap_command(inner: list[str]) -> list[str]:
    """The command that runs `inner` in a sandbox: Python and libraries read-only, /tmp in memory, nothing else.

    What is mounted later covers what was mounted before: the course may lie in /tmp, and Python in the course.
    """
    bind = [
        option
        for folder in ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/etc/ld.so.cache", "/etc/alternatives")
        for option in _bind(folder)
    ]
    for prefix in dict.fromkeys([sys.base_prefix, sys.base_exec_prefix]):
        if not Path(prefix).is_relative_to("/usr"):
            bind += ["--ro-bind", prefix, prefix]
        if ROOT.is_relative_to(prefix):
            bind += ["--tmpfs", str(ROOT)]
    python = sys.executable
    if sys.prefix != sys.base_prefix:  # a virtual environment works at any place; at this one it tells nothing of the course
        bind += ["--ro-bind", sys.prefix, "/venv"]
        python = "/venv/" + Path(sys.executable).relative_to(sys.prefix).as_posix()
    for name, value in environment().items():
        bind += ["--setenv", name, value]
    return [
        "bwrap",
        "--unshare-all",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
        "--uid",
        "1000",
        "--gid",
        "1000",
        "--hostname",
        "sandbox",
        "--tmpfs",
        "/tmp",
        *bind,
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--remount-ro",
        "/dev",
        "--tmpfs",
        "/dev/shm",
        "--ro-bind",
        str(INSIDE),
        "/inside",
        "--chdir",
        "/tmp",
        "--remount-ro",
        "/",
        python,
        "-sB",
        *inner,
    ]


def readable() -> list[str]:
    """What an ordinary process of a student may read where the system can hide the rest."""
    return [
        sys.base_prefix,
        sys.prefix,
        str(INSIDE),
        "/usr",
        "/lib",
        "/lib64",
        "/bin",
        "/etc/ld.so.cache",
        "/etc/localtime",
        "/dev/null",
        "/dev/urandom",
    ]


def _bind(folder: str) -> list[str]:
    path = Path(folder)
    if path.is_symlink() and not folder.startswith("/etc"):
        return ["--symlink", os.readlink(folder), folder]
    return ["--ro-bind", folder, folder] if path.exists() else []


def container_command(engine: str, image: str, limits: Limits) -> list[str]:
    """The command that runs one exercise in a container without network, privileges or a writable disk."""
    variables = [option for name, value in environment().items() for option in ("--env", f"{name}={value}")]
    return [
        engine,
        "run",
        "--rm",
        "--interactive",
        "--network",
        "none",
        "--read-only",
        "--tmpfs",
        "/tmp:size=16m",
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
        "--pids-limit",
        "256",
        "--cpus",
        "1",
        "--memory",
        str(2 * limits.memory),
        "--user",
        "1000:1000",
        "--volume",
        f"{INSIDE}:/inside:ro",
        *variables,
        image,
        "python",
        "-sB",
        "/inside/worker.py",
        "once",
        "0",
        "1",
    ]


@functools.cache
def works(kind: str) -> bool:
    """Whether this way of sandboxing works on this machine."""
    if kind == "bubblewrap":
        if not shutil.which("bwrap"):
            return False
        done = subprocess.run(bubblewrap_command(["-c", "import os; print(os.getuid())"]), capture_output=True, timeout=120)
        return done.stdout.strip() == b"1000"
    return kind == "process" or shutil.which(kind) is not None


def choose(kind: str = "auto") -> str:
    """The kind of sandbox to use; warns when it is the weakest."""
    if kind == "auto":
        kind = "bubblewrap" if works("bubblewrap") else "process"
    elif not works(kind):
        raise SandboxBroken(f"{kind} does not work on this machine. Install it, or choose another --sandbox ({', '.join(KINDS)}).")
    if kind == "process":
        warnings.warn(
            "No bubblewrap: students' code runs as an ordinary process with limits. It has no network; whether it can read your "
            "files depends on this system. Install bubblewrap (`sudo apt install bubblewrap`), or use --sandbox docker.",
            stacklevel=2,
        )
    return kind


class Session:
    """One exercise of one student, running in a sandbox."""

    def __init__(self, fd_in: int, fd_out: int, limits: Limits, finish: Callable[[], dict], patience: float = 1.0) -> None:
        self.patience = patience  # where nobody measures how long the process waited for a core, the load of the machine must do
        self.fd_in, self.fd_out, self.limits, self.finish = fd_in, fd_out, limits, finish
        self.waited = 0.0  # seconds, for answers of the student's code; the grader's own work does not count
        self.ahead = b""  # what came together with what was asked for: the rest of a short message takes no second look
        self.closed = False

    def ask(self, tree: Any, buffers: list[bytes] = ()) -> tuple[Any, list[bytearray]]:
        """Send a message, receive the answer.

        Raises
        ------
        SandboxEnded
            When there is none in time, or it is no message.
        """
        if self.closed:  # its file numbers may belong to somebody else by now
            raise SandboxEnded("crash", "your code has ended before")
        try:
            wire.send(self.fd_out, tree, buffers)
            return wire.receive(self.fd_in, self._read, wire.MAX_ANSWER)
        except (wire.Ended, wire.WireError) as error:
            raise self.ended(error) from None

    def ended(self, error: Exception) -> SandboxEnded | SandboxBroken:
        """What to say about a process that does not answer any more."""
        status = self.close()
        if status.get("how") == "failed":
            raise SandboxBroken(f"the sandbox could not be made: {status.get('text', 'no reason given')}")
        if isinstance(error, TooLate) and status.get("starved", 0) > 0.3 * self.waited:
            return SandboxBusy(f"this machine is overloaded: a student's process waited {status['starved']:.0f} s for a core")
        if status.get("how") == "slow" or isinstance(error, TooLate):
            return SandboxEnded("timeout", f"no answer within {self.limits.cpu} seconds: is there a loop that does not end?")
        if isinstance(error, wire.WireError):
            return SandboxEnded("crash", f"the answer could not be read ({error})")
        if status.get("how") == "signal":
            name = signal.Signals(status["code"]).name if status.get("code") in set(signal.Signals) else "a signal"
            return SandboxEnded("crash", f"Python itself was ended ({name}): out of memory, or a crash in a library")
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
        self, kind: str = "auto", *, tensorflow: bool = False, image: str = "ai-for-medical-diagnosis", warm: bool = True
    ) -> None:
        self.kind, self.tensorflow, self.image = choose(kind), tensorflow, image
        self.warm = warm and self.kind in ("bubblewrap", "process") and sys.platform == "linux"
        self.process: subprocess.Popen | None = None
        self.scratch: tempfile.TemporaryDirectory | None = None
        self.started = 0  # templates that had to be started
        self.import_seconds = 0.0

    # -- the template ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self.stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # keeps messages apart
        with theirs:
            number = str(theirs.fileno())
            if self.kind == "process":
                self.scratch = tempfile.TemporaryDirectory(prefix="grading-")
                command, variables = (
                    [sys.executable, "-sB", str(INSIDE / "worker.py"), "template", number],
                    environment() | {"HOME": self.scratch.name},
                )
            else:
                command, variables = bubblewrap_command(["/inside/worker.py", "template", number]), None
            self.process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=variables,
                cwd=self.scratch and self.scratch.name,
            )
        self.control = ours
        self.control.send(json.dumps({"tensorflow": self.tensorflow}).encode())
        try:
            self.import_seconds = self._control_message(START_SECONDS)["ready"]
        except (wire.Ended, OSError, ValueError) as error:
            self.process.kill()
            text = self.process.stderr.read().decode(errors="replace")[-500:]
            raise SandboxBroken(f"the sandbox does not start ({error}): {text}") from None
        self.started += 1

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
        if self.scratch is not None:
            self.scratch.cleanup()
            self.scratch = None

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
                job = self._job(limits) | {"wall": 2 * STRETCH * limits.wall}
                socket.send_fds(self.control, [json.dumps(job).encode()], [theirs.fileno()])
        except OSError:
            self.stop()
            ours.close()
            raise SandboxBroken("the template is gone") from None
        fd = ours.detach()
        return Session(fd, fd, limits, self._finish_fork)

    def _job(self, limits: Limits, scratch: str = "") -> dict[str, Any]:
        """What the worker is told: limits, the folder that it may write to, and what it may read (empty: all that it sees)."""
        scratch = scratch or (self.scratch.name if self.scratch else "/tmp")
        return {**asdict(limits), "scratch": scratch, "readable": readable() if self.kind == "process" else []}

    def _once(self, limits: Limits) -> Session:
        if self.kind in ("docker", "podman"):
            command = container_command(self.kind, self.image, limits)
        elif self.kind == "bubblewrap":
            command = bubblewrap_command(["/inside/worker.py", "once", "0", "1"])
        else:
            command = [sys.executable, "-sB", str(INSIDE / "worker.py"), "once", "0", "1"]
        folder = tempfile.TemporaryDirectory(prefix="grading-") if self.kind == "process" else None
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=None if self.kind in ("docker", "podman") else environment(),
            cwd=folder and folder.name,
        )

        def finish() -> dict:
            # The process may have ended already; what is left of it is killed with its whole group.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
            before = process.poll()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if folder:
                folder.cleanup()
            code = before if before is not None else -signal.SIGKILL
            code = 128 - code if code > 128 else code  # bubblewrap and containers: 128 + signal
            if before is None or -code in (signal.SIGXCPU, signal.SIGKILL):
                return {"how": "slow", "code": 9}
            return {"how": "signal", "code": -code} if code < 0 else {"how": "exit", "code": code}

        fd_in, fd_out = os.dup(process.stdout.fileno()), os.dup(process.stdin.fileno())
        process.stdout.close()
        process.stdin.close()
        with contextlib.suppress(wire.Ended):
            wire.send(fd_out, self._job(limits, folder.name if folder else ""))
        return Session(fd_in, fd_out, limits, finish, patience=STRETCH)
