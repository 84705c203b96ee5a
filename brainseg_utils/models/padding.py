"""Any input size: a volume is enlarged to what a network can halve so many times, and its output cut back.

Networks with strides need sizes that are divisible by two to the number of halvings. A brain box of 137 x 171 x 140
voxels is not. The volume grows at the end of each axis by copies of its last plane, which is background in a scan and
a plausible neighbour in a patch, and what the network says about these planes is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(image: Tensor, multiple: int, smallest: int = 0) -> Tensor:
    """Repeats the last plane of each spatial axis until the axis is divisible, and long enough.

    Args:
        image: (N, C, X, Y, Z).
        multiple: what the network needs, such as 16.
        smallest: what an axis must have at least: a norm of a coarsest grid of one voxel is no number.

    Returns:
        (N, C, X', Y', Z'); the image itself where nothing is missing.

    Example:
        >>> import torch
        >>> pad_to_multiple(torch.zeros(1, 4, 15, 16, 17), 16).shape
        torch.Size([1, 4, 16, 16, 32])
    """
    missing = [max(size, smallest) + -max(size, smallest) % multiple - size for size in image.shape[2:]]
    if not any(missing):
        return image
    pads = [amount for m in reversed(missing) for amount in (0, m)]  # F.pad counts axes from the last
    return F.pad(image, pads, mode="replicate")


def crop_to(output: Tensor, size: Sequence[int]) -> Tensor:
    """Cuts an output (N, K, X', Y', Z') back to the image's (X, Y, Z).

    An output at half or quarter size, of an auxiliary head, is cut to the same share, rounded up: pass its size.
    """
    for axis, length in enumerate(size, start=2):
        output = output.narrow(axis, 0, length)
    return output


def crop_heads(heads: Sequence[Tensor], size: Sequence[int], scales: Sequence[int]) -> list[Tensor]:
    """Cuts outputs at several scales back.

    Args:
        heads: each (N, K, ...).
        size: of the image, (X, Y, Z).
        scales: voxels of the image to one of the head, a head.

    Returns:
        Each head at the image's size divided by its scale, rounded up.
    """
    cut = zip(heads, scales, strict=True)
    return [crop_to(head, [-(-length // scale) for length in size]) for head, scale in cut]
