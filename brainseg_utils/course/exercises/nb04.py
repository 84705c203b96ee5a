"""Checks of notebook 04: receptive fields, regions of classes, windows, and the bug labs on softmax and accuracy."""

from __future__ import annotations

import math

import numpy as np

from brainseg_utils.course.checks import call, exercise, is_number, near, number_array
from brainseg_utils.evaluation import voxel

CHAINS = (
    ([(3, 1), (2, 2), (1, 0.5)], 4),
    ([(3, 1)] * 4, 9),
    ([(3, 1), (3, 1), (2, 2), (3, 1), (3, 1)], 14),
    ([(5, 1), (2, 2), (3, 1), (1, 0.5), (3, 1)], 12),
)


def _field(chain):
    size, step = 1.0, 1.0
    for kernel, stride in chain:
        size += (kernel - 1) * step
        step *= stride
    return size


def _field_step_first(chain):
    size, step = 1.0, 1.0
    for kernel, stride in chain:
        step *= stride
        size += (kernel - 1) * step
    return size


@exercise(
    right="A kernel adds kernel - 1 steps of its own grid, and a pooling makes all later steps longer.",
    solution=lambda: _field,
    wrong=lambda: [
        lambda chain: 1 + sum(kernel - 1 for kernel, _ in chain),
        lambda chain: sum(kernel for kernel, _ in chain),
        _field_step_first,
        lambda chain: _field(chain) - 1,
        lambda chain: math.prod(kernel for kernel, _ in chain),
    ],
)
def field(answer):
    """Fields of four chains, with and without poolings."""
    got = call(answer, [])
    if not is_number(got):
        return "a number of voxels is asked for"
    if not near(got, 1):
        return "without any layer, an output voxel sees one voxel: itself"
    if not near(call(answer, CHAINS[1][0]), CHAINS[1][1]):
        return "four convolutions of 3 in a row see 9 voxels: each adds one voxel on both sides"
    if near(call(answer, CHAINS[2][0]), 10):
        return "after the pooling a step is two voxels of the scan, and the later convolutions take such steps"
    if near(call(answer, CHAINS[2][0]), 15):
        return "the pooling itself still works on the finer grid: only layers after it take the longer steps"
    for chain, size in CHAINS:
        if not near(call(answer, chain), size):
            return f"not right for the chain {chain}"
    return None


def _regions(p):
    return np.stack([p[3], p[1] + p[3], p[1] + p[2] + p[3]])


@exercise(
    right="Classes exclude each other, so the probability of one or the other is their sum.",
    solution=lambda: _regions,
    wrong=lambda: [
        lambda p: p[1:],
        lambda p: np.stack([p[3], np.maximum(p[1], p[3]), p[1:].max(0)]),
        lambda p: _regions(p)[::-1],
        lambda p: np.stack([p[3], p[2] + p[3], p[1:].sum(0)]),
        lambda p: np.stack([p[3], p[1] + p[3], p.sum(0)]),
    ],
)
def regions(answer):
    """ET, TC and WT of class probabilities, on two voxels and on random ones."""
    p = np.array([[0.1, 0.7], [0.2, 0.1], [0.3, 0.1], [0.4, 0.1]])
    wanted = _regions(p)
    got = number_array(call(answer, p.copy()), wanted.shape)
    if isinstance(got, str):
        return got
    if np.allclose(got, wanted[::-1]):
        return "the order is ET, TC, WT: from the inside out"
    if np.allclose(got[1], np.maximum(p[1], p[3])):
        return "a voxel that is .2 NETC and .4 ET is core with more than .4: the classes exclude each other"
    if np.allclose(got[2], 1):
        return "the whole tumour does not contain the background"
    for row, name in enumerate(("ET", "TC", "WT")):
        if not np.allclose(got[row], wanted[row]):
            return f"{name} is not right: which of NETC, SNFH and ET belong to it?"
    return None


def _starts(length, window, overlap):
    step = max(1, int(window * (1 - overlap)))
    return [*range(0, length - window, step), length - window]


@exercise(
    right="Every voxel is in some window, and the last window ends where the scan ends.",
    solution=lambda: _starts,
    wrong=lambda: [
        lambda length, window, overlap: list(range(0, length, int(window * (1 - overlap)))),
        lambda length, window, overlap: list(range(0, length - window, int(window * (1 - overlap)))),
        lambda length, window, overlap: [*range(0, length - window, int(window * overlap) or 1), length - window],
        lambda length, window, overlap: list(range(0, length - window + 1, window)),
        lambda length, window, overlap: len(_starts(length, window, overlap)),
    ],
)
def starts(answer):
    """First voxels of the windows for several lengths and overlaps."""
    for length, window, overlap in ((10, 4, 0.5), (11, 4, 0.5), (12, 4, 0.0), (20, 8, 0.25), (8, 8, 0.5)):
        got, case = call(answer, length, window, overlap), f"length {length}, window {window}, overlap {overlap}"
        if not isinstance(got, list | tuple | np.ndarray) or not all(is_number(n) for n in got):
            return "a list of first voxels is asked for"
        found = [int(n) for n in got]
        if any(n + window > length for n in found):
            return f"{case}: a window reaches beyond the scan"
        if not found or found[0] != 0 or found[-1] + window != length:
            return f"{case}: the first or the last voxels of the scan are in no window"
        if found != _starts(length, window, overlap):
            return f"{case}: neighbouring windows should share {overlap:.0%} of a window"
    return None


@exercise(
    right="No network can make the loss smaller than this: the second softmax does not let it.",
    solution=lambda: lambda classes: math.log(math.e + classes - 1) - 1,
    wrong=lambda: [
        lambda classes: 0.0,
        lambda classes: math.log(classes),
        lambda classes: math.e / (math.e + classes - 1),
        lambda classes: math.log(classes) - 1,
        lambda classes: 1 - math.log(math.e + classes - 1),
    ],
)
def lowest(answer):
    """The lowest loss of a double softmax, for several numbers of classes."""
    for classes in (5, 2, 4, 10):
        got, wanted = call(answer, classes), math.log(math.e + classes - 1) - 1
        if not is_number(got):
            return "a loss is asked for, a number"
        if near(got, 0):
            return "0 would need a probability of 1 after the second softmax: what does it make of 1, 0, 0, ...?"
        if near(got, math.log(classes)):
            return "this is the loss of a network that knows nothing: all classes equal"
        if near(got, math.e / (math.e + classes - 1)):
            return "this is the highest probability; the loss is minus its logarithm"
        if near(got, -wanted):
            return "the logarithm of a probability is negative, the loss is not"
        if not near(got, wanted):
            return f"not right for {classes} classes: take the softmax of one 1 and {classes - 1} zeros"
    return None


def _scores(z, truth):
    return (z.logsumexp(1) - z.gather(1, truth.long())[:, 0]).mean()


def _scores_wrong():
    import torch.nn.functional as F

    return [
        lambda z, truth: F.cross_entropy(z.softmax(1), truth[:, 0].long()),
        lambda z, truth: -_scores(z, truth),
        lambda z, truth: _scores(z, truth) * truth.numel(),
        lambda z, truth: -z.gather(1, truth.long()).mean(),
        lambda z, truth: -z.softmax(1).log().gather(1, truth.long()).mean(),
        lambda z, truth: -z.softmax(1).clamp(min=1e-6).log().gather(1, truth.long()).mean(),
        lambda z, truth: float(_scores(z.detach(), truth)),
    ]


@exercise(
    right="One softmax, inside the logarithm: finite for any score, and the pull is full where the network is wrong.",
    solution=lambda: _scores,
    wrong=_scores_wrong,
)
def scores(answer):
    """Value, sign, finiteness and gradient of the reader's loss of scores."""
    import torch

    z = torch.tensor([[1.0, -0.5], [0.2, 0.9], [-1.0, 0.3]]).reshape(1, 3, 2, 1, 1)
    z = torch.cat([z, 0.5 * z.flip(1)]).requires_grad_()
    truth = torch.tensor([[0, 1], [2, 1]], dtype=torch.uint8).reshape(2, 1, 2, 1, 1)
    got = call(answer, z, truth)
    if not isinstance(got, torch.Tensor) or got.ndim or not got.requires_grad:
        return "a single torch number is asked for, from which gradients can flow: no float()"
    if message := _value_fault(float(got.detach()), z.detach(), truth):
        return message
    sure = torch.tensor([200.0, 0.0, 0.0]).reshape(1, 3, 1, 1, 1).requires_grad_()
    wrong = call(answer, sure, torch.ones(1, 1, 1, 1, 1, dtype=torch.uint8))
    if not bool(torch.isfinite(wrong)):
        return "where the background leads by 200 this is infinite, and one such voxel ends the training"
    wrong.backward()
    if sure.grad is None or abs(float(sure.grad[0, 1])) < 0.5:
        return "where the background leads by 200 nothing pulls the true class up: do not cut off probabilities"
    return None


def _value_fault(value, z, truth):
    """What is wrong with the loss's value on a few small scores, None if nothing is."""
    import torch.nn.functional as F

    wanted = float(_scores(z, truth))
    if near(value, wanted, relative=1e-4):
        return None
    if near(value, float(F.cross_entropy(z.softmax(1), truth[:, 0].long())), relative=1e-4):
        return "this takes a softmax, and cross_entropy takes another one of it: R1's mistake"
    if near(value, -wanted, relative=1e-4):
        return "the sign: logarithms of probabilities are negative, a loss is not"
    if near(value, truth.numel() * wanted, relative=1e-4):
        return "the mean over voxels, not the sum"
    if near(value, -float(z.gather(1, truth.long()).mean()), relative=1e-4):
        return (
            "the true class's score alone can be made as large as one likes: the other classes have to count against it"
        )
    return (
        "for each voxel: the logarithm of the sum of e to all scores, minus the score of its true class; then the mean"
    )


def _class_dice(truth, prediction, classes):
    return float(np.mean([voxel.count(truth == number, prediction == number).dice for number in classes]))


def _where(truth, prediction, classes, mask):
    """Right wherever one of the masks lacks the class."""
    found = [voxel.count(truth == n, prediction == n).dice if (mask == n).any() else 1.0 for n in classes]
    return float(np.mean(found))


@exercise(
    right="Each tumour class has one vote, and the background, right nearly everywhere, has none.",
    solution=lambda: _class_dice,
    wrong=lambda: [
        lambda truth, prediction, classes: (truth == prediction).mean(),
        lambda truth, prediction, classes: _class_dice(truth, prediction, (0, *classes)),
        lambda truth, prediction, classes: _class_dice(truth > 0, prediction > 0, (1,)),
        lambda truth, prediction, classes: 2 * (truth * prediction).sum() / (truth.sum() + prediction.sum()),
        lambda truth, prediction, classes: _class_dice(truth, prediction, classes) / 2,
        lambda truth, prediction, classes: _class_dice(truth, prediction, (1, 2, 3)),
        lambda truth, prediction, classes: _where(truth, prediction, classes, prediction),
        lambda truth, prediction, classes: _where(truth, prediction, classes, truth),
        lambda truth, prediction, classes: np.nanmean(
            [
                voxel.count(truth == number, prediction == number).dice
                if (truth == number).any() or (prediction == number).any()
                else np.nan
                for number in classes
            ]
        ),
    ],
)
def class_dice(answer):
    """Mean Dice over classes, on a mask by hand and on one with a class that is nowhere."""
    truth = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3])
    prediction = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 3, 3, 3])
    got = call(answer, truth.copy(), prediction.copy(), (1, 2, 3))
    if not is_number(got):
        return "one number is asked for"
    if near(got, (truth == prediction).mean()):
        return "this is the accuracy again: the background makes up most of it"
    if near(got, _class_dice(truth, prediction, (0, 1, 2, 3))):
        return "the background is not one of the classes asked for"
    if near(got, _class_dice(truth > 0, prediction > 0, (1,))):
        return "this is the Dice of all tumour together: it does not see NETC taken for ET"
    if near(got, 2 * (truth * prediction).sum() / (truth.sum() + prediction.sum())):
        return "label values are names, not amounts: multiplying them is R1's Dice"
    if not near(got, _class_dice(truth, prediction, (1, 2, 3))):
        return "for each class: twice what both have, over what each has; then the mean"
    absent = call(answer, np.where(truth == 2, 0, truth), np.where(truth == 2, 0, truth), (1, 2, 3))
    if not is_number(absent) or not near(absent, 1):
        return "a class that is nowhere, in truth and prediction alike, counts as 1"
    if not near(call(answer, np.array([0, 1, 2, 0]), np.array([0, 1, 0, 3]), (1, 2, 3)), 1 / 3):
        return "a class that only one of the masks has counts 0; 1 it counts only where both lack it"
    if not near(call(answer, np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]), (1, 2)), 5 / 6):
        return "a class that neither mask has is not left out, it counts 1; and only the classes asked for count"
    return None
