"""One NIfTI file: what is written is read, in RAS whatever the orientation, and damage is an error."""

from __future__ import annotations

import gzip
import itertools
import pickle
import struct

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainseg_utils.datasets import nifti

AFFINE = np.array([[-1.0, 0, 0, 5], [0, -1, 0, 239], [0, 0, 1.5, -7], [0, 0, 0, 1]])
ORIENTATIONS = [
    "".join(letters) for axes in itertools.permutations(("RL", "AP", "SI")) for letters in itertools.product(*axes)
]


def ramp(shape=(4, 5, 6), kind=np.int16) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(kind)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_what_is_written_is_read(tmp_path, ending, kind):
    path = nifti.write(tmp_path / f"a{ending}", ramp(kind=kind), AFFINE, "made here")
    file = nifti.read(path)
    assert file.data.dtype == kind
    assert np.array_equal(file.data, ramp(kind=kind))
    assert np.array_equal(file.affine, AFFINE)
    assert file.spacing == (1.0, 1.0, 1.5)
    assert bytes(file.header["descrip"]).startswith(b"made here")


def test_nibabel_reads_the_same(tmp_path):
    path = nifti.write(tmp_path / "a.nii.gz", ramp(), AFFINE)
    image = nib.load(path)
    assert np.array_equal(np.asarray(image.dataobj), ramp())
    assert np.array_equal(image.affine, AFFINE)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)


def test_the_same_array_gives_the_same_bytes(tmp_path):
    one, other = (nifti.write(tmp_path / name, ramp(), AFFINE).read_bytes() for name in ("a.nii.gz", "b.nii.gz"))
    assert one == other


def test_scaling_big_endian_nifti2_and_extensions(tmp_path):
    scaled = nib.Nifti1Image(ramp(), AFFINE)
    scaled.header.set_slope_inter(2, 1)
    nib.save(scaled, tmp_path / "scaled.nii")
    stored = nib.load(tmp_path / "scaled.nii").get_fdata()
    assert np.array_equal(nifti.read(tmp_path / "scaled.nii").data, stored)
    big = nib.Nifti1Image(ramp(), AFFINE, nib.Nifti1Header(endianness=">"))
    nib.save(big, tmp_path / "big.nii.gz")
    assert nifti.read(tmp_path / "big.nii.gz").header.endianness == ">"
    assert np.array_equal(nifti.read(tmp_path / "big.nii.gz").data, ramp())
    nib.save(nib.Nifti2Image(ramp(), AFFINE), tmp_path / "two.nii.gz")
    assert np.array_equal(nifti.read(tmp_path / "two.nii.gz").data, ramp())
    extended = nib.Nifti1Image(ramp(), AFFINE)
    extended.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"a comment"))
    nib.save(extended, tmp_path / "extended.nii.gz")
    assert np.array_equal(nifti.read(tmp_path / "extended.nii.gz").data, ramp())


def test_a_file_with_qform_alone(tmp_path):
    image = nib.Nifti1Image(ramp(), AFFINE)
    image.set_qform(AFFINE, 1)
    image.set_sform(None, 0)
    content = bytearray(image.to_bytes())
    struct.pack_into("<f", content, 76, 0.0)  # pixdim[0], the handedness: 0 is read as 1
    (tmp_path / "a.nii").write_bytes(bytes(content))
    assert np.allclose(nifti.read(tmp_path / "a.nii").affine, AFFINE)


@pytest.mark.parametrize("letters", ORIENTATIONS)
def test_every_orientation_comes_to_the_same_ras(letters):
    data, affine = ramp(), np.diag([1.0, 2, 3, 1])
    affine[:3, 3] = (-10, 20, 30)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(letters)
    )
    image = nib.Nifti1Image(data, affine).as_reoriented(turn)
    assert "".join(nib.aff2axcodes(image.affine)) == letters
    stored = np.asarray(image.dataobj)
    turned, placed = nifti.to_ras(stored, image.affine)
    assert np.array_equal(turned, data)
    assert np.allclose(placed, affine)
    assert np.array_equal(nifti.from_ras(turned, image.affine), stored)


@settings(max_examples=50, deadline=None)
@given(angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3), spacing=st.tuples(*[st.floats(0.3, 5)] * 3))
def test_an_oblique_scan_goes_to_the_closest_axes_and_comes_back(angles, spacing):
    matrix = nib.eulerangles.euler2mat(*angles) @ np.diag(spacing)
    affine = nib.affines.from_matvec(matrix, (1, 2, 3))
    turned, placed = nifti.to_ras(ramp(), affine)
    assert np.array_equal(nifti.from_ras(turned, affine), ramp())
    order = nib.io_orientation(placed)
    assert order[:, 0].tolist() == [0, 1, 2]
    assert order[:, 1].tolist() == [1, 1, 1]
    corner = np.argwhere(turned == ramp()[0, 0, 0])[0]  # the same number at the same place
    assert np.allclose(placed @ [*corner, 1], affine @ [0, 0, 0, 1])


def header_with(**fields) -> bytes:
    image = nib.Nifti1Image(ramp(), AFFINE)
    content = bytearray(image.to_bytes())
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.binaryblock
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"", "empty file", "empty file"),
        (gzip.compress(b""), "empty file", "nothing inside"),
        (b"<!DOCTYPE html>" * 50, "not a NIfTI file", "not a NIfTI"),
        (header_with()[:200], "truncated file", "shorter than a header"),
        (header_with()[:-7], "truncated file", "233 bytes of voxel data, header announces 240"),
        (header_with() + b"1234", "trailing bytes", "more voxel data"),
        (gzip.compress(header_with())[:-9], "damaged gzip", "damaged gzip"),
        (gzip.compress(header_with())[:-4] + b"\1\2\3\4", "damaged gzip", "damaged gzip"),
        (header_with(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1]), "absurd size", "54000 GB|5.4e"),
        (header_with(dim=[3, -4, 5, 6, 1, 1, 1, 1]), "damaged header", "announces shape"),
        (header_with(dim=[9, 4, 5, 6, 1, 1, 1, 1]), "damaged header", "header"),
        (header_with(datatype=0), "damaged header", "not plain numbers"),
        (header_with(datatype=128, dim=[3, 4, 5, 2, 1, 1, 1, 1]), "damaged header", "not plain numbers"),
        (header_with(datatype=32, dim=[3, 4, 5, 1, 1, 1, 1, 1]), "damaged header", "not plain numbers"),
        (header_with(vox_offset=0), "damaged header", "voxel data at byte 0"),
        (header_with(vox_offset=1e12), "damaged header", "voxel data at byte"),
        (header_with(vox_offset=np.nan), "damaged header", "voxel data at byte"),
        (header_with(magic=b"ni1"), "damaged header", "magic"),
        (header_with(scl_slope=2, scl_inter=np.nan), "damaged header", "unreadable header"),
        (header_with(srow_x=[np.nan] * 4), "damaged header", "affine"),
        (header_with(srow_x=[0] * 4), "damaged header", "affine"),
        (header_with(srow_x=[1e20, 0, 0, 0]), "damaged header", "voxels of 1e\\+20 x"),
    ],
)
def test_damage_is_an_error_that_names_it(tmp_path, content, kind, message):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    with pytest.raises(nifti.NiftiError, match=message) as caught:
        nifti.read(path)
    assert caught.value.kind == kind
    assert str(path) in str(caught.value)


def test_absent_and_unreadable_paths(tmp_path):
    with pytest.raises(nifti.NiftiError, match="no such file"):
        nifti.read(tmp_path / "none.nii.gz")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(nifti.NiftiError, match="cannot be opened"):
        nifti.read(tmp_path / "folder.nii")


def test_the_size_limit_is_asked_before_memory(tmp_path):
    (tmp_path / "a.nii").write_bytes(header_with())
    with pytest.raises(nifti.NiftiError, match="header announces shape"):
        nifti.read(tmp_path / "a.nii", max_bytes=100)


def test_the_error_crosses_a_process_boundary_whole():
    error = nifti.NiftiError("cut", kind="truncated file", where="a.nii", remedy="copy it again")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.kind, copy.remedy) == (str(error), "truncated file", "copy it again")


def test_zeros_that_pad_a_gzip_file_are_no_fault(tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(header_with()) + bytes(512))
    assert np.array_equal(nifti.read(path).data, ramp())


def test_sizeof_hdr_of_another_format(tmp_path):
    content = bytearray(header_with())
    struct.pack_into("<i", content, 0, 349)
    (tmp_path / "a.nii").write_bytes(bytes(content))
    with pytest.raises(nifti.NiftiError, match="not a NIfTI"):
        nifti.read(tmp_path / "a.nii")


def test_the_affine_alone_is_that_of_the_whole_file(tmp_path):
    affine = np.array([[0, -2.0, 0, 5], [-1.0, 0, 0, 7], [0, 0, 3.0, -9], [0, 0, 0, 1]])
    path = nifti.write(tmp_path / "a.nii.gz", np.zeros((3, 4, 5), np.int16), affine)
    assert np.array_equal(nifti.read_affine(path), nifti.read(path).affine)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(nifti.NiftiError):
        nifti.read_affine(path)
    with pytest.raises(nifti.NiftiError, match="cannot be opened"):
        nifti.read_affine(tmp_path / "none.nii.gz")
