"""The attention of Swin-UNETR, written out to be read: windows, shift, mask, relative position bias.

    tokens (N, X, Y, Z, C)                        one vector a patch of 2 x 2 x 2 voxels
      └ roll by half a window (every second block)
          └ cut into windows: (N · windows, T, C)        T = 7 x 7 x 7 = 343 tokens a window
              └ attention inside each window, + bias for how two tokens lie to each other, + mask
                  └ windows put together, rolled back: (N, X, Y, Z, C)

Attention over all tokens of a 128 x 128 x 128 patch would need 64³ x 64³ = 69 billion weights a head; inside windows
it needs 64³ x 343 = 90 million. The price is that windows do not see each other. So every second block cuts its windows
half a window further: what lay at a window's edge lies in its middle. Rolling the volume around its ends makes the
shifted windows whole, but then the last window of an axis holds tokens from both ends of the volume; the mask keeps
those apart.

Sources: Liu et al., ICCV 2021 (arXiv 2103.14030); Hatamizadeh et al. (arXiv 2201.01266) in 3D. Names of the parameters
are MONAI's, so that its weights can be loaded: `tests/unit/models` compare values.

Two things that the numbers hide. Where an axis is no multiple of the window, zeros fill it up, and tokens attend to
them: the mask is for the shift alone. And where a whole axis is shorter than the window, the window shrinks to it;
MONAI then takes the first T rows and columns of the index made for 7 x 7 x 7. There the fifth token is the fifth of a
row of 7; in a window of 4 it is the first of the second row. The biases that such a stage learns are not those of its
geometry. It is so in the fourth stage for patches of 64³ or 96³, whose grids are 4³ and 6³, and not for R0's 128³.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size = tuple[int, int, int]
APART = -100.0  # added to a score: e^-100 is no attention at all


def cut(x: Tensor, window: Sequence[int]) -> Tensor:
    """Cuts a volume into windows.

    Args:
        x: (N, X, Y, Z, C), each axis a multiple of the window's.
        window: its size in tokens.

    Returns:
        (N · windows, T, C), windows and the tokens in them in the order of the axes.

    Example:
        >>> cut(torch.arange(8).reshape(1, 4, 2, 1, 1), (2, 2, 1))[..., 0]
        tensor([[0, 1, 2, 3],
                [4, 5, 6, 7]])
    """
    n, sx, sy, sz, c = x.shape
    a, b, d = window
    x = x.reshape(n, sx // a, a, sy // b, b, sz // d, d, c)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, a * b * d, c)


def join(windows: Tensor, window: Sequence[int], size: Sequence[int]) -> Tensor:
    """Puts windows (N · windows, T, C) together to (N, X, Y, Z, C): the inverse of `cut`."""
    (sx, sy, sz), (a, b, d) = size, window
    x = windows.reshape(-1, sx // a, sy // b, sz // d, a, b, d, windows.shape[-1])
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, sx, sy, sz, windows.shape[-1])


def shift_mask(size: Sequence[int], window: Sequence[int], shift: Sequence[int]) -> Tensor:
    """What to add to the scores so that tokens brought together by the roll do not see each other.

    Along an axis a rolled volume has three parts: whole windows, then the last window's two halves, which come from
    the volume's two ends. Each combination of parts gets a number; only tokens of one number may see each other.

    Args:
        size: of the volume in tokens (X, Y, Z), multiples of the window.
        window: its size.
        shift: by how much the volume was rolled.

    Returns:
        (windows, T, T): 0 or `APART`.
    """
    part = torch.zeros(1, *size, 1)
    edges = [[(0, s - w), (s - w, s - h), (s - h, s)] for s, w, h in zip(size, window, shift, strict=True)]
    for number, ((x0, x1), (y0, y1), (z0, z1)) in enumerate(itertools.product(*edges)):
        part[:, x0:x1, y0:y1, z0:z1] = number
    numbers = cut(part, window)[..., 0]  # (windows, T)
    return (numbers[:, :, None] != numbers[:, None, :]) * APART


def position_index(window: Sequence[int]) -> Tensor:
    """Which bias belongs to which pair of tokens: (T, T), numbers of the table's rows.

    Two tokens of a window of 7 lie -6 to 6 apart along an axis: 13 x 13 x 13 = 2,197 ways to lie to each other, and a
    learned number a head for each. Pairs that lie alike share it, wherever they are.
    """
    where = torch.stack(torch.meshgrid(*(torch.arange(w) for w in window), indexing="ij")).flatten(1)  # (3, T)
    apart = where[:, :, None] - where[:, None, :]  # (3, T, T), -6 to 6
    index = torch.zeros_like(apart[0])
    for axis, length in enumerate(window):
        index = index * (2 * length - 1) + apart[axis] + length - 1
    return index


class WindowAttention(nn.Module):
    """Attention among the tokens of a window.

    Args:
        dim: channels of a token.
        heads: of the attention; they divide `dim`.
        window: its size in tokens.
    """

    relative_position_index: Tensor

    def __init__(self, dim: int, heads: int, window: Sequence[int]) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        ways = math.prod(2 * w - 1 for w in window)
        self.relative_position_bias_table = nn.Parameter(torch.randn(ways, heads) * 0.02)
        self.register_buffer("relative_position_index", position_index(window))

    def weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """How much each token takes from each other.

        Args:
            x: (B, T, C), B = images · windows, the windows of an image together.
            mask: (windows, T, T) of `shift_mask`.

        Returns:
            (B, heads, T, T), each row a distribution.
        """
        query, key, _ = self._split(x)
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        t = x.shape[1]
        bias = self.relative_position_bias_table[self.relative_position_index[:t, :t]]  # (T, T, heads)
        scores = scores + bias.permute(2, 0, 1)
        if mask is not None:
            scores = (scores.unflatten(0, (-1, len(mask))) + mask[:, None]).flatten(0, 1)
        return scores.softmax(dim=-1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        gathered = self.weights(x, mask) @ self._split(x)[2]  # (B, heads, T, C / heads)
        return self.proj(gathered.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return query, key, value


class SwinBlock(nn.Module):
    """One block of Swin: normalise, attend in (shifted) windows, add; normalise, MLP, add.

    Args:
        dim: channels of a token.
        heads: of the attention.
        window: its size in tokens.
        shift: how far the windows are moved; 0 in every first block, half a window in every second.

    Example:
        >>> block = SwinBlock(12, heads=3, window=(4, 4, 4), shift=(2, 2, 2))
        >>> block(torch.zeros(2, 8, 8, 5, 12)).shape
        torch.Size([2, 8, 8, 5, 12])
    """

    def __init__(self, dim: int, heads: int, window: Size = (7, 7, 7), shift: Size = (0, 0, 0)) -> None:
        super().__init__()
        self.window, self.shift = tuple(window), tuple(shift)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, heads, window)
        self.mlp = nn.ModuleDict({"linear1": nn.Linear(dim, 4 * dim), "linear2": nn.Linear(4 * dim, dim)})

    def forward(self, x: Tensor) -> Tensor:
        """(N, X, Y, Z, C) to (N, X, Y, Z, C), of any size."""
        x = x + self._attend(self.norm1(x))
        return x + self.mlp["linear2"](F.gelu(self.mlp["linear1"](self.norm2(x))))

    def _attend(self, x: Tensor) -> Tensor:
        size = x.shape[1:4]
        window, shift = fit(size, self.window, self.shift)
        x = F.pad(x, (0, 0, *(n for s, w in zip(size[::-1], window[::-1], strict=True) for n in (0, -s % w))))
        full, mask = x.shape[1:4], None
        if any(shift):
            x = torch.roll(x, [-s for s in shift], dims=(1, 2, 3))
            mask = shift_mask(full, window, shift).to(x.device)
        x = join(self.attn(cut(x, window), mask), window, full)
        x = torch.roll(x, shift, dims=(1, 2, 3))
        return x[:, : size[0], : size[1], : size[2]]


def fit(size: Sequence[int], window: Sequence[int], shift: Sequence[int]) -> tuple[list[int], list[int]]:
    """Window and shift of a volume: an axis that is no longer than the window is one window, and is not shifted.

    Example:
        >>> fit((16, 7, 4), (7, 7, 7), (3, 3, 3))
        ([7, 7, 4], [3, 0, 0])
    """
    fits = [s > w for s, w in zip(size, window, strict=True)]
    return (
        [w if f else s for s, w, f in zip(size, window, fits, strict=True)],
        [h if f else 0 for h, f in zip(shift, fits, strict=True)],
    )
