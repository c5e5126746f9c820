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


def keeper(channel: int, limits: dict) -> None:
    """Between the template and the student's process: makes its namespaces, waits, kills it in time. Does not return."""
    status, child, late, stopped, starved, private = {"how": "failed"}, 0, False, False, 0.0, True
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)

    def stop(number: int, frame: Any) -> None:
        nonlocal late, stopped, starved
        late = late or number == signal.SIGALRM
        ending = child != 0  # gone already: the grader may have asked because the process was just ended by its limits
        with contextlib.suppress(OSError, ValueError, IndexError):
            fd = os.open(f"{child}/stat", os.O_RDONLY, dir_fd=proc)
            ending = bool(int(os.read(fd, 1000).rpartition(b")")[2].split()[6]) & 4)  # the kernel's PF_EXITING
            os.close(fd)
        stopped = stopped or not ending
        with contextlib.suppress(OSError, ValueError, IndexError):
            # Seconds that the main thread was ready to run and got no core, less those that threads beside it ran.
            tasks = os.open(f"{child}/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=proc)
            for task in os.listdir(tasks):
                fd = os.open(f"{task}/schedstat", os.O_RDONLY, dir_fd=tasks)
                ran, waited = (int(part) / 1e9 for part in os.read(fd, 200).split()[:2])
                starved += waited if task == str(child) else -ran
                os.close(fd)
            starved = max(0.0, starved)
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    try:
        signal.signal(signal.SIGALRM, stop)
        signal.signal(signal.SIGTERM, stop)
        try:
            confine.private_namespaces(limits["scratch"])
        except OSError:
            if not limits["readable"]:  # bubblewrap's promise; an ordinary process does without
                raise
            private = False
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            run_exercise(channel, channel, limits, private)
        os.close(channel)
        if stopped:
            stop(signal.SIGTERM, None)
        begun = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, limits["wall"])
        _, code, usage = os.wait4(child, 0)
        spent = usage.ru_utime + usage.ru_stime
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
            "cpu": spent,
            "starved": starved,
        }
        if not private:  # what it left behind is not for the next one
            for name in os.listdir(limits["scratch"]):
                place = os.path.join(limits["scratch"], name)
                shutil.rmtree(place, ignore_errors=True) if os.path.isdir(place) and not os.path.islink(place) else os.remove(place)
    except BaseException as error:
        status = {"how": "failed", "text": f"{type(error).__name__}: {error}"[:300]}
    wire.send(limits["status_fd"], status)
    os._exit(0)


def template(fd: int) -> None:
    """Import what takes long, say so, then fork one process for each exercise, one at a time."""
    control = socket.socket(fileno=fd)
    if sys.platform == "linux":
        confine.end_with_parent()
    start = time.perf_counter()
    limits = _next(control)[0]
    import pandas  # noqa: F401

    if limits["tensorflow"]:
        import keras  # noqa: F401
        import tensorflow  # noqa: F401
    for name in limits["libraries"]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    control.send(json.dumps({"ready": round(time.perf_counter() - start, 3)}).encode())
    while True:
        limits, channel = _next(control)
        if channel is None:
            continue  # a "stop" that came late
        ready, limits["status_fd"] = os.pipe()
        pid = os.fork()
        if pid == 0:
            control.close()
            os.close(ready)
            keeper(channel, limits)
        os.close(channel)
        os.close(limits["status_fd"])
        while ready not in select.select([ready, fd], [], [])[0]:
            if _next(control)[0].get("stop"):
                os.kill(pid, signal.SIGTERM)
        try:
            status, _ = wire.receive(ready)
        except wire.Ended:
            status = {"how": "failed", "text": "the keeper died"}
        os.close(ready)
        os.waitpid(pid, 0)
        control.send(json.dumps(status).encode())


def _next(control: socket.socket) -> tuple[dict, int | None]:
    """The next message of the grader and the channel that came with it. Ends the template when the grader is gone."""
    size = array.array("i").itemsize
    data, ancillary, _, _ = control.recvmsg(65536, socket.CMSG_SPACE(size))
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
