"""Checks of notebook 05: what windows cost, who may see whom, a block's parameters, and a mean over patients."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from brainseg_utils.course.checks import call, exercise, is_number, near


@exercise(
    right="Each token has one weight for each token of its window: the side counts once a token, the window twice.",
    solution=lambda: lambda side, window: (side // window) ** 3 * window**6,
    wrong=lambda: [
        lambda side, window: side**6,
        lambda side, window: (side // window) ** 3 * window**3,
        lambda side, window: (side // window) ** 3,
        lambda side, window: window**6,
        lambda side, window: (side // window) ** 2 * window**4,
    ],
)
def weights_a_head(answer):
    """Counts for several grids, against forgotten windows, pairs and axes."""
    got = call(answer, 14, 7)
    if not is_number(got):
        return "a number of weights is asked for"
    if near(got, 14**6):
        return "this compares every token with every token of the grid; only those of one window are compared"
    if near(got, 14**3):
        return "this counts the tokens; each of them has a weight for every token of its window"
    if near(got, 8):
        return "this counts the windows; each holds many pairs of tokens"
    if near(got, 7**6):
        return "this is one window's; the grid has more than one"
    for side, window in ((14, 7), (12, 4), (70, 7), (64, 64)):
        if not near(call(answer, side, window), (side // window) ** 3 * window**6, relative=1e-9):
            return f"not right for a grid of {side} tokens a side and windows of {window}; count in three dimensions"
    return None


def _parts(size: int, window: int, shift: int) -> np.ndarray:
    numbers = np.zeros(size, int)
    numbers[size - window : size - shift] = 1
    numbers[size - shift :] = 2
    return numbers


def _sees(numbers: np.ndarray, window: int) -> np.ndarray:
    """Which pairs of places share a window and a number."""
    which = np.arange(len(numbers)) // window
    return (which[:, None] == which[None]) & (numbers[:, None] == numbers[None])


@exercise(
    right="Only the last window is mixed, and its last places are those that came around from the beginning.",
    solution=lambda: _parts,
    wrong=lambda: [
        lambda size, window, shift: np.zeros(size, int),
        lambda size, window, shift: np.arange(size) // window,
        lambda size, window, shift: _parts(size, window, window - shift),
        lambda size, window, shift: _parts(size, window, shift)[::-1],
        lambda size, window, shift: np.arange(size),
    ],
)
def parts_of_axis(answer):
    """Who sees whom along an axis, whatever numbers the reader chose."""
    for size, window, shift in ((8, 4, 1), (14, 7, 3), (35, 7, 3)):
        got = np.asarray(call(answer, size, window, shift))
        if got.dtype.kind not in "iu" or got.shape != (size,):
            return f"an array of {size} whole numbers is asked for"
        allowed, wanted = _sees(got, window), _sees(_parts(size, window, shift), window)
        if np.array_equal(allowed, wanted):
            continue
        if (allowed & ~wanted).any() and not (wanted & ~allowed).any():
            return "tokens from the two ends of the scan may still see each other in the last window"
        whole = slice(0, size - window)
        if not np.array_equal(allowed[whole, whole], wanted[whole, whole]):
            return "in a window that is whole, all tokens may see each other"
        return "the last window is parted at the wrong place: how many of its tokens came from the other end?"
    return None


@exercise(
    right="Norms, qkv, proj, table and MLP: 12 dim² + 13 dim, and 2,197 numbers a head.",
    solution=lambda: lambda dim, heads, window=7: 12 * dim**2 + 13 * dim + (2 * window - 1) ** 3 * heads,
    wrong=lambda: [
        lambda dim, heads, window=7: 12 * dim**2 + 13 * dim,
        lambda dim, heads, window=7: 12 * dim**2 + 13 * dim + window**3 * heads,
        lambda dim, heads, window=7: 12 * dim**2 + (2 * window - 1) ** 3 * heads,
        lambda dim, heads, window=7: 12 * dim**2 + 13 * dim + (2 * window - 1) ** 3,
        lambda dim, heads, window=7: 4 * dim**2 + 8 * dim + (2 * window - 1) ** 3 * heads,
    ],
)
def block_parameters(answer):
    """Blocks of three sizes, against forgotten tables, biases and heads."""
    got = call(answer, 48, 3)
    if not is_number(got):
        return "a number of parameters is asked for"
    matrices, rest, table = 12 * 48**2, 13 * 48, 13**3
    if near(got, matrices + rest, relative=1e-9):
        return "the table of position biases is missing"
    if near(got, matrices + rest + 7**3 * 3, relative=1e-9):
        return "two tokens of a window of 7 lie -6 to 6 apart along an axis: that is more than 7 ways"
    if near(got, matrices + rest + table, relative=1e-9):
        return "each head has a table of its own"
    if near(got, matrices + 3 * table, relative=1e-9):
        return "the matrices are there; their biases and the norms are not"
    for dim, heads, window in ((48, 3, 7), (384, 24, 7), (12, 3, 4)):
        wanted = 12 * dim**2 + 13 * dim + (2 * window - 1) ** 3 * heads
        if not near(call(answer, dim, heads, window), wanted, relative=1e-9):
            return (
                f"not right for {dim} channels, {heads} heads and windows of {window}; go through the five parts again"
            )
    return None


Row = tuple[str, int, int, int]
CUBES: list[Row] = [("a", 8, 2, 2), ("a", 0, 0, 0), ("a", 0, 0, 0), ("b", 1, 3, 0), ("b", 0, 0, 5), ("c", 0, 0, 0)]

MIXED: list[Row] = [
    ("d", 0, 4, 0),  # false alarms alone
    ("a", 8, 2, 2),
    ("e", 0, 0, 3),  # a tumour that was missed
    ("a", 0, 0, 0),
    ("d", 0, 1, 0),
    ("b", 1, 3, 5),
    ("a", 2, 0, 1),
]


def _pooled(rows: Sequence[Row]) -> float:
    totals: dict[str, np.ndarray] = {}
    for name, tp, fp, fn in rows:
        totals[name] = totals.get(name, np.zeros(3)) + np.array([tp, fp, fn])
    return float(np.mean([2 * t / (2 * t + p + n) if t + p + n else 1.0 for t, p, n in totals.values()]))


def _dice(tp: float, fp: float, fn: float, empty: float = 1.0) -> float:
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else empty


def _sums(rows: Sequence[Row]) -> tuple[int, int, int]:
    return sum(row[1] for row in rows), sum(row[2] for row in rows), sum(row[3] for row in rows)


def _of_cubes(rows: Sequence[Row]) -> float:
    return float(np.mean([_dice(tp, fp, fn) for _, tp, fp, fn in rows]))


def _of_all(rows: Sequence[Row]) -> float:
    return _dice(*_sums(rows))


def _cubes_by_patient(rows: Sequence[Row]) -> float:
    names = sorted({row[0] for row in rows})
    return float(np.mean([_of_cubes([row for row in rows if row[0] == name]) for name in names]))


def _empty_is_nothing(rows: Sequence[Row]) -> float:
    return float(np.mean([_dice(*found, empty=0.0) for found in _by_patient(rows)]))


def _by_patient(rows: Sequence[Row]) -> list[tuple[int, int, int]]:
    return [_sums([row for row in rows if row[0] == name]) for name in sorted({row[0] for row in rows})]


def _false_alarms_are_right(rows: Sequence[Row]) -> float:
    return float(np.mean([_dice(*found) if found[0] + found[2] else 1.0 for found in _by_patient(rows)]))


def _misses_are_right(rows: Sequence[Row]) -> float:
    return float(np.mean([_dice(*found) if found[0] else 1.0 for found in _by_patient(rows)]))


def _neighbours_alone(rows: Sequence[Row]) -> float:
    return float(np.mean([_dice(*_sums(list(part))) for _, part in itertools.groupby(rows, lambda row: row[0])]))


@exercise(
    right="Cubes that hold nothing add nothing, and every patient counts once.",
    solution=lambda: _pooled,
    wrong=lambda: [
        _of_cubes,
        _of_all,
        _cubes_by_patient,
        _empty_is_nothing,
        _false_alarms_are_right,
        _misses_are_right,
        _neighbours_alone,
    ],
)
def patient_dice(answer):
    """Six cubes of three patients, one of whom has nothing to find."""
    got = call(answer, list(CUBES))
    if not is_number(got):
        return "a number, the mean Dice, is asked for"
    if near(got, _of_cubes(CUBES)):
        return "this is the mean over cubes: empty ones count as much as those with tumour"
    if near(got, _of_all(CUBES)):
        return "this pools all patients into one: a large tumour then outvotes the small ones"
    if near(got, _cubes_by_patient(CUBES)):
        return "patients count once now, but inside a patient the cubes are still averaged; add their counts up first"
    if near(got, _empty_is_nothing(CUBES)):
        return "a patient without the region, in whom nothing was found, is a right answer"
    if not near(call(answer, list(MIXED)), _pooled(MIXED)):
        return "1 only where nothing was there and nothing was found; and a patient's cubes need not follow each other"
    for rows in (CUBES, CUBES[:3], CUBES[3:]):
        if not near(call(answer, list(rows)), _pooled(rows)):
            return "not the mean over patients of their pooled Dice; try it by hand on two patients with two cubes each"
    return None
