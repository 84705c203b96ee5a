"""Arrays written as a case of any layout, and cases written as another one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from brainseg_utils.datasets import export, nifti
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.layouts import LAYOUTS, MODALITIES
from brainseg_utils.datasets.verify import verify
from brainseg_utils.errors import LabelError, SettingError

VOLUMETRIC = [name for name in LAYOUTS if name != "lgg"]


@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(VOLUMETRIC, 2)))
def test_a_case_in_another_layout_is_the_same_case(good_cohorts, tmp_path, source, target):
    case = find_cases(good_cohorts[source])[0]
    new = LAYOUTS[target].example_id.format(1)
    export.convert_case(case, tmp_path, target, new)
    if target == "msd":
        export.write_decathlon_index(tmp_path, [new])
    (other,) = find_cases(tmp_path)
    assert (other.id, other.layout) == (new, target)
    assert np.array_equal(other.images().data, case.images().data)
    assert np.array_equal(other.images().affine, case.images().affine)
    for region in ("ET", "TC", "WT", "NETC", "SNFH"):
        here, there = (c.scheme.region(c.label().data, region) for c in (case, other))
        assert np.array_equal(here, there)
    assert verify(tmp_path, workers=1).faults == ()


def test_a_cavity_has_no_place_before_2024(tmp_path):
    images = {m: np.ones((3, 3, 3), np.int16) for m in MODALITIES}
    label = np.full((3, 3, 3), 4, np.uint8)
    for layout in ("brats2021", "brats2023", "msd"):
        with pytest.raises(LabelError, match="27 voxels of RC have no value"):
            export.write_case(tmp_path, layout, "a", images, label, np.eye(4))
    export.write_case(tmp_path, "brats2024", "BraTS-GLI-00001-100", images, label, np.eye(4))
    (case,) = find_cases(tmp_path)
    assert case.scheme.region(case.label().data, "RC").all()


def test_a_case_without_label_and_its_description(tmp_path):
    images = {m: np.ones((3, 3, 3), np.int16) for m in MODALITIES}
    folder = export.write_case(tmp_path, "brats2021", "BraTS2021_00001", images, None, np.eye(4), description="phantom")
    assert sorted(path.name for path in folder.iterdir()) == [
        f"BraTS2021_00001_{word}.nii.gz" for word in ("flair", "t1", "t1ce", "t2")
    ]
    assert bytes(nifti.read(folder / "BraTS2021_00001_t1.nii.gz").header["descrip"]).startswith(b"phantom")
    assert find_cases(tmp_path)[0].label_path is None


def test_slices_have_their_own_function(tmp_path):
    with pytest.raises(SettingError, match="use write_slices"):
        export.write_case(tmp_path, "lgg", "a", {}, None, np.eye(4))


def test_slices_come_back(tmp_path):
    generator = np.random.default_rng(0)
    images = {m: generator.integers(0, 255, (5, 7, 3), np.uint8) for m in ("t1n", "t2f", "t1c")}
    mask = generator.random((5, 7, 3)) > 0.5
    export.write_slices(tmp_path, "PH_0001", images, mask)
    (case,) = find_cases(tmp_path)
    assert np.array_equal(case.images().data, np.stack([images[m] for m in ("t1n", "t2f", "t1c")]))
    assert np.array_equal(case.label().data > 0, mask)
