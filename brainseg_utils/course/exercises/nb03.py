"""Checks of notebook 03: counting a convolution, cutting patches, a coin's IoU, and the four bug labs."""

from __future__ import annotations

import math

import numpy as np

from brainseg_utils.course.checks import call, exercise, is_number, near, number_array


@exercise(
    right="A weight for each input, output and window pixel, a bias for each output; the slice's size does not matter.",
    solution=lambda: lambda inputs, outputs, window: inputs * outputs * window**2 + outputs,
    wrong=lambda: [
        lambda inputs, outputs, window: inputs * outputs * window**2,
        lambda inputs, outputs, window: inputs * outputs * window + outputs,
        lambda inputs, outputs, window: outputs * window**2 + outputs,
        lambda inputs, outputs, window: inputs * outputs * window**2 + inputs,
        lambda inputs, outputs, window: 128 * 128 * outputs,
    ],
)
def convolution_parameters(answer):
    """Counts for several shapes, against forgotten biases, inputs and windows."""
    got = call(answer, 3, 64, 3)
    if not is_number(got):
        return "a number of parameters is asked for"
    if near(got, 3 * 64 * 9):
        return "these are the weights; each output channel has a bias as well"
    if near(got, 3 * 64 * 9 + 3):
        return "there is a bias, but for each output channel, not for each input channel"
    if near(got, 64 * 9 + 64):
        return "each output looks at all input channels, not at one of them"
    if near(got, 3 * 64 * 3 + 64):
        return "a window of width w has more than w pixels"
    for inputs, outputs, window in ((3, 64, 3), (64, 64, 3), (256, 128, 1), (5, 2, 7)):
        if not near(call(answer, inputs, outputs, window), inputs * outputs * window**2 + outputs, relative=1e-9):
            return f"not right for {inputs} inputs, {outputs} outputs and a window of {window}x{window}"
    return None


def _patches(image, cuts):
    p = image.shape[0] // cuts
    return image.reshape(cuts, p, cuts, p).transpose(0, 2, 1, 3).reshape(cuts * cuts, p * p)


@exercise(
    right="Each row holds the pixels of one square and of no other: the transpose put the two patch numbers in front.",
    solution=lambda: _patches,
    wrong=lambda: [
        lambda image, cuts: image.reshape(cuts * cuts, -1),
        lambda image, cuts: _patches(image.T, cuts),
        lambda image, cuts: _patches(image, cuts).T,
        lambda image, cuts: _patches(image, image.shape[0] // cuts),
        lambda image, cuts: image.reshape(cuts, -1, cuts, image.shape[0] // cuts).reshape(cuts * cuts, -1),
    ],
)
def to_patches(answer):
    """Patches of an image of numbered pixels, for two numbers of cuts."""
    for size, cuts in ((8, 2), (12, 4)):
        image = np.arange(size * size, dtype=float).reshape(size, size)
        wanted = _patches(image, cuts)
        got = number_array(call(answer, image.copy(), cuts), wanted.shape)
        if isinstance(got, str):
            return got.replace("the image has", "patches of this image have")
        if np.array_equal(got, image.reshape(wanted.shape)):
            return "a reshape alone cuts the image into strips of rows; look at which pixels the first patch holds"
        if np.array_equal(got, _patches(image.T, cuts)):
            return "rows and columns are exchanged: patches come row by row, and so do their pixels"
        if not np.array_equal(got, wanted):
            return "the first patch must hold the upper left square, row by row; the second the square right of it"
    return None


@exercise(
    right="A ninth of all pixels, far above what is measured: the two stated baselines do not belong together.",
    solution=lambda: 0.1 / 0.9,
    wrong=lambda: [0.1, 0.2, 0.04, 11.1, "a tenth"],
)
def coin_share(answer):
    """The share of tumour at which a coin's IoU is 0.1."""
    if not is_number(answer):
        return "a share between 0 and 1 is asked for"
    if answer > 1:
        return "give a share between 0 and 1, not a percentage"
    if near(answer, 0.1, relative=0.02):
        return "close: but s / (1 + s) of this share is a little less than 10%"
    if near(answer, 0.2, relative=0.02):
        return "the coin claims half of the background too; it stands below the line of the IoU"
    if not near(answer / (1 + answer), 0.1, relative=0.01):
        return "put your share into s / (1 + s): it does not give 10%"
    return None


@exercise(
    right="A patch of 2^n pixels has been halved n times, so it needs n doublings, whatever the number of cuts.",
    solution=lambda: lambda size, cuts: int(math.log2(size // cuts)),
    wrong=lambda: [
        lambda size, cuts: 4,
        lambda size, cuts: int(math.log2(cuts)),
        lambda size, cuts: size // cuts,
        lambda size, cuts: int(math.log2(size)),
        lambda size, cuts: cuts,
    ],
)
def doublings(answer):
    """Doublings for several sizes and cuts."""
    if all(call(answer, 128, cuts) == 4 for cuts in (4, 8)):
        return "four is right for one number of cuts only: that is R2's mistake"
    for size, cuts in ((128, 8), (128, 4), (64, 8), (256, 4), (32, 32)):
        got = call(answer, size, cuts)
        if not is_number(got):
            return "a number of doublings is asked for"
        if not 0 <= got < 64:
            return f"for {size} pixels and {cuts} cuts these are too many by far; count doublings, not pixels"
        if cuts * 2 ** float(got) != size:
            return f"for {size} pixels and {cuts} cuts this ends at {cuts * 2 ** float(got):g} pixels"
    return None


def _bce(p, t, sign=1.0):
    import torch

    p = p.clamp(1e-6, 1 - 1e-6)
    return -(t * torch.log(p) + sign * (1 - t) * torch.log(1 - p)).mean()


def _bce_wrong():
    import torch

    return [
        lambda p, t: _bce(p, t, sign=-1.0),
        lambda p, t: -(t * torch.log(p) + (1 - t) * torch.log(1 - p)).mean(),
        lambda p, t: -_bce(p, t),
        lambda p, t: -(t * torch.log(p.clamp(1e-6, 1))).mean(),
        lambda p, t: _bce(p, t) * p.numel(),
        lambda p, t: float(_bce(p, t).detach()),
    ]


@exercise(
    right="Both kinds of pixels pay for being wrong, never less than 0, and nothing is infinite.",
    solution=lambda: _bce,
    wrong=_bce_wrong,
)
def bce(answer):
    """Values, sign, finiteness and gradient of the reader's cross-entropy."""
    import torch

    p, t = torch.tensor([0.9, 0.2, 0.4], requires_grad=True), torch.tensor([1.0, 0.0, 1.0])
    got = call(answer, p, t)
    if not isinstance(got, torch.Tensor) or got.ndim or not got.requires_grad:
        return "one number as a tensor is asked for, made from p with torch functions, so that it has a gradient"
    value, right = float(got.detach()), float(_bce(p, t).detach())
    if near(value, -right):
        return "the whole has the wrong sign: training would make it as negative as it can"
    if near(value, float(_bce(p, t, sign=-1.0).detach())):
        return "the second term still has R2's sign: a background pixel is rewarded for a high probability"
    if near(value, 3 * right):
        return "a sum over the pixels; the mean is asked for, so that the size of a slice does not matter"
    if not near(value, right, relative=1e-4):
        return "for three pixels the value is not right: look at both terms, one for the tumour and one for the rest"
    hard = call(answer, torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0]))
    if not math.isfinite(float(hard)):
        return "where p is exactly 0 or 1 the result is not a finite number"
    return None


def _leaks(owner, held_out):
    return set(owner[held_out]) & set(owner[~held_out])


@exercise(
    right="A split is clean when this set is empty, however the files are called.",
    solution=lambda: _leaks,
    wrong=lambda: [
        lambda owner, held_out: set(owner[held_out]),
        lambda owner, held_out: set(owner),
        lambda owner, held_out: set(owner[held_out]) - set(owner[~held_out]),
        lambda owner, held_out: set(np.flatnonzero(held_out)) & set(np.flatnonzero(~held_out)),
        lambda owner, held_out: len(_leaks(owner, held_out)),
    ],
)
def leaks(answer):
    """Patients on both sides, in a split that leaks and in one that does not."""
    owner = np.array(["a", "a", "b", "b", "c", "d"])
    mixed = np.array([False, True, False, False, True, False])
    got = call(answer, owner, mixed)
    if not isinstance(got, set | frozenset):
        return f"a set of patients is asked for, not a {type(got).__name__}"
    found = {str(name) for name in got}
    if found == {"a", "c"}:
        return "these are all held-out patients; which of them have slices in training as well?"
    if found != {"a"}:
        return "of four patients, one has slices on both sides; look at what is shared by the owners of both parts"
    if call(answer, owner, np.array([True, True, False, False, False, False])):
        return "a patient whose slices are all held out is on one side only"
    return None


@exercise(
    right="Each class is divided by its own pixels: a perfect mask scores 1, and ignoring the tumour costs one half.",
    solution=lambda: (
        lambda tp, fp, fn, tn: (
            ((tp / (tp + fn) if tp + fn else float(fp == 0)) + (tn / (tn + fp) if tn + fp else 0.0)) / 2
        )
    ),
    wrong=lambda: [
        lambda tp, fp, fn, tn: (tp + tn) / (tp + fp + fn + tn) / 2,
        lambda tp, fp, fn, tn: (tp + tn) / (tp + fp + fn + tn),
        lambda tp, fp, fn, tn: (tp / (tp + fn) + tn / (tn + fp)) / 2,
        lambda tp, fp, fn, tn: (tp / max(tp + fp, 1) + tn / max(tn + fn, 1)) / 2,
        lambda tp, fp, fn, tn: ((tp / (tp + fn) if tp + fn else 0.0) + tn / (tn + fp)) / 2,
    ],
)
def mean_accuracy(answer):
    """The mean recall of both classes, empty truths included."""
    got = call(answer, 30, 20, 10, 40)
    if not is_number(got):
        return "one number is asked for"
    if near(got, 0.35):
        return "still divided by all pixels: this is half of the plain accuracy"
    if near(got, 0.7):
        return "this is the plain accuracy, in which the larger class decides"
    if near(got, (0.6 + 0.8) / 2):
        return "divided by what was claimed (precision); divide by what is there"
    if not near(got, (0.75 + 2 / 3) / 2):
        return "of 40 tumour pixels 30 are found, of 60 others 40 are left alone: this is not the mean of both shares"
    if not near(call(answer, 0, 0, 0, 100), 1.0):
        return "nothing is there and nothing is claimed: that is perfect, and scores 1"
    if not near(call(answer, 0, 50, 0, 50), 0.25):
        return "nothing is there and something is claimed: the tumour's part is 0, the background's one half"
    return None
