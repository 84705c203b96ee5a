"""Where the surface of a mask lies, and how large each piece of it is.

Two models of a surface are in use, and they give different distances:

* *surface points* stand on the corner lattice. A lattice point sees the 2x2x2 voxels around it; if these are neither
  all inside nor all outside, the point is part of the surface and carries an area in mm^2. This is the model of the
  surface-distance package (DeepMind, Apache-2.0), which BraTS uses for HD95.
* *border voxels* are the voxels of the mask that have a face neighbour outside. They carry no area. medpy, MONAI and
  the NSD of BraTS 2025 use this model.

Arrays are (X, Y, Z) in the order in which they are given; beyond the array lies background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product

import numpy as np

Spacing = Sequence[float]

# Areas of the marching-cubes triangles in a 2x2x2 block, one entry for each of the 14 blocks that differ under
# rotation, reflection and exchange of inside and outside. The bits of a code are the eight voxels in C order, the
# first one highest. A triangle is its normal without signs; the normal's length is its area in voxel units. The
# triangulation is a convention: these numbers are those of the surface-distance package, and a test compares them.
_E = 0.125
TRIANGLES: dict[int, tuple[tuple[float, float, float], ...]] = {
    1: ((_E, _E, _E),),
    3: ((2 * _E, 2 * _E, 0.0),) * 2,
    6: ((_E, _E, _E),) * 2,
    7: ((_E, _E, _E), (2 * _E, 2 * _E, 2 * _E), (0.5, 0.0, 0.0)),
    15: ((0.5, 0.0, 0.0),) * 2,
    22: ((_E, _E, _E),) * 3,
    23: ((_E, _E, _E),) * 2 + ((2 * _E, 2 * _E, 2 * _E),) * 2,
    24: ((_E, _E, _E),) * 2,
    25: ((0.0, 2 * _E, 2 * _E),) * 2 + ((_E, _E, _E),),
    27: ((0.0, 2 * _E, 2 * _E), (_E, _E, _E), (2 * _E, 0.0, 2 * _E), (3 * _E, 3 * _E, 3 * _E)),
    30: ((_E, _E, _E),) * 2 + ((2 * _E, 2 * _E, 2 * _E), (0.5, 0.0, 0.0)),
    60: ((2 * _E, 2 * _E, 0.0),) * 4,
    105: ((_E, _E, _E),) * 4,
}
INSIDE = 255  # the code of a block that lies wholly inside


@dataclass(frozen=True)
class Points:
    """The points of one surface.

    Attributes:
        position: (N, 3) integer indices; lattice point i lies between voxels i - 1 and i.
        area: (N,) mm^2; ones for border voxels, which have no area.
        owner: (N,) value of the labelled array that the point belongs to.
    """

    position: np.ndarray
    area: np.ndarray
    owner: np.ndarray

    def __len__(self) -> int:
        return len(self.position)

    def of(self, owners: Sequence[int] | np.ndarray) -> Points:
        """Only the points that belong to these components."""
        chosen = np.isin(self.owner, owners)
        return Points(self.position[chosen], self.area[chosen], self.owner[chosen])


@lru_cache(maxsize=64)
def area_table(spacing: tuple[float, float, float]) -> np.ndarray:
    """Area in mm^2 of the surface inside each of the 256 blocks of 2x2x2 voxels.

    The normal of a triangle has its component along an axis scaled by the product of the two other spacings.

    Args:
        spacing: voxel size in mm along the three axes.

    Returns:
        (256,) float64; zero for the codes 0 and 255.

    Example:
        >>> float(area_table((1.0, 1.0, 1.0))[0b00001111]), float(area_table((1.0, 2.0, 3.0))[0b00001111])
        (1.0, 6.0)
    """
    scale = np.prod(spacing) / np.asarray(spacing, float)
    table = np.zeros(256)
    for code, triangles in TRIANGLES.items():
        block = np.unpackbits(np.uint8(code)).reshape(2, 2, 2)
        for order, flips in product(permutations(range(3)), product((1, -1), repeat=3)):
            turned = block.transpose(order)[:: flips[0], :: flips[1], :: flips[2]]
            area = sum(float(np.linalg.norm(np.asarray(triangle)[list(order)] * scale)) for triangle in triangles)
            image = int(np.packbits(turned.ravel())[0])
            table[image] = table[INSIDE - image] = area
    return table


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...] | None:
    """The smallest box with every non-zero voxel, widened by `margin` voxels inside the array; None if all is zero."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        # Axis by axis inside the box found so far: the second and third look at a fraction of the array.
        part = mask[tuple(box)]
        hit = np.flatnonzero(part.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not len(hit):
            return None
        box.append(slice(max(int(hit[0]) - margin, 0), min(int(hit[-1]) + 1 + margin, mask.shape[axis])))
    return tuple(box)


def surface_points(labels: np.ndarray, spacing: Spacing) -> Points:
    """The surface points of a mask or of a labelled array, on the corner lattice.

    Components that do not touch even by a corner never share a block, so one pass gives the surfaces of all of them.

    Args:
        labels: (X, Y, Z) booleans, or integers that number components which do not touch.
        spacing: voxel size in mm along X, Y, Z.

    Returns:
        Points in raster order; the owner is the component's number (1 for a boolean mask).
    """
    box = bounding_box(labels)
    if box is None:
        return _no_points()
    padded = np.pad(labels[box], 1)
    code = _block_codes(padded != 0)
    found = np.flatnonzero((code + np.uint8(1)) > 1)  # wraps 255 to 0: neither 0 nor 255
    position = np.stack(np.unravel_index(found, code.shape), axis=1)
    owner = np.zeros(len(position), np.int64)
    for corner in product((0, 1), repeat=3):
        np.maximum(owner, padded[tuple((position + corner).T)], out=owner)
    area = area_table(tuple(float(s) for s in spacing))[code.ravel()[found]]  # type: ignore[arg-type]
    return Points(position + [s.start for s in box], area, owner)


def _block_codes(padded: np.ndarray) -> np.ndarray:
    """The 8-bit code of every 2x2x2 block of a boolean array: (X, Y, Z) to (X - 1, Y - 1, Z - 1)."""
    voxels = padded.view(np.uint8)
    pairs = voxels[:, :, 1:] | voxels[:, :, :-1] << 1
    squares = pairs[:, 1:] | pairs[:, :-1] << 2
    return squares[1:] | squares[:-1] << 4


def border_points(labels: np.ndarray) -> Points:
    """The border voxels of a mask or of a labelled array: those with a face neighbour outside it.

    Args:
        labels: (X, Y, Z) booleans, or integers that number components which do not touch.

    Returns:
        Points in raster order, position = voxel index, area = 1.
    """
    box = bounding_box(labels)
    if box is None:
        return _no_points()
    part = labels[box]
    padded = np.pad(part != 0, 1)
    core = padded[1:-1, 1:-1, 1:-1].copy()
    inner = (slice(1, -1),) * 3
    for axis, step in product(range(3), (slice(None, -2), slice(2, None))):
        core &= padded[(*inner[:axis], step, *inner[axis + 1 :])]
    position = np.argwhere((part != 0) & ~core)
    owner = part[tuple(position.T)].astype(np.int64)
    return Points(position + [s.start for s in box], np.ones(len(position)), owner)


def _no_points() -> Points:
    return Points(np.zeros((0, 3), np.int64), np.zeros(0), np.zeros(0, np.int64))
