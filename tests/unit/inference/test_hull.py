"""The core inside its rim: by hand, and what holds for any core, rim and reach."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from brainseg_utils.inference.hull import inside_rim

SIDE = 24
FAR = np.sqrt(sum((axis - SIDE / 2) ** 2 for axis in np.indices((SIDE,) * 3)))


def test_a_rim_with_gaps_keeps_its_centre_and_loses_what_is_outside():
    core, rim = FAR < 10, (FAR >= 5) & (FAR < 6.5)
    rim[:10] = False  # no longer closed
    rim[11:13, 11:13] = False
    found = inside_rim(core, rim, (1, 1, 1), reach=1.0)
    assert found[SIDE // 2, SIDE // 2, SIDE // 2]
    assert not found[(FAR > 9)].any()
    assert not found[:8].any()


def test_spacing_counts():
    core, rim = np.zeros((2, 12, 6, 6), bool)
    core[:], rim[:6] = True, True
    depth = {side: inside_rim(core, rim, (side, 1, 1), reach=2.1).any((1, 2)).sum() for side in (1.0, 2.0)}
    assert depth == {1.0: 8, 2.0: 7}


def test_each_component_has_its_own_rim_and_one_without_stays():
    core, rim = np.zeros((2, 30, 8, 8), bool)
    core[:8], core[10:18], core[20:28] = True, True, True
    rim[0:4], rim[14:18] = True, True
    found = inside_rim(core, rim, (1, 1, 1), reach=0.5).any((1, 2))
    assert found.astype(int).tolist() == [1] * 4 + [0] * 10 + [1] * 4 + [0, 0] + [1] * 8 + [0, 0]


@pytest.mark.parametrize("shape", [(5, 5, 1), (25, 1, 1), (1, 1, 8)])
def test_a_flat_rim_is_no_fault(shape):
    core, rim = np.zeros((2, 30, 12, 12), bool)
    core[:, 2:10, 2:10] = True
    rim[2 : 2 + shape[0], 2 : 2 + shape[1], 2 : 2 + shape[2]] = True
    found = inside_rim(core, rim & core, (1, 1, 1), reach=1.0)
    assert found.sum() < core.sum()
    assert found[rim & core].all()


@settings(max_examples=40, deadline=None)
@given(arrays(bool, (7, 6, 5)), arrays(bool, (7, 6, 5)), st.floats(0, 4), st.floats(0, 4))
def test_laws(core, rim, one, other):
    rim &= core
    near, far = (inside_rim(core, rim, (1, 1, 2), reach) for reach in sorted((one, other)))
    assert not (near & ~core).any()
    assert near[rim].all()
    assert not (near & ~far).any()
    assert np.array_equal(inside_rim(core, rim, (1, 1, 2), 99.0), core)
