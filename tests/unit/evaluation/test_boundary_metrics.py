"""Surface model, distances and percentiles on numbers that can be checked by hand or against the reference."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainseg_utils.evaluation import boundary
from brainseg_utils.evaluation.surface import area_table, border_points, bounding_box, surface_points


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 2.0, 3.0), (0.5, 0.7, 3.3)])
def test_area_table_is_that_of_the_surface_distance_package(spacing):
    from surface_distance import lookup_tables

    expected = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    assert np.allclose(area_table(spacing), expected, rtol=1e-12)


def test_one_voxel_has_eight_surface_points_and_is_its_own_border():
    mask = np.zeros((3, 4, 5), bool)
    mask[1, 2, 3] = True
    points = surface_points(mask, (1, 1, 1))
    assert points.position.tolist() == [[x, y, z] for x in (1, 2) for y in (2, 3) for z in (3, 4)]
    assert points.area == pytest.approx(np.full(8, 0.125 * np.sqrt(3)))
    assert border_points(mask).position.tolist() == [[1, 2, 3]]


def test_a_mask_that_fills_the_array_has_its_surface_on_the_array_border():
    mask = np.ones((3, 3, 3), bool)
    assert len(surface_points(mask, (1, 1, 1))) == 4**3 - 2**3
    assert len(border_points(mask)) == 26


def test_owners_are_the_component_numbers():
    labels = np.zeros((10, 5, 5), int)
    labels[1:3, 1:3, 1:3] = 7
    labels[6:8, 2:4, 2:4] = 3
    for points in (surface_points(labels, (1, 1, 1)), border_points(labels)):
        assert set(points.owner[points.position[:, 0] < 5]) == {7}
        assert set(points.owner[points.position[:, 0] > 5]) == {3}
        assert len(points.of([3])) == (points.owner == 3).sum()


def test_bounding_box_and_its_margin_stay_inside():
    mask = np.zeros((10, 10, 10), bool)
    mask[1, 4:6, 9] = True
    assert bounding_box(mask, 2) == (slice(0, 4), slice(2, 8), slice(7, 10))
    assert bounding_box(np.zeros((3, 3, 3))) is None


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 0.5), (0.9375, 0.9375, 1.2)])
def test_tree_and_maps_give_the_same_distances(spacing, monkeypatch):
    rng = np.random.default_rng(0)
    queries, targets = rng.integers(0, 25, (300, 3)), rng.integers(5, 40, (40, 3))
    steps = (queries[:, None] - targets[None]) * np.array(spacing)
    expected = np.sqrt((steps**2).sum(axis=2)).min(axis=1)
    for budget in (0, 10**9):  # voxels a query: always the tree, always the map
        monkeypatch.setattr(boundary, "MAP_VOXELS_PER_QUERY", budget)
        monkeypatch.setattr(boundary, "SLOW_MAP_VOXELS_PER_QUERY", budget)
        assert boundary.nearest(queries, targets, spacing) == pytest.approx(expected, abs=1e-12)


def test_percentile_weighs_by_area_and_does_not_interpolate():
    distance, area = np.array([0.0, 5.0, 1.0]), np.array([90.0, 6.0, 4.0])
    assert boundary.percentile(distance, area, 0.90) == 0.0
    assert boundary.percentile(distance, area, 0.94) == 1.0
    assert boundary.percentile(distance, area, 0.95) == 5.0


def test_empty_sides():
    empty, full = np.zeros((6, 6, 6), bool), np.zeros((6, 6, 6), bool)
    full[2:4, 2:4, 2:4] = True
    for distances in (boundary.surface_distances(empty, empty, (1, 1, 1)),):
        assert boundary.hausdorff(distances, penalty=374) == 0
        assert boundary.nsd_area(distances, 1) == boundary.nsd_voxel(distances, 1) == 1
        assert boundary.assd(distances, penalty=374) == 0
    for pair in ((empty, full), (full, empty)):
        distances = boundary.surface_distances(*pair, (1, 1, 1))
        assert boundary.hausdorff(distances, penalty=374) == boundary.hausdorff(distances, 1.0, 374) == 374
        assert np.isinf(boundary.hausdorff(distances))
        assert boundary.nsd_area(distances, 1) == boundary.nsd_voxel(distances, 1) == 0
        assert boundary.assd(distances, penalty=374) == 374


def test_perfect_match_has_the_guarded_voxel_nsd_of_the_scripts():
    mask = np.zeros((6, 6, 6), bool)
    mask[2:4, 2:4, 2:4] = True
    distances = boundary.border_distances(mask, mask, (1, 1, 1))
    assert boundary.nsd_voxel(distances, 1) == pytest.approx(0.999999995, abs=1e-12)
    assert boundary.nsd_area(boundary.surface_distances(mask, mask, (1, 1, 1)), 1) == 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), spacing=st.sampled_from([(1.0, 1.0, 1.0), (0.5, 0.5, 2.0)]))
def test_surface_distances_are_those_of_the_surface_distance_package(seed, spacing):
    import surface_distance

    rng = np.random.default_rng(seed)
    truth, prediction = rng.random((2, 9, 11, 8)) < rng.uniform(0.01, 0.9)
    if not truth.any() or not prediction.any():
        truth[0, 0, 0] = prediction[8, 10, 7] = True
    found = boundary.surface_distances(truth, prediction, spacing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        expected = surface_distance.compute_surface_distances(truth, prediction, spacing)
    assert np.sort(found.forward) == pytest.approx(expected["distances_gt_to_pred"], abs=1e-12)
    assert np.sort(found.backward) == pytest.approx(expected["distances_pred_to_gt"], abs=1e-12)
    assert boundary.hausdorff(found) == pytest.approx(surface_distance.compute_robust_hausdorff(expected, 95), abs=1e-9)
    for tolerance in (0.5, 1.0):
        expected_nsd = surface_distance.compute_surface_dice_at_tolerance(expected, tolerance)
        assert boundary.nsd_area(found, tolerance) == pytest.approx(expected_nsd, abs=1e-9)
