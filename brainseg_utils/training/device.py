"""What the device can do: where it computes in bf16, and how a network is laid out in memory."""

from __future__ import annotations

import copy
import ctypes
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # numbers of malloc.h
SMALL_BLOCK, LARGEST_BLOCK, NEVER = 1 << 16, 1 << 30, 2**31 - 1  # bytes


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 in hardware; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def uses_bf16(precision: str, device: torch.device) -> bool:
    """What a recipe's precision ("auto", "bf16", "fp32") means on a device."""
    return precision == "bf16" or (precision == "auto" and has_bf16(device))


def works_two_deep(network: nn.Module, shape: Sequence[int]) -> bool:
    """Whether a 3D convolution of the network that is more than one voxel wide works on a grid exactly 2 voxels deep.

    There PyTorch 2.13 on a CPU returns a bf16 weight gradient from memory that nobody has written (the first axis alone
    matters; 1, 3 and more are right). Such a network computes in float32 there.

    Args:
        network: on any device; it is not changed.
        shape: of a batch, (N, C, ...); the pass is made on paper, without data.
    """
    found: list[bool] = []
    twin = copy.deepcopy(network).to("meta").train()
    for part in twin.modules():
        if isinstance(part, nn.Conv3d) and part.kernel_size[0] > 1:
            part.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].shape[2] == 2))
    twin(torch.zeros(*shape, device="meta"))
    return any(found)


def autocast(half: bool, device: torch.device) -> AbstractContextManager[object]:
    """The context in which the network runs; weights, gradients and losses stay float32."""
    return torch.autocast(device.type, torch.bfloat16) if half else nullcontext()


def layout(network: nn.Module, dimensions: int, channels_last: bool) -> nn.Module:
    """Lays the weights out channels last, in place, where that is asked for."""
    if not channels_last:
        return network
    order = torch.channels_last if dimensions == 2 else torch.channels_last_3d
    return network.to(memory_format=order)  # type: ignore[call-overload]


def keep_memory() -> None:
    """Tells glibc to keep freed memory for the next step instead of giving it back to the system; elsewhere nothing.

    A step allocates and frees the same few hundred megabytes as the one before. Given back, they return as page faults:
    12 to 14 % of a training step on one CPU core (`benchmarks/training_2d.py` contains it).
    """
    _tell_malloc({M_MMAP_THRESHOLD: LARGEST_BLOCK, M_TRIM_THRESHOLD: NEVER})


def return_memory() -> None:
    """Gives freed memory back to the system, and later freed blocks at once: the process's size is what lives then.

    With glibc; elsewhere it does nothing. The next training keeps its memory again.
    """
    _tell_malloc({M_MMAP_THRESHOLD: SMALL_BLOCK, M_TRIM_THRESHOLD: SMALL_BLOCK})
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim:
        trim(0)


def _tell_malloc(settings: Mapping[int, int]) -> None:
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    for name, value in settings.items():
        if mallopt:
            mallopt(name, value)
