"""What a 3D network sees of a scan that is to be segmented: the fixed part of a pipeline, and the way back.

The result is what `registry.preprocessing` gives a training case, but for where it is cut: the box here is that of the
brain, always, since there is no truth to crop to (R1) and a convolution needs no fixed size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from brainseg_utils.errors import DataError, unknown
from brainseg_utils.pipeline import arrays, course, reports
from brainseg_utils.pipeline.regrid import Regrid, regrid
from brainseg_utils.pipeline.spacing import coarse_image

SIDE = (128, 128, 128)  # of R1 and R3, where a recipe says nothing


def _r1(image: np.ndarray) -> np.ndarray:
    clipped = arrays.clip_percentiles(image, *reports.R1_PERCENTILES, np.any(image > 0, axis=0))
    return arrays.zscore(clipped, np.ones(image.shape[1:], bool))


NORMALISERS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "zscore": lambda image: course.zscore(course.clip(image)),
    "median": course.median,
    "zscore_nonzero": arrays.zscore_nonzero,
    "min_max": arrays.min_max,
    "r1": _r1,
}


@dataclass(frozen=True)
class View:
    """How a network sees scans.

    Attributes:
        how: key of `NORMALISERS`.
        spacing: voxel size in mm; 0: the scan's own.
        resize: voxels that every scan is stretched to, whatever its size; empty: it is not.
        whole: the whole grid is stretched, not the brain's box.
    """

    how: str = "zscore"
    spacing: float = 0.0
    resize: tuple[int, ...] = ()
    whole: bool = False


def view(
    pipeline: str = "course",
    spacing: float = 0.0,
    normalisation: str = "zscore",
    size: Sequence[int] = SIDE,
    **others: object,
) -> View:
    """The view that the options of a 3D recipe's `[data]` table mean (`training.volumes`).

    Args:
        pipeline: key of `registry.PIPELINES`.
        spacing: mm (course, r0, r4).
        normalisation: "zscore" or "median" (course).
        size: of the grid that whole scans are resized to (r1, r3).
        **others: options that matter in training alone.

    Raises:
        SettingError: no such pipeline for volumes.

    Example:
        >>> view(spacing=2, normalisation="median", foreground=0.5)
        View(how='median', spacing=2, resize=(), whole=False)
    """
    views = {
        "course": View(normalisation, spacing),
        "r0": View("zscore_nonzero", spacing),
        "r1": View("r1", resize=tuple(size)),
        "r3": View("min_max", resize=tuple(size), whole=True),
        "r4": View("zscore_nonzero", spacing or 1.0),
    }
    if pipeline not in views:
        raise unknown("pipeline", pipeline, views)
    return views[pipeline]


@dataclass(frozen=True)
class Prepared:
    """A scan as a network sees it, and the way back.

    Attributes:
        image: (C, *grid.shape) float32, normalised.
        box: the part of the scan's grid that was kept.
        grid: from the box's voxels to the network's.
        brain: (*box.shape) booleans, where the scan is not 0.
    """

    image: torch.Tensor
    box: arrays.Box
    grid: Regrid
    brain: torch.Tensor

    def back(self, probability: torch.Tensor) -> torch.Tensor:
        """(K, *grid.shape) probabilities to (K, *box.shape), on the scan's own voxels; 0 where there is no brain.

        In the eight `develop` cases no labelled voxel lies outside the brain.
        """
        return self.grid.up(probability).mul_(self.brain.to(probability.device))


def prepare(image: np.ndarray, spacing: Sequence[float], seen: View, where: str = "") -> Prepared:
    """Crops a scan to its brain, brings it to the network's grid and normalises it, in the pipeline's order.

    Args:
        image: (C, X, Y, Z) intensities in RAS, background 0; a channel that is 0 everywhere stays 0.
        spacing: voxel size in mm.
        seen: what the network was trained on.
        where: the case, for the message.

    Raises:
        DataError: nothing but 0.

    Example:
        >>> scan = np.zeros((1, 20, 20, 20), np.float32); scan[:, 6:14, 6:14, 6:14] = 5
        >>> made = prepare(scan, (1, 1, 1), View(spacing=2))
        >>> made.box.start, made.box.shape, tuple(made.image.shape)
        ((6, 6, 6), (8, 8, 8), (1, 4, 4, 4))
    """
    brain = arrays.brain_mask(image)
    if not brain.any():
        raise DataError(
            "nothing but 0", where=where, expected="a skull-stripped scan", remedy="check the files of the case"
        )
    if seen.resize:
        box = arrays.bounding_box(np.ones_like(brain) if seen.whole else brain)
        grid = Regrid(box.shape, (1, 1, 1), seen.resize)  # type: ignore[arg-type]
        return Prepared(grid.down(_tensor(box.crop(NORMALISERS[seen.how](image)))), box, grid, _tensor(box.crop(brain)))
    box = brain_box(brain, regrid(brain.shape, spacing, seen.spacing).blocks)
    grid = regrid(box.shape, spacing, seen.spacing)
    part = _tensor(box.crop(image))
    if grid.shape != grid.full:
        part = coarse_image(part, grid)
    return Prepared(torch.from_numpy(NORMALISERS[seen.how](part.numpy())), box, grid, _tensor(box.crop(brain)))


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def brain_box(brain: np.ndarray, blocks: Sequence[int]) -> arrays.Box:
    """The box around a mask, on the borders of the grid's blocks as counted from its first voxel.

    Blocks that are averaged are then the same for every box of a scan.
    """
    tight = arrays.bounding_box(brain)
    start = [low // block * block for low, block in zip(tight.start, blocks, strict=True)]
    stop = [min(n, -(-high // block) * block) for high, n, block in zip(tight.stop, brain.shape, blocks, strict=True)]
    return arrays.Box(tuple(start), tuple(b - a for a, b in zip(start, stop, strict=True)), tuple(brain.shape))
