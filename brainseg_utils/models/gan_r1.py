"""The GAN of report R1, at its stated size: a generator that draws a tumour mask, and a discriminator that judges it.

    generator      image (4, X, Y, Z)
                     └ convolution 4-64 ── convolution 64-128, stride 2 ── (128, X/2, Y/2, Z/2)
                         └ transposed 128-64, stride 2 ── convolution 64-1, sigmoid ── mask (1, X, Y, Z)
    discriminator  image and mask (5, X, Y, Z)
                     └ convolution 5-64, stride 2 ── 64-128, stride 2 ── 128-1, sigmoid ── (1, X/4, Y/4, Z/4)

Source: report R1: 451,265 and 233,473 parameters, 3x3x3 kernels with bias throughout. R1 does not state the activations
between the layers: ReLU in the generator and leaky ReLU of slope .2 in the discriminator are the course's choice. It
ran out of memory and was abandoned; its weights take 3 MB, so what did not fit were the activations: one volume of
64 channels at 182 x 218 x 182 voxels is 1.85 GB, and several are kept for the backward pass.
"""

from __future__ import annotations

from torch import Tensor, nn

from brainseg_utils.models.padding import crop_to, pad_to_multiple

LEAK = 0.2


class GeneratorR1(nn.Module):
    """R1's generator: a scan to the probability of tumour.

    Args:
        in_channels: modalities.
        out_channels: of the mask. R1: 1.
        width: of the first convolution. R1: 64.

    Example:
        >>> import torch
        >>> GeneratorR1(width=4)(torch.zeros(1, 4, 9, 8, 7)).shape
        torch.Size([1, 1, 9, 8, 7])
        >>> sum(p.numel() for p in GeneratorR1().parameters())
        451265
    """

    def __init__(self, in_channels: int = 4, out_channels: int = 1, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(in_channels, width, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv3d(width, 2 * width, kernel_size=3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.ConvTranspose3d(2 * width, width, kernel_size=3, stride=2, padding=1, output_padding=1),
            nn.ReLU(inplace=True),
            nn.Conv3d(width, out_channels, kernel_size=3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, X, Y, Z), of any size, to probabilities (N, out_channels, X, Y, Z)."""
        return crop_to(self.layers(pad_to_multiple(image, 2)), image.shape[2:])


class DiscriminatorR1(nn.Module):
    """R1's discriminator: how real a mask looks beside its scan, patch by patch.

    Args:
        in_channels: modalities and mask. R1: 5.
        width: of the first convolution. R1: 64.

    Example:
        >>> import torch
        >>> DiscriminatorR1(width=4)(torch.zeros(1, 5, 8, 8, 8)).shape
        torch.Size([1, 1, 2, 2, 2])
        >>> sum(p.numel() for p in DiscriminatorR1().parameters())
        233473
    """

    def __init__(self, in_channels: int = 5, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(in_channels, width, kernel_size=3, stride=2, padding=1),
            nn.LeakyReLU(LEAK, inplace=True),
            nn.Conv3d(width, 2 * width, kernel_size=3, stride=2, padding=1),
            nn.LeakyReLU(LEAK, inplace=True),
            nn.Conv3d(2 * width, 1, kernel_size=3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, image: Tensor) -> Tensor:
        """(N, in_channels, X, Y, Z) to probabilities (N, 1, X/4, Y/4, Z/4), rounded up."""
        return self.layers(image)
