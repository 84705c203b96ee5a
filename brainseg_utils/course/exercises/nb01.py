"""Checks of notebook 01: the telling modality, millimetres from voxels, a true flip, labels translated, the score of an
empty prediction, sequences filled in with FLAIR, and a split by patient."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from brainseg_utils.course.checks import call, exercise, is_number, near
from brainseg_utils.datasets.labels import SCHEMES
from brainseg_utils.datasets.layouts import LGG_CHANNELS, MODALITIES

SAME = 1e-6  # separations this close are a tie
EDGE = 6  # of the small arrays that the checks use


def _separation():
    import pandas as pd

    rows = [[0.55, 0.93, 0.71, 0.60, 0.95], [0.61, 0.58, 0.66, 0.88, 0.92], [0.52, 0.81, 0.78, 0.60, 0.85]]
    return (pd.DataFrame(rows, index=["ET / NETC", "SNFH / brain", "ET / SNFH"], columns=[*MODALITIES, "all four"]),)


@exercise(
    right="Read off the table by code: other patients, or another pair of tissues, may give another answer.",
    context=_separation,
    solution=lambda table: table[list(MODALITIES)].idxmax(axis=1).to_dict(),
    wrong=lambda table: [
        dict.fromkeys(table.index, "t1c"),
        table[list(MODALITIES)].idxmin(axis=1).to_dict(),
        table.idxmax(axis=1).to_dict(),
        table[list(MODALITIES)].idxmax(axis=0).to_dict(),
        "t1c",
    ],
)
def best_modality(answer, table):
    """A dictionary from each row of the table to the modality that separates its two tissues best."""
    if not isinstance(answer, Mapping):
        return f"a dictionary is asked for, from each pair of tissues to a modality, not a {type(answer).__name__}"
    if set(answer) != set(table.index):
        return f"the dictionary's keys should be the table's rows: {', '.join(table.index)}"
    if any(name not in MODALITIES for name in answer.values()):
        return f"the values should be single modalities: {', '.join(MODALITIES)}"
    poor = [
        pair for pair, name in answer.items() if table.loc[pair, name] < table.loc[pair, list(MODALITIES)].max() - SAME
    ]
    if poor:
        return (
            f"for {len(poor)} of {len(answer)} pairs another modality separates better; look along the row of {poor[0]}"
        )
    return None


def _affines():
    """A straight affine with two flips, and an oblique one."""
    straight = np.array([[-2.0, 0, 0, 10], [0, -2, 0, 238], [0, 0, 3, -5], [0, 0, 0, 1]])
    oblique = np.array([[0.9, -0.6, 0, -40], [0.3, 1.4, 0, 12], [0, 0, 4, 7], [0, 0, 0, 1]])
    return straight, oblique


@exercise(
    right="A matrix product turns and stretches, the last column moves: that is all an affine does.",
    solution=lambda: lambda affine, voxel: affine[:3, :3] @ np.asarray(voxel) + affine[:3, 3],
    wrong=lambda: [
        lambda affine, voxel: affine[:3, :3] @ np.asarray(voxel),
        lambda affine, voxel: np.abs(np.diag(affine)[:3]) * np.asarray(voxel),
        lambda affine, voxel: np.diag(affine)[:3] * np.asarray(voxel) + affine[:3, 3],
        lambda affine, voxel: affine @ np.asarray([*voxel, 0]),
        lambda affine, voxel: affine @ np.asarray([*voxel, 1]),
        lambda affine, voxel: np.linalg.inv(affine)[:3] @ np.asarray([*voxel, 1]),
        (1, 2, 3),
    ],
)
def to_mm(answer):
    """The reader's function against a straight affine with a flip and against an oblique one."""
    voxel = (3, 5, 7)
    for affine, kind in zip(_affines(), ("a straight", "an oblique"), strict=True):
        true = affine[:3, :3] @ voxel + affine[:3, 3]
        got = np.asarray(call(answer, affine.copy(), voxel), float).ravel()
        if got.shape == (4,) and near(got[3], 1) and np.allclose(got[:3], true):
            return "the place is right, but three numbers are asked for: leave out the 1 at the end"
        if got.shape == (4,) and near(got[3], 0):
            return "a voxel index needs a 1 as its fourth number, else the last column of the affine has no effect"
        if got.shape != (3,):
            return f"three numbers are asked for, x, y and z; this has shape {got.shape}"
        if np.allclose(got, affine[:3, :3] @ voxel) or np.allclose(got, np.abs(np.diag(affine)[:3]) * voxel):
            return "this starts at the array's corner; where that corner lies stands in the last column of the affine"
        if not np.allclose(got, true):
            return f"not the right place for {kind} affine: use the whole 3 by 3 part, not only its diagonal"
    return None


def _flip(data, affine):
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[0, 3] = data.shape[0] - 1
    return data[::-1], affine @ mirror


def _wrong_flip(shift):
    """A flip whose affine is off by some voxels."""
    return lambda data, affine: (data[::-1], _flip(np.zeros((shift, 1, 1)), affine)[1])


@exercise(
    right="Every voxel has moved in memory, and none has moved in the patient: array and affine changed together.",
    solution=lambda: _flip,
    wrong=lambda: [
        lambda data, affine: (data[::-1], affine),
        _wrong_flip(1),
        _wrong_flip(EDGE + 1),
        lambda data, affine: (data, _flip(data, affine)[1]),
        lambda data, affine: data[::-1],
    ],
)
def true_flip(answer):
    """The reader's function: each voxel's value must stay at its place in mm."""
    data = np.arange(EDGE * 4 * 3, dtype=float).reshape(EDGE, 4, 3)
    for affine in _affines():
        got = call(answer, data.copy(), affine.copy())
        if not isinstance(got, tuple) or len(got) != 2:
            return "the function should return two things, the array and its affine"
        flipped, moved = np.asarray(got[0]), np.asarray(got[1], float)
        if flipped.shape != data.shape or moved.shape != (4, 4):
            return "the array should keep its shape, and the affine stay 4 by 4"
        if not np.array_equal(flipped, data[::-1]):
            return "the array is not the one asked for: reverse its first axis, and only that"
        if np.allclose(moved, affine):
            return "the affine is the old one, so each value now lies on the other side of the patient"
        apart = np.linalg.norm(moved[:3] @ [EDGE - 1, 0, 0, 1] - affine[:3, 3])
        if apart > SAME:
            return f"the voxel that was first has moved by {apart:.3g} mm; where is voxel n - 1 of the reversed axis?"
        if not np.allclose(moved, _flip(data, affine)[1]):
            return "one corner is at its place, but the axes do not run as they should"
    return None


_SCHEMES = [dict(SCHEMES[name].tissues) for name in ("brats2021", "brats2023", "msd")]


def _translate(mask, old, new, in_place=False):
    out = mask.copy() if in_place else np.zeros_like(mask)
    values = {tissue: value for value, tissue in new.items()}
    for value, tissue in old.items():
        out[(out if in_place else mask) == value] = values[tissue]
    return out


def _in_place(mask, old, new):
    """The classic: a loop that reads what it has just written."""
    return _translate(mask, old, new, in_place=True)


@exercise(
    right="Tissues are matched by name, and every voxel is read from the old mask: none is translated twice.",
    solution=lambda: _translate,
    wrong=lambda: [
        lambda mask, old, new: mask,
        lambda mask, old, new: np.where(mask == 4, 3, mask),
        _in_place,
        lambda mask, old, new: (mask > 0).astype(mask.dtype),
        lambda mask, old, new: {value: old[value] for value in new if value in old},
    ],
)
def translate(answer):
    """The reader's function between three schemes, one of which swaps 1 and 2."""
    rng = np.random.default_rng(0)
    for old in _SCHEMES:
        for new in _SCHEMES:
            mask = rng.choice([0, *old], size=(EDGE, EDGE, EDGE)).astype(np.uint8)
            kept = mask.copy()
            got = call(answer, mask, dict(old), dict(new))
            if not isinstance(got, np.ndarray) or got.shape != kept.shape:
                return "a mask of the same shape is asked for"
            if not np.array_equal(mask, kept):
                return "your function changed the mask that it was given; write into a new array"
            if np.array_equal(got, _translate(kept, old, new)):
                continue
            if np.array_equal(got, _in_place(kept, old, new)):
                return "some voxels were translated twice: the loop reads values that an earlier turn has written"
            return f"wrong from {_text(old)} to {_text(new)}: match the tissues by their names, not by their values"
    return None


def _text(scheme):
    return "(" + ", ".join(f"{value} {tissue}" for value, tissue in scheme.items()) + ")"


def _region():
    region = np.zeros((10, 10, 10), bool)
    region[:2, :5, :4] = True
    return (region,)


@exercise(
    right="Nearly all voxels are right and none of the tumour's was found: one number hides what the other says.",
    context=_region,
    solution=lambda region: (1 - float(region.mean()), 0.0),
    wrong=lambda region: [
        (float(region.mean()), 0.0),
        (1 - float(region.mean()), 1.0),
        (100 * (1 - float(region.mean())), 0.0),
        (1.0, 0.0),
        1 - float(region.mean()),
    ],
)
def nothing_found(answer, region):
    """Accuracy and Dice of a prediction without a single tumour voxel."""
    if not isinstance(answer, tuple | list) or len(answer) != 2 or not all(map(is_number, answer)):
        return "two numbers are asked for: accuracy and Dice"
    accuracy, dice = answer
    if near(accuracy, 100 * (1 - float(region.mean()))):
        return "give the accuracy as a share between 0 and 1, not in percent"
    if near(accuracy, float(region.mean())) and not near(region.mean(), 0.5):
        return "this is the share of tumour voxels, which are the ones such a prediction gets wrong"
    if not near(accuracy, 1 - float(region.mean()), relative=1e-6):
        return "accuracy: of all voxels, which share does the empty prediction get right?"
    if not near(dice, 0.0):
        return "Dice: how many tumour voxels do prediction and truth share?"
    return None


def _copies(images, same=lambda channel, flair: (channel == flair).all(), apart=("t2f",)):
    named = zip(LGG_CHANNELS, images, strict=True)
    return [name for name, channel in named if name not in apart and same(channel, images[1])]


@exercise(
    right="Equal to the last pixel: no two sequences ever are, so this one was not acquired.",
    solution=lambda: _copies,
    wrong=lambda: [
        lambda images: _copies(images, apart=()),
        lambda images: _copies(images, same=lambda channel, flair: (channel == flair).any()),
        lambda images: _copies(images, same=lambda channel, flair: channel.mean() == flair.mean()),
        lambda images: _copies(images, same=lambda channel, flair: not channel.any()),
        lambda images: len(_copies(images)),
    ],
)
def filled_in(answer):
    """The reader's function on stacks of three channels with none, one or two copies of FLAIR."""
    rng = np.random.default_rng(1)
    base = rng.integers(0, 200, (3, EDGE, EDGE, 2)).astype(np.float32)
    base[:, 0] = 0  # air, equal in every channel
    shuffled = base.copy()
    shuffled[2] = shuffled[1, :, :, ::-1]  # the same mean, another picture
    one, two = base.copy(), base.copy()
    one[2] = one[1]
    two[0] = two[2] = two[1]
    for images, what in ((base, "no copy"), (shuffled, "no copy"), (one, "one copy"), (two, "two copies")):
        got = call(answer, images.copy())
        if not isinstance(got, list | tuple | set):
            return f"a list of channel names is asked for, not a {type(got).__name__}"
        if "t2f" in got:
            return "FLAIR is of course equal to itself; leave it out"
        if set(got) - set(_copies(images)):
            return f"a stack with {what}: one too many named. Are all pixels equal, or only some, or their mean?"
        if set(got) != set(_copies(images)):
            return f"a stack with {what} was not recognised"
    return None


def _by_patient(patients, share, rng):
    people = np.unique(patients)
    chosen = rng.choice(people, max(1, round(share * len(people))), replace=False)
    return np.isin(patients, chosen)


@exercise(
    right="People are drawn, and their slices follow them: nobody is on two sides.",
    solution=lambda: _by_patient,
    wrong=lambda: [
        lambda patients, share, rng: rng.random(len(patients)) < share,
        lambda patients, share, rng: np.arange(len(patients)) < share * len(patients),
        lambda patients, share, rng: np.isin(patients, np.unique(patients)[: round(share * len(np.unique(patients)))]),
        lambda patients, share, rng: rng.choice(np.unique(patients), 2, replace=False),
        lambda patients, share, rng: np.zeros(len(patients), bool),
    ],
)
def split_by_patient(answer):
    """The reader's function on twenty patients with 5 to 24 slices each."""
    patients = np.repeat(np.arange(20), np.arange(5, 25))
    patients = np.random.default_rng(2).permutation(patients)
    draws = []
    for seed in range(8):
        got = np.asarray(call(answer, patients.copy(), 0.25, np.random.default_rng(seed)))
        if got.shape != patients.shape or got.dtype != bool:
            return f"an array of {len(patients)} truth values is asked for, one a slice: is it in the test set?"
        if not got.any() or got.all():
            return "one of the two sides is empty"
        both = set(patients[got]) & set(patients[~got])
        if both:
            return f"{len(both)} of 20 patients have slices on both sides"
        if abs(len(set(patients[got])) - 5) > 1:
            return f"{len(set(patients[got]))} of 20 patients are in the test set, where a share of 0.25 was asked for"
        draws.append(frozenset(patients[got].tolist()))
    if len(set(draws)) == 1:
        return (
            "every generator gives the same patients: draw them with rng, so that the split can be repeated with others"
        )
    return None
