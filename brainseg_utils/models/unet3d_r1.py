"""The "3D U-Net" of report R1: down twice and up twice, but nothing passes across the U.

    image (4, X, Y, Z)
      └ convolutions 4-32-64 ──── (64, X, Y, Z)                          a U-Net would keep this …
          └ max-pool, 64-128-128 ── (128, X/2, Y/2, Z/2)                 … and this
              └ max-pool ── (128, X/4, Y/4, Z/4)
                  └ transposed 128-64, convolution 64-64 ── (64, X/2, Y/2, Z/2)
                      └ transposed 64-5 ── logits (5, X, Y, Z)

Source: report R1, 901,477 parameters: 3x3x3 convolutions with bias, 2x2x2 transposed ones, no normalisation. The 3D
U-Net is Çiçek et al., MICCAI 2016 (arXiv 1606.06650).

Two of R1's mistakes stand here. **No skips**: all that the last layer knows of where a boundary runs has passed through
a grid of X/4 voxels. **Softmax inside** (`softmax_inside=True`): the network ends in a softmax, and the cross-entropy
that follows takes another one of what it holds to be logits. Probabilities lie in 0..1, so after the second softmax no
class of five can have more than e / (e + 4) = .40, the loss cannot fall below .90, and the gradient that arrives is
a fraction of what it should be: R1 saw it and called it "vanishing gradient". Mended, the default: logits.
"""

from __future__ import annotations

from torch import Tensor, nn

from brainseg_utils.models.padding import crop_to, pad_to_multiple


class UNet3DR1(nn.Module):
    """R1's U-Net without skips.

    Args:
        in_channels: modalities.
        out_channels: regions, or classes with the background. R1: 5.
        width: channels of the first convolution; the others are 2, 4 and 2 times as many. R1: 32.
        softmax_inside: R1's mistake: probabilities instead of logits.

    Example:
        >>> import torch
        >>> UNet3DR1(width=4)(torch.zeros(1, 4, 10, 8, 7)).shape
        torch.Size([1, 5, 10, 8, 7])
        >>> sum(p.numel() for p in UNet3DR1().parameters())
        901477
    """

    def __init__(
        self, in_channels: int = 4, out_channels: int = 5, width: int = 32, softmax_inside: bool = False
    ) -> None:
        super().__init__()
        self.fine = nn.Sequential(*_convolution(in_channels, width), *_convolution(width, 2 * width))
        self.coarse = nn.Sequential(*_convolution(2 * width, 4 * width), *_convolution(4 * width, 4 * width))
        self.pool = nn.MaxPool3d(2)
        self.up2 = nn.ConvTranspose3d(4 * width, 2 * width, kernel_size=2, stride=2)
        self.smooth = nn.Sequential(*_convolution(2 * width, 2 * width))
        self.up1 = nn.ConvTranspose3d(2 * width, out_channels, kernel_size=2, stride=2)
        self.softmax_inside = softmax_inside

    def forward(self, image: Tensor) -> Tensor:
        """Logits, or probabilities with `softmax_inside`.

        Args:
            image: (N, C, X, Y, Z), of any size.

        Returns:
            (N, out_channels, X, Y, Z).
        """
        size = image.shape[2:]
        x = self.pool(self.fine(pad_to_multiple(image, 4)))  # (N, 64, X/2, Y/2, Z/2)
        x = self.pool(self.coarse(x))  # (N, 128, X/4, Y/4, Z/4)
        x = self.smooth(self.up2(x))  # (N, 64, X/2, Y/2, Z/2)
        logits = crop_to(self.up1(x), size)
        return logits.softmax(dim=1) if self.softmax_inside else logits


def _convolution(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
