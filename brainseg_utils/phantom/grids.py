"""Voxel grids of the layouts and the one coordinate system that everything is drawn in.

*Head coordinates* are millimetres, RAS, with the origin where the template's anchor (MNI 0, -18, 6) lands in a
frame. A grid of 2 mm holds the centres of the 2x2x2 blocks of the 1 mm grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brainseg_utils.errors import SettingError
from brainseg_utils.phantom.fields import Axes
from brainseg_utils.phantom.settings import Frame

BLOCK = 4
"""Boxes are cut at multiples of this many mm, so that the 1, 2 and 4 mm grids of a case share their borders."""


@dataclass(frozen=True)
class Grid:
    """A voxel grid with straight axes.

    Attributes:
        shape: voxels along each axis.
        affine: (4, 4), voxel index to world mm.
        axes: head coordinates (mm) along each array axis.
        spacing: voxel size (mm).
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    axes: Axes
    spacing: int

    def crop(self, box: tuple[slice, slice, slice]) -> Grid:
        """The part of the grid inside slices of voxels."""
        axes = tuple(axis[s] for axis, s in zip(self.axes, box, strict=True))
        affine = self.affine.copy()
        affine[:3, 3] = self.affine[:3, :3] @ [s.start for s in box] + self.affine[:3, 3]
        return Grid(tuple(len(a) for a in axes), affine, axes, self.spacing)  # type: ignore[arg-type]


def grid(frame: Frame, spacing: int) -> Grid:
    """The grid of a frame at a whole number of mm.

    Raises:
        SettingError: for a spacing other than 1, 2 or 4 mm.

    Example:
        >>> from brainseg_utils.phantom.parameters import default
        >>> two = grid(default().frame["sri24"], 2)
        >>> two.shape, two.affine[:3, 3].tolist()
        ((120, 120, 78), [-0.5, 238.5, 0.5])
    """
    if spacing not in (1, 2, BLOCK):
        raise SettingError(
            f"spacing {spacing!r}", where="phantom", expected="1 or 2 (mm)", remedy="choose one of these"
        )
    shape = tuple(-(-n // spacing) for n in frame.shape)
    signs = np.asarray(frame.signs, float)
    first = np.asarray(frame.origin) + signs * (spacing - 1) / 2  # centre of the first block
    affine = np.diag([*(signs * spacing), 1.0])
    affine[:3, 3] = first
    axes = tuple(
        (first[a] - frame.brain_centre[a] + signs[a] * spacing * np.arange(shape[a])).astype(np.float32)
        for a in range(3)
    )
    return Grid(shape, affine, axes, spacing)  # type: ignore[arg-type]


def flow_axes(axes: Axes) -> Axes:
    """A 4 mm grid around `axes` whose nodes lie at whole multiples of 4 mm, the same for every grid of a head."""
    x, y, z = (
        np.arange(np.floor(a.min() / BLOCK) - 1, np.ceil(a.max() / BLOCK) + 2, dtype=np.float32) * BLOCK for a in axes
    )
    return x, y, z


def rescale_box(box: tuple[slice, slice, slice], whole: Grid) -> tuple[slice, slice, slice]:
    """A box of 4 mm blocks as voxels of `whole`, cut at its border."""
    factor = BLOCK // whole.spacing
    a, b, c = (slice(s.start * factor, min(s.stop * factor, n)) for s, n in zip(box, whole.shape, strict=True))
    return a, b, c
