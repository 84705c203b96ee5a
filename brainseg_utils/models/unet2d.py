"""The U-Net of report R2: two scales down, two up, in 2D.

    image (3, H, W)
      └ two 3x3 convolutions ────────── (64, H, W) ───── skip ─────┐
          └ max-pool, two convolutions ── (128, H/2, W/2) ─ skip ┐ │
              └ max-pool, two ──────────── (256, H/4, W/4)       │ │
                  └ transposed 2x2 ─ join ─ two: (128, H/2, W/2) ┘ │
                      └ transposed 2x2 ─ join ─ two: (64, H, W) ───┘
                          └ 1x1 convolution ── logits (1, H, W)

Sources: report R2, 1,862,849 parameters at width 64; the idea is Ronneberger, Fischer and Brox, MICCAI 2015
(doi:10.1007/978-3-319-24574-4_28). Departures from that paper, all R2's: two scales instead of four, and convolutions
that are padded, so that the output has the input's size.

R2 ends its network with a sigmoid. Here the sigmoid stands in the loss and in prediction: log(sigmoid(x)) computed in
one piece stays finite where the two in a row do not, and no parameter is added or lost.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class UNet2D(nn.Module):
    """R2's U-Net.

    Args:
        in_channels: of the slices.
        out_channels: of the mask.
        width: channels at full size; each scale down doubles them. R2: 64.

    Example:
        >>> network = UNet2D(width=8)
        >>> network(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 1, 32, 32])
        >>> sum(p.numel() for p in UNet2D().parameters())
        1862849
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 1, width: int = 64) -> None:
        super().__init__()
        self.down1 = two_convolutions(in_channels, width)
        self.down2 = two_convolutions(width, 2 * width)
        self.bottom = two_convolutions(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, kernel_size=2, stride=2)
        self.join2 = two_convolutions(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, kernel_size=2, stride=2)
        self.join1 = two_convolutions(2 * width, width)
        self.head = nn.Conv2d(width, out_channels, kernel_size=1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, image: Tensor) -> Tensor:
        """Logits.

        Args:
            image: (N, C, H, W), H and W divisible by 4.

        Returns:
            (N, out_channels, H, W); a sigmoid makes probabilities of them.
        """
        fine = self.down1(image)  # (N, 64, H, W)
        coarse = self.down2(self.pool(fine))  # (N, 128, H/2, W/2)
        x = self.bottom(self.pool(coarse))  # (N, 256, H/4, W/4)
        x = self.join2(torch.cat([self.up2(x), coarse], dim=1))  # 128 + 128 channels in, 128 out
        x = self.join1(torch.cat([self.up1(x), fine], dim=1))  # 64 + 64 channels in, 64 out
        return self.head(x)


def two_convolutions(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3x3 convolutions, each followed by a ReLU; the size stays."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
    )
