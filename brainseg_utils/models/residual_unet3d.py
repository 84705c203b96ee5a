"""The Residual 3D U-Net of report R1, with a switch for each thing that R1 and R3 tried or wished to try.

    image (4, X, Y, Z)
      └ block ─────────────────────── (16, X, Y, Z) ──────────── skip ────────┐
          └ max-pool, block ───────────── (32, X/2, …) ───────── skip ─────┐  │
              └ max-pool, block ─────────── (64, X/4, …) ─────── skip ──┐  │  │
                  └ max-pool, block ─────────── (128, X/8, …)           │  │  │
                      └ transposed 2x2x2, meet the skip, block ─────────┘  │  │
                          └ … and so on up ── (16, X, Y, Z) ───────────────┴──┘
                              └ 1x1x1 convolution ── logits

| switch | values | what it asks |
|---|---|---|
| `stages` | 4, 5, 6 | how far the network sees, and how coarse its coarsest grid is |
| `convolutions` | 2, 3, 4 a block | depth at one scale |
| `kernel` | 3, 5 | a larger kernel, or more layers? |
| `norm` | batch, instance | statistics of the batch, or of each image: with batches of 1 or 2 they differ |
| `skip` | none, sum, concatenation, attention | what crosses the U |
| `block`, `decoder_block` | plain, residual, dense | what a layer may take from the layers before it |
| `deep_supervision` | on, off | do the coarse scales of the decoder answer too, while training? |

Each rung of the ladder of notebook 04 is one change of one switch.

Sources: report R1 (stages, convolutions, kernels and the place of the residuals were searched; its widths are not
stated: 16, doubled each time, is the course's choice); report R3 (skips, attention gates, dense blocks). Residual
blocks, He et al. (arXiv 1512.03385), here conv, norm, ReLU and the identity around all of them as R1 has it; dense
blocks, Huang et al. (arXiv 1608.06993); attention gates, Oktay et al. (arXiv 1804.03999); deep supervision, Lee et al.
(arXiv 1409.5185).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from brainseg_utils.errors import SettingError, unknown
from brainseg_utils.models.padding import crop_heads, crop_to, pad_to_multiple

NORMS: Mapping[str, type[nn.Module]] = {"batch": nn.BatchNorm3d, "instance": nn.InstanceNorm3d}
SKIPS = ("none", "sum", "concatenation", "attention")
STAGES, CONVOLUTIONS, KERNELS = (4, 5, 6), (2, 3, 4), (3, 5)
WIDEST = 320  # channels stop doubling here, or six stages would have 20 million parameters
AUXILIARY = (1, 2)  # scales with an auxiliary head: X/2 and X/4


class ResidualUNet3D(nn.Module):
    """R1's Residual U-Net and its relatives.

    Args:
        in_channels: modalities.
        out_channels: regions, or classes with the background. R1: 5.
        width: channels at full size; each stage doubles them.
        stages: scales, the full one counted.
        convolutions: in a block.
        kernel: their size.
        norm: `batch` or `instance`.
        skip: `none`, `sum`, `concatenation` or `attention` (a gated concatenation).
        block: `plain`, `residual` or `dense`.
        decoder_block: the same for the way up; None: as on the way down.
        deep_supervision: auxiliary heads at two coarser scales in training.

    Raises:
        SettingError: a value that is none of these.

    Example:
        >>> network = ResidualUNet3D(width=4, skip="attention").eval()
        >>> network(torch.zeros(1, 4, 17, 16, 15)).shape
        torch.Size([1, 5, 17, 16, 15])
    """

    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int = 5,
        width: int = 16,
        stages: int = 4,
        convolutions: int = 2,
        kernel: int = 3,
        norm: str = "batch",
        skip: str = "concatenation",
        block: str = "residual",
        decoder_block: str | None = None,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        decoder_block = block if decoder_block is None else decoder_block
        _check("stages", stages, STAGES)
        _check("convolutions", convolutions, CONVOLUTIONS)
        _check("kernel", kernel, KERNELS)
        for what, name, known in (
            ("norm", norm, NORMS),
            ("skip", skip, SKIPS),
            ("block", block, BLOCKS),
            ("decoder_block", decoder_block, BLOCKS),
        ):
            if name not in known:
                raise unknown(what, name, known, where="network residual_unet3d")
        widths = [min(width * 2**scale, WIDEST) for scale in range(stages)]
        joined = 2 if skip in ("concatenation", "attention") else 1  # how many widths a decoder block receives
        layers = {"convolutions": convolutions, "kernel": kernel, "norm": norm}
        self.down = nn.ModuleList(
            BLOCKS[block](before, after, **layers)
            for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        finer = range(stages - 1)
        self.lift = nn.ModuleList(nn.ConvTranspose3d(widths[s + 1], widths[s], 2, stride=2) for s in finer)
        self.gates = nn.ModuleList(AttentionGate(widths[s]) for s in finer) if skip == "attention" else None
        self.up = nn.ModuleList(BLOCKS[decoder_block](joined * widths[s], widths[s], **layers) for s in finer)
        self.pool = nn.MaxPool3d(2)
        self.head = nn.Conv3d(widths[0], out_channels, kernel_size=1)
        scales = AUXILIARY if deep_supervision else ()
        self.auxiliary = nn.ModuleDict({str(s): nn.Conv3d(widths[s], out_channels, kernel_size=1) for s in scales})
        self.skip, self.multiple = skip, 2 ** (stages - 1)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Logits.

        Args:
            image: (N, C, X, Y, Z), of any size.

        Returns:
            (N, out_channels, X, Y, Z); in training mode with deep supervision a list: these, then those of the
            auxiliary heads at X/2 and X/4, rounded up.
        """
        size = image.shape[2:]
        x = pad_to_multiple(image, self.multiple, 2 * self.multiple)
        skips: list[Tensor] = []
        for scale, block in enumerate(self.down):
            x = block(self.pool(x) if scale else x)
            skips.append(x)  # (N, 16, X, Y, Z), (N, 32, X/2, …), (N, 64, X/4, …), (N, 128, X/8, …)
        skips.pop()  # the coarsest is x itself
        heads: list[Tensor] = []
        for scale in reversed(range(len(self.up))):
            x = self.up[scale](self._meet(self.lift[scale](x), skips[scale], scale))
            if self.training and str(scale) in self.auxiliary:
                heads.insert(0, self.auxiliary[str(scale)](x))
        logits = crop_to(self.head(x), size)
        return [logits, *crop_heads(heads, size, [2**s for s in AUXILIARY])] if heads else logits

    def _meet(self, x: Tensor, skip: Tensor, scale: int) -> Tensor:
        """What comes from below, and what comes across."""
        if self.skip == "none":
            return x
        if self.skip == "sum":
            return x + skip
        if self.gates is not None:
            skip = self.gates[scale](skip, x)
        return torch.cat([x, skip], dim=1)


class PlainBlock(nn.Module):
    """Convolution, norm, ReLU, several times."""

    def __init__(self, in_channels: int, out_channels: int, convolutions: int, kernel: int, norm: str) -> None:
        super().__init__()
        before = [in_channels] + [out_channels] * (convolutions - 1)
        self.layers = nn.Sequential(*(_layer(b, out_channels, kernel, norm) for b in before))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, …) to (N, out_channels, …); the size stays."""
        return self.layers(x)


class ResidualBlock(PlainBlock):
    """The same, around a shortcut: the block learns what to add to its input (1x1x1 where the channels change)."""

    def __init__(self, in_channels: int, out_channels: int, convolutions: int, kernel: int, norm: str) -> None:
        super().__init__(in_channels, out_channels, convolutions, kernel, norm)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv3d(in_channels, out_channels, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, …) to (N, out_channels, …); the size stays."""
        return self.shortcut(x) + self.layers(x)


class DenseBlock(nn.Module):
    """Each convolution sees the input and all convolutions before it; a 1x1x1 convolution mixes them at the end."""

    def __init__(self, in_channels: int, out_channels: int, convolutions: int, kernel: int, norm: str) -> None:
        super().__init__()
        growth = out_channels // convolutions
        known = [in_channels + n * growth for n in range(convolutions + 1)]
        self.layers = nn.ModuleList(_layer(k, growth, kernel, norm) for k in known[:-1])
        self.mix = _layer(known[-1], out_channels, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, …) to (N, out_channels, …); the size stays."""
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return self.mix(x)


class AttentionGate(nn.Module):
    """Turns the skip down, voxel by voxel, where the coarser scale sees nothing of interest."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.from_skip = nn.Conv3d(channels, max(channels // 2, 1), kernel_size=1, bias=False)
        self.from_below = nn.Conv3d(channels, max(channels // 2, 1), kernel_size=1)
        self.score = nn.Conv3d(max(channels // 2, 1), 1, kernel_size=1)

    def share(self, skip: Tensor, below: Tensor) -> Tensor:
        """How much of each voxel passes, 0 to 1: (N, 1, X, Y, Z)."""
        return torch.sigmoid(self.score(torch.relu(self.from_skip(skip) + self.from_below(below))))

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """Two (N, channels, X, Y, Z) to the gated skip, of the same shape."""
        return skip * self.share(skip, below)


BLOCKS: Mapping[str, type[nn.Module]] = {"plain": PlainBlock, "residual": ResidualBlock, "dense": DenseBlock}


def _layer(in_channels: int, out_channels: int, kernel: int, norm: str) -> nn.Sequential:
    convolution = nn.Conv3d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)  # the norm has the bias
    return nn.Sequential(convolution, NORMS[norm](out_channels, affine=True), nn.ReLU(inplace=True))


def _check(what: str, value: int, known: tuple[int, ...]) -> None:
    if value not in known:
        raise SettingError(
            f"{what} = {value}", where="network residual_unet3d", expected="one of " + ", ".join(map(str, known))
        )
