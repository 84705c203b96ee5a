"""A network that paints a tumour: it is shown a scan with a hole, what tissue to lay where, and how bright.

    scan with the hole at 0 (4) · the hole (1) · label map, one channel a tissue (4) · wanted contrast (4) · noise (2)
      └ convolution ───────────────────────────────── (16, X, Y, Z) ──────────── skip ────┐
          └ stride 2, residual block ─────────────────── (40, X/2, …) ────────── skip ──┐ │
              └ stride 2, two residual blocks ───────────── (72, X/4, …)                │ │
                  └ lift, repeat each voxel, join, convolution ─ residual block (40, X/2, …) ┘ │
                      └ lift, repeat, join, convolution, residual block ─── (16, X, Y, Z) ─────┘
                          └ convolution: paint (4, X, Y, Z), laid into the hole; outside it the scan stays as it is

The hole is where the tumour is to be, a voxel wider. What was there is never seen: in training it is the tumour itself.
A tumour's brightness cannot be guessed from the tissue around it (contrast agent, sequence and biology decide it), so
the network is told: the *contrast code* is the mean of each tissue in each modality. In training it is that of the
patch, in use it comes from a training case, mixed with another's: that is where the variety between paintings comes
from. The noise is for the texture within them.

There is no normalisation layer: statistics of a patch would tie the paint's brightness to the patch's content and size,
and the network is trained on small patches and used on large ones.

Sources: painting by label with a discriminator that sees the label, Isola et al. (arXiv 1611.07004); tumours into
healthy tissue, Ferreira et al. (GliGAN, arXiv 2402.17317); spectral norm, Miyato et al. (arXiv 1802.05957). The sizes
and the contrast code are the course's choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.checkpoint import checkpoint

from brainseg_utils.errors import SettingError
from brainseg_utils.models.padding import crop_to

LEAK = 0.2
TISSUES = ("NETC", "SNFH", "ET", "RC")
"""Label k + 1 is tissue k."""
RIM = 1
"""Voxels by which the hole is wider than the tumour: its soft border would tell what was there."""
NOISE = 2
BRIGHT = 6.0
"""Sd above which paint grows with the logarithm only: a discriminator that likes bright voxels would else draw it to
any height. With a hard bound (tanh), one leap beyond it is the end: there is no gradient on the way back."""
QUIET = 0.1
"""Factor on the first weights of a residual block's second convolution: it begins near the identity."""


class Painter(nn.Module):
    """The generator.

    Args:
        in_channels: modalities.
        tissues: channels of the label map.
        widths: channels a scale, full size first.
        checkpointing: compute each block again in the backward pass instead of keeping what it held.

    Raises:
        SettingError: fewer than two scales.

    Example:
        >>> network = Painter(widths=(4, 8))
        >>> label = torch.zeros(1, 1, 9, 8, 7, dtype=torch.uint8)
        >>> label[..., 3:6, 3:6, 3:6] = 3
        >>> hole, layers = hole_of(label), one_hot(label)
        >>> scan = torch.ones(1, 4, 9, 8, 7)
        >>> painted = network(scan, hole, layers, contrast_code(scan, layers))
        >>> painted.shape, bool((painted == scan)[~hole.expand_as(scan)].all())
        (torch.Size([1, 4, 9, 8, 7]), True)
    """

    def __init__(
        self,
        in_channels: int = 4,
        tissues: int = len(TISSUES),
        widths: Sequence[int] = (16, 40, 72),
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if len(widths) < 2:
            raise SettingError(f"widths = {list(widths)}", where="network painter", expected="two scales or more")
        self.checkpointing, self.multiple = checkpointing, 2 ** (len(widths) - 1)
        pairs = list(pairwise(widths))
        self.stem = _conv(2 * in_channels + 1 + tissues + NOISE, widths[0])
        self.down = nn.ModuleList(nn.Sequential(_conv(a, b, stride=2), Residual(b)) for a, b in pairs)
        self.middle = Residual(widths[-1])
        self.lift = nn.ModuleList(nn.Conv3d(b, a, kernel_size=1) for a, b in pairs)
        self.up = nn.ModuleList(nn.Sequential(_conv(2 * a, a), Residual(a)) for a, _ in pairs)
        self.head = nn.Conv3d(widths[0], in_channels, kernel_size=3, padding=1)

    def forward(self, image: Tensor, hole: Tensor, layers: Tensor, code: Tensor, noise: Tensor | None = None) -> Tensor:
        """The painted scan.

        Args:
            image: (N, C, X, Y, Z), normalised; what it holds in the hole is not looked at.
            hole: boolean (N, 1, X, Y, Z).
            layers: (N, T, X, Y, Z), 1 where a tissue is to be (`one_hot`).
            code: (N, T, C), wanted mean of each tissue in each modality, in the image's unit (`contrast_code`).
            noise: (N, 2, X, Y, Z) of unit variance; default: drawn.

        Returns:
            (N, C, X, Y, Z), equal to the image outside the hole.
        """
        kept = image.masked_fill(hole, 0)
        wanted = torch.einsum("ntc,ntxyz->ncxyz", code, layers)
        if noise is None:
            noise = torch.randn(len(image), NOISE, *image.shape[2:], device=image.device)
        x = torch.cat([kept, hole.to(image.dtype), layers, wanted, noise], dim=1)
        size = x.shape[2:]
        x = self.stem(F.pad(x, [p for side in reversed(size) for p in (0, -side % self.multiple)]))
        skips = []
        for block in self.down:
            skips.append(x)
            x = self._run(block, x)
        x = self._run(self.middle, x)
        for lift, block, skip in zip(reversed(self.lift), reversed(self.up), reversed(skips), strict=True):
            x = self._run(block, torch.cat([F.interpolate(lift(x), scale_factor=2), skip], dim=1))
        paint = BRIGHT * torch.asinh(crop_to(self.head(x), size).to(image.dtype) / BRIGHT)
        return torch.where(hole, paint, image)

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, use_reentrant=False)
        return block(x)


class Residual(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv3d(width, width, kernel_size=3, padding=1) for _ in range(2))
        self.second.weight.data *= QUIET

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, X, Y, Z) to the same."""
        return F.leaky_relu(x + self.second(F.leaky_relu(self.first(x), LEAK)), LEAK)


class PatchCritic(nn.Module):
    """The discriminator: one logit for every 4x4x4 voxels, of how real the scan looks there for the label it bears.

        scan and label map (8, X, Y, Z) ── stride 2 (32, X/2, …) ── stride 2 (64, X/4, …) ── (64, X/4, …) ── logits

    Every layer but the last has spectral norm: none can enlarge a difference, so the discriminator cannot become steep
    faster than the generator follows; the last one decides how much a difference counts. A logit sees 23 voxels a side.

    Args:
        in_channels: modalities.
        tissues: channels of the label map.
        widths: channels of the layers; all but the last halve the size.

    Example:
        >>> patch = torch.zeros(1, 4, 16, 16, 16)
        >>> logits, features = PatchCritic(widths=(4, 4, 4))(patch, patch)
        >>> logits.shape, [tuple(f.shape[1:]) for f in features]
        (torch.Size([1, 1, 4, 4, 4]), [(4, 8, 8, 8), (4, 4, 4, 4), (4, 4, 4, 4)])
    """

    def __init__(self, in_channels: int = 4, tissues: int = len(TISSUES), widths: Sequence[int] = (32, 64, 64)) -> None:
        super().__init__()
        before = [in_channels + tissues, *widths]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv3d(a, b, kernel_size=3, stride=1 if k == len(widths) - 1 else 2, padding=1))
            for k, (a, b) in enumerate(zip(before, widths, strict=False))
        )
        self.head = nn.Conv3d(widths[-1], 1, kernel_size=3, padding=1)

    def forward(self, image: Tensor, layers: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits (N, 1, X/4, Y/4, Z/4), rounded up, and what the layers saw, for feature matching."""
        x, features = torch.cat([image, layers], dim=1), []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), LEAK)
            features.append(x)
        return self.head(x), features


def one_hot(label: Tensor, tissues: int = len(TISSUES)) -> Tensor:
    """Class numbers (N, 1, X, Y, Z) to float32 channels (N, T, X, Y, Z); 0, the healthy tissue, has none."""
    numbers = torch.arange(1, tissues + 1, device=label.device, dtype=label.dtype)
    return (label == numbers.view(1, -1, 1, 1, 1)).float()


def hole_of(label: Tensor, brain: Tensor | None = None, rim: int = RIM) -> Tensor:
    """Where to paint: the tumour and a rim around it, inside the brain.

    Args:
        label: (N, 1, X, Y, Z) class numbers.
        brain: boolean (N, 1, X, Y, Z); None: everywhere.
        rim: voxels.
    """
    wide = F.max_pool3d((label > 0).float(), 2 * rim + 1, stride=1, padding=rim) > 0
    return wide if brain is None else wide & brain


def contrast_code(image: Tensor, layers: Tensor) -> Tensor:
    """Mean of each tissue in each modality.

    Args:
        image: (N, C, X, Y, Z).
        layers: (N, T, X, Y, Z) of `one_hot`.

    Returns:
        (N, T, C), in the image's unit; 0 for a tissue that is not there.

    Example:
        >>> image = torch.arange(4.0).view(1, 1, 4, 1, 1)
        >>> label = torch.tensor([0, 1, 1, 2]).view(1, 1, 4, 1, 1)
        >>> contrast_code(image, one_hot(label)).squeeze().tolist()
        [1.5, 3.0, 0.0, 0.0]
    """
    total = torch.einsum("ntxyz,ncxyz->ntc", layers, image)
    return total / layers.sum(dim=(2, 3, 4)).clamp_(min=1)[..., None]


def _conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1), nn.LeakyReLU(LEAK)
    )
