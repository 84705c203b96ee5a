"""The real scans: nothing wrong with them, every layout reads them alike, and years are not confused.

Only `develop` cases are looked at one by one; the whole folders are verified, which prints nothing but faults.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainseg_utils.datasets import export, nifti
from brainseg_utils.datasets.cases import Case
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.labels import get_scheme
from brainseg_utils.datasets.layouts import LAYOUTS, MODALITIES
from brainseg_utils.datasets.verify import verify
from brainseg_utils.errors import DataError, LabelError

pytestmark = pytest.mark.real

DEVELOP = {  # one a layout; the last is stored in RAS order and has negative intensities
    "brats2020": "Brats18_2013_2_1",
    "brats2021": "BraTS2021_01476",
    "brats2023": "BraTS-SSA-00002-000",
}
REGIONS = ("ET", "TC", "WT", "NETC", "SNFH")


def develop_case(real_data: Path, layout: str) -> Case:
    return next(case for case in find_cases(real_data / layout) if case.id == DEVELOP[layout])


@pytest.mark.parametrize(
    ("folder", "cases", "files"), [("brats2020", 3, 15), ("brats2021", 9, 45), ("brats2023", 4, 20), ("lgg", 36, 2774)]
)
def test_nothing_is_wrong_with_them(real_data, folder, cases, files):
    report = verify(real_data / folder)
    assert report.lines() == [report.summary()]
    assert (report.exit_code, report.cases, report.files) == (0, cases, files)
    assert report.layout == folder


@pytest.mark.parametrize("layout", DEVELOP)
def test_arrays_are_those_of_nibabel(real_data, layout):
    case = develop_case(real_data, layout)
    image = nib.as_closest_canonical(nib.load(case.paths["t1c"]))
    volume = case.images(["t1c"])
    assert np.array_equal(volume.data[0], np.asarray(image.dataobj))
    assert np.array_equal(volume.affine, image.affine)
    assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")
    mask = nib.as_closest_canonical(nib.load(case.label_path))
    assert np.array_equal(case.label().data, np.asarray(mask.dataobj))


@pytest.mark.parametrize(("source", "target"), [(s, t) for s in DEVELOP for t in LAYOUTS if t not in (s, "lgg")])
def test_a_case_in_another_layout_is_the_same_case(real_data, tmp_path, source, target):
    case = develop_case(real_data, source)
    new = LAYOUTS[target].example_id.format(1)
    export.convert_case(case, tmp_path, target, new)
    if target == "msd":
        export.write_decathlon_index(tmp_path, [new])
    (other,) = find_cases(tmp_path)
    before, after = case.images(), other.images()
    assert other.layout == target
    assert np.array_equal(after.data, before.data)
    assert np.array_equal(after.affine, before.affine)
    mask, converted = case.label().data, other.label().data
    for region in REGIONS:
        assert np.array_equal(case.scheme.region(mask, region), other.scheme.region(converted, region)), region


def test_a_2021_folder_is_not_read_as_2023(real_data):
    with pytest.raises(DataError, match=r"9 folders named as in brats2021; in those 4 is ET, in brats2023"):
        find_cases(real_data / "brats2021", layout="brats2023")
    with pytest.raises(DataError, match="in those 4 is ET"):
        verify(real_data / "brats2021", layout="brats2023")


def test_2021_files_under_2023_names_are_refused(real_data, tmp_path):
    case = develop_case(real_data, "brats2021")
    new = "BraTS-GLI-01476-000"
    (tmp_path / new).mkdir()
    for word, path in {**case.paths, "seg": case.label_path}.items():
        (tmp_path / new / f"{new}-{word}.nii.gz").symlink_to(path)
    (renamed,) = find_cases(tmp_path)
    with pytest.raises(LabelError, match=r"label value 4 is not in scheme brats2023.*4 is ET in brats2021"):
        renamed.label()
    (fault,) = verify(tmp_path).faults
    assert (fault.kind, fault.file) == ("unknown label", f"{new}/{new}-seg.nii.gz")
    assert "label value 4 is not in scheme brats2023 (224 voxels)" in fault.found
    assert "4 is ET in brats2021" in fault.remedy


def test_masks_of_2024_have_a_cavity(real_data):
    scheme = get_scheme("brats2024")
    paths = sorted((real_data / "masks2024").glob("*.nii.gz"))
    assert len(paths) == 2
    for path in paths:
        label = Case(path.name[:19], path.name[:15], "brats2024", scheme, {}, path).label()
        assert label.data.shape == (182, 218, 182)
        assert nib.aff2axcodes(nifti.read(path).affine) == ("L", "A", "S")
        assert np.array_equal(label.affine[:3, :3], np.eye(3))
        assert scheme.region(label.data, "RC").sum() > 0
        assert not (scheme.region(label.data, "RC") & scheme.region(label.data, "WT")).any()
        with pytest.raises(LabelError, match="4 is ET in brats2021"):
            get_scheme("brats2023").check(label.data, path)


def test_an_african_case_keeps_its_place_and_its_negative_intensities(real_data):
    volume = develop_case(real_data, "brats2023").images(MODALITIES)
    assert volume.affine[:3, 3].tolist() == [0, 239, 0]
    assert volume.data.min() == -881
    assert volume.spacing == (1.0, 1.0, 1.0)
