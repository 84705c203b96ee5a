"""Random fields and fronts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainseg_utils.phantom import fields
from brainseg_utils.phantom.eikonal import arrival
from brainseg_utils.phantom.template import closing, signed_distance


def axis(low: float, high: float, step: float) -> np.ndarray:
    return np.arange(low, high, step, dtype=np.float32)


@given(st.floats(2.5, 80), st.floats(-100, 100))
@settings(max_examples=30, deadline=None)
def test_basis_sums_to_one_anywhere_in_the_box(spacing, position):
    count = fields.knot_count(132.0, spacing)
    assert fields.basis((position,), spacing, 132.0, count).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("spacing", [4.0, 9.0, 14.0])
def test_a_field_has_zero_mean_and_unit_variance(spacing):
    where = (axis(-100, 100, 5),) * 3
    values = np.concatenate([fields.random_field(np.random.default_rng(s), spacing)(where).ravel() for s in range(5)])
    assert values.mean() == pytest.approx(0, abs=0.1)
    assert values.std() == pytest.approx(1, abs=0.1)


def test_a_field_is_the_same_function_on_every_grid():
    field = fields.random_field(np.random.default_rng(0), 9.0)
    fine = (axis(-60, 60, 1), axis(-50, 50, 1), axis(-40, 40, 1))
    coarse = tuple(a[10:90:4] for a in fine)
    np.testing.assert_allclose(
        field(fine)[10:90:4, 10:90:4, 10:80:4][..., : len(coarse[2])],
        field(coarse)[..., : len(range(10, 80, 4))],
        atol=1e-4,
    )


def test_linear_resampling_keeps_linear_functions():
    source = (axis(-20, 21, 2), axis(-10, 11, 2), axis(0, 31, 2))
    target = tuple(a[:-1] + np.float32(0.5) for a in source)
    x, y, z = np.meshgrid(*source, indexing="ij")
    u, v, w = np.meshgrid(*target, indexing="ij")
    np.testing.assert_allclose(fields.resample(2 * x - y + 3 * z, source, target), 2 * u - v + 3 * w, atol=1e-3)
    inner = (slice(2, -2),) * 3
    smooth = fields.smooth_interpolation(2 * x - y + 3 * z, source, target)
    np.testing.assert_allclose(smooth[inner], (2 * u - v + 3 * w)[inner], atol=1e-3)


def test_a_front_at_constant_speed_measures_distance():
    start = np.full((31, 31, 31), np.inf, np.float32)
    start[15, 15, 15] = 0
    times, _ = arrival(np.full_like(start, 2.0), start, 1.0, 9000, 100)
    x, y, z = np.indices(start.shape) - 15
    true = np.sqrt(x**2 + y**2 + z**2) / 2
    near = (true > 1.5) & (true < 5)
    assert np.abs(times[near] - true[near]).max() < 0.8  # first-order differences round the corners
    assert (times[near] >= true[near] - 1e-4).all()


def test_a_front_goes_round_what_it_cannot_enter():
    speed = np.ones((21, 21, 5), np.float32)
    speed[10, :15] = 0
    start = np.full(speed.shape, np.inf, np.float32)
    start[8, 2, 2] = 0
    times, _ = arrival(speed, start, 1.0, int((speed > 0).sum()) - 1, 200)
    assert np.isinf(times[10, :15]).all()
    assert times[12, 2, 2] > 24  # 4 voxels straight on, more than 24 round the wall
    assert np.isfinite(times[speed > 0]).all()


@given(st.integers(20, 1500), st.floats(0.3, 3))
@settings(max_examples=15, deadline=None)
def test_the_threshold_gives_the_wanted_volume_at_any_speed(voxels, factor):
    rough = np.exp(0.5 * np.random.default_rng(1).standard_normal((16, 16, 16))).astype(np.float32)
    start = np.full(rough.shape, np.inf, np.float32)
    start[8, 8, 8] = 1e-3
    times, when = arrival(rough * np.float32(factor), start, 2.0, voxels, 100)
    assert (times < when).sum() == pytest.approx(voxels, abs=2)
    _, then = arrival(rough, start, 2.0, voxels, 100)
    assert when * factor == pytest.approx(then, rel=0.02, abs=0.02)


def test_signed_distance_and_closing():
    mask = np.zeros((30, 30, 30), bool)
    mask[5:12, 5:25, 5:25] = mask[16:25, 5:25, 5:25] = True
    distance = signed_distance(mask, 2.0)
    assert distance[5, 15, 15] == 1.0 and distance[4, 15, 15] == -1.0
    assert distance[20, 15, 15] == 9.0
    assert closing(mask, 3)[12:16, 10:20, 10:20].all()  # a gap of 4 voxels
    assert not closing(mask, 1)[12:16, 10:20, 10:20].any()
