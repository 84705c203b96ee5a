"""From a folder of LGG slices to a run."""

from __future__ import annotations

import pytest
import torch

from brainseg_utils.datasets.splits import Split, load
from brainseg_utils.errors import BrainsegError, SettingError
from brainseg_utils.training import recipe as recipes
from brainseg_utils.training.train import train

SMALL = {"data.size": 32, "budget.steps": 4, "budget.epoch_steps": 2, "budget.batch": 4}
SMALL_SETR = {
    **SMALL, "network.size": 32, "network.cuts": 4, "network.stages": 3, "network.dim": 16, "network.depth": 1,
    "network.heads": 2, "network.mlp": 16, "network.decoder": 4,
}  # fmt: skip
SLICES = [name for name in recipes.names() if recipes.load(name).data.name == "slices"]


@pytest.mark.parametrize("name", SLICES)
def test_every_recipe_for_slices_trains_on_a_folder(name, lgg_root, tmp_path):
    changes = SMALL_SETR if "setr" in name else SMALL
    run = train(name, lgg_root, tmp_path / "run", changes=changes)
    assert run.history()["step"].tolist() == [2, 4]
    assert run.recipe.profile == "quick"
    split = load(run.path / "split.json")
    assert (len(split["train"]), len(split["val"])) == (4, 2)
    image = torch.zeros(1, run.load().in_channels, 32, 32)
    assert run.load().network(image).shape == (1, 1, 32, 32)


def test_a_split_that_is_given_is_used(lgg_root, lgg_cases, tmp_path):
    ids = [case.id for case in lgg_cases]
    split = Split({"fold0": tuple(ids[:1]), "fold1": tuple(ids[1:3]), "test": tuple(ids[3:])}, 0)
    run = train("course_lgg", lgg_root, tmp_path / "run", changes=SMALL, split=split)
    used = load(run.path / "split.json")
    assert (used["train"], used["val"]) == (tuple(ids[1:3]), tuple(ids[:1]))


def test_all_may_train(lgg_root, tmp_path):
    changes = {**SMALL, "split.validation": "none", "engine.keep": ["last"]}
    run = train("course_lgg", lgg_root, tmp_path / "run", changes=changes)
    assert len(load(run.path / "split.json")["train"]) == 6
    assert "dice" not in run.metrics
    assert run.weights.is_file()


def test_resume_goes_on_with_the_same_data_only(lgg_root, lgg_cases, tmp_path):
    run = train("course_lgg", lgg_root, tmp_path / "run", changes=SMALL)
    again = train("course_lgg", lgg_root, tmp_path / "run", resume=True, changes=SMALL)
    assert again.metrics == run.metrics
    (run.path / "metrics.json").unlink()
    ids = [case.id for case in lgg_cases]
    other = Split({f"fold{n}": (ids[5 - n],) for n in range(5)}, 0)
    with pytest.raises(SettingError, match="other cases or another split"):
        train("course_lgg", lgg_root, tmp_path / "run", resume=True, changes=SMALL, split=other)
    with pytest.raises(SettingError, match="give --out"):
        train("course_lgg", lgg_root, resume=True)


def test_a_wrong_folder_leaves_no_run_behind(tmp_path):
    with pytest.raises(BrainsegError, match="no such folder"):
        train("course_lgg", tmp_path / "nothing", tmp_path / "run")
    assert not (tmp_path / "run").exists()
