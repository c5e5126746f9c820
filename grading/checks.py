"""Judges a student's function from outside of the sandbox.

The checks of `public_tests` are run here, in the grader's process, on a stand-in (`Remote`) that forwards each call into
the sandbox and brings back plain data. So the expected values, the oracles and the verdict never come near the student's
code. Two runs:

* **hidden**: the checks with other random cases, drawn from the instructor's seed, and more cases from `cases`. Nothing
  raises at the first mistake: every case is counted. This run gives the points.
* **public**: the check as students know it. It gives the message, which therefore shows public inputs only.
"""

import contextlib
import hashlib
import importlib.util
import resource
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import public_tests

from . import cases, notebook
from .inside import wire
from .sandbox import SandboxEnded, Session

EXERCISES = public_tests.EXERCISES
# Judged by many draws: here each requirement counts once, however often it is tested.
BY_REQUIREMENT = {"bootstrap_patients", "get_sub_volume", "grad_cam"}
MAX_CALLS = 60_000
MAX_ANSWERS = 512 << 20  # bytes of all answers of one run: what is large on purpose ends here
JUDGE_MEMORY = 4 << 30  # bytes that judging may take on top of what the grader has


@dataclass
class Run:
    """What one run of a check found."""

    cases: dict[str, bool] = field(default_factory=dict)  # digest of the input → right
    requirements: dict[int, bool] = field(default_factory=dict)  # line of the check → always met
    finished: bool = False
    message: str = ""  # of the first failure (public run)
    hint: str = ""  # of the first failure
    raised: str = ""  # type of the first error in the student's code
    ended: str = ""  # "timeout" or "crash"
    not_written: bool = False
    bytes: int = 0  # of all arrays that were returned
    lines: list = field(default_factory=list)  # where in the notebook the error arose: (cell, line)

    @property
    def right(self) -> bool:
        return self.finished and all(self.cases.values()) and all(self.requirements.values()) and not self.message


class Probe:
    """A tensor whose gradient is wanted. It is computed in the sandbox; here is its value, then its gradient."""

    def __init__(self, value: np.ndarray) -> None:
        self.value, self.gradient = np.asarray(value, "float32"), None
        self.shape, self.dtype = self.value.shape, self.value.dtype

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.value if dtype is None else self.value.astype(dtype)


class Remote:
    """Stands for a function in the sandbox: called with the check's arguments, returns plain data."""

    def __init__(self, session: Session, number: int, run: Run) -> None:
        self._session, self._number, self._run = session, number, run

    def __call__(self, *args: Any, **options: Any) -> Any:
        out: list[bytes] = []
        nodes = [_argument(value, out) for value in (*args, *options.values())]
        tree = {"function": self._number, "args": nodes[: len(args)], "options": dict(zip(options, nodes[len(args) :]))}
        reply, buffers = self._session.ask(tree, out)
        self._run.bytes += sum(map(len, buffers))
        if self._run.bytes > MAX_ANSWERS:
            raise SandboxEnded("timeout", "its answers are too large to be judged in time")
        try:  # a student's code can put anything into its answer
            if "error" in reply:
                error = self._error(reply)
            else:
                error, value = None, wire.decode(reply["value"], buffers, lambda number: Remote(self._session, number, self._run))
                self._after(reply, buffers, [*args, *options.values()])
        except Exception as problem:
            raise SandboxEnded("crash", f"the answer could not be read ({type(problem).__name__}: {problem})"[:300]) from None
        if error is not None:
            raise error
        return value

    def _error(self, reply: dict) -> BaseException:
        """The exception that the student's code raised; the first one is noted."""
        name, text = str(reply["error"])[:60], notebook.plain_text(str(reply["text"])[:600])
        lines = [(notebook.plain_text(str(cell)[:40]), int(line)) for cell, line in reply["lines"][:4]]
        error = wire.error_of(name, text)
        self._run.lines = self._run.lines or lines
        self._run.raised = self._run.raised or type(error).__name__
        return error

    @staticmethod
    def _after(reply: dict, buffers: list[bytearray], values: list[Any]) -> None:
        """Do to the check's arguments what the student's function did to its own."""
        if reply["global_random"]:
            np.random.random_sample()  # the check looks whether the global state has moved
        for value in values:
            if isinstance(value, np.random.Generator) and "rng" in reply:
                wire.set_rng(value, reply["rng"])
            if isinstance(value, Probe):
                value.gradient = wire.decode(reply["gradient"], buffers)
        for position, node in reply["changed"].items():
            value = values[int(position)]
            if isinstance(value, np.ndarray):
                new = wire.read_array(node, buffers)
                if value.shape == new.shape:
                    value[...] = new
                else:
                    value += 1
            elif isinstance(value, pd.DataFrame):
                value._update_inplace(wire.frame_of(node, buffers))
            elif hasattr(value, "set_weights"):
                value.set_weights([wire.read_array(part, buffers) for part in node])


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


def _gradient(function: Callable, at: np.ndarray) -> Any:
    """In place of public_tests._gradient: the tape runs in the sandbox."""
    probe = Probe(at)
    function(probe)
    return probe.gradient


class _Random:
    """numpy.random with another meaning of seeds."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __getattr__(self, name: str) -> Any:
        return getattr(np.random, name)

    def default_rng(self, seed: Any = None) -> np.random.Generator:
        return np.random.default_rng(None if seed is None else [self.seed, seed])


class _NumPy(types.ModuleType):
    """numpy, but for its random."""

    def __init__(self, seed: int) -> None:
        super().__init__("numpy")
        self.random = _Random(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


@cache
def _checks(seed: int | None) -> types.ModuleType:
    """A copy of public_tests for the grader; with a seed its random cases are others, and every case is counted."""
    path = Path(public_tests.__file__)
    spec = importlib.util.spec_from_file_location(f"grading._checks_{'public' if seed is None else 'hidden'}", path)
    module = importlib.util.module_from_spec(spec)
    module.print = lambda *args, **options: None  # its green line
    spec.loader.exec_module(module)
    module._gradient = _gradient
    original = module._Check
    if seed is not None:
        module.np = _NumPy(seed)
        module._evaluate = lambda *args, **options: {}  # slips are looked for in the public run
        module._show = lambda value: ""

    class Counting(original):
        """A check that notes what happens; in the hidden run it goes on after a mistake."""

        run: Run

        def __init__(self, *args: Any, **options: Any) -> None:
            self.run, self.digest, self.calls = module._run, "", 0
            super().__init__(*args, **options)

        def missed(self, hint: str = "") -> None:
            """The last call gave nothing that could be judged."""
            self._note(False, hint)

        def _note(self, right: bool, hint: str = "") -> None:
            frame = sys._getframe(2)
            while frame.f_code.co_filename == __file__ or frame.f_locals.get("self") is self:
                frame = frame.f_back
            if not right and not self.run.hint:
                self.run.hint = hint
            self.run.requirements[frame.f_lineno] = self.run.requirements.get(frame.f_lineno, True) and right
            if self.digest:
                self.run.cases[self.digest] = self.run.cases.get(self.digest, True) and right

        def call(self, *args: Any, function: Callable | None = None, hint: str = "", **options: Any) -> Any:
            self.calls += 1
            if self.calls > MAX_CALLS:
                raise SandboxEnded("timeout", "too many calls")
            if self.name not in BY_REQUIREMENT:
                self.digest = _digest(args, options)
            return super().call(*args, function=function, hint=hint, **options)

        def done(self) -> None:
            self.run.finished = True

        if seed is not None:

            def require(self, condition: Any, expected: Any, got: Any, hint: str) -> None:
                self._note(bool(condition), hint)

            def match(self, got: Any, expected: Any, hint: str, wrong: dict | None = None) -> None:
                self._note(public_tests._close(got, expected, self.tolerance), hint)

            def number(self, args: tuple, expected: float, hint: str, mistakes: dict, error: str = "", **options: Any) -> None:
                try:
                    got = float(self.array(self.call(*args, hint=error, **options), ()))
                except AssertionError:
                    return self.missed()
                self.match(got, float(expected), hint)

        else:

            def require(self, condition: Any, expected: Any, got: Any, hint: str) -> None:
                super().require(condition, expected, got, hint)
                self._note(True)

            def match(self, got: Any, expected: Any, hint: str, wrong: dict | None = None) -> None:
                super().match(got, expected, hint, wrong)
                self._note(True)

    module._Check = Counting
    return module


def _digest(args: tuple, options: dict) -> str:
    """Identity of an input."""
    out: list[bytes] = []
    nodes = [_argument(value, out) if not isinstance(value, Remote) else [] for value in (*args, *options.values())]
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
    module, run = _checks(seed), Run()
    module._run = run
    target = Remote(session, 0, run)
    extra = cases.EXTRA.get(exercise) if seed is not None else None
    state = np.random.get_state()
    try:
        first: Exception | None = None
        try:
            with _bounded_memory():
                getattr(module, f"{exercise}_test")(target)
        except NotImplementedError:
            raise
        except Exception as error:
            first = error
        if extra:
            with _bounded_memory():
                extra(module._Check, module, target, np.random.default_rng([seed, 99]))
        if first is not None:
            raise first
    except NotImplementedError:
        run.not_written = not any(run.cases.values())
    except SandboxEnded as error:
        run.ended, run.message = error.how, error.text
    except AssertionError as error:
        run.message = str(error)
        run.hint = run.hint or run.message.partition("hint:")[2].strip()
    except Exception as error:  # the check went on after a mistake and could not cope with what came back
        run.message = run.message or f"{type(error).__name__}: {error}"
    finally:
        np.random.set_state(state)
    return run


@dataclass(frozen=True)
class Yardstick:
    """What a right answer passes: the cases that are not public (or the requirements)."""

    fresh: frozenset[str]
    requirements: frozenset[int]

    def share(self, exercise: str, run: Run) -> float:
        """Share of the hidden cases (or requirements) that a run got right."""
        if exercise in BY_REQUIREMENT:
            return sum(run.requirements.get(line, False) for line in self.requirements) / len(self.requirements)
        return sum(run.cases.get(digest, False) for digest in self.fresh) / len(self.fresh)


def yardstick(hidden: Run, public: Run) -> Yardstick:
    """The yardstick from both runs of a right answer."""
    return Yardstick(frozenset(hidden.cases) - frozenset(public.cases), frozenset(hidden.requirements))


def credit(share: float, right: bool) -> float:
    """Part of the points for a share of right cases: guessing gets half of many cases right, so half of them gives nothing."""
    return 1.0 if right else min(0.9, max(0.0, 2 * share - 1))
