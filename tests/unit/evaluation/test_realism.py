"""Measures of realism, against answers that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from brainseg_utils.errors import SettingError
from brainseg_utils.evaluation.realism import (
    closed_gap,
    frechet,
    frechet_distance,
    nearest,
    precision_recall,
    texture,
    tissue_table,
)
from brainseg_utils.seeds import stream


def covariance(rng, size=5):
    factor = rng.normal(size=(size, size))
    return factor @ factor.T


@given(st.integers(0, 10_000))
def test_frechet_is_the_formula_with_the_matrix_root_of_scipy(seed):
    rng = stream(seed, "frechet")
    one, other, means = covariance(rng), covariance(rng), rng.normal(size=(2, 5))
    truth = ((means[0] - means[1]) ** 2).sum() + np.trace(one + other - 2 * np.real(sqrtm(one @ other)))
    assert frechet(means[0], one, means[1], other) == pytest.approx(truth, rel=1e-6, abs=1e-6)
    assert frechet(means[0], one, means[0], one) == pytest.approx(0, abs=1e-6)


def test_frechet_of_two_gaussians_on_a_line():
    assert frechet(np.array([1.0]), np.array([[4.0]]), np.array([4.0]), np.array([[9.0]])) == pytest.approx(9 + 1)


def test_frechet_distance_of_samples_is_near_that_of_their_distributions():
    rng = stream(0, "samples")
    one, other = rng.normal(0, 1, (4000, 3)), rng.normal((3, 0, 0), 2, (4000, 3))
    assert frechet_distance(one, other) == pytest.approx(9 + 3 * 1, rel=0.08)
    assert frechet_distance(one[:2000], one[2000:]) < 0.05


def test_precision_falls_with_bad_samples_and_recall_with_missing_ones():
    rng = stream(0, "balls")
    real = np.concatenate([rng.normal(0, 1, (150, 2)), rng.normal(20, 1, (150, 2))])
    same = np.concatenate([rng.normal(0, 1, (150, 2)), rng.normal(20, 1, (150, 2))])
    precision, recall = precision_recall(real, same)
    assert precision > 0.85 and recall > 0.85
    precision, recall = precision_recall(real, same[:150])  # one of two kinds is never made
    assert precision > 0.85 and 0.35 < recall < 0.55
    precision, recall = precision_recall(real, np.concatenate([same, rng.normal(-50, 1, (300, 2))]))
    assert 0.4 < precision < 0.55 and recall > 0.85


def test_copies_are_found():
    rng = stream(0, "copies")
    training, held_out, made = (rng.normal(size=(n, 6)) for n in (60, 30, 20))
    made[:5] = training[10:15] + 1e-3
    found = nearest(made, training, held_out)
    assert found.index[:5].tolist() == [10, 11, 12, 13, 14]
    assert found.copied == pytest.approx(0.25, abs=0.11)
    assert nearest(held_out[:15], training, held_out[15:]).copied < 0.2


def test_the_table_compares_each_tissue_in_each_modality():
    label = np.zeros((6, 6, 6), np.uint8)
    label[:3], label[3] = 1, 3
    image = np.stack([label * 1.0, label * 10.0])
    made = np.stack([image[0] + 1, image[1]])
    table = tissue_table([(image, label)], [(made, label)], {1: "NETC", 2: "SNFH", 3: "ET"}, "ab")
    assert table[["tissue", "modality"]].to_numpy().tolist() == [["NETC", "a"], ["NETC", "b"], ["ET", "a"], ["ET", "b"]]
    assert table["distance"].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert table["real"].tolist() == [1.0, 10.0, 3.0, 30.0]


def test_the_closed_gap_is_one_at_the_real_tissue_and_nought_at_the_healthy():
    assert [closed_gap(2.0, made, 1.0) for made in (2.0, 1.0, 1.5, 0.0)] == [1.0, 0.0, 0.5, -1.0]


def test_noise_has_no_correlation_and_a_smooth_field_has():
    rng = stream(0, "texture")
    mask = np.ones((20, 20, 20), bool)
    mask[:4] = False
    noise = texture(rng.normal(5, 2, mask.shape), mask)
    assert noise.sd == pytest.approx(2, rel=0.05)
    assert np.abs(noise.correlation).max() < 0.05
    coarse = np.kron(rng.normal(size=(5, 5, 5)), np.ones((4, 4, 4)))
    one, two, four = texture(coarse, mask).correlation
    assert one == pytest.approx(0.75, abs=0.08) and two == pytest.approx(0.5, abs=0.12) and abs(four) < 0.15


def test_a_tissue_of_a_few_voxels_has_no_texture():
    mask = np.zeros((5, 5, 5), bool)
    mask[0, 0, :3] = True
    assert np.isnan(texture(np.ones((5, 5, 5)), mask).sd)


def test_features_that_do_not_belong_together_are_refused():
    with pytest.raises(SettingError, match=r"\(5, 2\) and \(5, 3\)"):
        frechet_distance(np.zeros((5, 2)), np.zeros((5, 3)))
    with pytest.raises(SettingError, match="4 rows or more"):
        precision_recall(np.zeros((3, 2)), np.zeros((9, 2)))
