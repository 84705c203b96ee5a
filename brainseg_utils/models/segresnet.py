"""SegResNet with its autoencoder branch: a segmentation network that must also be able to redraw the scan.

    image (4, X, Y, Z)
      └ convolution, residual blocks at 8, 16, 32, 64 channels, each scale half the size of the one before
          ├ back up, skips added ── logits (3, X, Y, Z)
          └ only in training: squeezed into 128 numbers, a little noise, redrawn ── image again (4, X, Y, Z)

The second branch (a variational autoencoder, VAE) asks the encoder to keep what a scan looks like, a task that needs no
label: with few labelled scans it works against over-fitting. Its loss is the squared error of the redrawn image plus
the price of numbers that are far from a standard normal distribution.

Source: Myronenko, BrainLes 2018 (arXiv 1810.11654), the winner of BraTS 2018, asked for in report R3's ablation. The
network is MONAI's `SegResNetVAE`, which departs from the paper: its two branches share the decoder's layers, and
the spread of the noise is a constant .3. The paper's weight of the branch, .1, is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.networks.nets import SegResNet, SegResNetVAE
from torch import Tensor, nn

from brainseg_utils.errors import SettingError
from brainseg_utils.models.padding import crop_to, pad_to_multiple

VAE_WEIGHT = 0.1  # of the paper, for both parts of the branch's loss
CODE = 128
MULTIPLE = 8  # three halvings in the network


class SegResNet3D(nn.Module):
    """SegResNet, with or without the autoencoder branch.

    After each forward pass in training mode the branch's loss waits in `take_penalty()`; the training loop adds it.

    Args:
        in_channels: modalities.
        out_channels: regions, or classes with the background.
        width: channels at full size, a multiple of 8 (group norm). Paper: 32.
        dropout: probability after the first convolution. Paper: .2.
        vae: with the branch.
        size: of the training patches (X, Y, Z), each divisible by 16; the branch is made for it. In evaluation mode
            any size goes through.
        vae_weight: of the branch's loss.

    Raises:
        SettingError: a width or a size that does not divide.

    Example:
        >>> import torch
        >>> network = SegResNet3D(size=(16, 16, 16)).eval()
        >>> network(torch.zeros(1, 4, 9, 16, 12)).shape
        torch.Size([1, 3, 9, 16, 12])
    """

    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int = 3,
        width: int = 8,
        dropout: float = 0.2,
        vae: bool = True,
        size: Sequence[int] = (64, 64, 64),
        vae_weight: float = VAE_WEIGHT,
    ) -> None:
        super().__init__()
        if width < 8 or width % 8:
            raise SettingError(f"width = {width}", where="network segresnet", expected="a multiple of 8")
        if vae and (len(size) != 3 or any(length < 16 or length % 16 for length in size)):
            raise SettingError(
                f"size = {tuple(size)}", where="network segresnet with vae", expected="three multiples of 16"
            )
        options: dict[str, Any] = {"in_channels": in_channels, "out_channels": out_channels, "init_filters": width}
        options["dropout_prob"] = dropout or None
        self.network = SegResNetVAE(list(size), vae_nz=CODE, **options) if vae else SegResNet(**options)
        if vae:
            del self.network.vae_fc2  # would estimate the noise: unused with a constant one, and never trained
        self.vae, self.vae_weight, self.size = vae, vae_weight, tuple(size)
        self._penalty: Tensor | None = None

    def forward(self, image: Tensor) -> Tensor:
        """Logits.

        Args:
            image: (N, C, X, Y, Z), with the branch in training mode of the stated size, else of any.

        Returns:
            (N, out_channels, X, Y, Z).

        Raises:
            SettingError: another size in training.
        """
        self._penalty = None
        if not self.vae:
            return crop_to(self.network(pad_to_multiple(image, MULTIPLE)), image.shape[2:])
        if self.training and tuple(image.shape[2:]) != self.size:
            raise SettingError(
                f"patches of {tuple(image.shape[2:])}",
                where="network segresnet with vae",
                expected=f"{self.size}",
                remedy="set the network's option size to data.size, or vae = false",
            )
        logits, penalty = self.network(pad_to_multiple(image, MULTIPLE))
        if penalty is not None:
            self._penalty = self.vae_weight * penalty
        return crop_to(logits, image.shape[2:])

    def take_penalty(self) -> Tensor | None:
        """The branch's loss of the last forward pass in training mode, a scalar, handed out once."""
        penalty, self._penalty = self._penalty, None
        return penalty
