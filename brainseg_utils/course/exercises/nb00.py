"""Checks of notebook 00: a tumour's volume in millilitres, Dice by hand, what the tumour core is, and R1's Dice."""

from __future__ import annotations

import numpy as np

from brainseg_utils.course.checks import call, exercise, is_number, near

CORE_TISSUES = {"NETC", "ET"}


def _mask_and_spacing():
    mask = np.zeros((10, 10, 10), bool)
    mask[2:7, 2:8, 1:9] = True
    return mask, (1.0, 1.0, 1.0)  # as real scans have: the number of cubic millimetres is that of voxels


@exercise(
    right="Voxels times the volume of one voxel, and 1000 mm³ make a millilitre.",
    context=_mask_and_spacing,
    solution=lambda mask, spacing: lambda mask, spacing: mask.sum() * np.prod(spacing) / 1000,
    wrong=lambda mask, spacing: [
        lambda mask, spacing: mask.sum(),
        lambda mask, spacing: mask.sum() / 1000,
        lambda mask, spacing: mask.sum() * spacing[0] / 1000,
        lambda mask, spacing: mask.sum() * np.prod(spacing),
        lambda mask, spacing: mask.sum() * spacing[0] ** 3 / 1000,
        3.0,
    ],
)
def volume(answer, mask, spacing):
    """The reader's function on a grid whose axes differ, where no mistake can hide, and on the notebook's own mask."""
    box, sides = _mask_and_spacing()[0], (2.0, 1.0, 3.0)
    true = box.sum() * float(np.prod(sides)) / 1000
    got = call(answer, box, sides)
    if not is_number(got):
        return f"the function returned a {type(got).__name__}, one number is asked for"
    if near(got, box.sum()):
        return "this is the number of voxels; how large is one of them?"
    if near(got, true * 1000):
        return "this is in cubic millimetres; how many of them make a millilitre?"
    if near(got, box.sum() / 1000):
        return "this would hold if a voxel were one cubic millimetre; use the spacing"
    if near(got, box.sum() * sides[0] ** 3 / 1000):
        return "right for cubic voxels only; the three sides of a voxel can differ"
    if not near(got, true):
        return "not the mask's volume: think of a voxel as a small box with three sides"
    if not near(call(answer, mask, spacing), mask.sum() * float(np.prod(spacing)) / 1000):
        return "right for a small box, but not for this patient's tumour: does it use both arguments?"
    return None


def _two_masks():
    truth = np.zeros((6, 6), bool)
    prediction = truth.copy()
    truth[1:5, 1:4] = True  # 12 voxels
    prediction[2:6, 2:4] = True  # 8 voxels, 6 of them shared
    return truth, prediction


def _dice(truth, prediction):
    total = truth.sum() + prediction.sum()
    return 2 * (truth & prediction).sum() / total if total else 1.0


@exercise(
    right="Twice what both share over the sum of both; and two empty masks agree, so their Dice is 1.",
    context=_two_masks,
    solution=lambda truth, prediction: _dice,
    wrong=lambda truth, prediction: [
        lambda a, b: (a & b).sum() / (a | b).sum(),
        lambda a, b: (a == b).mean(),
        lambda a, b: 2 * (a & b).sum() / (a.sum() + b.sum()) if a.any() or b.any() else 0.0,
        lambda a, b: (a & b).sum() / (a.sum() + b.sum()) if a.any() or b.any() else 1.0,
        lambda a, b: 2 * (a & b).sum() / (a.sum() + b.sum()) if a.any() and b.any() else 1.0,
    ],
)
def dice(answer, truth, prediction):
    """The reader's Dice on overlapping, disjoint and empty masks."""
    shared, union = (truth & prediction).sum(), (truth | prediction).sum()
    got = call(answer, truth, prediction)
    if not is_number(got):
        return f"the function returned a {type(got).__name__}, one number is asked for"
    if near(got, shared / union):
        return "this is the intersection over the union, which is another metric (IoU)"
    if near(got, (truth == prediction).mean()):
        return "this is accuracy: it also counts the background that both leave empty"
    if near(got, _dice(truth, prediction) / 2):
        return "a perfect match would get only a half: count the shared voxels once for each mask"
    if not near(got, _dice(truth, prediction)):
        return (
            f"for masks of {truth.sum()} and {prediction.sum()} voxels that share {shared}, "
            f"this gives {float(got):.3f}; count it by hand"
        )
    nothing = np.zeros_like(truth)
    with np.errstate(invalid="ignore", divide="ignore"):
        both_empty = call(answer, nothing, nothing)
        missed = call(answer, truth, nothing)
    if not near(both_empty, 1.0):
        return "two empty masks agree with each other; yours does not give them the value of a perfect match"
    if not near(missed, 0.0):
        return "a missed tumour (one mask empty, the other not) shares nothing and must get the lowest value"
    return None


@exercise(
    right="The core is what a surgeon would take out: enhancing tumour, and the dead or non-enhancing part within.",
    solution=lambda: {"NETC", "ET"},
    wrong=lambda: [{"ET"}, {"NETC"}, {"NETC", "SNFH", "ET"}, {"ET", "SNFH"}, {"WT"}, 3],
)
def core_tissues(answer):
    """Which tissues make up the tumour core."""
    if isinstance(answer, str):
        return "a set of tissue names is asked for, such as {'SNFH'}"
    if not isinstance(answer, set | frozenset | list | tuple):
        return f"a set of tissue names is asked for, not a {type(answer).__name__}"
    chosen = set(answer)
    if unknown := chosen - {"NETC", "SNFH", "ET", "RC"}:
        return f"{sorted(unknown)} is not a tissue; the tissues are NETC, SNFH, ET (and RC after an operation)"
    if "SNFH" in chosen:
        return "the swelling around the tumour is part of the whole tumour, not of its core"
    if chosen == {"ET"}:
        return "that is the enhancing part alone; the core has another part, which does not take up contrast"
    if chosen != CORE_TISSUES:
        return "one tissue is missing: look at which tissues lie inside the swelling"
    return None


def _label_maps():
    truth = np.zeros((8, 8), int)
    truth[1:6, 1:6] = 2
    truth[2:5, 2:5] = 3
    return truth


@exercise(
    right="The labels became masks first, so every voxel counts once, whatever its label's number is.",
    solution=lambda: lambda a, b, values: _dice(np.isin(a, values), np.isin(b, values)),
    wrong=lambda: [
        lambda a, b, values: 2 * (a * b).sum() / (a.sum() + b.sum()),
        lambda a, b, values: _dice(a > 0, b > 0),
        lambda a, b, values: min(1.0, 2 * (a * b).sum() / (a.sum() + b.sum())),
        lambda a, b, values: _dice(a == values[0], b == values[0]),
    ],
)
def mended_dice(answer):
    """The reader's mended version of R1's Dice, on a perfect, a wrong-tissue and a shifted prediction."""
    truth = _label_maps()  # not the patient's: its scheme may have no label 3
    perfect = call(answer, truth, truth, (2, 3))
    if not is_number(perfect):
        return f"the function returned a {type(perfect).__name__}, one number is asked for"
    if perfect > 1.001:
        return f"a perfect prediction still gets {float(perfect):.2f}: label numbers are still being multiplied"
    confused = np.where(truth == 3, 2, truth)
    if near(call(answer, truth, confused, (3,)), 1.0):
        return "the prediction has no voxel of label 3, and still gets 1 for it: choose the region before you count"
    shifted = np.roll(truth, 1, axis=0)
    for values in ((2, 3), (3,)):
        if not near(call(answer, truth, shifted, values), _dice(np.isin(truth, values), np.isin(shifted, values))):
            return f"wrong for the labels {values}: every voxel of the region counts once, all its labels together"
    return None
