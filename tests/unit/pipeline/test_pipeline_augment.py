"""Each augmentation at known strengths: what it does, and that it leaves the background alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from brainseg_utils.pipeline import augment


@pytest.fixture
def image():
    generator = torch.Generator().manual_seed(0)
    brain = torch.zeros(20, 22, 18, dtype=torch.bool)
    brain[4:16, 5:17, 3:15] = True
    return torch.randn((2, 20, 22, 18), generator=generator) * brain


STRAIGHT = np.array([[-9.0, -9.0], [0.0, 0.0], [9.0, 9.0]])
NOTHING = {
    "tone": lambda x: augment.tone_curve(x, np.stack([STRAIGHT, STRAIGHT])),
    "gamma": lambda x: augment.gamma(x, [1, 1]),
    "gain": lambda x: augment.gain_offset(x, [1, 1], [0, 0]),
    "bias": lambda x: augment.bias_field(x, torch.zeros(2, 3, 3, 3)),
    "blur": lambda x: augment.blur(x, 0.0),
    "noise": lambda x: augment.noise(x, 0.0),
    "drop": lambda x: augment.drop(x, []),
    "warp": lambda x: augment.warp(x, augment.sampling_grid(x.shape[1:], torch.eye(3), torch.zeros(3, 2, 2, 2))),
}
SOMETHING = {
    "tone": lambda x: augment.tone_curve(x, np.stack([STRAIGHT, STRAIGHT * [1, -1]])),
    "gamma": lambda x: augment.gamma(x, [0.7, 1.4]),
    "gain": lambda x: augment.gain_offset(x, [1.2, 0.8], [0.3, -0.2]),
    "bias": lambda x: augment.bias_field(x, torch.full((2, 3, 3, 3), 0.2)),
    "blur": lambda x: augment.blur(x, 0.8),
    "noise": lambda x: augment.noise(x, 0.1, torch.Generator().manual_seed(1)),
}


@pytest.mark.parametrize("name", NOTHING)
def test_strength_0_changes_nothing(image, name):
    assert torch.allclose(NOTHING[name](image), image, atol=1e-5)


@pytest.mark.parametrize("name", SOMETHING)
def test_background_stays_0_and_the_input_is_not_changed(image, name):
    before = image.clone()
    out = SOMETHING[name](image)
    assert torch.equal(image, before)
    assert not torch.equal(out, image)
    assert out.dtype == torch.float32
    assert torch.all(out[image == 0] == 0)


def test_gain_offset_and_drop_by_hand():
    image = torch.tensor([[0.0, 1.0], [2.0, 0.0]]).view(2, 2, 1, 1)
    assert augment.gain_offset(image, [2, 3], [0.5, -1]).flatten().tolist() == [0, 2.5, 5, 0]
    assert augment.drop(image, [1]).flatten().tolist() == [0, 1, 0, 0]


def test_a_tone_curve_by_hand_is_straight_between_knots_and_flat_beyond():
    image = torch.tensor([-9.0, -1.0, 1.0, 3.0, 9.0]).view(1, 5, 1, 1)
    curve = np.array([[[-2.0, 0.0], [2.0, 4.0], [4.0, 1.0]]])
    assert augment.tone_curve(image, curve).flatten().tolist() == [0, 1, 3, 2.5, 1]


def test_gamma_keeps_the_extremes_and_bends_the_middle():
    image = torch.tensor([0.0, -2.0, -1.0, 2.0]).view(1, 4, 1, 1)
    assert augment.gamma(image, [0.5]).flatten().tolist() == pytest.approx([0, -2, 0, 2])


def test_bias_multiplies_what_is_above_the_floor():
    image = torch.tensor([0.0, -1.0, 1.0, 3.0]).view(1, 4, 1, 1)
    out = augment.bias_field(image, torch.full((1, 2, 2, 2), math.log(1.5)))
    assert out.flatten().tolist() == pytest.approx([0, -1, 2, 5])


def test_noise_has_the_sd_asked_for():
    out = augment.noise(torch.ones(1, 40, 40, 40), 0.25, torch.Generator().manual_seed(0))
    assert float(out.std()) == pytest.approx(0.25, rel=0.02) and float(out.mean()) == pytest.approx(1, abs=0.01)


def test_blur_is_scipys_gaussian():
    from scipy.ndimage import gaussian_filter

    image = torch.rand(1, 15, 16, 17) + 1
    wanted = gaussian_filter(image[0].numpy(), 0.9, mode="constant", radius=3)
    assert np.allclose(augment.blur(image, 0.9)[0].numpy(), wanted, atol=1e-5)


def test_enlarge_is_trilinear_interpolation():
    knots = torch.rand(2, 3, 4, 2)
    wanted = F.interpolate(knots[None], size=(9, 11, 7), mode="trilinear", align_corners=True)[0]
    assert torch.allclose(augment.enlarge(knots, (9, 11, 7)), wanted, atol=1e-5)


@pytest.mark.parametrize(("axis", "plane"), [(0, (1, 2)), (1, (0, 2)), (2, (0, 1))])
def test_quarter_turns_are_exact(axis, plane):
    volume = torch.rand(1, 9, 9, 9)
    degrees = [0.0, 0.0, 0.0]
    degrees[axis] = 90.0
    turned = augment.warp(volume, augment.sampling_grid((9, 9, 9), augment.rotation_matrix(degrees)))
    turns = 1 if axis != 1 else -1  # right-handed about Y turns Z towards X
    assert torch.allclose(turned, volume.rot90(turns, [p + 1 for p in plane]), atol=1e-4)


def test_scale_enlarges_and_displacement_moves_by_voxels():
    volume = torch.zeros(1, 21, 21, 21)
    volume[0, 8:13, 8:13, 8:13] = 1
    larger = augment.warp(
        volume, augment.sampling_grid((21,) * 3, augment.rotation_matrix((0, 0, 0), 1.5)), nearest=True
    )
    assert int(larger.sum()) == 7**3  # 5 voxels x 1.5, to whole voxels
    shift = torch.zeros(3, 2, 2, 2)
    shift[1] = 3.0
    moved = augment.warp(volume, augment.sampling_grid((21,) * 3, None, shift))
    assert torch.allclose(moved, volume.roll(3, dims=2), atol=1e-4)


def test_label_keeps_its_type_and_values():
    label = torch.randint(0, 4, (1, 12, 13, 14), dtype=torch.uint8)
    grid = augment.sampling_grid((12, 13, 14), augment.rotation_matrix((5, 10, 20), 0.9))
    out = augment.warp(label, grid, nearest=True)
    assert out.dtype == torch.uint8 and set(out.unique().tolist()) <= {0, 1, 2, 3}
