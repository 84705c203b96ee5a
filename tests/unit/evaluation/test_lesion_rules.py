"""Dilation, components, the joining of lesions, and the whole against code written straight from the definition."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from brainseg_utils.evaluation.components import (
    components,
    dilate,
    drop_small,
    find_components,
    find_lesions,
    join_touching,
    overlaps,
    touching,
)
from brainseg_utils.evaluation.protocols import score_case

NAIVE = Path(__file__).resolve().parents[3] / "benchmarks" / "lesion_metrics_naive.py"


@pytest.fixture(scope="module")
def naive():
    spec = importlib.util.spec_from_file_location("lesion_metrics_naive", NAIVE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def boxes(*ranges, shape=(40, 12, 12)):
    mask = np.zeros(shape, bool)
    for low, high in ranges:
        mask[low:high, 4:8, 4:8] = True
    return mask


def random_labels(rng, shape, count):
    labels = np.zeros(shape, np.uint8)
    for _ in range(count):
        corner, side = [rng.integers(0, n) for n in shape], rng.integers(1, 7, 3)
        labels[tuple(slice(c, c + s) for c, s in zip(corner, side, strict=True))] = rng.integers(0, 5)
    return labels


@pytest.mark.parametrize("iterations", [0, 1, 3, 5])
def test_dilation_is_scipys_with_18_neighbours(iterations):
    mask = np.random.default_rng(iterations).random((20, 17, 13)) < 0.005
    structure = ndimage.generate_binary_structure(3, 2)
    expected = ndimage.binary_dilation(mask, structure, iterations=iterations) if iterations else mask
    assert np.array_equal(dilate(mask, iterations), expected)


@pytest.mark.parametrize("order", ["C", "F"])
def test_components_are_numbered_in_raster_order_whatever_the_memory_order(order):
    mask = np.asarray(np.random.default_rng(3).random((20, 15, 11)) < 0.05, order=order)
    assert np.array_equal(components(mask), ndimage.label(mask, np.ones((3, 3, 3)))[0])


@pytest.mark.parametrize(
    ("gap", "dilations", "count"), [(6, 3, 1), (7, 3, 2), (2, 1, 1), (3, 1, 2), (10, 5, 1), (11, 5, 2)]
)
def test_lesions_merge_up_to_a_gap_of_twice_the_dilation(gap, dilations, count):
    assert find_lesions(boxes((5, 9), (9 + gap, 12 + gap)), dilations).count == count


def test_dropping_small_lesions_keeps_the_order_of_the_others():
    lesions = drop_small(find_components(boxes((2, 4), (6, 7), (9, 12))), 16)
    assert lesions.lesion.tolist() == [0, 1, 0, 2]
    assert lesions.sizes().tolist() == [0, 32, 48]


def test_touching_needs_a_shared_face_or_edge_but_not_a_corner():
    first, second = np.zeros((2, 8, 8, 8), bool)
    first[3, 3, 3] = True
    second[4, 4, 4] = True
    one = find_components(first)
    assert touching(one.parts, find_components(second).parts).tolist() == []
    second[4, 4, 3] = True
    assert touching(one.parts, find_components(second).parts).tolist() == [[1, 1]]


def test_overlaps_counts_shared_voxels_of_boxes_that_differ():
    first, second = find_components(boxes((2, 6), (20, 24))), find_components(boxes((4, 22)))
    pairs, counts = overlaps(first.parts, second.parts)
    assert pairs.tolist() == [[1, 1], [2, 1]]
    assert counts.tolist() == [2 * 16, 2 * 16]
    assert overlaps(first.parts, find_components(boxes((30, 32))).parts)[0].shape == (0, 2)


def test_a_single_touch_joins_nothing_and_two_join_through_the_partner():
    tissue = find_lesions(boxes((2, 4), (14, 16)), 3)
    joined = join_touching(tissue, [find_lesions(boxes((4, 14)), 3)])
    assert (tissue.count, joined.count) == (2, 1)
    assert join_touching(tissue, [find_lesions(boxes((4, 13)), 3)]).count == 2


def test_groups_are_not_chained():
    """A, B, C in a row with one bar between each two: A and B share the first bar, C has the second to itself."""
    shape = (60, 12, 12)
    tissue = find_lesions(boxes((2, 4), (14, 16), (26, 28), shape=shape), 3)
    bars = find_lesions(boxes((4, 14), (16, 26), shape=shape), 0)
    assert bars.count == 2
    joined = join_touching(tissue, [bars])
    assert joined.count == 2
    assert joined.lesion[1] == joined.lesion[2] != joined.lesion[3]


@pytest.mark.parametrize("seed", range(12))
def test_scores_are_those_written_straight_from_the_definition(seed, naive):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(15, 30, 3))
    truth = random_labels(rng, shape, rng.integers(0, 30))
    prediction = truth.copy()
    change = random_labels(rng, shape, rng.integers(0, 12))
    prediction[change > 0] = change[change > 0]
    if seed % 3 == 0:
        prediction = np.roll(prediction, 4, axis=int(rng.integers(3)))
    spacing = ((1.0, 1.0, 1.0), (0.5, 0.5, 0.5), (1.0, 1.0, 3.0))[seed % 3]
    for protocol, lesionwise in (("brats2023", naive.lesionwise_2023), ("brats2024", naive.lesionwise_2024)):
        scores = score_case(np.asfortranarray(truth), prediction, spacing, protocol)
        found = {(s.region, s.metric): s.value for s in scores}
        expected = {**lesionwise(truth, prediction, spacing), **naive.voxelwise(truth, prediction, spacing, protocol)}
        assert found.keys() == expected.keys()
        assert naive.largest_difference(expected, found) < 1e-9
