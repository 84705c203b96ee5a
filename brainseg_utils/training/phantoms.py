"""Training samples from phantoms that are made while the network trains: no picture is ever seen twice.

A pool of geometries is kept in memory. Each draw takes one of them and renders it with fresh contrast; after a number
of draws the oldest geometry makes room for a new one. Which geometry draw d takes is a function of (seed, d), so a
resumed run makes the pool that the first one would have had, and goes on with the same pictures.

    draw d:    geometry g of d // uses, …, d // uses + pool - 1     (the pool is a window that moves slowly)
    sample n:  one of `patches` patches of a draw; the draws of `SPREAD` neighbours alternate
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from brainseg_utils.datasets.labels import get_scheme
from brainseg_utils.datasets.layouts import MODALITIES
from brainseg_utils.phantom.geometry import geometry
from brainseg_utils.phantom.looks import Look, shapes
from brainseg_utils.phantom.packed import Packed, pack
from brainseg_utils.phantom.parameters import default
from brainseg_utils.phantom.redraw import redraw
from brainseg_utils.pipeline.arrays import P10_TO_P90_IN_SD
from brainseg_utils.pipeline.course import MEDIAN_LIMITS, PERCENTILES, cut, draw_start
from brainseg_utils.pipeline.reading import empty
from brainseg_utils.pipeline.registry import live_part
from brainseg_utils.seeds import stream
from brainseg_utils.training.data import Batch
from brainseg_utils.training.samples3d import lose_modalities, target

SPREAD = 4  # draws whose patches alternate, so that the patches of one head are not in one batch
SCHEME = get_scheme("brats2024")  # a geometry's label is its class numbers
SPARSE = 4  # every so many voxels are enough for a percentile


@dataclass(frozen=True)
class Making:
    """What is made and how often; the options of data kind "phantoms" (`volumes.phantoms`)."""

    spacing: int = 2
    difficulty: str = "normal"
    post: float = 0.0
    healthy: float = 0.08
    lgg: float = 0.16
    pool: int = 48
    uses: int = 32
    patches: int = 2
    wild: float = 0.0
    rough: float = 0.0
    faint: float = 0.0
    cysts: float = 0.0
    alike: float = 0.0
    band: float = 0.0
    small: float = 0.0
    coarse: float = 0.0
    normalisation: str = "zscore"
    lesion_weight: tuple[float, float] = (0.0, 1.6)
    foreground: float = 0.5
    flips: tuple[int, ...] = (0,)
    augment: float = 0.3
    tone: float = 0.0
    dropout: float = 0.0


class Phantoms:
    """Samples for `training.data.Samples`.

    Args:
        size: X, Y, Z of a patch.
        seed: of everything.
        making: what is made.
        modalities: channels, in order.
        regions: names of the target's channels, or of its classes.
        exclusive: the target is class numbers.
    """

    def __init__(
        self,
        size: Sequence[int],
        seed: int,
        making: Making,
        modalities: Sequence[str] = MODALITIES,
        regions: Sequence[str] = ("ET", "TC", "WT"),
        exclusive: bool = False,
    ) -> None:
        self.size, self.seed, self.making = tuple(size), seed, making
        self.channels = [MODALITIES.index(name) for name in modalities]
        self.regions, self.exclusive = tuple(regions), exclusive
        self.look = Look(making.wild, making.rough, making.faint, making.cysts, making.alike)
        self.cohort = int(stream(seed, "phantoms of training").integers(2**31))  # not a cohort that someone wrote
        self.pool: dict[int, Packed] = {}
        self.drawn: OrderedDict[int, tuple[int, np.ndarray]] = OrderedDict()
        self.change = live_part("course", size=self.size, drop=0.0, tone=making.tone)

    def __len__(self) -> int:
        """Samples after which the pool is another one."""
        return self.making.pool * self.making.uses * self.making.patches

    def batch(self, numbers: Sequence[int], channels_last: bool = False) -> Batch:
        """ "image" (N, C, X, Y, Z) float32, "label" (N, L, X, Y, Z) uint8 and "case" of these samples."""
        images = empty((len(numbers), len(self.channels), *self.size), channels_last)
        labels, cases = [], []
        for number, out in zip(numbers, images, strict=True):
            label, index = self._sample(number, out)
            labels.append(label)
            cases.append(f"phantom-{index}")
        return {"image": images, "label": torch.stack(labels), "case": cases}

    def _sample(self, number: int, out: torch.Tensor) -> tuple[torch.Tensor, int]:
        making = self.making
        block, place = divmod(number, SPREAD * making.patches)
        index, volume = self._draw(block * SPREAD + place % SPREAD)
        case = self.pool[index]
        rng = stream(self.seed, "patch of phantom", number)
        point = None
        if case.points and rng.random() < making.foreground:
            voxels = case.points[rng.integers(len(case.points))]
            point = voxels[rng.integers(len(voxels))]
        start = draw_start(rng, case.shape, self.size, point)
        axes = [axis + 1 for axis in making.flips if rng.random() < 0.5]
        image = torch.from_numpy(np.flip(cut(volume, start, self.size), axes).copy())
        label = torch.from_numpy(np.flip(cut(case.label[None], start, self.size), axes).copy())
        if rng.random() < making.augment:
            self.change.set_random_state(seed=int(rng.integers(2**32)))
            item: Any = self.change({"image": image, "label": label})
            image, label = (torch.as_tensor(item[key]) for key in ("image", "label"))
        out.copy_(image)
        lose_modalities(out, making.dropout, rng)
        return target(label, SCHEME, self.regions, self.exclusive), index

    def _draw(self, number: int) -> tuple[int, np.ndarray]:
        """Geometry and normalised picture (C, X, Y, Z) of a draw; the last few are kept for their other patches."""
        if number not in self.drawn:
            making = self.making
            first = number // making.uses
            rng = stream(self.seed, "draw of phantom", number)
            index = first + int(rng.integers(making.pool))
            case = self._geometry(index, first)
            seen = redraw(case, rng, self.look)[self.channels]
            weight = float(rng.uniform(*making.lesion_weight))
            volume = np.zeros((len(self.channels), *case.shape), np.float32)
            inside = volume.reshape(len(volume), -1)
            inside[:, case.kept[case.brain]] = normalise(seen, case.tumour, weight, making.normalisation)
            self.drawn[number] = (index, volume)
            while len(self.drawn) > SPREAD:
                self.drawn.popitem(last=False)
        return self.drawn[number]

    def _geometry(self, index: int, first: int) -> Packed:
        if index not in self.pool:
            kept = {self.drawn[number][0] for number in self.drawn}
            for old in [i for i in self.pool if not first <= i < first + self.making.pool and i not in kept]:
                del self.pool[old]
            self.pool[index] = self.make(index)
        return self.pool[index]

    def make(self, index: int) -> Packed:
        """Geometry number `index` of the run."""
        making = self.making
        after = stream(self.seed, "treatment of phantom", index).random() < making.post
        high_grade = {kind: share for kind, share in default().tumour.pre.items() if kind != "lgg"}
        unit = (1 - making.lgg) / sum(high_grade.values())
        before = {"lgg": making.lgg, **{kind: unit * share for kind, share in high_grade.items()}}
        coarse = making.coarse > 0 and stream(self.seed, "voxels of phantom", index).random() < making.coarse
        case = geometry(
            self.cohort,
            index,
            treatment="post" if after else "pre",
            spacing=2 if coarse else making.spacing,
            difficulty=making.difficulty,
            healthy=making.healthy,
            weights=None if after else before,
            parameters=shapes(stream(self.seed, "parameters of phantom", index), making.band, making.small),
        )
        return pack(case)


def normalise(values: np.ndarray, tumour: np.ndarray, weight: float = 1.0, kind: str = "zscore") -> np.ndarray:
    """The course's normalisation of brain voxels (`pipeline.course`), with the tumour counted more or less than it is.

    How bright healthy tissue comes out depends on how large the lesion is, since mean and spread are taken over both. A
    network that has seen lesions of one size range learns these numbers; a random weight takes that away from it.

    Args:
        values: (C, M) intensities of the brain's voxels; changed.
        tumour: (M,), which of them are labelled.
        weight: of a tumour voxel in mean and spread; 1 is what a scan gets when it is predicted.
        kind: "zscore" or "median".

    Returns:
        float32 (C, M).
    """
    some = values[:, ::SPARSE]
    if kind == "median":
        rest, lesion = some[:, ~tumour[::SPARSE]], some[:, tumour[::SPARSE]]
        times, share = divmod(weight, 1.0)
        lesion = np.concatenate([lesion] * int(times) + [lesion[:, : round(share * lesion.shape[1])]], axis=1)
        low, middle, high = np.percentile(np.concatenate([rest, lesion], axis=1), (10, 50, 90), axis=1)
        spread = np.maximum(high - low, 1e-6) / P10_TO_P90_IN_SD
        scaled = (values - middle[:, None].astype(np.float32)) / spread[:, None].astype(np.float32)
        return np.clip(scaled, *MEDIAN_LIMITS)
    low, high = np.percentile(some, PERCENTILES, axis=1).astype(np.float32)
    np.clip(values, low[:, None], high[:, None], out=values)
    weights = np.where(tumour, np.float32(weight), np.float32(1))
    weights /= weights.sum()
    values -= (values @ weights)[:, None]
    values /= np.sqrt(np.maximum(np.square(values) @ weights, 1e-12))[:, None]
    return values
