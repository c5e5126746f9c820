"""Trains the 3D U-Net of notebook 03 on any folders of brain scans in the Decathlon or the BraTS format.

    python -m models.brain.train FOLDER --out RUN            # start, or resume the run in RUN
    python -m models.brain.train REAL MORE SIMULATED --shares 0.3 0.5 0.2 --size 96 --out RUN
    python -m models.brain.train FOLDER --init models/unet3d_brain.weights.h5 --learning-rate 5e-4 --out RUN    # fine-tune

RUN is described in `models.run`; beside it there are ``packed/`` (the scans, cropped and standardised) and in the end
``unet3d_brain.weights.h5`` and ``evaluation.csv``. Every batch depends on the seed and its step alone, so a run that was
killed resumes exactly. Works on every backend of Keras 3 (``KERAS_BACKEND=jax`` on accelerators).
"""

import itertools
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from data.brats import patient_of
from data.decathlon import BrainCohort, read_brain
from data.errors import DataError
from data.storage import atomic_file
from models import run
from models.brain.evaluate import evaluate, summarize
from models.brain.network import BRAIN_WEIGHTS, FILTERS, LOSSES, deeply_supervised, unet3d
from models.brain.patches import batches, enhances_little, pack
from models.parallel import Team
from models.run import RunConfig, option
from models.terminal import one_sentence
from models.weights import PATIENTS_FILE, load_weights, read_names, save_weights_float16, write_patients


@dataclass(frozen=True)
class Config(RunConfig):
    """All that a run depends on."""

    out: str = option("build/train_brain", "folder of the run")
    size: int = option(64, "side of a patch in voxels")
    learning_rate: float = option(2e-3, "highest rate of the cosine schedule")
    average: float = option(0.998, "momentum of the running average of the weights, which is saved")
    seed: int = option(7, "decides on patches, augmentation and, without --init, the first weights")
    cache: str = option("", "folder for packed scans; default: packed/ in the run's folder")
    filters: tuple[int, ...] = option(FILTERS, "channels of each level of the network", int)
    foreground: float = option(
        0.67, "share of the patches that are forced to hold a voxel of a tumour class; each class is as likely"
    )
    loss: str = option("classes", f"Dice and cross-entropy of what: {', '.join(LOSSES)} (whole tumour, core, enhancing tumour)")
    low_grade: float = option(1.0, "how many times as often as another a scan is drawn whose tumour core hardly enhances")


def build(config: Config) -> tuple[keras.Model, keras.Model]:
    """The network, and the same one with the outputs, loss and optimizer of training.

    It starts from weights if told so, else the seed decides.

    Raises
    ------
    DataError
        When there is no such loss, or the weights do not fit.
    """
    if config.loss not in LOSSES:
        raise DataError(f"--loss {config.loss}: give one of {', '.join(LOSSES)}.")
    keras.utils.set_random_seed(config.seed)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        model = unet3d(filters=config.filters)
        trained = deeply_supervised(model)
    finally:
        keras.config.set_dtype_policy(before)
    if config.init:
        load_weights(model, Path(config.init).resolve())
    optimizer = run.adamw(config, clipnorm=1.0)
    weights = [0.5**level for level in range(len(trained.outputs))]  # the coarser, the less
    loss_weights = [weight / sum(weights) for weight in weights]
    trained.compile(optimizer, loss=[LOSSES[config.loss]] * len(weights), loss_weights=loss_weights)
    optimizer.build(trained.trainable_variables)
    return model, trained


def folder_key(folder: Path | str) -> str:
    """A name for a folder that no other folder has, such as ``scans-1f2e3d4c``."""
    path = Path(folder).resolve()
    return f"{path.name}-{zlib.crc32(str(path).encode()):08x}"


def scan_shares(folders: Sequence[str], shares: Sequence[float], folder_of: Sequence[int]) -> np.ndarray:
    """Probability of each scan to be drawn, of the number of the folder each is in: within a folder all are alike.

    Raises
    ------
    DataError
        When the shares do not fit the folders, or a folder has no scan left.
    """
    counts = np.bincount(folder_of, minlength=len(folders))
    wanted = np.array(shares or counts, float)
    if len(wanted) != len(folders) or (shares and wanted.min() <= 0):
        raise DataError(f"--shares {' '.join(map(str, shares))}: give one number above 0 for each of the {len(folders)} folders.")
    if not counts.all():
        raise DataError(f"{folders[int(counts.argmin())]}: no scan is left to train on. Add some, or leave the folder out.")
    each = (wanted / counts)[folder_of]
    return each / each.sum()


def held_out(config: Config, cohorts: Sequence[BrainCohort]) -> tuple[list[set[str]], list[set[str]]]:
    """Who is not trained on, and whom the run is tested on in the end.

    Parameters
    ----------
    config : Config
        `keep_out` names the patients of a test, who are never trained on. With a `fold` of 0 or more the other real
        patients of all folders (of simulated folders alone: those of the first) are cut into `folds` parts, every
        `folds`-th of the sorted list, and part `fold` is held out as well: cross-validation, one run a part.
    cohorts : sequence of BrainCohort
        Real folders may share a patient (`BrainCase.patient`), who is then held out of both. A simulated patient is nobody
        else, whatever the name.

    Returns
    -------
    list of set of str
        Patients who are not trained on, by folder.
    list of set of str
        Those the run is tested on, by folder: the part, or without parts those named.

    Raises
    ------
    DataError
        When nobody is left to train on, a name is unknown, or there is no such part.
    """
    people = [{case.patient for case in cohort} for cohort in cohorts]
    real = [cohort.source != "simulated" for cohort in cohorts]
    words, single = read_names(config.keep_out)
    known, asked = set().union(*people), {patient_of(word) for word in words}
    if unknown := sorted(word for word in single if patient_of(word) not in known):
        there = ", ".join(sorted({case.name for cohort in cohorts for case in cohort}))
        raise DataError(f"--keep-out {', '.join(unknown)}: no such case. There are {there}.")
    of_people = set().union(*itertools.compress(people, real))
    absent = [folder & (asked if is_real else asked - of_people) for folder, is_real in zip(people, real, strict=True)]
    tested = absent
    if config.fold >= 0:
        cut = real if any(real) else [True, *[False] * (len(people) - 1)]
        others = sorted(set().union(*itertools.compress(people, cut)) - asked)
        if not config.fold < config.folds <= len(others):
            raise DataError(
                f"--folds {config.folds} --fold {config.fold}: there are {len(others)} patient(s) to cut into parts. Give at "
                f"most as many parts, and --fold from 0 to {config.folds - 1}."
            )
        part = set(others[config.fold :: config.folds])
        tested = [folder & part if is_cut else set() for folder, is_cut in zip(people, cut, strict=True)]
        absent = [named | parted for named, parted in zip(absent, tested, strict=True)]
    if all(kept >= folder for kept, folder in zip(absent, people, strict=True)):
        raise DataError(
            f"{', '.join(config.folders)}: all {sum(map(len, absent))} patient(s) are held out, so none is left to train on. Add "
            "some, or hold fewer out."
        )
    return absent, tested


def train(config: Config, team: Team = Team()) -> Path:
    """Start or resume one run.

    Parameters
    ----------
    config : Config
    team : Team
        The processes that train together, see `models.parallel`; process 0 writes.

    Returns
    -------
    Path
        The weights in 16 bits.

    Raises
    ------
    DataError
        When a scan is broken (before anything is trained), the disk is full, the run's folder is another run's, or the
        loss is not a number any more. The last complete checkpoint stays.
    """
    rows = team.rows(config.batch_size)
    cohorts = [read_brain(folder, strict=True) for folder in config.folders]
    absent, tested = held_out(config, cohorts)
    tests = [case for cohort, names in zip(cohorts, tested, strict=True) for case in cohort if case.patient in names]
    cases = [(number, case) for number, cohort in enumerate(cohorts) for case in cohort if case.patient not in absent[number]]
    out_of_training = {case.name for cohort, kept in zip(cohorts, absent, strict=True) for case in cohort if case.patient in kept}
    shares = scan_shares(config.folders, config.shares, [number for number, _ in cases])
    out = Path(config.out)
    with team.leader_first():
        if team.leads:
            run.start(config, team)
            write_patients(out / PATIENTS_FILE, {case.name for number, case in cases if cohorts[number].source != "simulated"})
        packed = Path(config.cache or out / "packed")
        bar = tqdm(cases, desc="packing scans", disable=not team.leads)
        scans = [pack(case, packed / folder_key(config.folders[number]), config.size) for number, case in bar]
    shares = shares * [config.low_grade if enhances_little(scan) else 1 for scan in scans]
    shares /= shares.sum()
    model, trained = build(config)
    log = run.resume(trained, out)
    if team.leads:
        print(f"{len(scans)} scans to train on; held out: {', '.join(sorted(out_of_training)) or 'none'}")
        print(f"resuming after epoch {len(log)}" if log else f"{model.count_params():,} parameters", flush=True)
    steps, last = config.steps, min(config.stop_after or config.epochs, config.epochs)
    bar = tqdm(total=last * steps, initial=len(log) * steps, desc="training", unit="step", mininterval=5, disable=not team.leads)
    fed = batches(scans, shares, config, len(log) * steps, rows)
    while len(log) < last:
        losses, since = [], time.perf_counter()
        for images, truths in itertools.islice(fed, steps):
            losses.append(float(trained.train_on_batch(images, truths, return_dict=True)["loss"]))
            bar.update()
        pace = (time.perf_counter() - since) / steps
        rate = float(trained.optimizer.learning_rate)
        log.append({"epoch": len(log) + 1, "loss": float(np.mean(losses)), "rate": rate, "seconds_per_step": pace})
        run.record(trained, out, log, team)
        bar.set_postfix(loss=f"{log[-1]['loss']:.3f}")
    bar.close()
    fed.close()
    run.take_average(trained)
    weights = out / BRAIN_WEIGHTS
    with team.alone():
        if team.leads:
            save_weights_float16(model, weights, bits=8 if config.precision == "mixed_bfloat16" else 11)
    if tests:
        table = evaluate(model, tests)
        if team.leads:
            with atomic_file(out / "evaluation.csv") as temporary:
                table.to_csv(temporary, float_format="%.4f")
            print(table.round(3).to_string(), summarize(table).round(3).to_string(), sep="\n\n")
    if team.leads:
        print(f"weights: {weights}")
    return weights


def main(arguments: list[str] | None = None) -> None:
    """Command line: one option for each field of `Config`, and those of `models.parallel`."""
    with one_sentence():
        folders = "folders of scans in the Decathlon or the BraTS format"
        config, team = run.parse(Config, arguments, prog="python -m models.brain.train", description=__doc__, folders=folders)
        train(config, team)


if __name__ == "__main__":
    main()
