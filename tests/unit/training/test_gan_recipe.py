"""Recipes of generators: they read back as they were written, and refuse what does not exist."""

from __future__ import annotations

import tomllib

import pytest

from brainseg_utils.errors import SettingError
from brainseg_utils.training import gan_recipe


@pytest.mark.parametrize("profile", ["quick", "full"])
@pytest.mark.parametrize("name", gan_recipe.names())
def test_a_recipe_reads_back_as_it_was_written(name, profile):
    recipe = gan_recipe.load(name, profile)
    assert gan_recipe.parse(tomllib.loads(recipe.toml())) == recipe
    assert gan_recipe.build(recipe.generator).training


def test_the_quick_profile_is_smaller():
    quick, full = (gan_recipe.load("course_painter", profile) for profile in ("quick", "full"))
    assert quick.budget.steps < full.budget.steps
    assert quick.data.options["size"] < full.data.options["size"]


def test_r1_is_at_its_stated_sizes_and_what_it_does_not_state_is_marked():
    recipe = gan_recipe.load("r1_gan")
    networks = [gan_recipe.build(choice) for choice in (recipe.generator, recipe.discriminator)]
    counts = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert counts == [451_265, 233_473]
    assert recipe.data.options["size"] == (182, 218, 182)
    assert {"loss.adversarial", "budget.batch", "rates.generator"} <= set(recipe.unstated)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator.name": "paintr"}, "did you mean 'painter'"),
        ({"generator.width": 8}, "unknown option 'width'"),
        ({"discriminator.name": "discriminator_r1", "discriminator.widths": 1}, "unknown option 'widths'"),
        ({"loss.adversarial": "hing"}, "did you mean 'hinge'"),
        ({"loss.weights": 1.0}, "did you mean 'weight'"),
        ({"budget.batch": 3, "engine.accumulate": 2}, "divides into the parts"),
        ({"budget.steps": 1.5}, "a whole number"),
        ({"data.regions": ["WT"]}, "the game decides it"),
        ({"data.name": "slices"}, "unknown kind of data"),
        ({"data.sizes": [32, 32, 32]}, "did you mean 'size'"),
        ({"rates.generator": 0.0}, "rates above 0"),
        ({"engine.precision": "fp8"}, "unknown precision"),
        ({"optimiser.rate": 1.0}, "unknown table 'optimiser'"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(changes, message):
    with pytest.raises(SettingError, match=message):
        gan_recipe.load("course_painter", "quick", changes)


def test_a_discriminator_of_another_game_is_refused():
    tables = tomllib.loads(gan_recipe.load("course_painter", "quick").toml())
    tables["discriminator"] = {"name": "discriminator_r1"}
    with pytest.raises(SettingError, match="discriminator_r1 with generator painter"):
        gan_recipe.parse(tables)
