"""Whether data, network and loss of a recipe belong together, asked before the first step; and a stop where a number is
none."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from brainseg_utils.errors import BrainsegError, SettingError
from brainseg_utils.training import batches, checkpoints, device, memory
from brainseg_utils.training.data import Batch, Sources
from brainseg_utils.training.recipe import Recipe
from brainseg_utils.training.run import Run

OPTIMISERS: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
ARGUMENTS = {"rate": "lr", "decay": "weight_decay", "momentum": "momentum"}


def make_optimiser(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimiser; decay acts on weights of two or more axes, not on biases and norms."""
    options = {ARGUMENTS[name]: value for name, value in recipe.optimiser.options.items()}
    if "weight_decay" not in options:
        return OPTIMISERS[recipe.optimiser.name](network.parameters(), **options)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in network.parameters() if p.ndim > 1]},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return OPTIMISERS[recipe.optimiser.name]([group for group in groups if group["params"]], **options)


def check_fit(
    recipe: Recipe, network: nn.Module, sources: Sources, processes: int, kind: torch.device
) -> tuple[memory.Forecast, bool]:
    """Runs one part of a batch through the network on paper.

    Args:
        recipe: of the run.
        network: on any device.
        sources: of the run.
        processes: how many share a batch.
        kind: the device of each.

    Returns:
        The forecast of the memory, with the shapes of the outputs; and whether the network computes in bf16.

    Raises:
        SettingError: the output is not the label's size, the loss is for other labels, or bf16 would go wrong.
    """
    softmax = bool(recipe.loss.options.get("softmax")) or recipe.loss.name == "ce"
    if softmax != sources.exclusive:
        raise SettingError(
            f"loss {recipe.loss.name} {'with' if softmax else 'without'} softmax",
            expected="softmax = true for class numbers, none for region channels",
            remedy=f"this data has {'class numbers' if sources.exclusive else 'region channels'}",
        )
    sample = sources.train.batch([0])
    size = batches.part_size(recipe.budget.batch, recipe.engine.accumulate, processes)
    shape = (size, *sample["image"].shape[1:])
    half = device.uses_bf16(recipe.engine.precision, kind)
    try:
        half = half and _bf16_is_right(recipe, network, shape, kind)
        expected = memory.forecast(network, shape, recipe.optimiser.name, bool(recipe.engine.ema), half)
    except (RuntimeError, ValueError) as error:  # ValueError: batch norm of a single value
        raise SettingError(
            f"images of {_by(shape[2:])} do not pass through network {recipe.network.name} ({error})",
            remedy="change data.size or the network's options",
        ) from None
    found, wanted = expected.outputs[0][2:], tuple(sample["label"].shape[2:])
    if found != wanted:
        raise SettingError(
            f"network {recipe.network.name} returns {_by(found)} for a mask of {_by(wanted)}",
            expected="one size",
            remedy="change the network's options (SETR: leave stages out, and it doubles as often as it must)",
        )
    return expected, half


def _bf16_is_right(recipe: Recipe, network: nn.Module, shape: tuple[int, ...], kind: torch.device) -> bool:
    if kind.type != "cpu" or not device.works_two_deep(network, shape):
        return True
    if recipe.engine.precision == "bf16":
        raise SettingError(
            f"bf16 for network {recipe.network.name} and images of {_by(shape[2:])}",
            expected="no layer on a grid 2 voxels deep: its bf16 gradients are wrong on a CPU (PyTorch 2.13)",
            remedy='set engine.precision = "auto", or change data.size',
        )
    return False


def must_be_finite(value: float, what: str, batch: Batch, step: int, run: Run) -> None:
    """Stops a run whose numbers are none, and keeps the batch at which that happened.

    Raises:
        BrainsegError: names the batch's cases and where it is kept.
    """
    if math.isfinite(value):
        return
    kept = checkpoints.save_batch(run.nonfinite, batch, step)
    raise BrainsegError(
        f"the {what} is {value} at step {step}",
        where="batch of " + ", ".join(dict.fromkeys(batch["case"])),
        expected="a finite number",
        remedy=f"look at the batch, kept in {kept}; or lower optimiser.rate, or set engine.clip = 1",
    )


def _by(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
