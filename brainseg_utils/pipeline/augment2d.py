"""Random changes of a batch of slices: places, intensities, and sequences that were never acquired.

Each sample's changes are drawn from its own generator, so that a sample does not depend on the batch it is in; they are
applied to the whole batch at once. Images are (N, 3 m, S, S) float32, centred on 0 with a spread of 1: m slices of T1,
FLAIR and T1 with contrast; the slices of a sample and the channels of a sequence share what is done to them.

In the LGG set a sequence that was not acquired is filled with FLAIR (Buda 2019); a network that has never seen this
relies on the contrast, so it is imitated here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

PRE, FLAIR, POST = 0, 1, 2
KNOTS = 5  # a side of the elastic field's grid
BIAS_KNOTS = 3
BLUR_REACH = 3  # pixels on each side


@dataclass(frozen=True)
class Augment2D:
    """The course's changes; each strength is the largest, drawn evenly between it and its opposite.

    Attributes:
        rotation: degrees.
        scale: logarithm of the enlargement.
        shift: share of the slice's width, along rows and columns.
        flip: probability of a left-right flip.
        elastic: standard deviation of the knots' displacement, share of the width.
        gain: logarithm of the contrast factor of a sequence.
        offset: brightness of a sequence, in standard deviations of the brain.
        gamma: logarithm of the exponent of a sequence, applied to the distance from the brain's median.
        bias: standard deviation of a smooth brightness field.
        blur: probability; the sd is .4 to 1.2 pixels.
        noise: probability; the sd is up to .15.
        post_missing, pre_missing, both_missing: probabilities that FLAIR stands in a sequence's place.
        zero_missing: probability that T1 with or without contrast is blank.
    """

    rotation: float = 22.0
    scale: float = 0.25
    shift: float = 0.12
    flip: float = 0.5
    elastic: float = 0.012
    gain: float = 0.2
    offset: float = 0.25
    gamma: float = 0.2
    bias: float = 0.15
    blur: float = 0.15
    noise: float = 0.3
    post_missing: float = 0.07
    pre_missing: float = 0.04
    both_missing: float = 0.06
    zero_missing: float = 0.03

    def __call__(
        self, image: torch.Tensor, label: torch.Tensor, generators: Sequence[np.random.Generator]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Changes a batch.

        Args:
            image: (N, 3 m, S, S).
            label: uint8 (N, 1, S, S).
            generators: one a sample.

        Returns:
            New tensors of the same shapes and types.
        """
        grid = torch.cat([self._grid(rng, image.shape[-1]) for rng in generators])
        image = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
        moved = F.grid_sample(label.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        for sample, rng in zip(image, generators, strict=True):
            sequences = sample.unflatten(0, (-1, 3))  # (m, 3, S, S), a view
            self._drop(sequences, rng)
            self._change(sequences, rng)
        return image, (moved >= 0.5).to(torch.uint8)

    def _grid(self, rng: np.random.Generator, size: int) -> torch.Tensor:
        """Where each pixel is read from: (1, S, S, 2) in -1..1, columns first."""
        angle = math.radians(rng.uniform(-self.rotation, self.rotation))
        zoom = math.exp(rng.uniform(-self.scale, self.scale))
        mirror = -1.0 if rng.random() < self.flip else 1.0
        c, s = math.cos(angle) / zoom, math.sin(angle) / zoom
        dx, dy = 2 * rng.uniform(-self.shift, self.shift, 2)
        places = (torch.arange(size, dtype=torch.float32) * 2 + 1) / size - 1  # of the pixels' centres
        rows, columns = places[:, None], places[None, :]
        moved = _smooth(rng.normal(0, 2 * self.elastic, (2, KNOTS, KNOTS)), size)
        moved[0] += mirror * c * columns - s * rows + dx
        moved[1] += mirror * s * columns + c * rows + dy
        return moved.permute(1, 2, 0)[None]

    def _drop(self, sequences: torch.Tensor, rng: np.random.Generator) -> None:
        draw, which = rng.random(), int(rng.integers(2))
        thresholds = np.cumsum([self.post_missing, self.pre_missing, self.both_missing, self.zero_missing])
        case = int(np.searchsorted(thresholds, draw, side="right"))
        if case in (0, 2):
            sequences[:, POST] = sequences[:, FLAIR]
        if case in (1, 2):
            sequences[:, PRE] = sequences[:, FLAIR]
        if case == 3:
            sequences[:, (PRE, POST)[which]] = 0

    def _change(self, sequences: torch.Tensor, rng: np.random.Generator) -> None:
        size = sequences.shape[-1]
        gain = torch.tensor(np.exp(rng.uniform(-self.gain, self.gain, 3)), dtype=torch.float32)
        offset = torch.tensor(rng.uniform(-self.offset, self.offset, 3), dtype=torch.float32)
        gamma = torch.tensor(np.exp(rng.uniform(-self.gamma, self.gamma, 3)), dtype=torch.float32)
        bias = _smooth(rng.normal(0, self.bias, (3, BIAS_KNOTS, BIAS_KNOTS)), size)
        curved = sequences.abs().pow_(gamma[:, None, None]).mul_(gain[:, None, None])
        torch.copysign(curved, sequences, out=sequences)
        sequences.add_(bias + offset[:, None, None])
        if rng.random() < self.blur:
            sequences.copy_(blurred(sequences, rng.uniform(0.4, 1.2)))
        if rng.random() < self.noise:
            noise = rng.standard_normal(tuple(sequences.shape), dtype=np.float32)
            sequences.add_(torch.from_numpy(noise), alpha=rng.uniform(0, 0.15))


def blurred(planes: torch.Tensor, sd: float) -> torch.Tensor:
    """(m, C, S, S) under a Gaussian of `sd` pixels; the border pixels are repeated outwards."""
    reach = torch.arange(-BLUR_REACH, BLUR_REACH + 1, dtype=torch.float32)
    weights = torch.exp(-((reach / sd) ** 2) / 2)
    weights = weights / weights.sum()
    for axis in (-2, -1):
        size = planes.shape[axis]
        around = torch.arange(-BLUR_REACH, size + BLUR_REACH).clamp(0, size - 1)
        wide = planes.index_select(axis, around)
        views = [weight * wide.narrow(axis, n, size) for n, weight in enumerate(weights.tolist())]
        planes = torch.stack(views).sum(0)
    return planes


def _smooth(knots: np.ndarray, size: int) -> torch.Tensor:
    """(C, k, k) knots to (C, size, size), cubic between them."""
    weights = _cubic(knots.shape[-1], size)
    return weights @ torch.from_numpy(knots.astype(np.float32)) @ weights.T


@lru_cache
def _cubic(knots: int, size: int) -> torch.Tensor:
    """(size, k): what each knot adds to each place of a line, the same as a bicubic interpolation, done once."""
    lines = torch.eye(knots)[None, None]
    weights = F.interpolate(lines, size=(size, knots), mode="bicubic", align_corners=True)
    return weights[0, 0].contiguous()
