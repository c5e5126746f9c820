"""What a contender's process does: prepare the jobs it is told to, and time them when it is its turn.

Contenders live in processes (and environments) of their own, because TensorFlow and PyTorch in one would share threads.
One line of JSON in, one out; only the standard library and NumPy, because both environments import this file.
"""

import json
import os
import sys
import time
from collections.abc import Callable

import numpy as np


def use_cores(count: int) -> None:
    """Let this process have that many cores and no more, whatever its framework's threads are set to."""
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def serve(prepare: Callable[..., Callable[[], np.ndarray | None]]) -> None:
    """Answer requests until the standard input ends.

    Parameters
    ----------
    prepare : callable
        Makes a job of the arguments in a request: a callable that does the work once and returns its output, if any.

    Notes
    -----
    ``{"prepare": NAME, "output": FILE or null, …}`` makes a job and runs it to warm up, for 5 seconds, once or twice;
    ``{"run": NAME, "times": N}`` answers ``{"seconds": …, "processor": …}`` for N runs: what the clock and what the
    processor's clock say. The latter counts all threads and not the time that other programs had.
    """
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not come between the answers
    jobs = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer = {}
        if "prepare" in request:
            name, output = request.pop("prepare"), request.pop("output")
            jobs[name] = prepare(name, **request)
            start = time.perf_counter()
            result = jobs[name]()
            if time.perf_counter() - start < 5:
                result = jobs[name]()
            if output:
                np.save(output, result)
        else:
            start, begun = time.perf_counter(), time.process_time()
            for _ in range(request["times"]):
                jobs[request["run"]]()
            answer = {"seconds": time.perf_counter() - start, "processor": time.process_time() - begun}
        print(json.dumps(answer), file=answers, flush=True)
