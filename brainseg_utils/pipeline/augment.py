"""What each augmentation does, with its strength given: pure functions on tensors, for sliders and for the random
transforms of `course`.

Images are (C, X, Y, Z) float32 tensors, normalised, with a background of exactly 0 that every function leaves alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

BLUR_REACH = 3  # the Gaussian is cut at this many sd


def rotation_matrix(degrees: Sequence[float] | np.ndarray, scale: float = 1.0) -> torch.Tensor:
    """(3, 3) matrix that turns about X, then Y, then Z, and enlarges by `scale`.

    Example:
        >>> rotation_matrix((0, 0, 90)).round().int().tolist()
        [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    """
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        a, b = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = (-np.sin(angle), np.sin(angle)) if axis != 1 else (np.sin(angle), -np.sin(angle))
        matrix = turn @ matrix
    return torch.as_tensor(scale * matrix, dtype=torch.float32)


def sampling_grid(
    shape: Sequence[int], matrix: torch.Tensor | None = None, displacement: torch.Tensor | None = None
) -> torch.Tensor:
    """Where each voxel of the result is read from, for `warp`: (1, X, Y, Z, 3) in PyTorch's -1..1, last axis first.

    Args:
        shape: X, Y, Z.
        matrix: (3, 3) by which the content is turned and enlarged about the centre; None leaves it.
        displacement: (3, a, b, c) coarse field in voxels, for `enlarge`; None is 0.
    """
    half = torch.tensor([(n - 1) / 2 for n in shape])
    inverse = torch.eye(3) if matrix is None else torch.linalg.inv(matrix)
    grid = torch.from_numpy(np.empty((*shape, 3), np.float32))  # NumPy's memory: large pages, far quicker to touch
    axes = [torch.arange(n, dtype=torch.float32) - h for n, h in zip(shape, half.tolist(), strict=True)]
    for axis in range(3):
        x, y, z = (inverse[axis, k] * axes[k] / max(float(half[axis]), 0.5) for k in range(3))
        grid[..., 2 - axis] = x[:, None, None] + y[None, :, None] + z[None, None, :]
    if displacement is not None:
        for axis, field in enumerate(enlarge(displacement, shape)):
            grid[..., 2 - axis] -= field / max(float(half[axis]), 0.5)
    return grid[None]


def enlarge(knots: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """A coarse field (C, a, b, c) to (C, X, Y, Z), linear between knots, the outer knots at the outer voxels.

    One small matrix product an axis, several times quicker than `torch.nn.functional.interpolate`.

    Example:
        >>> enlarge(torch.tensor([0.0, 2.0]).view(1, 1, 1, 2), (1, 1, 3)).tolist()
        [[[[0.0, 1.0, 2.0]]]]
    """
    field = knots.float()
    for axis, side in enumerate(shape, 1):
        count = field.shape[axis]
        place = torch.linspace(0, count - 1, side)
        weights = (1 - (place[:, None] - torch.arange(count)).abs()).clamp_(min=0)
        field = torch.tensordot(field, weights, dims=([axis], [1])).movedim(-1, axis)
    return field


def warp(volume: torch.Tensor, grid: torch.Tensor, nearest: bool = False) -> torch.Tensor:
    """Reads a (C, X, Y, Z) volume at the places of `sampling_grid`; 0 comes in from outside.

    Args:
        volume: image or label channels of any type; the type is kept.
        grid: from `sampling_grid`.
        nearest: True for labels, which must not be mixed.
    """
    mode = "nearest" if nearest else "bilinear"
    out = F.grid_sample(volume[None].float(), grid, mode=mode, padding_mode="zeros", align_corners=True)[0]
    return out.to(volume.dtype)


def gamma(image: torch.Tensor, exponents: Sequence[float]) -> torch.Tensor:
    """Bends each channel's tone curve: the range between its extremes is raised to a power.

    Args:
        image: (C, X, Y, Z).
        exponents: one a channel; 1 leaves it, below 1 brightens the middle tones.
    """

    def bend(channel: torch.Tensor, exponent: float) -> torch.Tensor:
        low, high = channel.aminmax()
        spread = (high - low).clamp_(min=1e-6)
        return channel.sub(low).div_(spread).pow_(float(exponent)).mul_(spread).add_(low)

    return _inside_brain(image, bend, exponents)


def tone_curve(image: torch.Tensor, curves: np.ndarray) -> torch.Tensor:
    """Gives each channel another tone curve, straight between knots; it may fall, so that dark tissue becomes bright.

    What lies beyond the outer knots takes their value. Source: the non-linear transformation of Zhou et al. (Models
    Genesis, doi 10.1016/j.media.2020.101840), with straight pieces for Bezier curves.

    Args:
        image: (C, X, Y, Z).
        curves: (C, K, 2): intensity before and after at each knot, the first increasing.
    """

    def bend(channel: torch.Tensor, curve: np.ndarray) -> torch.Tensor:
        values = np.interp(channel.numpy().reshape(-1), curve[:, 0], curve[:, 1])
        return torch.from_numpy(values.astype(np.float32).reshape(tuple(channel.shape)))

    return _inside_brain(image, bend, curves)


def gain_offset(image: torch.Tensor, gains: Sequence[float], offsets: Sequence[float]) -> torch.Tensor:
    """Each channel times a gain plus an offset (in sd of the normalised image), inside the brain."""
    return _inside_brain(image, lambda channel, gain, offset: channel.mul(gain).add_(offset), gains, offsets)


def bias_field(image: torch.Tensor, knots: torch.Tensor) -> torch.Tensor:
    """Shading by the receive coil: intensities above each channel's minimum times a smooth field.

    Args:
        image: (C, X, Y, Z).
        knots: (C, a, b, c) logarithm of the field on a coarse grid; 0 leaves the image.
    """

    def shade(channel: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        floor = channel.min()
        return channel.sub(floor).mul_(enlarge(coarse[None], channel.shape)[0].exp_()).add_(floor)

    return _inside_brain(image, shade, knots)


def blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur with `sigma` in voxels, inside the brain."""
    reach = max(1, round(BLUR_REACH * sigma))
    weights = np.exp(-0.5 * (np.arange(reach + 1) / max(sigma, 1e-6)) ** 2)
    weights /= weights[0] + 2 * weights[1:].sum()

    def smooth(channel: torch.Tensor) -> torch.Tensor:
        for axis, side in enumerate(channel.shape):
            out = channel * float(weights[0])
            for step in range(1, min(reach, side - 1) + 1):
                near, far = channel.narrow(axis, 0, side - step), channel.narrow(axis, step, side - step)
                out.narrow(axis, step, side - step).add_(near, alpha=float(weights[step]))
                out.narrow(axis, 0, side - step).add_(far, alpha=float(weights[step]))
            channel = out
        return channel

    return _inside_brain(image, smooth)


def noise(image: torch.Tensor, sd: float, generator: torch.Generator | None = None) -> torch.Tensor:
    """Independent Gaussian noise of standard deviation `sd` on every brain voxel and channel."""
    return _inside_brain(image, lambda c: torch.empty(c.shape).normal_(0, sd, generator=generator).add_(c))


def _inside_brain(image: torch.Tensor, change: Callable[..., torch.Tensor], *values: Iterable) -> torch.Tensor:
    """Changes channel after channel (a channel fits the processor's memory, an image does not); keeps the zeros."""
    out = torch.from_numpy(np.empty(image.shape, np.float32))
    for target, channel, *own in zip(out, image, *values, strict=True):
        torch.mul(change(channel, *own), channel != 0, out=target)
    return out


def drop(image: torch.Tensor, channels: Sequence[int]) -> torch.Tensor:
    """Sets whole modalities to 0, as if they had not been acquired."""
    out = image.clone()
    out[list(channels)] = 0
    return out
