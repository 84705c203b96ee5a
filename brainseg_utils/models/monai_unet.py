"""MONAI's UNet as report R4 uses it.

    image (C, X, Y, Z)
      └ residual unit, stride 2 ── (16, X/2, …) ──────────────────────── skip ────────┐
          └ stride 2 ── (32, X/4, …) ─────────────────────────────────── skip ─────┐  │
              └ stride 2 ── (64, X/8, …) ─────────────────────────────── skip ──┐  │  │
                  └ stride 2 ── (128, X/16, …) ───────────────────────── skip ┐ │  │  │
                      └ residual unit ── (256, X/16, …)                       │ │  │  │
                          └ join, transposed stride 2, residual unit ─────────┘ │  │  │
                              └ … and so on up ── logits (3, X, Y, Z) ──────────┴──┴──┘

Sources: report R4, 4,809,920 parameters for one modality, 4,811,648 for three, 4,812,512 for four; the residual unit is
that of Kerfoot et al., STACOM 2018 (doi:10.1007/978-3-030-12029-0_40). The network is MONAI's; here stand R4's settings
and its two mistakes.

**Residual units forgotten** (`residual_units=0`): R4's loader rebuilds the network without them. It has 1,982,555
parameters, and the checkpoint does not fit. **Sizes** (`pad=False`): R4 crops the scan to 229 x 229 x 144, and four
strides of 2 turn 229 into 115, 58, 29, 15 and back into 30, which cannot be joined with 29. Mended: the volume is
padded to a multiple of 16.
"""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets import UNet
from torch import Tensor, nn

from brainseg_utils.models.padding import crop_to, pad_to_multiple

CHANNELS = (16, 32, 64, 128, 256)


class MonaiUNet(nn.Module):
    """R4's network.

    Args:
        in_channels: modalities. R4: 1 or 3.
        out_channels: regions. R4: TC, WT, ET.
        channels: a scale, finest (X/2) first.
        residual_units: convolutions in a unit; 0 for a single one without a shortcut. R4: 2.
        dropout: probability after each convolution's norm. R4: .2.
        pad: let any size through; False: as MONAI's, which needs multiples of 16 and raises RuntimeError.

    Example:
        >>> import torch
        >>> MonaiUNet(channels=(4, 8, 8)).eval()(torch.zeros(1, 4, 15, 16, 17)).shape
        torch.Size([1, 3, 15, 16, 17])
        >>> sum(p.numel() for p in MonaiUNet().parameters())
        4812512
    """

    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int = 3,
        channels: Sequence[int] = CHANNELS,
        residual_units: int = 2,
        dropout: float = 0.2,
        pad: bool = True,
    ) -> None:
        super().__init__()
        self.network = UNet(
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=out_channels,
            channels=tuple(channels),
            strides=(2,) * (len(channels) - 1),
            num_res_units=residual_units,
            dropout=dropout,
            norm="batch",
        )
        self.multiple = 2 ** (len(channels) - 1) if pad else 1
        self.smallest = 2 * self.multiple if pad else 1

    def forward(self, image: Tensor) -> Tensor:
        """Logits.

        Args:
            image: (N, C, X, Y, Z).

        Returns:
            (N, out_channels, X, Y, Z).

        Raises:
            RuntimeError: without `pad`, a size that does not fit.
        """
        return crop_to(self.network(pad_to_multiple(image, self.multiple, self.smallest)), image.shape[2:])
