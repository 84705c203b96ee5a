"""Each fold is held out once, and the folds' results are told together."""

from __future__ import annotations

import numpy as np
import pytest

from brainseg_utils.datasets import splits
from brainseg_utils.datasets.splits import Split, load
from brainseg_utils.errors import SettingError
from brainseg_utils.files import write_json
from brainseg_utils.training.crossval import cross_validate, spread
from brainseg_utils.training.run import Run

SMALL = {"data.size": 32, "budget.steps": 2, "budget.epoch_steps": 2, "budget.batch": 4}


def test_every_patient_is_held_out_once_and_the_test_cases_never(lgg_root, lgg_cases, tmp_path):
    ids = [case.id for case in lgg_cases]
    folds = splits.k_fold(lgg_cases[1:], 3, seed=0)
    split = Split({**folds.subsets, "test": (ids[0],)}, 0)
    runs = cross_validate("course_lgg", lgg_root, tmp_path, split, workers=1, changes=SMALL)
    used = [load(run.path / "split.json") for run in runs]
    assert [run.path.name for run in runs] == ["fold0", "fold1", "fold2"]
    assert sorted(i for one in used for i in one["val"]) == sorted(ids[1:])
    assert all(set(one["train"]) | set(one["val"]) == set(ids[1:]) for one in used)
    table = spread(runs)
    values = [run.metrics["dice_tumour"] for run in runs]
    assert table.loc["tumour"].tolist() == pytest.approx(
        [np.mean(values), np.std(values, ddof=1), min(values), max(values)]
    )


def test_folds_that_are_finished_are_taken_as_they_are(lgg_root, lgg_cases, tmp_path):
    split = splits.k_fold(lgg_cases, 2, seed=0)
    first = cross_validate("course_lgg", lgg_root, tmp_path, split, workers=1, changes=SMALL)
    before = [run.weights.stat().st_mtime_ns for run in first]
    again = cross_validate("course_lgg", lgg_root, tmp_path, split, workers=1, changes=SMALL)
    assert [run.weights.stat().st_mtime_ns for run in again] == before
    with pytest.raises(SettingError, match="begun with"):
        cross_validate("course_lgg", lgg_root, tmp_path, split, workers=1, changes={**SMALL, "seed": 1})


def test_a_split_without_folds_is_refused(lgg_root, tmp_path):
    with pytest.raises(SettingError, match="train, val"):
        cross_validate("course_lgg", lgg_root, tmp_path, Split({"train": ("a",), "val": ("b",)}, 0))


def test_one_run_has_no_spread(tmp_path):
    write_json(tmp_path / "metrics.json", {"dice_WT": 0.5})
    with pytest.raises(SettingError, match="1 of 1 runs"):
        spread([Run(tmp_path)])
    with pytest.raises(SettingError, match="1 of 2 runs"):
        spread([Run(tmp_path), Run(tmp_path / "other")])
