"""A lesion to play with: a mask is moved, grown, split and blurred, and scored against what it was.

Small on purpose: a lesion cut out of its scan and thinned, so that a change is scored while a slider moves. The scores
are those of the package, on the thinned mask. Notebook 07 draws it (`views/metric_sliders.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from brainseg_utils.errors import DataError
from brainseg_utils.evaluation import boundary, perturb, voxel
from brainseg_utils.evaluation.lesions import Side, prepare, score
from brainseg_utils.evaluation.protocols import PROTOCOLS
from brainseg_utils.evaluation.surface import Spacing, bounding_box

MOST_VOXELS = 200_000  # of the part that is cut out: larger ones are thinned, so that a change is answered at once
MARGIN_MM = 20.0  # kept around the lesions: room to move and grow
SEARCH_MM = 55.0  # how far from the lesion a place for the second one is looked for
SECOND_RADIUS_MM, SECOND_GAP_MM = 5.0, 22.0
PROTOCOL = PROTOCOLS["brats2023"]
REGION = "WT"


@dataclass(frozen=True)
class Change:
    """What is done to the mask, in this order; all in mm, 0 leaves it as it is.

    Attributes:
        blur: standard deviation of a Gaussian; where the blurred mask is a half or more it stays.
        split: width of a gap that is cut through its middle, across the patient's left-right axis.
        grow: how far the outline moves outwards (negative: inwards).
        move: how far it moves to the patient's right, in whole voxels.
    """

    blur: float = 0.0
    split: float = 0.0
    grow: float = 0.0
    move: float = 0.0


class Measured(NamedTuple):
    """Scores of a changed mask, by the rules of BraTS 2023: HD95 in mm, `found`, `missed`, `invented` in lesions."""

    dice: float
    iou: float
    sensitivity: float
    nsd: float
    lesion_dice: float
    hd95: float
    found: int
    missed: int
    invented: int


@dataclass(frozen=True, eq=False)
class Sandbox:
    """A lesion to play with, cut out of its scan.

    Attributes:
        image: (X, Y, Z) intensities, drawn below the mask.
        truth: (X, Y, Z) booleans.
        spacing: voxel size in mm.
        point: voxel (x, y, z) that the picture cuts through.
    """

    image: np.ndarray
    truth: np.ndarray
    spacing: Spacing
    point: tuple[int, int, int]

    @classmethod
    def of(cls, image: np.ndarray, mask: np.ndarray, spacing: Spacing) -> Sandbox:
        """Cuts out the largest component of a mask, thins it, and puts a small second lesion (radius 5 mm) near it.

        The second one is made up; with it one can see what each metric makes of a small lesion that is missed.

        Args:
            image: (X, Y, Z), 0 outside the brain.
            mask: (X, Y, Z) booleans.
            spacing: voxel size in mm.

        Raises:
            DataError: the mask is empty.
        """
        numbered, count = ndimage.label(mask, np.ones((3, 3, 3)))
        if not count:
            raise DataError("an empty mask", expected="a lesion to change", remedy="choose another case or region")
        truth = numbered == np.bincount(numbered.ravel())[1:].argmax() + 1
        around = bounding_box(truth, int(np.ceil(SEARCH_MM / min(spacing))))
        assert around is not None
        step = 1
        while True:
            every = tuple(slice(part.start, part.stop, step) for part in around)
            cut = cls._cut(image[every], truth[every], tuple(s * step for s in spacing))
            if cut.truth.size <= MOST_VOXELS:
                return cut
            step += 1

    @classmethod
    def _cut(cls, image: np.ndarray, truth: np.ndarray, spacing: Spacing) -> Sandbox:
        """Adds the second lesion and cuts to both with a margin."""
        z = int(truth.sum(axis=(0, 1)).argmax())
        truth = truth | _second(truth, image != 0, spacing, z)
        box = bounding_box(truth, int(np.ceil(MARGIN_MM / min(spacing))))
        assert box is not None
        image, truth = np.ascontiguousarray(image[box], np.float32), np.ascontiguousarray(truth[box])
        z -= box[2].start
        column, row = (int(np.median(axis)) for axis in np.nonzero(truth[:, :, z]))
        return cls(image, truth, spacing, (column, row, z))

    @cached_property
    def side(self) -> Side:
        """The truth cut into lesions."""
        return prepare({REGION: self.truth}, PROTOCOL.lesion_rules, self.spacing, truth=True)[REGION]


def _second(truth: np.ndarray, brain: np.ndarray, spacing: Spacing, z: int) -> np.ndarray:
    """A ball in slice z, in the brain where there is room, about 22 mm from the lesion's outline."""
    import edt

    # Lesions whose dilated masks meet count as one. Both grow by 3 voxels, however large those are, along two axes at
    # a time, so by 3 times the root of 2 where they meet at an angle.
    voxels = 2 * np.sqrt(2) * PROTOCOL.lesion_rules[REGION].dilations + 2
    apart = SECOND_RADIUS_MM + voxels * max(spacing)
    distance, deep = (
        edt.edt(np.ascontiguousarray(m), anisotropy=tuple(spacing), black_border=border, parallel=1)[:, :, z]
        for m, border in ((~truth, False), (brain, True))
    )
    off = np.abs(distance - max(SECOND_GAP_MM, apart)) + 2 * np.maximum(SECOND_RADIUS_MM - deep, 0)
    centre = (*np.unravel_index(int(off.argmin()), off.shape), z)
    steps = [(n - c) * s for n, c, s in zip(np.ogrid[tuple(map(slice, truth.shape))], centre, spacing, strict=True)]
    return (steps[0] ** 2 + steps[1] ** 2 + steps[2] ** 2 <= SECOND_RADIUS_MM**2) & ~truth


def changed(sandbox: Sandbox, change: Change) -> np.ndarray:
    """The truth after a change, (X, Y, Z) booleans."""
    mask = sandbox.truth
    if change.blur:
        sigma = [change.blur / s for s in sandbox.spacing]
        mask = ndimage.gaussian_filter(mask.astype(np.float32), sigma, truncate=2.5) >= 0.5
    if change.split:
        x = (np.arange(mask.shape[0]) - sandbox.point[0]) * sandbox.spacing[0]
        mask = mask & (np.abs(x) >= change.split / 2)[:, None, None]
    if change.grow:
        mask = _grown(mask, sandbox.spacing, change.grow)
    if change.move:
        mask = perturb.shift(mask.astype(np.uint8), (round(change.move / sandbox.spacing[0]), 0, 0)).astype(bool)
    return mask


def _grown(mask: np.ndarray, spacing: Spacing, mm: float) -> np.ndarray:
    """As `perturb.grow` for a mask without tissues, through a quicker distance map."""
    import edt

    if not mask.any():
        return mask
    side = np.ascontiguousarray(mask if mm < 0 else ~mask)
    distance = edt.edt(side, anisotropy=tuple(spacing), black_border=False, parallel=1)
    return distance > -mm if mm < 0 else distance <= mm


def measure(sandbox: Sandbox, prediction: np.ndarray) -> Measured:
    """Scores a mask against the sandbox's truth; an empty one gets the penalty of 374 mm as HD95."""
    counts = voxel.count(sandbox.truth, prediction)
    side = prepare({REGION: prediction}, PROTOCOL.lesion_rules, sandbox.spacing, truth=False)[REGION]
    between = boundary.between(sandbox.side.surface, side.surface, sandbox.spacing)
    penalty = PROTOCOL.penalty_for(prediction.shape)
    lesions = score(sandbox.side, side, PROTOCOL.lesion_rules[REGION], penalty)
    nsd, hd95 = boundary.nsd_area(between, 1.0), boundary.hausdorff(between, penalty=penalty)
    shared = counts.dice, counts.iou, counts.sensitivity, nsd, lesions.dice, hd95
    return Measured(*shared, lesions.tp, lesions.fn, lesions.fp)
