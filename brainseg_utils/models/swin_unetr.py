"""Swin-UNETR of report R0: a transformer with windows reads the scan, a convolutional decoder draws the regions.

    image (4, 128, 128, 128)
      ├ two convolutions ─────────────────────────────────────── (48, 128³) ─ skip ─┐
      └ patches of 2x2x2 become tokens ── (48, 64³) ──────────────────────── skip ─┐ │
          └ 2 blocks in windows of 7³, merge 2x2x2 ── (96, 32³) ──────────── skip ─┤ │
              └ 2 blocks, merge ── (192, 16³) ────────────────────────────── skip ─┤ │
                  └ 2 blocks, merge ── (384, 8³) ─────────────────────────── skip ─┤ │
                      └ 2 blocks, merge ── (768, 4³)                               │ │
                          └ five times: transposed 2x2x2, join, two convolutions ──┴─┘
                              └ 1x1x1 convolution ── logits (3, 128, 128, 128)

Sources: report R0; Hatamizadeh et al. (arXiv 2201.01266); version 2, a residual convolution block before each stage,
He et al., MICCAI 2023 (doi:10.1007/978-3-031-43901-8_40). The network is MONAI's. R0's settings have 62,191,941
parameters (72,767,301 in version 2), counted; R0 states 84,842,997. `models.window_attention` is its attention to read.

Here stand what MONAI leaves to the caller: sizes that are no multiple of 32 are padded, and a patch grows to 64 at
least, because at 32 the coarsest grid has one voxel and instance norm of one voxel is no number; and the attention,
which MONAI computes and drops, can be looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import SwinTransformerBlock
from torch import Tensor, nn

from brainseg_utils.errors import SettingError
from brainseg_utils.models import window_attention as by_hand
from brainseg_utils.models.padding import crop_to, pad_to_multiple

MULTIPLE, SMALLEST = 32, 64
HEADS = (3, 6, 12, 24)


class SwinUNETR3D(nn.Module):
    """MONAI's Swin-UNETR with R0's settings.

    Args:
        in_channels: modalities.
        out_channels: regions. R0: ET, TC, WT.
        feature_size: channels of a token of 2x2x2 voxels, a multiple of 12. R0: 48.
        depths: blocks a stage.
        heads: of the attention a stage.
        window: tokens a side of a window.
        checkpoint: keep less for the backward pass and compute it again there: less memory, more time.
        v2: a residual convolution block before each stage.
        dropout: probability in the transformer.

    Raises:
        SettingError: a feature size that is no multiple of 12.

    Example:
        >>> network = SwinUNETR3D(feature_size=12)
        >>> sum(p.numel() for p in network.parameters())
        4079373
    """

    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int = 3,
        feature_size: int = 48,
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = HEADS,
        window: int = 7,
        checkpoint: bool = False,
        v2: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if feature_size < 12 or feature_size % 12:
            raise SettingError(
                f"feature_size = {feature_size}", where="network swin_unetr", expected="a multiple of 12"
            )
        self.network = SwinUNETR(
            in_channels=in_channels,
            out_channels=out_channels,
            feature_size=feature_size,
            depths=tuple(depths),
            num_heads=tuple(heads),
            window_size=window,
            drop_rate=dropout,
            use_checkpoint=checkpoint,
            use_v2=v2,
        )

    def forward(self, image: Tensor) -> Tensor:
        """Logits.

        Args:
            image: (N, C, X, Y, Z), of any size.

        Returns:
            (N, out_channels, X, Y, Z).
        """
        return crop_to(self.network(_fill(image)), image.shape[2:])

    @torch.no_grad()
    def attention_maps(self, image: Tensor) -> list[Attention]:
        """What each block attends to; the weights are computed when they are asked for.

        Args:
            image: (N, C, X, Y, Z), of any size.

        Returns:
            One record a block, first stage first. Stage s has a token for 2^s voxels along each axis.
        """
        found: list[Attention] = []
        hooks = []
        for stage in range(1, 5):
            layer = getattr(self.network.swinViT, f"layers{stage}")[0]
            for number, block in enumerate(layer.blocks):
                record = partial(_record, found, stage, number)
                hooks.append(block.register_forward_pre_hook(record))
        mode = self.training
        try:
            self.eval()
            self.network.swinViT(_fill(image))
        finally:
            self.train(mode)
            for hook in hooks:
                hook.remove()
        return found


@dataclass(frozen=True)
class Attention:
    """The attention of one block for one batch of images.

    Attributes:
        stage: 1 to 4; a token stands for 2^stage voxels along each axis.
        block: in the stage, from 0; odd ones are shifted.
        size: of the grid of tokens (X, Y, Z).
        window: tokens a side; smaller than the network's where the grid is.
        shift: by which the windows are moved.
        tokens: normalised input of the attention, (N, X, Y, Z, C).
        layer: what computes the weights, hand-written, with the block's own parameters.
    """

    stage: int
    block: int
    size: tuple[int, int, int]
    window: tuple[int, int, int]
    shift: tuple[int, int, int]
    tokens: Tensor
    layer: by_hand.WindowAttention

    @torch.no_grad()
    def weights(self) -> Tensor:
        """All weights: (N · windows, heads, T, T), each row a distribution.

        A large grid has many: 1,000 windows of 343 tokens and 3 heads are 1.4 GB at the first stage of 128³ voxels.
        """
        return self.layer.weights(by_hand.cut(self._rolled(), self.window), self._mask())

    @torch.no_grad()
    def seen_from(self, token: Sequence[int], image: int = 0) -> Tensor:
        """How much one token takes from each token.

        Args:
            token: its place on the grid (x, y, z).
            image: of the batch.

        Returns:
            (heads, X, Y, Z), 0 outside its window. Adds up to 1 for each head, less what padding takes.
        """
        full = self._rolled().shape[1:4]
        chosen = torch.zeros(1, *full, 1)
        moved = [(t - s) % f for t, s, f in zip(token, self.shift, full, strict=True)]
        chosen[0, moved[0], moved[1], moved[2]] = 1
        window, row = by_hand.cut(chosen, self.window)[..., 0].nonzero()[0].tolist()
        x = by_hand.cut(self._rolled()[image : image + 1], self.window)[window : window + 1]
        mask = self._mask()
        row_weights = self.layer.weights(x, None if mask is None else mask[window : window + 1])[
            0, :, row
        ]  # (heads, T)
        windows = torch.zeros(chosen.numel() // row_weights.shape[1], row_weights.shape[1], len(row_weights))
        windows[window] = row_weights.T.cpu()
        return self._unrolled(by_hand.join(windows, self.window, full))[0].permute(3, 0, 1, 2)

    @torch.no_grad()
    def received(self, image: int = 0) -> Tensor:
        """How much attention each token gets, mean over heads; 1 is an equal share.

        Args:
            image: of the batch.

        Returns:
            (X, Y, Z).
        """
        full = self._rolled().shape[1:4]
        windows = by_hand.cut(self._rolled()[image : image + 1], self.window)
        mask = self._mask()
        gets = [  # a window at a time: all at once would not fit
            self.layer.weights(one[None], None if mask is None else mask[n : n + 1])[0].mean(0).sum(0)
            for n, one in enumerate(windows)
        ]
        return self._unrolled(by_hand.join(torch.stack(gets)[..., None], self.window, full))[0, ..., 0]

    def _rolled(self) -> Tensor:
        pads = [n for s, w in zip(self.size[::-1], self.window[::-1], strict=True) for n in (0, -s % w)]
        return torch.roll(F.pad(self.tokens, (0, 0, *pads)), [-s for s in self.shift], dims=(1, 2, 3))

    def _unrolled(self, x: Tensor) -> Tensor:
        x = torch.roll(x, self.shift, dims=(1, 2, 3))
        return x[:, : self.size[0], : self.size[1], : self.size[2]]

    def _mask(self) -> Tensor | None:
        if not any(self.shift):
            return None
        full = [s + -s % w for s, w in zip(self.size, self.window, strict=True)]
        return by_hand.shift_mask(full, self.window, self.shift).to(self.tokens.device)


def _record(
    found: list[Attention], stage: int, number: int, block: SwinTransformerBlock, inputs: tuple[Tensor, Tensor]
) -> None:
    """A hook: writes down what the block is about to attend to."""
    tokens = block.norm1(inputs[0])
    size = tuple(tokens.shape[1:4])
    window, shift = by_hand.fit(size, block.window_size, block.shift_size)
    layer = by_hand.WindowAttention(tokens.shape[-1], block.num_heads, block.window_size).to(tokens.device)
    layer.load_state_dict(block.attn.state_dict())
    found.append(Attention(stage, number, size, tuple(window), tuple(shift), tokens, layer))  # type: ignore[arg-type]


def _fill(image: Tensor) -> Tensor:
    """Pads to multiples of 32, and to 64 at least, with copies of the last plane."""
    return pad_to_multiple(image, MULTIPLE, SMALLEST)
