"""Labels of tumours that are not there yet: where their shapes come from, how they vary, and where there is room.

A shape is an array (x, y, z) of class numbers, cut to its box.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage

from brainseg_utils.datasets.layouts import MODALITIES
from brainseg_utils.errors import SettingError
from brainseg_utils.models.painter import RIM, TISSUES
from brainseg_utils.pipeline import augment
from brainseg_utils.pipeline.arrays import bounding_box
from brainseg_utils.pipeline.entry import Entry
from brainseg_utils.seeds import stream

TRIES = 12  # places that are tried for a shape
ROOM = 0.7  # share of the core that must lie in healthy tissue of the patch
LEAST = 30  # voxels of a painted tumour
APART = 2  # voxels between it and the tumour that is there
TURN, LOG_SCALE, BEND, KNOT = 25.0, 0.25, 1.5, 12  # degrees; voxels of displacement at knots so many voxels apart
FLUID_T1N, FLUID_T2W = -1.0, 1.0  # z-scores: darker and brighter than this is fluid
SNFH = TISSUES.index("SNFH") + 1


def grown_shapes(count: int, seed: int, spacing: int = 2, post: float = 0.0) -> list[np.ndarray]:
    """Labels that the phantom's growth model makes, cut to their boxes.

    Args:
        count: how many.
        seed: of all.
        spacing: 1 or 2 (mm).
        post: share of cases after treatment.
    """
    from brainseg_utils.phantom.geometry import geometry

    cohort, shapes = int(stream(seed, "shapes").integers(2**31)), []
    for index in range(count):
        after = stream(seed, "treatment of shape", index).random() < post
        case = geometry(cohort, index, treatment="post" if after else "pre", spacing=spacing, healthy=0.0)
        shapes.append(cut_out(case.label))
    return shapes


def stored_shapes(entries: Sequence[Entry]) -> list[np.ndarray]:
    """Labels of cached training cases, cut to their boxes; cases without a tumour have none.

    Raises:
        SettingError: no case has a tumour, or labels are region channels.
    """
    labels = [entry.label() for entry in entries if entry.labelled]
    if any(len(label) != 1 for label in labels):
        raise SettingError("labels as region channels", expected="class numbers", remedy="use the course's pipeline")
    shapes = [cut_out(label[0]) for label in labels if label.any()]
    if not shapes:
        raise SettingError("no training case has a tumour", remedy='set data.shapes = "grown"')
    return shapes


def cut_out(label: np.ndarray) -> np.ndarray:
    """A label cut to the box of what is not 0."""
    return np.ascontiguousarray(label[bounding_box(label > 0).slices])


def vary(shape: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A shape mirrored, turned, scaled and bent at random; (X, Y, Z) to another size."""
    flips = tuple(axis for axis in range(3) if rng.random() < 0.5)
    wide = np.pad(np.flip(shape, flips), [(side // 4 + 1,) * 2 for side in shape.shape])
    matrix = augment.rotation_matrix(rng.uniform(-TURN, TURN, 3), float(np.exp(rng.uniform(-LOG_SCALE, LOG_SCALE))))
    knots = [max(2, round(side / KNOT) + 1) for side in wide.shape]
    bend = torch.as_tensor(rng.normal(0, BEND, (3, *knots)), dtype=torch.float32)
    grid = augment.sampling_grid(wide.shape, matrix, bend)
    bent = augment.warp(torch.from_numpy(wide.copy())[None], grid, nearest=True)[0].numpy()
    return cut_out(bent) if bent.any() else shape


def healthy_tissue(image: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Where a tumour may be painted: brain that is neither tumour nor fluid; boolean (X, Y, Z).

    Args:
        image: (C, X, Y, Z), z-scores in the order of `MODALITIES`.
        label: (X, Y, Z), 0 where nothing is.
    """
    brain = (image != 0).any(axis=0)
    fluid = (image[MODALITIES.index("t1n")] < FLUID_T1N) & (image[MODALITIES.index("t2w")] > FLUID_T2W)
    taken = ndimage.binary_dilation(label > 0, iterations=APART + RIM) if label.any() else label > 0
    return brain & ~fluid & ~taken


def place(shape: np.ndarray, free: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Lays a shape into free tissue, its core within it; what reaches beyond is cut off.

    Args:
        shape: (x, y, z) class numbers.
        free: boolean (X, Y, Z) of `healthy_tissue`.
        rng: decides.

    Returns:
        (X, Y, Z) uint8 class numbers, or None where no place was found.

    Example:
        >>> free = np.zeros((8, 8, 8), bool)
        >>> free[4:] = True
        >>> label = place(np.ones((3, 3, 4), np.uint8), free, np.random.default_rng(0))
        >>> int(label.sum()) >= LEAST, bool(label[:4].any())
        (True, False)
    """
    spots = np.argwhere(free)
    core = (shape > 0) & (shape != SNFH)
    middle = np.argwhere(core if core.any() else shape > 0).mean(axis=0).round().astype(int)
    wanted = ROOM * max(int(core.sum()), 1)
    for _ in range(TRIES if len(spots) else 0):
        start = spots[rng.integers(len(spots))] - middle
        here, there = [], []
        for first, side, full in zip(start, shape.shape, free.shape, strict=True):
            low, high = max(first, 0), min(first + side, full)
            here.append(slice(low, high))
            there.append(slice(low - first, high - first))
        label = np.zeros(free.shape, np.uint8)
        label[tuple(here)] = shape[tuple(there)]
        label[~free] = 0
        if (label > 0).sum() >= LEAST and ((label > 0) & (label != SNFH)).sum() >= wanted * bool(core.any()):
            return label
    return None
