"""PNG bytes from pixels: a quick writer for live views, a small one for pictures that are kept."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

GREYS = 128  # of the 256 colours of a small picture
QUICK = 1  # zlib level: a live picture travels inside one machine, time counts more than bytes


def encode(image: np.ndarray) -> bytes:
    """A PNG file's bytes, quickly.

    Args:
        image: (H, W, 3) uint8.

    Example:
        >>> encode(np.zeros((2, 3, 3), np.uint8))[:8]
        b'\\x89PNG\\r\\n\\x1a\\n'
    """
    height, width, _ = image.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # the leading 0 of each row: PNG's filter "none"
    rows[:, 1:] = image.reshape(height, 3 * width)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(rows.data, QUICK)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def compact(image: np.ndarray) -> bytes:
    """A PNG file's bytes, half the size: at most 256 colours, packed well. For pictures stored in notebooks.

    Half of the palette is greys, so that a scan's greys stay grey (within 1 of 255) whatever is drawn over it.

    Args:
        image: (H, W, 3) uint8.
    """
    out = BytesIO()
    _indexed(image).save(out, "PNG", optimize=True)
    return out.getvalue()


def animated(images: Sequence[np.ndarray], milliseconds: int, last: int) -> bytes:
    """An animated PNG's bytes, which browsers play without a script; packed as `compact`, with one palette.

    Args:
        images: (H, W, 3) uint8, all of one shape.
        milliseconds: of each picture.
        last: milliseconds of the last one, before it starts again.
    """
    height = images[0].shape[0]
    strip = _indexed(np.concatenate(images))
    frames = [strip.crop((0, k * height, strip.width, (k + 1) * height)) for k in range(len(images))]
    times = [milliseconds] * (len(frames) - 1) + [last]
    out = BytesIO()
    frames[0].save(out, "PNG", save_all=True, append_images=frames[1:], duration=times, loop=0)
    return out.getvalue()


def _indexed(image: np.ndarray) -> Image.Image:
    """The picture with a palette of 256 colours, the first half of them greys."""
    from PIL import Image

    grey = np.ptp(image, axis=2) == 0
    index = image[..., 0] // (256 // GREYS)
    palette = np.repeat((np.arange(GREYS) * 255 / (GREYS - 1)).round().astype(np.uint8)[:, None], 3, axis=1)
    if not grey.all():
        row = Image.fromarray(image[~grey][None])
        few = row.quantize(256 - GREYS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        colours = np.frombuffer(bytes(few.getpalette() or []), np.uint8).reshape(-1, 3)[: 256 - GREYS]
        palette = np.concatenate([palette, colours])
        index[~grey] = GREYS + np.asarray(few)[0]
    packed = Image.fromarray(index, "P")
    packed.putpalette(palette.tobytes())
    return packed
