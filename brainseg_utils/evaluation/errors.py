"""What kind of mistakes a model makes, where they lie, how far from the boundary, and in which lesions.

A mean Dice says how much is wrong. These functions say what: maps of one case, shares over tissues, heat maps of a
cohort on one atlas, the distances between the drawn boundaries with their sign, lesions by size, and the worst cases.
All arrays are labels (X, Y, Z) with their spacing in mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from brainseg_utils.datasets.labels import LabelScheme
from brainseg_utils.errors import GeometryError, SettingError
from brainseg_utils.evaluation import boundary
from brainseg_utils.evaluation.protocols import Protocol, get_protocol
from brainseg_utils.evaluation.surface import Spacing, border_points

if TYPE_CHECKING:
    import pandas as pd

AGREED, MISSED, EXTRA, OTHER_TISSUE = 1, 2, 3, 4
ERROR_NAMES = {AGREED: "agreed", MISSED: "missed", EXTRA: "extra", OTHER_TISSUE: "other tissue"}
SIZE_EDGES_MM3 = (0.0, 100.0, 1000.0, 10_000.0, np.inf)
HIGHER_IS_WORSE = ("hd", "hd95", "assd", "lesion_hd95", "lesion_fp", "lesion_fn")


def error_map(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Where two label arrays agree and differ.

    Returns:
        uint8 of the same shape: 0 background on both sides, 1 agreed, 2 missed (false negative), 3 extra (false
        positive), 4 other tissue.

    Raises:
        GeometryError: the shapes differ.

    Example:
        >>> import numpy as np
        >>> error_map(np.array([0, 1, 1, 0, 1]), np.array([0, 1, 0, 2, 2])).tolist()
        [0, 1, 2, 3, 4]
    """
    if truth.shape != prediction.shape:
        raise GeometryError(f"prediction of shape {prediction.shape}", expected=f"{truth.shape}, as the truth")
    found = np.where(truth == prediction, AGREED, OTHER_TISSUE).astype(np.uint8)
    found[prediction == 0] = MISSED
    found[truth == 0] = EXTRA
    found[(truth == 0) & (prediction == 0)] = 0
    return found


def misclassified(truth: np.ndarray, prediction: np.ndarray, scheme: LabelScheme) -> pd.DataFrame:
    """What became of each tissue: the share of its voxels that were taken for each tissue, or for background.

    Args:
        truth: (X, Y, Z) labels of the scheme.
        prediction: the same.
        scheme: what the integers mean.

    Returns:
        Rows are the truth's tissues, columns the prediction's, "background" first in both; each row sums to 1, or is 0
        where the truth has no such voxel.
    """
    import pandas as pd

    names = ["background", *scheme.tissues.values()]
    values = [0, *scheme.tissues]
    counts = np.array([[np.count_nonzero((truth == a) & (prediction == b)) for b in values] for a in values], float)
    totals = counts.sum(axis=1, keepdims=True)
    return pd.DataFrame(np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0), names, names)


@dataclass
class HeatMap:
    """How often each voxel of an atlas is wrong, over a cohort; cases are added one by one and not kept.

    BraTS scans are registered to one atlas (SRI24), so that voxels of several patients can be laid over each other. A
    case on another grid is looked up by its affine, nearest voxel.

    Attributes:
        shape: of the atlas grid.
        affine: (4, 4), its voxel index to mm.
        cases: how many were added.
        counts: error code (2 missed, 3 extra, 4 other tissue) to (X, Y, Z) number of cases.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    cases: int = 0
    counts: dict[int, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = {code: np.zeros(self.shape, np.uint32) for code in (MISSED, EXTRA, OTHER_TISSUE)}

    def add(self, errors: np.ndarray, affine: np.ndarray) -> None:
        """Adds the error map of one case.

        Args:
            errors: (X, Y, Z) from `error_map`.
            affine: (4, 4), its voxel index to mm.
        """
        if errors.shape != self.shape or not np.allclose(affine, self.affine):
            from scipy.ndimage import affine_transform

            there = np.linalg.inv(affine) @ self.affine
            errors = affine_transform(errors, there[:3, :3], there[:3, 3], self.shape, order=0, prefilter=False)
        for code, count in self.counts.items():
            count += errors == code
        self.cases += 1

    def share(self, *codes: int) -> np.ndarray:
        """(X, Y, Z) share of the cases in which a voxel has one of these errors; all three kinds by default."""
        chosen = codes or tuple(self.counts)
        total = np.sum([self.counts[code] for code in chosen], axis=0)
        return total / max(self.cases, 1)


def signed_distances(truth: np.ndarray, prediction: np.ndarray, spacing: Spacing) -> np.ndarray:
    """How far the predicted boundary lies from the true one, with a sign: positive outside the truth, negative inside.

    A model that draws too generously has a positive median, one that draws too tightly a negative one; a mean near 0
    with a wide spread is uncertainty, not bias.

    Args:
        truth: (X, Y, Z) booleans.
        prediction: the same shape.
        spacing: voxel size in mm.

    Returns:
        (N,) mm, one number a border voxel of the prediction; empty if either side is.
    """
    borders = border_points(truth), border_points(prediction)
    if not len(borders[0]) or not len(borders[1]):
        return np.zeros(0)
    distance = boundary.nearest(borders[1].position, borders[0].position, spacing)
    return np.where(truth[tuple(borders[1].position.T)], -distance, distance)


def boundary_profile(distances: np.ndarray, edges: Sequence[float]) -> pd.DataFrame:
    """Share of the predicted boundary in each class of signed distance.

    Args:
        distances: (N,) mm from `signed_distances`, of one case or of many put together.
        edges: class limits in mm, ascending; values beyond them count in the outer classes.

    Returns:
        One row a class: `low, high, share`; shares sum to 1 if there is any distance.
    """
    import pandas as pd

    limits = np.asarray(edges, float)
    counts, _ = np.histogram(np.clip(distances, limits[0], limits[-1]), limits)
    shares = counts / max(len(distances), 1)
    return pd.DataFrame({"low": limits[:-1], "high": limits[1:], "share": shares})


def lesion_table(
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing: Spacing,
    protocol: Protocol | str,
    case: str,
    scheme: LabelScheme | None = None,
) -> pd.DataFrame:
    """Every lesion of the truth with its own scores, by the rules of a lesion-wise protocol.

    Args:
        truth: (X, Y, Z) labels.
        prediction: the same shape.
        spacing: voxel size in mm.
        protocol: one with lesion-wise scores.
        case: id for the first column.
        scheme: what the integers mean; default: the protocol's.

    Returns:
        One row a lesion: `case, region, volume, dice, hd95, matches, kept`, volume in mm^3, HD95 in mm.

    Raises:
        SettingError: the protocol has no lesion-wise scores.
    """
    import pandas as pd

    from brainseg_utils.evaluation.lesions import prepare, score

    rules = get_protocol(protocol) if isinstance(protocol, str) else protocol
    if not rules.lesion_rules:
        raise SettingError(
            f"protocol {rules.name} has no lesion-wise scores",
            expected="brats2023 or one of its variants, or brats2024",
        )
    scheme = scheme or rules.scheme
    sides = [
        prepare({r: scheme.region(labels, r) for r in rules.regions}, rules.lesion_rules, spacing, truth=is_truth)
        for labels, is_truth in ((truth, True), (prediction, False))
    ]
    rows = []
    for region, rule in rules.lesion_rules.items():
        result = score(sides[0][region], sides[1][region], rule, rules.penalty_for(truth.shape))
        rows += [(case, region, x.volume, x.dice, x.hd95, x.matches, x.kept) for x in result.lesions]
    return pd.DataFrame(rows, columns=["case", "region", "volume", "dice", "hd95", "matches", "kept"])


def strata(lesions: pd.DataFrame, edges: Sequence[float] = SIZE_EDGES_MM3) -> pd.DataFrame:
    """Lesions by region and size: how many were found, and how well.

    Args:
        lesions: from `lesion_table`, of one case or of many put together.
        edges: volume limits in mm^3, ascending; a lesion on a limit belongs to the class below.

    Returns:
        One row a region and size class: `region, low, high, lesions, found, dice, dice_found`: the share found, the
        mean Dice of all (missed ones as 0), and the mean Dice of those found (NaN if none was).
    """
    import pandas as pd

    rows = []
    for region, group in lesions.groupby("region", sort=False):
        for low, high in pairwise(edges):
            part = group[(group["volume"] > low) & (group["volume"] <= high)]
            if part.empty:
                continue
            found = part[part["matches"] > 0]
            rows.append(
                (region, low, high, len(part), len(found) / len(part), part["dice"].mean(), found["dice"].mean())
            )
    return pd.DataFrame(rows, columns=["region", "low", "high", "lesions", "found", "dice", "dice_found"])


def worst_cases(rows: pd.DataFrame, metric: str = "dice", region: str = "WT", count: int = 5) -> pd.DataFrame:
    """The cases with the worst value of one metric in one region, worst first.

    Args:
        rows: tidy scores.
        metric: for distances, and for missed and invented lesions, the highest values are the worst.
        region: the region.
        count: how many cases.

    Raises:
        SettingError: no such metric or region in the table.
    """
    chosen = rows[(rows["metric"] == metric) & (rows["region"] == region)]
    if chosen.empty:
        raise SettingError(
            f"no {metric} of {region} in the scores",
            expected=f"a metric of {', '.join(rows['metric'].unique())} and a region of "
            + ", ".join(rows["region"].unique()),
        )
    ascending = metric not in HIGHER_IS_WORSE
    return chosen.sort_values(["value", "case"], ascending=[ascending, True]).head(count).reset_index(drop=True)
