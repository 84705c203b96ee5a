"""Error maps, heat maps, boundary profiles, strata, calibration and tuning on mistakes that were made on purpose."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainseg_utils.datasets.labels import get_scheme
from brainseg_utils.errors import GeometryError, SettingError
from brainseg_utils.evaluation import calibration, errors, perturb, tuning

SPACING = (1.0, 1.0, 1.0)


def ball(radius, centre=(20, 20, 20), shape=(40, 40, 40), value=1):
    grid = np.indices(shape)
    return (sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2) * np.uint8(value)


def tumour():
    labels = ball(12, value=2)
    labels[ball(8) > 0] = 3
    labels[ball(4) > 0] = 1
    return labels


def test_error_map_counts_are_the_confusion_matrix():
    truth, prediction = tumour(), perturb.shift(tumour(), (3, 0, 0))
    found = errors.error_map(truth, prediction)
    assert (found == errors.MISSED).sum() == ((truth > 0) & (prediction == 0)).sum()
    assert (found == errors.EXTRA).sum() == ((truth == 0) & (prediction > 0)).sum()
    wrong = (truth > 0) & (prediction > 0) & (truth != prediction)
    assert (found == errors.OTHER_TISSUE).sum() == wrong.sum() > 0
    with pytest.raises(GeometryError, match="shape"):
        errors.error_map(truth, prediction[1:])


def test_misclassified_shares_name_the_tissue_that_was_taken_for_another():
    truth = tumour()
    table = errors.misclassified(truth, perturb.relabel(truth, 1, 2), get_scheme("brats2023"))
    assert table.loc["NETC", "SNFH"] == 1 and table.loc["NETC", "NETC"] == 0
    assert table.loc["ET", "ET"] == table.loc["background", "background"] == 1
    assert table.sum(axis=1).tolist() == pytest.approx([1, 1, 1, 1])
    empty = errors.misclassified(np.zeros((3, 3, 3)), np.zeros((3, 3, 3)), get_scheme("brats2024"))
    assert empty.loc["RC"].sum() == 0


def test_heat_map_lays_cases_of_other_grids_over_the_atlas():
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    heat = errors.HeatMap((40, 40, 40), affine)
    truth, prediction = tumour(), perturb.shift(tumour(), (3, 0, 0))
    here = errors.error_map(truth, prediction)
    heat.add(here, affine)
    flipped = np.diag([-1.0, 1.0, 1.0, 1.0])
    flipped[0, 3] = 39
    heat.add(here[::-1], flipped)  # the same case, stored the other way round
    assert heat.cases == 2
    assert np.array_equal(heat.share(errors.MISSED), here == errors.MISSED)
    assert heat.share().max() == 1 and heat.share()[0, 0, 0] == 0
    nothing = np.zeros_like(here)
    heat.add(nothing, affine)
    heat.add(nothing, affine)
    assert heat.share(errors.EXTRA).max() == 0.5


@pytest.mark.parametrize(("radius", "expected"), [(14, 2), (10, -2), (12, 0)])
def test_signed_distance_tells_too_generous_from_too_tight(radius, expected):
    found = errors.signed_distances(ball(12) > 0, ball(radius) > 0, SPACING)
    assert np.median(found) == pytest.approx(expected, abs=0.5)


def test_boundary_profile_shares_sum_to_one_and_keep_the_tails():
    profile = errors.boundary_profile(np.array([-9.0, -0.5, 0.5, 0.6, 40.0]), [-5, -1, 0, 1, 5])
    assert profile["share"].tolist() == pytest.approx([0.2, 0.2, 0.4, 0.2])
    assert errors.boundary_profile(np.zeros(0), [-1, 0, 1])["share"].tolist() == [0, 0]
    assert errors.signed_distances(ball(3) > 0, np.zeros((40, 40, 40), bool), SPACING).size == 0


def test_strata_show_that_the_small_lesion_was_missed():
    shape = (70, 40, 40)
    truth = np.maximum(ball(9, (18, 20, 20), shape, 3), ball(3, (55, 20, 20), shape, 3))
    lesions = errors.lesion_table(truth, perturb.miss_smallest(truth), SPACING, "brats2023", "a")
    wt = errors.strata(lesions[lesions["region"] == "WT"]).set_index("low")
    assert wt["lesions"].tolist() == [1, 1]
    assert wt.loc[100.0, "found"] == 0 and wt.loc[100.0, "dice"] == 0 and np.isnan(wt.loc[100.0, "dice_found"])
    assert wt.loc[1000.0, "found"] == 1 and wt.loc[1000.0, "dice_found"] == 1
    with pytest.raises(SettingError, match="no lesion-wise scores"):
        errors.lesion_table(truth, truth, SPACING, "brats2020", "a")


def test_worst_cases_are_lowest_dice_and_highest_distance():
    rows = pd.DataFrame(
        [(f"c{i}", "WT", metric, value, "1") for i, value in enumerate([0.9, 0.1, 0.5]) for metric in ("dice", "hd95")],
        columns=["case", "region", "metric", "value", "unit"],
    )
    assert errors.worst_cases(rows, "dice", count=2)["case"].tolist() == ["c1", "c2"]
    assert errors.worst_cases(rows, "hd95", count=2)["case"].tolist() == ["c0", "c2"]
    with pytest.raises(SettingError, match="no dice of RC"):
        errors.worst_cases(rows, region="RC")


def test_a_calibrated_model_has_no_calibration_error_and_an_overconfident_one_has():
    rng = np.random.default_rng(0)
    probability = rng.random(200_000)
    truth = rng.random(200_000) < probability
    good = calibration.reliability(probability, truth)
    assert calibration.calibration_error(good) < 0.01
    assert good["voxels"].sum() == 200_000
    overconfident = calibration.reliability(np.where(probability > 0.5, 0.99, 0.01), truth)
    assert calibration.calibration_error(overconfident) == pytest.approx(0.24, abs=0.01)


def test_rejection_removes_errors_where_uncertainty_points_at_them():
    rng = np.random.default_rng(0)
    wrong = rng.random(5000) < 0.2
    told = calibration.rejection_curve(wrong + rng.random(5000) * 0.1, wrong)
    assert told["error"].tolist() == pytest.approx(told["ideal"].tolist())
    assert told["error"].iloc[-1] == 0 and told["error"].iloc[0] == pytest.approx(wrong.mean())
    blind = calibration.rejection_curve(rng.random(5000), wrong)
    assert blind["error"].to_numpy() == pytest.approx(blind["random"].to_numpy(), abs=0.02)
    assert calibration.ranking_quality(wrong + rng.random(5000) * 0.1, wrong) == 1
    assert calibration.ranking_quality(rng.random(5000), wrong) == pytest.approx(0.5, abs=0.03)
    assert calibration.ranking_quality(rng.random(3), np.zeros(3)) == 0.5


def test_disagreement_of_augmentations_is_zero_where_they_agree():
    stack = np.stack([np.full((2, 2), 0.8), np.full((2, 2), 0.8)])
    stack[1, 0, 0] = 0.2
    assert calibration.disagreement(stack) == pytest.approx(np.array([[0.3, 0], [0, 0]]))
    assert calibration.entropy(np.array([0.25])) == pytest.approx(0.8112781)


def noisy_case(case, seed):
    """A probability that is right in the large and has false specks."""
    rng = np.random.default_rng(seed)
    truth = ball(9) > 0
    probability = np.where(truth, 0.7, 0.2)
    for _ in range(6):
        x, y, z = rng.integers(0, 8, 3)
        probability[x : x + 2, y : y + 2, z : z + 2] = 0.9
    return tuning.ValidationCase(case, probability, truth, SPACING)


def test_sweep_finds_that_specks_should_go_and_refuses_to_be_reported_on_them():
    cases = [noisy_case(f"v{k}", k) for k in range(3)]
    options = tuning.grid(thresholds=(0.1, 0.5, 0.8), openings=(0, 1), smallest=(0.0, 100.0))
    table = tuning.sweep(iter(cases), options)
    assert len(table) == 3 * len(options)
    best = tuning.choose(table, ["t0"])
    assert (best.threshold, best.opening, best.smallest) == (0.5, 0, 100.0)
    mask = tuning.apply(cases[0].probability, SPACING, best)
    assert np.array_equal(mask, cases[0].truth)
    with pytest.raises(SettingError, match=r"tuned on and reported on, e\.g\. v1"):
        tuning.choose(table, ["t0", "v1"])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 2), st.integers(0, 2), st.sampled_from([0.0, 5.0]))
def test_sweep_scores_what_apply_makes_and_opening_and_closing_go_their_way(seed, opening, closing, smallest):
    rng = np.random.default_rng(seed)
    probability, truth = rng.random((12, 12, 12)), rng.random((12, 12, 12)) < 0.5
    setting = tuning.PostProcessing(0.6, opening, closing, smallest)
    row = tuning.sweep([tuning.ValidationCase("a", probability, truth, SPACING)], [setting]).iloc[0]
    mask = tuning.apply(probability, SPACING, setting)
    total = mask.sum() + truth.sum()
    assert row["dice"] == pytest.approx(2 * (mask & truth).sum() / total)
    plain = probability >= 0.6
    assert not (tuning.apply(probability, SPACING, tuning.PostProcessing(0.6, opening)) & ~plain).any()
    assert not (plain & ~tuning.apply(probability, SPACING, tuning.PostProcessing(0.6, 0, closing))).any()
