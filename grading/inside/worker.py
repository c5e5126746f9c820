"""The process in which a student's functions run: it is told a function's source and its arguments, and answers with data.

`worker.py template FD`   waits in the sandbox with NumPy (and TensorFlow) imported and forks a process for each exercise.
`worker.py once IN OUT`   does one exercise and ends.

Nothing secret is here: no expected value, no solution, no other submission. Whatever the student's code does to this
process, the answers that leave it are judged elsewhere.
"""

import array
import contextlib
import ctypes
import gc
import importlib
import json
import os
import re
import select
import shutil
import signal
import socket
import sys
import time
import traceback
import warnings
from dataclasses import asdict
from typing import Any

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from inside import confine, loading, notebook, wire

del sys.path[0]  # what lies beside it is no business of a student's code

GLOBAL_STATE = np.random.MT19937(1).state["state"]["key"]
STATE_BYTES = 4 * 624 + 4  # NumPy's struct of a Mersenne twister: key, position


def describe(error: BaseException) -> dict:
    """Name (of the nearest built-in kind), text and the lines of the student's own code of an exception."""
    try:
        text = str(error)[:600]
    except BaseException:
        text = ""
    # Not by the traceback module: it looks for the source of each of a thousand frames on the disk, in the student's time.
    lines = [
        [frame.f_code.co_filename[:40], line or 0]
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename.startswith("cell ")
    ]
    if isinstance(error, SyntaxError) and str(error.filename).startswith("cell "):
        lines.append([error.filename, error.lineno or 0])
    name = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")
    return {"error": name, "text": text, "lines": lines[-4:]}


class Exercise:
    """The student's function and all that belongs to one exercise."""

    def __init__(self, fd_in: int, fd_out: int, cpu: int) -> None:
        self.fd_in, self.fd_out, self.cpu = fd_in, fd_out, cpu
        self.functions: list = []
        self.models: dict[str, Any] = {}
        self.count, self.random = 0, b""

    def load(self, job: dict) -> dict:
        """Run the statements that the function needs. Where one fails, the others still run."""
        modules = {**loading.MODULES, **(loading.KERAS if job["tensorflow"] else {})}
        space = self.space = loading.namespace(modules)
        problems = [
            describe(error) | {"place": place, "line": line, "source": source.strip().split("\n")[0][:80]}
            for error, place, line, source in loading.load(job["code"], space, self.cpu / 5)
        ]
        target = space.get(job["exercise"])
        if target is None:
            return {"ready": False, "problems": problems[-3:]}
        self.functions.append(target)
        return {"ready": True, "problems": problems[-3:], "callable": callable(target)}

    def argument(self, node: list, buffers: list) -> Any:
        """An argument as the student's function gets it."""
        match node[0]:
            case "rng":
                return wire.rng_of(node)
            case "frame":
                return wire.frame_of(node, buffers)
            case "tensor" | "variable":
                import keras

                return keras.ops.convert_to_tensor(wire.read_array(node[1], buffers))
            case "model":
                return self.model(node, buffers)
        return wire.decode(node, buffers)

    def model(self, node: list, buffers: list) -> Any:
        """["model", key, JSON, weights…]: a Keras model, built once."""
        import keras

        _, key, text, *weights = node
        if key not in self.models:
            self.models[key] = keras.models.model_from_json(text)
            self.models[key].set_weights([wire.read_array(part, buffers) for part in weights])
        return self.models[key]

    def call(self, message: dict, buffers: list) -> tuple[dict, list]:
        """One call: its value, and what it did to its arguments."""
        nodes = [*message["args"], *message["options"].values()]
        values = [self.argument(node, buffers) for node in nodes]
        count = len(message["args"])
        args, options = values[:count], dict(zip(message["options"], values[count:]))
        before = [
            v.tobytes()
            if isinstance(v, np.ndarray)
            else v.copy(deep=True)
            if n[0] == "frame"
            else [w.tobytes() for w in v.get_weights()]
            if n[0] == "model"
            else None
            for n, v in zip(nodes, values)
        ]
        if self.global_state() != self.random:  # another one than the last: a fixed seed set by the student is seen again
            self.count += 1
            np.random.set_state(("MT19937", np.roll(GLOBAL_STATE, self.count), 0))
            self.random = self.global_state()
        variable = next((v for n, v in zip(nodes, values) if n[0] == "variable"), None)
        out: list[bytes] = []
        gradient = ["none"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function = self.functions[message["function"]]
            if variable is None:
                value = function(*args, **options)
            else:
                import tensorflow as tf

                with tf.GradientTape() as tape:
                    tape.watch(variable)
                    value = function(*args, **options)
                found = tape.gradient(value, variable) if tf.is_tensor(value) else None
                gradient = wire.encode(found, out)
        reply = {"value": wire.encode(value, out, self.functions), "gradient": gradient, "changed": {}}
        for position, (node, was, now) in enumerate(zip(nodes, before, values)):
            if node[0] == "rng":
                if now.bit_generator.seed_seq.n_children_spawned:
                    now.random()  # children do not move the state, which is all that travels
                reply["rng"] = wire.rng_state(now)
            elif isinstance(now, np.ndarray) and now.tobytes() != was:
                reply["changed"][position] = wire.array_node(now, out)
            elif node[0] == "frame" and not now.equals(was):
                reply["changed"][position] = wire.frame_node(now, out)
            elif node[0] == "model" and [w.tobytes() for w in now.get_weights()] != was:
                reply["changed"][position] = [wire.array_node(w, out) for w in now.get_weights()]
        reply["global_random"] = self.global_state() != self.random
        return reply, out

    @staticmethod
    def global_state() -> bytes:
        """The state of np.random. Read from memory: get_state and set_state take longer than a student's function."""
        return ctypes.string_at(np.random.get_bit_generator().ctypes.state_address, STATE_BYTES)

    def read(self, job: dict, data: bytes) -> dict:
        """What a notebook file holds for the exercises: nothing of it is run."""
        try:
            cells = notebook.read_cells(data)
        except notebook.NotebookError as error:
            return {"unreadable": str(error)}
        answers = notebook.find_answers(cells, job["exercises"], job["given"])
        others = {name: any(re.search(rf"(?m)^[ \t]*def\s+{name}\b", cell) for cell in cells) for name in job["others"]}
        return {"answers": {name: asdict(answer) for name, answer in answers.items()}, "others": others}

    def serve(self) -> None:
        """Answer until the grader hangs up."""
        job, buffers = wire.receive(self.fd_in)
        if "exercises" in job:
            wire.send(self.fd_out, self.read(job, bytes(buffers[0])))
            return
        wire.send(self.fd_out, self.load(job))
        while True:
            message, buffers = wire.receive(self.fd_in)
            try:
                reply, out = self.call(message, buffers)
            except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit) as error:
                reply, out = describe(error), []
            wire.send(self.fd_out, reply, out)


def run_exercise(fd_in: int, fd_out: int, limits: dict, private: bool = False) -> None:
    """Give up everything that is not needed, then serve one exercise. Does not return."""
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        fd_in, fd_out = os.dup2(fd_in, 100, False), os.dup2(fd_out, 101, False)
        for fd in (0, 1, 2):
            os.dup2(nothing, fd)
        os.closerange(3, 100)
        os.closerange(102, 1024)
        os.chdir(limits["scratch"])
        sys.path += [limits["course"], limits["scratch"]]
        confine.limit(limits["cpu"], limits["memory"], limits["tensorflow"], private)
        if sys.platform == "linux":
            confine.drop_privileges()
            if limits["readable"]:  # bubblewrap and containers have hidden everything else already
                confine.hide_files(limits["readable"], [limits["scratch"], "/dev/null"])
            confine.filter_system_calls()
        Exercise(fd_in, fd_out, limits["cpu"]).serve()
    except BaseException:
        pass
    os._exit(0)


def starved(child: int, proc: int) -> float:
    """Seconds that a process's main thread was ready to run and got no core, less those that threads beside it ran."""
    waited = 0.0
    with contextlib.suppress(OSError, ValueError, IndexError):
        tasks = os.open(f"{child}/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=proc)
        for task in os.listdir(tasks):
            fd = os.open(f"{task}/schedstat", os.O_RDONLY, dir_fd=tasks)
            ran, ready = (int(part) / 1e9 for part in os.read(fd, 200).split()[:2])
            waited += ready if task == str(child) else -ran
            os.close(fd)
        os.close(tasks)
    return max(0.0, waited)


def is_ending(child: int, proc: int) -> bool:
    """Whether a process is on its way out already: it was just ended by its limits, say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fd = os.open(f"{child}/stat", os.O_RDONLY, dir_fd=proc)
        flags = int(os.read(fd, 1000).rpartition(b")")[2].split()[6])
        os.close(fd)
        return bool(flags & 4)  # the kernel's PF_EXITING
    return False


def exercise(control: socket.socket, channel: int, limits: dict, home: int | None) -> dict:
    """Fork the process of one exercise and kill it in time; how it ended. Without `home` it gets no namespaces of its own."""
    failed, fail = os.pipe()
    begun = time.monotonic()
    child = os.fork() if home is None else confine.fork_alone(home)
    if child == 0:
        try:
            if home is not None:
                confine.private_namespaces(limits["scratch"])
        except BaseException as error:
            os.write(fail, f"{type(error).__name__}: {error}".encode()[:300])
            os._exit(1)
        os.close(fail)  # from here on nobody is believed
        run_exercise(channel, channel, limits, home is not None)
    os.close(channel)
    os.close(fail)
    process = os.pidfd_open(child)
    with open(f"/proc/self/fdinfo/{process}") as file:  # its number in /proc, which may be another one than here
        number = next(int(line.split()[1]) for line in file if line.startswith("Pid:"))
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    stopped, waited, late = False, 0.0, False
    if process not in (ready := select.select([process, control], [], [], limits["wall"])[0]):
        if ready:
            _next(control)  # the grader asks for no more
        late, stopped, waited = not ready, not is_ending(number, proc), starved(number, proc)
        signal.pidfd_send_signal(process, signal.SIGKILL)
    _, code, usage = os.wait4(child, 0)
    # At its CPU limit the kernel kills a process. It counts in ticks, which on a busy machine are far from what wait4 says
    # was used; so what tells this end from others is that some time has passed.
    out_of_time = os.WIFSIGNALED(code) and (
        os.WTERMSIG(code) == signal.SIGXCPU
        or (os.WTERMSIG(code) == signal.SIGKILL and not stopped and time.monotonic() - begun >= 0.3 * limits["cpu"])
    )
    slow = late or out_of_time
    status = {
        "how": "slow" if slow else "signal" if os.WIFSIGNALED(code) else "exit",
        "code": os.WTERMSIG(code) if os.WIFSIGNALED(code) else os.WEXITSTATUS(code),
        "cpu": usage.ru_utime + usage.ru_stime,
        "starved": waited,
    }
    if text := os.read(failed, 300):
        status = {"how": "failed", "text": text.decode(errors="replace")}
    for fd in (failed, process, proc):
        os.close(fd)
    if home is None:  # what it left behind is not for the next one
        for name in os.listdir(limits["scratch"]):
            place = os.path.join(limits["scratch"], name)
            shutil.rmtree(place, ignore_errors=True) if os.path.isdir(place) and not os.path.islink(place) else os.remove(place)
    return status


def template(fd: int) -> None:
    """Import what takes long, say so, then fork one process for each exercise, one at a time."""
    control, home = socket.socket(fileno=fd), None
    if sys.platform == "linux":
        confine.end_with_parent()
    start = time.perf_counter()
    begin = _next(control)[0]
    try:
        home = confine.may_make_namespaces()
    except OSError:
        if begin["alone"]:
            raise
    import pandas  # noqa: F401

    if begin["tensorflow"]:
        import keras  # noqa: F401
        import tensorflow  # noqa: F401
    for name in begin["libraries"]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    notebook.handed_out(tuple(begin["given"]))
    gc.collect()
    gc.freeze()
    control.send(json.dumps({"ready": round(time.perf_counter() - start, 3)}).encode())
    while True:
        limits, channel = _next(control)
        if channel is not None:  # not a "stop" that came late
            control.send(json.dumps(exercise(control, channel, limits, home)).encode())


def _next(control: socket.socket) -> tuple[dict, int | None]:
    """The next message of the grader and the channel that came with it. Ends the template when the grader is gone."""
    size = array.array("i").itemsize
    data, ancillary, _, _ = control.recvmsg(1 << 18, socket.CMSG_SPACE(size))
    if not data:
        os._exit(0)
    fds = array.array("i")
    for _, kind, content in ancillary:
        if kind == socket.SCM_RIGHTS:
            fds.frombytes(content[:size])
    return json.loads(data), (fds[0] if fds else None)


if __name__ == "__main__":
    if sys.argv[1] == "template":
        template(int(sys.argv[2]))
    else:
        fd_in, fd_out = int(sys.argv[2]), int(sys.argv[3])
        job_limits, _ = wire.receive(fd_in)
        run_exercise(fd_in, fd_out, job_limits)
