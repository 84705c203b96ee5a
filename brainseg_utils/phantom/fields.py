"""Smooth random fields that are functions of position in millimetres, not of a voxel grid.

A field is a cubic B-spline with random knots. On a grid whose axes are straight, its values are three small dense
matrix products (one an axis), so a field costs about 1 ms on a 2 mm head and 10 to 20 ms on a 1 mm head, and a
1 mm grid and a 2 mm grid sample the same function: a case drawn at 2 mm is the same case as at 1 mm.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Axes = tuple[Array, Array, Array]
"""Positions in mm along the three array axes, of lengths X, Y and Z."""

BOX = (132.0, 140.0, 116.0)
"""Half extent (mm) of the box that carries knots; fixed, so that a draw does not depend on the grid."""

KNOT_SD = 0.332
"""Standard deviation of a cubic B-spline field in three dimensions with independent unit-variance knots."""


@dataclass(frozen=True)
class Field:
    """A cubic B-spline over a fixed box.

    Attributes:
        knots: coefficients (I, J, K), float32.
        spacing: distance between knots (mm).
    """

    knots: Array
    spacing: float

    def __call__(self, axes: Axes) -> Array:
        """Values (X, Y, Z) at the grid of three axes (mm)."""
        bases = tuple(
            basis(tuple(axis.tolist()), self.spacing, half, n)
            for axis, half, n in zip(axes, BOX, self.knots.shape, strict=True)
        )
        return separable(self.knots, bases)


def random_field(rng: np.random.Generator, spacing: float) -> Field:
    """A field of zero mean and unit variance whose bumps are about `spacing` mm wide.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> coarse = np.linspace(-60, 60, 31, dtype=np.float32)
        >>> values = random_field(rng, 12.0)((coarse, coarse, coarse))
        >>> values.shape, bool(0.8 < values.std() < 1.2)
        ((31, 31, 31), True)
    """
    shape = tuple(knot_count(half, spacing) for half in BOX)
    knots = rng.standard_normal(shape, dtype=np.float32)
    return Field(knots / np.float32(KNOT_SD), float(spacing))


def mixture(rng: np.random.Generator, spacings: tuple[float, ...], weights: tuple[float, ...], axes: Axes) -> Array:
    """A weighted sum of independent fields, (X, Y, Z)."""
    total = np.zeros(tuple(len(axis) for axis in axes), np.float32)
    for spacing, weight in zip(spacings, weights, strict=True):
        total += np.float32(weight) * random_field(rng, spacing)(axes)
    return total


def knot_count(half: float, spacing: float) -> int:
    """How many knots cover [-half, half] with a margin for the spline's support."""
    return int(np.ceil(2 * half / spacing)) + 3


@functools.lru_cache(maxsize=256)
def basis(positions: tuple[float, ...], spacing: float, half: float, count: int) -> Array:
    """Cubic B-spline basis (positions, knots); rows sum to 1 inside the box.

    Example:
        >>> bool(np.allclose(basis((-3.0, 0.0, 9.9), 4.0, 20.0, knot_count(20.0, 4.0)).sum(axis=1), 1))
        True
    """
    where = (np.asarray(positions) + half) / spacing + 1.0  # knot index; one knot lies before the box
    distance = np.abs(where[:, None] - np.arange(count)[None])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


@functools.lru_cache(maxsize=64)
def linear_basis(positions: tuple[float, ...], nodes: tuple[float, ...]) -> Array:
    """Linear interpolation from ascending or descending equidistant nodes, (positions, nodes), clamped at the ends."""
    step = nodes[1] - nodes[0]
    where = np.clip((np.asarray(positions) - nodes[0]) / step, 0, len(nodes) - 1)
    return np.clip(1 - np.abs(where[:, None] - np.arange(len(nodes))[None]), 0, None).astype(np.float32)


def separable(values: Array, bases: tuple[Array, ...]) -> Array:
    """Applies one matrix to each axis of `values` (I, J, K), giving (X, Y, Z)."""
    first, second, third = bases
    used = [np.flatnonzero(b.any(axis=0)) for b in bases]  # a crop of the head needs few of the knots
    values = values[tuple(slice(u[0], u[-1] + 1) for u in used)]
    first, second, third = (b[:, u[0] : u[-1] + 1] for b, u in zip((first, second, third), used, strict=True))
    out = values @ third.T  # (I, J, Z)
    out = np.matmul(second, out)  # (I, Y, Z)
    flat = first @ out.reshape(out.shape[0], -1)
    return flat.reshape(len(first), len(second), len(third))


def resample(values: Array, source: Axes, target: Axes) -> Array:
    """Linear interpolation of (I, J, K) at the nodes of `source` to the grid of `target`, (X, Y, Z)."""
    bases = tuple(linear_basis(tuple(t.tolist()), tuple(s.tolist())) for s, t in zip(source, target, strict=True))
    return separable(values, bases)


def smooth_interpolation(values: Array, source: Axes, target: Axes) -> Array:
    """Like `resample` with cubic B-splines as weights: smooth, and blurred by about half a node distance."""
    bases = []
    for s, t in zip(source, target, strict=True):
        step = float(s[1] - s[0])
        positions = np.clip((t - s[0]) / step, 0, len(s) - 1)
        weights = basis(tuple(positions.tolist()), 1.0, 0.0, len(s) + 2)  # knots -1 ... n
        folded = weights[:, 1:-1].copy()
        folded[:, 0] += weights[:, 0]
        folded[:, -1] += weights[:, -1]
        bases.append(folded)
    return separable(values, tuple(bases))


def sigmoid(values: Array) -> Array:
    """Logistic function, float32."""
    with np.errstate(over="ignore"):
        return (1 / (1 + np.exp(-values))).astype(np.float32)
