"""Where common libraries differ from the challenge, shown by running them (evaluation contract, section 9).

The table is printed by `pytest -s tests/unit/evaluation/test_library_differences.py`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from brainseg_utils.evaluation import boundary, voxel
from brainseg_utils.evaluation.lesions import LesionRules, prepare, score

SPACING = (1.0, 1.0, 1.0)
PENALTY = 374.0


def empty() -> np.ndarray:
    return np.zeros((24, 24, 24), bool)


def box(*ranges) -> np.ndarray:
    mask = empty()
    for low, high in ranges:
        mask[low:high, 8:16, 8:16] = True
    return mask


def slab(pad: bool) -> np.ndarray:
    """A flat slab, with a pad on a quarter of one face."""
    mask = np.zeros((40, 40, 40), bool)
    mask[10:12, 4:36, 4:36] = True
    if pad:
        mask[12:17, 4:12, 4:12] = True
    return mask


def disc(hole: float) -> np.ndarray:
    """A flat disc, with a round hole of a radius in voxels."""
    x, y, z = np.ogrid[:32, :32, :32]
    squared = (x - 16) ** 2 + (y - 16) ** 2
    return (squared <= 12**2) & (squared >= hole**2) & (z >= 14) & (z < 18)


PAIRS = {
    "both empty": (empty(), empty()),
    "truth empty": (empty(), box((5, 9))),
    "prediction empty": (box((5, 9)), empty()),
    "slab and pad": (slab(pad=False), slab(pad=True)),
    "ring and disc": (disc(6.5), disc(0)),
    "two lesions, one bar": (box((3, 7), (15, 19)), box((3, 19))),
    "one lesion, two parts": (box((3, 19)), box((3, 7), (15, 19))),
}


def ours_dice(truth, prediction):
    return voxel.count(truth, prediction).dice


def ours_hd95(truth, prediction):
    return boundary.hausdorff(boundary.surface_distances(truth, prediction, SPACING), penalty=PENALTY)


def ours_nsd(truth, prediction):
    return boundary.nsd_area(boundary.surface_distances(truth, prediction, SPACING), 1.0)


def ours_lesions(truth, prediction):
    rules = LesionRules(3, 50)
    sides = [prepare({"WT": mask}, {"WT": rules}, SPACING, truth=mask is truth)["WT"] for mask in (truth, prediction)]
    result = score(*sides, rules, PENALTY)
    return result.tp, result.fp, result.fn


def monai_tensors(*masks):
    import torch

    return [torch.from_numpy(mask.astype(np.float32))[None, None] for mask in masks]


def monai_dice(truth, prediction):
    from monai.metrics import compute_dice

    return float(compute_dice(*monai_tensors(prediction, truth), include_background=True)[0, 0])


def monai_hd95(truth, prediction):
    from monai.metrics import compute_hausdorff_distance

    tensors = monai_tensors(prediction, truth)
    return float(compute_hausdorff_distance(*tensors, include_background=True, percentile=95, spacing=SPACING)[0, 0])


def monai_nsd(truth, prediction):
    from monai.metrics import compute_surface_dice

    tensors = monai_tensors(prediction, truth)
    return float(compute_surface_dice(*tensors, class_thresholds=[1.0], include_background=True, spacing=SPACING)[0, 0])


def monai_nsd_subvoxels(truth, prediction):
    from monai.metrics import compute_surface_dice

    tensors = monai_tensors(prediction, truth)
    settings = {"class_thresholds": [1.0], "include_background": True, "spacing": SPACING, "use_subvoxels": True}
    return float(compute_surface_dice(*tensors, **settings)[0, 0])


def medpy_dice(truth, prediction):
    from medpy.metric import binary

    return float(binary.dc(prediction, truth))


def medpy_hd95(truth, prediction):
    from medpy.metric import binary

    return float(binary.hd95(prediction, truth, voxelspacing=SPACING))


def surface_distance_hd95(truth, prediction):
    import surface_distance

    return surface_distance.compute_robust_hausdorff(
        surface_distance.compute_surface_distances(truth, prediction, SPACING), 95
    )


def panoptica_counts(truth, prediction):
    from panoptica import (
        ConnectedComponentsInstanceApproximator,
        InputType,
        NaiveThresholdMatching,
        Panoptica_Evaluator,
    )

    evaluator = Panoptica_Evaluator(
        expected_input=InputType.SEMANTIC,
        instance_approximator=ConnectedComponentsInstanceApproximator(),
        instance_matcher=NaiveThresholdMatching(),
    )
    result = evaluator.evaluate(prediction.astype(np.uint8), truth.astype(np.uint8), verbose=False)["ungrouped"]
    return result.tp, result.fp, result.fn


@dataclass(frozen=True)
class Difference:
    """One library's answer where it is not the challenge's."""

    library: str
    metric: str
    case: str
    ours: Callable
    theirs: Callable
    expected_ours: object
    expected_theirs: object  # a value, or "raises"
    why: str


EMPTY_NAN = "empty masks give nan, which the mean over cases skips"
MISSED = "a missed tumour gives nan at a percentile and leaves the average"
UNWEIGHTED = "border voxels all weigh the same, and the percentile interpolates"
POOLED = "both directions are pooled before the percentile"
RAISES = "refuses empty masks; the caller has to think of the penalty"
ONE_TO_ONE = "one-to-one matching at IoU 0.5 without dilation"
DIFFERENCES = (
    Difference("MONAI", "Dice", "both empty", ours_dice, monai_dice, 1.0, math.nan, EMPTY_NAN),
    Difference("MONAI", "Dice", "truth empty", ours_dice, monai_dice, 0.0, math.nan, EMPTY_NAN),
    Difference("MONAI", "HD95", "both empty", ours_hd95, monai_hd95, 0.0, math.nan, EMPTY_NAN),
    Difference("MONAI", "HD95", "prediction empty", ours_hd95, monai_hd95, PENALTY, math.nan, MISSED),
    Difference("MONAI", "HD95", "ring and disc", ours_hd95, monai_hd95, None, None, UNWEIGHTED),
    Difference("MONAI", "NSD 1 mm", "slab and pad", ours_nsd, monai_nsd, None, None, UNWEIGHTED),
    Difference("medpy", "HD95", "both empty", ours_hd95, medpy_hd95, 0.0, "raises", RAISES),
    Difference("medpy", "HD95", "prediction empty", ours_hd95, medpy_hd95, PENALTY, "raises", RAISES),
    Difference("medpy", "HD95", "slab and pad", ours_hd95, medpy_hd95, None, None, POOLED),
    Difference(
        "surface-distance",
        "HD95",
        "prediction empty",
        ours_hd95,
        surface_distance_hd95,
        PENALTY,
        "raises or inf",
        "leaves the penalty to the caller (and needs NumPy 1 for infinity)",
    ),
    Difference(
        "panoptica",
        "TP, FP, FN",
        "two lesions, one bar",
        ours_lesions,
        panoptica_counts,
        (2, 0, 0),
        (0, 1, 2),
        ONE_TO_ONE,
    ),
    Difference(
        "panoptica",
        "TP, FP, FN",
        "one lesion, two parts",
        ours_lesions,
        panoptica_counts,
        (1, 0, 0),
        (0, 2, 1),
        ONE_TO_ONE,
    ),
)
AGREEMENTS = (
    ("MONAI with use_subvoxels", monai_nsd_subvoxels, ours_nsd, "slab and pad"),
    ("surface-distance", surface_distance_hd95, ours_hd95, "slab and pad"),
    ("surface-distance", surface_distance_hd95, ours_hd95, "two lesions, one bar"),
    ("medpy", medpy_dice, ours_dice, "both empty"),
    ("medpy", medpy_dice, ours_dice, "slab and pad"),
    ("MONAI", monai_dice, ours_dice, "slab and pad"),
)


def answer(function, case):
    """What a library says, or "raises"."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function(*PAIRS[case])
        except Exception:  # each library has its own kind
            return "raises"


def same(value, expected) -> bool:
    if expected == "raises or inf":
        return value == "raises" or value == math.inf
    if isinstance(expected, float) and isinstance(value, float) and math.isnan(expected):
        return math.isnan(value)
    return value == expected


@pytest.fixture(scope="module")
def table():
    """Every difference with both answers; printed as the table of the module's title."""
    rows = [(d, answer(d.ours, d.case), answer(d.theirs, d.case)) for d in DIFFERENCES]
    print(f"\n{'library':18}{'metric':12}{'case':24}{'challenge':>14}{'library':>14}  why")
    for d, ours, theirs in rows:
        shown = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in (ours, theirs)]
        print(f"{d.library:18}{d.metric:12}{d.case:24}{shown[0]:>14}{shown[1]:>14}  {d.why}")
    return rows


@pytest.mark.parametrize(
    "index", range(len(DIFFERENCES)), ids=[f"{d.library}-{d.metric}-{d.case}" for d in DIFFERENCES]
)
def test_library_differs_as_stated(table, index):
    difference, ours, theirs = table[index]
    if difference.expected_ours is None:
        assert theirs != pytest.approx(ours, rel=0.005)
    else:
        assert same(ours, difference.expected_ours) and same(theirs, difference.expected_theirs)


@pytest.mark.parametrize(("library", "theirs", "ours", "case"), AGREEMENTS)
def test_library_agrees_where_the_definition_is_the_same(library, theirs, ours, case):
    assert answer(theirs, case) == pytest.approx(answer(ours, case), abs=1e-6), library
