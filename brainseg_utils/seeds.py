"""One integer seeds everything; every random stream is derived from it by name.

A stream that is named after what it decides ("case-0007/contrast") gives the same numbers whichever process draws
them and in whatever order, so results do not depend on the number of workers.
"""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """An independent generator for the given names (counter-based Philox).

    Example:
        >>> float(stream(0, "fold", 3).random()) == float(stream(0, "fold", 3).random())
        True
        >>> float(stream(0, "fold", 3).random()) == float(stream(0, "fold", 4).random())
        False
    """
    key = [zlib.crc32(name.encode()) if isinstance(name, str) else int(name) for name in names]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([int(seed), *key])))
