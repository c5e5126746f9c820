"""One training on several devices and several machines: data parallelism by `keras.distribution` (JAX backend).

Every process runs the same script and holds the whole model. Of each batch it prepares the rows that `Team.rows` gives
it; Keras puts the shares together to one batch that is spread over all devices, so loss, gradients and the statistics
of batch normalisation are those of the whole batch, and N processes compute what one would. Process 0 alone writes.

    parser = argparse.ArgumentParser(…)
    parallel.add_options(parser)                   # --devices --coordinator --processes --process
    team = parallel.start(...)                     # first of all: before any model, weight or random seed
    for step in range(steps):
        rows = team.rows(batch)                    # of the global batch: range(0, 16) here, range(16, 32) there
        model.train_on_batch(*prepare(step, rows)) # the same loss comes back in every process
        with team.alone():
            if team.leads: ...                     # checkpoint, log
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import keras

from data.errors import DataError

VARIABLES = {  # as `keras.distribution.initialize` names them
    "coordinator": "KERAS_DISTRIBUTION_JOB_ADDRESSES",
    "processes": "KERAS_DISTRIBUTION_NUM_PROCESSES",
    "process": "KERAS_DISTRIBUTION_PROCESS_ID",
}


@dataclass(frozen=True)
class Team:
    """The processes and devices that train one model.

    Attributes
    ----------
    process, processes : int
        Number of this process, from 0, and how many there are.
    devices : int
        Devices of all processes together.
    """

    process: int = 0
    processes: int = 1
    devices: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes checkpoints, logs and progress; the others only compute."""
        return self.process == 0

    def rows(self, batch: int) -> range:
        """Rows of a global batch that this process prepares; the shares of all processes are the batch, in order.

        Make row `i` of step `s` depend on the seed, `s` and `i` alone (a random generator of its own:
        ``default_rng([seed, s, i])``); then the batch is the same for any number of processes.

        Raises
        ------
        DataError
            When the batch cannot be spread evenly over the devices.
        """
        if batch % self.devices:
            low = batch // self.devices * self.devices
            near = f"{low} or {low + self.devices}" if low else str(self.devices)
            raise DataError(f"A batch of {batch} cannot be spread evenly over {self.devices} devices. Take {near}.")
        share = batch // self.processes
        return range(self.process * share, (self.process + 1) * share)

    def wait(self) -> None:
        """Return only when all processes have come here."""
        if self.processes > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("models.parallel")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keras as if there were this process only: for what one process does and the others do not, such as saving.

        Making a variable is otherwise an act of all processes (they compare its value), and `save_weights` makes some.
        The model itself stays spread out; predict in all processes, with equal data, not within this.
        """
        before = keras.distribution.distribution()
        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(before)

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Run the body in process 0 first, then in the others: for files that one makes and all read.

        When the body fails in process 0, the others do not run it: JAX ends them when process 0 is gone.
        """
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--devices``, ``--coordinator``, ``--processes`` and ``--process``, the arguments of `start`, to a command line."""
    group = parser.add_argument_group("several devices and machines (KERAS_BACKEND=jax)")
    group.add_argument("--devices", type=int, help="stop if there are not as many, of all processes; default: use all")
    group.add_argument("--coordinator", help="HOST:PORT of process 0, where the processes find each other")
    group.add_argument("--processes", type=int, help="number of processes, usually one a machine")
    group.add_argument("--process", type=int, help="number of this one, from 0; it alone writes")


def start(
    devices: int | None = None, coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> Team:
    """Join the other processes and let Keras spread every batch over all devices from now on.

    Call it before anything else of Keras or JAX: variables that are there already stay on one device.

    Parameters
    ----------
    devices : int, optional
        How many devices there must be in all processes together; by default whatever there is.
    coordinator : str, optional
        ``HOST:PORT`` of process 0. This and the next two are taken from the environment variables that Keras knows,
        ``KERAS_DISTRIBUTION_JOB_ADDRESSES``, ``…_NUM_PROCESSES`` and ``…_PROCESS_ID``, when not given.
    processes, process : int, optional
        How many processes there are, and the number of this one, from 0.

    Returns
    -------
    Team
        ``Team()`` for one process with one device, where nothing is changed in Keras.

    Raises
    ------
    DataError
        When the backend is not JAX and several processes or devices are asked for, an argument is missing or wrong, or
        the devices are not as many as asked for.

    Notes
    -----
    Model and optimizer are copied to every device (`keras.distribution.DataParallel`); gradients are summed by XLA.
    """
    coordinator = coordinator or os.environ.get(VARIABLES["coordinator"])
    processes = _number("processes", processes, 1)
    process = _number("process", process, 0 if processes == 1 else None)
    if keras.config.backend() != "jax":
        if processes > 1 or (devices or 1) > 1:
            raise DataError(
                f"Several devices or processes need Keras' JAX backend, and this is {keras.config.backend()}. Set "
                'KERAS_BACKEND=jax before the command and install JAX (pip install jax, or "jax[cuda12]" for GPUs).'
            )
        return Team()
    if processes < 1:
        raise DataError(f"--processes is {processes}; it must be 1 or more.")
    if not 0 <= process < processes:
        raise DataError(f"--process is {process}; with {processes} processes it must be 0 to {processes - 1}, each once.")
    if processes > 1:
        if not coordinator:
            raise DataError(f"--coordinator is missing (or {VARIABLES['coordinator']}): HOST:PORT of process 0, such as gpu1:9911.")
        keras.distribution.initialize(coordinator, processes, process)
    found = len(keras.distribution.list_devices())
    if devices is not None and devices != found:
        raise DataError(f"--devices is {devices}, but JAX sees {found}: {', '.join(keras.distribution.list_devices())}.")
    if found > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))  # see Team.rows
    return Team(process, processes, found)


def _number(name: str, given: int | None, default: int | None) -> int:
    """An argument of `start`, else its environment variable, else its default."""
    text = os.environ.get(VARIABLES[name], default) if given is None else given
    if text is None:
        raise DataError(f"--{name} is missing (or {VARIABLES[name]}): the number of this process, from 0.")
    try:
        return int(text)
    except ValueError:
        raise DataError(f"{VARIABLES[name]} is {text!r}; it must be a whole number.") from None
