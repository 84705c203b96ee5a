"""How much memory a run will need, before its first step, and what to change when there is not enough.

The network is run once on PyTorch's "meta" device, where tensors have shapes and no content, and every tensor that is
kept for the backward pass is counted. Nothing is allocated, and a network of any size takes a moment.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from brainseg_utils.errors import BrainsegError, SettingError

STATES: Mapping[str, int] = {"adam": 2, "adamw": 2, "sgd": 1}  # tensors that an optimiser keeps a parameter
FLOAT = 4
BACKWARD = 1.5  # activations, times this: gradients of activations live for a moment beside them
MIB = 2**20


@dataclass(frozen=True)
class Forecast:
    """Bytes that training adds to the process, by what they are for.

    Attributes:
        weights: of the network, twice with slow weights.
        gradients: one a weight.
        optimiser: what it remembers.
        activations: kept for the backward pass of one part of a batch, and what that pass needs besides.
        outputs: shapes of what the network returns.
    """

    weights: int
    gradients: int
    optimiser: int
    activations: int
    outputs: tuple[tuple[int, ...], ...]

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.weights + self.gradients + self.optimiser + self.activations

    def __str__(self) -> str:
        parts = ("weights", "gradients", "optimiser", "activations")
        return f"{self.total / MIB:.0f} MiB (" + ", ".join(f"{p} {getattr(self, p) / MIB:.0f}" for p in parts) + ")"


def forecast(
    network: nn.Module, shape: Sequence[int], optimiser: str = "adam", ema: bool = False, half: bool = False
) -> Forecast:
    """What training will need.

    Args:
        network: on any device; it is not changed.
        shape: of one part of a batch, (N, C, ...).
        optimiser: key of `STATES`.
        ema: slow weights are kept.
        half: the network computes in bf16.

    Example:
        >>> forecast(nn.Conv2d(1, 256, 3, padding=1), (1, 1, 64, 64)).outputs
        ((1, 256, 64, 64),)
    """
    twin = copy.deepcopy(network).to("meta").train()
    kept: dict[int, int] = {}
    own = {p.untyped_storage()._cdata for p in twin.parameters()}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own and tensor.is_floating_point():
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        outputs = twin(torch.zeros(*shape, device="meta"))
    parameters = sum(p.numel() for p in network.parameters() if p.requires_grad) * FLOAT
    buffers = sum(b.numel() * b.element_size() for b in network.buffers())
    activations = int(sum(kept.values()) * BACKWARD) // (2 if half else 1)
    heads = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    return Forecast(
        (parameters + buffers) * (2 if ema else 1),
        parameters,
        STATES[optimiser] * parameters,
        activations,
        tuple(tuple(head.shape) for head in heads),
    )


def available(device: torch.device) -> int:
    """Bytes that are free on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


def used(device: torch.device) -> int:
    """Bytes that this process uses on a device now."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    import psutil

    return psutil.Process().memory_info().rss


def peak(device: torch.device) -> int:
    """Most bytes that this process has used on a device so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    if sys.platform.startswith("linux"):  # its ru_maxrss begins with that of the process which started this one
        with open("/proc/self/status", encoding="ascii") as status:
            return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def check(expected: Forecast, device: torch.device, batch: int, accumulate: int) -> None:
    """Refuses a run that cannot fit.

    Raises:
        SettingError: with the setting to lower.
    """
    free = available(device)
    if expected.total > free:
        raise SettingError(
            f"training needs about {expected}",
            expected=f"{free / MIB:.0f} MiB at most, which are free on {device}",
            remedy=advice(batch, accumulate),
        )


def advice(batch: int, accumulate: int) -> str:
    """Which setting to lower.

    Example:
        >>> advice(16, 1)
        'set engine.accumulate = 2 (the same batch of 16 in 2 parts), or lower budget.batch, data.size or the width'
        >>> advice(4, 4)
        'lower data.size or the width of the network: a part of the batch is one sample already'
    """
    more = next((n for n in range(accumulate + 1, batch + 1) if batch % n == 0), None)
    if more is None:
        return "lower data.size or the width of the network: a part of the batch is one sample already"
    return (
        f"set engine.accumulate = {more} (the same batch of {batch} in {more} parts), "
        "or lower budget.batch, data.size or the width"
    )


@contextmanager
def explained(device: torch.device, batch: int, accumulate: int) -> Iterator[None]:
    """Turns running out of memory into an error that says which setting to lower.

    Raises:
        BrainsegError: the device had no memory left.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error).lower()
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(
            words in text for words in ("out of memory", "can't allocate memory", "not enough memory")
        ):
            raise
        raise BrainsegError("out of memory", where=str(device), remedy=advice(batch, accumulate)) from None
