"""The arithmetic of preprocessing on NumPy arrays: masks, normalisation, boxes that can be pasted back.

Images are (C, X, Y, Z) float32, masks (X, Y, Z) bool. BraTS scans are skull-stripped with a background of exactly 0, so
the brain is where any modality differs from 0 (some BraTS-Africa scans hold negative intensities: `> 0` would lose
them). Everything that is normalised over the brain leaves the background at exactly 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brainseg_utils.errors import GeometryError

P10_TO_P90_IN_SD = 2.5631  # distance between the 10th and the 90th percentile of a normal distribution, in sd


@dataclass(frozen=True)
class Box:
    """A box cut out of a larger grid, with what is needed to paste it back.

    Attributes:
        start: first voxel along each axis.
        shape: voxels along each axis.
        full: shape of the grid that it was cut from.

    Example:
        >>> box = Box((1, 0), (2, 2), (4, 3))
        >>> box.paste(box.crop(np.arange(12).reshape(4, 3))).tolist()
        [[0, 0, 0], [3, 4, 0], [6, 7, 0], [0, 0, 0]]
    """

    start: tuple[int, ...]
    shape: tuple[int, ...]
    full: tuple[int, ...]

    @property
    def stop(self) -> tuple[int, ...]:
        """The voxel after the last along each axis."""
        return tuple(a + n for a, n in zip(self.start, self.shape, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as slices of the spatial axes."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    @property
    def _inside(self) -> tuple[Any, ...]:
        return (..., *self.slices)

    def crop(self, array: np.ndarray) -> np.ndarray:
        """The part of a (..., X, Y, Z) array that is inside the box, as a view.

        Raises:
            GeometryError: the array has not the shape that the box was cut from.
        """
        self._expect(array, self.full)
        return array[self._inside]

    def paste(self, array: np.ndarray, fill: float = 0) -> np.ndarray:
        """A (..., X, Y, Z) array of the full grid with `array` inside the box and `fill` outside.

        Raises:
            GeometryError: the array has not the box's shape.
        """
        self._expect(array, self.shape)
        out = np.full((*array.shape[: array.ndim - len(self.shape)], *self.full), fill, array.dtype)
        out[self._inside] = array
        return out

    def inner(self, box: Box) -> Box:
        """A box inside this one, as a box of this one's full grid."""
        return Box(tuple(a + b for a, b in zip(self.start, box.start, strict=True)), box.shape, self.full)

    def _expect(self, array: np.ndarray, shape: tuple[int, ...]) -> None:
        if array.shape[-len(shape) :] != tuple(shape):
            raise GeometryError(f"array of shape {array.shape}", expected=f"spatial shape {shape}")


def bounding_box(mask: np.ndarray, margin: int = 0) -> Box:
    """The smallest box around the true voxels, widened by `margin` voxels and kept inside the grid.

    An empty mask gives the whole grid.

    Example:
        >>> bounding_box(np.array([0, 0, 1, 1, 0, 0]).astype(bool), margin=1)
        Box(start=(1,), shape=(4,), full=(6,))
    """
    start, shape = [], []
    for axis, side in enumerate(mask.shape):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        hits = np.flatnonzero(mask.any(axis=others))
        low, high = (max(0, hits[0] - margin), min(side, hits[-1] + 1 + margin)) if hits.size else (0, side)
        start.append(int(low))
        shape.append(int(high - low))
    return Box(tuple(start), tuple(shape), tuple(mask.shape))


def overlap(start: int, size: int, side: int) -> slice:
    """The part of `size` voxels from `start` (which may be negative) that lies in an axis of `side` voxels.

    Example:
        >>> overlap(-2, 5, 10), overlap(20, 5, 10)
        (slice(0, 3, None), slice(10, 10, None))
    """
    low = min(max(start, 0), side)
    return slice(low, max(low, min(start + size, side)))


def brain_mask(image: np.ndarray) -> np.ndarray:
    """Where any modality of a (C, X, Y, Z) skull-stripped image differs from 0."""
    return np.any(image != 0, axis=0)


def clip_percentiles(image: np.ndarray, low: float, high: float, mask: np.ndarray) -> np.ndarray:
    """Clips each channel, inside the mask, to two percentiles of its values inside the mask.

    Args:
        image: (C, X, Y, Z).
        low: lower percentile, 0 to 100.
        high: upper percentile, 0 to 100.
        mask: (X, Y, Z); voxels outside it are left as they are.
    """
    out = np.array(image, np.float32)
    for channel in out:
        values = channel[mask]
        if values.size:
            channel[mask] = np.clip(values, *np.percentile(values, (low, high)))
    return out


def zscore(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Each channel minus its mean and divided by its standard deviation inside the mask; 0 outside.

    A channel that is constant inside the mask becomes 0.

    Example:
        >>> zscore(np.array([[0.0, 2.0, 4.0]]), np.array([False, True, True])).tolist()
        [[0.0, -1.0, 1.0]]
    """
    return _standardise(image, mask, lambda values: (values.mean(dtype=np.float64), values.std(dtype=np.float64)))


def zscore_nonzero(image: np.ndarray) -> np.ndarray:
    """Each channel's z-score over its own non-zero voxels, as MONAI's `NormalizeIntensity(nonzero, channel_wise)`.

    MONAI's writes into the array that it is given; this one does not.
    """
    return np.concatenate([zscore(channel[None], channel != 0) for channel in image])


def median_scale(image: np.ndarray, mask: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Each channel minus its median, over the spread of its 10th to 90th percentile inside the mask; 0 outside.

    The spread is expressed in standard deviations of a normal distribution, so the numbers are comparable with
    z-scores, but a bright lesion or artefact moves neither median nor spread.

    Args:
        image: (C, X, Y, Z).
        mask: (X, Y, Z).
        limits: values beyond these are clipped to them.
    """

    def centre(values: np.ndarray) -> tuple[float, float]:
        p10, median, p90 = np.percentile(values, (10, 50, 90))
        return median, (p90 - p10) / P10_TO_P90_IN_SD

    return np.clip(_standardise(image, mask, centre), *limits)


def _standardise(image: np.ndarray, mask: np.ndarray, centre) -> np.ndarray:
    out, outside = np.zeros(image.shape, np.float32), ~mask
    for before, after in zip(image, out, strict=True):
        values = before[mask]
        if not values.size:
            continue
        middle, spread = centre(values)
        if spread > 0:  # the whole grid at once is quicker than the mask's voxels one by one
            np.subtract(before, np.float32(middle), out=after, casting="same_kind")
            after /= np.float32(spread)
            np.copyto(after, 0, where=outside)
    return out


def min_max(image: np.ndarray) -> np.ndarray:
    """Each channel from its minimum and maximum to 0 and 1; a constant channel becomes 0."""
    axes: Sequence[int] = tuple(range(1, image.ndim))
    low = image.min(axis=axes, keepdims=True)
    spread = image.max(axis=axes, keepdims=True) - low
    return ((image - low) / np.where(spread > 0, spread, 1)).astype(np.float32)
