"""What a generator and a discriminator play: who gets which part of a batch, and what each is to minimise.

    painting       generator: scan with a hole, label, contrast → scan        discriminator: scan and label → logits
    mask drawing   generator: scan → mask (report R1's)                       discriminator: scan and mask → logits

Sources: hinge loss, Lim and Ye (arXiv 1705.02894); least squares, Mao et al. (arXiv 1611.04076); feature matching, Wang
et al. (arXiv 1711.11585).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from brainseg_utils.models.painter import contrast_code, hole_of, one_hot
from brainseg_utils.training.data import Batch

CERTAIN = 1e-6  # a sigmoid's output is kept so far from 0 and 1 before it is turned back into a logit
WINDOW = 4  # voxels a side in which mean and spread are compared
SCALES = 3  # sizes of the scan, each half of the one before, at which the spread is compared
VOXELS = 0.5  # weight of the distance voxel by voxel
LEAST_VARIANCE = 1e-3  # keeps the gradient of a standard deviation finite where tissue is even
NONE = 1e-6  # a sum of weights below this is none
SEEN = 0.01  # share of the voxels under a logit that must lie in the hole


@dataclass(frozen=True)
class Turn:
    """One part of a batch, as both players see it.

    Attributes:
        given: what the generator is called with.
        beside: what the discriminator sees beside the thing it judges.
        real: the real thing, (N, C, X, Y, Z).
        hole: boolean (N, 1, X, Y, Z), where real and made differ.
        code: (N, T, C) contrast codes, NaN for a tissue that is not there; None where the game has none.
    """

    given: tuple[Tensor, ...]
    beside: Tensor
    real: Tensor
    hole: Tensor
    code: Tensor | None = None


class Game(Protocol):
    """Rules of a game."""

    def turn(self, batch: Batch, device: torch.device) -> Turn:
        """A batch of class numbers as both players see it."""
        ...

    def judge(self, discriminator: nn.Module, turn: Turn, thing: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits (above 0: taken for real) and features of a real or a made thing."""
        ...


class Painting:
    """The painter's game."""

    def turn(self, batch: Batch, device: torch.device) -> Turn:
        """As `Game.turn`; the code is that of the real patch."""
        image, label = batch["image"].to(device), batch["label"].to(device)
        layers, hole = one_hot(label), hole_of(label, (image != 0).any(dim=1, keepdim=True))
        code = contrast_code(image, layers)
        there = layers.flatten(2).any(dim=2)[..., None]
        return Turn((image, hole, layers, code), layers, image, hole, code.masked_fill(~there, torch.nan))

    def judge(self, discriminator: nn.Module, turn: Turn, thing: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As `Game.judge`."""
        return discriminator(thing, turn.beside)


class MaskDrawing:
    """R1's game: the tumour's mask beside the scan, real or drawn."""

    def turn(self, batch: Batch, device: torch.device) -> Turn:
        """As `Game.turn`; the hole is everywhere."""
        image, label = batch["image"].to(device), batch["label"].to(device)
        return Turn((image,), image, (label > 0).float(), torch.ones_like(label, dtype=torch.bool))

    def judge(self, discriminator: nn.Module, turn: Turn, thing: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As `Game.judge`; R1's discriminator ends in a sigmoid."""
        probability = discriminator(torch.cat([turn.beside, thing], dim=1)).float()
        return torch.logit(probability.clamp(CERTAIN, 1 - CERTAIN)), []


GAMES: dict[str, Any] = {"painter": Painting, "generator_r1": MaskDrawing}


def focus(hole: Tensor, size: Sequence[int]) -> Tensor:
    """Which logits or features see the hole, as weights that add up to 1: (N, 1, *size).

    Real and made are the same outside the hole: logits there say nothing of the generator.
    """
    share = F.adaptive_avg_pool3d(hole.float(), (size[0], size[1], size[2]))
    seen = (share > SEEN).float()
    return seen / seen.sum().clamp(min=1)


def discriminator_loss(kind: str, real: Tensor, made: Tensor, weights: Tensor) -> Tensor:
    """What the discriminator minimises: half for the real, half for the made.

    Args:
        kind: "hinge", "least_squares" or "bce".
        real, made: logits (N, 1, …).
        weights: of `focus`.

    Example:
        >>> real, made, weights = torch.tensor([0.5]), torch.tensor([-2.0]), torch.ones(1)
        >>> kinds = ("hinge", "least_squares", "bce")
        >>> [round(float(discriminator_loss(kind, real, made, weights)), 3) for kind in kinds]
        [0.25, 0.625, 0.301]
    """
    real, made = real.float(), made.float()
    if kind == "hinge":
        values = F.relu(1 - real) + F.relu(1 + made)
    elif kind == "least_squares":  # the wanted answers are 1 and -1, so that 0 parts them as in the others
        values = (real - 1) ** 2 + (made + 1) ** 2
    else:
        values = F.softplus(-real) + F.softplus(made)
    return 0.5 * (weights * values).sum()


def generator_loss(kind: str, made: Tensor, weights: Tensor) -> Tensor:
    """What the generator minimises: that the discriminator takes its work for real."""
    made = made.float()
    values = {"hinge": -made, "least_squares": (made - 1) ** 2, "bce": F.softplus(-made)}[kind]
    return (weights * values).sum()


def accuracy(real: Tensor, made: Tensor, weights: Tensor) -> Tensor:
    """Share of the logits on the right side of 0, half the real and half the made: .5 is guessing."""
    return 0.5 * (weights * ((real > 0).float() + (made < 0).float())).sum()


def reconstruction(made: Tensor, real: Tensor, hole: Tensor) -> Tensor:
    """How far local mean and local spread are from the real tissue's, over the windows that see the hole.

    A distance voxel by voxel is least for a smooth painting: no generator can guess the noise and the grain of tissue
    that it has not seen, and the middle of all guesses is smooth. Mean and standard deviation of windows of 8 mm (at
    2 mm) can be guessed from what is around; where in the window the grain lies is left to the discriminator. The
    spread is compared again with the scan at half the size and at a quarter: white noise and fine stripes average out
    there, clumps do not, so the grain gets its size, too. The distance of voxels is added with half the weight, for
    borders that are finer than a window.

    Args:
        made, real: (N, C, X, Y, Z).
        hole: boolean (N, 1, X, Y, Z).
    """
    inside = hole.float()
    total = VOXELS * _mean_where((made - real).abs(), inside)
    for scale in range(SCALES):
        if min(made.shape[2:]) < WINDOW:
            break
        (mean, spread), (true_mean, true_spread) = (_windows(one) for one in (made, real))
        far = (spread - true_spread).abs()
        if scale == 0:
            far = far + (mean - true_mean).abs()
        total = total + _mean_where(far, F.avg_pool3d(inside, WINDOW, WINDOW // 2))
        made, real, inside = (F.avg_pool3d(one, 2) for one in (made, real, inside))
    return total


def _windows(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of windows that overlap by half."""
    mean = F.avg_pool3d(image, WINDOW, WINDOW // 2)
    variance = F.avg_pool3d(image * image, WINDOW, WINDOW // 2) - mean * mean
    return mean, (variance.clamp(min=0) + LEAST_VARIANCE).sqrt()


def _mean_where(values: Tensor, weights: Tensor) -> Tensor:
    return (weights * values).sum() / (weights.sum().clamp(min=NONE) * values.shape[1])


def feature_distance(made: Sequence[Tensor], real: Sequence[Tensor], hole: Tensor) -> Tensor:
    """Mean absolute difference of the features that see the hole, over the layers."""
    parts = [
        (focus(hole, one.shape[2:]) * (one.float() - other.float()).abs()).sum() / one.shape[1]
        for one, other in zip(made, real, strict=True)
    ]
    return torch.stack(parts).mean() if parts else hole.new_zeros((), dtype=torch.float32)
