"""Laws that the scores obey on any masks (hypothesis draws the masks)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from brainseg_utils.evaluation import voxel
from brainseg_utils.evaluation.protocols import score_case

SHAPE = (22, 18, 20)
quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def blobs(rng: np.random.Generator, shape=SHAPE, margin=0) -> np.ndarray:
    """A few boxes and specks of the labels 1 to 3, `margin` voxels away from the array's border."""
    labels = np.zeros(shape, np.uint8)
    inside = labels[tuple(slice(margin, n - margin) for n in shape)]
    for _ in range(rng.integers(0, 7)):
        corner, side = [rng.integers(0, n) for n in inside.shape], rng.integers(1, 7, 3)
        inside[tuple(slice(c, c + s) for c, s in zip(corner, side, strict=True))] = rng.integers(0, 4)
    return labels


def scores(truth, prediction, spacing=(1.0, 1.0, 1.0), protocol="brats2023"):
    return {(s.region, s.metric): s.value for s in score_case(truth, prediction, spacing, protocol)}


@quick
@given(seeds)
def test_dice_and_iou_are_symmetric_and_tied_to_each_other(seed):
    rng = np.random.default_rng(seed)
    one, other = blobs(rng) > 0, blobs(rng) > 0
    there, back = voxel.count(one, other), voxel.count(other, one)
    assert (there.dice, there.iou, there.sensitivity) == (back.dice, back.iou, back.precision)
    assert there.dice == pytest.approx(2 * there.iou / (1 + there.iou))


@quick
@given(seeds, st.permutations(range(3)), st.tuples(*[st.sampled_from((1, -1))] * 3))
def test_2023_scores_do_not_change_under_flips_and_transposition(seed, order, flips):
    rng = np.random.default_rng(seed)
    truth, prediction, spacing = blobs(rng), blobs(rng), (0.5, 1.0, 2.0)
    turn = tuple(slice(None, None, f) for f in flips)
    turned = scores(
        truth.transpose(order)[turn], prediction.transpose(order)[turn], tuple(spacing[axis] for axis in order)
    )
    assert turned == pytest.approx(scores(truth, prediction, spacing), abs=1e-9)


@quick
@given(seeds)
def test_one_large_lesion_met_by_one_component_scores_as_its_region(seed):
    rng = np.random.default_rng(seed)
    truth, prediction = np.zeros((2, *SHAPE), np.uint8)
    low, size = rng.integers(2, 6, 3), rng.integers(4, 9, 3)
    truth[tuple(slice(a, a + s) for a, s in zip(low, size, strict=True))] = 3
    moved, other = low + rng.integers(-2, 3, 3), rng.integers(4, 9, 3)
    prediction[tuple(slice(a, a + s) for a, s in zip(moved, other, strict=True))] = 3
    assume((truth > 0).sum() > 50)
    found = scores(truth, prediction)
    for region in ("WT", "TC", "ET"):
        assert found[region, "lesion_dice"] == pytest.approx(found[region, "dice"])
        assert found[region, "lesion_hd95"] == pytest.approx(found[region, "hd95"])
        assert (found[region, "lesion_tp"], found[region, "lesion_fp"], found[region, "lesion_fn"]) == (1, 0, 0)


@quick
@given(seeds, st.sampled_from([0.5, 2.0, 3.0]))
def test_uniform_spacing_scales_distances_where_no_penalty_applies(seed, factor):
    rng = np.random.default_rng(seed)
    truth, prediction = blobs(rng), blobs(rng)
    one, scaled = scores(truth, prediction), scores(truth, prediction, (factor,) * 3)
    for region, labels in (("WT", (1, 2, 3)), ("TC", (1, 3)), ("ET", (3,))):
        if np.isin(truth, labels).any() and np.isin(prediction, labels).any():
            for metric in ("hd", "hd95", "assd"):
                assert scaled[region, metric] == pytest.approx(factor * one[region, metric])


@quick
@given(seeds)
def test_a_crop_with_enough_margin_scores_as_the_volume(seed):
    rng = np.random.default_rng(seed)
    big = tuple(n + 14 for n in SHAPE)
    truth, prediction = blobs(rng, big, margin=9), blobs(rng, big, margin=9)
    crop = (slice(5, -5),) * 3
    whole, part = scores(truth, prediction), scores(truth[crop], prediction[crop])
    for key, value in whole.items():
        if key[1] not in ("specificity", "accuracy"):
            assert part[key] == pytest.approx(value), key


@quick
@given(seeds, st.sampled_from(["brats2020", "brats2023", "brats2023-met", "brats2024"]))
def test_scores_are_finite_and_in_range(seed, protocol):
    rng = np.random.default_rng(seed)
    found = score_case(blobs(rng), blobs(rng), (1.0, 1.0, 1.0), protocol)
    assert len({(s.region, s.metric) for s in found}) == len(found)
    for s in found:
        assert np.isfinite(s.value) and s.value >= 0
        if s.unit == "1" and not s.metric.startswith(("lesion_tp", "lesion_fp", "lesion_fn")):
            assert s.value <= 1


def test_2024_scores_depend_on_the_raster_order():
    """A bar touches two partners: flipped, another one has the lower number, and other lesions are joined.

    Axis 0: lesion A | partner 1 | lesion B | partner 2 | lesion C. B touches both and follows the lower number.
    """
    truth = np.zeros((60, 14, 14), np.uint8)
    for start, stop, value in ((5, 9, 3), (9, 24, 1), (24, 36, 3), (36, 51, 1), (51, 55, 3)):
        truth[start:stop, 5:9, 5:9] = value
    prediction = truth.copy()
    prediction[5:9] = 0
    there = scores(truth, prediction, protocol="brats2024")
    back = scores(truth[::-1], prediction[::-1], protocol="brats2024")
    assert there["ET", "dice"] == back["ET", "dice"]
    assert there["ET", "lesion_dice"] == pytest.approx((2 * 12 / (16 + 12) + 1) / 2)  # A with B, and C
    assert back["ET", "lesion_dice"] == pytest.approx((0 + 1) / 2)  # A is missed, B with C
