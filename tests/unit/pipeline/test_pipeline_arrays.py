"""Normalisation and boxes on numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from brainseg_utils.errors import GeometryError
from brainseg_utils.pipeline import arrays as pipeline

masks = arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=7))
images = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed))


@settings(deadline=None)
@given(masks, st.integers(0, 3))
def test_box_holds_every_true_voxel_and_pastes_back(mask, margin):
    box = pipeline.bounding_box(mask, margin)
    assert np.array_equal(box.paste(box.crop(mask)), mask)
    if mask.any() and margin == 0:
        inside = box.crop(mask)
        for axis in range(3):
            assert inside.take(0, axis).any() and inside.take(-1, axis).any()


def test_box_in_a_box_is_one_box():
    array = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    outer = pipeline.Box((1, 1, 2), (3, 3, 3), (4, 5, 6))
    inner = pipeline.Box((0, 1, 1), (2, 2, 1), (3, 3, 3))
    assert np.array_equal(outer.inner(inner).crop(array), inner.crop(outer.crop(array)))


def test_box_refuses_another_grid():
    box = pipeline.Box((0, 0, 0), (1, 1, 1), (2, 2, 2))
    with pytest.raises(GeometryError, match=r"\(3, 3, 3\).*\(2, 2, 2\)"):
        box.crop(np.zeros((3, 3, 3)))
    with pytest.raises(GeometryError):
        box.paste(np.zeros((2, 2, 2)))


@settings(max_examples=25, deadline=None)
@given(images, st.floats(1e-3, 1e4), st.floats(-1e4, 1e4))
def test_zscore_has_mean_0_and_sd_1_over_the_brain_whatever_the_scanner(rng, gain, offset):
    mask = rng.random((6, 5, 4)) < 0.7
    mask[0, 0, :2] = True
    image = (rng.standard_normal((2, 6, 5, 4)) * gain + offset) * mask
    out = pipeline.zscore(image, mask)
    assert np.all(out[:, ~mask] == 0)
    tolerance = 1e-4 + 1e-6 * abs(offset) / gain
    assert np.allclose(out[:, mask].mean(1), 0, atol=tolerance)
    assert np.allclose(out[:, mask].std(1), 1, atol=tolerance)


def test_constant_channel_becomes_0():
    image, mask = np.full((1, 2, 2, 2), 7.0), np.ones((2, 2, 2), bool)
    assert not pipeline.zscore(image, mask).any()
    assert not pipeline.min_max(image).any()
    assert not pipeline.zscore(image, np.zeros((2, 2, 2), bool)).any()


def test_zscore_over_nonzero_is_monais():
    from monai.transforms import NormalizeIntensity

    rng = np.random.default_rng(0)
    image = (rng.normal(300, 50, (3, 8, 8, 8)) * (rng.random((3, 8, 8, 8)) < 0.6)).astype(np.float32)
    before = image.copy()
    ours = pipeline.zscore_nonzero(image)
    assert np.array_equal(image, before)
    theirs = NormalizeIntensity(nonzero=True, channel_wise=True)(image.copy())
    assert np.allclose(ours, np.asarray(theirs), atol=1e-5)


def test_median_scale_is_a_zscore_for_normal_values_and_ignores_a_bright_artefact():
    rng = np.random.default_rng(1)
    mask = np.ones((40, 40, 40), bool)
    image = rng.normal(500, 80, (1, 40, 40, 40))
    plain = pipeline.median_scale(image, mask, (-5, 6))
    assert abs(plain.mean()) < 0.02 and abs(plain.std() - 1) < 0.02
    bright = image.copy()
    bright[0, :10, :10, :10] = 20000  # 1.6 % of the voxels
    moved = np.abs(pipeline.median_scale(bright, mask, (-5, 6)) - plain)[0, 10:]
    by_zscore = np.abs(pipeline.zscore(bright, mask) - pipeline.zscore(image, mask))[0, 10:]
    assert 10 * moved.mean() < by_zscore.mean()
    assert pipeline.median_scale(bright, mask, (-5, 6)).max() == 6


def test_percentiles_are_those_of_the_mask_and_the_background_stays():
    image = np.zeros((1, 1, 1, 202), np.float32)
    image[0, 0, 0, 101:] = np.arange(101)
    out = pipeline.clip_percentiles(image, 5, 95, image[0] != 0)
    assert out[0, 0, 0, :101].max() == 0
    assert out[0, 0, 0, 102:].min() == pytest.approx(5.95) and out.max() == pytest.approx(95.05)


def test_min_max_is_0_to_1_in_each_channel():
    out = pipeline.min_max(np.array([[0.0, 5, 10], [-4, 0, 4]]).reshape(2, 3, 1, 1))
    assert out.reshape(2, 3).tolist() == [[0, 0.5, 1], [0, 0.5, 1]]
