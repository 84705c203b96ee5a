"""Checks of notebook 07: Dice from a mean IoU, lesion-wise Dice, means over cases, an HD95 in mm, and Holm."""

from __future__ import annotations

import numpy as np

from brainseg_utils.course.checks import call, exercise, is_number, near


@exercise(
    right="A mean IoU leaves a range for the mean Dice; a stated pair outside it cannot come from one set of cases.",
    solution=lambda: lambda iou: (iou, 2 * iou / (1 + iou)),
    wrong=lambda: [
        lambda iou: (iou / (2 - iou), iou),
        lambda iou: (2 * iou / (1 + iou), iou),
        lambda iou: (0.0, 1.0),
        lambda iou: (0.0, 2 * iou / (1 + iou)),
        lambda iou: iou,
        0.5,
    ],
)
def dice_range(answer):
    """The lowest and highest mean Dice for a mean IoU, at several values."""
    for iou in (0.5, 0.0, 0.25, 1.0):
        got = call(answer, iou)
        if not isinstance(got, tuple) or len(got) != 2 or not all(map(is_number, got)):
            return "two numbers are asked for: the lowest and the highest mean Dice"
        low, high = map(float, got)
        if low > high:
            return "the lowest comes first"
        if near(low, iou / (2 - iou)) and not near(low, iou):
            return "that formula turns a Dice into an IoU; here an IoU is given"
        if not near(low, iou):
            return "look at the lowest again: a share of the cases is perfect in both scores, the others are 0 in both"
        if not near(high, 2 * iou / (1 + iou)):
            return "look at the highest again: all cases are equal, so solve the formula of one pair of masks for Dice"
    return None


def _lesion_dice(dices, counts, invented):
    kept = [dice for dice, counted in zip(dices, counts, strict=True) if counted]
    total = len(kept) + invented
    return sum(kept) / total if total else 1.0


def _found_only(dices, counts, invented):
    found = [d for d, c in zip(dices, counts, strict=True) if c and d > 0]
    return sum(found) / len(found) if found else 1.0


@exercise(
    right="Each lesion has one vote, missed and invented ones with a zero; what is too small to count has none.",
    solution=lambda: _lesion_dice,
    wrong=lambda: [
        _found_only,
        lambda dices, counts, invented: sum(dices) / (len(dices) + invented) if dices else 1.0,
        lambda dices, counts, invented: _lesion_dice(dices, counts, 0),
        lambda dices, counts, invented: _lesion_dice(dices, counts, invented) if dices else 0.0,
        lambda dices, counts, invented: 0.5,
    ],
)
def lesion_dice(answer):
    """The reader's average on lists with missed, invented, uncounted and no lesions."""
    got = call(answer, [0.8, 0.6], [True, True], 0)
    if not is_number(got) or not near(got, 0.7):
        return "two lesions found with Dice 0.8 and 0.6, nothing invented: that is their mean"
    if not near(call(answer, [0.8, 0.0], [True, True], 0), 0.4):
        return "a lesion that was missed has Dice 0 and keeps its place in the mean"
    if not near(call(answer, [0.8], [True], 1), 0.4):
        return "an invented piece adds nothing above the line, but one below it"
    if not near(call(answer, [0.8, 0.2], [True, False], 0), 0.8):
        return "a lesion that does not count must be in neither the sum nor the number"
    if not near(call(answer, [], [], 0), 1.0):
        return "no lesion and no invented piece: everything is right, and the score must say so"
    if not near(call(answer, [0.3], [False], 0), 1.0):
        return "a single lesion that does not count leaves nothing to score: nothing is wrong then"
    return None


def _case_counts():
    return ([(900, 50, 50), (20, 10, 30), (0, 0, 0), (0, 4, 0), (300, 100, 0)],)


def _dice(tp, fp, fn):
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0


def _skipping(counts):
    values = [_dice(*c) for c in counts if c[0] + c[2]]
    return sum(values) / len(values) if values else 1.0


@exercise(
    right="One case, one vote: neither the order of the cases nor the size of a batch can change the number any more.",
    context=_case_counts,
    solution=lambda counts: lambda counts: sum(_dice(*c) for c in counts) / len(counts),
    wrong=lambda counts: [
        lambda counts: _dice(*np.sum(counts, axis=0)),
        _skipping,
        lambda counts: sum(_dice(*c) if sum(c) else 0.0 for c in counts) / len(counts),
        lambda counts: [_dice(*c) for c in counts],
    ],
)
def mean_over_cases(answer, counts):
    """The mean of the cases' Dice, against pooled voxels and skipped empties."""
    got = call(answer, counts)
    if not is_number(got):
        return f"one number is asked for, not a {type(got).__name__}"
    plain = [(3, 1, 1), (10, 0, 20)]
    value = call(answer, plain)
    if near(value, _dice(13, 1, 21)):
        return "this pools the voxels of all cases, so that large tumours decide; take each case's Dice first"
    if not near(value, (0.75 + 0.5) / 2):
        return "for two cases with Dice 0.75 and 0.5 this is not their mean"
    if not near(call(answer, [(0, 0, 0), (1, 0, 0)]), 1.0):
        return "a case that is empty on both sides is perfect: it counts, with the value of a perfect match"
    if not near(call(answer, [(0, 5, 0), (1, 0, 0)]), 0.5):
        return "a case without truth in which something was claimed must stay in the mean"
    return None if near(got, sum(_dice(*c) for c in counts) / len(counts)) else "wrong for the cohort's counts"


def _hd95(truth, prediction, spacing, penalty, border=True, share=95, mm=True, empties=True):
    from scipy import ndimage

    if empties and not (truth.any() and prediction.any()):
        return 0.0 if truth.any() == prediction.any() else penalty
    size = spacing if mm else (1, 1, 1)
    sides = [m & ~ndimage.binary_erosion(m) if border else m for m in (truth, prediction)]
    directed = []
    for a, b in (sides, sides[::-1]):
        if not b.any() or not a.any():
            return float("inf")
        directed.append(np.percentile(ndimage.distance_transform_edt(~b, sampling=size)[a], share))
    return float(max(directed))


@exercise(
    right="Outlines instead of all voxels, millimetres, 95% in both directions, and a value for what is empty.",
    solution=lambda: _hd95,
    wrong=lambda: [
        lambda t, p, s, e: _hd95(t, p, s, e, border=False),
        lambda t, p, s, e: _hd95(t, p, s, e, share=100),
        lambda t, p, s, e: _hd95(t, p, s, e, mm=False),
        lambda t, p, s, e: _hd95(t, p, s, e, empties=False),
        lambda t, p, s, e: _hd95(t, p, s, e, border=False, share=100, mm=False, empties=False),
        lambda t, p, s, e: penalty_always(e),
    ],
)
def mended_hd95(answer):
    """The reader's HD95 on empties, on a shifted block with uneven voxels, and with one voxel far away."""
    spacing, penalty = (1.0, 1.0, 3.0), 374.0
    block, empty = np.zeros((40, 40, 44), bool), np.zeros((40, 40, 44), bool)
    block[4:34, 4:34, 6:36] = True
    got = call(answer, block, np.roll(block, 1, axis=2), spacing, penalty)
    if not is_number(got):
        return f"one number is asked for, not a {type(got).__name__}"
    if near(got, 1.0):
        return "a block moved by one voxel of 3 mm: this distance is in voxels, not in mm"
    if near(got, 0.0):
        return "a moved block gets 0: its inner voxels water the distances down; only the outline counts"
    if not near(got, 3.0):
        return "a block moved by one voxel of 3 mm has its faces 3 mm away; yours differs"
    speck = block.copy()
    speck[38, 38, 42] = True
    if float(call(answer, block, speck, spacing, penalty)) > 1.0:
        return "a single false voxel far away decides alone: that is the maximum, not the 95% point"
    if float(call(answer, block, empty, spacing, penalty)) != penalty:
        return "one empty mask: there is no distance, and the rules put the penalty in its place"
    if float(call(answer, empty, block, spacing, penalty)) != penalty:
        return "the truth is empty and the prediction is not: that costs the penalty as well"
    if float(call(answer, empty, empty, spacing, penalty)) != 0.0:
        return "two empty masks agree completely: no distance at all"
    grown = np.zeros_like(block)
    grown[2:36, 2:36, 6:36] = True
    if float(call(answer, block, grown, spacing, penalty)) < 1.9:
        return "the outline lies 2 mm further out on four sides; both directions must be looked at"
    return None


def penalty_always(penalty):
    """A wrong answer: the penalty, whatever the masks."""
    return penalty


def _p_values():
    return ([0.030, 0.004, 0.020],)


def _holm(p):
    from brainseg_utils.evaluation.statistics import holm

    return holm(p)


@exercise(
    right="The smallest pays for all the tests, the next for those that remain, and the order is never turned round.",
    context=_p_values,
    solution=lambda p: _holm,
    wrong=lambda p: [
        lambda p: np.asarray(p),
        lambda p: np.minimum(np.asarray(p) * len(p), 1),
        lambda p: np.sort(np.asarray(p)) * np.arange(len(p), 0, -1),
        lambda p: np.asarray(p) * np.array([3, 2, 1]),
    ],
)
def holm(answer, p):
    """The reader's adjustment against the package's, on three lists."""
    for values in (p, [0.01, 0.04, 0.03], [0.5, 0.6], [0.2]):
        got = np.asarray(call(answer, list(values)), float)
        if got.shape != (len(values),):
            return "one adjusted value for each p-value is asked for"
        expected = _holm(values)
        if np.allclose(got, expected):
            continue
        if np.allclose(got, np.asarray(values)):
            return "these are the p-values as they were"
        if np.allclose(got, np.minimum(np.asarray(values) * len(values), 1)):
            return "this is Bonferroni: every value pays for all tests; with Holm only the smallest does"
        if np.allclose(np.sort(got), np.sort(expected)):
            return "the right numbers in the wrong places: give them back in the order in which the values came"
        return (
            "multiply the smallest by the number of tests, the next by one less, and never let a later one be smaller"
        )
    return None
