"""The painter's two networks: what is kept, what is looked at, what every layer may do."""

from __future__ import annotations

import pytest
import torch

from brainseg_utils.errors import SettingError
from brainseg_utils.models.painter import Painter, PatchCritic, contrast_code, hole_of, one_hot

SIZE = (13, 12, 10)


def scene(seed=0):
    """A scan with a tumour of NETC and ET, and the generator's input for it."""
    torch.manual_seed(seed)
    image = torch.randn(2, 4, *SIZE)
    label = torch.zeros(2, 1, *SIZE, dtype=torch.uint8)
    label[..., 4:9, 4:9, 3:8] = 3
    label[..., 5:7, 5:7, 4:6] = 1
    layers = one_hot(label)
    return image, hole_of(label), layers, contrast_code(image, layers)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_outside_the_hole_the_scan_stays_to_the_bit(checkpointing):
    image, hole, layers, code = scene()
    painted = Painter(widths=(4, 6, 8), checkpointing=checkpointing)(image, hole, layers, code)
    outside = ~hole.expand_as(image)
    assert torch.equal(painted[outside], image[outside])
    assert not torch.equal(painted, image)


def test_what_lies_in_the_hole_is_not_looked_at():
    image, hole, layers, code = scene()
    network, noise = Painter(widths=(4, 6)), torch.randn(2, 2, *SIZE)
    other = torch.where(hole, image + 5, image)
    assert torch.equal(network(image, hole, layers, code, noise), network(other, hole, layers, code, noise))


def test_label_contrast_and_noise_each_change_the_paint():
    image, hole, layers, code = scene()
    network, noise = Painter(widths=(4, 6)), torch.randn(2, 2, *SIZE)
    first = network(image, hole, layers, code, noise)
    for changed in (
        (image, hole, layers.roll(1, 1), code, noise),
        (image, hole, layers, code + 1, noise),
        (image, hole, layers, code, noise.flip(2)),
    ):
        assert not torch.equal(network(*changed), first)


def test_blocks_computed_twice_give_the_same_gradients():
    image, hole, layers, code = scene()
    noise = torch.randn(2, 2, *SIZE)
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(1)
        network = Painter(widths=(4, 6, 8), checkpointing=checkpointing)
        network(image, hole, layers, code, noise).square().mean().backward()
        found.append([p.grad for p in network.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_the_hole_is_the_tumour_and_a_rim_within_the_brain():
    label = torch.zeros(1, 1, 7, 7, 7, dtype=torch.uint8)
    label[0, 0, 3, 3, 3] = 2
    assert int(hole_of(label).sum()) == 27
    brain = torch.ones(1, 1, 7, 7, 7, dtype=torch.bool)
    brain[..., 4:] = False
    assert int(hole_of(label, brain).sum()) == 18
    assert int(hole_of(label, rim=2).sum()) == 125


def test_a_layer_of_the_discriminator_enlarges_no_difference():
    torch.manual_seed(0)
    critic = PatchCritic(widths=(8, 8, 8)).train()
    patch = torch.randn(1, 4, 16, 16, 16)
    for _ in range(30):  # each pass is one step of the power iteration
        critic(patch, patch)
    for layer in critic.layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2) < 1.05


def test_the_discriminator_sees_the_label():
    critic = PatchCritic(widths=(4, 4, 4)).eval()
    patch = torch.randn(1, 4, 16, 16, 16)
    assert not torch.equal(critic(patch, patch.relu())[0], critic(patch, torch.zeros_like(patch))[0])


def test_one_scale_is_refused():
    with pytest.raises(SettingError, match="two scales or more"):
        Painter(widths=(8,))
