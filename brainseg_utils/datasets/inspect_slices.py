"""One patient of the LGG layout: names and content of its slices and masks, each file read once."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brainseg_utils.datasets.cases import read_tiff
from brainseg_utils.datasets.faults import Findings, Kind
from brainseg_utils.datasets.find import Folder
from brainseg_utils.datasets.inspect_header import COPY_AGAIN
from brainseg_utils.datasets.inspect_volumes import Inspection
from brainseg_utils.errors import DataError

TIFF_ENDINGS = (".tif", ".tiff")
_NAME = re.compile(r"^(?P<patient>.+?)_(?P<number>\d+)(?P<mask>_mask)?\.tiff?$", re.IGNORECASE)


@dataclass(frozen=True)
class SlicePlan:
    """What there is to read of one patient.

    Attributes:
        root: the folder that is verified.
        case: case id.
        folder: where the patient's files are.
        slices: slice number to image file.
        masks: slice number to mask file.
        masked: whether masks are expected.
    """

    root: Path
    case: str
    folder: Path
    slices: dict[int, Path]
    masks: dict[int, Path]
    masked: bool = True

    @property
    def files(self) -> int:
        """How many files there are to read."""
        return len(self.slices) + len(self.masks)


def plan_slices(folder: Folder, findings: Findings) -> SlicePlan:
    """Gives every TIFF of a patient its number and notes misnamed and doubled ones."""
    plan = SlicePlan(findings.root, folder.path.name, folder.path, {}, {})
    for name in sorted(folder.files, key=len):  # X_1.tif before X_01.tif
        if not name.lower().endswith(TIFF_ENDINGS):
            continue
        match = _NAME.match(name)
        if match is None:
            findings.fault(
                Kind.MISNAMED,
                plan.case,
                folder.path / name,
                "a TIFF without slice number",
                f"{plan.case}_<number>.tif or {plan.case}_<number>_mask.tif",
                "rename it, or move it elsewhere",
            )
            continue
        number, part = int(match["number"]), plan.masks if match["mask"] else plan.slices
        expected = f"{plan.case}_{number}{'_mask' if match['mask'] else ''}.tif"
        if number in part:
            findings.fault(
                Kind.SLICE_TWICE,
                plan.case,
                folder.path / name,
                f"a second file for slice {number}, beside {part[number].name}",
                "one file a slice",
                "keep one of the two",
            )
            continue
        part[number] = folder.path / name
        if name != expected:
            found = f"stands for {'the mask of ' if match['mask'] else ''}slice {number}, under another name"
            findings.fault(Kind.MISNAMED, plan.case, folder.path / name, found, expected, f"rename it to {expected}")
    return plan


def inspect_slices(plan: SlicePlan) -> Inspection:
    """Reads every slice and mask of a patient once and notes what is wrong with them."""
    result = Inspection(plan.case, plan.folder, Findings(plan.root), plan.files)
    _check_numbers(plan, result.findings)
    sizes: dict[int, tuple[int, int]] = {}
    content = hashlib.sha1(usedforsecurity=False)
    empty = True
    for number in sorted(plan.slices):
        image = _read(plan.slices[number], 3, plan, result.findings)
        mask = _read(plan.masks[number], 1, plan, result.findings) if number in plan.masks else None
        if mask is not None:
            _check_mask(mask, image, number, plan, result.findings)
        if image is not None:
            sizes[number] = image.shape[:2]
            empty &= not image.any()
            content.update(repr(image.shape).encode() + np.ascontiguousarray(image).data)
    _check_sizes(sizes, plan, result.findings)
    if sizes and empty:
        result.findings.fault(
            Kind.CONSTANT, plan.case, plan.folder, "every pixel of every slice is 0", "images", COPY_AGAIN
        )
    elif sizes:
        result.digests[plan.folder] = content.hexdigest()
    return result


def _check_numbers(plan: SlicePlan, findings: Findings) -> None:
    present = plan.slices.keys() | plan.masks.keys()
    for number in sorted(set(range(1, max(present, default=0))) - present):
        findings.fault(
            Kind.GAP,
            plan.case,
            plan.folder / f"{plan.case}_{number}.tif",
            f"no slice {number}, there is one up to {max(present)}",
            "slice numbers from 1 without gap",
            COPY_AGAIN,
        )
    for number in sorted(plan.masks.keys() - plan.slices.keys()):
        expected = f"{plan.case}_{number}.tif"
        findings.fault(
            Kind.NO_SLICE, plan.case, plan.masks[number], f"a mask without slice {number}", expected, COPY_AGAIN
        )
    if plan.masked:
        for number in sorted(plan.slices.keys() - plan.masks.keys()):
            expected = f"{plan.case}_{number}_mask.tif"
            findings.fault(
                Kind.NO_MASK, plan.case, plan.slices[number], f"slice {number} has no mask", expected, COPY_AGAIN
            )


def _read(path: Path, channels: int, plan: SlicePlan, findings: Findings) -> np.ndarray | None:
    """The image or mask; None and a fault where it cannot be read or is not of 8 bits and the right channels."""
    try:
        image = read_tiff(path)
    except DataError as error:
        findings.fault(
            Kind.UNREADABLE_TIFF, plan.case, path, error.found, "a TIFF of one page", error.remedy or COPY_AGAIN
        )
        return None
    shape_fits = (image.ndim == 3 and image.shape[2] == channels) or (image.ndim == 2 and channels == 1)
    if shape_fits and image.dtype == np.uint8:
        return image.reshape(image.shape[:2]) if channels == 1 else image
    expected = f"(rows, columns{', 3' if channels == 3 else ''}) of uint8"
    kind = Kind.SLICE_FORMAT
    findings.fault(
        kind, plan.case, path, f"array of shape {image.shape} of {image.dtype}", expected, "use the data set's own file"
    )
    return None


def _check_mask(mask: np.ndarray, image: np.ndarray | None, number: int, plan: SlicePlan, findings: Findings) -> None:
    path = plan.masks[number]
    values = np.unique(mask)
    alien = [int(v) for v in values if v not in (0, 255)]
    if alien:
        count = int(np.isin(mask, alien).sum())
        listed = ", ".join(map(str, alien[:5])) + (" …" if len(alien) > 5 else "")
        found = f"{count} pixels of value {listed}"
        findings.fault(Kind.NOT_BINARY, plan.case, path, found, "0 and 255", "use the data set's own mask")
    if image is None:
        return
    if mask.shape != image.shape[:2]:
        findings.fault(
            Kind.MASK_SIZE, plan.case, path, f"size {mask.shape}", f"{image.shape[:2]}, as its slice", COPY_AGAIN
        )
    elif count := int(((mask > 0) & ~image.any(axis=2)).sum()):
        findings.fault(
            Kind.OUTSIDE_BRAIN,
            plan.case,
            path,
            f"{count} labelled pixels where the slice is black",
            "labels inside the head (in 1,387 real slices not one pixel is outside)",
            "check that mask and slice belong together",
        )


def _check_sizes(sizes: dict[int, tuple[int, int]], plan: SlicePlan, findings: Findings) -> None:
    if not sizes:
        return
    usual = Counter(sizes.values()).most_common(1)[0][0]
    for number, size in sizes.items():
        if size != usual:
            findings.fault(
                Kind.SLICE_SIZE, plan.case, plan.slices[number], f"size {size}", f"{usual}, as most", COPY_AGAIN
            )


def plan_masks(plans: list[SlicePlan], findings: Findings) -> list[SlicePlan]:
    """The plans, with no masks expected where no patient has one; that is a notice, not a fault."""
    if any(plan.masks for plan in plans):
        return plans
    findings.notice(
        Kind.NO_LABEL,
        "",
        findings.root,
        f"none of {len(plans)} patients has a mask: taken as a set without labels",
        "masks, if it is for training",
        "nothing to do for prediction",
    )
    return [SlicePlan(p.root, p.case, p.folder, p.slices, p.masks, masked=False) for p in plans]
