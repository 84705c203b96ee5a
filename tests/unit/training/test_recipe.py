"""Recipes: read, overridden by profiles, written and read back; what cannot be is refused by name."""

from __future__ import annotations

import tomllib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from brainseg_utils.errors import BrainsegError, SettingError
from brainseg_utils.models.registry import count_parameters
from brainseg_utils.training import recipe as recipes
from brainseg_utils.training.checkpoints import build_network
from brainseg_utils.training.recipe import load, names, parse
from brainseg_utils.training.toml import to_toml

LEAST = """
title = "least"
[data]
name = "slices"
[network]
name = "unet2d"
[loss]
name = "dice"
[optimiser]
name = "adam"
rate = 1e-3
[schedule]
name = "constant"
[budget]
batch = 4
epochs = 2
[split]
folds = 5
[quick.budget]
steps = 7
[quick.network]
width = 8
"""


def least(profile="full", **changes):
    return parse(
        {"name": "least", **tomllib.loads(LEAST)}, profile, {k.replace("__", "."): v for k, v in changes.items()}
    )


@pytest.mark.parametrize("profile", recipes.PROFILES)
@pytest.mark.parametrize("name", names())
def test_every_recipe_reads_back_from_what_a_run_writes(name, profile, tmp_path):
    recipe = load(name, profile)
    (tmp_path / f"{name}.toml").write_text(recipe.toml())
    assert load(tmp_path / f"{name}.toml", "full") == recipe
    assert recipe.profile == profile


def test_the_reports_recipes_say_what_the_report_says():
    dice, combo7, combo5, setr = (load(f"r2_{n}") for n in ("unet_dice", "unet_combo07", "unet_combo05", "setr"))
    assert [r.budget.epochs for r in (dice, combo7, combo5, setr)] == [20, 20, 40, 350]
    assert [r.loss.options.get("alpha") for r in (dice, combo7, combo5, setr)] == [None, 0.7, 0.5, None]
    for r in (dice, combo7, combo5, setr):
        assert (r.optimiser.name, r.optimiser.options) == ("adam", {"rate": 1e-4})
        assert r.data.options["size"] == 128
        assert "budget.batch" in r.unstated


@pytest.mark.parametrize("profile", recipes.PROFILES)
def test_the_courses_setr_fits_its_slices_and_its_budget(profile):
    recipe, unet = load("course_setr", profile), load("course_lgg", profile)
    network = build_network(recipe, 9, 1).eval()
    size = recipe.data.options["size"]
    assert network.patch == 8
    assert count_parameters(network) <= 8_000_000
    assert network(torch.zeros(1, 9, size, size)).shape == (1, 1, size, size)
    assert (recipe.data, recipe.loss, recipe.budget, recipe.split) == (unet.data, unet.loss, unet.budget, unet.split)


def test_the_profile_overrides_size_and_takes_the_place_of_the_length():
    full, quick = least(), least("quick")
    assert (full.budget.epochs, full.budget.steps) == (2, 0)
    assert (quick.budget.epochs, quick.budget.steps, quick.budget.batch) == (0, 7, 4)
    assert quick.network.options == {"width": 8}


def test_changes_come_last_and_another_name_drops_the_old_options():
    changed = least("quick", network__name="setr", network__cuts=8, budget__seconds=3, seed=5)
    assert (changed.network.name, changed.network.options) == ("setr", {"cuts": 8})
    assert (changed.budget.steps, changed.budget.seconds, changed.seed) == (0, 3, 5)


def test_unstated_settings_are_marked():
    marked = least(budget__batch={"value": 8, "unstated": True})
    assert marked.budget.batch == 8
    assert marked.unstated == ("budget.batch",)
    assert "batch = { value = 8, unstated = true }" in marked.toml()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__sise": 3}, "data slices: unknown option 'sise'.*'size'"),
        ({"data__size": "big"}, "size = 'big'.*whole number"),
        ({"data__name": "slice"}, "did you mean 'slices'"),
        ({"network__widht": 3}, "unknown option 'widht'.*'width'"),
        ({"network__width": 3.5}, "width = 3.5.*whole number"),
        ({"network__in_channels": 3}, "the data decides it"),
        ({"loss__name": "combo", "loss__alpha": True}, "alpha = True.*a number"),
        ({"loss__name": "combo", "loss__alpha": 3.0}, "0 to 1"),
        ({"optimiser__momentum": 0.9}, "optimiser adam: unknown option 'momentum'"),
        ({"optimiser__rate": 0}, "rate above 0"),
        ({"schedule__name": "cosine", "schedule__patience": 3}, "unknown option 'patience'"),
        ({"budget__epochs": 3, "budget__seconds": 4}, "epochs and seconds.*exactly one"),
        ({"budget__epochs": 0}, "neither epochs, steps nor seconds"),
        ({"budget__bach": 4}, "unknown setting 'bach'.*'batch'"),
        ({"engine__accumulate": 3}, "accumulate = 3 with budget.batch = 4"),
        ({"engine__precision": "fp16"}, "unknown precision 'fp16'"),
        ({"engine__keep": ["best"]}, "unknown policy 'best'"),
        ({"engine__ema": 1.0}, "below 1"),
        ({"split__fractions": [0.8, 0.2]}, "folds and fractions"),
        ({"split__validation": "fold7"}, "unknown subset 'fold7'"),
        ({"split__validation": "none"}, "best_dice with split.validation"),
        ({"split__validation": "none", "engine__keep": ["last"], "engine__patience": 3}, "engine.patience with"),
        ({"budged__epochs": 3}, "unknown table 'budged'.*'budget'"),
        ({"sed": 3}, "unknown setting 'sed'.*'seed'"),
        ({"budget__batch": {"valu": 3}}, "unstated = true"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(changes, message):
    with pytest.raises(SettingError, match=message):
        least(**changes)


def test_a_wrong_file_is_said_to_be_one(tmp_path):
    with pytest.raises(SettingError, match="did you mean 'course_lgg'"):
        load("course_lg")
    with pytest.raises(BrainsegError, match="no such file"):
        load(tmp_path / "x.toml")
    (tmp_path / "x.toml").write_text("a = [")
    with pytest.raises(BrainsegError, match="not TOML"):
        load(tmp_path / "x.toml")
    (tmp_path / "y.toml").write_text(LEAST.replace("[budget]", "[bugdet]"))
    with pytest.raises(SettingError, match=r"unknown table 'bugdet'.*'budget'"):
        load(tmp_path / "y.toml")


values = st.one_of(
    st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False), st.text(st.characters(codec="utf-8"))
)
keys = st.text("abcdefgh_", min_size=1)


@given(st.dictionaries(keys, st.one_of(values, st.lists(st.integers(0, 9)), st.dictionaries(keys, values))))
def test_what_is_written_as_toml_reads_back(tables):
    assert tomllib.loads(to_toml(tables)) == tables
