"""SETR of report R2: a transformer reads the slice as a sentence of patches, convolutions draw the mask.

    image (3, 128, 128)
      └ cut into cuts x cuts patches, each flattened: (cuts², 3 · patch²)       patch = 128 / cuts
          └ linear embedding + learned positions: (cuts², 1024)
              └ 8 times: attention over the patches, then an MLP, each around a shortcut
                  └ folded back to a small image: (1024, cuts, cuts)
                      └ stages that double it: (256, cuts · 2^stages, …)
                          └ 1x1 convolution: logits

Sources: report R2; SETR is Zheng et al., CVPR 2021 (arXiv 2012.15840), its encoder the ViT of Dosovitskiy et al.
(arXiv 2010.11929). Counted from R2's text: 72,198,401 parameters with 4 cuts, 69,888,257 with 8; attention with
biases, no class token, no norm after the last layer. The sigmoid that R2 puts at the end stands in the loss here.

R2's mistake, kept: `stages` is always 4, which enlarges 16 times. 8 cuts of 16 pixels come back at 128 pixels, 4 cuts
of 32 pixels at 64: the mask has half the image's size and cannot be compared with it. Mended (`stages=None`): a patch
of 2^s pixels needs s doublings, so s = log2(patch), whatever the number of cuts.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from brainseg_utils.errors import SettingError

R2_STAGES = 4


class SETR(nn.Module):
    """R2's SETR, as stated or mended.

    Args:
        in_channels: of the slices.
        out_channels: of the mask.
        size: pixels of the square slice. R2: 128.
        cuts: patches a side. R2: 4.
        dim: of a patch's embedding. R2: 1024.
        depth: transformer layers. R2: 8.
        heads: of the attention. R2: 8.
        mlp: hidden units of a layer's MLP. R2: 2048.
        decoder: channels of the decoder. R2: 256.
        stages: doublings in the decoder; R2: 4. None: as many as the patch needs.

    Raises:
        SettingError: cuts that do not divide the size, heads that do not divide the dimension, or a patch whose size
            is no power of two while `stages` is None.

    Example:
        >>> as_stated = SETR(dim=32, depth=1, heads=4, mlp=64, decoder=8, cuts=4, stages=4)
        >>> mended = SETR(dim=32, depth=1, heads=4, mlp=64, decoder=8, cuts=4)
        >>> image = torch.zeros(1, 3, 128, 128)
        >>> as_stated(image).shape[-1], mended(image).shape[-1]
        (64, 128)
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        size: int = 128,
        cuts: int = 4,
        dim: int = 1024,
        depth: int = 8,
        heads: int = 8,
        mlp: int = 2048,
        decoder: int = 256,
        stages: int | None = None,
    ) -> None:
        super().__init__()
        self.cuts, self.patch = cuts, _patch(size, cuts)
        if dim % heads:
            raise SettingError(f"{heads} heads for a dimension of {dim}", expected="a dimension that heads divide")
        stages = _doublings(self.patch) if stages is None else stages
        self.embed = nn.Linear(in_channels * self.patch**2, dim)
        self.positions = nn.Parameter(torch.randn(1, cuts**2, dim) * 0.02)
        self.layers = nn.ModuleList(Layer(dim, heads, mlp) for _ in range(depth))
        self.decoder = nn.Sequential(
            *(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairwise([dim] + [decoder] * stages))
        )
        self.head = nn.Conv2d(decoder if stages else dim, out_channels, kernel_size=1)

    def tokens(self, image: Tensor) -> Tensor:
        """Patches as vectors: (N, C, H, W) to (N, cuts², dim), patches row by row."""
        n, c, _, _ = image.shape
        p = self.patch
        x = image.reshape(n, c, self.cuts, p, self.cuts, p)  # (N, C, row, y, column, x)
        x = x.permute(0, 2, 4, 1, 3, 5)  # (N, row, column, C, y, x)
        return self.embed(x.reshape(n, self.cuts**2, c * p * p)) + self.positions

    def forward(self, image: Tensor) -> Tensor:
        """Logits.

        Args:
            image: (N, C, size, size).

        Returns:
            (N, out_channels, cuts · 2^stages, cuts · 2^stages).
        """
        x = self.tokens(image)  # (N, cuts², dim)
        for layer in self.layers:
            x = layer(x)
        x = x.transpose(1, 2).unflatten(2, (self.cuts, self.cuts))  # (N, dim, cuts, cuts)
        return self.head(self.decoder(x))

    @torch.no_grad()
    def attention_maps(self, image: Tensor) -> Tensor:
        """Which patch looks at which.

        Args:
            image: (N, C, size, size).

        Returns:
            (depth, N, heads, cuts², cuts²); row q holds how much patch q takes from each patch and adds up to 1.
        """
        x = self.tokens(image)
        maps = []
        for layer in self.layers:
            assert isinstance(layer, Layer)
            maps.append(layer.attend.weights(layer.norm1(x)))
            x = layer(x)
        return torch.stack(maps)


class Layer(nn.Module):
    """One transformer layer: normalise, attend, add; normalise, MLP, add."""

    def __init__(self, dim: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attend = Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp), nn.ReLU(), nn.Linear(mlp, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, dim) to (N, T, dim)."""
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Every patch gathers from all patches of its own image, weighted by how well query and key agree."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (N, heads, T, dim / heads): attention runs over T, never over N."""
        parts = self.query_key_value(x).unflatten(2, (3, self.heads, -1))  # (N, T, 3, heads, dim / heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        return query, key, value

    def weights(self, x: Tensor) -> Tensor:
        """(N, T, dim) to the attention (N, heads, T, T), each row a distribution."""
        query, key, _ = self.split(x)
        return torch.softmax(query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1]), dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, dim) to (N, T, dim)."""
        query, key, value = self.split(x)
        gathered = nn.functional.scaled_dot_product_attention(query, key, value)  # the same weights, never stored
        return self.out(gathered.transpose(1, 2).flatten(2))  # heads side by side again


def _patch(size: int, cuts: int) -> int:
    if cuts < 1 or size % cuts:
        raise SettingError(f"{cuts} cuts of {size} pixels", expected="a number of cuts that divides the size")
    return size // cuts


def _doublings(patch: int) -> int:
    if patch & (patch - 1):
        raise SettingError(
            f"patches of {patch} pixels", expected="a power of two", remedy="choose size / cuts = 4, 8, 16 or 32"
        )
    return patch.bit_length() - 1
