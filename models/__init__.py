"""Networks of the course: training, evaluation, prediction, and the settings of the engine beneath them."""

import ctypes
import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

# TensorFlow switches its oneDNN kernels on by itself only on processors with AVX-512; with AVX2 alone, as most laptops
# have, a U-Net step without them takes 2.6 times as long. Has to be set before TensorFlow is imported; a user's own
# setting wins.
ENGINE = {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

# glibc hands freed blocks of more than 32 MiB back to the system, and gets them anew page by page for the next tile of a
# scan. Kept for reuse, they save a sixth of the processor time of a whole scan.
KEPT_MEMORY = 256 << 20  # bytes


def _keep_freed_memory() -> None:
    """Raise glibc's thresholds of mmap and of trimming, unless the user has set something of malloc."""
    own = any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    mallopt = None if own or sys.platform != "linux" else getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt:
        for parameter in (-3, -1):  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h
            mallopt(parameter, KEPT_MEMORY) or mallopt(parameter, 32 << 20)  # the most that older ones take


class _QuietEngine:
    """Finder that imports TensorFlow without its greetings: no setting silences all, and in a notebook they look like an error."""

    @staticmethod
    def find_spec(name: str, path=None, target=None) -> ModuleSpec | None:
        """The specification of TensorFlow, with a loader that is silent unless the user asks for the log."""
        spec = PathFinder.find_spec(name, path) if name == "tensorflow" else None
        if spec and spec.loader and os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "3":
            load = spec.loader.exec_module
            spec.loader.exec_module = lambda module: _silently(load, module)
        return spec


def _silently(load: Callable[[ModuleType], None], module: ModuleType) -> None:
    """Load a module while the process's standard error goes nowhere; Python's own errors are raised as ever."""
    shown = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        load(module)
    finally:
        os.dup2(shown, 2)
        os.close(shown)


for _name, _value in ENGINE.items():
    os.environ.setdefault(_name, _value)
_keep_freed_memory()
if "tensorflow" not in sys.modules:
    sys.meta_path.insert(sys.meta_path.index(PathFinder), _QuietEngine)
