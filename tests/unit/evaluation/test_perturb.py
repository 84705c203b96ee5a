"""Each perturbation does what it says, and nothing else."""

import numpy as np
import pytest

from brainseg_utils.evaluation import perturb
from brainseg_utils.seeds import stream

SPACING = (1.0, 1.0, 2.0)


@pytest.fixture
def label():
    label = np.zeros((40, 40, 20), np.uint8)
    label[10:25, 10:25, 5:15] = 2
    label[14:20, 14:20, 8:12] = 3
    label[32:35, 32:35, 9:11] = 2
    return label


def test_shift_there_and_back(label):
    assert np.array_equal(perturb.shift(perturb.shift(label, (2, -1, 0)), (-2, 1, 0)), label)


def test_grow_and_shrink_are_in_millimetres(label):
    grown = perturb.grow(label, SPACING, 2)
    assert grown[8, 15, 10] == 2 and grown[7, 15, 10] == 0  # two voxels of 1 mm
    assert grown[15, 15, 4] == 2 and grown[15, 15, 3] == 0  # one voxel of 2 mm
    shrunk = perturb.grow(label, SPACING, -2)
    assert shrunk[11, 15, 10] == 0 and shrunk[12, 15, 10] == 2
    assert np.array_equal(grown[label > 0], label[label > 0])


def test_deform_moves_boundaries_by_about_its_amplitude(label):
    moved = perturb.deform(label, SPACING, 1.5, 8, stream(0, "deform"))
    assert set(np.unique(moved)) <= set(np.unique(label))
    dice = 2 * ((moved > 0) & (label > 0)).sum() / ((moved > 0).sum() + (label > 0).sum())
    assert 0.7 < dice < 0.98
    assert np.array_equal(perturb.deform(label, SPACING, 0, 8, stream(0, "deform")), label)


def test_relabel_changes_one_tissue(label):
    changed = perturb.relabel(label, 3, 1)
    assert (changed == 1).sum() == (label == 3).sum() and not (changed == 3).any()
    assert changed.dtype == label.dtype


def test_miss_smallest_takes_one_component(label):
    missed = perturb.miss_smallest(label)
    assert label.astype(bool).sum() - missed.astype(bool).sum() == 18
    assert np.array_equal(perturb.miss_smallest(missed), missed)


def test_specks_lie_where_they_may_and_spare_the_tumour(label):
    where = np.zeros(label.shape, bool)
    where[30:, :10] = True
    out = perturb.add_specks(label, SPACING, where, 3, 1, stream(0, "specks"))
    assert np.array_equal(out[label > 0], label[label > 0])
    added = (out == 1) & (label == 0)
    assert 20 < added.sum() < 3 * 60
    assert not added[:27].any() and not added[:, 13:].any()


@pytest.mark.parametrize(
    "change",
    [lambda a: perturb.grow(a, SPACING, 1), lambda a: perturb.miss_smallest(a), lambda a: perturb.relabel(a, 3, 2)],
)
def test_an_empty_mask_stays_empty(change):
    assert not change(np.zeros((5, 5, 5), np.uint8)).any()
