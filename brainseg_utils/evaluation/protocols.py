"""The scoring rules of the challenges as one table, and a case scored by any of them.

A protocol says which regions are scored, by which metrics, and what a missed or invented region costs. The numbers are
those of the evaluation contract, sections 6 to 8; its sources are the scoring scripts of the challenges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from brainseg_utils.datasets.labels import LabelScheme, get_scheme
from brainseg_utils.errors import GeometryError, unknown
from brainseg_utils.evaluation import boundary, voxel
from brainseg_utils.evaluation.lesions import LesionRules, LesionScores, Side, prepare, score
from brainseg_utils.evaluation.surface import Spacing, bounding_box

NSD_TOLERANCES = (0.5, 1.0)  # mm, as in the 2025 scripts
AREA_TOLERANCE = 1.0  # mm
THREE_REGIONS = ("WT", "TC", "ET")
SIX_REGIONS = ("WT", "TC", "ET", "NETC", "SNFH", "RC")
# Which tissues may join the lesions of a tissue, in this order (2024).
PARTNERS: Mapping[str, tuple[str, ...]] = {
    "NETC": ("ET", "RC"),
    "ET": ("NETC", "RC"),
    "RC": ("ET", "NETC"),
    "SNFH": ("ET", "RC", "NETC"),
}


class Score(NamedTuple):
    """One number: a region, a metric, its value and unit ("1", "mm", "mm3" or "px")."""

    region: str
    metric: str
    value: float
    unit: str


@dataclass(frozen=True)
class Protocol:
    """How one challenge scores a case.

    Attributes:
        name: key in `PROTOCOLS`.
        scheme_name: label scheme of bare files.
        regions: what is scored, in the order of the tables.
        penalty: mm where exactly one side of a region is empty, and for each missed or invented lesion; None stands for
            the diagonal of the volume in voxels.
        lesion_rules: region to rules; empty where the challenge has no lesion-wise scores.
        lesion_tolerances: mm, for lesion-wise surface Dice.
        folder_scheme: whether the scheme of a data set's folder takes the place of `scheme_name`.
        in_pixels: files carry no spacing; distances and volumes are in pixels.
    """

    name: str
    scheme_name: str
    regions: tuple[str, ...]
    penalty: float | None
    lesion_rules: Mapping[str, LesionRules] = field(default_factory=dict)
    lesion_tolerances: tuple[float, ...] = ()
    folder_scheme: bool = True
    in_pixels: bool = False

    @property
    def scheme(self) -> LabelScheme:
        """The label scheme of bare files."""
        return get_scheme(self.scheme_name)

    def penalty_for(self, shape: tuple[int, ...]) -> float:
        """The penalty in mm (or px) for a volume of this shape."""
        return float(np.sqrt(np.sum(np.square(shape, dtype=float)))) if self.penalty is None else self.penalty


def _of_2023(name: str, dilations: int, threshold: float) -> Protocol:
    rules = dict.fromkeys(THREE_REGIONS, LesionRules(dilations, threshold))
    return Protocol(name, "brats2023", THREE_REGIONS, 374.0, rules)


def _of_2024() -> Protocol:
    # The scripts mean 5 dilations for SNFH too, but test for a misspelt name, so that 3 are what they do.
    rules = {
        region: LesionRules(
            dilations=5 if region in ("NETC", "RC") else 3,
            threshold=10 if region == "ET" else 20,
            group_prediction=True,
            partners=PARTNERS.get(region, ()),
        )
        for region in SIX_REGIONS
    }
    return Protocol("brats2024", "brats2024", SIX_REGIONS, 337.0, rules, NSD_TOLERANCES, folder_scheme=False)


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("brats2020", "brats2021", THREE_REGIONS, None),
        _of_2023("brats2023", dilations=3, threshold=50),
        _of_2023("brats2023-ssa", dilations=3, threshold=50),
        _of_2023("brats2023-ped", dilations=3, threshold=50),
        _of_2023("brats2023-men", dilations=1, threshold=50),
        _of_2023("brats2023-met", dilations=1, threshold=2),
        _of_2024(),
        Protocol("lgg", "lgg", ("tumour",), None, folder_scheme=False, in_pixels=True),
    )
}


def get_protocol(name: str) -> Protocol:
    """A protocol by name.

    Raises:
        SettingError: no such protocol, with the nearest name.
    """
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def score_case(
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing: Spacing,
    protocol: Protocol | str,
    scheme: LabelScheme | None = None,
) -> list[Score]:
    """All scores of one case.

    Args:
        truth: (X, Y, Z) labels in the array order of the file (BraTS 2024 depends on it).
        prediction: (X, Y, Z) labels in the same scheme; values that the scheme does not have count as background.
        spacing: voxel size in mm along X, Y, Z.
        protocol: a protocol or its name.
        scheme: what the integers mean; default: the protocol's.

    Returns:
        Scores, region by region; no value is NaN or infinite.

    Raises:
        GeometryError: the shapes differ.

    Example:
        >>> import numpy as np
        >>> truth = np.zeros((20, 20, 20), int); truth[5:12, 5:12, 5:12] = 2
        >>> moved = np.roll(truth, 1, axis=0)
        >>> scores = {(s.region, s.metric): s.value for s in score_case(truth, moved, (1, 1, 1), "brats2023")}
        >>> round(scores["WT", "dice"], 3), scores["WT", "hd95"], scores["ET", "dice"]
        (0.857, 1.0, 1.0)
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    scheme = scheme or protocol.scheme
    if truth.shape != prediction.shape:
        raise GeometryError(
            f"prediction of shape {prediction.shape}, truth of shape {truth.shape}",
            expected="one shape",
            remedy="resample the prediction to the truth's grid (nearest neighbour)",
        )
    spacing = tuple(float(s) for s in spacing)
    box = _box(truth, prediction, protocol)
    masks = [_regions(labels[box], scheme, protocol) for labels in (truth, prediction)]
    truths = prepare(masks[0], protocol.lesion_rules, spacing, truth=True)
    predictions = prepare(masks[1], protocol.lesion_rules, spacing, truth=False)
    penalty = protocol.penalty_for(truth.shape)
    scores: list[Score] = []
    for region in protocol.regions:
        counts = voxel.count(masks[0][region], masks[1][region])
        outside = truth.size - masks[0][region].size
        counts = voxel.Counts(counts.tp, counts.fp, counts.fn, counts.tn + outside)
        scores += _voxelwise(region, counts, protocol)
        scores += _boundary(region, truths[region], predictions[region], protocol, penalty)
        scores += _volumes(region, counts.truth, counts.prediction, spacing, protocol)
        if rules := protocol.lesion_rules.get(region):
            lesions = score(truths[region], predictions[region], rules, penalty, protocol.lesion_tolerances)
            scores += _lesionwise(region, lesions)
    return scores


def score_missing(
    truth: np.ndarray, spacing: Spacing, protocol: Protocol | str, scheme: LabelScheme | None = None
) -> list[Score]:
    """The scores of a case that was not predicted: the worst value in every region, also where the truth is empty.

    Arguments as `score_case`.
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    penalty = protocol.penalty_for(truth.shape)
    scores = []
    for s in score_case(truth, np.zeros_like(truth), spacing, protocol, scheme):
        if s.metric.startswith(("volume_", "lesion_tp", "lesion_fp", "lesion_fn")):
            scores.append(s)
        else:
            scores.append(s._replace(value=0.0 if s.unit == "1" else penalty))
    return scores


def _box(truth: np.ndarray, prediction: np.ndarray, protocol: Protocol) -> tuple[slice, ...]:
    """The part of the volume that matters: everything labelled, and as far around it as lesions are dilated."""
    margin = max((rules.dilations for rules in protocol.lesion_rules.values()), default=0)
    return bounding_box((truth != 0) | (prediction != 0), margin) or (slice(0, 0),) * truth.ndim


def _regions(labels: np.ndarray, scheme: LabelScheme, protocol: Protocol) -> dict[str, np.ndarray]:
    labels = np.ascontiguousarray(labels)
    masks = {}
    for region in protocol.regions:
        mask = np.zeros(labels.shape, bool)
        for value in scheme.values(region):  # quicker than np.isin for so few values
            mask |= labels == value
        masks[region] = mask
    return masks


def _voxelwise(region: str, counts: voxel.Counts, protocol: Protocol) -> list[Score]:
    metrics = (*voxel.VOXELWISE, "mean_accuracy") if protocol.in_pixels else voxel.VOXELWISE
    return [Score(region, metric, float(getattr(counts, metric)), "1") for metric in metrics]


def _boundary(region: str, truth: Side, prediction: Side, protocol: Protocol, penalty: float) -> list[Score]:
    surfaces = boundary.between(truth.surface, prediction.surface, truth.spacing)
    borders = boundary.between(truth.border, prediction.border, truth.spacing)
    unit = "px" if protocol.in_pixels else "mm"
    scores = [
        Score(region, "hd", boundary.hausdorff(surfaces, 1.0, penalty), unit),
        Score(region, "hd95", boundary.hausdorff(surfaces, penalty=penalty), unit),
        Score(region, "assd", boundary.assd(borders, penalty), unit),
    ]
    if protocol.in_pixels:  # a tolerance in mm means nothing without a spacing
        return scores
    scores.append(Score(region, f"nsd_area_{AREA_TOLERANCE:g}mm", boundary.nsd_area(surfaces, AREA_TOLERANCE), "1"))
    for tolerance in NSD_TOLERANCES:
        scores.append(Score(region, f"nsd_voxel_{tolerance:g}mm", boundary.nsd_voxel(borders, tolerance), "1"))
    return scores


def _volumes(region: str, truth: int, prediction: int, spacing: Spacing, protocol: Protocol) -> list[Score]:
    x, y, z = spacing
    unit = "px" if protocol.in_pixels else "mm3"
    return [
        Score(region, "volume_truth", truth * x * y * z, unit),
        Score(region, "volume_prediction", prediction * x * y * z, unit),
    ]


def _lesionwise(region: str, lesions: LesionScores) -> list[Score]:
    scores = [
        Score(region, "lesion_dice", lesions.dice, "1"),
        Score(region, "lesion_hd95", lesions.hd95, "mm"),
    ]
    scores += [Score(region, f"lesion_nsd_{tolerance:g}mm", value, "1") for tolerance, value in lesions.nsd.items()]
    scores += [Score(region, f"lesion_{name}", float(getattr(lesions, name)), "1") for name in ("tp", "fp", "fn")]
    return scores
