"""Executes a notebook with nbclient; shows how far it is, and measures its time and memory."""

import os
import re
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from papermill.translators import translate_parameters
from tqdm import tqdm

from tools.lesson import ROOT, section_of
from tools.outputs import NOISE

HEADLINE_MIME = "application/vnd.course.headline+json"  # what util.headline emits
ANSI = re.compile(r"\x1b\[[\d;]*[A-Za-z]")
HEARTBEAT = 20.0  # seconds between signs of life where the output is no terminal


@dataclass
class Run:
    """An executed notebook and what was measured; `failure` says in words where and why it stopped, if it did."""

    notebook: NotebookNode
    seconds: float = 0.0
    peak_mib: float = 0.0
    headlines: list[dict[str, Any]] = field(default_factory=list)
    failed_cell: int | None = None
    error_name: str = ""
    failure: str = ""
    processor_seconds: float = 0.0


def inject_parameters(nb: NotebookNode, parameters: dict[str, Any]) -> NotebookNode:
    """Add a cell of assignments after the one tagged ``parameters``, as papermill does (and written by it).

    Raises
    ------
    ValueError
        When no cell is tagged ``parameters``.
    """
    if not parameters:
        return nb
    tagged = [index for index, cell in enumerate(nb.cells) if "parameters" in cell.metadata.get("tags", [])]
    if not tagged:
        raise ValueError("This notebook has no cell tagged `parameters`, so nothing can be set in it.")
    source = translate_parameters("python3", "python", parameters, "Set by whoever ran this notebook")
    nb.cells.insert(tagged[0] + 1, new_code_cell(source, metadata={"tags": ["injected-parameters"]}))
    return nb


def kernel_environment(**extra: str) -> dict[str, str]:
    """Environment of the kernel: TensorFlow quiet, figures inline and without sliders, progress bars at an easy pace."""
    env = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TQDM_MININTERVAL": "0.5"}
    return quiet | env | {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "JUPYTER_PLATFORM_DIRS": "1", "COURSE_STATIC": "1"} | extra


def execute(nb: NotebookNode, *, title: str, cwd: Path = ROOT, env: dict[str, str] | None = None, show: bool = True) -> Run:
    """Execute `nb` in place, in a fresh kernel of this environment.

    Parameters
    ----------
    nb : NotebookNode
        Changed: it gets its outputs, up to the cell that failed, if one did.
    title : str
        Name to show beside the progress.
    cwd : Path
        Folder in which the kernel starts.
    env : dict, optional
        Environment of the kernel; default `kernel_environment()`.
    show : bool
        Show the progress on stderr.

    Returns
    -------
    Run
        With seconds of wall time, those of all processors together (Linux, macOS) and the largest memory (RSS) of the kernel
        with all its children, in MiB.
    """
    run = Run(nb)
    progress = _Progress(nb, title, show)
    client = _Client(nb, progress, cwd)
    watch = _Watch(progress)
    client.on_notebook_start = lambda notebook: watch.start(client.km.provisioner.pid)
    client.on_cell_start = lambda cell, cell_index: progress.enter(cell_index)
    client.on_cell_executed = lambda cell, cell_index, execute_reply: progress.leave(cell_index)
    log = tempfile.TemporaryFile()  # noqa: SIM115  what the kernel writes past its streams: of interest only when it dies
    start, of_children = time.perf_counter(), _children_seconds()
    try:
        client.execute(env=env or kernel_environment(), stdout=log, stderr=log)
    except CellExecutionError as error:
        run.failed_cell, run.error_name = progress.index, error.ename
        run.failure = _describe(nb, progress.index, title, f"{error.ename}: {error.evalue}")
    except DeadKernelError:
        run.failed_cell, run.error_name = progress.index, "DeadKernelError"
        reason = (
            f"the kernel died, most often for want of memory (it had {watch.peak / 2**20:.0f} MiB at most; "
            f"{psutil.virtual_memory().available / 2**20:.0f} MiB are free now)\n{_tail(log)}"
        )
        run.failure = _describe(nb, progress.index, title, reason)
    except AssertionError:  # nbclient's way of saying that Ctrl-C came: its kernel manager is gone
        if client.km is not None:
            raise
        raise KeyboardInterrupt from None
    finally:
        run.seconds, run.processor_seconds = time.perf_counter() - start, _children_seconds() - of_children
        watch.stop()
        progress.close()
        log.close()
    run.peak_mib = watch.peak / 2**20
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            if HEADLINE_MIME in output.get("data", {}):
                run.headlines.append(output.data[HEADLINE_MIME])
    return run


def _children_seconds() -> float:
    """Processor time of all processes that this one has started and that have ended; 0 on Windows."""
    times = os.times()
    return times.children_user + times.children_system


def _describe(nb: NotebookNode, index: int, title: str, error: str) -> str:
    source = "\n".join(f"    {line}" for line in nb.cells[index].source.splitlines()[:12])
    return f"{title}: stopped in section “{section_of(nb, index)}”, cell {index + 1} of {len(nb.cells)}:\n{source}\n{error}"


def _tail(log: IO[bytes], lines: int = 5) -> str:
    log.seek(0)
    return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])


class _Client(NotebookClient):
    """nbclient's client that also hands the running cell's stream to the progress display."""

    def __init__(self, nb: NotebookNode, progress: "_Progress", cwd: Path) -> None:
        super().__init__(
            nb,
            timeout=None,
            startup_timeout=180,
            kernel_name="python3",
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": str(cwd)}},
        )
        self.progress = progress

    def output(self, outs, msg, display_id, cell_index):
        if msg["msg_type"] == "stream":
            self.progress.say(msg["content"]["text"])
        return super().output(outs, msg, display_id, cell_index)


class _Progress:
    """A bar over the cells with the section and the last line that the kernel wrote; plain lines where no terminal is."""

    def __init__(self, nb: NotebookNode, title: str, show: bool) -> None:
        self.nb, self.title, self.show = nb, title, show
        self.index = 0
        self.line = self.section = ""
        self.spoke = self.began = time.perf_counter()
        self.terminal = show and sys.stderr.isatty()
        code = [index for index, cell in enumerate(nb.cells) if cell.cell_type == "code"]
        self.order = {index: number for number, index in enumerate(code, start=1)}
        self.bar = tqdm(
            total=len(code), disable=not self.terminal, dynamic_ncols=True, bar_format="{desc} |{bar:16}| {elapsed}{postfix}"
        )

    def enter(self, index: int) -> None:
        """A cell begins."""
        if index not in self.order:
            return
        self.index, self.line = index, ""
        section = section_of(self.nb, index)
        if section != self.section:
            self.section = section
            self._print(section)
        self.bar.set_description_str(f"{self.title} {self._cell()} · {section}"[:60], refresh=False)
        self.bar.set_postfix_str("", refresh=True)

    def leave(self, index: int) -> None:
        """A cell is done."""
        if index in self.order:
            self.bar.update(self.order[index] - self.bar.n)

    def say(self, text: str) -> None:
        """The kernel wrote something: keep its last line for the next tick."""
        lines = [line.strip() for line in re.split(r"[\r\n]", ANSI.sub("", text))]
        lines = [line for line in lines if line and not NOISE.match(line)]
        self.line = lines[-1] if lines else self.line

    def tick(self) -> None:
        """Called about once a second while the notebook runs."""
        if self.terminal:
            self.bar.set_postfix_str(self.line[:70], refresh=True)
        elif time.perf_counter() - self.spoke > HEARTBEAT:
            self._print(f"{self.section} … {self.line[:100]}")

    def close(self) -> None:
        """The notebook is done or has failed."""
        self.bar.set_postfix_str("", refresh=True)
        self.bar.close()

    def _cell(self) -> str:
        return f"cell {self.order.get(self.index, 0)}/{len(self.order)}"

    def _print(self, text: str) -> None:
        if self.show and not self.terminal:
            self.spoke = time.perf_counter()
            print(f"  {self.title}  {self._cell():>12}  {self.spoke - self.began:5.0f} s  {text}", file=sys.stderr, flush=True)


class _Watch(threading.Thread):
    """Samples the memory of a process and its children, and keeps the display alive meanwhile."""

    def __init__(self, progress: _Progress) -> None:
        super().__init__(daemon=True)
        self.progress = progress
        self.peak = 0
        self.pid = 0
        self.done = threading.Event()

    def start(self, pid: int) -> None:  # type: ignore[override]
        """Begin to watch process `pid`."""
        self.pid = pid
        super().start()

    def run(self) -> None:
        count = 0
        while not self.done.wait(0.2):
            self.peak = max(self.peak, _tree_rss(self.pid))
            count += 1
            if count % 5 == 0:
                self.progress.tick()

    def stop(self) -> None:
        """End, and wait for it."""
        self.done.set()
        if self.is_alive():
            self.join()


def _tree_rss(pid: int) -> int:
    """Resident memory of a process and its descendants, in bytes; what has ended meanwhile counts nothing."""
    total = 0
    try:
        parent = psutil.Process(pid)
        processes = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total
