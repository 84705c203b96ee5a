"""The FCNN of report R1: one convolution, one pooling, one transposed convolution.

    image (4, X, Y, Z)
      └ 3x3x3 convolution, ReLU ── (64, X, Y, Z)
          └ max-pool ── (64, X/2, Y/2, Z/2)
              └ transposed 2x2x2 ── logits (5, X, Y, Z)

Source: report R1, 9,541 parameters. The name is that of Long, Shelhamer and Darrell, CVPR 2015 (arXiv 1411.4038), whose
network is a deep one. R1 writes that it "did not yield satisfactory results"; before training one can compute why: an
output voxel sees 4 x 4 x 4 input voxels (`models.receptive`), so the network knows the intensities at a place and not
where the place is.
"""

from __future__ import annotations

from torch import Tensor, nn

from brainseg_utils.models.padding import crop_to, pad_to_multiple


class FCNN3D(nn.Module):
    """R1's smallest network.

    Args:
        in_channels: modalities.
        out_channels: regions, or classes with the background.
        width: channels between. R1: 64.
        softmax_inside: R1's mistake, probabilities instead of logits (`unet3d_r1`).

    Example:
        >>> import torch
        >>> FCNN3D()(torch.zeros(1, 4, 9, 8, 7)).shape
        torch.Size([1, 5, 9, 8, 7])
        >>> sum(p.numel() for p in FCNN3D().parameters())
        9541
    """

    def __init__(
        self, in_channels: int = 4, out_channels: int = 5, width: int = 64, softmax_inside: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, width, kernel_size=3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool3d(2)
        self.up = nn.ConvTranspose3d(width, out_channels, kernel_size=2, stride=2)
        self.softmax_inside = softmax_inside

    def forward(self, image: Tensor) -> Tensor:
        """Logits, or probabilities with `softmax_inside`.

        Args:
            image: (N, C, X, Y, Z), of any size.

        Returns:
            (N, out_channels, X, Y, Z).
        """
        size = image.shape[2:]
        x = self.pool(self.relu(self.conv(pad_to_multiple(image, 2))))  # (N, 64, X/2, Y/2, Z/2)
        logits = crop_to(self.up(x), size)
        return logits.softmax(dim=1) if self.softmax_inside else logits
