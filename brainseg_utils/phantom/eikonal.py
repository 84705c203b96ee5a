"""Arrival times of a front that runs through tissue at a given speed (the eikonal equation |grad T| = 1/speed).

Upwind (Godunov) differences, solved by Jacobi sweeps over whole arrays: each sweep carries the front at least one
voxel further. Only the box that the front has reached is computed, so a small lesion is cheap and none is cut flat
by a box chosen beforehand.

Source: Rouy and Tourin, SIAM J. Numer. Anal. 29 (1992) 867-884.
"""

from __future__ import annotations

import numpy as np

from brainseg_utils.phantom.fields import Array

CHECK_EVERY = 4
"""Sweeps between two looks at whether the wanted volume has settled."""


def arrival(speed: Array, start: Array, step: float, voxels: int, sweeps: int) -> tuple[Array, float]:
    """Arrival times, computed until the earliest `voxels` voxels no longer change.

    Args:
        speed: (X, Y, Z), mm per unit of time; 0 where the front cannot go.
        start: (X, Y, Z), times of the sources, infinity elsewhere.
        step: voxel size (mm).
        voxels: how many voxels of finite speed, sources of time 0 or less not counted, the front is to cover.
        sweeps: the most sweeps.

    Returns:
        Times (infinity where not reached) and the time at which the front has covered `voxels` voxels.

    Example:
        >>> start = np.full((21, 21, 21), np.inf, np.float32)
        >>> start[10, 10, 10] = 0
        >>> times, _ = arrival(np.ones_like(start), start, 1.0, 2000, 60)
        >>> round(float(times[10, 10, 16]), 2)  # six voxels along an axis
        6.0
    """
    times = start.astype(np.float32, copy=True)
    slowness = np.full_like(times, np.inf)
    np.divide(np.float32(step), speed, out=slowness, where=speed > 0)
    times[~np.isfinite(slowness) & ~np.isfinite(start)] = np.inf
    padded = np.pad(times, 1, constant_values=np.inf)
    box = _box(np.isfinite(times))
    settled = -1.0
    for sweep in range(sweeps):
        box = [(max(low - 1, 0), min(high + 1, n)) for (low, high), n in zip(box, times.shape, strict=True)]
        inner = tuple(slice(low, high) for low, high in box)
        new = _update(padded, box, slowness[inner])
        core = tuple(slice(low + 1, high + 1) for low, high in box)
        np.minimum(padded[core], new, out=padded[core])
        if sweep % CHECK_EVERY == CHECK_EVERY - 1:
            when = _quantile(padded[core], voxels)
            if np.isfinite(when) and abs(when - settled) <= 1e-4 * (1 + abs(when)):
                break
            settled = when
    times = padded[1:-1, 1:-1, 1:-1].copy()
    return times, _quantile(times, voxels)


def _box(finite: np.ndarray) -> list[tuple[int, int]]:
    limits = []
    for axis in range(3):
        hit = np.flatnonzero(finite.any(axis=tuple(a for a in range(3) if a != axis)))
        limits.append((int(hit[0]), int(hit[-1]) + 1) if len(hit) else (0, 0))
    return limits


def _quantile(times: Array, voxels: int) -> float:
    """The time before which `voxels` voxels of positive time are reached, halfway to the next one."""
    positive = times[(times > 0) & np.isfinite(times)]
    if voxels < 1:
        return 0.0
    if len(positive) <= voxels:
        return float("inf") if len(positive) < voxels else float(positive.max())
    low, high = np.partition(positive, [voxels - 1, voxels])[[voxels - 1, voxels]]
    return float((low + high) / 2)


def _update(padded: Array, box: list[tuple[int, int]], slowness: Array) -> Array:
    """One Godunov update of a box; `padded` has a border of one voxel, `slowness` is the box's own."""
    nearest = []
    for axis in range(3):
        before = tuple(slice(low + (a != axis), high + (a != axis)) for a, (low, high) in enumerate(box))
        after = tuple(slice(low + 1 + (a == axis), high + 1 + (a == axis)) for a, (low, high) in enumerate(box))
        nearest.append(np.minimum(padded[before], padded[after]))
    first, second, third = nearest
    low, high = np.minimum(first, second), np.maximum(first, second)
    a, rest = np.minimum(low, third), np.maximum(low, third)
    b, c = np.minimum(high, rest), np.maximum(high, rest)
    with np.errstate(invalid="ignore", over="ignore"):
        p, q = b - a, c - a  # relative to the nearest, so that float32 keeps its digits
        one = a + slowness
        two = a + (p + np.sqrt(np.maximum(2 * slowness**2 - p**2, 0))) / 2
        new = np.where(one > b, two, one)
        both = p + q
        three = a + (both + np.sqrt(np.maximum(both**2 - 3 * (p**2 + q**2 - slowness**2), 0))) / 3
        new = np.where(new > c, three, new)
    return np.where(np.isfinite(slowness), np.nan_to_num(new, nan=np.inf, posinf=np.inf), np.inf)
