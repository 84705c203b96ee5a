"""One pass over a volume where memory allows, else overlapping windows that are blended.

How much memory a pass takes is measured beforehand on a small cube, in which every tensor counts from when it is made
to when it is given up, and grows with the number of voxels.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from brainseg_utils.errors import BrainsegError
from brainseg_utils.training import device as devices
from brainseg_utils.training import memory

SHARE = 0.6  # of the free memory that a pass may take; copies in another layout or precision come on top of the count
OVERLAP = 0.5  # of neighbouring windows, along each axis
SMALLEST = 64  # voxels along an axis of a window
MULTIPLE = 16  # of a window's sides
LEAST = 34  # voxels along an axis that a network gets, two at a stage of X/32: instance norm fails on a single one
PROBE = 64  # voxels along an axis of the cube on which memory is measured
SURE = 16_000  # bytes a voxel that no network here takes: where there are as many, nothing is measured


class _Alive:
    """Counts the bytes of the tensors that go into a network's modules and come out of them, while they are alive.

    Args:
        network: watched from `__enter__` to `__exit__`.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.now = self.most = 0
        self._seen: set[int] = set()
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> _Alive:
        for module in self.network.modules():
            self._hooks.append(module.register_forward_pre_hook(lambda _, given: self._count(given)))
            self._hooks.append(module.register_forward_hook(lambda _, given, out: self._count(out)))
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _count(self, values: Any) -> None:
        for tensor in tree_leaves(values):
            if not isinstance(tensor, Tensor) or tensor.untyped_storage()._cdata in self._seen:
                continue
            storage = tensor.untyped_storage()
            self._seen.add(storage._cdata)
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def bytes_per_voxel(network: nn.Module, forward: Callable[[Tensor], Tensor], channels: int) -> float:
    """Bytes of the tensors that are alive at the fullest moment of one pass, a voxel of the image.

    Args:
        network: whose modules are watched.
        forward: how it is called.
        channels: of the image.
    """
    image = torch.zeros(1, channels, PROBE, PROBE, PROBE, device=next(network.parameters()).device)
    with torch.inference_mode(), _Alive(network) as alive:
        forward(image)
    return alive.most / PROBE**3


def window(voxel: float, shape: Sequence[int], free: float) -> tuple[int, ...]:
    """The largest window that fits into memory: the whole volume, or it with its longest sides halved again and again.

    Args:
        voxel: bytes that a voxel takes.
        shape: X, Y, Z of the volume.
        free: bytes.

    Returns:
        X, Y, Z of the window, no side below `SMALLEST` that was not so before.

    Raises:
        BrainsegError: not even the smallest window fits.

    Example:
        >>> window(1000, (144, 176, 144), 10e9), window(1000, (144, 176, 144), 5e9)
        ((144, 176, 144), (144, 96, 144))
    """
    size = list(shape)
    while (needed := voxel * math.prod(size)) > SHARE * free:
        longest = max(range(3), key=lambda axis: size[axis])
        if size[longest] <= SMALLEST:
            raise BrainsegError(
                f"a window of {'x'.join(map(str, size))} voxels needs {needed / memory.MIB:.0f} MiB",
                expected=f"{SHARE * free / memory.MIB:.0f} MiB at most",
                remedy="close other programs, or use a smaller network",
            )
        size[longest] = max(SMALLEST, -(-size[longest] // (2 * MULTIPLE)) * MULTIPLE)
    return tuple(size)


class Runner:
    """A network on its device that takes volumes of any size.

    Weights and volumes are laid out channels last, whatever the training did: in bf16 the forward pass of the networks
    here takes from a third less to no less time on a CPU, in float32 as long either way.

    Args:
        network: put on the device, in evaluation mode.
        device: where it runs.
        half: it computes in bf16.
    """

    def __init__(self, network: nn.Module, device: torch.device, half: bool) -> None:
        self.network = devices.layout(network, 3, channels_last=True).to(device).eval()
        self.device, self.half = device, half
        self._voxel = 0.0

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor:
        """Logits (K, X, Y, Z), float32 on the CPU or the device, of an image (C, X, Y, Z)."""
        shape = image.shape[1:]
        if min(shape) < LEAST:
            image = F.pad(image, [side for n in reversed(shape) for side in (0, max(0, LEAST - n))])
        size = self._window(image)
        logits = self._whole(image) if size == image.shape[1:] else self._blended(image, size)
        return logits[(slice(None), *(slice(n) for n in shape))]

    def _window(self, image: Tensor) -> tuple[int, ...]:
        free, shape = memory.available(self.device), tuple(image.shape[1:])
        if math.prod(shape) * SURE <= SHARE * free:
            return shape
        self._voxel = self._voxel or bytes_per_voxel(self.network, self._forward, len(image))
        return window(self._voxel, shape, free)

    def _whole(self, image: Tensor) -> Tensor:
        return self._forward(image[None].to(self.device))[0]

    def _blended(self, image: Tensor, size: tuple[int, ...]) -> Tensor:
        from monai.inferers.utils import sliding_window_inference

        return sliding_window_inference(
            image[None],
            size,
            sw_batch_size=1,
            predictor=self._forward,
            overlap=OVERLAP,
            mode="gaussian",
            sw_device=self.device,
            device=torch.device("cpu"),
        )[0]

    def _forward(self, batch: Tensor) -> Tensor:
        batch = batch.contiguous(memory_format=torch.channels_last_3d)
        with devices.autocast(self.half, self.device):
            out = self.network(batch)
        return (out if isinstance(out, Tensor) else out[0]).float()
