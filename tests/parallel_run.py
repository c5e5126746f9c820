"""What each process of test_parallel.py runs: a small network with batch normalisation, then the brain trainer itself.

python parallel_run.py FOLDER_OF_SCANS OUT COORDINATOR PROCESSES PROCESS
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from models import parallel

QUICK_XLA = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"  # halves the time of compiling


def batch_normalised(team: parallel.Team) -> list[float]:
    """Losses of three steps; batch normalisation tells whether statistics are those of the whole batch."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(6), keras.layers.BatchNormalization(), keras.layers.ReLU(), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((5,)), *layers])
    model.compile(keras.optimizers.AdamW(0.05), "mse")
    rows = team.rows(8)
    rng = np.random.default_rng(0)
    batches = rng.normal(size=(3, 8, 6)).astype(np.float32) * np.arange(1, 9, dtype=np.float32)[:, None]
    shares = [batch[rows.start : rows.stop] for batch in batches]
    return [float(model.train_on_batch(share[:, :5], share[:, 5:])) for share in shares]


def main(scans: str, out: str, coordinator: str, processes: str, process: str) -> None:
    """Train, and print the team and the losses as the last line."""
    team = parallel.start(None, coordinator or None, int(processes), int(process))
    from models.brain.train import Config, train

    losses = batch_normalised(team)
    common = {"epochs": 3, "steps": 1, "batch_size": 2, "size": 16, "filters": (4, 8), "folds": 2, "fold": 0, "seed": 5}
    train(Config((scans,), out, cache=str(Path(out).parent / "packed"), **common), team)
    print(json.dumps({"process": team.process, "devices": team.devices, "losses": losses}))


if __name__ == "__main__":
    main(*sys.argv[1:])
