"""The course's own pipeline: robust normalisation over the brain, a crop to the brain, patches that find the tumour.

Normalisation comes first, so that an intensity change in sd means the same for every scan and nothing undoes it.
Rotation, scale and elastic deformation are one interpolation, not three. The strengths are the course's choice, near
those that gained .044 Dice on LGG slices in 2D.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform, RandFlipd, RandomizableTransform

from brainseg_utils.errors import unknown
from brainseg_utils.pipeline import arrays, augment
from brainseg_utils.pipeline.spacing import ToSpacingd
from brainseg_utils.pipeline.transforms import KEYS, CropBoxd, Imaged, Item, Step, brain_box, like

PERCENTILES = (0.5, 99.5)
MEDIAN_LIMITS = (-5.0, 6.0)
TONE_KNOTS = np.linspace(-4.0, 6.0, 6)  # sd of the normalised image
CENTRE_JITTER = 0.25  # a chosen tumour voxel lies this share of the patch, or less, from the patch's centre
NORMALISATIONS = ("zscore", "median")


def clip(image: np.ndarray) -> np.ndarray:
    """Clips each channel to percentiles .5 and 99.5 of the brain: a bright vessel no longer sets the scale."""
    return arrays.clip_percentiles(image, *PERCENTILES, arrays.brain_mask(image))


def zscore(image: np.ndarray) -> np.ndarray:
    """Z-score over the brain; the background is 0."""
    return arrays.zscore(image, arrays.brain_mask(image))


def median(image: np.ndarray) -> np.ndarray:
    """Median and p10-p90 spread over the brain, clipped to -5..6; the background is 0."""
    return arrays.median_scale(image, arrays.brain_mask(image), MEDIAN_LIMITS)


def draw_start(
    rng: np.random.Generator | np.random.RandomState,
    shape: Sequence[int],
    size: Sequence[int],
    point: Sequence[int] | np.ndarray | None = None,
) -> tuple[int, ...]:
    """Where a random patch starts.

    Args:
        rng: `uniform` is drawn once an axis.
        shape: X, Y, Z of the volume.
        size: of the patch. Along an axis where the patch is the larger, the start is negative: the volume is centred.
        point: a voxel that the patch must hold, near its centre; None: anywhere, all starts equally likely.
    """
    start = []
    for axis, (n, side) in enumerate(zip(shape, size, strict=True)):
        u = float(rng.uniform())
        room = n - side
        if room <= 0:
            start.append(room // 2)
        elif point is None:
            start.append(min(int(u * (room + 1)), room))
        else:
            jitter = round((2 * u - 1) * CENTRE_JITTER * side)
            start.append(min(max(int(point[axis]) - side // 2 + jitter, 0), room))
    return tuple(start)


class RandPatchd(RandomizableTransform, MapTransform):
    """A random patch; with a given probability one that holds tumour.

    The class is drawn first, then one of its voxels: a small lesion or a rare tissue is as likely as a large one.
    The loader draws its patches by the same rule without reading the rest of the volume.

    Args:
        size: X, Y, Z. Where the image is smaller it is padded with 0.
        foreground: probability of asking for tumour.
    """

    def __init__(self, size: Sequence[int], foreground: float) -> None:
        MapTransform.__init__(self, KEYS, allow_missing_keys=True)
        RandomizableTransform.__init__(self, 1.0)
        self.size, self.foreground = tuple(size), foreground

    def __call__(self, data: Mapping[Hashable, Any]) -> Item:
        """Crops image and label."""
        item = dict(data)
        point = None
        if self.R.uniform() < self.foreground and "label" in item:
            point = self._tumour_voxel(np.asarray(item["label"]))
        start = draw_start(self.R, item["image"].shape[1:], self.size, point)
        for key in self.key_iterator(item):
            item[key] = like(item[key], cut(np.asarray(item[key]), start, self.size))
        return item

    def _tumour_voxel(self, label: np.ndarray) -> np.ndarray | None:
        masks = [label[0] == n for n in np.unique(label) if n] if len(label) == 1 else [c > 0 for c in label if c.any()]
        if not masks:
            return None
        places = np.argwhere(masks[self.R.randint(len(masks))])
        return places[self.R.randint(len(places))]


def cut(array: np.ndarray, start: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """A patch of a (C, X, Y, Z) array; what lies outside the array is 0."""
    out = np.zeros((array.shape[0], *size), array.dtype)
    inside = [arrays.overlap(a, s, n) for a, s, n in zip(start, size, array.shape[1:], strict=True)]
    there = [slice(i.start - a, i.stop - a) for i, a in zip(inside, start, strict=True)]
    out[(slice(None), *there)] = array[(slice(None), *inside)]
    return out


class RandWarpd(RandomizableTransform, MapTransform):
    """Rotation, scale and elastic deformation of image (linear) and label (nearest) in one interpolation.

    Args:
        degrees: rotation about each axis is uniform within plus or minus this.
        log_scale: enlargement is exp(uniform within plus or minus this).
        elastic: sd of the displacement at the knots, in voxels.
        knot: distance of the knots in voxels.
        prob: how often.
    """

    def __init__(self, degrees: float, log_scale: float, elastic: float, knot: int, prob: float) -> None:
        MapTransform.__init__(self, KEYS, allow_missing_keys=True)
        RandomizableTransform.__init__(self, prob)
        self.degrees, self.log_scale, self.elastic, self.knot = degrees, log_scale, elastic, knot

    def __call__(self, data: Mapping[Hashable, Any]) -> Item:
        """Warps image and label by the same grid."""
        item = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return item
        shape = item["image"].shape[1:]
        turn = augment.rotation_matrix(
            self.R.uniform(-self.degrees, self.degrees, 3), np.exp(self.R.uniform(-self.log_scale, self.log_scale))
        )
        knots = [max(2, round(n / self.knot) + 1) for n in shape]
        field = torch.as_tensor(self.R.normal(0, self.elastic, (3, *knots)), dtype=torch.float32)
        grid = augment.sampling_grid(shape, turn, field)
        for key in self.key_iterator(item):
            item[key] = like(item[key], augment.warp(torch.as_tensor(np.asarray(item[key])), grid, key == "label"))
        return item


class RandImaged(RandomizableTransform, MapTransform):
    """Applies one of `augment`'s functions to the image, with drawn strengths.

    Args:
        draw: random state and number of channels to the function's arguments after the image.
        function: of `augment`.
        prob: how often.
    """

    def __init__(self, function: Callable[..., torch.Tensor], draw: Callable[..., tuple], prob: float) -> None:
        MapTransform.__init__(self, "image")
        RandomizableTransform.__init__(self, prob)
        self.function, self.draw = function, draw

    def __call__(self, data: Mapping[Hashable, Any]) -> Item:
        """Changes "image"."""
        item = dict(data)
        self.randomize(None)
        if self._do_transform:
            image = item["image"]
            plain = torch.as_tensor(np.asarray(image))
            item["image"] = like(image, self.function(plain, *self.draw(self.R, len(plain))))
        return item


def _gammas(rng: np.random.RandomState, channels: int) -> tuple:
    return (np.exp(rng.uniform(-0.3, 0.3, channels)),)


def _gains(rng: np.random.RandomState, channels: int) -> tuple:
    return np.exp(rng.uniform(-0.15, 0.15, channels)), rng.uniform(-0.15, 0.15, channels)


def _curves(rng: np.random.RandomState, channels: int) -> tuple:
    moves = rng.normal(0, 1, (channels, len(TONE_KNOTS))) * rng.uniform(0, 1, (channels, 1))
    return (np.stack([np.broadcast_to(TONE_KNOTS, moves.shape), TONE_KNOTS + moves], axis=2),)


def _bias(rng: np.random.RandomState, channels: int) -> tuple:
    return (torch.as_tensor(rng.normal(0, rng.uniform(0.03, 0.2), (channels, 3, 3, 3)), dtype=torch.float32),)


def _blur(rng: np.random.RandomState, channels: int) -> tuple:
    return (float(rng.uniform(0.4, 1.0)),)


def _noise(rng: np.random.RandomState, channels: int) -> tuple:
    return float(rng.uniform(0, 0.15)), torch.Generator().manual_seed(int(rng.randint(2**31)))


def _drop(rng: np.random.RandomState, channels: int) -> tuple:
    return ([int(rng.randint(channels))] if channels > 1 else [],)


def course(
    size: Sequence[int] = (128, 128, 128),
    normalise: str = "zscore",
    foreground: float = 0.5,
    spacing: float = 0.0,
    drop: float = 0.1,
    tone: float = 0.0,
) -> tuple[Step, ...]:
    """The course's pipeline.

    Args:
        size: of the patch.
        normalise: "zscore", or "median" (median and p10-p90 spread: worth .02 Dice on LGG).
        foreground: share of the patches that must hold tumour.
        spacing: voxel size in mm that scans are averaged to; 0: their own.
        drop: probability that a modality is dropped.
        tone: probability of new tone curves, for networks that go to scanners which the training cases do not know
            (from phantoms to real `develop` scans, two seeds: +.08 and -.04 Dice, not settled); 0: no such stage.

    Raises:
        SettingError: an unknown normalisation, or a negative spacing.
    """
    if normalise not in NORMALISATIONS:
        raise unknown("normalisation", normalise, NORMALISATIONS)
    scale = {
        "zscore": (
            Step("clip to percentiles .5-99.5 of the brain", "fixed", Imaged(clip)),
            Step("z-score over the brain", "fixed", Imaged(zscore)),
        ),
        "median": (Step("median and p10-p90 over the brain", "fixed", Imaged(median)),),
    }[normalise]
    side = "x".join(map(str, size))
    coarse = (Step(f"voxels of {spacing:g} mm", "fixed", ToSpacingd(spacing)),) if spacing else ()
    return (
        *coarse,
        *scale,
        Step("crop to the brain", "fixed", CropBoxd(brain_box)),
        Step(f"patch {side}, {foreground:.0%} with tumour", "patch", RandPatchd(size, foreground)),
        *(Step(f"flip {'XYZ'[a]}, p .5", "flip", _flip(a)) for a in range(3)),
        Step("rotate, scale, elastic", "random", RandWarpd(15, 0.2, elastic=2.0, knot=24, prob=0.5)),
        Step("gamma", "random", RandImaged(augment.gamma, _gammas, 0.3)),
        Step("gain and offset", "random", RandImaged(augment.gain_offset, _gains, 0.5)),
        Step("bias field", "random", RandImaged(augment.bias_field, _bias, 0.3)),
        Step("blur", "random", RandImaged(augment.blur, _blur, 0.15)),
        Step("noise", "random", RandImaged(augment.noise, _noise, 0.3)),
        *((Step("tone curves", "random", RandImaged(augment.tone_curve, _curves, tone)),) if tone else ()),
        Step("drop a modality", "random", RandImaged(augment.drop, _drop, drop)),
    )


def _flip(axis: int) -> RandFlipd:
    return RandFlipd(KEYS, prob=0.5, spatial_axis=axis, allow_missing_keys=True)
