"""Reading a mask as it is stored, with the values that its scheme does not have set to background.

Scores are computed in the file's own axis order, because BraTS 2024 numbers lesions in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brainseg_utils.datasets import nifti
from brainseg_utils.datasets.cases import read_tiff, same_grid
from brainseg_utils.datasets.labels import LabelScheme
from brainseg_utils.errors import GeometryError, LabelError
from brainseg_utils.evaluation.surface import Spacing, bounding_box


@dataclass(frozen=True)
class Mask:
    """A mask as it is stored.

    Attributes:
        labels: (X, Y, Z) whole numbers of the scheme, in the file's axis order.
        affine: (4, 4), voxel index to mm.
        spacing: voxel size in mm along the three axes as the header says; 1 for slices without spacing.
        where: the file, or the folder of the slices.
        warnings: values that count as background.
    """

    labels: np.ndarray
    affine: np.ndarray
    spacing: Spacing
    where: Path
    warnings: tuple[str, ...]


def read_mask(paths: Sequence[Path], scheme: LabelScheme) -> Mask:
    """Reads a NIfTI mask, or stacks slices to (rows, columns, slices), without turning anything.

    Whole numbers that the scheme does not have become background, with a warning that names value and voxel count.

    Args:
        paths: one NIfTI file, or TIFF slices in order.
        scheme: what the integers mean.

    Raises:
        DataError: a file is absent or damaged.
        GeometryError: not a 3D array, or slices of different sizes.
        LabelError: values that are not whole numbers.
    """
    if paths[0].suffix.lower() in (".tif", ".tiff"):
        data, affine, spacing = _read_slices(paths), np.eye(4), (1.0, 1.0, 1.0)
    else:
        file = nifti.read(paths[0])
        data, affine = file.data, file.affine
        if data.ndim == 4 and data.shape[3] == 1:
            data = data[..., 0]
        if data.ndim != 3:
            raise GeometryError(
                f"array of shape {data.shape}", where=paths[0], expected="(X, Y, Z)", remedy="use a mask"
            )
        x, y, z = (float(size) for size in file.header.get_zooms()[:3])
        spacing = (x, y, z)
        if not all(np.isfinite(spacing)) or min(spacing) <= 0:  # then only the affine says it
            spacing = (file.spacing[0], file.spacing[1], file.spacing[2])
    where = paths[0] if len(paths) == 1 else paths[0].parent
    labels, notes = _clean(data, scheme, where)
    return Mask(labels, affine, spacing, where, notes)


def _read_slices(paths: Sequence[Path]) -> np.ndarray:
    planes = [read_tiff(path, channels=1) for path in paths]
    for path, plane in zip(paths, planes, strict=True):
        if plane.shape != planes[0].shape:
            raise GeometryError(
                f"slice of shape {plane.shape}", where=path, expected=f"{planes[0].shape}, as {paths[0]}"
            )
    return np.stack([plane.reshape(plane.shape[:2]) for plane in planes], axis=2)


def _clean(data: np.ndarray, scheme: LabelScheme, where: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels of the scheme as uint8, and a warning for each other value."""
    if data.dtype.kind not in "iufb":
        raise LabelError(f"values of type {data.dtype}", where=where, expected="whole numbers", remedy="give the mask")
    box = bounding_box(data != 0)  # NaN is not 0 either
    labels = np.zeros(data.shape, np.uint8, order="F")
    if box is None:
        return labels, ()
    part = data[box]
    if not np.issubdtype(part.dtype, np.integer):
        _check_whole(part, scheme, where)
    values, counts = np.unique(part[part != 0], return_counts=True)
    notes = []
    for value, voxels in zip(values, counts, strict=True):
        if int(value) in scheme.tissues:
            labels[box][part == value] = int(value)
        else:
            notes.append(
                f"{where}: {voxels} voxels of value {int(value)}, which scheme {scheme.name} ({scheme.describe()}) "
                "does not have, count as background"
            )
    return labels, tuple(notes)


def _check_whole(part: np.ndarray, scheme: LabelScheme, where: Path) -> None:
    with np.errstate(invalid="ignore"):
        odd = ~np.isfinite(part) | (part != np.rint(part))
    if not odd.any():
        return
    example = part[odd].flat[0]
    raise LabelError(
        f"{int(odd.sum())} values are not whole numbers, e.g. {example:g}",
        where=where,
        expected=f"labels {scheme.describe()}",
        remedy="give the mask, not a probability map or a mask that was interpolated",
    )


def check_grid(truth: Mask, prediction: Mask) -> None:
    """Raises `GeometryError` unless the two masks have one shape and one affine."""
    if truth.labels.shape != prediction.labels.shape:
        raise GeometryError(
            f"shape {prediction.labels.shape}",
            where=prediction.where,
            expected=f"{truth.labels.shape}, as {truth.where}",
            remedy="resample the prediction to the truth's grid (nearest neighbour)",
        )
    if not same_grid(truth.labels, truth.affine, prediction.labels, prediction.affine):
        raise GeometryError(
            f"affine {_show(prediction.affine)}",
            where=prediction.where,
            expected=f"{_show(truth.affine)}, as {truth.where}",
            remedy="save the prediction with the affine of the scan it was made from",
        )


def _show(affine: np.ndarray) -> str:
    return "[" + "; ".join(" ".join(f"{v:g}" for v in row) for row in affine[:3]) + "]"
