"""The course's network for brain scans: a residual 3D U-Net that is quick on a CPU.

    scan (4, X, Y, Z)
      └ unshuffle: (32, X/2, …)                         the 2x2x2 voxels of a cell become channels: nothing is lost
          └ residual blocks at 32, 64, 96, 128, 112 channels, each scale half the size of the one before
              └ back up: 1x1x1 convolution, repeat each voxel, join with the skip, residual block
                  └ 3x3x3 convolution, shuffle: logits (3, X, Y, Z)

What each choice is for, measured on one CPU core in bf16 (`benchmarks/resunet3d.py`): nearly all of the time goes into
the convolutions at the finest scale, so they work on cells of 2x2x2 voxels; the coarse scales are nearly free and hold
nearly all parameters. Instance norm costs about as much as batch norm and needs no batch: with batches of 1 or 2, and
scanners that the training never saw, statistics of the image itself are the safer ones. Its cost is low only in the
contiguous layout. The heads' bias starts at -3, so that the first prediction is "5 % tumour everywhere", near the
truth. Two auxiliary heads train the coarser scales directly and are dropped in prediction.

An axis need not be divisible by anything but 2, which padding sees to: an odd axis is halved upwards on the way down,
and on the way up the surplus plane is cut off. No voxel is computed for padding's sake.

Sources: residual blocks with the norm first, He et al. (arXiv 1603.05027); shuffling, Shi et al. (arXiv 1609.05158);
deep supervision, Lee et al. (arXiv 1409.5185); instance norm, Ulyanov et al. (arXiv 1607.08022).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn

from brainseg_utils.errors import SettingError, unknown
from brainseg_utils.models.padding import crop_heads, crop_to, pad_to_multiple

WIDTHS = (32, 64, 96, 128, 112)
PRIOR_LOGIT = -3.0
AUXILIARY = (1, 2)  # scales with an auxiliary head: X/4 and X/8
NORMS = {"batch": nn.BatchNorm3d, "instance": nn.InstanceNorm3d}


class ResUNet3D(nn.Module):
    """The course's residual 3D U-Net.

    Args:
        in_channels: modalities.
        out_channels: regions, or classes with the background.
        widths: channels a scale, finest (X/2) first; two scales or more.
        blocks: residual blocks on the way down, a scale.
        norm: `instance` or `batch`.
        dropout: probability at the bottom, whole channels.
        refine: channels of two convolutions at full size after the shuffle, which see the scan again; 0: none.

    Raises:
        SettingError: fewer than two scales, or an unknown norm.

    Example:
        >>> network = ResUNet3D(widths=(8, 8, 16)).eval()
        >>> network(torch.zeros(1, 4, 21, 20, 19)).shape
        torch.Size([1, 3, 21, 20, 19])
    """

    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int = 3,
        widths: Sequence[int] = WIDTHS,
        blocks: Sequence[int] = (1, 1, 1, 1, 1),
        norm: str = "instance",
        dropout: float = 0.1,
        refine: int = 0,
    ) -> None:
        super().__init__()
        if len(widths) < 2 or len(blocks) < len(widths):
            raise SettingError(
                f"{len(widths)} widths and {len(blocks)} numbers of blocks",
                where="network resunet3d",
                expected="two widths or more, and a number of blocks for each",
            )
        if norm not in NORMS:
            raise unknown("norm", norm, NORMS, where="network resunet3d")
        self.smallest = 2 ** len(widths) + 2  # two voxels a side at the bottom: instance norm of one is no number
        self.unshuffle, self.shuffle = Unshuffle(), Shuffle()
        self.stem = nn.Conv3d(8 * in_channels, widths[0], kernel_size=3, padding=1, bias=False)
        self.down = nn.ModuleList()
        for scale, width in enumerate(widths):
            first = Block(widths[max(scale - 1, 0)], width, norm, stride=2 if scale else 1)
            self.down.append(nn.Sequential(first, *(Block(width, width, norm) for _ in range(blocks[scale] - 1))))
        self.dropout = nn.Dropout3d(dropout)
        finer = range(len(widths) - 1)
        self.lift = nn.ModuleList(nn.Conv3d(widths[s + 1], widths[s], kernel_size=1, bias=False) for s in finer)
        self.repeat = nn.Upsample(scale_factor=2, mode="nearest")
        self.up = nn.ModuleList(Block(2 * widths[s], widths[s], norm) for s in finer)
        self.auxiliary = nn.ModuleDict({str(s): _head(widths[s], out_channels) for s in AUXILIARY if s in finer})
        if refine:
            self.head: nn.Module = nn.Conv3d(widths[0], 8 * refine, kernel_size=3, padding=1)
            self.refine: Refine | None = Refine(in_channels, refine, out_channels)
        else:
            self.head, self.refine = _head(widths[0], 8 * out_channels), None

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Logits.

        Args:
            image: (N, C, X, Y, Z), of any size.

        Returns:
            (N, out_channels, X, Y, Z); in training mode a list: these, then those of the auxiliary heads at X/4 and
            X/8, rounded up.
        """
        size = image.shape[2:]
        image = pad_to_multiple(image, 2, self.smallest)
        x = self.stem(self.unshuffle(image))  # (N, 32, X/2, …)
        skips: list[Tensor] = []
        for blocks in self.down:
            x = blocks(x)
            skips.append(x)  # (N, 32, X/2, …), (N, 64, X/4, …), … (N, 112, X/32, …)
        x = self.dropout(skips.pop())
        heads: list[Tensor] = []
        for scale in reversed(range(len(self.up))):
            x = crop_to(self.repeat(self.lift[scale](x)), skips[scale].shape[2:])
            x = self.up[scale](torch.cat([x, skips[scale]], dim=1))
            if self.training and str(scale) in self.auxiliary:
                heads.insert(0, self.auxiliary[str(scale)](x))
        x = self.shuffle(self.head(x))
        logits = crop_to(x if self.refine is None else self.refine(x, image), size)
        return (
            [logits, *crop_heads(heads, size, [2 ** (int(s) + 1) for s in self.auxiliary])] if self.training else logits
        )


class Block(nn.Module):
    """Normalise, ReLU, convolve, twice, around a shortcut (1x1x1 where the shape changes)."""

    def __init__(self, in_channels: int, out_channels: int, norm: str, stride: int = 1) -> None:
        super().__init__()
        self.norm1, self.norm2 = (NORMS[norm](channels, affine=True) for channels in (in_channels, out_channels))
        self.conv1 = nn.Conv3d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.conv2 = nn.Conv3d(out_channels, out_channels, 3, padding=1, bias=False)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv3d(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, X, …) to (N, out_channels, X / stride rounded up, …)."""
        y = self.conv1(F.relu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.relu(self.norm2(y)))


class Refine(nn.Module):
    """Two convolutions at full size: what the cells say of a voxel, beside the scan itself."""

    def __init__(self, in_channels: int, width: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(width + in_channels, width, kernel_size=3, padding=1)
        self.head = _head(width, out_channels)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """(N, width, X, Y, Z) and (N, in_channels, X, Y, Z) to logits (N, out_channels, X, Y, Z)."""
        return self.head(F.relu(self.conv(torch.cat([F.relu(x), image.to(x.dtype)], dim=1))))


class Unshuffle(nn.Module):
    """(N, C, X, Y, Z) to (N, 8C, X/2, Y/2, Z/2): the voxels of each 2x2x2 cell become channels.

    Example:
        >>> Unshuffle()(torch.arange(8.0).reshape(1, 1, 2, 2, 2)).flatten()
        tensor([0., 1., 2., 3., 4., 5., 6., 7.])
    """

    def forward(self, x: Tensor) -> Tensor:
        """The cells."""
        return pixelunshuffle(x, spatial_dims=3, scale_factor=2)


class Shuffle(nn.Module):
    """(N, 8C, X, Y, Z) to (N, C, 2X, 2Y, 2Z): the inverse of `Unshuffle`."""

    def forward(self, x: Tensor) -> Tensor:
        """The voxels."""
        return pixelshuffle(x, spatial_dims=3, scale_factor=2)


def _head(in_channels: int, out_channels: int) -> nn.Conv3d:
    head = nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1)
    assert head.bias is not None
    nn.init.constant_(head.bias, PRIOR_LOGIT)
    return head
