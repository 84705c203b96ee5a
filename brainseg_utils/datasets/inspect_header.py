"""Whether a NIfTI header agrees with itself: programs differ in which of its fields they believe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brainseg_utils.datasets import nifti
from brainseg_utils.datasets.faults import Findings, Kind
from brainseg_utils.datasets.names_volumes import VolumePlan

DISAGREEMENT_MM = 0.5  # between sform and qform: a quaternion in float32 near a half turn is off by 0.1 mm
FRAME_CODES = range(6)  # NIfTI: 0 says that there is no matrix, 1 to 5 in whose space it is
MILLIMETRES = (0, 2)  # NIfTI codes of the spatial unit: unknown, mm
COPY_AGAIN = "copy or download the file again"


def check_header(file: nifti.Nifti, path: Path, plan: VolumePlan, findings: Findings) -> None:
    """Notes scaled intensities, and fields of the header that contradict each other."""
    header = file.header
    slope, intercept = nifti.scaling(header)
    if (slope, intercept) != (1.0, 0.0):
        findings.fault(
            Kind.SCALING,
            plan.case,
            path,
            f"scl_slope {slope:g}, scl_inter {intercept:g}",
            "intensities stored as they are (slope 1, intercept 0)",
            "write the file again with the scaling applied, or " + COPY_AGAIN,
        )
    for found in _contradictions(file):
        findings.fault(
            Kind.ORIENTATION,
            plan.case,
            path,
            found,
            "pixdim, sform, qform and unit that say the same, in mm",
            "set them alike: programs differ in which they believe",
        )


def _contradictions(file: nifti.Nifti) -> list[str]:
    header, found = file.header, []
    for code in ("sform_code", "qform_code"):
        if int(header[code]) not in FRAME_CODES:
            found.append(f"{code} {int(header[code])}, which means nothing: some programs then ignore the matrix")
    sizes, announced = np.array(file.spacing), np.asarray(header["pixdim"][1:4], float)
    with np.errstate(all="ignore"):
        if not np.allclose(sizes, announced, rtol=1e-3, atol=0):
            texts = [" x ".join(f"{s:.4g}" for s in both) for both in (announced, sizes)]
            found.append(f"pixdim announces voxels of {texts[0]} mm, the affine {texts[1]} mm")
        elif int(header["sform_code"]) > 0 and int(header["qform_code"]) > 0:
            try:
                apart = corner_distance(header.get_sform(), header.get_qform(), file.data.shape)
            except Exception:  # nibabel: a quaternion longer than 1, or a handedness that is neither 1 nor -1
                apart = np.inf
            if not apart <= DISAGREEMENT_MM:
                found.append(f"sform and qform are {apart:.3g} mm apart")
    unit = int(header["xyzt_units"]) % 8
    if unit not in MILLIMETRES:
        found.append(f"unit of length {({1: 'metres', 3: 'micrometres'}).get(unit, f'code {unit}')}")
    return found


def corner_distance(a: np.ndarray, b: np.ndarray, shape: Sequence[int]) -> float:
    """The largest distance, in mm, between where two affines put a corner voxel of an array."""
    corners = np.array(np.meshgrid(*[(0, side - 1) for side in shape[:3]])).reshape(3, -1)
    moved = (a - b)[:3, :3] @ corners + (a - b)[:3, 3:]
    return float(np.sqrt((moved**2).sum(axis=0)).max())
