"""The `Case` record: lazy, in RAS, and clear about what is wrong."""

from __future__ import annotations

import dataclasses
import shutil

import nibabel as nib
import numpy as np
import pytest
import tifffile

from brainseg_utils.datasets import nifti
from brainseg_utils.datasets.cases import Volume, read_tiff, same_grid, slices_from_ras
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.layouts import LAYOUTS
from brainseg_utils.errors import DataError, GeometryError, LabelError

VOLUMETRIC = [name for name in LAYOUTS if name != "lgg"]


@pytest.mark.parametrize("layout", VOLUMETRIC)
def test_every_layout_gives_the_same_case(good_cohorts, layout):
    reference = find_cases(good_cohorts["brats2023"])[1]
    case = find_cases(good_cohorts[layout])[1]
    images, label = case.images(), case.label()
    assert images.data.dtype == np.float32
    assert images.data.shape == (4, 24, 26, 16)
    assert np.array_equal(images.data, reference.images().data)
    assert np.array_equal(images.affine, reference.images().affine)
    assert (images.spacing, images.voxel_ml, images.unit) == ((1.0, 1.0, 2.0), 0.002, "mm")
    for region in ("ET", "TC", "WT", "NETC", "SNFH"):
        here = case.scheme.region(label.data, region)
        assert here.sum() > 0
        assert np.array_equal(here, reference.scheme.region(reference.label().data, region))


def test_slices_stand_upright(good_cohorts):
    """Rows run from front to back and columns from the patient's right to left, slices from bottom to top."""
    case = find_cases(good_cohorts["lgg"])[0]
    volume, label = case.images(), case.label()
    assert (case.modalities, volume.unit, volume.spacing) == (("t1n", "t2f", "t1c"), "px", (1.0, 1.0, 1.0))
    assert volume.data.shape == (3, 24, 26, 16)
    stored = tifffile.imread(case.slice_paths[9])
    rows, columns = stored.shape[:2]
    for row, column in ((0, 0), (3, 20), (25, 23)):
        assert volume.data[:, columns - 1 - column, rows - 1 - row, 9].tolist() == stored[row, column].tolist()
    assert set(np.unique(label.data)) == {0, 255}
    assert np.array_equal(slices_from_ras(label.data)[:, :, 9], tifffile.imread(case.mask_paths[9]))


def test_chosen_modalities_in_the_wanted_order(good_cohorts):
    for layout in LAYOUTS:
        case = find_cases(good_cohorts[layout])[0]
        order = [case.modalities.index(m) for m in ("t1c", "t2f")]
        assert np.array_equal(case.images(["t1c", "t2f"]).data, case.images(case.modalities).data[order])


def test_nothing_is_read_before_it_is_asked_for(cohort):
    root = cohort("brats2021")
    for path in root.rglob("*.nii.gz"):
        path.write_bytes(b"")
    assert len(find_cases(root)) == 3


def test_a_file_in_another_orientation_is_turned(cohort):
    case = find_cases(cohort("brats2020"))[0]
    before = case.images().data
    image = nib.load(case.paths["t2w"])
    turned = image.as_reoriented(nib.orientations.axcodes2ornt("SPL"))
    nib.save(nib.Nifti1Image(np.asarray(turned.dataobj), turned.affine), case.paths["t2w"])
    assert nib.load(case.paths["t2w"]).shape == (16, 26, 24)
    assert np.array_equal(case.images().data, before)


def test_errors_say_what_is_missing(cohort):
    case = find_cases(cohort("brats2023"))[0]
    without = dataclasses.replace(case, paths={m: p for m, p in case.paths.items() if m != "t1c"}, label_path=None)
    assert without.modalities == ("t1n", "t2w", "t2f")
    with pytest.raises(DataError, match=r"no file for modality t1c.*it has t1n, t2w, t2f"):
        without.images()
    with pytest.raises(DataError, match="no label file"):
        without.label()
    assert without.images(["t2f"]).data.shape == (1, 24, 26, 16)


def test_grids_that_differ_are_refused(cohort):
    case = find_cases(cohort("brats2023"))[0]
    file = nifti.read(case.paths["t2f"])
    nifti.write(case.paths["t2f"], file.data[:, :, :-1], file.affine)
    with pytest.raises(GeometryError, match=r"shape \(24, 26, 15\) or affine differs from t1n"):
        case.images()
    affine = file.affine.copy()
    affine[1, 3] += 0.01
    nifti.write(case.paths["t2f"], file.data, affine)
    with pytest.raises(GeometryError, match="or affine differs"):
        case.images()


def test_dimensions_and_labels_are_checked(cohort):
    case = find_cases(cohort("brats2023"))[0]
    file = nifti.read(case.label_path)
    nifti.write(case.label_path, np.stack([file.data] * 2, -1), file.affine)
    with pytest.raises(DataError, match=r"array of shape \(24, 26, 16, 2\); expected \(X, Y, Z\)"):
        case.label()
    shutil.copyfile(case.label_path, case.paths["t1n"])
    with pytest.raises(DataError, match="array of shape"):
        case.images()
    nifti.write(case.label_path, np.where(file.data == 3, 4, file.data), file.affine)
    with pytest.raises(LabelError, match="4 is ET in brats2021"):
        case.label()


def test_decathlon_wants_its_fourth_axis(cohort):
    case = find_cases(cohort("msd"))[0]
    file = nifti.read(case.paths["t1n"])
    nifti.write(case.paths["t1n"], file.data[..., :3], file.affine)
    with pytest.raises(DataError, match="modalities"):
        case.images()


def test_slices_that_are_wrong(cohort, tmp_path):
    case = find_cases(cohort("lgg"))[0]
    with pytest.raises(DataError, match="no modality t2w"):
        case.images(["t2w"])
    case.mask_paths[3].write_bytes(b"II*\0")
    with pytest.raises(DataError, match="unreadable TIFF"):
        case.label()
    case.mask_paths[3].unlink()
    with pytest.raises(DataError, match="no such file"):
        case.label()
    with pytest.raises(DataError, match=r"no mask for this slice; expected .*_4_mask.tif"):
        find_cases(case.folder)[0].label()
    for path in (case.slice_paths[5], case.mask_paths[5]):
        tifffile.imwrite(path, np.ascontiguousarray(tifffile.imread(path)[1:]))
    with pytest.raises(DataError, match=r"_6.tif: size \(25, 24\); expected \(26, 24\), as PH_0001_1.tif"):
        case.images()
    tifffile.imwrite(case.slice_paths[0], np.zeros((26, 24), np.uint8))
    with pytest.raises(DataError, match="expected 3 channels"):
        case.images()
    tifffile.imwrite(tmp_path / "pages.tif", np.zeros((2, 8, 8), np.uint8), photometric="minisblack")
    with pytest.raises(DataError, match="2 page"):
        read_tiff(tmp_path / "pages.tif")


def test_same_grid_allows_a_thousandth_of_a_millimetre():
    data, near, far = np.zeros((2, 2, 2)), np.eye(4), np.eye(4)
    near[0, 3], far[0, 3] = 5e-4, 2e-3
    assert same_grid(data, np.eye(4), data, near)
    assert not same_grid(data, np.eye(4), data, far)
    assert not same_grid(data, np.eye(4), data[1:], np.eye(4))


def test_spacing_of_an_oblique_volume():
    affine = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, 0.2, 0.1) @ np.diag([1, 2, 3]))
    assert np.allclose(Volume(np.zeros((1, 1, 1)), affine).spacing, (1, 2, 3))
    assert np.isclose(Volume(np.zeros((1, 1, 1)), affine).voxel_ml, 0.006)
