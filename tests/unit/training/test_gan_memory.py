"""Memory of a GAN's step: rehearsed without content, measured in a process of its own, bounded by a budget."""

from __future__ import annotations

import pytest
import torch

from brainseg_utils.errors import BrainsegError, SettingError
from brainseg_utils.training import gan_memory, gan_recipe
from brainseg_utils.training.gan_memory import choose, forecast, measure
from brainseg_utils.training.memory import MIB

LITTLE = {
    "generator.widths": [8, 16],
    "discriminator.widths": [8, 16, 16],
    "budget.batch": 4,
    "engine.precision": "fp32",
}


def painter(**changes):
    return gan_recipe.load("course_painter", "quick", {**LITTLE, **changes})


@pytest.mark.parametrize(
    ("name", "changes", "side"),
    [
        ("course_painter", {"budget.batch": 2, "engine.precision": "fp32"}, 56),
        ("r1_gan", {"generator.width": 16, "discriminator.width": 16, "engine.precision": "fp32"}, 80),
    ],
)
def test_the_forecast_is_within_a_fifth_of_what_is_measured(name, changes, side):
    torch.ones(2**28).sum()  # 1 GB: what the parent has had must not count as the child's
    recipe = gan_recipe.load(name, "quick", changes)
    expected, found = forecast(recipe, (side,) * 3).total, measure(recipe, (side,) * 3)
    assert expected == pytest.approx(found, rel=0.2)


def test_every_tensor_of_a_rehearsal_is_counted_while_it_lives():
    with gan_memory.Live() as live:
        one = torch.zeros(MIB // 4)
        two = [one + k for k in range(3)]
        del one
        two.pop()
        view = two[0].view(2, -1)
    assert (live.now, live.most) == (2 * MIB, 4 * MIB)
    assert view.shape[0] == 2


def test_more_voxels_need_more_and_parts_less():
    small, large = (forecast(painter(), (side,) * 3) for side in (16, 32))
    assert large.step == pytest.approx(8 * small.step, rel=0.15)
    assert large.networks == small.networks
    parts = forecast(painter(**{"engine.accumulate": 4}), (32,) * 3)
    assert parts.step < 0.35 * large.step


def test_blocks_computed_twice_need_less():
    plain, twice = (forecast(painter(**{"generator.checkpointing": c}), (32,) * 3) for c in (False, True))
    assert twice.step < 0.9 * plain.step


def test_r1s_gan_at_its_stated_size_is_forecast_without_being_allocated():
    recipe = gan_recipe.load("r1_gan")
    expected = forecast(recipe, (182, 218, 182))
    assert expected.total > 7 * 2**30
    assert expected.networks < 20 * MIB


def test_the_largest_patch_that_fits_is_chosen_and_parts_before_checkpointing():
    recipe = painter()
    whole, part = forecast(recipe, (32,) * 3).total, forecast(gan_memory.changed(recipe, 4, False), (32,) * 3).total
    plan = choose(recipe, whole, (16, 32))
    assert (plan.size, plan.accumulate, plan.checkpointing) == ((32, 32, 32), 1, False)
    plan = choose(recipe, part, (16, 32))
    assert (plan.size, plan.accumulate, plan.checkpointing) == ((32, 32, 32), 4, False)
    plan = choose(recipe, part - 1, (16, 32))
    assert plan.checkpointing or plan.size == (16, 16, 16)
    assert plan.expected.total < part
    with pytest.raises(SettingError, match="16 voxels a side"):
        choose(recipe, MIB, (16, 32))


def test_a_measurement_that_fails_says_why():
    recipe = painter(**{"engine.start": "nowhere.safetensors"})
    with pytest.raises(BrainsegError, match=r"16x16x16: two steps did not end .*no such file"):
        measure(recipe, (16,) * 3)
