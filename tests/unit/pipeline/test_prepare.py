"""What a network sees when it predicts is what it saw in training, and probabilities come back where they belong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from brainseg_utils.errors import SettingError
from brainseg_utils.pipeline import registry
from brainseg_utils.pipeline.prepare import View, brain_box, prepare, view
from brainseg_utils.pipeline.regrid import regrid
from brainseg_utils.pipeline.transforms import load_case

SIDES = st.tuples(*[st.integers(3, 17)] * 3)


@pytest.mark.parametrize(
    ("pipeline", "settings", "options"),
    [
        ("course", {"normalise": "zscore"}, {}),
        ("course", {"normalise": "median"}, {"normalisation": "median"}),
        ("course", {"spacing": 2.0}, {"spacing": 2.0}),
        ("r4", {}, {"pipeline": "r4"}),
        ("r3", {"size": (32, 32, 32)}, {"pipeline": "r3", "size": (32, 32, 32)}),
    ],
)
def test_a_brain_looks_as_in_training(pipeline, settings, options, write_cohort, tmp_path):
    case = write_cohort(tmp_path, count=1)[0]
    trained = registry.preprocessing(pipeline, **settings)(load_case(case))
    scan = case.images()
    made = prepare(scan.data, scan.spacing, view(**options))
    if pipeline == "r3":  # the whole grid, stretched
        assert made.box.shape == scan.data.shape[1:]
        assert np.allclose(made.image, np.asarray(trained["image"]), atol=1e-5)
        return
    full = np.zeros((4, *regrid(scan.data.shape[1:], scan.spacing, settings.get("spacing", 0.0)).shape), np.float32)
    place = [
        slice(a // k, a // k + n) for a, k, n in zip(made.box.start, made.grid.blocks, made.grid.shape, strict=True)
    ]
    full[(slice(None), *place)] = made.image.numpy()
    box = trained["box"]
    assert np.allclose(box.crop(full), np.asarray(trained["image"]), atol=1e-4)
    outside = np.ones(full.shape[1:], bool)
    outside[box.slices] = False
    assert pipeline == "r4" or not full[:, outside].any()


def test_views_of_reports_and_unknown_ones():
    assert view(pipeline="r1", size=(64, 64, 64), regions=("ET",)) == View("r1", resize=(64, 64, 64))
    assert view(pipeline="r4") == View("zscore_nonzero", 1.0)
    assert view(pipeline="r0") == View("zscore_nonzero")
    assert view(pipeline="r0", spacing=2.0) == View("zscore_nonzero", 2.0)
    with pytest.raises(SettingError, match="unknown pipeline 'r9'"):
        view(pipeline="r9")


@given(SIDES, st.sampled_from([(1, 1, 1), (2, 2, 2), (1, 0.9, 3), (0.5, 1.3, 6)]), st.sampled_from([0.0, 1.0, 2.0]))
@example((3, 3, 3), (0.5, 1.3, 6), 2.0)  # thinner than the block of four voxels that is averaged
def test_a_constant_stays_constant_there_and_back(full, spacing, target):
    plan = regrid(full, spacing, target)
    down = plan.down(torch.full((2, *full), 3.0))
    assert tuple(down.shape) == (2, *plan.shape)
    up = plan.up(down)
    assert tuple(up.shape) == (2, *full)
    assert torch.allclose(down, torch.tensor(3.0)) and torch.allclose(up, torch.tensor(3.0))


@given(SIDES, st.sampled_from([1.0, 2.0, 3.0]))
def test_a_ramp_keeps_its_place(full, target):
    """Voxel centres stay where they are: averaged and interpolated, x gives x, but for the ends."""
    x = torch.arange(full[0]).float().reshape(1, -1, 1, 1).expand(1, *full)
    plan = regrid(full, (1, 1, 1), target)
    back = plan.up(plan.down(x))
    edge = int(target)
    whole = full[0] // edge * edge
    assert torch.allclose(back[:, edge : whole - edge], x[:, edge : whole - edge], atol=1e-4)


def test_blocks_are_the_same_for_every_box():
    image = np.random.default_rng(0).normal(5, 1, (1, 30, 28, 26)).astype(np.float32)
    plan = regrid(image.shape[1:], (1, 1, 1), 2)
    whole = plan.down(torch.from_numpy(image))[0].numpy()
    for start in (7, 8):
        brain = np.zeros(image.shape[1:], bool)
        brain[start:20, start:20, start:20] = True
        box = brain_box(brain, plan.blocks)
        part = regrid(box.shape, (1, 1, 1), 2).down(torch.from_numpy(box.crop(image)))[0].numpy()
        first = [a // 2 for a in box.start]
        there = tuple(slice(a, a + n) for a, n in zip(first, part.shape, strict=True))
        assert np.allclose(part, whole[there], atol=1e-5)
