"""A scan at the voxel size that a network works at, on what `regrid` plans, with a brain that keeps its edge.

A voxel at the brain's border is averaged over the part of it that is brain, and stays brain if that is half of it or
more: without that, every coarse scan would have a dark rim one voxel wide, and a mask one voxel too large.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import MapTransform

from brainseg_utils.datasets.labels import WRITE_ORDER, get_scheme
from brainseg_utils.errors import SettingError
from brainseg_utils.pipeline.regrid import Regrid, regrid
from brainseg_utils.pipeline.transforms import KEYS, Item, region_classes, to_classes

HALF = 0.5


class ToSpacingd(MapTransform):
    """Brings image and label to cubic voxels of a size; a scan that has it is left alone.

    Each region of the label (ET, TC, WT, RC) is averaged on its own and kept where it fills half of a voxel or more,
    so that a thin rim of one tissue between two others of one region does not vanish by the number of its class.

    Args:
        size: mm; 0 leaves the grid.
    """

    def __init__(self, size: float) -> None:
        super().__init__(KEYS, allow_missing_keys=True)
        if size < 0:
            raise SettingError(f"voxels of {size:g} mm", expected="a size in mm, or 0 for the scan's own")
        self.size = size

    def __call__(self, data: Mapping[Hashable, Any]) -> Item:
        """Replaces "image" and "label"."""
        item = dict(data)
        image = item["image"]
        affine = np.asarray(image.affine, float)
        full = tuple(int(n) for n in image.shape[1:])
        plan = regrid(full, np.linalg.norm(affine[:3, :3], axis=0), self.size)
        if plan.shape == full:
            return item
        moved = torch.as_tensor(_affine(affine, plan))
        item["image"] = MetaTensor(coarse_image(image.as_tensor(), plan), affine=moved)
        if "label" in item:
            numbers = np.asarray(item["label"])[0]
            label = coarse_label(numbers, item["scheme"], plan)
            item["label"] = MetaTensor(torch.from_numpy(label[None]), affine=moved)
        return item


def coarse_image(image: torch.Tensor, plan: Regrid) -> torch.Tensor:
    """(C, X, Y, Z) with a background of 0 to the plan's shape, averaged over brain voxels alone."""
    brain = plan.down((image != 0).any(dim=0, keepdim=True))
    return torch.where(brain >= HALF, plan.down(image) / brain.clamp(min=HALF), torch.zeros(()))


def coarse_label(numbers: np.ndarray, scheme_name: str, plan: Regrid) -> np.ndarray:
    """Class numbers (X, Y, Z) of a scheme to class numbers of the plan's shape, region by region."""
    scheme = get_scheme(scheme_name)
    regions = [name for name in (*WRITE_ORDER, "tumour") if name in scheme.regions]
    masks = [np.isin(numbers, region_classes(scheme, name)) for name in regions]
    share = plan.down(torch.from_numpy(np.stack(masks))).numpy()
    return to_classes(scheme.from_regions({n: s >= HALF for n, s in zip(regions, share, strict=True)}), scheme)


def _affine(affine: np.ndarray, plan: Regrid) -> np.ndarray:
    """The affine of the coarse grid, whose first voxel's centre is the centre of its block."""
    factor = np.array([n * k / m for n, k, m in zip(plan.averaged, plan.blocks, plan.shape, strict=True)])
    moved = affine.copy()
    moved[:3, :3] = affine[:3, :3] * factor
    moved[:3, 3] = affine[:3, 3] + affine[:3, :3] @ ((factor - 1) / 2)
    return moved
