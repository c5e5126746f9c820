"""The same numbers for every contender: batches of noise, and a scan with a brain's shape and size. Channels last."""

import numpy as np

JOBS = ("chest train", "chest predict", "brain train", "brain predict", "scan box", "scan whole")


def chest_batch(batch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Films (batch, size, size, 1) and labels (batch, 14), float32."""
    rng = np.random.default_rng(1)
    return rng.normal(size=(batch, size, size, 1)).astype(np.float32), (rng.random((batch, 14)) < 0.1).astype(np.float32)


def brain_batch(batch: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Patches (batch, side, side, side, 4) and one-hot labels without background (…, 3), float32."""
    rng = np.random.default_rng(2)
    classes = rng.integers(0, 4, (batch, side, side, side))
    labels = (classes[..., None] == np.arange(1, 4)).astype(np.float32)
    return rng.normal(size=(*classes.shape, 4)).astype(np.float32), labels


def scan(tile: int, whole: bool) -> np.ndarray:
    """A standardised scan, (x, y, z, 4) float32: an ellipsoid of smooth noise, 1.5 × 2 × 1.5 tiles large; 0 outside.

    With tiles of 96 voxels that is 144 × 192 × 144 voxels, a large brain at 1 mm. At half overlap our tiles and MONAI's
    lie at the same places in its box, so that the outputs can be compared voxel by voxel.

    Parameters
    ----------
    tile : int
        Divisible by 2.
    whole : bool
        The ellipsoid in an archive's matrix (240 × 240 × 155 for tiles of 96) instead of in its own box.
    """
    shape = (3 * tile // 2, 2 * tile, 3 * tile // 2)
    axes = (((np.arange(side) + 0.5) / side * 2 - 1).astype(np.float32) for side in shape)
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)
    rng = np.random.default_rng(3)
    waves = [np.cos(sum(np.float32(rng.normal(0, 6)) * axis for axis in grid)) for _ in range(4)]
    noise = rng.standard_normal((4, *shape), np.float32) * np.float32(0.3)
    channels = [sum(np.float32(rng.normal(0, 0.6)) * wave for wave in waves) + one for one in noise]
    brain = sum(axis**2 for axis in grid) <= 1.02  # touches every face of the box
    box = (np.stack(channels, -1) * brain[..., None]).astype(np.float32)
    if not whole:
        return box
    room = (5 * tile // 2, 5 * tile // 2, 3 * tile // 2 + 11 * tile // 96)
    before = [(space - side) // 2 for space, side in zip(room, shape)]
    padding = [(low, space - side - low) for low, space, side in zip(before, room, shape)]
    return np.pad(box, [*padding, (0, 0)])
