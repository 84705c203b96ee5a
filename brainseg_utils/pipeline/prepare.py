"""What a 3D network sees of a scan, the same in training and in inference: brain box, voxel size, normalisation.

Statistics are taken at the network's voxel size, over the brain. The background is 0 before and after, so a box may be
widened by zeros as far as a network needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from brainseg_utils.errors import DataError, unknown
from brainseg_utils.pipeline import arrays, course
from brainseg_utils.pipeline.regrid import Regrid, regrid

MARGIN_MM = 4.0  # of the box around the brain

NORMALISERS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "zscore": lambda image: course.zscore(course.clip(image)),
    "median": course.median,
    "zscore_nonzero": arrays.zscore_nonzero,
    "min_max": arrays.min_max,
    "none": lambda image: image,
}


def normalise(image: np.ndarray, how: str) -> np.ndarray:
    """Normalises (C, X, Y, Z) as `NORMALISERS` names it.

    Raises:
        SettingError: no such normalisation.
    """
    if how not in NORMALISERS:
        raise unknown("normalisation", how, NORMALISERS)
    return NORMALISERS[how](image)


@dataclass(frozen=True)
class Prepared:
    """A scan as a network sees it, and the way back.

    Attributes:
        image: (C, *grid.shape) float32, normalised.
        box: the part of the scan's grid that was kept.
        grid: from the box's voxels to the network's.
    """

    image: torch.Tensor
    box: arrays.Box
    grid: Regrid

    def back(self, probability: torch.Tensor) -> torch.Tensor:
        """(K, *grid.shape) probabilities to (K, *box.shape), on the scan's own voxels."""
        return self.grid.up(probability)


def prepare(image: np.ndarray, spacing: Sequence[float], target: float = 0.0, how: str = "zscore") -> Prepared:
    """Crops a scan to its brain, brings it to a voxel size and normalises it.

    Args:
        image: (C, X, Y, Z) intensities in RAS, background 0; a channel that is 0 everywhere stays 0.
        spacing: voxel size in mm.
        target: voxel size of the network in mm; 0: the scan's own.
        how: key of `NORMALISERS`.

    Raises:
        DataError: nothing but 0.
        SettingError: no such normalisation.

    Example:
        >>> scan = np.zeros((1, 20, 20, 20), np.float32); scan[:, 6:14, 6:14, 6:14] = 5
        >>> made = prepare(scan, (1, 1, 1), target=2)
        >>> made.box.start, made.box.shape, tuple(made.image.shape)
        ((2, 2, 2), (16, 16, 16), (1, 8, 8, 8))
    """
    brain = arrays.brain_mask(image)
    if not brain.any():
        raise DataError("an image of zeros", expected="a skull-stripped scan", remedy="check the files of the case")
    box = brain_box(brain, spacing, regrid(brain.shape, spacing, target).blocks)
    grid = regrid(box.shape, spacing, target)
    part = grid.down(torch.from_numpy(np.ascontiguousarray(box.crop(image))))
    return Prepared(torch.from_numpy(normalise(part.numpy(), how)), box, grid)


def brain_box(brain: np.ndarray, spacing: Sequence[float], blocks: Sequence[int]) -> arrays.Box:
    """The box around a mask and `MARGIN_MM`, on the borders of the grid's blocks as counted from its first voxel.

    Blocks that are averaged are then the same for every box of a scan.
    """
    tight = arrays.bounding_box(brain)
    start, stop = [], []
    for low, high, side, size, block in zip(tight.start, tight.stop, brain.shape, spacing, blocks, strict=True):
        margin = round(MARGIN_MM / size)
        start.append(max(0, low - margin) // block * block)
        stop.append(min(side, -(-(high + margin) // block) * block))
    shape = tuple(b - a for a, b in zip(start, stop, strict=True))
    return arrays.Box(tuple(start), shape, tuple(brain.shape))
