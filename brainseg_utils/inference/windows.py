"""One pass over a volume where memory allows, else overlapping windows that are blended.

How much memory a pass takes is counted beforehand: the network runs on PyTorch's "meta" device, where tensors have
shapes and no content, and every tensor counts from when it is made to when it is given up.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from brainseg_utils.errors import BrainsegError
from brainseg_utils.training import device as devices
from brainseg_utils.training import memory

SHARE = 0.6  # of the free memory that a pass may take; copies in another layout or precision come on top of the count
OVERLAP = 0.5  # of neighbouring windows, along each axis
SMALLEST = 64  # voxels along an axis of a window
MULTIPLE = 16  # of a window's sides, where a network does not say what it needs


class _Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive, and the most that there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        result = function(*arguments, **(options or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        self._seen.add(key)
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, key, storage.nbytes())

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def peak(network: nn.Module, shape: Sequence[int]) -> int:
    """Bytes of the tensors that are alive at the fullest moment of one pass, in float32.

    Args:
        network: on any device; it is not changed.
        shape: (N, C, X, Y, Z).
    """
    twin = copy.deepcopy(network).to("meta").eval()
    with torch.no_grad(), _Alive() as alive:
        twin(torch.zeros(*shape, device="meta"))
    return alive.most


def window(network: nn.Module, shape: Sequence[int], free: int) -> tuple[int, ...]:
    """The largest window that fits into memory: the whole volume, or it with its longest sides halved again and again.

    Args:
        network: as in `peak`.
        shape: (C, X, Y, Z) of the volume, its sides multiples of what the network needs.
        free: bytes.

    Returns:
        X, Y, Z of the window, no side below `SMALLEST` that was not so before.

    Raises:
        BrainsegError: not even the smallest window fits.
    """
    multiple = int(getattr(network, "multiple", MULTIPLE))
    size = list(shape[1:])
    while (needed := peak(network, (1, shape[0], *size))) > SHARE * free:
        longest = max(range(3), key=lambda axis: size[axis])
        if size[longest] <= SMALLEST:
            raise BrainsegError(
                f"a window of {'x'.join(map(str, size))} voxels needs {needed / memory.MIB:.0f} MiB",
                expected=f"{SHARE * free / memory.MIB:.0f} MiB at most",
                remedy="close other programs, or use a smaller network",
            )
        size[longest] = max(SMALLEST, -(-size[longest] // (2 * multiple)) * multiple)
    return tuple(size)


class Runner:
    """A network on its device that takes volumes of any size.

    Args:
        network: put on the device, in evaluation mode.
        device: where it runs.
        half: it computes in bf16.
        channels_last: its weights are laid out so.
    """

    def __init__(self, network: nn.Module, device: torch.device, half: bool, channels_last: bool) -> None:
        self.network = devices.layout(network, 3, channels_last).to(device).eval()
        self.device, self.half, self.channels_last = device, half, channels_last
        self.multiple = int(getattr(network, "multiple", MULTIPLE))
        self._windows: dict[tuple[int, ...], tuple[int, ...]] = {}

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor:
        """Logits (K, X, Y, Z) float32 on the device of an image (C, X, Y, Z), which is widened by background."""
        size = image.shape[1:]
        pads = [side for n in reversed(size) for side in (0, -n % self.multiple)]
        whole = F.pad(image, pads)
        shape = tuple(whole.shape)
        if shape not in self._windows:
            self._windows[shape] = window(self.network, shape, memory.available(self.device))
        logits = self._whole(whole) if self._windows[shape] == shape[1:] else self._blended(whole)
        return logits[(slice(None), *(slice(n) for n in size))]

    def _whole(self, image: Tensor) -> Tensor:
        return self._forward(image[None].to(self.device))[0]

    def _blended(self, image: Tensor) -> Tensor:
        from monai.inferers.utils import sliding_window_inference

        return sliding_window_inference(
            image[None],
            self._windows[tuple(image.shape)],
            sw_batch_size=1,
            predictor=self._forward,
            overlap=OVERLAP,
            mode="gaussian",
            sw_device=self.device,
            device=torch.device("cpu"),
        )[0]

    def _forward(self, batch: Tensor) -> Tensor:
        if self.channels_last:
            batch = batch.contiguous(memory_format=torch.channels_last_3d)
        with devices.autocast(self.half, self.device):
            out = self.network(batch)
        return (out if isinstance(out, Tensor) else out[0]).float()
