"""From a mask to numbered lesions: dilation, connected components, and which components belong together.

A radiologist counts specks that lie close together as one lesion. The BraTS challenges imitate that: they dilate the
mask a few voxels, number the components of the dilated mask, and call the undilated voxels inside one component a
lesion. BraTS 2024 goes on to join lesions of one tissue that touch the same lesion of another tissue.

Everything is counted in voxels of the array as it is stored; the spacing plays no part. Components are numbered in
raster order with axis 0 slowest, which decides how BraTS 2024 joins lesions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from brainseg_utils.evaluation.surface import bounding_box

# The 18 neighbours that share a face or an edge with a voxel.
NEIGHBOURS_18 = tuple(step for step in product((-1, 0, 1), repeat=3) if 0 < sum(map(abs, step)) < 3)


@dataclass(frozen=True)
class Numbered:
    """A numbered array that covers only a box of the volume.

    Attributes:
        data: (x, y, z) integers, 0 is background.
        origin: position of the box's first voxel in the volume.
    """

    data: np.ndarray
    origin: tuple[int, int, int]


@dataclass(frozen=True)
class Lesions:
    """The lesions of one region on one side (truth or prediction).

    Attributes:
        parts: the undilated voxels, numbered by the component of the dilated mask in which they lie.
        reach: the dilated mask's components, with the same numbers.
        lesion: (n + 1,) the lesion that each part belongs to; 0 for background and for parts that were dropped.
    """

    parts: Numbered
    reach: Numbered
    lesion: np.ndarray

    @property
    def count(self) -> int:
        """Number of lesions; they are numbered 1 to `count`."""
        return int(self.lesion.max(initial=0))

    def part_sizes(self) -> np.ndarray:
        """(n + 1,) voxels of each part, 0 for background."""
        data = self.parts.data
        return np.bincount(data[data > 0], minlength=len(self.lesion))

    def sizes(self) -> np.ndarray:
        """(count + 1,) voxels of each lesion, 0 for background."""
        sizes = np.bincount(self.lesion, weights=self.part_sizes(), minlength=self.count + 1).astype(np.int64)
        sizes[0] = 0
        return sizes


def dilate(mask: np.ndarray, iterations: int) -> np.ndarray:
    """Dilates by the 18-neighbourhood (a voxel, its 6 face and its 12 edge neighbours), `iterations` times.

    The neighbourhood is the union of three flat 3x3 squares, and a square is two lines of three: a handful of shifted
    copies instead of nineteen.

    Args:
        mask: (X, Y, Z) booleans.
        iterations: voxels to grow by along each axis.

    Returns:
        Booleans of the same shape; nothing grows beyond the array.

    Example:
        >>> import numpy as np
        >>> one = np.zeros((5, 5, 5), bool); one[2, 2, 2] = True
        >>> int(dilate(one, 1).sum())
        19
    """
    for _ in range(iterations):
        along_x, along_y = _line(mask, 0), _line(mask, 1)
        mask = _line(along_x, 1)
        mask |= _line(along_x, 2)
        mask |= _line(along_y, 2)
    return mask


def _line(mask: np.ndarray, axis: int) -> np.ndarray:
    """Dilation by one voxel both ways along one axis."""
    source, out = mask.swapaxes(0, axis), mask.copy()
    target = out.swapaxes(0, axis)
    target[1:] |= source[:-1]
    target[:-1] |= source[1:]
    return out


def components(mask: np.ndarray) -> np.ndarray:
    """Numbers the 26-connected components of a mask in raster order, axis 0 slowest, as `scipy.ndimage.label` does."""
    import cc3d

    return np.asarray(cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26))


def find_components(mask: np.ndarray) -> Lesions:
    """The 26-connected components of a mask as lesions: no dilation, reach = the component itself."""
    return find_lesions(mask, 0)


def find_lesions(mask: np.ndarray, dilations: int) -> Lesions:
    """The lesions of a mask: its voxels, numbered by the component of the dilated mask that they lie in.

    Args:
        mask: (X, Y, Z) booleans.
        dilations: iterations of `dilate`.
    """
    box = bounding_box(mask, margin=dilations)
    if box is None:
        empty = Numbered(np.zeros((0, 0, 0), np.uint16), (0, 0, 0))
        return Lesions(empty, empty, np.zeros(1, np.int64))
    origin = (box[0].start, box[1].start, box[2].start)
    part = np.ascontiguousarray(mask[box])
    reach = components(dilate(part, dilations))
    parts = reach * part if dilations else reach
    return Lesions(Numbered(parts, origin), Numbered(reach, origin), np.arange(int(reach.max()) + 1))


def drop_small(lesions: Lesions, voxels: float) -> Lesions:
    """Without the lesions of `voxels` voxels or fewer; the others are renumbered in the same order."""
    kept = lesions.sizes() > voxels
    return replace(lesions, lesion=_renumber(np.where(kept[lesions.lesion], lesions.lesion, 0)))


def join_touching(lesions: Lesions, partners: Iterable[Lesions]) -> Lesions:
    """Joins lesions that touch the same lesion of another tissue, as BraTS 2024 does (evaluation contract, 6.2).

    For each partner in turn: every lesion that touches one or more partner lesions joins the group of the
    lowest-numbered of them. A single touching pair changes nothing, and groups are not chained through partners that
    they share.

    Args:
        lesions: of the tissue to join.
        partners: lesions of the other tissues, not joined themselves, in the protocol's order.
    """
    for partner in partners:
        pairs = {
            (int(lesions.lesion[a]), int(partner.lesion[b]))
            for a, b in touching(lesions.parts, partner.parts)
            if lesions.lesion[a] and partner.lesion[b]
        }
        if len(pairs) < 2:
            continue
        new_number: dict[int, int] = {}
        for _, b in sorted(pairs):
            new_number.setdefault(b, lesions.count + 1 + len(new_number))
        moved = np.arange(lesions.count + 1)
        for a, b in sorted(pairs, reverse=True):  # the lowest b comes last and stays
            moved[a] = new_number[b]
        lesions = replace(lesions, lesion=_renumber(moved[lesions.lesion]))
    return lesions


def _renumber(lesion: np.ndarray) -> np.ndarray:
    """Numbers 1..n in the same order, 0 stays 0."""
    used = np.unique(lesion[lesion > 0])
    return np.where(lesion > 0, np.searchsorted(used, lesion) + 1, 0)


def touching(first: Numbered, second: Numbered) -> np.ndarray:
    """Pairs of numbers (one from each array) that have voxels sharing a face or an edge: (N, 2), sorted."""
    if np.count_nonzero(first.data) > np.count_nonzero(second.data):
        return np.unique(touching(second, first)[:, ::-1], axis=0)
    position = np.argwhere(first.data)
    number = first.data[tuple(position.T)]
    position += np.subtract(first.origin, second.origin)
    found = [np.zeros((0, 2), np.int64)]
    for step in NEIGHBOURS_18:
        moved = position + step
        inside = np.all((moved >= 0) & (moved < second.data.shape), axis=1)
        other = second.data[tuple(moved[inside].T)]
        pairs = np.stack([number[inside], other], axis=1)[other > 0].astype(np.int64)
        found.append(np.unique(pairs, axis=0))
    return np.unique(np.concatenate(found), axis=0)


def overlaps(first: Numbered, second: Numbered) -> tuple[np.ndarray, np.ndarray]:
    """Which numbers of two arrays share voxels.

    Returns:
        (N, 2) pairs of numbers, sorted, and (N,) the voxels that each pair shares.
    """
    low = np.maximum(first.origin, second.origin)
    high = np.minimum(np.add(first.origin, first.data.shape), np.add(second.origin, second.data.shape))
    if np.any(high <= low):
        return np.zeros((0, 2), np.int64), np.zeros(0, np.int64)
    a, b = (
        numbered.data[tuple(slice(*ends) for ends in np.transpose([low, high]) - np.array(numbered.origin)[:, None])]
        for numbered in (first, second)
    )
    both = (a > 0) & (b > 0)
    base = int(b.max()) + 1
    keys, counts = np.unique(a[both].astype(np.int64) * base + b[both], return_counts=True)
    return np.stack(np.divmod(keys, base), axis=1), counts
