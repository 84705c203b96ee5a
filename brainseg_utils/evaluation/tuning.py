"""Choosing a post-processing on validation cases, and only on those.

A threshold or a smallest size that is chosen on the cases it is then reported on makes any model look better. `sweep`
scores all settings on validation cases, `choose` picks one, and `apply` is what the test cases get.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from brainseg_utils.errors import SettingError
from brainseg_utils.evaluation import voxel
from brainseg_utils.evaluation.components import components
from brainseg_utils.evaluation.surface import Spacing

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class PostProcessing:
    """What turns a probability map into a mask, in this order.

    Attributes:
        threshold: voxels with this probability or more belong to the region.
        opening: iterations of morphological opening (removes thin bridges), 6 neighbours; 0 does nothing.
        closing: iterations of closing (fills gaps).
        smallest: mm^3; components (26 neighbours) with less volume are removed.
    """

    threshold: float = 0.5
    opening: int = 0
    closing: int = 0
    smallest: float = 0.0


class ValidationCase(NamedTuple):
    """One case to tune on: id, (X, Y, Z) probability and truth, voxel size in mm."""

    id: str
    probability: np.ndarray
    truth: np.ndarray
    spacing: Spacing


def apply(probability: np.ndarray, spacing: Spacing, setting: PostProcessing) -> np.ndarray:
    """The mask that a post-processing makes of a probability map.

    Args:
        probability: (X, Y, Z), 0 to 1.
        spacing: voxel size in mm.
        setting: what to do.

    Returns:
        (X, Y, Z) booleans.
    """
    from scipy import ndimage

    mask = probability >= setting.threshold
    if setting.opening:
        mask = ndimage.binary_opening(mask, iterations=setting.opening)
    if setting.closing:
        # Beyond the array counts as inside while eroding, so that closing never takes voxels away at the border.
        grown = ndimage.binary_dilation(mask, iterations=setting.closing)
        mask = ndimage.binary_erosion(grown, iterations=setting.closing, border_value=1)
    return remove_small(mask, spacing, setting.smallest)


def remove_small(mask: np.ndarray, spacing: Spacing, smallest: float) -> np.ndarray:
    """Without the components (26 neighbours) of less than `smallest` mm^3."""
    if smallest <= 0:
        return mask
    numbered = components(mask)
    large = np.bincount(numbered.ravel()) * float(np.prod(spacing)) >= smallest
    large[0] = False
    return large[numbered]


def grid(
    thresholds: Sequence[float] = (0.5,),
    openings: Sequence[int] = (0,),
    closings: Sequence[int] = (0,),
    smallest: Sequence[float] = (0.0,),
) -> list[PostProcessing]:
    """Every combination of the given values.

    Example:
        >>> len(grid(thresholds=(0.3, 0.5, 0.7), smallest=(0, 50)))
        6
    """
    return [PostProcessing(*values) for values in product(thresholds, openings, closings, smallest)]


def sweep(cases: Iterable[ValidationCase], settings: Sequence[PostProcessing]) -> pd.DataFrame:
    """Scores every setting on every validation case; cases are read one at a time.

    Args:
        cases: validation cases, of one region.
        settings: what to try, from `grid`.

    Returns:
        One row a case and setting: `case, threshold, opening, closing, smallest, dice, sensitivity, precision`.
    """
    import pandas as pd

    rows = []
    for case in cases:
        masks: dict[PostProcessing, np.ndarray] = {}
        for setting in settings:
            # Settings that differ in the smallest size alone share the expensive steps.
            shared = replace(setting, smallest=0.0)
            if shared not in masks:
                masks[shared] = apply(case.probability, case.spacing, shared)
            counts = voxel.count(case.truth, remove_small(masks[shared], case.spacing, setting.smallest))
            scores = {name: getattr(counts, name) for name in ("dice", "sensitivity", "precision")}
            rows.append({"case": case.id, **asdict(setting), **scores})
    return pd.DataFrame(rows)


def choose(table: pd.DataFrame, test_cases: Iterable[str], metric: str = "dice") -> PostProcessing:
    """The setting with the best mean over the validation cases; among equals the first.

    Args:
        table: from `sweep`.
        test_cases: ids on which the choice will be reported.
        metric: a column of the table.

    Raises:
        SettingError: a test case is among the cases that were tuned on.
    """
    both = sorted(set(table["case"]) & set(test_cases))
    if both:
        raise SettingError(
            f"{len(both)} cases are both tuned on and reported on, e.g. {both[0]}",
            expected="disjoint validation and test cases",
            remedy="tune on validation cases only",
        )
    keys = list(asdict(PostProcessing()))
    means = table.groupby(keys, sort=False)[metric].mean()
    threshold, opening, closing, smallest = means.index[int(np.argmax(means.to_numpy()))]
    return PostProcessing(float(threshold), int(opening), int(closing), float(smallest))
