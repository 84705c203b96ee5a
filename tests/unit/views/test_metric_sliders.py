"""The sandbox of notebook 07: what each slider does to the mask and to the scores, and that drawing is pure."""

from __future__ import annotations

import numpy as np
import pytest

from brainseg_utils.errors import DataError
from brainseg_utils.evaluation.protocols import score_case
from brainseg_utils.evaluation.sandbox import Change, Sandbox, changed, measure
from brainseg_utils.views.metric_sliders import MetricSliders, describe, render

SPACING = (2.0, 2.0, 2.0)


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    mask = np.zeros((70, 70, 50), bool)
    mask[25:39, 25:39, 18:32] = True  # a cube of 28 mm
    image = np.ones(mask.shape, np.float32)
    image[:4] = 0  # air
    return Sandbox.of(image, mask, SPACING)


def test_it_holds_the_lesion_and_a_second_one_apart_from_it(sandbox):
    assert sandbox.side.lesions.count == 2
    sizes = np.sort(sandbox.side.lesions.sizes()[1:])
    assert sizes[1] == 14**3
    assert sizes[0] * 8 == pytest.approx(4 / 3 * np.pi * 5**3, rel=0.25)
    assert max(sandbox.truth.shape) <= 14 + 2 * 10 + 17  # 20 mm around both, the second within 34 mm


@pytest.mark.parametrize("angle", [0.0, 0.5, 0.785])
def test_the_second_lesion_is_apart_in_every_direction(angle):
    x, y, z = np.ogrid[-40:40, -40:40, -30:30]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    mask = (np.abs(along) <= 9) & (np.abs(across) <= 6) & (np.abs(z) <= 8)
    brain = (np.abs(across) < 12) & (z == z)  # leaves room in one direction only
    assert Sandbox.of(brain.astype(np.float32), mask, SPACING).side.lesions.count == 2


def test_an_unchanged_mask_is_perfect(sandbox):
    scores = measure(sandbox, changed(sandbox, Change()))
    assert scores == (1, 1, 1, 1, 1, 0, 2, 0, 0)


def test_moving_by_one_voxel_loses_one_face_and_keeps_the_volume(sandbox):
    moved = changed(sandbox, Change(move=2))
    assert moved.sum() == sandbox.truth.sum()
    assert np.array_equal(moved[1:], sandbox.truth[:-1])
    assert measure(sandbox, moved).hd95 == 2.0


def test_growing_moves_the_outline_and_leaves_sensitivity_at_one(sandbox):
    scores = measure(sandbox, changed(sandbox, Change(grow=4)))
    assert scores.hd95 == pytest.approx(4.0)
    assert scores.sensitivity == 1.0 and scores.dice < 0.8
    assert measure(sandbox, changed(sandbox, Change(grow=-4))).sensitivity < 0.6


def test_a_gap_makes_two_pieces_that_still_match_one_lesion(sandbox):
    split = changed(sandbox, Change(split=8))
    assert split.sum() < sandbox.truth.sum()
    scores = measure(sandbox, split)
    assert (scores.found, scores.missed, scores.invented) == (2, 0, 0)


def test_blurring_loses_the_small_lesion_which_only_some_scores_notice(sandbox):
    scores = measure(sandbox, changed(sandbox, Change(blur=4)))
    assert (scores.found, scores.missed) == (1, 1)
    assert scores.lesion_dice < 0.5 < 0.85 < scores.dice


def test_the_scores_are_those_of_the_protocol(sandbox):
    prediction = changed(sandbox, Change(blur=2, grow=1, move=4))
    oedema = [2 * mask.astype(np.uint8) for mask in (sandbox.truth, prediction)]
    official = {s.metric: s.value for s in score_case(*oedema, SPACING, "brats2023") if s.region == "WT"}
    scores = measure(sandbox, prediction)
    for name in ("dice", "iou", "sensitivity", "hd95", "lesion_dice"):
        assert getattr(scores, name) == pytest.approx(official[name], abs=1e-12)
    assert scores.nsd == pytest.approx(official["nsd_area_1mm"], abs=1e-12)


def test_a_mask_that_shrank_to_nothing_gets_the_penalty(sandbox):
    nothing = np.zeros_like(sandbox.truth)
    assert measure(sandbox, nothing)[:6] == (0, 0, 0, 0, 0, 374)
    assert render(sandbox, Change(grow=-8, blur=8)).dtype == np.uint8


def test_large_boxes_are_thinned(sandbox):
    mask = np.zeros((120, 120, 90), bool)
    mask[40:70, 40:70, 30:60] = True
    thin = Sandbox.of(mask.astype(np.float32), mask, (1.0, 1.0, 1.0))
    assert thin.spacing == SPACING and thin.truth.size <= 200_000
    first = np.sort(thin.side.lesions.sizes())[-1]
    assert first == 15**3


def test_an_empty_mask_is_refused():
    with pytest.raises(DataError, match="empty mask"):
        Sandbox.of(np.ones((9, 9, 9), np.float32), np.zeros((9, 9, 9), bool), SPACING)


def test_the_picture_is_a_function_of_its_arguments(sandbox):
    before = sandbox.truth.copy()
    first = render(sandbox, Change(move=4))
    assert np.array_equal(first, render(sandbox, Change(move=4)))
    assert not np.array_equal(first, render(sandbox, Change(move=6)))
    assert np.array_equal(sandbox.truth, before)


def test_the_sliders_change_picture_and_words(sandbox):
    widget = MetricSliders(sandbox)
    before = bytes(widget.picture.png)
    widget.sliders["grow"].value = 3.0
    assert widget.change == Change(grow=3.0)
    assert bytes(widget.picture.png) != before
    assert "grow 3 mm" in widget.picture.alt == describe(sandbox, Change(grow=3.0))
    bundle, metadata = widget._repr_mimebundle_()
    assert "image/png" in bundle and "Dice" in metadata["image/png"]["alt"]
