"""The core of a tumour with an enhancing rim lies inside the rim: what was called core far outside it is oedema."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEAST = 8  # voxels of rim from which a hull is made
AT_ONCE = 50_000  # voxels: what a chunk of distances takes stays below some 100 MB


def inside_rim(core: np.ndarray, rim: np.ndarray, spacing: Sequence[float], reach: float) -> np.ndarray:
    """The part of the core that lies in the convex hull of its rim, or within `reach` of it.

    Each component of the core (26 neighbours) has a rim of its own; one without is kept as it is. A rim with gaps and
    holes encloses what a whole one would.

    Args:
        core, rim: boolean (X, Y, Z), the rim inside the core.
        spacing: voxel size in mm.
        reach: mm beyond the hull's faces.

    Returns:
        Boolean (X, Y, Z), a part of `core` that holds all of `rim`.

    Example:
        >>> core, rim = np.zeros((2, 9, 9, 9), bool)
        >>> core[:7, 2:7, 2:7], rim[1:6, 2:7, 2:7] = True, True
        >>> inside_rim(core, rim, (1, 1, 1), reach=0.5).any((1, 2)).astype(int).tolist()
        [0, 1, 1, 1, 1, 1, 0, 0, 0]
    """
    import cc3d
    from scipy.spatial import ConvexHull

    components = cc3d.connected_components(np.ascontiguousarray(core), connectivity=26)
    out, places = core.copy(), np.argwhere(core)
    where = (places * np.asarray(spacing)).astype(np.float32)
    numbers, enhancing = components[core], rim[core]
    for number in np.unique(numbers[enhancing]):
        mine = numbers == number
        points = where[mine & enhancing]
        if len(points) < LEAST:
            continue
        planes = ConvexHull(points, qhull_options="QJ").equations.astype(np.float32)  # QJ: a flat rim has a hull too
        rest = np.flatnonzero(mine & ~enhancing)
        for start in range(0, len(rest), AT_ONCE):
            some = rest[start : start + AT_ONCE]
            outside = (where[some] @ planes[:, :3].T + planes[:, 3]).max(axis=1)
            out[tuple(places[some[outside > reach]].T)] = False
    return out
