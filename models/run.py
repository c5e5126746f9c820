"""What both trainers share: options, the folder of a run, checkpoints and log.

A run's folder holds ``config.json``, ``log.csv`` (one row an epoch), the last two checkpoints (weights, optimizer, log;
each is complete or not there), ``trained_on.txt`` (the real patients of the training) and in the end the weights.
"""

import argparse
import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import h5py
import keras
import pandas as pd

from data.errors import DataError
from data.storage import actionable_disk_errors, atomic_file
from models import parallel
from models.adamw import AdamW
from models.parallel import Team


def option(default: Any, text: str, kind: type = str) -> Any:
    """A field of a configuration: its default, its help text and, of a tuple, the type of its items."""
    return field(default=default, metadata={"help": text, "kind": kind})


@dataclass(frozen=True)
class RunConfig:
    """All that a run depends on and that both trainers have; printed at its start and saved beside its results."""

    folders: tuple[str, ...]
    out: str = option("build/run", "folder of the run")
    shares: tuple[float, ...] = option((), "how much of each batch comes from each folder, such as 1 1; default: by size", float)
    init: str = option("", "weights file to start from; default: random weights")
    size: int = option(64, "side of what the network is given")
    epochs: int = option(30, "length of the schedule; an epoch is a row of the log and a checkpoint")
    steps: int = option(100, "steps an epoch")
    stop_after: int = option(
        0, "end after this epoch all the same, as if the schedule were over (a later call resumes); 0: at its end"
    )
    batch_size: int = option(2, "of all devices together")
    learning_rate: float = option(2e-3, "highest rate of the cosine schedule")
    weight_decay: float = option(1e-4, "of AdamW")
    average: float = option(0.0, "momentum of a running average of the weights, which is validated and saved; 0: off")
    keep_out: tuple[str, ...] = option(
        (), "patients that are held out altogether; a text file stands for the names in it, one a line"
    )
    folds: int = option(5, "the patients are cut into so many parts")
    fold: int = option(-1, "the part that is held out for validation; -1: none")
    precision: str = option("float32", "float32, or mixed_bfloat16 on accelerators and processors that have it")
    seed: int = option(0, "decides on the order, the augmentation and, without --init, the first weights")
    cache: str = option("", "folder for prepared images")
    workers: int = option(1, "threads that prepare batches")

    FREE = frozenset({"out", "cache", "workers", "stop_after"})  # may differ when a run resumes

    @property
    def total_steps(self) -> int:
        """Steps of the whole schedule."""
        return self.epochs * self.steps


def parse(
    kind: type[RunConfig], arguments: list[str] | None, *, prog: str, description: str, folders: str
) -> tuple[RunConfig, Team]:
    """Read a trainer's command line: one option for each field of `kind`, and those of `parallel`, which is started.

    Parameters
    ----------
    kind : subclass of RunConfig
    arguments : list of str or None
        None: those of the process.
    prog, description : str
    folders : str
        Help text of the positional argument.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", help=folders)
    for item in fields(kind)[1:]:
        name, text = f"--{item.name.replace('_', '-')}", item.metadata["help"]
        if isinstance(item.default, bool):
            parser.add_argument(name, action="store_true", help=text)
        elif isinstance(item.default, tuple):
            parser.add_argument(name, type=item.metadata["kind"], nargs="+", default=item.default, help=text)
        else:
            shown = f"{text} (default: {item.default!r})" if item.default != "" else text
            parser.add_argument(name, type=type(item.default), default=item.default, help=shown)
    parallel.add_options(parser)
    given = vars(parser.parse_args(arguments))
    team = parallel.start(**{name: given.pop(name) for name in ("devices", "coordinator", "processes", "process")})
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}), team


def start(config: RunConfig, team: Team) -> Path:
    """Make the folder of a run, print and save its configuration.

    Raises
    ------
    DataError
        When the folder holds a run with another configuration.
    """
    out = Path(config.out)
    file, settings = out / "config.json", json.loads(json.dumps(asdict(config)))
    if file.exists():
        before = json.loads(file.read_text())
        changed = [
            f"{key} {before.get(key)!r}, now {value!r}"
            for key, value in settings.items()
            if key not in config.FREE and before.get(key) != value
        ]
        if changed:
            raise DataError(f"{file}: this run was started with {'; '.join(changed)}. Choose another --out.")
    if team.leads:
        text = json.dumps(settings | {"backend": keras.config.backend(), "keras": keras.__version__}, indent=1)
        print(text)
        with actionable_disk_errors(out):
            out.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as temporary:
            temporary.write_text(text)
    return out


def checkpoints(out: Path) -> list[Path]:
    """Checkpoints of a run, the newest last."""
    return sorted(out.glob("checkpoint-*.weights.h5"))


def _shapes(model: keras.Model) -> str:
    """Shapes of all that a checkpoint holds. Keras itself passes over what fits nowhere."""
    return json.dumps([list(variable.shape) for variable in (*model.variables, *model.optimizer.variables)])


def record(model: keras.Model, out: Path, log: list[dict], team: Team) -> None:
    """After an epoch: save weights, optimizer and log in one checkpoint, keep the one before, and write ``log.csv``.

    Raises
    ------
    DataError
        When the loss of the last epoch is not a number (nothing is saved), or the disk is full.
    """
    loss = log[-1]["loss"]
    if not math.isfinite(loss):
        raise DataError(
            f"{out}: the loss became {loss} in epoch {len(log)}. The checkpoint of the epoch before is intact; start a "
            "new run from it (--init) with a lower --learning-rate."
        )
    with team.alone():
        if not team.leads:
            return
        with atomic_file(out / f"checkpoint-{len(log):05}.weights.h5") as temporary:
            model.save_weights(temporary)
            with h5py.File(temporary, "a") as file:
                file["log"], file["shapes"] = json.dumps(log), _shapes(model)
        for old in checkpoints(out)[:-2]:
            old.unlink()
        with atomic_file(out / "log.csv") as temporary:
            pd.DataFrame(log).to_csv(temporary, index=False)


def resume(model: keras.Model, out: Path) -> list[dict]:
    """Load the newest checkpoint, if there is one.

    Returns
    -------
    list of dict
        The log so far; one entry for each epoch that is done.

    Raises
    ------
    DataError
        When it is cut off or belongs to another network.
    """
    found = checkpoints(out)
    if not found:
        return []
    before = f"; the run then resumes from {found[-2].name}" if len(found) > 1 else "; the run then starts anew"
    try:
        with h5py.File(found[-1]) as file:
            log = json.loads(file["log"][()])
            if file["shapes"][()].decode() != _shapes(model):
                raise ValueError("its weights have other shapes")
        model.load_weights(found[-1])
    except OSError as error:
        raise DataError(f"{found[-1]}: the checkpoint is cut off or damaged. Delete it{before}.") from error
    except (ValueError, KeyError) as error:
        raise DataError(
            f"{found[-1]}: the checkpoint is of another network ({error}). Choose another --out, or delete it{before}."
        ) from error
    return log


def take_average(model: keras.Model) -> None:
    """Replace the weights by their running average, where there is one; training cannot resume from it."""
    if keras.config.backend() == "jax":
        model.jax_state_sync()
    model.optimizer.finalize_variable_values(model.trainable_variables)


def cosine_schedule(config: RunConfig) -> keras.optimizers.schedules.LearningRateSchedule:
    """Learning rate: a linear start over the first thirtieth of the steps, then a cosine down to a hundredth."""
    return keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 20,
        config.total_steps,
        alpha=0.01,
        warmup_target=config.learning_rate,
        warmup_steps=max(1, config.total_steps // 30),
    )


def adamw(config: RunConfig, **settings) -> AdamW:
    """The trainers' optimizer; with a running average of the weights where the config wants one. (`settings` of `AdamW`.)"""
    if config.average:
        settings |= {"use_ema": True, "ema_momentum": config.average}
    return AdamW(cosine_schedule(config), weight_decay=config.weight_decay, **settings)
