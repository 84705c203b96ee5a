"""From a scan's own voxels to the voxel size that a network works at, and back: training and inference share it.

Going down, whole blocks of voxels are averaged, as a scanner with larger voxels would, and aliasing is not an issue.
What is left where the ratio is not a whole number is a linear interpolation. Probabilities come back linearly, with
the centres of the voxels where they belong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

NEAR = 0.15  # a voxel size this share off the wanted one is left as it is: training varies the size by more


@dataclass(frozen=True)
class Regrid:
    """How a grid becomes one of another voxel size.

    Attributes:
        full: voxels of the scan, X, Y, Z.
        blocks: voxels that are averaged along each axis.
        shape: voxels after it.

    Example:
        >>> plan = regrid((240, 240, 155), (1, 1, 1), 2)
        >>> plan.blocks, plan.shape
        ((2, 2, 2), (120, 120, 78))
    """

    full: tuple[int, int, int]
    blocks: tuple[int, int, int]
    shape: tuple[int, int, int]

    @property
    def averaged(self) -> tuple[int, ...]:
        """Voxels once the blocks are averaged; a block at the end that is not whole counts."""
        return tuple(-(-n // k) for n, k in zip(self.full, self.blocks, strict=True))

    def down(self, image: Tensor) -> Tensor:
        """(C, X, Y, Z) intensities of the scan's grid to float32 (C, *shape)."""
        image = image.float()
        if max(self.blocks) > 1:
            image = F.avg_pool3d(image[None], self.blocks, ceil_mode=True, count_include_pad=False)[0]
        return _interpolate(image, self.shape)

    def up(self, probability: Tensor) -> Tensor:
        """(C, *shape) probabilities to (C, *full), by trilinear interpolation."""
        back = _interpolate(probability, self.averaged)
        if max(self.blocks) == 1:
            return back
        whole = [n * k for n, k in zip(self.averaged, self.blocks, strict=True)]
        x, y, z = self.full
        return _interpolate(back, whole)[:, :x, :y, :z]


def regrid(full: Sequence[int], spacing: Sequence[float], target: float) -> Regrid:
    """The way from a grid to cubic voxels of `target` mm.

    Args:
        full: voxels, X, Y, Z.
        spacing: voxel size in mm.
        target: wanted voxel size in mm; 0: leave the grid as it is.
    """
    x, y, z = full
    if target <= 0:
        return Regrid((x, y, z), (1, 1, 1), (x, y, z))
    blocks, shape = [], []
    for n, size in zip(full, spacing, strict=True):
        block = max(1, min(round(target / size), n))  # a thin scan may have fewer voxels than a block
        count, ratio = -(-n // block), size * block / target
        blocks.append(block)
        shape.append(count if abs(ratio - 1) <= NEAR else max(1, round(count * ratio)))
    return Regrid((x, y, z), (blocks[0], blocks[1], blocks[2]), (shape[0], shape[1], shape[2]))


def _interpolate(image: Tensor, shape: Sequence[int]) -> Tensor:
    if tuple(image.shape[1:]) == tuple(shape):
        return image
    return F.interpolate(image[None], size=tuple(shape), mode="trilinear", align_corners=False)[0]
