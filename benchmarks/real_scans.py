"""Scores in the benchmarks: which real scans are for choosing, which for reporting, and any case's Dice a region."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainseg_utils.datasets.cases import Case
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.errors import DataError
from brainseg_utils.evaluation import statistics, voxel
from brainseg_utils.inference.regions import Rules, label
from brainseg_utils.inference.volumes import Probabilities, VolumePredictor
from brainseg_utils.pipeline.arrays import bounding_box
from brainseg_utils.seeds import stream

ROOT = Path(__file__).resolve().parent.parent
REGIONS = ("WT", "TC", "ET")
LEAST = 0.1  # no threshold is lower: where all probabilities are, there is no tumour


def cases(folder: Path, subset: str) -> list[Case]:
    """The scans of a subset ("develop" or "test") of `data/split.json` below a folder of data sets.

    Raises:
        DataError: one of them is not there.
    """
    wanted = json.loads((ROOT / "data" / "split.json").read_text(encoding="utf-8"))["brats"][subset]
    found = [case for part in sorted(folder.glob("brats*")) for case in find_cases(part)]
    there = {case.id: case for case in found if case.label_path}
    missing = [name for name in wanted if name not in there]
    if missing:
        raise DataError(
            f"no case {', '.join(missing)}", where=folder, expected=f"the {subset} cases of data/split.json"
        )
    return [there[name] for name in wanted]


@dataclass(frozen=True)
class Seen:
    """A case, what networks say of it and what is true, both in the smallest box with all tumour, said or true.

    Attributes:
        case: the case.
        said: probabilities.
        truth: (*box.shape) label values.
        exclusive: whether the networks' classes exclude each other.
    """

    case: Case
    said: Probabilities
    truth: np.ndarray
    exclusive: bool

    @classmethod
    def of(cls, predictor: VolumePredictor, case: Case) -> Seen:
        """Predicts a case.

        Raises:
            DataError: a mask that reaches out of the brain.
        """
        said, truth = predictor(case), case.label().data
        inside = said.box.crop(truth)
        if inside.any() and np.count_nonzero(inside) != np.count_nonzero(truth):
            raise DataError("labelled voxels outside the brain", where=f"case {case.id}")
        box = bounding_box((said.data >= LEAST).any(axis=0) | (inside > 0))
        near = replace(said, data=np.ascontiguousarray(box.crop(said.data)), box=said.box.inner(box))
        return cls(case, near, np.ascontiguousarray(box.crop(inside)), predictor.exclusive)

    def rows(self, rules: Rules, regions: Iterable[str] = REGIONS) -> list[dict[str, Any]]:
        """One row a region: case, region, dice, and the volumes in ml."""
        planes = dict(zip(self.said.regions, self.said.data, strict=True))
        found = label(planes, self.case.scheme, self.said.spacing, rules, self.exclusive)
        ml = float(np.prod(self.said.spacing)) / 1000
        rows = []
        for region in regions:
            here, true = (self.case.scheme.region(array, region) for array in (found, self.truth))
            volumes = {"truth_ml": true.sum() * ml, "found_ml": here.sum() * ml}
            rows.append({"case": self.case.id, "region": region, "dice": voxel.count(true, here).dice, **volumes})
        return rows


def summarise(scores: pd.DataFrame, name: str) -> dict[str, dict[str, float]]:
    """Mean with its 95 % interval and median a region; "ET where there is one" beside ET."""
    groups = {region: scores[scores["region"] == region] for region in REGIONS}
    groups["ET where there is one"] = groups["ET"][groups["ET"]["truth_ml"] > 0]
    summary = {}
    for region, rows in groups.items():
        values = rows["dice"].to_numpy(float)
        low, high = statistics.bootstrap_interval(values, stream(0, name, region))
        figures = {"mean": values.mean(), "low": low, "high": high, "median": np.median(values)}
        summary[region] = {key: round(float(value), 4) for key, value in figures.items()} | {"cases": len(values)}
    return summary


def score(seen: Iterable[Seen], rules: Rules) -> pd.DataFrame:
    """`Seen.rows` of all, volumes to a hundredth of a millilitre."""
    table = pd.DataFrame([row for one in seen for row in one.rows(rules)])
    return table.round({"truth_ml": 2, "found_ml": 2})
