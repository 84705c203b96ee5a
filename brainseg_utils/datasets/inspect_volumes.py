"""The content of one case's NIfTI files, each read once: geometry, intensities, labels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from brainseg_utils.datasets import nifti
from brainseg_utils.datasets.faults import Findings, Kind
from brainseg_utils.datasets.inspect_header import COPY_AGAIN, check_header, corner_distance
from brainseg_utils.datasets.labels import get_scheme
from brainseg_utils.datasets.names_volumes import VolumePlan
from brainseg_utils.errors import LabelError

SAME_PLACE_MM = 1e-4  # float32 rounding of an oblique affine moves a corner by less
ABSURDLY_LARGE, ABSURDLY_SMALL = 1e7, 1e-9  # real scans stay below 1e5; other values are misread numbers


@dataclass
class Inspection:
    """What came of one case.

    Attributes:
        case: case id.
        folder: where it is.
        findings: its faults and notices.
        files: how many files were read.
        digests: file to a digest of its voxels in RAS, whatever their type, for images that could be read.
    """

    case: str
    folder: Path
    findings: Findings
    files: int = 0
    digests: dict[Path, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """Where the voxels of one file are, in RAS."""

    file: Path
    shape: tuple[int, ...]
    affine: np.ndarray
    kind: np.dtype
    extremes: tuple[float, float]

    def distance(self, other: Grid) -> float:
        """How far apart the two affines put a corner at the most, in mm; infinite for another shape."""
        return np.inf if self.shape != other.shape else corner_distance(self.affine, other.affine, self.shape)


def inspect_volumes(plan: VolumePlan) -> Inspection:
    """Reads every file of a case once and notes what is wrong with it."""
    result = Inspection(plan.case, plan.folder, Findings(plan.root), plan.files)
    images: list[Grid] = []
    mask = _read_mask(plan, result) if plan.label else None
    outside = None if mask is None else mask[0]  # labelled voxels at which no modality has been seen yet
    for _, path in plan.images:
        data, affine, kind = _read(path, plan, 4 if plan.channels else 3, result)
        if data is None:
            continue
        extremes = _check_values(data, path, plan, result.findings)
        images.append(Grid(path, data.shape[:3], affine, kind, extremes))
        result.digests[path] = digest(data)
        if outside is not None and outside.shape == data.shape[:3]:
            for channel in _channels(data):
                outside &= channel == 0
    _check_signs(images, plan, result.findings)
    grids = images if mask is None else [*images, mask[1]]
    placed = _check_grids(grids, plan, result.findings)
    if mask is not None and placed and any(image.extremes != (0, 0) for image in images):
        _check_outside(mask[0], mask[1].file, plan, result.findings)
    return result


def voxels(count: int) -> str:
    """A count with its noun."""
    return f"{count} voxel{'' if count == 1 else 's'}"


def digest(data: np.ndarray) -> str:
    """A digest of an array's shape and values, the same whatever its number type and memory order."""
    content = hashlib.sha1(repr(data.shape).encode(), usedforsecurity=False)
    for channel in _channels(data):  # one at a time, to hold one more in memory and not four
        content.update(np.ascontiguousarray(channel, np.float32).data)
    return content.hexdigest()


def _channels(data: np.ndarray) -> list[np.ndarray]:
    return [data] if data.ndim == 3 else [data[..., c] for c in range(data.shape[3])]


def _read(
    path: Path, plan: VolumePlan, dimensions: int, result: Inspection
) -> tuple[np.ndarray | None, np.ndarray, np.dtype]:
    """The file's array in RAS, its affine and stored type; None and a fault where it cannot be used."""
    nothing = (None, np.eye(4), np.dtype(np.uint8))
    try:
        file = nifti.read(path)
    except nifti.NiftiError as error:
        kind = Kind(error.kind)
        result.findings.fault(
            kind, plan.case, path, error.found, error.expected or "a readable file", error.remedy or COPY_AGAIN
        )
        return nothing
    shape = file.data.shape
    if len(shape) != dimensions or (dimensions == 4 and shape[3] != plan.channels):
        expected = f"(X, Y, Z, {plan.channels})" if dimensions == 4 else "(X, Y, Z)"
        result.findings.fault(
            Kind.DIMENSIONS, plan.case, path, f"array of shape {shape}", expected, "use the data set's own file"
        )
        return nothing
    check_header(file, path, plan, result.findings)
    data, affine = nifti.to_ras(file.data, file.affine)
    return data, affine, file.header.get_data_dtype()


def _check_values(data: np.ndarray, path: Path, plan: VolumePlan, findings: Findings) -> tuple[float, float]:
    """Notes what is wrong with an image's intensities; returns the smallest and largest."""
    channels = _channels(data)
    extremes = [(float(channel.min()), float(channel.max())) for channel in channels]
    for number, (low, high) in enumerate(extremes):
        which = f"channel {number}: " if data.ndim == 4 else ""
        if not np.isfinite([low, high]).all():
            count = int((~np.isfinite(channels[number])).sum())
            findings.fault(
                Kind.NOT_FINITE,
                plan.case,
                path,
                f"{which}{voxels(count)} NaN or infinite",
                "finite numbers",
                COPY_AGAIN,
            )
        elif low == high:
            value = "0" if low == 0 else f"the same, {low:g}"
            findings.fault(Kind.CONSTANT, plan.case, path, f"{which}every voxel is {value}", "an image", COPY_AGAIN)
        elif not ABSURDLY_SMALL < max(-low, high) < ABSURDLY_LARGE:
            findings.fault(
                Kind.ABSURD_VALUES,
                plan.case,
                path,
                f"{which}intensities from {low:.4g} to {high:.4g}",
                f"magnitudes between {ABSURDLY_SMALL:g} and {ABSURDLY_LARGE:g}",
                "the header's number type is not that of the voxels: " + COPY_AGAIN,
            )
    return min(low for low, _ in extremes), max(high for _, high in extremes)


def _check_signs(images: Sequence[Grid], plan: VolumePlan, findings: Findings) -> None:
    """Notes an integer image that lies where signed and unsigned differ, in a case whose others have the other sign."""
    for image in images:
        others = [other.kind for other in images if other is not image]
        opposite = {"i": "u", "u": "i"}.get(image.kind.kind)
        if not others or any(k.kind != opposite or k.itemsize != image.kind.itemsize for k in others):
            continue
        low, high = image.extremes
        if low < 0 or high > np.iinfo(f"i{image.kind.itemsize}").max:
            findings.fault(
                Kind.ABSURD_VALUES,
                plan.case,
                image.file,
                f"{image.kind} intensities from {low:g} to {high:g}, the other modalities are {others[0]}",
                "one number type",
                "signed numbers read as unsigned or the other way round: " + COPY_AGAIN,
            )


def _check_grids(grids: Sequence[Grid], plan: VolumePlan, findings: Findings) -> bool:
    """Notes every file that is not on the grid of most others; returns whether the last one is on it."""
    if len(grids) < 2:
        return True
    apart = np.array([[one.distance(other) for other in grids] for one in grids])
    # Most neighbours within rounding; among equals the one with most neighbours exactly there.
    reference = grids[int(np.argmax((apart <= SAME_PLACE_MM).sum(1) * len(grids) + (apart == 0).sum(1)))]
    for grid in grids:
        distance = grid.distance(reference)
        if grid.shape != reference.shape:
            what = (Kind.SHAPE, f"shape {grid.shape}", f"{reference.shape}, as {reference.file.name}")
        elif distance > SAME_PLACE_MM:
            what = (
                Kind.AFFINE,
                f"voxels up to {distance:.3g} mm from those of {reference.file.name}",
                "one affine a case",
            )
        else:
            if not np.array_equal(grid.affine, reference.affine):
                findings.notice(
                    Kind.ROUNDING,
                    plan.case,
                    grid.file,
                    f"voxels {distance:.1g} mm from those of {reference.file.name}",
                    f"at most {SAME_PLACE_MM:g} mm",
                    "nothing to do",
                )
            continue
        findings.fault(what[0], plan.case, grid.file, what[1], what[2], "register and resample the files to one grid")
    return grids[-1].distance(reference) <= SAME_PLACE_MM


def _read_mask(plan: VolumePlan, result: Inspection) -> tuple[np.ndarray, Grid] | None:
    """Where the mask is not 0, and its grid; None where it cannot be read. Notes values that are no labels."""
    assert plan.label is not None
    data, affine, kind = _read(plan.label, plan, 3, result)
    if data is None:
        return None
    labelled = data != 0
    values, counts = np.unique(data[labelled], return_counts=True)
    whole = np.isfinite(values) & (values == np.round(values))
    if not whole.all():
        result.findings.fault(
            Kind.FRACTIONAL_LABEL,
            plan.case,
            plan.label,
            f"{voxels(int(counts[~whole].sum()))} with a label that is no whole number (e.g. {values[~whole][0]:g})",
            get_scheme(plan.scheme).describe(),
            "use the mask, not a probability map or a resampled mask",
        )
    try:
        get_scheme(plan.scheme).check(values[whole], plan.label)
    except LabelError as error:
        alien = int(counts[whole & ~np.isin(values, list(get_scheme(plan.scheme).tissues))].sum())
        result.findings.fault(
            Kind.UNKNOWN_LABEL,
            plan.case,
            plan.label,
            f"{error.found} ({voxels(alien)})",
            error.expected or "",
            error.remedy or "",
        )
    return labelled, Grid(plan.label, data.shape, affine, kind, (0.0, 0.0))


def _check_outside(outside: np.ndarray, path: Path, plan: VolumePlan, findings: Findings) -> None:
    count = int(outside.sum())
    if count:
        findings.fault(
            Kind.OUTSIDE_BRAIN,
            plan.case,
            path,
            f"{voxels(count)} labelled where every modality is 0",
            "labels inside the brain (in 16 real cases of BraTS 2018 to 2023 not one voxel is outside)",
            "check that mask and images are of one patient and on one grid",
        )
