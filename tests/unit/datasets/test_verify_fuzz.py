"""Randomly corrupted NIfTI files: each is reported, or decodes to the same shape, affine and voxels as before.

The judge is nibabel's own loader, which shares no reading code with `datasets.nifti`.
"""

from __future__ import annotations

import gzip
import resource
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainseg_utils.datasets import nifti
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.verify import verify
from brainseg_utils.seeds import stream

FILES = 500
FLIPS = 400
BLOCKS = 10  # the files are dealt to so many tests, so that a failure names its block
HEADER_BYTES, FIRST_VOXEL = 348, 352
GZIP_HEADER, GZIP_TRAILER = 10, 8
FIELDS = nib.Nifti1Header.template_dtype.fields
SPECIAL = (0, 1, -1, 2, 3, 4, 7, 16, 24, 64, 127, 255, 256, 512, 768, 30000, -30000, 1e-30, 1e30, 0.5, 2.5, 352, 368)


def flip_compressed(content: bytes, generator: np.random.Generator) -> bytes:
    """Changes one to four bytes of the compressed data."""
    changed = bytearray(content)
    for _ in range(generator.integers(1, 5)):
        changed[generator.integers(GZIP_HEADER, len(changed))] ^= int(generator.integers(1, 256))
    return bytes(changed)


def cut(content: bytes, generator: np.random.Generator) -> bytes:
    """Keeps the first so many bytes."""
    return content[: generator.integers(0, len(content))]


def splice(content: bytes, generator: np.random.Generator) -> bytes:
    """Removes, doubles or zeroes a piece of the compressed data, or appends to it."""
    start, stop = sorted(int(i) for i in generator.integers(0, len(content), 2))
    piece = content[start : stop + 1]
    return [
        content[:start] + content[stop + 1 :],
        content[:stop] + piece + content[stop:],
        content[:start] + bytes(len(piece)) + content[stop + 1 :],
        content + piece,
    ][generator.integers(4)]


def alter_header_bytes(content: bytes, generator: np.random.Generator) -> bytes:
    """Changes one to three bytes of the header, or of the extension flag after it."""
    inside = bytearray(gzip.decompress(content))
    for _ in range(generator.integers(1, 4)):
        inside[generator.integers(0, FIRST_VOXEL)] = int(generator.integers(0, 256))
    return gzip.compress(bytes(inside), 1)


def alter_field(content: bytes, generator: np.random.Generator) -> bytes:
    """Sets one header field (or one of its elements) to an unusual value."""
    inside = bytearray(gzip.decompress(content))
    name = list(FIELDS)[generator.integers(len(FIELDS))]
    kind, offset = FIELDS[name][:2]
    base, count = (kind.subdtype[0], kind.shape[0]) if kind.subdtype else (kind, 1)
    place = offset + base.itemsize * int(generator.integers(count))
    if base.kind == "S":
        inside[place] ^= 1
    else:
        value = SPECIAL[generator.integers(len(SPECIAL))]
        with np.errstate(all="ignore"):
            inside[place : place + base.itemsize] = np.array([value], np.float64).astype(base).tobytes()
    return gzip.compress(bytes(inside), 1)


def swap_axes(content: bytes, generator: np.random.Generator) -> bytes:
    """Exchanges two entries of dim: as many voxels, in another shape."""
    inside = bytearray(gzip.decompress(content))
    first, second = generator.choice(np.arange(1, 5), 2, replace=False)
    dim = list(struct.unpack_from("<8h", inside, 40))
    dim[first], dim[second] = dim[second], dim[first]
    struct.pack_into("<8h", inside, 40, *dim)
    return gzip.compress(bytes(inside), 1)


def cut_inside(content: bytes, generator: np.random.Generator) -> bytes:
    """Cuts the content and compresses it again, so that gzip has nothing to complain about."""
    inside = gzip.decompress(content)
    return gzip.compress(inside[: generator.integers(0, len(inside))], 1)


CORRUPTIONS = (flip_compressed, cut, splice, alter_header_bytes, alter_header_bytes, alter_field, swap_axes, cut_inside)


@pytest.fixture(scope="module")
def one_case(good_cohorts, tmp_path_factory) -> Path:
    """A cohort of one case of five files."""
    root = tmp_path_factory.mktemp("fuzz")
    source = find_cases(good_cohorts["brats2021"])[0]
    for path in (*source.paths.values(), source.label_path):
        target = root / source.id / path.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    return root


def decodes_to(path: Path, shape: tuple[int, ...], affine: np.ndarray, voxels: np.ndarray) -> bool:
    image = nib.load(path)
    same_place = image.shape == shape and np.allclose(image.affine, affine)
    return same_place and np.array_equal(np.asarray(image.dataobj), voxels)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_a_corrupted_file_is_reported_or_decodes_as_before(one_case, block):
    case = find_cases(one_case)[0]
    files = [*case.paths.values(), case.label_path]
    for number in range(block, FILES, BLOCKS):
        generator = stream(0, "fuzz", number)
        path = files[generator.integers(len(files))]
        corrupt = CORRUPTIONS[generator.integers(len(CORRUPTIONS))]
        content, good = path.read_bytes(), nib.load(path)
        before = good.shape, good.affine, np.asarray(good.dataobj)
        try:
            path.write_bytes(corrupt(content, generator))
            report = verify(one_case, workers=1)
            if not report.faults:
                assert decodes_to(path, *before), f"{corrupt.__name__} number {number}: changed and not reported"
        finally:
            path.write_bytes(content)
    assert verify(one_case, workers=1).faults == ()


@pytest.mark.parametrize("suffix", ["t1", "seg"])
def test_every_flip_in_a_gzip_body_is_reported_or_changes_nothing(one_case, suffix):
    path = next(one_case.rglob(f"*_{suffix}.nii.gz"))
    content = path.read_bytes()
    voxels = nifti.read(path).data
    body = range(GZIP_HEADER, len(content))
    generator = stream(0, "flips", suffix)
    for place in generator.choice(body, min(FLIPS, len(body)), replace=False):
        changed = bytearray(content)
        changed[place] ^= int(generator.integers(1, 256))
        copy = path.with_name("flipped.nii.gz")
        copy.write_bytes(bytes(changed))
        try:
            # A flip in the bits that pad the last byte, or to an equal copy within a run of zeros, changes nothing.
            assert np.array_equal(nifti.read(copy).data, voxels)
        except nifti.NiftiError as error:
            assert error.kind != "absent file"
        finally:
            copy.unlink()


def test_memory_stays_below_a_gigabyte_where_a_header_announces_much(one_case):
    path = next(one_case.rglob("*_t1.nii.gz"))
    content = path.read_bytes()
    inside = bytearray(gzip.decompress(content))
    struct.pack_into("<8h", inside, 40, 3, 600, 600, 500, 1, 1, 1, 1)  # 360 MB, below the limit for a file
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        path.write_bytes(gzip.compress(bytes(inside), 1))
        (fault,) = verify(one_case, workers=1).faults
    finally:
        path.write_bytes(content)
    assert fault.kind == "truncated file"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
