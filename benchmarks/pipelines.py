"""Do the trainers' input pipelines keep the networks busy? A step fed by the pipeline over one on data in memory.

    python -m benchmarks.pipelines --chest FOLDER --brain FOLDER      # in the design's formats; writes README.md

Both kinds of step take turns, so that a machine that changes its pace changes both. The first steps of a turn, which live
on what was prepared ahead while the other kind computed, are not counted. The processor's own clock does not count what
other programs take: where the network has all cores for itself, both ratios are the same.
"""

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from benchmarks.compare import processor, write_between

IN_MEMORY = 8  # batches: of one alone, the processor's cache would keep what no training's does


def now() -> tuple[float, float]:
    """Seconds by the clock, and seconds that all threads of this process have had of the processors."""
    return time.perf_counter(), time.process_time()


class Clock(keras.callbacks.Callback):
    """Times of the ends of all steps of a `fit`."""

    def __init__(self):
        super().__init__()
        self.ends = []

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Called by Keras."""
        self.ends.append(now())


class InMemory(keras.utils.PyDataset):
    """The same few batches, again and again."""

    num_batches = None

    def __init__(self, batches: list):
        super().__init__()
        self.batches = batches

    def __getitem__(self, index: int):
        return self.batches[index % len(self.batches)]


def compare(
    name: str, ahead: int, in_memory: Callable[[int], np.ndarray], fed: Callable[[int], np.ndarray], rounds: int, seconds: float
) -> dict:
    """Median over rounds of (mean step fed by the pipeline ÷ mean step in memory), with the extremes.

    Parameters
    ----------
    ahead : int
        Batches that the pipeline prepares ahead.
    in_memory, fed : callable
        Does a number of steps of its kind and gives `now` at the end of each.
    seconds : float
        How long a turn is, at least three steps.
    """
    in_memory(2)  # compiles
    begun, _, ended = in_memory(3)[:, 0]
    steps = max(3, round(2 * seconds / (ended - begun)))
    ratios, load = [], [os.getloadavg()[0]]
    for number in tqdm(range(rounds), desc=name, unit="round"):
        spent = {}
        for kind, first in ((fed, ahead), (in_memory, 0))[:: 1 if number % 2 else -1]:
            ends = kind(first + 1 + steps)
            spent[kind] = ends[-1] - ends[first]
        ratios.append(spent[fed] / spent[in_memory])
        load.append(os.getloadavg()[0])
    seconds, processor_seconds = np.transpose(ratios)
    return {
        "name": name,
        "median": float(np.median(seconds)),
        "low": float(seconds.min()),
        "high": float(seconds.max()),
        "processor": float(np.median(processor_seconds)),
        "rounds": rounds,
        "load": float(np.mean(load)),
    }


def chest(folder: str, size: int, batch: int, rounds: int, seconds: float) -> dict:
    """`models.chest.train` on a folder in the NIH format."""
    from models.chest.films import MixedBatches, batch_shares, open_sources
    from models.chest.train import Config, build

    with tempfile.TemporaryDirectory() as cache:
        config = Config((folder,), size=size, batch_size=batch, steps=1000, epochs=1, cache=cache, allow_absent=True)
        sources, _ = open_sources(config)
        data = MixedBatches(sources, batch_shares(sources, (), batch), config, range(batch))
        model = build(config)

        def fit(batches: keras.utils.PyDataset, count: int) -> np.ndarray:
            clock = Clock()
            model.fit(batches, steps_per_epoch=count, shuffle=False, verbose=0, callbacks=[clock])
            return np.array(clock.ends)

        in_memory = InMemory([data[index] for index in range(IN_MEMORY)])
        return compare(
            "chest", data.max_queue_size, lambda count: fit(in_memory, count), lambda count: fit(data, count), rounds, seconds
        )


def brain(folder: str, patch: int, batch: int, rounds: int, seconds: float) -> dict:
    """`models.brain.train` on a folder of scans."""
    from data.decathlon import read_brain
    from models.brain.patches import batches, pack
    from models.brain.train import Config, build

    with tempfile.TemporaryDirectory() as out:
        config = Config((folder,), out, epochs=1, steps=100_000, size=patch, batch_size=batch)
        scans = [pack(case, Path(out), patch) for case in tqdm(read_brain(folder), desc="packing scans")]
        _, trained = build(config)
        fed = batches(scans, np.full(len(scans), 1 / len(scans)), config, 0, range(batch))

        def train(source: Iterator, count: int) -> np.ndarray:
            ends = []
            for images, truths in itertools.islice(source, count):
                trained.train_on_batch(images, truths)
                ends.append(now())
            return np.array(ends)

        in_memory = itertools.cycle([next(fed) for _ in range(IN_MEMORY)])
        ahead = 2 * config.workers
        row = compare("brain", ahead, lambda count: train(in_memory, count), lambda count: train(fed, count), rounds, seconds)
        fed.close()
        return row


def table(rows: list[dict]) -> str:
    """Rows as a Markdown table."""
    lines = [
        "| trainer | step fed by the pipeline ÷ step in memory, median (extremes) "
        "| the same by processor time | rounds | load average |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['name']} | **{row['median']:.3f}** ({row['low']:.3f} to {row['high']:.3f}) "
        f"| {row['processor']:.3f} | {row['rounds']} "
        f"| {row['load']:.1f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> list[dict]:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pipelines", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chest", help="folder of X-rays in the NIH format")
    parser.add_argument("--brain", help="folder of scans in the Decathlon or BraTS format")
    parser.add_argument("--size", type=int, default=128, help="side of the X-rays in pixels")
    parser.add_argument("--patch", type=int, default=64, help="side of the patches in voxels")
    parser.add_argument("--batch", type=int, nargs=2, default=(32, 2), help="X-rays and patches a step")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5, help="length of a turn")
    parser.add_argument("--dry", action="store_true", help="print the table and leave README.md as it is")
    config = parser.parse_args(arguments)
    if not (config.chest or config.brain):
        parser.error("give --chest FOLDER, --brain FOLDER or both")
    rows = [chest(config.chest, config.size, config.batch[0], config.rounds, config.seconds)] if config.chest else []
    rows += [brain(config.brain, config.patch, config.batch[1], config.rounds, config.seconds)] if config.brain else []
    print(table(rows))
    if not config.dry:
        text = f"Measured on {processor()}; Keras {keras.__version__} on {keras.config.backend()}.\n\n{table(rows)}"
        write_between(Path(__file__).with_name("README.md"), "pipelines", text)
    return rows


if __name__ == "__main__":
    main()
