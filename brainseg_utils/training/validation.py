"""How well a network does on cases that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from brainseg_utils.training.data import Batch, Sources

THRESHOLD = 0.5


@dataclass
class Validation:
    """One look at the validation cases.

    Attributes:
        loss: mean over voxels' batches, each weighted by its images.
        dice: class to the mean over cases of the Dice of a case's slices or patches pooled; 1 where a class is empty in
            both truth and prediction.
        by_case: (case, class) order as `dice`.
        example: the batch with the most of the first class, and its probabilities, for a picture.
    """

    loss: float
    dice: dict[str, float]
    by_case: dict[str, list[float]] = field(default_factory=dict)
    example: tuple[Batch, Tensor] | None = None

    @property
    def mean_dice(self) -> float:
        """Mean over classes."""
        return float(np.mean(list(self.dice.values())))


@torch.no_grad()
def validate(
    network: nn.Module,
    sources: Sources,
    loss: nn.Module,
    accelerator: Accelerator,
    run: Callable[[nn.Module, Tensor], Tensor],
) -> Validation:
    """Scores a network on all validation batches, each device its share; the network's own mode is put back.

    Args:
        network: not wrapped.
        sources: with validation batches.
        loss: the training loss.
        accelerator: of the run.
        run: network and images, on the device, to logits at the label's size.
    """
    mode = network.training
    network.eval()  # no dropout, and batch norm with its own statistics, which must not learn from validation cases
    counts: dict[str, np.ndarray] = {}
    total, images, best, example = 0.0, 0, -1, None
    for number, batch in enumerate(sources.validation or ()):
        if number % accelerator.num_processes != accelerator.process_index:
            continue
        image, truth = batch["image"].to(accelerator.device), batch["label"].to(accelerator.device)
        logits = run(network, image).float()
        total += float(loss(logits, truth)) * len(image)
        images += len(image)
        probability, found, wanted = _masks(logits, truth, sources.exclusive)
        for case, f, w in zip(batch["case"], found, wanted, strict=True):
            counts[case] = counts.get(case, 0) + _counts(f, w)
        if int(wanted[:, 0].sum()) > best:
            best, example = int(wanted[:, 0].sum()), (batch, probability.cpu())
    network.train(mode)
    gathered = gather_object([(total, images, counts)]) if accelerator.num_processes > 1 else [(total, images, counts)]
    return _summary(gathered, sources.classes, example)


def _masks(logits: Tensor, truth: Tensor, exclusive: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities, predicted and true masks (N, classes, ...), background left out."""
    if not exclusive:
        probability = torch.sigmoid(logits)
        return probability, probability >= THRESHOLD, truth > 0.5
    probability = torch.softmax(logits, dim=1)[:, 1:]
    classes = torch.arange(1, logits.shape[1], device=logits.device).reshape(1, -1, *[1] * (logits.ndim - 2))
    return probability, logits.argmax(1, keepdim=True) == classes, truth == classes


def _counts(found: Tensor, wanted: Tensor) -> np.ndarray:
    """(3, classes): both, found, wanted."""
    sums = [(found & wanted).flatten(1).sum(1), found.flatten(1).sum(1), wanted.flatten(1).sum(1)]
    return torch.stack(sums).cpu().numpy()


def _summary(
    gathered: list[tuple[float, int, dict[str, np.ndarray]]],
    classes: tuple[str, ...],
    example: tuple[Batch, Tensor] | None,
) -> Validation:
    counts: dict[str, np.ndarray] = {}
    for _, _, part in gathered:
        for case, values in part.items():
            counts[case] = counts.get(case, 0) + values
    by_case: dict[str, list[float]] = {}
    for case in sorted(counts):
        both, found, wanted = counts[case].astype(float)
        by_case[case] = [2 * b / (f + w) if f + w else 1.0 for b, f, w in zip(both, found, wanted, strict=True)]
    means = np.mean(list(by_case.values()), axis=0)
    loss = sum(t for t, _, _ in gathered) / max(sum(n for _, n, _ in gathered), 1)
    return Validation(loss, dict(zip(classes, map(float, means), strict=True)), by_case, example)
