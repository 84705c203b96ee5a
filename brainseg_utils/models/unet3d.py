"""The 3D U-Net of report R3: max-pooling down, up-sampling up, skips across, batch norm.

    image (4, X, Y, Z)
      └ two convolutions ────────────────── (16, X, Y, Z) ─────────────── skip ─────┐
          └ max-pool, two ──────────────────── (32, X/2, …) ───────────── skip ───┐ │
              └ max-pool, two ──────────────────── (64, X/4, …) ───────── skip ─┐ │ │
                  └ max-pool, two ─────────────────── (128, X/8, …) ──── skip ┐ │ │ │
                      └ max-pool, two ──────────────────── (256, X/16, …)     │ │ │ │
                          └ repeat each voxel twice, join, two ── (128, X/8, …) ┘ │ │
                              └ … and so on up ── (16, X, Y, Z) ──────────────────┴─┘
                                  └ 1x1x1 convolution ── logits (4, X, Y, Z)

Sources: report R3, a Keras thesis; Çiçek et al., MICCAI 2016 (arXiv 1606.06650). R3 states the parts and not the
widths: 16 at full size, doubled each time, is the course's choice. Keras' `UpSampling3D` repeats each voxel, which
has no parameters, where Çiçek et al. learn a transposed convolution. R3's softmax over four classes stands in the loss.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from brainseg_utils.errors import SettingError
from brainseg_utils.models.padding import crop_to, pad_to_multiple


class UNet3D(nn.Module):
    """R3's U-Net.

    Args:
        in_channels: modalities.
        out_channels: regions, or classes with the background. R3: 4.
        width: channels at full size; each scale down doubles them.
        depth: how often the size is halved.

    Raises:
        SettingError: a depth below 1.

    Example:
        >>> UNet3D(width=4, depth=2).eval()(torch.zeros(1, 4, 10, 8, 7)).shape
        torch.Size([1, 4, 10, 8, 7])
    """

    def __init__(self, in_channels: int = 4, out_channels: int = 4, width: int = 16, depth: int = 4) -> None:
        super().__init__()
        if depth < 1:
            raise SettingError(f"depth = {depth}", where="network unet3d", expected="1 or more")
        widths = [width * 2**scale for scale in range(depth + 1)]
        self.down = nn.ModuleList(
            two_convolutions(before, after) for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(two_convolutions(3 * w, w) for w in widths[:-1])  # w of the skip, 2 w from below
        self.pool = nn.MaxPool3d(2)
        self.repeat = nn.Upsample(scale_factor=2, mode="nearest")
        self.head = nn.Conv3d(width, out_channels, kernel_size=1)
        self.multiple = 2**depth

    def forward(self, image: Tensor) -> Tensor:
        """Logits.

        Args:
            image: (N, C, X, Y, Z), of any size.

        Returns:
            (N, out_channels, X, Y, Z).
        """
        size = image.shape[2:]
        x = self.down[0](pad_to_multiple(image, self.multiple, 2 * self.multiple))  # (N, 16, X, Y, Z)
        skips: list[Tensor] = []
        for block in self.down[1:]:
            skips.append(x)
            x = block(self.pool(x))  # half the size, twice the channels
        for block, skip in zip(reversed(self.up), reversed(skips), strict=True):
            x = block(torch.cat([self.repeat(x), skip], dim=1))
        return crop_to(self.head(x), size)


def two_convolutions(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3x3x3 convolutions, each followed by batch norm and ReLU; the size stays."""
    layers: list[nn.Module] = []
    for before in (in_channels, out_channels):
        layers += [
            nn.Conv3d(before, out_channels, kernel_size=3, padding=1, bias=False),  # batch norm has the bias
            nn.BatchNorm3d(out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
