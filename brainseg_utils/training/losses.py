"""What a network is trained to make small: a number from logits and truth.

All of them take logits (N, K, ...), whatever the number of axes, and compute in float32 also where the network ran in
bf16: bf16 has 8 bits of precision, in which log(sigmoid(x)) of a confident voxel is exactly 0 or minus infinity.
`sigmoid` losses want a truth of the same shape with values 0 to 1, one channel a region; `softmax` losses want class
numbers (N, 1, ...), 0 the background.

Sources: Dice, Milletari 2016 (arXiv 1606.04797); Combo, Taghanaki 2019 (arXiv 1805.02798) and report R2; Focal, Lin
2017 (arXiv 1708.02002); boundary, Kervadec 2019 (arXiv 1812.07032). Where MONAI has the loss, a test compares values.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from brainseg_utils.errors import SettingError, unknown

SMOOTH = 1e-5  # R4's, MONAI's default: what keeps 0 / 0 from being computed
HEAD_DECAY = 0.5  # weight of each auxiliary head, relative to the finer one before it


class BCE(nn.Module):
    """Binary cross-entropy, mean over voxels and channels.

    Example:
        >>> float(BCE()(torch.zeros(1, 1, 2), torch.ones(1, 1, 2)))  # ln 2: as good as a coin
        0.6931471824645996
    """

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """(N, K, ...) and (N, K, ...) to a scalar."""
        return F.binary_cross_entropy_with_logits(logits.float(), truth.float())


class CE(nn.Module):
    """Cross-entropy of a softmax over classes, mean over voxels."""

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """(N, K, ...) and (N, 1, ...) to a scalar."""
        return F.cross_entropy(logits.float(), truth[:, 0].long())


class Dice(nn.Module):
    """One minus the soft Dice, 2 Σpt / (Σp + Σt), mean over channels (and images).

    Where truth and prediction are both empty the loss is about 0; an empty truth with a prediction that is not costs
    nearly 1, however small the prediction: that is why it is not used alone on slices without tumour.

    Args:
        batch: sum over the images too, so that an empty slice does not stand alone.
        softmax: class numbers instead of region channels.
        background: with softmax, count class 0.
    """

    def __init__(self, batch: bool = False, softmax: bool = False, background: bool = True) -> None:
        super().__init__()
        if not (softmax or background):
            raise SettingError("background = false without softmax", expected="no background channel to leave out")
        self.batch, self.softmax, self.background = batch, softmax, background

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Logits and truth to a scalar."""
        return self.each(logits, truth).mean()

    def each(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The losses one by one: (N, K), or (1, K) with `batch`."""
        probability, target = _both(logits, truth, self.softmax)
        if not self.background:
            probability, target = probability[:, 1:], target[:, 1:]
        axes = [0, *range(2, logits.ndim)] if self.batch else list(range(2, logits.ndim))
        shared = (probability * target).sum(axes, keepdim=True)
        total = probability.sum(axes, keepdim=True) + target.sum(axes, keepdim=True)
        return (1 - (2 * shared + SMOOTH) / (total + SMOOTH)).flatten(1)


class Focal(nn.Module):
    """Cross-entropy in which a voxel with probability p of its true class counts (1 - p)^gamma, mean.

    Args:
        gamma: how much the easy voxels are turned down; 0 is cross-entropy.
        softmax: class numbers instead of region channels; then the mean is over classes too, as MONAI's.
    """

    def __init__(self, gamma: float = 2.0, softmax: bool = False) -> None:
        super().__init__()
        self.gamma, self.softmax = gamma, softmax

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Logits and truth to a scalar."""
        if self.softmax:
            log_p = F.log_softmax(logits.float(), dim=1)
            target = one_hot(truth, logits.shape[1])
            return (-((1 - log_p.exp()) ** self.gamma) * log_p * target).mean()
        x, t = logits.float(), truth.float()
        entropy = F.binary_cross_entropy_with_logits(x, t, reduction="none")
        log_wrong = F.logsigmoid(-x * (2 * t - 1))  # log of the probability of the wrong answer: never log(1 - p)
        return (torch.exp(self.gamma * log_wrong) * entropy).mean()


class Filled(nn.Module):
    """Mean distance from a truth in the voxels that have one; elsewhere it is NaN (`masked.Masked`).

    Example:
        >>> float(Filled()(torch.tensor([[[1.0, 5.0]]]), torch.tensor([[[3.0, torch.nan]]])))
        2.0
    """

    def forward(self, values: Tensor, truth: Tensor) -> Tensor:
        """(N, C, ...) and (N, C, ...) to a scalar; 0 where nothing has a truth."""
        there = ~truth.isnan()
        distance = (values.float() - truth.nan_to_num().float()).abs()
        return (distance * there).sum() / there.sum().clamp(min=1)


class Sum(nn.Module):
    """Several losses, each with its weight."""

    def __init__(self, parts: Sequence[tuple[float, nn.Module]]) -> None:
        super().__init__()
        self.weights = [weight for weight, _ in parts]
        self.parts = nn.ModuleList(part for _, part in parts)

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Logits and truth to a scalar."""
        total = torch.zeros((), device=logits.device)
        for weight, part in zip(self.weights, self.parts, strict=True):
            total = total + weight * part(logits, truth)
        return total


class TumourSlices(nn.Module):
    """The Dice loss of each image that has tumour, mean over them; 0 where no image of the batch has any."""

    def __init__(self) -> None:
        super().__init__()
        self.dice = Dice()

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """(N, K, ...) and (N, K, ...) to a scalar."""
        present = (truth.flatten(2).amax(dim=2) > 0).float()  # (N, K)
        return (self.dice.each(logits, truth) * present).sum() / present.sum().clamp(min=1)


class Boundary(nn.Module):
    """Probability times the signed distance to the true boundary, in voxels, mean: far mistakes cost more.

    The distance is negative inside. An image without the region has no boundary and adds 0, so this loss is used
    together with one that sees regions. Computed on the CPU, for sigmoid truths.
    """

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """(N, K, ...) and (N, K, ...) to a scalar."""
        return (torch.sigmoid(logits.float()) * signed_distance(truth)).mean()


def signed_distance(truth: Tensor) -> Tensor:
    """(N, K, ...) masks to their signed distances in voxels: -1 and 1 at the two sides of the boundary, 0 if empty."""
    import edt

    masks = truth.detach().cpu().numpy() > 0.5
    distances = np.zeros(masks.shape, np.float32)
    for index in np.ndindex(masks.shape[:2]):
        mask = np.ascontiguousarray(masks[index])
        if mask.any() and not mask.all():
            distances[index] = edt.edt(~mask) - edt.edt(mask)
    return torch.from_numpy(distances).to(truth.device)


def combo(alpha: float = 0.7) -> nn.Module:
    """R2's loss: alpha · BCE + (1 - alpha) · Dice."""
    if not 0 <= alpha <= 1:
        raise SettingError(f"alpha = {alpha}", where="loss combo", expected="0 to 1")
    return Sum([(alpha, BCE()), (1 - alpha, Dice())])


def dice_focal(weight: float = 1.0, gamma: float = 2.0, softmax: bool = False) -> nn.Module:
    """Dice + weight · Focal (R3)."""
    return Sum([(1.0, Dice(softmax=softmax)), (weight, Focal(gamma, softmax))])


def dice_ce(weight: float = 1.0, softmax: bool = False, batch: bool = False) -> nn.Module:
    """Dice + weight · cross-entropy."""
    return Sum([(1.0, Dice(batch=batch, softmax=softmax)), (weight, CE() if softmax else BCE())])


def dice_boundary(weight: float = 0.01) -> nn.Module:
    """Dice + weight · boundary."""
    return Sum([(1.0, Dice()), (weight, Boundary())])


def slices(bce: float = 2.0, batch_dice: float = 1.0, slice_dice: float = 0.5) -> nn.Module:
    """The course's loss for slices: BCE, the Dice of the whole batch, and the Dice of each slice with tumour."""
    return Sum([(bce, BCE()), (batch_dice, Dice(batch=True)), (slice_dice, TumourSlices())])


LOSSES: Mapping[str, Callable[..., nn.Module]] = {
    "bce": BCE,
    "ce": CE,
    "dice": Dice,
    "combo": combo,
    "focal": Focal,
    "dice_focal": dice_focal,
    "dice_ce": dice_ce,
    "boundary": Boundary,
    "dice_boundary": dice_boundary,
    "slices": slices,
    "filled": Filled,
}


def check(name: str, options: Mapping[str, Any] | None = None) -> None:
    """Refuses a loss or an option that does not exist.

    Raises:
        SettingError: with the nearest name.
    """
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    known = inspect.signature(LOSSES[name]).parameters
    for option in options or {}:
        if option not in known:
            raise unknown("option", option, known, where=f"loss {name}")


def build(name: str, **options: Any) -> nn.Module:
    """A loss by name.

    Raises:
        SettingError: unknown loss or option, or a value that it cannot have.

    Example:
        >>> loss = build("combo", alpha=0.5)
        >>> round(float(loss(torch.full((1, 1, 4), -20.0), torch.zeros(1, 1, 4))), 3)
        0.0
    """
    check(name, options)
    return LOSSES[name](**options)


def deep(loss: nn.Module, outputs: Tensor | Sequence[Tensor], truth: Tensor) -> Tensor:
    """The loss of a network with auxiliary heads: each head half the weight of the finer one, weights adding up to 1.

    A coarse head is compared with the truth at its own size: region channels averaged, class numbers of the nearest
    voxel.
    """
    if isinstance(outputs, Tensor):
        return loss(outputs, truth)
    weights = [HEAD_DECAY**n for n in range(len(outputs))]
    total = torch.zeros((), device=truth.device)
    for weight, logits in zip(weights, outputs, strict=True):
        total = total + weight / sum(weights) * loss(logits, _shrink(truth, logits.shape[2:], logits.shape[1]))
    return total


def _shrink(truth: Tensor, size: Sequence[int], channels: int) -> Tensor:
    if truth.shape[2:] == tuple(size):
        return truth
    classes = truth.shape[1] == 1 and channels > 1
    return F.interpolate(truth.float(), size=tuple(size), mode="nearest" if classes else "area")


def one_hot(truth: Tensor, classes: int) -> Tensor:
    """Class numbers (N, 1, ...) to float channels (N, classes, ...)."""
    return F.one_hot(truth[:, 0].long(), classes).movedim(-1, 1).float()


def _both(logits: Tensor, truth: Tensor, softmax: bool) -> tuple[Tensor, Tensor]:
    if softmax:
        return torch.softmax(logits.float(), dim=1), one_hot(truth, logits.shape[1])
    return torch.sigmoid(logits.float()), truth.float()
