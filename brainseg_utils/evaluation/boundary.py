"""How far two surfaces lie apart: HD, HD95, surface Dice (NSD) and ASSD, in mm.

The surface model and the percentile are half of the definition; `surface.py` describes the two models. HD95 here is the
one of BraTS: corner-lattice points weighted by area, each direction on its own, no interpolation, then the larger.

Empty masks: two empty ones are at distance 0 and agree fully (NSD 1); where only one is empty the distance is infinite,
NSD is 0, and the challenge's penalty takes the place of infinity.

Sources: Nikolov 2018 (arXiv 1809.04430) for surface Dice and area weighting; Maier-Hein 2024 (doi
10.1038/s41592-023-02151-z) for pitfalls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brainseg_utils.evaluation.surface import Points, Spacing, border_points, surface_points

HD95_FRACTION = 0.95
NSD_GUARD = 1e-8  # in the denominator of the 2025 scripts, so that a perfect match is 0.999999995
# A distance map costs about 25 ns a voxel, a tree query 1 to 80 microseconds; below
# so many voxels a query the map is taken.
MAP_VOXELS_PER_QUERY = 100
SLOW_MAP_VOXELS_PER_QUERY = 40  # SciPy's map, needed where the spacing differs between axes, is five times slower


@dataclass(frozen=True)
class Distances:
    """Distances between two surfaces, point by point.

    Attributes:
        forward: (N,) mm from each point of the first surface to the nearest of the second; infinite if that is empty.
        backward: (M,) mm from each point of the second to the nearest of the first.
        forward_area: (N,) mm^2 that each point of the first stands for.
        backward_area: (M,) mm^2 of the second.
    """

    forward: np.ndarray
    backward: np.ndarray
    forward_area: np.ndarray
    backward_area: np.ndarray

    @property
    def both_empty(self) -> bool:
        """Whether neither surface has a point."""
        return not len(self.forward) and not len(self.backward)

    @property
    def one_empty(self) -> bool:
        """Whether exactly one of the surfaces has no point."""
        return (not len(self.forward)) != (not len(self.backward))


def between(first: Points, second: Points, spacing: Spacing) -> Distances:
    """Distances between two sets of surface points, in both directions."""
    return Distances(
        nearest(first.position, second.position, spacing),
        nearest(second.position, first.position, spacing),
        first.area,
        second.area,
    )


def surface_distances(truth: np.ndarray, prediction: np.ndarray, spacing: Spacing) -> Distances:
    """Distances between the surfaces of two masks in the area-weighted model (HD, HD95, `nsd_area`).

    Args:
        truth: (X, Y, Z) booleans.
        prediction: the same shape.
        spacing: voxel size in mm along X, Y, Z.
    """
    return between(surface_points(truth, spacing), surface_points(prediction, spacing), spacing)


def border_distances(truth: np.ndarray, prediction: np.ndarray, spacing: Spacing) -> Distances:
    """Distances between the border voxels of two masks (`nsd_voxel`, ASSD); arguments as `surface_distances`."""
    return between(border_points(truth), border_points(prediction), spacing)


def nearest(queries: np.ndarray, targets: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Distance in mm from every query to its nearest target.

    Many queries in a small box are read off one distance map, few in a large box ask a KD-tree. The numbers are the
    same: distances are computed from whole voxel steps in float64 either way.

    Args:
        queries: (N, 3) integer positions.
        targets: (M, 3) integer positions.
        spacing: mm along the three axes.

    Returns:
        (N,) float64, infinite if there is no target.

    Example:
        >>> import numpy as np
        >>> nearest(np.array([[0, 0, 0]]), np.array([[0, 0, 2], [3, 0, 0]]), (1.0, 1.0, 2.0))
        array([3.])
    """
    if not len(queries) or not len(targets):
        return np.full(len(queries), np.inf)
    low = np.minimum(queries.min(axis=0), targets.min(axis=0))
    size = np.maximum(queries.max(axis=0), targets.max(axis=0)) - low + 1
    uniform = len(set(map(float, spacing))) == 1
    budget = len(queries) * (MAP_VOXELS_PER_QUERY if uniform else SLOW_MAP_VOXELS_PER_QUERY)
    if float(np.prod(size.astype(float))) > budget:
        return _from_tree(queries, targets, np.asarray(spacing, float))
    if uniform:
        return _from_map(queries - low, targets - low, size) * float(spacing[0])
    return _from_slow_map(queries - low, targets - low, size, spacing)


def _from_tree(queries: np.ndarray, targets: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    from scipy.spatial import cKDTree

    _, index = cKDTree(targets * spacing).query(queries * spacing)
    step = (queries - targets[index]) * spacing  # from whole steps: products rounded before the difference break ties
    return np.sqrt((step * step).sum(axis=1))


def _from_map(queries: np.ndarray, targets: np.ndarray, size: np.ndarray) -> np.ndarray:
    import edt

    away = np.ones(size, np.uint8)
    away[tuple(targets.T)] = 0
    squared = edt.edtsq(away, parallel=1)  # float32, but whole numbers below 2^24: exact
    return np.sqrt(squared[tuple(queries.T)].astype(np.float64))


def _from_slow_map(queries: np.ndarray, targets: np.ndarray, size: np.ndarray, spacing: Spacing) -> np.ndarray:
    from scipy.ndimage import distance_transform_edt

    away = np.ones(size, np.uint8)
    away[tuple(targets.T)] = 0
    return distance_transform_edt(away, sampling=tuple(map(float, spacing)))[tuple(queries.T)]


def percentile(distance: np.ndarray, area: np.ndarray, fraction: float) -> float:
    """The distance within which a fraction of the surface's area lies (evaluation contract, 5.2).

    Points are sorted by distance, areas summed up, and the first point that reaches the fraction gives its distance;
    nothing is interpolated. Points at one distance are summed up from small to large areas, so that rounding in the sum
    does not depend on the points' order.

    Args:
        distance: (N,) mm, N > 0.
        area: (N,) mm^2.
        fraction: 0 to 1.
    """
    if not np.isfinite(distance[0]):
        return float("inf")
    order = np.lexsort((area, distance))
    share = np.cumsum(area[order]) / np.sum(area[order])
    return float(distance[order[min(int(np.searchsorted(share, fraction)), len(order) - 1)]])


def hausdorff(distances: Distances, fraction: float = HD95_FRACTION, penalty: float = float("inf")) -> float:
    """HD95, or with `fraction=1` the Hausdorff distance, in mm: the larger of the two directions.

    Args:
        distances: from `surface_distances`.
        fraction: share of the area, 0 to 1.
        penalty: the value where exactly one side is empty.
    """
    if distances.both_empty:
        return 0.0
    if distances.one_empty:
        return float(penalty)
    if fraction >= 1:
        return float(max(distances.forward.max(), distances.backward.max()))
    return max(
        percentile(distances.forward, distances.forward_area, fraction),
        percentile(distances.backward, distances.backward_area, fraction),
    )


def nsd_area(distances: Distances, tolerance: float) -> float:
    """Surface Dice by area: the share of both surfaces that lies within `tolerance` mm of the other, 0 to 1.

    Args:
        distances: from `surface_distances`.
        tolerance: mm, inclusive.
    """
    if distances.both_empty:
        return 1.0
    near = distances.forward_area[distances.forward <= tolerance].sum()
    near += distances.backward_area[distances.backward <= tolerance].sum()
    return float(near / (distances.forward_area.sum() + distances.backward_area.sum()))


def nsd_voxel(distances: Distances, tolerance: float) -> float:
    """Surface Dice of the BraTS 2025 scripts: the mean of the two shares of border voxels within `tolerance` mm.

    Each side has the same weight however long its border is. A perfect match gives 0.999999995, as in the scripts.

    Args:
        distances: from `border_distances`.
        tolerance: mm, inclusive.
    """
    if distances.both_empty:
        return 1.0
    if distances.one_empty:
        return 0.0
    shares = np.mean(distances.forward <= tolerance) + np.mean(distances.backward <= tolerance)
    return float(shares / (2 + NSD_GUARD))


def assd(distances: Distances, penalty: float = float("inf")) -> float:
    """Average symmetric surface distance in mm: the mean of the distances of both sides pooled.

    Args:
        distances: from `border_distances`.
        penalty: the value where exactly one side is empty.
    """
    if distances.both_empty:
        return 0.0
    if distances.one_empty:
        return float(penalty)
    return float(np.concatenate([distances.forward, distances.backward]).mean())
