"""Lesion-wise scores written straight from their definition: whole volumes, SciPy and the surface-distance package.

Nothing is cropped, reused or sped up, so that each line can be compared with the definition. It is what
`brainseg_utils.evaluation` is measured against, for numbers (tests) and for time (`lesion_metrics.py`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

CROSS = ndimage.generate_binary_structure(3, 1)  # 6 neighbours
EDGES = ndimage.generate_binary_structure(3, 2)  # 18
CUBE = ndimage.generate_binary_structure(3, 3)  # 26
REGIONS_2023: Mapping[str, Sequence[int]] = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
REGIONS_2024: Mapping[str, Sequence[int]] = {**REGIONS_2023, "NETC": (1,), "SNFH": (2,), "RC": (4,)}
PARTNERS: Mapping[str, Sequence[str]] = {
    "NETC": ("ET", "RC"),
    "ET": ("NETC", "RC"),
    "RC": ("ET", "NETC"),
    "SNFH": ("ET", "RC", "NETC"),
}


def hd95(truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float]) -> float:
    """HD95 of two masks that both have voxels."""
    import surface_distance

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the package uses old SciPy namespaces
        distances = surface_distance.compute_surface_distances(truth, prediction, spacing)
    return float(surface_distance.compute_robust_hausdorff(distances, 95))


def nsd(truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float], tolerance: float) -> float:
    """Surface Dice of border voxels, each side with the same weight."""
    borders = [mask & ~ndimage.binary_erosion(mask, CROSS, border_value=0) for mask in (truth, prediction)]
    maps = [ndimage.distance_transform_edt(~border, sampling=spacing) for border in borders]
    near = [np.mean(maps[1][borders[0]] <= tolerance), np.mean(maps[0][borders[1]] <= tolerance)]
    return float(sum(near) / (2 + 1e-8))


def group(mask: np.ndarray, dilations: int) -> np.ndarray:
    """Numbers the voxels of a mask by the component of the dilated mask that they lie in."""
    grown = ndimage.binary_dilation(mask, EDGES, iterations=dilations)
    return ndimage.label(grown, CUBE)[0] * mask


def join(lesions: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """Joins the lesions of one tissue that touch the same lesion of another (BraTS 2024)."""
    pairs = []
    for a in _numbers(lesions):
        grown = ndimage.binary_dilation(lesions == a, EDGES)
        pairs += [(a, b) for b in _numbers(partner) if np.any(grown & (partner == b))]
    if len(pairs) < 2:
        return lesions
    out = lesions.copy()
    for a in {a for a, _ in pairs}:
        out[lesions == a] = lesions.max() + min(b for other, b in pairs if other == a)
    return out


def _numbers(lesions: np.ndarray) -> list[int]:
    return [int(n) for n in np.unique(lesions) if n]


def score(
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing: Sequence[float],
    dilations: int,
    threshold: float,
    penalty: float,
    tolerances: Sequence[float] = (),
) -> dict[str, float]:
    """Lesion-wise scores from numbered lesions of both sides."""
    voxel = float(np.prod(spacing))
    sums = {"dice": 0.0, "hd95": 0.0, **{f"nsd_{t:g}mm": 0.0 for t in tolerances}}
    tp = fn = 0
    matched_anywhere: set[int] = set()
    for a in _numbers(truth):
        lesion = truth == a
        reach = ndimage.binary_dilation(lesion, EDGES, iterations=dilations)
        matched = [n for n in np.unique(prediction[reach]) if n]
        matched_anywhere |= set(matched)
        if lesion.sum() * voxel <= threshold:
            continue
        if not matched:
            fn += 1
            sums["hd95"] += penalty
            continue
        tp += 1
        found = np.isin(prediction, matched)
        sums["dice"] += 2 * np.sum(lesion & found) / (lesion.sum() + found.sum())
        sums["hd95"] += hd95(lesion, found, spacing)
        for t in tolerances:
            sums[f"nsd_{t:g}mm"] += nsd(lesion, found, spacing, t)
    fp = len(set(_numbers(prediction)) - matched_anywhere)
    sums["hd95"] += fp * penalty
    total = tp + fn + fp
    means = {name: value / total if total else float(name != "hd95") for name, value in sums.items()}
    return {**means, "tp": tp, "fp": fp, "fn": fn}


def score_2023(truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float]) -> dict[tuple[str, str], float]:
    """BraTS 2023 GLI: region and metric to value."""
    scores = {}
    for region, values in REGIONS_2023.items():
        numbered = ndimage.label(np.isin(prediction, values), CUBE)[0]
        result = score(group(np.isin(truth, values), 3), numbered, spacing, 3, 50, 374)
        scores.update({(region, f"lesion_{name}"): value for name, value in result.items()})
    return scores


def score_2024(truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float]) -> dict[tuple[str, str], float]:
    """BraTS 2024 post-treatment GLI: region and metric to value."""
    dilations = {region: 5 if region in ("NETC", "RC") else 3 for region in REGIONS_2024}
    threshold = {region: 10 if region == "ET" else 20 for region in REGIONS_2024}
    sides = []
    for labels, is_truth in ((truth, True), (prediction, False)):
        groups = {r: group(np.isin(labels, values), dilations[r]) for r, values in REGIONS_2024.items()}
        if not is_truth:
            for region, lesions in groups.items():
                for n in _numbers(lesions):
                    if np.sum(lesions == n) <= threshold[region]:
                        lesions[lesions == n] = 0
        joined = dict(groups)
        for region, partners in PARTNERS.items():
            for partner in partners:
                joined[region] = join(joined[region], groups[partner])
        sides.append(joined)
    scores = {}
    for region in REGIONS_2024:
        result = score(
            sides[0][region], sides[1][region], spacing, dilations[region], threshold[region], 337, (0.5, 1.0)
        )
        scores.update({(region, f"lesion_{name}"): value for name, value in result.items()})
    return scores


def largest_difference(scores: Mapping[tuple[str, str], float], other: Mapping[tuple[str, str], float]) -> float:
    """The largest absolute difference over the first mapping's entries."""
    return max((abs(value - other[key]) for key, value in scores.items()), default=math.nan)
