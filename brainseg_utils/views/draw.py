"""Pixels: text, patterns, borders and resizing for `slices.render`. All arrays are rows by columns."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from brainseg_utils.views.palette import Dash, Pattern

HALO = 0.75  # opacity of the dark rim that keeps letters readable on bright tissue


@lru_cache(maxsize=1024)
def text(words: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Letters and their rim as opacity maps (rows, columns), float32 0 to 1, in the font that matplotlib brings."""
    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
    ascent, descent = font.getmetrics()
    width = max(1, int(np.ceil(font.getlength(words))))
    picture = Image.new("L", (width + 2, ascent + descent + 2))
    ImageDraw.Draw(picture).text((1, 1), words, font=font, fill=255)
    letters = np.asarray(picture, np.float32) / 255
    rim = letters.copy()
    for axis in (0, 1):
        rim = np.maximum(rim, np.maximum(np.roll(rim, 1, axis), np.roll(rim, -1, axis)))
    letters.setflags(write=False)
    rim.setflags(write=False)
    return letters, rim


def text_width(words: str, size: int) -> int:
    """Columns that a text takes."""
    return text(words, size)[0].shape[1]


def write(canvas: np.ndarray, words: str, row: float, column: float, size: int, anchor: str, grey: int = 235) -> None:
    """Writes onto a picture in place; what falls outside is cut.

    Args:
        canvas: (H, W, 3) uint8.
        words: one line of text.
        row: of the anchor.
        column: of the anchor.
        size: font size in pixels.
        anchor: two letters, vertical t, m or b and horizontal l, m or r.
        grey: brightness of the letters.
    """
    letters, rim = text(words, size)
    height, width = letters.shape
    top = int(row - {"t": 0, "m": height / 2, "b": height}[anchor[0]])
    left = int(column - {"l": 0, "m": width / 2, "r": width}[anchor[1]])
    r0, c0 = max(top, 0), max(left, 0)
    r1, c1 = min(top + height, canvas.shape[0]), min(left + width, canvas.shape[1])
    if r0 >= r1 or c0 >= c1:
        return
    cut = slice(r0 - top, r1 - top), slice(c0 - left, c1 - left)
    ink, dark = letters[cut][..., None], rim[cut][..., None] * HALO
    under = canvas[r0:r1, c0:c1] * (1 - dark)
    canvas[r0:r1, c0:c1] = (under * (1 - ink) + grey * ink + 0.5).astype(np.uint8)


@lru_cache(maxsize=64)
def pattern(kind: Pattern, shape: tuple[int, int]) -> np.ndarray:
    """Where a pattern's strokes are, as booleans of the given shape."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    if kind == "rising":
        return (rows + columns) % 6 == 0
    if kind == "falling":
        return (rows - columns) % 6 == 0
    if kind == "crossed":
        return ((rows + columns) % 8 == 0) | ((rows - columns) % 8 == 0)
    if kind == "dots":
        return (rows % 5 < 2) & ((columns + 2 * (rows // 5)) % 5 < 2)
    return np.zeros(shape, bool)


@lru_cache(maxsize=64)
def dash(kind: Dash, shape: tuple[int, int]) -> np.ndarray:
    """Where a line of this style is drawn, as booleans of the given shape."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    along = rows + columns
    if kind == "dashed":
        return along % 7 < 5
    if kind == "dotted":
        return along % 4 < 2
    if kind == "dashdot":
        return np.isin(along % 9, (0, 1, 2, 3, 4, 7))
    return np.ones(shape, bool)


def border(labels: np.ndarray) -> np.ndarray:
    """Labelled pixels with a neighbour above, below, left or right of another label or outside the picture.

    Example:
        >>> border(np.pad(np.ones((3, 3), int), 1))[1:4, 1:4].astype(int).tolist()
        [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    """
    around = np.pad(labels, 1)
    inner = around[1:-1, 1:-1]
    edge = (inner != around[:-2, 1:-1]) | (inner != around[2:, 1:-1])
    edge |= (inner != around[1:-1, :-2]) | (inner != around[1:-1, 2:])
    return edge & (labels != 0)


def nearest(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resized without mixing values."""
    rows, columns = (_indices(n, m) for n, m in zip(image.shape, shape, strict=True))
    return image[rows[:, None], columns[None, :]]


def smooth(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resized with linear interpolation between voxel centres, float32."""
    out = image.astype(np.float32, copy=False)
    for axis in (0, 1):
        if out.shape[axis] != shape[axis]:
            out = _along(out, shape[axis], axis)
    return out


def _along(image: np.ndarray, size: int, axis: int) -> np.ndarray:
    places = np.clip((np.arange(size) + 0.5) * image.shape[axis] / size - 0.5, 0, image.shape[axis] - 1)
    before = places.astype(int)
    after = np.minimum(before + 1, image.shape[axis] - 1)
    weight = (places - before).astype(np.float32)
    weight = weight[:, None] if axis == 0 else weight[None, :]
    return image.take(before, axis) * (1 - weight) + image.take(after, axis) * weight


def _indices(n: int, size: int) -> np.ndarray:
    return ((np.arange(size) + 0.5) * n / size).astype(int)
