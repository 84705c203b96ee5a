"""R0's recipe and the course's: what R0 states, what is the course's choice, and that only the recipe differs."""

from __future__ import annotations

import pytest
import torch

from brainseg_utils.models.registry import count_parameters, on_paper
from brainseg_utils.pipeline import registry
from brainseg_utils.training import losses, schedules
from brainseg_utils.training.recipe import PROFILES, load

STATED_SIZE, QUICK_SIZE = 62_191_941, 4_079_373  # parameters, counted


def network_of(recipe):
    return on_paper(recipe.network.name, **recipe.network.options)


def test_r0s_recipe_says_what_the_report_says():
    r0 = load("r0_swin")
    assert r0.data.options == {"pipeline": "r0", "size": (128, 128, 128), "regions": ("ET", "TC", "WT")}
    assert (r0.budget.batch, r0.budget.epochs, r0.budget.steps) == (2, 10, 0)
    assert (r0.optimiser.name, r0.optimiser.options["rate"]) == ("adamw", 1e-3)
    assert r0.schedule.name == "cosine"
    assert r0.loss.name == "dice"
    assert (r0.split.fractions, r0.split.validation) == ((0.8, 0.2), "val")
    assert (r0.engine.keep, r0.engine.keep_every) == (("best_dice", "best_loss"), 5)
    assert (r0.engine.ema, r0.engine.clip) == (0.0, 0.0)
    assert set(r0.unstated) == {"optimiser.decay", "schedule.floor"}


def test_r0s_pipeline_has_the_stated_steps():
    names = [step.name for step in registry.steps("r0", size=load("r0_swin").data.options["size"])]
    assert names[0] == "z-score over non-zero"
    assert [n for n in names if n.startswith("flip")] == ["flip X, p 0.5", "flip Y, p 0.5", "flip Z, p 0.5"]
    assert [n.split()[0] for n in names[-2:]] == ["shift", "scale"]


def test_r0_begins_at_its_full_rate_and_the_course_does_not():
    first = {}
    for name in ("r0_swin", "course_swin"):
        recipe = load(name)
        schedule = schedules.build(recipe.schedule.name, **recipe.schedule.options)
        first[name] = recipe.optimiser.options["rate"] * schedule.factor(0, 10_000, 250)
    assert first["r0_swin"] == 1e-3
    assert first["course_swin"] < 1e-6
    assert load("course_swin").optimiser.options["rate"] < 1e-3


@pytest.mark.parametrize(("profile", "size"), [("full", STATED_SIZE), ("quick", QUICK_SIZE)])
@pytest.mark.parametrize("name", ["r0_swin", "course_swin"])
def test_both_recipes_train_the_same_network(name, profile, size):
    recipe = load(name, profile)
    network = network_of(recipe)
    assert count_parameters(network) == size
    side = recipe.data.options["size"]
    assert network(torch.zeros(1, 4, *side, device="meta")).shape == (1, 3, *side)


@pytest.mark.parametrize("profile", PROFILES)
def test_both_recipes_share_patch_regions_and_split(profile):
    r0, course = load("r0_swin", profile), load("course_swin", profile)
    for option in ("size", "regions"):
        assert r0.data.options[option] == course.data.options[option]
    assert (r0.network, r0.split, r0.budget.batch) == (course.network, course.split, course.budget.batch)


def test_r0s_loss_is_soft_dice_on_sigmoids_and_bears_an_empty_truth():
    loss = losses.build(load("r0_swin").loss.name)
    truth = torch.zeros(1, 3, 4, 4, 4)
    truth[:, 2, :2] = 1  # ET and TC are empty
    perfect = torch.where(truth > 0, 30.0, -30.0)
    assert float(loss(perfect, truth)) == pytest.approx(0, abs=1e-4)
    assert torch.isfinite(loss(torch.zeros_like(truth), torch.zeros_like(truth)))
