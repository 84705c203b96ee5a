"""The scores of the challenges written straight from their definition: whole volumes, SciPy and surface-distance.

Nothing is cropped, reused or sped up, so that each line can be compared with the definition. It is what
`brainseg_utils.evaluation` is measured against, for numbers (tests) and for time (`lesion_metrics.py`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

Scores = Mapping[tuple[str, str], float]  # region and metric to value
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


def surface_scores(truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    """HD95, HD and area NSD of two masks that both have voxels."""
    import surface_distance

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the package uses old SciPy namespaces
        distances = surface_distance.compute_surface_distances(truth, prediction, spacing)
    return {
        "hd": surface_distance.compute_robust_hausdorff(distances, 100),
        "hd95": surface_distance.compute_robust_hausdorff(distances, 95),
        "nsd_area_1mm": surface_distance.compute_surface_dice_at_tolerance(distances, 1.0),
    }


def border_scores(truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    """ASSD and voxel NSD at 0.5 and 1 mm of two masks that both have voxels."""
    borders = [mask & ~ndimage.binary_erosion(mask, CROSS, border_value=0) for mask in (truth, prediction)]
    maps = [ndimage.distance_transform_edt(~border, sampling=spacing) for border in borders]
    there, back = maps[1][borders[0]], maps[0][borders[1]]
    scores = {"assd": np.concatenate([there, back]).mean()}
    for tolerance in (0.5, 1.0):
        near = np.mean(there <= tolerance) + np.mean(back <= tolerance)
        scores[f"nsd_voxel_{tolerance:g}mm"] = near / (2 + 1e-8)
    return scores


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
    with_nsd: bool,
) -> dict[str, float]:
    """Lesion-wise scores from numbered lesions of both sides."""
    voxel = float(np.prod(spacing))
    names = ("dice", "hd95", "nsd_0.5mm", "nsd_1mm") if with_nsd else ("dice", "hd95")
    sums = dict.fromkeys(names, 0.0)
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
        sums["hd95"] += surface_scores(lesion, found, spacing)["hd95"]
        if with_nsd:
            borders = border_scores(lesion, found, spacing)
            sums["nsd_0.5mm"] += borders["nsd_voxel_0.5mm"]
            sums["nsd_1mm"] += borders["nsd_voxel_1mm"]
    fp = len(set(_numbers(prediction)) - matched_anywhere)
    sums["hd95"] += fp * penalty
    total = tp + fn + fp
    means = {name: value / total if total else float(name != "hd95") for name, value in sums.items()}
    return {f"lesion_{name}": value for name, value in {**means, "tp": tp, "fp": fp, "fn": fn}.items()}


def lesionwise_2023(truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float]) -> Scores:
    """BraTS 2023 GLI: region and lesion-wise metric to value."""
    scores = {}
    for region, values in REGIONS_2023.items():
        lesions = group(np.isin(truth, values), 3)
        predicted = ndimage.label(np.isin(prediction, values), CUBE)[0]
        for name, value in score(lesions, predicted, spacing, 3, 50, 374, with_nsd=False).items():
            scores[region, name] = value
    return scores


def lesionwise_2024(truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float]) -> Scores:
    """BraTS 2024 post-treatment GLI: region and lesion-wise metric to value."""
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
        both = sides[0][region], sides[1][region]
        for name, value in score(*both, spacing, dilations[region], threshold[region], 337, with_nsd=True).items():
            scores[region, name] = value
    return scores


def voxelwise(truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float], protocol: str) -> Scores:
    """All the other metrics of BraTS 2023 or 2024: region and metric to value."""
    regions, penalty = (REGIONS_2023, 374.0) if protocol == "brats2023" else (REGIONS_2024, 337.0)
    scores = {}
    for region, values in regions.items():
        for name, value in whole_region(np.isin(truth, values), np.isin(prediction, values), spacing, penalty).items():
            scores[region, name] = value
    return scores


def whole_region(
    truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float], penalty: float
) -> dict[str, float]:
    """The metrics that look at one region as a whole."""
    tp, fp = np.sum(truth & prediction), np.sum(~truth & prediction)
    fn, tn = np.sum(truth & ~prediction), np.sum(~truth & ~prediction)
    volume = float(np.prod(spacing))
    scores = {
        "specificity": tn / (tn + fp),
        "accuracy": (tp + tn) / truth.size,
        "volume_truth": truth.sum() * volume,
        "volume_prediction": prediction.sum() * volume,
    }
    if truth.any() and prediction.any():
        overlap = {"dice": 2 * tp / (2 * tp + fp + fn), "iou": tp / (tp + fp + fn)}
        rates = {"sensitivity": tp / (tp + fn), "precision": tp / (tp + fp)}
        surfaces = {**surface_scores(truth, prediction, spacing), **border_scores(truth, prediction, spacing)}
        return {**scores, **overlap, **rates, **surfaces}
    same = not truth.any() and not prediction.any()
    shares = ("dice", "iou", "sensitivity", "precision", "nsd_area_1mm", "nsd_voxel_0.5mm", "nsd_voxel_1mm")
    return {
        **scores,
        **dict.fromkeys(shares, float(same)),
        **dict.fromkeys(("hd", "hd95", "assd"), 0.0 if same else penalty),
    }


def largest_difference(scores: Scores, other: Scores) -> float:
    """The largest absolute difference over the first mapping's entries."""
    return max((abs(value - other[key]) for key, value in scores.items()), default=math.nan)
