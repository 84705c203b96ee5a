"""Lesion-wise scores: every lesion counts the same, however large it is.

A voxel-wise Dice of 0.9 may hide that the network found one large tumour and none of six small ones. The lesion-wise
scores of BraTS 2023 and 2024 give each lesion of the truth its own Dice and HD95, add a zero for each lesion missed and
each one invented, and average.

Sources: evaluation contract, section 6, which pins down the scripts rachitsaluja/BraTS-2023-Metrics and
BraTS-2024-Metrics; Saluja 2023 and de Verdier 2024 (arXiv 2405.18368) describe the idea.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from brainseg_utils.evaluation import boundary
from brainseg_utils.evaluation.components import (
    Lesions,
    drop_small,
    find_components,
    find_lesions,
    join_touching,
    overlaps,
)
from brainseg_utils.evaluation.surface import Points, Spacing, border_points, surface_points


@dataclass(frozen=True)
class LesionRules:
    """How one region is cut into lesions.

    Attributes:
        dilations: voxels that the mask grows before components are numbered.
        threshold: mm^3; lesions of the truth up to this volume are left out of the score.
        group_prediction: whether the prediction is grouped like the truth and loses its groups of `threshold` voxels or
            fewer (2024); otherwise it is plain components, each one counting (2023).
        partners: tissues whose lesions join lesions of this one, in order (2024).
    """

    dilations: int
    threshold: float
    group_prediction: bool = False
    partners: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lesion:
    """One lesion of the truth.

    Attributes:
        volume: mm^3.
        dice: against all the predicted lesions that match it; 0 if none does.
        hd95: mm; the penalty if none does.
        nsd: tolerance in mm to surface Dice, 0 if none does.
        matches: number of predicted lesions that match.
        kept: whether its volume is above the threshold, so that it counts.
    """

    volume: float
    dice: float
    hd95: float
    nsd: Mapping[float, float]
    matches: int
    kept: bool


@dataclass(frozen=True)
class LesionScores:
    """Lesion-wise scores of one region.

    Attributes:
        tp: lesions of the truth that count and are matched.
        fp: predicted lesions that match none.
        fn: lesions of the truth that count and are not matched.
        dice: sum of the lesions' Dice over tp + fp + fn; 1 if that is 0.
        hd95: mm, with the penalty for each fp and fn; 0 if there is nothing to count.
        nsd: tolerance in mm to lesion-wise surface Dice.
        lesions: all lesions of the truth, those below the threshold included.
    """

    tp: int
    fp: int
    fn: int
    dice: float
    hd95: float
    nsd: Mapping[float, float]
    lesions: tuple[Lesion, ...]


@dataclass(frozen=True)
class Side:
    """One region in the truth or in the prediction, with its surfaces computed when first asked for.

    Attributes:
        lesions: its lesions.
        spacing: voxel size in mm.
    """

    lesions: Lesions
    spacing: Spacing

    @cached_property
    def surface(self) -> Points:
        """Surface points of the whole region, owner = part number."""
        return self._moved(surface_points(self.lesions.parts.data, self.spacing))

    @cached_property
    def border(self) -> Points:
        """Border voxels of the whole region, owner = part number."""
        return self._moved(border_points(self.lesions.parts.data))

    @cached_property
    def lesion_surfaces(self) -> Owners:
        """Surface points sorted by lesion."""
        return Owners.of(self.surface, self.lesions.lesion)

    @cached_property
    def lesion_borders(self) -> Owners:
        """Border voxels sorted by lesion."""
        return Owners.of(self.border, self.lesions.lesion)

    def _moved(self, points: Points) -> Points:
        return Points(points.position + np.array(self.lesions.parts.origin), points.area, points.owner)


@dataclass(frozen=True)
class Owners:
    """Points sorted by the lesion they belong to, so that one lesion's are a slice.

    Attributes:
        points: sorted by owner, owner = lesion number.
    """

    points: Points

    @classmethod
    def of(cls, points: Points, lesion: np.ndarray) -> Owners:
        """Sorts points whose owners are part numbers; `lesion` maps parts to lesions."""
        owner = lesion[points.owner]
        order = np.argsort(owner, kind="stable")
        return cls(Points(points.position[order], points.area[order], owner[order]))

    def select(self, numbers: Sequence[int]) -> Points:
        """The points of some lesions."""
        start = np.searchsorted(self.points.owner, numbers, side="left")
        end = np.searchsorted(self.points.owner, numbers, side="right")
        index = np.concatenate([np.arange(a, b) for a, b in zip(start, end, strict=True)])
        return Points(self.points.position[index], self.points.area[index], self.points.owner[index])


def prepare(
    regions: Mapping[str, np.ndarray], rules: Mapping[str, LesionRules], spacing: Spacing, truth: bool
) -> dict[str, Side]:
    """Cuts all regions of one side into lesions, including the joining across tissues.

    Args:
        regions: region name to (X, Y, Z) booleans.
        rules: region name to rules; regions without rules are taken as plain components.
        spacing: voxel size in mm.
        truth: whether this is the truth (its small lesions stay, to be matched).
    """
    found: dict[str, Lesions] = {}
    for region, mask in regions.items():
        rule = rules.get(region)
        if rule is None or not (truth or rule.group_prediction):
            found[region] = find_components(mask)
        else:
            found[region] = find_lesions(mask, rule.dilations)
            if not truth:
                found[region] = drop_small(found[region], rule.threshold)
    joined = {
        region: join_touching(lesions, [found[name] for name in rules[region].partners] if region in rules else [])
        for region, lesions in found.items()
    }
    return {region: Side(lesions, spacing) for region, lesions in joined.items()}


def score(
    truth: Side, prediction: Side, rules: LesionRules, penalty: float, tolerances: Sequence[float] = ()
) -> LesionScores:
    """Lesion-wise scores of one region.

    A predicted lesion matches a lesion of the truth when it has a voxel within that lesion's reach, so a near miss is a
    match with Dice 0. Matches are many to many; a lesion is scored against the union of its matches, each one whole.

    Args:
        truth: from `prepare`.
        prediction: from `prepare`, of the same region.
        rules: of the region.
        penalty: HD95 in mm of a missed or invented lesion.
        tolerances: mm, for surface Dice.
    """
    matches = _matches(truth.lesions, prediction.lesions)
    shared = _shared_voxels(truth.lesions, prediction.lesions)
    sizes, predicted_sizes = truth.lesions.sizes(), prediction.lesions.sizes()
    lesions = []
    for number in range(1, truth.lesions.count + 1):
        matched = matches.get(number, [])
        x, y, z = truth.spacing
        volume = float(sizes[number]) * x * y * z
        dice, hd95, nsd = 0.0, float(penalty), dict.fromkeys(tolerances, 0.0)
        if matched:
            common = sum(shared.get((number, k), 0) for k in matched)
            dice = 2 * common / float(sizes[number] + predicted_sizes[matched].sum())
            hd95 = _hd95(truth, prediction, number, matched)
            nsd = _nsd(truth, prediction, number, matched, tolerances)
        lesions.append(Lesion(volume, dice, hd95, nsd, len(matched), volume > rules.threshold))
    invented = prediction.lesions.count - len({k for matched in matches.values() for k in matched})
    return summarise(lesions, invented, penalty, tolerances)


def summarise(
    lesions: Sequence[Lesion], invented: int, penalty: float, tolerances: Sequence[float] = ()
) -> LesionScores:
    """Averages lesions into the scores of a region: a zero, or the penalty, for each one missed or invented."""
    kept = [lesion for lesion in lesions if lesion.kept]
    total = len(kept) + invented
    found = sum(lesion.matches > 0 for lesion in kept)
    return LesionScores(
        tp=found,
        fp=invented,
        fn=len(kept) - found,
        dice=sum(lesion.dice for lesion in kept) / total if total else 1.0,
        hd95=(sum(lesion.hd95 for lesion in kept) + invented * float(penalty)) / total if total else 0.0,
        nsd={t: sum(lesion.nsd[t] for lesion in kept) / total if total else 1.0 for t in tolerances},
        lesions=tuple(lesions),
    )


def _matches(truth: Lesions, prediction: Lesions) -> dict[int, list[int]]:
    """Lesion of the truth to the predicted lesions with a voxel in its reach."""
    pairs, _ = overlaps(truth.reach, prediction.parts)
    found = {(int(truth.lesion[a]), int(prediction.lesion[b])) for a, b in pairs}
    matches: dict[int, list[int]] = {}
    for a, b in sorted(found):
        if a and b:
            matches.setdefault(a, []).append(b)
    return matches


def _shared_voxels(truth: Lesions, prediction: Lesions) -> dict[tuple[int, int], int]:
    """Voxels that each lesion of the truth shares with each predicted one."""
    pairs, counts = overlaps(truth.parts, prediction.parts)
    shared: dict[tuple[int, int], int] = {}
    for (a, b), voxels in zip(pairs, counts, strict=True):
        key = (int(truth.lesion[a]), int(prediction.lesion[b]))
        shared[key] = shared.get(key, 0) + int(voxels)
    return shared


def _hd95(truth: Side, prediction: Side, number: int, matched: list[int]) -> float:
    first, second = truth.lesion_surfaces.select([number]), prediction.lesion_surfaces.select(matched)
    return boundary.hausdorff(boundary.between(first, second, truth.spacing))


def _nsd(
    truth: Side, prediction: Side, number: int, matched: list[int], tolerances: Sequence[float]
) -> dict[float, float]:
    if not tolerances:
        return {}
    first, second = truth.lesion_borders.select([number]), prediction.lesion_borders.select(matched)
    distances = boundary.between(first, second, truth.spacing)
    return {tolerance: boundary.nsd_voxel(distances, tolerance) for tolerance in tolerances}
