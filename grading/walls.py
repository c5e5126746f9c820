"""What stands between a student's code and the machine: the command that starts each kind of sandbox, and what can be seen in it.

Only what Python needs is shown: its own folders, the environment's, the system's shared libraries, and a copy of what notebooks
import of the course (`handed_out`). The course itself, the folder of results, the submissions and nbgrader's exchange stay
hidden, even where they lie inside of a folder that Python needs.
"""

import functools
import os
import shutil
import site
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from models import ENGINE

from .handed_out import ROOT

INSIDE = Path(__file__).resolve().parent / "inside"
KINDS = ("bubblewrap", "docker", "podman", "process")
LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/lib32", "/usr/local/lib", "/lib", "/lib64", "/lib32")
ALWAYS_HIDDEN = (ROOT, Path("/usr/local/share/nbgrader/exchange"), Path("/srv/nbgrader/exchange"))
INSTALL = (
    "Install it (`sudo apt install bubblewrap`; Fedora: `sudo dnf install bubblewrap`), or use a container (--sandbox docker, see "
    "grading/README.md)"
)


class SandboxBroken(BaseException):
    """The sandbox itself does not work: nothing about the student. Not an Exception, so that no check takes it for an answer."""


def environment() -> dict[str, str]:
    """Environment variables of the sandbox: none of the instructor's."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "KERAS_BACKEND": "tensorflow",
        "MPLBACKEND": "agg",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "KERAS_HOME": "/tmp",
        **ENGINE,
    }


def without(place: Path, hidden: Iterable[Path]) -> Iterator[Path]:
    """A folder or file but for what is hidden in it: itself, or as many of its parts as it takes."""
    real, hidden = place.resolve(), list(hidden)
    if not place.exists() or any(real.is_relative_to(one) for one in hidden):
        return
    if place.is_dir() and any(one.is_relative_to(real) for one in hidden):
        for part in sorted(place.iterdir()):
            yield from without(part, hidden)
    else:
        yield place


@functools.cache
def visible(hidden: tuple[str, ...] = ()) -> list[tuple[Path, Path]]:
    """(where it is, where the sandbox shows it) of all that is visible in it."""
    hidden = [Path(one).resolve() for one in (*ALWAYS_HIDDEN, *hidden)]
    # Python's own folders are shown even where somebody made the environment inside of the course, or the course is one.
    parts = [Path(prefix) / name for prefix in (sys.base_prefix, sys.base_exec_prefix) for name in ("bin", "lib", "lib64")]
    places = [(place, place) for place in dict.fromkeys([*map(Path, LIBRARIES), *parts, *map(Path, site.getsitepackages())])]
    own = Path(sys.prefix)
    if sys.prefix != sys.base_prefix:  # an environment works at any place; at /venv it tells nothing of the course
        places = [(place, at) for place, at in places if not place.is_relative_to(own)]
        places += [(own / name, Path("/venv") / name) for name in ("bin", "lib", "lib64", "pyvenv.cfg")]
    found = []
    for place, at in places:
        inside_of = [one for one in hidden if place.resolve().is_relative_to(one)]
        keep = [one for one in hidden if one not in inside_of]
        found += [(part, at / part.relative_to(place)) for part in without(place, keep)]
    found += [(part, part) for part in map(Path, ("/etc/ld.so.cache", "/etc/alternatives")) if part.exists()]
    return [*found, (INSIDE, Path("/inside"))]


def bubblewrap_command(inner: list[str], hidden: tuple[str, ...] = (), course: str = "") -> list[str]:
    """The command that runs `inner` in a sandbox: Python, libraries and a copy of the course read-only, /tmp in memory."""
    bind: list[str] = []
    for place, at in visible(hidden):
        if place == at and place.is_symlink():
            bind += ["--symlink", os.readlink(place), str(at)]
        else:
            bind += ["--ro-bind", str(place), str(at)]
    bind += ["--ro-bind", course, "/course"] if course else []
    for name, value in environment().items():
        bind += ["--setenv", name, value]
    inside = sys.prefix != sys.base_prefix
    python = f"/venv/{Path(sys.executable).relative_to(sys.prefix).as_posix()}" if inside else sys.executable
    # What is mounted later covers what was mounted before: the course, and Python, may lie in /tmp.
    return [
        *("bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"),
        *("--uid", "1000", "--gid", "1000", "--hostname", "sandbox", "--tmpfs", "/tmp", *bind),
        *("--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev", "--tmpfs", "/dev/shm"),
        *("--chdir", "/tmp", "--remount-ro", "/", python, "-sBP", *inner),
    ]


def readable(hidden: tuple[str, ...] = ()) -> list[str]:
    """What an ordinary process of a student may read where the system can hide the rest."""
    return [*(str(place) for place, _ in visible(hidden)), "/etc/localtime", "/dev/null", "/dev/urandom"]


def container_command(engine: str, image: str, memory: int, course: str) -> list[str]:
    """The command that runs one exercise in a container without network, privileges or a writable disk."""
    variables = [option for name, value in environment().items() for option in ("--env", f"{name}={value}")]
    return [
        *(engine, "run", "--rm", "--interactive", "--network", "none", "--read-only", "--tmpfs", "/tmp:size=16m"),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit", "256", "--cpus", "1"),
        *("--memory", str(2 * memory), "--user", "1000:1000"),
        *("--volume", f"{INSIDE}:/inside:ro", "--volume", f"{course}:/course:ro", *variables),
        *(image, "python", "-sBP", "/inside/worker.py", "once", "0", "1"),
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
    """The kind of sandbox to use.

    Raises
    ------
    SandboxBroken
        When it does not work here. `process` is never taken without being asked for.
    """
    if kind == "auto":
        if works("bubblewrap"):
            return "bubblewrap"
        why = "does not work here" if shutil.which("bwrap") else "is not installed"
        raise SandboxBroken(
            f"Students' code is run in bubblewrap, and it {why}. {INSTALL}. If you trust everybody in the class: --sandbox process."
        )
    if not works(kind):
        raise SandboxBroken(f"{kind} does not work on this machine. Install it, or choose another --sandbox ({', '.join(KINDS)}).")
    return kind


def unprotected(landlock: bool) -> str:
    """What an ordinary process does not protect: said at the start of a run with --sandbox process."""
    files = (
        "It cannot open your files, but it can tell that a file exists, how large it is and when it was changed"
        if landlock
        else "It can read and change all files that you can: this system has no Landlock to hide them"
    )
    return (
        f"No bubblewrap: students' code runs as an ordinary process of yours. {files}; it may fill your disk where the system "
        f"gives it no folder in memory. It has no network and no other programs (on Linux). {INSTALL}."
    )
