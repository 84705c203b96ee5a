"""Checks of notebook 06: bytes of a feature map, a hinge loss, a gap that closes, extras that leak."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from brainseg_utils.course.checks import call, exercise, is_number, near


def _map_bytes(channels, size):
    return channels * size[0] * size[1] * size[2] * 4


@exercise(
    right="Channels times voxels times four bytes: it grows with the cube of the side.",
    solution=lambda: _map_bytes,
    wrong=lambda: [
        lambda channels, size: channels * size[0] * size[1] * size[2],
        lambda channels, size: channels * sum(size) * 4,
        lambda channels, size: size[0] * size[1] * size[2] * 4,
        lambda channels, size: channels * size[0] ** 3 * 4,
        lambda channels, size: channels * size[0] * size[1] * size[2] * 32,
    ],
)
def map_bytes(answer):
    """A little map of unequal sides, by hand: 2 channels of 3 x 4 x 5 voxels."""
    got = call(answer, 2, (3, 4, 5))
    if not is_number(got):
        return "a number of bytes is asked for"
    if near(got, 120):
        return "this counts numbers; how many bytes has one in float32?"
    if near(got, 3840):
        return "float32 has 32 bits; bytes are asked for"
    if near(got, 240):
        return "this is one channel's; the map has several"
    if near(got, 96):
        return "a volume's voxels are the product of its sides, not their sum"
    if not near(got, 480) or not near(call(answer, 8, (2, 2, 2)), 256):
        return "channels, times the voxels along x, y and z, times the bytes of a number"
    return None


def _hinge(real, made):
    return 0.5 * np.maximum(0, 1 - real).mean() + 0.5 * np.maximum(0, 1 + made).mean()


@exercise(
    right="Logits beyond 1 on the right side cost nothing: the critic need not become ever surer.",
    solution=lambda: _hinge,
    wrong=lambda: [
        lambda real, made: 0.5 * (1 - real).mean() + 0.5 * (1 + made).mean(),
        lambda real, made: 0.5 * np.maximum(0, 1 - made).mean() + 0.5 * np.maximum(0, 1 + real).mean(),
        lambda real, made: np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + made).mean(),
        lambda real, made: 0.5 * np.maximum(0, 1 - real).mean() + 0.5 * np.maximum(0, 1 - made).mean(),
        lambda real, made: 0.5 * max(0, 1 - real.mean()) + 0.5 * max(0, 1 + made.mean()),
    ],
)
def hinge(answer):
    """Logits on both sides of the hinge."""
    real, made = np.array([2.0, 0.5, -1.0]), np.array([-3.0, -0.5, 1.0, 0.0])
    got, wanted = call(answer, real, made), _hinge(real, made)
    if not is_number(got):
        return "a number is asked for"
    if near(got, 2 * wanted):
        return "half for the real and half for the made: yours is twice as much"
    if near(got, _hinge(made, real)):
        return "real and made have changed places: the critic wants large logits for the real"
    if near(got, _hinge(real, -made)):
        return "the made ones should be below -1: what does a logit of -3 cost?"
    if near(got, 0.5 * (1 - real).mean() + 0.5 * (1 + made).mean()):
        return "a logit that is surer than it need be must not earn anything: cut each voxel's loss off at 0"
    if not near(got, wanted):
        return "cut off at 0 voxel by voxel, then take the two means"
    return None


def _closed(real, made, healthy):
    return 1 - abs(made - real) / abs(healthy - real)


@exercise(
    right="1 is all of the way, 0 is none of it, below 0 is further away than healthy tissue.",
    solution=lambda: _closed,
    wrong=lambda: [
        lambda real, made, healthy: abs(made - real) / abs(healthy - real),
        lambda real, made, healthy: (made - healthy) / (real - healthy),
        lambda real, made, healthy: 1 - (made - real) / (healthy - real),
        lambda real, made, healthy: 1 - abs(made - real),
    ],
)
def closed(answer):
    """Short of the real tissue, beyond it, on the wrong side, and for a tissue that is darker than healthy."""
    for real, made, healthy in ((2.0, 1.5, 0.0), (-2.0, -1.0, 0.5), (2.0, 3.0, 0.0), (2.0, -1.0, 0.0)):
        got, wanted = call(answer, real, made, healthy), _closed(real, made, healthy)
        if not is_number(got):
            return "a number is asked for"
        if near(got, wanted):
            continue
        if near(got, 1 - wanted):
            return "this is the part of the way that is left; asked for is the part that is done"
        if (made - real) * (real - healthy) > 0:
            return "a painting that is too bright has missed the tissue as well: how far off it is counts, not the side"
        return f"not right for real {real:g}, made {made:g}, healthy {healthy:g}"
    return None


def _leaks(extras, held_out):
    def sources(one):
        return {one["brain"], one["shape"], *one["contrasts"], *one["painter"]}

    return [number for number, one in enumerate(extras) if sources(one) & set(held_out)]


def _extras():
    """Extras with what each was made of, and the patients who are held out."""
    trained = ["P1", "P2", "P3"]
    extras = [
        {"brain": "P1", "shape": "P2", "contrasts": ["P1", "P3"], "painter": trained},
        {"brain": "P4", "shape": "P2", "contrasts": ["P1", "P3"], "painter": trained},
        {"brain": "P2", "shape": "P5", "contrasts": ["P1", "P3"], "painter": trained},
        {"brain": "P3", "shape": "P3", "contrasts": ["P3", "P3"], "painter": trained},
        {"brain": "P2", "shape": "P1", "contrasts": ["P2", "P4"], "painter": trained},
        {"brain": "P1", "shape": "P2", "contrasts": ["P3", "P1"], "painter": [*trained, "P5"]},
    ]
    return extras, ["P4", "P5"]


OTHERS = (  # another list with another patient held out
    [
        {"brain": "A", "shape": "A", "contrasts": ["C", "B"], "painter": ["A", "B"]},
        {"brain": "A", "shape": "B", "contrasts": ["A", "B"], "painter": ["C", "A"]},
        {"brain": "A", "shape": "B", "contrasts": ["B", "A"], "painter": ["A", "B"]},
    ],
    ["C"],
)


@exercise(
    right="Brain, shape, contrast and the painter's own training: each is a way for a held-out patient to come in.",
    context=_extras,
    solution=lambda extras, held_out: _leaks,
    wrong=lambda extras, held_out: [
        lambda extras, held_out: [n for n, one in enumerate(extras) if one["brain"] in held_out],
        lambda extras, held_out: [
            n for n, one in enumerate(extras) if {one["brain"], one["shape"], *one["contrasts"]} & set(held_out)
        ],
        lambda extras, held_out: [n for n in range(len(extras)) if n not in _leaks(extras, held_out)],
        lambda extras, held_out: [n for n, one in enumerate(extras) if {one["brain"], one["shape"]} & set(held_out)],
        lambda extras, held_out: list(range(len(extras))),
        lambda extras, held_out: [1, 2, 4, 5],
        lambda extras, held_out: _leaks(extras, ["P4", "P5"]),
        lambda extras, held_out: [
            n
            for n, one in enumerate(extras)
            if {one["brain"], one["shape"], one["contrasts"][1], one["painter"][-1]} & set(held_out)
        ],
        lambda extras, held_out: [n in _leaks(extras, held_out) for n in range(len(extras))],
    ],
)
def leaks(answer, extras, held_out):
    """The six extras of the notebook, and three others with another patient held out."""
    fault = _fault(call(answer, extras, held_out), extras, held_out)
    if fault is None and _fault(call(answer, *OTHERS), *OTHERS):
        return "right for these six, but not for other extras: read both from the arguments, and all of each list"
    return fault


def _fault(got, extras, held_out):
    if not isinstance(got, Iterable) or isinstance(got, str | dict):
        return "a list of numbers of extras is asked for"
    got = list(got)
    if any(isinstance(n, bool | np.bool_) for n in got):
        return "the numbers of the extras are asked for, not yes or no for each"
    found, wanted = {int(n) for n in got}, set(_leaks(extras, held_out))
    for number in sorted(wanted - found):
        one = extras[number]
        if one["brain"] in held_out:
            return "an extra whose brain is that of a held-out patient is missing"
        if one["shape"] in held_out:
            return "an extra with a held-out patient's shape is missing: that label is known to the training then"
        if set(one["contrasts"]) & set(held_out):
            return "an extra with a held-out patient's contrast is missing"
        return "what has the painter itself been trained on?"
    if found - wanted:
        return "among these is an extra that no held-out patient has a part in"
    return None
