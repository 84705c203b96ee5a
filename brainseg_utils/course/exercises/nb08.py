"""Checks of notebook 08: contrast between tissues, regions and tissues, a cosine, a checkpoint, folds by patient."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from brainseg_utils.course.checks import call, exercise, is_number, near, number_array


def _apart(a, b):
    return abs(np.mean(a) - np.mean(b)) / np.sqrt((np.var(a) + np.var(b)) / 2)


@exercise(
    right="The difference counts in units of the spread, so that a picture's scale does not matter.",
    solution=lambda: _apart,
    wrong=lambda: [
        lambda a, b: abs(np.mean(a) - np.mean(b)),
        lambda a, b: (np.mean(a) - np.mean(b)) / np.sqrt((np.var(a) + np.var(b)) / 2),
        lambda a, b: abs(np.mean(a) - np.mean(b)) / ((np.var(a) + np.var(b)) / 2),
        lambda a, b: abs(np.mean(a) - np.mean(b)) / np.sqrt(np.var(a) + np.var(b)),
    ],
)
def contrast(answer):
    """Two samples, in both orders, and on another scale."""
    dark, bright = np.array([1.0, 2.0, 3.0, 2.0]), np.array([6.0, 8.0, 10.0, 8.0])
    got, wanted = call(answer, bright, dark), _apart(dark, bright)
    if not is_number(got):
        return "a number is asked for"
    if near(got, 6.0):
        return "this is the difference in the picture's own unit; divide it by the spread"
    if near(got, wanted / math.sqrt(2)):
        return "take the mean of both variances, not their sum"
    if not near(got, wanted):
        return "the difference of the means, over the root of the mean variance"
    if not near(call(answer, dark, bright), wanted):
        return "the order of the two tissues should not matter"
    if not near(call(answer, 100 * bright, 100 * dark), wanted):
        return "a picture of other units must give the same number"
    return None


def _tissues(tc, wt, et):
    return tc & ~et, wt & ~tc, et


@exercise(
    right="Each region without the next one inside it: the tissues, which exclude each other.",
    solution=lambda: _tissues,
    wrong=lambda: [
        lambda tc, wt, et: (tc, wt, et),
        lambda tc, wt, et: (tc & ~et, wt & ~et, et),
        lambda tc, wt, et: (tc, wt & ~tc, et),
        lambda tc, wt, et: (wt & ~tc, tc & ~et, et),
    ],
)
def tissues(answer):
    """A row of voxels with each tissue once or more."""
    wt = np.array([0, 1, 1, 1, 1, 1, 1, 0], bool)
    tc = np.array([0, 0, 0, 1, 1, 1, 0, 0], bool)
    et = np.array([0, 0, 0, 0, 1, 0, 0, 0], bool)
    got = call(answer, tc, wt, et)
    if not isinstance(got, Iterable) or len(arrays := [np.asarray(part) for part in got]) != 3:
        return "three masks are asked for: NETC, SNFH, ET"
    if any(part.shape != wt.shape for part in arrays):
        return "each mask should have the shape of the regions"
    netc, snfh, third = (part.astype(bool) for part in arrays)
    wanted = _tissues(tc, wt, et)
    if (snfh == wt).all():
        return "the second is still the whole tumour: oedema is what is not core"
    if (netc == tc).all():
        return "the first is still the whole core: NETC is what does not enhance"
    if (netc == wanted[1]).all() and (snfh == wanted[0]).all():
        return "these are the right masks in another order: NETC, SNFH, ET"
    if not all((g == w).all() for g, w in zip((netc, snfh, third), wanted, strict=True)):
        return "each tissue is a region without the region inside it"
    return None


def _rate(place, cycle, base, least):
    return least + (base - least) * (1 + math.cos(math.pi * (place % cycle) / cycle)) / 2


@exercise(
    right="From the full rate to the least along half a cosine, then from the start.",
    solution=lambda: _rate,
    wrong=lambda: [
        lambda place, cycle, base, least: base * (1 + math.cos(math.pi * place / cycle)) / 2,
        lambda place, cycle, base, least: least + (base - least) * (1 + math.cos(2 * math.pi * place / cycle)) / 2,
        lambda place, cycle, base, least: least + (base - least) * math.cos(math.pi * (place % cycle) / cycle),
        lambda place, cycle, base, least: base - (base - least) * (place % cycle) / cycle,
        lambda place, cycle, base, least: least + (base - least) * (1 + math.cos(math.pi * min(place / cycle, 1))) / 2,
        lambda place, cycle, base, least: _rate(place if place < cycle else min(place - cycle, cycle), 10, base, least),
        lambda place, cycle, base, least: _rate(place, 10, 1e-3, 1e-6),
    ],
)
def rate(answer):
    """Along a cycle, and into the next."""
    settings = (10, 1e-3, 1e-6)
    start, middle = call(answer, 0, *settings), call(answer, 5, *settings)
    if not is_number(start) or not is_number(middle):
        return "a number is asked for"
    if not near(start, 1e-3):
        return "at the beginning of a cycle the rate is the full one"
    if not near(middle, _rate(5, *settings)):
        return "in the middle of a cycle the rate is half way between the full and the least one"
    for place in (2, 9, 9.999):
        if not near(call(answer, place, *settings), _rate(place, *settings)):
            return f"not right at place {place} of a cycle of 10"
    if not near(call(answer, 13, *settings), _rate(3, *settings)):
        return "place 13 of a cycle of 10 is place 3 of the next one: the schedule has warm restarts"
    if not near(call(answer, 27, *settings), _rate(7, *settings)):
        return "place 27 of a cycle of 10 is place 7 of the third one"
    if not near(call(answer, 3, 4, 0.1, 0.01), _rate(3, 4, 0.1, 0.01)):
        return "cycle, base and least are arguments: use them"
    return None


def _misfits(wanted, given):
    missing = [name for name in wanted if name not in given]
    alien = [name for name in given if name not in wanted]
    return missing, alien, [name for name in wanted if name in given and wanted[name] != given[name]]


@exercise(
    right="What lacks, what is left over, and what has another shape: three ways in which weights can fail to fit.",
    solution=lambda: _misfits,
    wrong=lambda: [
        lambda wanted, given: _misfits(given, wanted),
        lambda wanted, given: (*_misfits(wanted, given)[:2], []),
        lambda wanted, given: ([], [], [n for n in wanted if wanted[n] != given.get(n)]),
        lambda wanted, given: (*_misfits(wanted, given)[:2], [n for n in wanted if n in given]),
    ],
)
def misfits(answer):
    """Two little networks' shapes by name."""
    wanted = {"a.weight": (8, 4, 3), "a.bias": (8,), "b.weight": (2, 8, 1)}
    given = {"a.weight": (8, 1, 3), "a.bias": (8,), "b.unit0.weight": (2, 8, 1)}
    got = call(answer, wanted, given)
    if not isinstance(got, Iterable) or len(got := list(got)) != 3:
        return "three lists of names are asked for"
    found, expected = [sorted(part) for part in got], [sorted(part) for part in _misfits(wanted, given)]
    if found == expected:
        return None
    if found[:2] == expected[1::-1]:
        return "missing are names that the network wants and the file has not, not the other way round"
    if found[:2] != expected[:2]:
        return "first the names that lack in the file, then those in the file that the network does not know"
    if len(found[2]) == 2:
        return "a name that is in both is no misfit by itself; compare the shapes"
    return "a name that is in both can still have another shape"


def _deal(patients, k, rng):
    people = sorted(set(patients))
    fold = {people[p]: n % k for n, p in enumerate(rng.permutation(len(people)))}
    return [fold[patient] for patient in patients]


@exercise(
    right="The patients are dealt, and each takes all scans along.",
    solution=lambda: _deal,
    wrong=lambda: [
        lambda patients, k, rng: [int(n) % k for n in rng.permutation(len(patients))],
        lambda patients, k, rng: [n % k for n in range(len(patients))],
        lambda patients, k, rng: [0 for _ in patients],
        lambda patients, k, rng: [sorted(set(patients)).index(p) % (k - 1) for p in patients],
        lambda patients, k, rng: [sorted(set(patients)).index(p) for p in patients],
        lambda patients, k, rng: [sorted(set(patients)).index(p) % k for p in patients],
        lambda patients, k, rng: _deal(patients, 5, rng),
    ],
)
def deal(answer):
    """Eleven patients, some of them seen twice or three times, into five folds."""
    people = [f"P{n:02d}" for n in range(11)]
    patients = [*people, "P03", "P03", "P07", "P10"]
    got = call(answer, patients, 5, np.random.default_rng(0))
    folds = number_array(got, (len(patients),))
    if isinstance(folds, str):
        return folds
    for person in ("P03", "P07", "P10"):
        if len({int(f) for f, p in zip(folds, patients, strict=True) if p == person}) > 1:
            return f"patient {person} is in two folds"
    of = {p: int(f) for f, p in zip(folds, patients, strict=True)}
    if not set(of.values()) <= set(range(5)):
        return "folds are numbered from 0 to k - 1"
    sizes = np.bincount(list(of.values()), minlength=5)
    if sizes.min() == 0:
        return "a fold is empty"
    if np.ptp(sizes) > 1:
        return "the folds should differ by one patient at most"
    if list(call(answer, patients, 5, np.random.default_rng(1))) == list(got):
        return "shuffle the patients with rng: names are often in the order of hospitals or years"
    if set(call(answer, patients, 3, np.random.default_rng(0))) != {0, 1, 2}:
        return "k folds are asked for, whatever k is"
    return None
