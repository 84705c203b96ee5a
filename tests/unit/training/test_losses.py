"""Losses against MONAI's, in bf16, on empty masks, and against numbers computed by hand."""

from __future__ import annotations

import math

import monai.losses as witness
import pytest
import torch

from brainseg_utils.errors import SettingError
from brainseg_utils.training import losses
from brainseg_utils.training.losses import build


def example(channels=2, seed=0, truth="some"):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, channels, 8, 9, generator=generator)
    masks = (torch.rand(3, channels, 8, 9, generator=generator) > 0.8).float()
    if truth == "one empty":
        masks[1] = 0
    return logits, masks * (truth != "empty")


PAIRS = {
    "dice": (build("dice"), witness.DiceLoss(sigmoid=True)),
    "batch dice": (build("dice", batch=True), witness.DiceLoss(sigmoid=True, batch=True)),
    "focal": (build("focal"), witness.FocalLoss(gamma=2.0)),
    "dice_focal": (build("dice_focal", weight=0.4), witness.DiceFocalLoss(sigmoid=True, lambda_focal=0.4)),
}


@pytest.mark.parametrize("truth", ["some", "one empty", "empty"])
@pytest.mark.parametrize("name", PAIRS)
def test_region_losses_are_monais(name, truth):
    ours, theirs = PAIRS[name]
    logits, masks = example(truth=truth)
    assert float(ours(logits, masks)) == pytest.approx(float(theirs(logits, masks)), abs=1e-6)


SOFTMAX_PAIRS = {
    "dice": (
        build("dice", softmax=True, background=False),
        witness.DiceLoss(softmax=True, to_onehot_y=True, include_background=False),
    ),
    "focal": (build("focal", softmax=True), witness.FocalLoss(use_softmax=True, to_onehot_y=True)),
    "dice_ce": (
        build("dice_ce", softmax=True, weight=0.7),
        witness.DiceCELoss(softmax=True, to_onehot_y=True, lambda_ce=0.7),
    ),
}


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("name", SOFTMAX_PAIRS)
def test_class_losses_are_monais(name, empty):
    ours, theirs = SOFTMAX_PAIRS[name]
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(2, 4, 5, 6, 7, generator=generator)
    classes = torch.randint(0, 4, (2, 1, 5, 6, 7), generator=generator) * (not empty)
    assert float(ours(logits, classes)) == pytest.approx(float(theirs(logits, classes)), abs=1e-6)


def test_combo_is_the_weighted_sum_with_both_terms_of_the_cross_entropy_positive():
    logits, masks = example()
    p = torch.sigmoid(logits)
    entropy = float(-(masks * p.log() + (1 - masks) * (1 - p).log()).mean())
    dice = float(build("dice")(logits, masks))
    assert float(build("combo", alpha=0.7)(logits, masks)) == pytest.approx(0.7 * entropy + 0.3 * dice, rel=1e-5)
    with pytest.raises(SettingError, match="0 to 1"):
        build("combo", alpha=7)


EVERY = [
    (name, options)
    for name in losses.LOSSES
    for options in ([{}, {"softmax": True}] if name in ("dice", "focal", "dice_focal", "dice_ce") else [{}])
]


@pytest.mark.parametrize(("name", "options"), EVERY)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("truth", ["some", "empty"])
def test_bf16_logits_of_any_size_give_finite_losses_and_gradients(name, options, scale, truth):
    logits, masks = example(channels=3, truth=truth)
    if name == "ce" or options.get("softmax"):
        masks = masks[:, :1]
    logits = (scale * logits).to(torch.bfloat16).requires_grad_()
    value = build(name, **options)(logits, masks)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", ["dice", "bce", "combo", "focal", "dice_focal", "dice_ce", "slices"])
def test_a_perfect_prediction_costs_nothing_and_its_opposite_much(name):
    _, masks = example()
    right = 60 * (2 * masks - 1)
    assert float(build(name)(right, masks)) == pytest.approx(0, abs=1e-4)
    assert float(build(name)(-right, masks)) > 0.9


def test_an_empty_truth_with_an_empty_prediction_costs_nothing():
    empty = torch.zeros(2, 1, 8, 8)
    assert float(build("dice")(empty - 60, empty)) == pytest.approx(0, abs=1e-4)
    assert float(build("dice")(empty - 3, empty)) > 0.99


def test_slice_dice_looks_only_at_slices_with_tumour():
    logits, masks = example(channels=1, truth="one empty")
    each = losses.Dice().each(logits, masks)[:, 0]
    assert float(losses.TumourSlices()(logits, masks)) == pytest.approx(float(each[[0, 2]].mean()))
    assert float(losses.TumourSlices()(logits, masks * 0)) == 0


def test_the_boundary_loss_by_hand():
    truth = torch.zeros(1, 1, 5)
    truth[..., 2] = 1
    assert losses.signed_distance(truth[..., None])[0, 0, :, 0].tolist() == [2, 1, -1, 1, 2]
    logits = torch.zeros(1, 1, 5, 1)
    assert float(build("boundary")(logits, truth[..., None])) == pytest.approx(0.5 * 5 / 5)


def test_the_boundary_loss_prefers_a_near_miss_and_is_0_without_a_boundary():
    truth = torch.zeros(1, 1, 20, 20)
    truth[..., 8:12, 8:12] = 1
    loss = build("boundary")
    near, far = (60 * (2 * torch.roll(truth, shift, -1) - 1) for shift in (2, 7))
    assert loss(near, truth) < loss(far, truth)
    assert float(loss(near, truth * 0)) == 0


def test_auxiliary_heads_share_one_weight():
    _, masks = example(channels=1)
    masks = masks[..., :8, :8]
    heads = [torch.zeros(3, 1, 8, 8), torch.zeros(3, 1, 4, 4), torch.zeros(3, 1, 2, 2)]
    assert float(losses.deep(build("bce"), heads, masks)) == pytest.approx(math.log(2), rel=1e-6)
    classes = torch.ones(3, 1, 8, 8)
    many = [torch.zeros(3, 4, 8, 8), torch.zeros(3, 4, 4, 4)]
    assert float(losses.deep(build("ce"), many, classes)) == pytest.approx(math.log(4), rel=1e-6)


def test_unknown_losses_and_options_are_refused_by_name():
    with pytest.raises(SettingError, match="did you mean 'dice'"):
        build("dicce")
    with pytest.raises(SettingError, match=r"loss combo: unknown option 'alpa'.*'alpha'"):
        build("combo", alpa=0.5)
