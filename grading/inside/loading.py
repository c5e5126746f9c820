"""Runs the statements that a function needs, in a namespace that has what a notebook has.

A statement that fails is left out and named: what it needs may be data, a picture, an answer at the keyboard, that the grader
does not have. It also is when it takes long; only definitions and imports may.
"""

import __future__

import ast
import builtins
import contextlib
import importlib
import inspect
import re
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

MODULES = {"np": "numpy", "numpy": "numpy", "pd": "pandas", "pandas": "pandas", "math": "math"}  # what the lessons import
KERAS = {"keras": "keras", "ops": "keras.ops", "tf": "tensorflow"}
_DEFINES = re.compile(r"@|(async\s+)?def\s|class\s|import\s|from\s")
_FUTURE = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


class _TooLong(BaseException):
    """Not an Exception: a statement's own `except` shall not take it for an error of its own."""


class ZMQInteractiveShell:
    """What get_ipython() gives: knows every magic and does nothing."""

    user_ns: dict[str, Any] = {}  # noqa: RUF012

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **options: [] if name == "getoutput" else None


def namespace(modules: dict[str, str]) -> dict[str, Any]:
    """The names that a notebook of the course has before its first cell."""
    shell = ZMQInteractiveShell()
    space: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins, "In": [""], "Out": {}, "_": "", "__": "", "___": ""}
    space |= {"get_ipython": lambda: shell, "display": lambda *args, **options: None, "input": lambda prompt="": ""}
    shell.user_ns = space
    for name, module in modules.items():
        with contextlib.suppress(ImportError):
            space[name] = importlib.import_module(module)
    return space


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Seconds of processor time, and three times as many of any; again and again, for who catches everything."""
    if not seconds or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: object) -> None:
        raise _TooLong("it takes too long")

    timers = [(signal.ITIMER_PROF, signal.SIGPROF, seconds), (signal.ITIMER_REAL, signal.SIGALRM, 3 * seconds)]
    before = [signal.signal(number, stop) for _, number, _ in timers]
    try:
        for timer, _, most in timers:
            signal.setitimer(timer, most, 0.2)
        yield
    finally:
        for (timer, number, _), handler in zip(timers, before):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


def _run(source: str, place: str, line: int, space: dict[str, Any], flags: int) -> int:
    """Run one statement; the flags for the next ones (`from __future__ import …` holds for the rest of a notebook)."""
    text = "\n" * (line - 1) + source
    code = compile(text, place, "exec", flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    result = eval(code, space)
    if code.co_flags & inspect.CO_COROUTINE:  # `await` outside of a function, as notebooks allow it
        with contextlib.suppress(StopIteration):
            while True:
                result.send(None)
    return flags | (code.co_flags & _FUTURE)


def _parts(source: str) -> list[str]:
    """The definitions inside of an `if`, `try`, `with` or `for` that could not be run as a whole."""
    found, queue = [], list(ast.parse(source).body)
    while queue:
        node = queue.pop(0)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)):
            found.append(ast.unparse(node))
        elif isinstance(node, (ast.If, ast.Try, ast.With, ast.For, ast.While)):
            inner = [part for name in ("body", "orelse", "finalbody") for part in getattr(node, name, [])]
            queue = inner + [part for handler in getattr(node, "handlers", []) for part in handler.body] + queue
    return found


def load(code: list, space: dict[str, Any], seconds: float = 0.0) -> list[tuple[BaseException, str, int, str]]:
    """Run the statements (place, line, source) of an answer in `space`.

    Parameters
    ----------
    seconds : float
        Processor time of one statement that is no definition, and half of what all of them may take. 0: no limit.

    Returns
    -------
    list of (error, place, line, source)
        What was left out.
    """
    flags, spent, left_out = 0, 0.0, []
    for place, line, source in code:
        free = not seconds or _DEFINES.match(source)
        start = time.process_time()
        try:
            if not free and spent > 2 * seconds:
                raise _TooLong("the lines before it take too long")
            with _time_limit(0.0 if free else seconds):
                flags = _run(source, place, line, space, flags)
        except BaseException as error:
            left_out.append((error, place, line, source))
            with contextlib.suppress(Exception):
                for part in [] if free else _parts(source):
                    with contextlib.suppress(Exception):
                        flags = _run(part, place, line, space, flags)
        spent += 0.0 if free else time.process_time() - start
    return left_out
