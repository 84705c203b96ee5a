"""Ways to damage a small cohort, to see that `verify` finds each: for the tests and for notebook 01.

Every function takes the folder of a good cohort in a BraTS layout (`damage_slices`: LGG and Decathlon), damages one
thing in place and returns a `Damage`: which kind of fault that is, in which file, and in words what was done. Never
call one on data that you want to keep.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brainseg_utils.datasets import nifti
from brainseg_utils.datasets.cases import Case
from brainseg_utils.datasets.faults import Kind
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.errors import SettingError

DIM, PIXDIM, SCL_SLOPE = 40, 76, 112  # where these fields start in a NIfTI header


@dataclass(frozen=True)
class Damage:
    """What was done.

    Attributes:
        kind: the fault that `verify` lists for it.
        file: the file of that fault, relative to the cohort.
        done: in words.
    """

    kind: Kind
    file: str
    done: str


def _first(root: Path) -> Case:
    return find_cases(root)[0]


def _image(case: Case) -> Path:
    return case.paths[case.modalities[-1]]


def _label(case: Case) -> Path:
    if case.label_path is None:
        raise SettingError(f"case {case.id} has no mask to damage", expected="a labelled cohort")
    return case.label_path


def _damage(root: Path, kind: Kind, file: Path, done: str) -> Damage:
    return Damage(kind, file.relative_to(root).as_posix(), done)


def _rewrite(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> None:
    nifti.write(path, data, nifti.read(path).affine if affine is None else affine)


def _patch(path: Path, start: int, value: bytes) -> None:
    """Overwrites bytes of the uncompressed content, and compresses it again."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[start : start + len(value)] = value
    path.write_bytes(gzip.compress(bytes(content), mtime=0))


def remove_modality(root: Path) -> Damage:
    """Deletes the FLAIR file of the first case."""
    path = _image(_first(root))
    path.unlink()
    return _damage(root, Kind.MISSING, path, "deleted")


def rename_by_case(root: Path) -> Damage:
    """Writes the modality in capitals: another name on Linux, the same on Windows and macOS."""
    path = _image(_first(root))
    word = _word(path)
    return _renamed(root, path, path.name.replace(word, word.upper()))


def rename_to_other_year(root: Path) -> Damage:
    """Gives the FLAIR file the word of another year's data set."""
    path = _image(_first(root))
    word = _word(path)
    return _renamed(root, path, path.name.replace(word, {"flair": "t2f", "t2f": "flair"}[word]))


def rename_t2(root: Path) -> Damage:
    """Writes the T2 file as `t2W`."""
    path = _first(root).paths["t2w"]
    return _renamed(root, path, path.name.replace(_word(path), "t2W"))


def _word(path: Path) -> str:
    """The modality word of a file name: what stands after the last separator."""
    return path.name.split(".")[0].replace("-", "_").rsplit("_", 1)[1]


def _renamed(root: Path, path: Path, name: str) -> Damage:
    path.rename(path.with_name(name))
    return _damage(root, Kind.MISNAMED, path.with_name(name), f"was {path.name}")


def remove_label(root: Path) -> Damage:
    """Deletes one mask, while other cases keep theirs."""
    path = _label(_first(root))
    path.unlink()
    return _damage(root, Kind.NO_LABEL, path, "deleted")


def truncate(root: Path) -> Damage:
    """Cuts a compressed file in the middle, as an interrupted download does."""
    path = _image(_first(root))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return _damage(root, Kind.DAMAGED_GZIP, path, "second half cut off")


def empty(root: Path) -> Damage:
    """Leaves a file of no bytes."""
    path = _image(_first(root))
    path.write_bytes(b"")
    return _damage(root, Kind.EMPTY, path, "emptied")


def empty_gzip(root: Path) -> Damage:
    """Leaves a valid gzip file with nothing inside."""
    path = _image(_first(root))
    path.write_bytes(gzip.compress(b"", mtime=0))
    return _damage(root, Kind.EMPTY, path, "content removed, compression kept")


def flip_bit(root: Path) -> Damage:
    """Flips one bit in the middle of the compressed data."""
    path = _image(_first(root))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    return _damage(root, Kind.DAMAGED_GZIP, path, "one bit flipped")


def replace_with_text(root: Path) -> Damage:
    """Puts a web page where the image was, as a login page saved by a downloader."""
    path = _image(_first(root))
    path.write_text("<!DOCTYPE html><title>Sign in</title>", encoding="utf-8")
    return _damage(root, Kind.NOT_NIFTI, path, "replaced with a web page")


def announce_absurd_size(root: Path) -> Damage:
    """Has the header announce 30000 voxels along each axis: 54 TB."""
    path = _image(_first(root))
    _patch(path, DIM + 2, np.array([30000] * 3, "<i2").tobytes())
    return _damage(root, Kind.ABSURD_SIZE, path, "dim set to 30000 x 30000 x 30000")


def add_trailing_bytes(root: Path) -> Damage:
    """Appends bytes to the voxel data."""
    path = _image(_first(root))
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"more", mtime=0))
    return _damage(root, Kind.TRAILING, path, "4 bytes appended")


def add_axis(root: Path) -> Damage:
    """Stores a 3D image with a fourth axis of length 2."""
    path = _image(_first(root))
    _rewrite(path, np.stack([nifti.read(path).data] * 2, axis=-1))
    return _damage(root, Kind.DIMENSIONS, path, "stored as 4D")


def crop(root: Path) -> Damage:
    """Takes away one plane."""
    path = _image(_first(root))
    _rewrite(path, nifti.read(path).data[:, :, :-1])
    return _damage(root, Kind.SHAPE, path, "one plane removed")


def shift(root: Path) -> Damage:
    """Moves the origin by 2 mm."""
    path = _image(_first(root))
    file = nifti.read(path)
    affine = file.affine.copy()
    affine[0, 3] += 2
    _rewrite(path, file.data, affine)
    return _damage(root, Kind.AFFINE, path, "origin moved by 2 mm")


def announce_other_spacing(root: Path) -> Damage:
    """Has pixdim say 3 mm where the affine says otherwise."""
    path = _image(_first(root))
    _patch(path, PIXDIM + 12, np.array([3.0], "<f4").tobytes())
    return _damage(root, Kind.ORIENTATION, path, "pixdim[3] set to 3 mm")


def scale(root: Path) -> Damage:
    """Has the header ask for intensities to be doubled."""
    path = _image(_first(root))
    _patch(path, SCL_SLOPE, np.array([2.0, 0.0], "<f4").tobytes())
    return _damage(root, Kind.SCALING, path, "scl_slope set to 2")


def add_nan(root: Path) -> Damage:
    """Writes a NaN and an infinity into an image."""
    path = _image(_first(root))
    data = nifti.read(path).data.astype(np.float32)
    data[0, 0, 0], data[0, 0, 1] = np.nan, np.inf
    _rewrite(path, data)
    return _damage(root, Kind.NOT_FINITE, path, "a NaN and an infinity written")


def blank(root: Path) -> Damage:
    """Sets every voxel of an image to 0."""
    path = _image(_first(root))
    _rewrite(path, np.zeros_like(nifti.read(path).data))
    return _damage(root, Kind.CONSTANT, path, "every voxel set to 0")


def write_absurd_intensity(root: Path) -> Damage:
    """Writes an intensity of 1e20."""
    path = _image(_first(root))
    data = nifti.read(path).data.astype(np.float32)
    data[0, 0, 0] = 1e20
    _rewrite(path, data)
    return _damage(root, Kind.ABSURD_VALUES, path, "one voxel set to 1e20")


def write_unknown_label(root: Path) -> Damage:
    """Changes one labelled voxel to 7, which no scheme has."""
    path = _label(_first(root))
    data = nifti.read(path).data.copy()
    data[tuple(np.argwhere(data > 0)[0])] = 7
    _rewrite(path, data)
    return _damage(root, Kind.UNKNOWN_LABEL, path, "one voxel labelled 7")


def write_fractional_label(root: Path) -> Damage:
    """Changes one labelled voxel to 1.5, as a resampled mask has."""
    path = _label(_first(root))
    data = nifti.read(path).data.astype(np.float32)
    data[tuple(np.argwhere(data > 0)[0])] = 1.5
    _rewrite(path, data)
    return _damage(root, Kind.FRACTIONAL_LABEL, path, "one voxel labelled 1.5")


def label_outside_brain(root: Path) -> Damage:
    """Labels voxels where every modality is 0."""
    case = _first(root)
    path = _label(case)
    data = nifti.read(path).data.copy()
    channels = [nifti.read(p).data for p in dict.fromkeys(case.paths.values())]
    background = np.ones(data.shape, bool)
    for channel in channels:
        background &= (channel == 0).all(axis=3) if channel.ndim == 4 else channel == 0
    for index in np.argwhere(background)[:5]:
        data[tuple(index)] = 1
    _rewrite(path, data)
    return _damage(root, Kind.OUTSIDE_BRAIN, path, "5 background voxels labelled")


def repeat_case(root: Path) -> Damage:
    """Copies the first case into a second folder, under the same id in small letters."""
    case = _first(root)
    target = root / "copies" / case.id.lower()
    shutil.copytree(case.folder, target)
    for path in sorted(target.iterdir()):
        path.rename(path.with_name(path.name.replace(case.id, target.name)))
    later = max(case.folder, target)  # the folders are gone through by path, and the second is named
    return _damage(root, Kind.DUPLICATE_ID, later, "copied under the same id, in another case")


def copy_patient(root: Path) -> Damage:
    """Copies the images and mask of the first case over those of the second."""
    first, second = find_cases(root)[:2]
    for modality, path in first.paths.items():
        shutil.copyfile(path, second.paths[modality])
    if first.label_path and second.label_path:
        shutil.copyfile(first.label_path, second.label_path)
    file = next(iter(second.paths.values())) if second.channels else second.folder
    return _damage(root, Kind.SAME_IMAGE, file, f"now the same patient as {first.id}")


def add_hidden_file(root: Path) -> Damage:
    """Adds the kind of file that macOS leaves on foreign disks."""
    image = _image(_first(root))
    path = image.with_name(f"._{image.name}")
    path.write_bytes(b"\0\5\x16\7")
    return _damage(root, Kind.HIDDEN, path, "added")


NAMES = (remove_modality, rename_by_case, rename_to_other_year, rename_t2, remove_label, repeat_case)
FILES = (truncate, empty, empty_gzip, flip_bit, replace_with_text, announce_absurd_size, add_trailing_bytes)
HEADERS = (announce_other_spacing, scale)
VALUES = (add_nan, blank, write_absurd_intensity, write_unknown_label, write_fractional_label, label_outside_brain)
CONTENT = (*FILES, *HEADERS, *VALUES, copy_patient, add_hidden_file)
BRATS: tuple[Callable[[Path], Damage], ...] = (*NAMES, *CONTENT, add_axis, crop, shift)
