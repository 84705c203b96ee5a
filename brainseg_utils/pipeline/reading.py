"""Reading a patch out of a cached case: crop, flip and conversion to float32 in one pass over the patch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from brainseg_utils.pipeline.arrays import overlap
from brainseg_utils.pipeline.entry import Entry

SLAB = 16  # planes


def read_patch(
    entry: Entry,
    start: Sequence[int],
    size: Sequence[int],
    flips: Sequence[bool] = (False, False, False),
    channels: Sequence[int] | None = None,
    out: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Reads a patch of a cached case, flipped on the way; only the patch's own bytes are read.

    Args:
        entry: the cached case.
        start: first voxel relative to the stored box; may be negative. What lies outside the box is 0.
        size: X, Y, Z.
        flips: which axes to turn round.
        channels: which modalities; default: all.
        out: (C, X, Y, Z) float32 tensor to write the image to, in any memory order.

    Returns:
        Image (C, X, Y, Z) float32 and label (L, X, Y, Z) uint8, or None for a case without.
    """
    stored = entry.array("image")
    wanted = range(len(stored)) if channels is None else channels
    inside = [overlap(a, s, n) for a, s, n in zip(start, size, stored.shape[1:], strict=True)]
    there = [slice(i.start - a, i.stop - a) for i, a in zip(inside, start, strict=True)]
    there = [slice(s - t.stop, s - t.start) if f else t for t, s, f in zip(there, size, flips, strict=True)]
    whole = all(i.stop - i.start == s for i, s in zip(inside, size, strict=True))
    turned = [axis for axis, flip in enumerate(flips) if flip]
    if out is None:
        out = empty((len(wanted), *size))
    if not whole:
        out.zero_()
    for number, channel in enumerate(wanted):
        part = torch.from_numpy(stored[channel][tuple(inside)])
        _convert(part, out[number][tuple(there)], turned, entry.scale[channel])
    if not entry.labelled:
        return out, None
    masks = entry.array("label")
    label = torch.zeros((len(masks), *size), dtype=torch.uint8)
    part = torch.from_numpy(masks[(slice(None), *inside)])
    label[(slice(None), *there)] = part.flip([a + 1 for a in turned]) if turned else part
    return out, label


def empty(shape: Sequence[int], channels_last: bool = False) -> torch.Tensor:
    """An uninitialised float32 tensor (..., C, X, Y, Z), laid out channels-last in memory if asked.

    The memory is NumPy's, which asks the system for large pages: touching 34 MB for the first time takes 2 ms, 12 ms
    in memory of `torch.empty`.
    """
    if not channels_last:
        return torch.from_numpy(np.empty(tuple(shape), np.float32))
    *lead, c, x, y, z = shape
    return torch.from_numpy(np.empty((*lead, x, y, z, c), np.float32)).movedim(-1, len(lead))


def _convert(part: torch.Tensor, target: torch.Tensor, turned: list[int], scale: float) -> None:
    """Writes `part`, flipped and scaled, to `target`: a slab at a time, which stays in the processor's own memory."""
    planes = len(part)
    for begin in range(0, planes, SLAB):
        end = min(begin + SLAB, planes)
        slab = part[planes - end : planes - begin] if 0 in turned else part[begin:end]
        target[begin:end].copy_(slab.flip(turned) if turned else slab)
        if scale != 1.0:
            target[begin:end].mul_(scale)
