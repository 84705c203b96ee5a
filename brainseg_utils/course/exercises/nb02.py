"""Checks of notebook 02: normalisation, the leak of a crop, volumes after resizing, order, disk, and two bug labs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from brainseg_utils.course.checks import call, exercise, is_number, near, number_array

SURVIVORS = {"shift": False, "scale": False, "gamma": True, "bias field": True, "noise": True}
SPIKE = 60.0  # the bright artefact of `robust_scale`, in sd of the tissue
LEAST_SPREAD, MOST_SPREAD = 0.7, 1.5  # what counts as "about 1" for the tissue's spread


def _scan() -> tuple[np.ndarray, np.ndarray]:
    """Two channels of other brightness on a background of 0, and the brain's mask."""
    rng = np.random.default_rng(7)
    mask = np.zeros((12, 12, 12), bool)
    mask[3:9, 2:9, 3:10] = True
    image = np.zeros((2, *mask.shape), np.float32)
    image[0, mask] = rng.normal(300, 40, mask.sum())
    image[1, mask] = rng.normal(900, 200, mask.sum())
    return image, mask


def _zscore(image: np.ndarray, mask: np.ndarray, over: np.ndarray | None = None, joint: bool = False) -> np.ndarray:
    out = np.zeros_like(image)
    for channel, result in zip(image, out, strict=True):
        values = (image[:, mask] if joint else channel[mask]) if over is None else channel[over]
        result[mask] = (channel[mask] - values.mean()) / values.std()
    return out


@exercise(
    right="Each modality has its own mean 0 and standard deviation 1 over the brain, and the background stayed 0.",
    solution=lambda: _zscore,
    wrong=lambda: [
        lambda image, mask: _zscore(image, mask, over=np.ones_like(mask)),
        lambda image, mask: _zscore(image, mask, joint=True),
        lambda image, mask: np.stack([(c - c[mask].mean()) / c[mask].std() for c in image]),
        lambda image, mask: np.stack([np.where(mask, (c - c[mask].mean()) / c[mask].var(), 0) for c in image]),
        lambda image, mask: image[:, mask],
    ],
)
def zscore(answer):
    """The reader's z-score over the brain, each channel by itself, background 0."""
    image, mask = _scan()
    given = image.copy()
    got = number_array(call(answer, given, mask), image.shape)
    if isinstance(got, str):
        return got
    if not np.array_equal(given, image):
        return "the function changed the image that it was given: write into a new array"
    inside = got[:, mask]
    if near(np.ptp(inside.mean(axis=1)), 0, absolute=1e-3) and np.any(got[:, ~mask]):
        return "right inside the brain, but the background is no longer 0"
    if np.allclose(inside, _zscore(image, mask, over=np.ones_like(mask))[:, mask], atol=1e-3):
        return "mean and standard deviation were taken over the background too"
    if abs(inside.mean()) < 1e-3 < abs(inside[0].mean()):
        return "one mean for both modalities: each has a brightness of its own"
    if np.abs(inside.mean(axis=1)).max() > 1e-3:
        return "the mean over the brain is not 0"
    if np.abs(inside.std(axis=1) - 1).max() > 1e-2:
        return "the mean is right, but the standard deviation over the brain is not 1"
    return None


@exercise(
    right="Everything is predicted, so nothing is missed; precision is the share, and Dice follows from the two.",
    solution=lambda: lambda share: 2 * share / (1 + share),
    wrong=lambda: [
        lambda share: share,
        lambda share: 2 * share,
        lambda share: share / (1 + share),
        lambda share: (1 + share) / 2,
        0.4,
    ],
)
def dice_of_everything(answer):
    """Dice of the prediction "all is tumour" where a share of the voxels is tumour."""
    share = 0.25
    got = call(answer, share)
    if not is_number(got):
        return f"the function returned a {type(got).__name__}, one number is asked for"
    if near(call(answer, 1.0), 1.0):
        if near(got, share):
            return "this is the precision (and the IoU); Dice counts the shared voxels twice"
        if near(got, (1 + share) / 2):
            return "this is the plain mean of precision and sensitivity; Dice is their harmonic mean"
    elif not near(got, 2 * share / (1 + share)):
        return "where all voxels are tumour the prediction is perfect; your formula does not give 1 there"
    for value in (share, 0.01, 0.5):
        if not near(call(answer, value), 2 * value / (1 + value)):
            return "not for every share: write down shared voxels, predicted voxels and true voxels for 100 voxels"
    return None


def _resized() -> tuple[np.ndarray, tuple[int, ...], tuple[float, ...]]:
    mask = np.zeros((8, 8, 8), bool)
    mask[2:6, 2:6, 2:7] = True
    return mask, (16, 24, 10), (1.0, 1.0, 2.0)


def _ml(mask, shape_before, spacing_before):
    voxel = np.prod([s * n / m for s, n, m in zip(spacing_before, shape_before, mask.shape, strict=True)])
    return mask.sum() * voxel / 1000


@exercise(
    right="The grid covers the same millimetres with fewer voxels, so each of them is larger.",
    solution=lambda: _ml,
    wrong=lambda: [
        lambda mask, shape, spacing: mask.sum() * np.prod(spacing) / 1000,
        lambda mask, shape, spacing: mask.sum() / 1000,
        lambda mask, shape, spacing: _ml(mask, shape, spacing) * 1000,
        lambda mask, shape, spacing: (
            mask.sum() * np.prod([s * m / n for s, n, m in zip(spacing, shape, mask.shape, strict=True)]) / 1000
        ),
        3.0,
    ],
)
def resized_ml(answer):
    """The reader's volume of a mask that was resized, from the grid that it had before."""
    mask, shape, spacing = _resized()
    got = call(answer, mask, shape, spacing)
    true = _ml(mask, shape, spacing)
    if not is_number(got):
        return f"the function returned a {type(got).__name__}, one number is asked for"
    if near(got, true * 1000):
        return "this is in cubic millimetres; 1000 of them make a millilitre"
    if near(got, mask.sum() * np.prod(spacing) / 1000):
        return "this takes the voxel size from before the resizing; fewer voxels cover the same head now"
    if near(got, mask.sum() / 1000):
        return "this would hold if a voxel were one cubic millimetre"
    if not near(got, true):
        return "not the volume: if an axis has half as many voxels as before, how long is a voxel along it?"
    return None


@exercise(
    right="A z-score removes one shift and one scale. What differs from voxel to voxel, or bends, stays.",
    solution=lambda: dict(SURVIVORS),
    wrong=lambda: [
        {**SURVIVORS, "shift": True},
        {**SURVIVORS, "scale": True},
        {**SURVIVORS, "noise": False},
        dict.fromkeys(SURVIVORS, False),
        {"shift": False, "scale": False},
        [False, False, True, True, True],
    ],
)
def survives(answer):
    """Which intensity changes are still there after a z-score over the brain."""
    if not isinstance(answer, dict) or set(answer) != set(SURVIVORS):
        return f"a dictionary with these keys is asked for: {', '.join(SURVIVORS)}"
    if not all(isinstance(value, bool | np.bool_) for value in answer.values()):
        return "each value is True (something is left) or False (nothing is left)"
    kept = [name for name, value in answer.items() if value and not SURVIVORS[name]]
    if kept:
        return f"write the z-score of a * x + b with its mean and standard deviation, and look again at: {kept[0]}"
    lost = [name for name, value in answer.items() if not value and SURVIVORS[name]]
    if lost:
        return f"a z-score knows one mean and one standard deviation; can they describe this change? {lost[0]}"
    return None


def _gigabytes(cases, channels, shape, width):
    return cases * channels * np.prod(shape, dtype=float) * width / 1e9


@exercise(
    right="Cases times modalities times voxels times bytes, and a gigabyte is a thousand million of them.",
    solution=lambda: _gigabytes,
    wrong=lambda: [
        lambda cases, channels, shape, width: cases * np.prod(shape, dtype=float) * width / 1e9,
        lambda cases, channels, shape, width: cases * channels * np.prod(shape, dtype=float) / 1e9,
        lambda cases, channels, shape, width: cases * channels * np.prod(shape, dtype=float) * width * 8 / 1e9,
        lambda cases, channels, shape, width: cases * channels * np.prod(shape, dtype=float) * width / 1e6,
        lambda cases, channels, shape, width: channels * np.prod(shape, dtype=float) * width / 1e9,
    ],
)
def gigabytes(answer):
    """Bytes of a cohort of arrays, in units of 10^9."""
    cases, channels, shape, width = 100, 3, (200, 250, 100), 4
    got = call(answer, cases, channels, shape, width)
    true = _gigabytes(cases, channels, shape, width)
    if not is_number(got):
        return f"the function returned a {type(got).__name__}, one number is asked for"
    said = {
        1 / channels: "a case has several modalities, each a volume of its own",
        1 / width: "this counts values; each takes several bytes",
        8: "the width is in bytes already, not in bits",
        1000: "this is in megabytes; a gigabyte is a thousand times as much",
        1 / cases: "this is one case; the cohort has more",
        1e9: "this is in bytes; a gigabyte is a thousand million of them",
        1e9 / 2**30: "this is in GiB (2 to the power of 30 bytes); here a GB is a thousand million bytes",
    }
    for factor, text in said.items():
        if near(got, true * factor):
            return text
    return None if near(got, true) else "not the size: multiply cases, modalities, voxels and bytes of a value"


def _padded(shape, multiple):
    return tuple(-(-n // multiple) * multiple for n in shape)


@exercise(
    right="Each axis goes up to the next multiple, or stays where it is one, so all halvings come out even.",
    solution=lambda: _padded,
    wrong=lambda: [
        lambda shape, multiple: tuple(n // multiple * multiple for n in shape),
        lambda shape, multiple: tuple((n // multiple + 1) * multiple for n in shape),
        lambda shape, multiple: tuple(n % multiple for n in shape),
        lambda shape, multiple: tuple(n + n % 2 for n in shape),
        lambda shape, multiple: _padded(shape, multiple)[0],
    ],
)
def padded_shape(answer):
    """The smallest shape that holds the given one and whose axes are multiples."""
    shape, multiple = (229, 229, 144), 16  # what R4 crops to, and what four halvings ask for
    got = np.asarray(call(answer, shape, multiple))
    if got.shape != (len(shape),):
        return f"{len(shape)} numbers are asked for, one for each axis"
    if np.any(got % multiple):
        return f"{got.tolist()} is not a multiple of {multiple} along every axis"
    if np.any(got < shape):
        return "this cuts voxels off; padding only adds"
    if np.any(got != _padded(shape, multiple)):
        return "larger than needed: an axis that is a multiple already needs nothing"
    other = (96, 97, 33)
    if np.any(np.asarray(call(answer, other, 32)) != _padded(other, 32)):
        return "right for this shape, but not for every shape and every multiple"
    return None


def _scale_with(centre: Callable, spread: Callable, mask: Callable) -> Callable:
    def scale(image: np.ndarray) -> np.ndarray:
        out = np.zeros_like(image)
        brain = (image != 0).any(axis=0)
        for channel, result in zip(image, out, strict=True):
            values = channel[mask(channel)]
            result[brain] = (channel[brain] - centre(values)) / spread(values)
        return out

    return scale


def _width(values: np.ndarray) -> float:
    low, high = np.percentile(values, (10, 90))
    return max(float(high - low), 1e-6) / 2.5631


def _clipped_zscore(image: np.ndarray) -> np.ndarray:
    out = np.zeros_like(image)
    brain = (image != 0).any(axis=0)
    for channel, result in zip(image, out, strict=True):
        values = np.clip(channel[brain], *np.percentile(channel[brain], (2.5, 97.5)))
        result[brain] = (values - values.mean()) / values.std()
    return out


@exercise(
    right="More air around the head changes nothing, and a bright spot hardly moves the tissue: both were noise.",
    solution=lambda: _clipped_zscore,
    wrong=lambda: [
        lambda image: np.stack([(c - c.min()) / (c.max() - c.min()) for c in image]),
        _scale_with(np.mean, np.std, lambda c: np.ones_like(c, bool)),
        _scale_with(np.mean, np.std, lambda c: c != 0),
        _scale_with(np.median, _width, lambda c: np.ones_like(c, bool)),
        lambda image: np.zeros_like(image),
        lambda image: np.where(image != 0, image / 1000, 0),
    ],
)
def robust_scale(answer):
    """The reader's normalisation: nothing may depend on the air, and little on a bright spot."""
    image, mask = _scan()
    got = number_array(call(answer, image.copy()), image.shape)
    if isinstance(got, str):
        return got
    if np.any(got[:, ~mask]):
        return "the background is 0 before, and must be 0 after"
    wider = np.pad(image, ((0, 0), (6, 6), (6, 6), (6, 6)))
    moved = np.asarray(call(answer, wider))[:, 6:-6, 6:-6, 6:-6]
    if not np.abs(moved - got)[:, mask].max() <= 0.01:  # a NaN is wrong too
        return "with more air around the same head, the same tissue gets other values"
    spiked = image.copy()
    place = tuple(np.argwhere(mask)[mask.sum() // 2])
    for channel in spiked:
        channel[place] += SPIKE * channel[mask].std()
    rest = mask.copy()
    rest[place] = False
    if not np.abs(np.asarray(call(answer, spiked)) - got)[:, rest].max() <= 0.3:
        return "one bright voxel among the brain's still moves all the others"
    spread = got[:, mask].std(axis=1)
    if spread.min() < LEAST_SPREAD or spread.max() > MOST_SPREAD:
        return f"the tissue's standard deviation should be near 1 in each modality, not {spread.round(2).tolist()}"
    return None
