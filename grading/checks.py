"""Judges a student's function from outside of the sandbox.

The checks of `public_tests` are run here, in the grader's process, with a `Check` of our own (`Forwarded`) that carries each
call into the sandbox and brings back plain data. So the expected values, the oracles and the verdict never come near the
student's code. Two runs:

* **hidden**: the checks with other random cases, drawn from the instructor's seed. Nothing raises at the first mistake:
  every case is counted (`Counted`). This run gives the points.
* **public**: the check as students know it. It gives the message, which therefore shows public inputs only.
"""

import contextlib
import hashlib
import re
import resource
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

import public_tests

from .inside import notebook, wire
from .sandbox import UNREADABLE, SandboxEnded, Session

EXERCISES = public_tests.EXERCISES
MAX_CALLS = 60_000
MAX_ANSWERS = 512 << 20  # bytes of all answers of one run: what is large on purpose ends here
JUDGE_MEMORY = 4 << 30  # bytes that judging may take on top of what the grader has


@dataclass
class Run:
    """What one run of a check found."""

    cases: dict[tuple[str, str], bool] = field(default_factory=dict)  # (key of the case, digest of the input) → right
    finished: bool = False
    message: str = ""  # of the first failure (public run)
    hint: str = ""  # of the first failure
    raised: str = ""  # type of the first error in the student's code
    about: str = ""  # key of the last requirement (public run)
    proven: str = ""  # the slip that gives just the value of the first failure (public run)
    ended: str = ""  # "timeout" or "crash"
    not_written: bool = False
    bytes: int = 0  # of all arrays that were returned
    moved: int = 0  # calls that moved the global random state
    lines: list = field(default_factory=list)  # where in the notebook the error arose: (cell, line)

    @property
    def wrong_about(self) -> list[str]:
        """What the cases that are wrong are about, in our own words."""
        return list(dict.fromkeys(key for (key, _), right in self.cases.items() if not right))

    @property
    def right(self) -> bool:
        return self.finished and all(self.cases.values()) and not self.message


class Probe:
    """A tensor whose gradient is wanted. It is computed in the sandbox; here is its value, then its gradient."""

    def __init__(self, value: np.ndarray) -> None:
        self.value, self.gradient = np.asarray(value, "float32"), None
        self.shape, self.dtype = self.value.shape, self.value.dtype

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.value if dtype is None else self.value.astype(dtype)


class Remote:
    """Stands for a function in the sandbox."""

    def __init__(self, session: Session, number: int, run: Run) -> None:
        self.session, self.number, self.run = session, number, run

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.ask(list(args), options)[0]

    def ask(self, args: list, options: dict[str, Any]) -> tuple[Any, list]:
        """What the function returns as plain data, and the arguments as it left them."""
        out: list[bytes] = []
        values = [*args, *options.values()]
        nodes = [_argument(value, out) for value in values]
        tree = {"function": self.number, "args": nodes[: len(args)], "options": dict(zip(options, nodes[len(args) :]))}
        reply, buffers = self.session.ask(tree, out)
        self.run.bytes += sum(map(len, buffers))
        if self.run.bytes > MAX_ANSWERS:
            raise SandboxEnded("timeout", "its answers are too large to be judged in time")
        try:  # a student's code can put anything into its answer
            if "error" in reply:
                error = self._error(reply)
            else:
                error, value = None, wire.decode(reply["value"], buffers, lambda number: Remote(self.session, number, self.run))
                after = _after(reply, buffers, values)
                self.run.moved += bool(reply["global_random"])
        except Exception:  # why not is not said: the words would be the student's, and may tell a hidden input
            raise SandboxEnded("crash", UNREADABLE) from None
        if error is not None:
            raise error
        return value, after[: len(args)]

    def _error(self, reply: dict) -> BaseException:
        """The exception that the student's code raised; the first one is noted."""
        name, text = str(reply["error"])[:60], notebook.plain_text(str(reply["text"])[:600])
        lines = [(cell, line) for cell, line in reply["lines"][:4] if re.fullmatch(r"cell \d{1,4}", cell) and type(line) is int]
        error = wire.error_of(name, text)
        self.run.lines = self.run.lines or lines
        self.run.raised = self.run.raised or type(error).__name__
        return error


def _after(reply: dict, buffers: list[bytearray], values: list[Any]) -> list[Any]:
    """The arguments as the student's function left them. Generators and models are the check's own: they follow."""
    values = list(values)
    for value in values:
        if isinstance(value, np.random.Generator) and "rng" in reply:
            wire.set_rng(value, reply["rng"])
        if isinstance(value, Probe):
            value.gradient = wire.decode(reply["gradient"], buffers)
    for position, node in reply["changed"].items():
        value = values[int(position)]
        if isinstance(value, np.ndarray):
            values[int(position)] = wire.read_array(node, buffers)
        elif isinstance(value, pd.DataFrame):
            values[int(position)] = wire.frame_of(node, buffers)
        elif hasattr(value, "set_weights"):
            value.set_weights([wire.read_array(part, buffers) for part in node])
    return values


_models: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _argument(value: Any, out: list[bytes]) -> list:
    """An argument of a check as a node for the sandbox."""
    if isinstance(value, np.ndarray):
        return wire.array_node(value, out)
    if isinstance(value, np.random.Generator):
        return wire.rng_state(value)
    if isinstance(value, pd.DataFrame):
        return wire.frame_node(value, out)
    if isinstance(value, Probe):
        return ["variable", wire.array_node(value.value, out)]
    if hasattr(value, "get_weights"):  # a Keras model
        if value not in _models:
            _models[value] = value.to_json()
        weights = value.get_weights()
        key = hashlib.sha256(_models[value].encode() + b"".join(w.tobytes() for w in weights)).hexdigest()
        return ["model", key, _models[value], *(wire.array_node(w, out) for w in weights)]
    if hasattr(value, "numpy") or hasattr(value, "detach"):  # a tensor
        return ["tensor", wire.array_node(np.asarray(value), out)]
    return wire.encode(value, out)


class Forwarded(public_tests.Check):
    """A check whose calls go into the sandbox and whose cases are noted."""

    def __init__(self, name: str, target: Remote, *args: Any, **options: Any) -> None:
        self.run, self.digest, self.calls = target.run, "", 0
        super().__init__(name, target, *args, **options)

    def note(self, key: str, right: bool, hint: str = "") -> None:
        self.run.hint = self.run.hint or ("" if right else hint)
        self.run.cases[key, self.digest] = self.run.cases.get((key, self.digest), True) and right

    def apply(self, function: Remote, args: list, options: dict[str, Any]) -> tuple[Any, list]:
        self.calls += 1
        if self.calls > MAX_CALLS:
            raise SandboxEnded("timeout", "too many calls")
        self.digest = _digest(args, options, self.seed)
        return function.ask(args, options)

    def gradient(self, function: Callable, at: np.ndarray) -> Any:
        probe = Probe(at)  # the tape runs in the sandbox
        function(probe)
        return probe.gradient

    def random_state(self) -> int:
        return self.run.moved

    def require(self, key: str, condition: Any, *texts: Any) -> None:
        self.run.about = key
        super().require(key, condition, *texts)
        self.note(key, True)

    def match(self, key: str, got: Any, expected: Any, hint: str, *more: Any) -> None:
        self.run.about = key
        try:
            super().match(key, got, expected, hint, *more)
        except AssertionError as error:
            said = str(error).partition("hint:")[2].strip()
            self.run.proven = said if said != hint.strip() else ""  # a slip was found that gives just this value
            raise
        self.note(key, True)

    def slips(self, *args: Any) -> list[str]:
        """What the other cases bring to light is not noted."""
        kept = self.digest, self.run.raised, self.run.lines, self.run.about, dict(self.run.cases)
        try:
            return super().slips(*args)
        except SandboxEnded:
            return []
        finally:
            self.digest, self.run.raised, self.run.lines, self.run.about, self.run.cases = kept

    def done(self) -> None:
        self.run.finished = True


class Counted(Forwarded):
    """A check that continues after a mistake."""

    @contextlib.contextmanager
    def case(self, key: str) -> Iterator[None]:
        self.digest = ""
        try:
            yield
        except NotImplementedError:
            self.run.not_written = True
            self.note(key, False)
        except Exception as error:  # nothing that could be judged, or a check that could not cope with it
            hint = str(error).partition("hint:")[2].strip() if isinstance(error, AssertionError) else ""
            self.note(key, False, hint or f"{type(error).__name__}: {error}"[:300])

    def message(self, expected: Any, got: Any, hint: str) -> str:
        return f"hint: {hint}"  # nobody reads the rest, and it takes long

    def require(self, key: str, condition: Any, expected: Any, got: Any, hint: str) -> None:
        self.note(key, bool(condition), hint)

    def match(self, key: str, got: Any, expected: Any, hint: str, slips: Any = None) -> None:
        self.note(key, self.close(got, expected), hint)


def _digest(args: list, options: dict, seed: int | None) -> str:
    """Identity of an input.

    Of a generator the seed, since its state depends on how often the function has drawn before; of a model its weights,
    since Keras numbers layers without a name on and on in a process.
    """
    out: list[bytes] = []
    nodes = [
        [] if isinstance(value, Remote) else [str(seed)] if isinstance(value, np.random.Generator) else _argument(value, out)
        for value in (*args, *options.values())
    ]
    nodes = [node[3:] if node[:1] == ["model"] else node for node in nodes]
    return hashlib.sha256(repr((nodes, list(options))).encode() + b"".join(out)).hexdigest()[:20]


@contextlib.contextmanager
def _bounded_memory(most: int = JUDGE_MEMORY) -> Iterator[None]:
    """An answer that makes a check allocate without end is a MemoryError here, not the end of the grader."""
    if sys.platform != "linux":
        yield
        return
    with open("/proc/self/statm") as file:
        data = int(file.read().split()[5]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = data + most if before[1] == resource.RLIM_INFINITY else min(data + most, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def run_check(exercise: str, session: Session, seed: int | None) -> Run:
    """Run a check on the function in a session: the public one (no seed) or the hidden one.

    Raises
    ------
    SandboxBroken
        When the sandbox, not the student's code, does not work.
    """
    run = Run()
    kind = Forwarded if seed is None else Counted
    try:
        with _bounded_memory():
            getattr(public_tests, f"{exercise}_test")(Remote(session, 0, run), seed=seed, check=kind)
    except NotImplementedError:
        run.not_written = True
    except SandboxEnded as error:
        run.ended, run.message = error.how, error.text
    except AssertionError as error:
        run.message = str(error)
        run.hint = run.hint or run.message.partition("hint:")[2].strip()
    except Exception as error:  # the check could not cope with what came back
        run.message = run.message or f"{type(error).__name__}: {error}"
    run.not_written = run.not_written and not any(run.cases.values())
    return run


@dataclass(frozen=True)
class Yardstick:
    """What a right answer passes: for each key, the inputs that are not public."""

    fresh: dict[str, frozenset[str]]

    def share(self, run: Run) -> float:
        """Share of the keys under which a run got every hidden case right."""
        passed = [all(run.cases.get((key, digest), False) for digest in digests) for key, digests in self.fresh.items()]
        return sum(passed) / len(passed)


def yardstick(hidden: Run, public: Run) -> Yardstick:
    """The yardstick from both runs of a right answer."""
    known, fresh = {digest for _, digest in public.cases}, {}
    for key, digest in hidden.cases:
        if digest not in known:
            fresh.setdefault(key, set()).add(digest)
    return Yardstick({key: frozenset(digests) for key, digests in fresh.items()})


def credit(share: float, right: bool) -> float:
    """Part of the points for a share of right cases: guessing gets half of many cases right, so half of them gives nothing."""
    return 1.0 if right else min(0.9, max(0.0, 2 * share - 1))
