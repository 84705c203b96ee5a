"""Rates at steps, and slow weights."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from brainseg_utils.errors import SettingError
from brainseg_utils.training.ema import Ema
from brainseg_utils.training.schedules import SCHEDULES, build


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 500), st.integers(1, 50))
def test_every_rate_is_above_0_and_at_most_the_recipes(name, steps, epoch_steps):
    schedule = build(name)
    for step in range(0, steps, max(1, steps // 20)):
        assert 0 < schedule.factor(step, steps, epoch_steps) <= 1 + 1e-12


def test_warm_up_rises_in_equal_steps_and_ends_where_the_cosine_begins():
    schedule = build("cosine", warmup=0.1)
    rates = [schedule.factor(step, 40, 10) for step in range(40)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert schedule.factor(22, 40, 10) == pytest.approx(0.5)


@pytest.mark.parametrize("growth", [1.0, 2.0])
def test_restarts_are_torchs(growth):
    weight = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimiser, 6, int(growth), eta_min=0.1)
    ours = build("restarts", cycle=3, growth=growth, floor=0.1)
    for step in range(30):
        assert ours.factor(step, 1000, 2) == pytest.approx(theirs.get_last_lr()[0])
        optimiser.step()
        theirs.step()


def test_plateau_is_torchs():
    weight = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=2, threshold=0)
    ours = build("plateau", drop=0.5, patience=2)
    for loss in [1, 0.9, 0.95, 0.96, 0.97, 0.98, 0.8, 0.8, 0.8, 0.8, 0.8, 0.9]:
        optimiser.step()
        theirs.step(loss)
        ours.observe(loss)
        assert ours.factor(0, 1, 1) == pytest.approx(optimiser.param_groups[0]["lr"])


def test_a_plateau_that_is_restored_goes_on():
    one, other = build("plateau", patience=2), build("plateau", patience=2)
    for loss in (1.0, 2.0, 2.0):
        one.observe(loss)
    other.restore(one.state())
    other.observe(2.0)
    assert other.factor(0, 1, 1) == pytest.approx(0.1)


def test_one_cycle_rises_and_falls_below_its_start():
    schedule = build("one_cycle", rise=0.25)
    rates = [schedule.factor(step, 100, 10) for step in range(101)]
    assert rates[0] == pytest.approx(0.04)
    assert rates.index(max(rates)) == 25
    assert rates[100] == pytest.approx(4e-6)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosin", {}, "did you mean 'cosine'"),
        ("cosine", {"patience": 3}, "schedule cosine: unknown option 'patience'"),
        ("one_cycle", {"warmup": 0.1}, "unknown option 'warmup'"),
        ("cosine", {"warmup": 5}, "share of the steps"),
        ("plateau", {"drop": 10}, "between 0 and 1"),
        ("restarts", {"cycle": 0}, "above 0"),
    ],
)
def test_schedules_that_cannot_be_are_refused(name, options, message):
    with pytest.raises(SettingError, match=message):
        build(name, **options)


def test_slow_weights_follow_by_the_decay_and_copy_statistics():
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    ema = Ema(network, decay=0.9)
    start = float(network[0].weight.detach())
    network[0].weight.data.fill_(start + 1)
    network[1].running_mean.fill_(5)
    for step in range(1000, 1003):
        ema.update(network, step)
    assert float(ema.weights["0.weight"]) - start == pytest.approx(1 - 0.9**3, rel=1e-4)
    assert float(ema.weights["1.running_mean"]) == 5


def test_the_first_slow_weights_forget_the_random_ones_quickly():
    network = nn.Linear(1, 1, bias=False)
    ema = Ema(network, decay=0.999)
    start = float(network.weight.detach())
    network.weight.data.fill_(start + 1)
    for step in range(20):
        ema.update(network, step)
    assert float(ema.weights["weight"]) - start > 0.9


def test_the_network_has_its_own_weights_back_even_after_an_error():
    network = nn.Linear(2, 2)
    ema = Ema(network, decay=0.5)
    own = network.weight.detach().clone() + 1
    network.weight.data.copy_(own)
    with pytest.raises(ZeroDivisionError), ema.inside(network):
        assert torch.equal(network.weight, ema.weights["weight"])
        math.fmod(1, 1) / 0
    assert torch.equal(network.weight, own)
