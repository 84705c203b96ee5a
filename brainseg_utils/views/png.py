"""PNG bytes from pixels: a quick writer for live views, a small one for pictures that are kept."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np

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

    Args:
        image: (H, W, 3) uint8.
    """
    from PIL import Image

    few = Image.fromarray(image).quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    out = BytesIO()
    few.save(out, "PNG", optimize=True)
    return out.getvalue()
