"""What training on the full archives costs: the step that `benchmarks.compare` measured × steps; on paper for accelerators.

python -m benchmarks.cost            # after benchmarks.compare --cores 1; writes the table into models/TRAINING.md
"""

import argparse
import json
import math

import keras

from benchmarks.compare import FULL, ROOT, STORE, processor, write_between
from models.brain.network import unet3d
from models.chest.network import densenet121

CHEST_FILMS = 86_524  # of the 112,120, as many are in the official train_val list
BRAIN_CASES = 484  # of Task01_BrainTumour with labels


def multiply_adds(model: keras.Model, shape: tuple[int, ...]) -> float:
    """Multiplications of the convolutions and dense layers for one sample of `shape`; one with each goes an addition."""
    known = {id(model.inputs[0]): (1, *shape)}
    total = 0
    for layer in model.layers[1:]:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        given = [known[id(tensor)] for tensor in inputs]
        tensors = [keras.KerasTensor(one) for one in given]
        known[id(layer.output)] = layer(tensors if len(tensors) > 1 else tensors[0]).shape
        if getattr(layer, "kernel", None) is not None:
            places = given[0] if "Transpose" in type(layer).__name__ else known[id(layer.output)]
            total += math.prod(layer.kernel.shape) * math.prod(places[1:-1])
    return float(total)


def rows(chest_epochs: int, brain_steps: int) -> list[dict]:
    """Samples, steps, measured seconds a step and floating-point operations of both trainings.

    The seconds are those that a step took of one core's time, whatever else the machine did when it was measured.
    """
    known = json.loads(STORE.read_text()) if STORE.exists() else []
    measured = {row["job"]: row["ours_processor"] for row in known if row["cores"] == 1 and not row.get("stand_in")}
    size, batch = FULL["chest"]["side"], FULL["chest"]["batch"]
    steps = chest_epochs * math.ceil(CHEST_FILMS / batch)
    chest = {
        "name": f"chest: {CHEST_FILMS:,} X-rays (train_val of 112,120) at {size} px × {chest_epochs} epochs",
        "steps": steps,
        "batch": batch,
        "seconds": measured.get("chest train"),
        "one": multiply_adds(densenet121(size, weights=None), (size, size, 1)),
    }
    side, batch = FULL["brain"]["side"], FULL["brain"]["batch"]
    brain = {
        "name": f"brain: {BRAIN_CASES} cases, {brain_steps * batch:,} patches of {side}³",
        "steps": brain_steps,
        "batch": batch,
        "seconds": measured.get("brain train"),
        "one": multiply_adds(unet3d(), (side, side, side, 4)),
    }
    return [chest, brain]


def table(found: list[dict], teraflops: float) -> str:
    """Rows as a Markdown table."""
    lines = [
        f"| training | steps × batch | one core of {processor()}: step (measured), hours (× steps) | operations in all | "
        f"hours at {teraflops:g} TFLOP/s sustained (on paper) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in found:
        operations = 6 * row["one"] * row["batch"] * row["steps"]  # an addition with each; backward costs twice forward
        here = f"{row['seconds']:.2f} s, {row['seconds'] * row['steps'] / 3600:,.0f} h" if row["seconds"] else "not measured"
        lines.append(
            f"| {row['name']} | {row['steps']:,} × {row['batch']} | {here} | {operations:.1e} "
            f"| {operations / teraflops / 3.6e15:.2f} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cost", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chest-epochs", type=int, default=10)
    parser.add_argument("--brain-steps", type=int, default=100_000)
    parser.add_argument("--teraflops", type=float, default=10, help="what an accelerator sustains on such small networks, guessed")
    config = parser.parse_args(arguments)
    text = table(rows(config.chest_epochs, config.brain_steps), config.teraflops)
    print(text)
    write_between(ROOT / "models" / "TRAINING.md", "cost", text)


if __name__ == "__main__":
    main()
