"""Predictions made from a truth in stated ways, so that each mistake in them has a known cause.

They stand in for a network's output where there is none yet, and show what each metric sees of each kind of mistake.
All functions take and return integer labels (X, Y, Z) and leave their input as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

SPECK_RADIUS_MM = 2.5


def shift(label: np.ndarray, voxels: Sequence[int]) -> np.ndarray:
    """Moves a mask by whole voxels along X, Y, Z; what leaves the array is lost, background comes in.

    Example:
        >>> shift(np.array([[[0, 1, 0]]]), (0, 0, 1)).tolist()
        [[[0, 0, 1]]]
    """
    return ndimage.shift(label, voxels, order=0, prefilter=False)


def grow(label: np.ndarray, spacing: Sequence[float], mm: float) -> np.ndarray:
    """Moves the outer boundary by `mm`, outwards if positive, inwards if negative.

    New voxels take the label of the nearest labelled voxel; tissues inside keep theirs.

    Args:
        label: (X, Y, Z).
        spacing: voxel size in mm.
        mm: distance between voxel centres that is added or taken off.
    """
    inside = label > 0
    if not inside.any():
        return label.copy()
    if mm < 0:
        return np.where(ndimage.distance_transform_edt(inside, sampling=spacing) > -mm, label, 0).astype(label.dtype)
    distance, nearest = ndimage.distance_transform_edt(~inside, sampling=spacing, return_indices=True)
    return np.where(distance <= mm, label[tuple(nearest)], 0).astype(label.dtype)


def deform(
    label: np.ndarray, spacing: Sequence[float], amplitude_mm: float, scale_mm: float, rng: np.random.Generator
) -> np.ndarray:
    """Warps a mask by a smooth random displacement: boundaries are roughly right everywhere, exact nowhere.

    Args:
        label: (X, Y, Z).
        spacing: voxel size in mm.
        amplitude_mm: standard deviation of the displacement along each axis.
        scale_mm: smoothness of the displacement (standard deviation of the Gaussian that it is smoothed with).
        rng: decides the displacement.
    """
    grid = np.indices(label.shape, dtype=np.float32)
    for axis in range(label.ndim):
        noise = ndimage.gaussian_filter(
            rng.standard_normal(label.shape, dtype=np.float32), [scale_mm / s for s in spacing], mode="wrap"
        )
        grid[axis] += noise / noise.std() * (amplitude_mm / spacing[axis])
    return ndimage.map_coordinates(label, grid, order=0, mode="nearest")


def relabel(label: np.ndarray, source: int, target: int) -> np.ndarray:
    """Takes one tissue for another: every voxel of `source` becomes `target`."""
    return np.where(label == source, label.dtype.type(target), label)


def miss_smallest(label: np.ndarray) -> np.ndarray:
    """Misses the smallest connected component (26 neighbours) of a mask that has two or more; else changes nothing."""
    components, count = ndimage.label(label > 0, np.ones((3, 3, 3)))
    if count < 2:
        return label.copy()
    smallest = int(np.bincount(components.ravel())[1:].argmin()) + 1
    return np.where(components == smallest, 0, label).astype(label.dtype)


def add_specks(
    label: np.ndarray, spacing: Sequence[float], where: np.ndarray, count: int, value: int, rng: np.random.Generator
) -> np.ndarray:
    """Adds small false balls (radius 2.5 mm) of one tissue in the background.

    Args:
        label: (X, Y, Z).
        spacing: voxel size in mm.
        where: boolean (X, Y, Z), where their centres may lie (the brain).
        count: how many.
        value: their label.
        rng: decides the places.
    """
    free = np.flatnonzero(where & (label == 0))
    out = label.copy()
    if not free.size:
        return out
    half = [int(np.ceil(SPECK_RADIUS_MM / s)) for s in spacing]
    offsets = np.stack(np.meshgrid(*(np.arange(-h, h + 1) for h in half), indexing="ij"), axis=-1).reshape(-1, 3)
    ball = offsets[np.linalg.norm(offsets * np.asarray(spacing), axis=1) <= SPECK_RADIUS_MM]
    for centre in rng.choice(free, count, replace=free.size < count):
        voxels = np.array(np.unravel_index(centre, label.shape)) + ball
        voxels = voxels[((voxels >= 0) & (voxels < label.shape)).all(axis=1)]
        index = tuple(voxels.T)
        out[index] = np.where(out[index] == 0, value, out[index])
    return out
