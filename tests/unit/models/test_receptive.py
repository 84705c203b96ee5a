"""Receptive fields on paper against gradients, and how much gradient arrives at a layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from brainseg_utils.errors import SettingError
from brainseg_utils.models.gradients import gradient_norms
from brainseg_utils.models.receptive import fields, measured, receptive_field
from brainseg_utils.models.registry import build, on_paper


@pytest.mark.parametrize(
    ("name", "options", "size", "period", "expected"),
    [
        ("fcnn3d", {"width": 2}, 16, 2, 4),
        ("unet3d_r1", {"width": 2}, 48, 4, 20),
        ("unet3d", {"width": 1, "depth": 2}, 56, 4, 44),
        ("residual_unet3d", {"width": 2, "skip": "attention", "block": "dense"}, 128, 8, 96),
        ("residual_unet3d", {"width": 2, "skip": "none", "block": "plain", "norm": "instance"}, 128, 8, 96),
        ("resunet3d", {"widths": (2, 2, 2)}, 112, 8, 78),
    ],
)
def test_the_field_on_paper_is_the_one_that_gradients_show(name, options, size, period, expected):
    on_the_way = fields(on_paper(name, **options), (1, 4, size, 32, 32))
    assert on_the_way[-1].size == expected
    assert on_the_way[-1].jump == 1
    # Mean over the positions in a cell, as the one on paper is.
    assert measured(build(name, **options), size, period=period, across=16) == expected


def test_fields_grow_from_layer_to_layer():
    sizes = [field.size for field in fields(on_paper("residual_unet3d"), (1, 4, 32, 32, 32))]
    assert sizes == sorted(sizes) and sizes[0] == 3
    assert fields(on_paper("residual_unet3d", stages=5), (1, 4, 32, 32, 32))[-1].size == 200
    assert fields(on_paper("residual_unet3d", kernel=5), (1, 4, 32, 32, 32))[-1].size == 184


def test_a_chain_by_hand():
    assert receptive_field([]) == 1
    assert receptive_field([(3, 1), (3, 1)]) == receptive_field([(5, 1)]) == 5
    assert receptive_field([(3, 2), (3, 1)]) == 3 + 2 * 2


def test_a_way_that_the_rules_do_not_cover_is_refused():
    with pytest.raises(SettingError, match=r"receptive\.measured"):
        fields(on_paper("monai_unet"), (1, 4, 32, 32, 32))


def test_measuring_leaves_the_network_as_it_was():
    network = build("unet3d_r1", width=2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    measured(network, 32)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_gradient_norms_by_hand():
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        network[0].weight.fill_(2.0)
        network[1].weight.fill_(-4.0)
    shares = gradient_norms(network, torch.tensor([[3.0]]), lambda out: out.sum())
    assert shares == pytest.approx({"0": 12 / 2, "1": 6 / 4})  # d/da (b a x) = b x, d/db = a x
    assert all(p.grad is None for p in network.parameters())


def test_a_softmax_inside_leaves_a_fraction_of_the_gradient():
    """What R1 called "vanishing gradient": the second softmax, not the depth."""
    torch.manual_seed(0)
    stated = build("unet3d_r1", width=4, softmax_inside=True)
    mended = build("unet3d_r1", width=4)
    mended.load_state_dict(stated.state_dict())
    image, truth = torch.randn(2, 4, 16, 16, 16), torch.zeros(2, 16, 16, 16, dtype=torch.long)
    loss = lambda out: nn.functional.cross_entropy(out, truth)  # noqa: E731
    with_it, without = gradient_norms(stated, image, loss), gradient_norms(mended, image, loss)
    assert list(with_it) == list(without)
    assert all(with_it[layer] < 0.5 * without[layer] for layer in without)


def test_measuring_gradients_leaves_batch_norm_alone():
    torch.manual_seed(0)
    network = build("residual_unet3d", width=2).train()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    shares = gradient_norms(network, torch.randn(1, 4, 16, 16, 16), lambda out: out.mean())
    assert len(shares) > 20 and max(shares.values()) > 0
    assert all(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())
