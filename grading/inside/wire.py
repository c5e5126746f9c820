"""How the two sides of the sandbox talk: messages of JSON and raw buffers over a pipe. Never pickle.

A message is `length of JSON (u32), number of buffers (u32), length of each buffer (u64), JSON, buffers`. A value is a
JSON list whose first entry names its kind. `encode` takes what a student's function may return apart into plain data;
`decode` builds values again, checks all that it is told, and knows no kind that could run code.
"""

import builtins
import json
import math
import os
import re
import struct
from typing import Any

import numpy as np

MAX_JSON = 32 << 20  # bytes; a notebook's code comes in one piece, and again for each exercise that needs all of it
MAX_ANSWER = 1 << 16  # bytes of JSON in an answer, which needs a few hundred
MAX_BYTES = 128 << 20  # of all buffers together
KINDS = "buifcSU"  # NumPy kinds that travel
MAX_ITEMS = 8  # a longer list becomes an array


class WireError(ValueError):
    """The other side said something that is no message."""


class Ended(EOFError):
    """The other side is gone."""


class Unknown:
    """A value that cannot travel; only the name of its type did."""

    def __init__(self, name: str) -> None:
        self.type_name = name

    def __repr__(self) -> str:
        return f"<{self.type_name}>"


def read_exactly(fd: int, count: int) -> bytearray:
    """Read `count` bytes or raise Ended."""
    data = bytearray(count)
    view, at = memoryview(data), 0
    while at < count:
        try:
            part = os.readv(fd, [view[at : at + (1 << 20)]])
        except OSError as error:
            raise Ended(str(error)) from None
        if not part:
            raise Ended("the pipe was closed")
        at += part
    return data


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except OSError as error:
            raise Ended(str(error)) from None


def send(fd: int, tree: Any, buffers: list[bytes] = ()) -> None:
    """Send one message."""
    text = json.dumps(tree, separators=(",", ":")).encode()
    head = struct.pack(f"<II{len(buffers)}Q", len(text), len(buffers), *map(len, buffers))
    write_all(fd, b"".join([head, text, *buffers]))


def receive(fd: int, read=read_exactly, most: int = MAX_JSON) -> tuple[Any, list[bytearray]]:
    """Receive one message; raises WireError for anything that is none, before it takes much memory."""
    length, count = struct.unpack("<II", read(fd, 8))
    if length > most or count > 4096:
        raise WireError("message too long")
    sizes = struct.unpack(f"<{count}Q", read(fd, 8 * count))
    if sum(sizes) > MAX_BYTES:
        raise WireError("arrays too large")
    try:
        tree = json.loads(read(fd, length))
    except (ValueError, RecursionError) as error:
        raise WireError(f"no JSON: {error}") from None
    return tree, [read(fd, size) for size in sizes]


def array_node(array: np.ndarray, buffers: list[bytes]) -> list:
    """["array", dtype, shape, number of its buffer]"""
    array = np.ascontiguousarray(array) if array.ndim else array
    buffers.append(array.tobytes())
    return ["array", array.dtype.str, list(array.shape), len(buffers) - 1]


def read_array(node: list, buffers: list[bytearray]) -> np.ndarray:
    """A writable array of its own; every claim about it is checked."""
    try:
        _, kind, shape, number = node
        if not re.fullmatch(r"[<>|=][buifcSU]\d{1,4}", kind):
            raise WireError("dtype")
        dtype, shape = np.dtype(kind), tuple(shape)
        if not all(type(n) is int and n >= 0 for n in (*shape, number)) or len(shape) > 16:
            raise WireError("shape")
        if math.prod(shape) * dtype.itemsize != len(buffers[number]):
            raise WireError("size")
        if math.prod(shape) * dtype.itemsize == 0:
            return np.empty(shape, dtype)
        return np.frombuffer(buffers[number], dtype).reshape(shape)
    except WireError:
        raise
    except Exception as error:
        raise WireError(f"no array: {error}") from None


def encode(value: Any, buffers: list[bytes], functions: list | None = None, depth: int = 0) -> list:
    """What a function returned, as plain data. `functions` collects callables, which are named by their position."""
    kind = type(value)
    if value is None:
        return ["none"]
    if kind is bool:
        return ["bool", value]
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and kind.__module__ != "numpy":
        return ["int", str(int(value))] if int(value).bit_length() <= 1024 else ["other", kind.__name__[:60]]
    if kind is float:
        return ["float", value.hex()]
    if kind is str:
        return ["str", value[:2000]]
    if isinstance(value, (tuple, list)) and depth < 3 and len(value) <= MAX_ITEMS:
        name = "tuple" if isinstance(value, tuple) else "list"
        return [name, *(encode(part, buffers, functions, depth + 1) for part in value)]
    if isinstance(value, dict):
        return ["dict"]
    if kind.__name__ == "DataFrame" and hasattr(value, "columns"):
        return frame_node(value, buffers)
    if isinstance(value, (set, frozenset)):
        return ["set"]
    if kind.__name__ in ("Fraction", "Decimal"):
        return ["float", float(value).hex()]
    if isinstance(value, (np.ndarray, np.generic, list, tuple)) or hasattr(value, "__array__") or hasattr(value, "detach"):
        try:
            if hasattr(value, "detach"):
                value = value.detach().cpu()
            array = np.asarray(value)
            if array.nbytes <= MAX_BYTES // 2:  # asked first: to copy it at every check would use up the time limit
                if array.dtype == object:
                    array = np.array([float(part) for part in array.ravel()]).reshape(array.shape)
                if array.dtype.kind in KINDS:
                    return array_node(array, buffers)
        except Exception:
            pass
        return ["other", kind.__name__[:60]]
    if callable(value) and functions is not None:
        functions.append(value)
        return ["function", len(functions) - 1]
    return ["other", kind.__name__[:60]]


def decode(node: Any, buffers: list[bytearray], function=None, depth: int = 0) -> Any:
    """The value of a node. `function(number)` makes what stands for a callable of the other side."""
    try:
        if depth > 6 or type(node) is not list:
            raise WireError("too deep, or no node")
        match node:
            case ["none"]:
                return None
            case ["bool", bool(value)]:
                return value
            case ["int", str(text)] if len(text) < 400:
                return int(text)
            case ["float", str(text)] if len(text) < 60:
                return float.fromhex(text)
            case ["str", str(text)]:
                return text[:2000].encode("utf-8", "replace").decode()  # no halves of characters
            case ["tuple", *parts]:
                return tuple(decode(part, buffers, function, depth + 1) for part in parts)
            case ["list", *parts]:
                return [decode(part, buffers, function, depth + 1) for part in parts]
            case ["dict"]:
                return {}
            case ["set"]:
                return set()
            case ["array", *_]:
                array = read_array(node, buffers)
                return array if array.ndim else array[()]
            case ["frame", *_]:
                return frame_of(node, buffers)
            case ["function", int(number)] if function is not None:
                return function(number)
            case ["other", str(name)]:
                return Unknown(re.sub(r"\W", "", name)[:60] or "object")
    except WireError:
        raise
    except Exception as error:
        raise WireError(f"no value: {error}") from None
    raise WireError("unknown kind of value")


# ---- arguments: more kinds, which only the grader sends --------------------------------------------------------------


def rng_state(rng: np.random.Generator) -> list:
    """["rng", state, increment, has_uint32, uinteger] of a PCG64 generator."""
    state = rng.bit_generator.state
    return ["rng", str(state["state"]["state"]), str(state["state"]["inc"]), state["has_uint32"], state["uinteger"]]


def set_rng(generator: np.random.Generator, node: list) -> np.random.Generator:
    """Put a generator into this state; WireError for states that are none."""
    try:
        _, state, increment, has, value = node
        generator.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": int(state), "inc": int(increment)},
            "has_uint32": int(has),
            "uinteger": int(value),
        }
        return generator
    except Exception as error:
        raise WireError(f"no generator: {error}") from None


def rng_of(node: list) -> np.random.Generator:
    """A new generator in this state. Its children depend on its state."""
    try:
        seed = int(node[1])
    except Exception as error:
        raise WireError(f"no generator: {error}") from None
    return set_rng(np.random.Generator(np.random.PCG64(seed)), node)


def frame_node(frame: Any, buffers: list[bytes]) -> list:
    """["frame", index, [name, column], …]; numbers as arrays, everything else as text."""

    def column(values: Any) -> list:
        array = np.asarray(values)
        if array.dtype.kind in "biuf":
            return array_node(array, buffers)
        return ["texts", [str(v) for v in values]]

    return ["frame", column(frame.index), *([str(name), column(frame[name])] for name in frame.columns)]


def frame_of(node: list, buffers: list[bytearray]) -> Any:
    """The table of a node."""
    import pandas as pd

    def column(part: list) -> Any:
        return pd.array([str(t) for t in part[1]], dtype="str") if part[0] == "texts" else read_array(part, buffers)

    try:
        return pd.DataFrame({name: column(part) for name, part in node[2:]}, index=pd.Index(column(node[1])))
    except WireError:
        raise
    except Exception as error:
        raise WireError(f"no table: {error}") from None


ERRORS = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, (Warning, UnicodeError))
}
ERRORS["SystemExit"] = SystemExit
ERRORS.pop("ExceptionGroup", None)


def error_of(name: str, text: str) -> BaseException:
    """A built-in exception of this name; any other name, which could spell out what is hidden, becomes a plain Exception."""
    return ERRORS.get(name, Exception)(text)
