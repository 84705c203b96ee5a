"""Reading and writing one NIfTI file, and turning it to RAS and back.

A file is checked against what its header announces before memory is asked for, and read to its end so that the gzip
check sum is compared: a damaged file raises an error, it never gives other voxels.
"""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from brainseg_utils.errors import DataError
from brainseg_utils.files import atomic

MAX_BYTES = 400_000_000  # a 240x240x155 case of four float64 modalities is 286 MB
MAX_OFFSET = 1_000_000  # where the voxels may start at the latest: a header with long extensions
VOXEL_MM = (0.01, 100.0)  # no scanner has smaller or larger voxels
HEADER_BYTES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
MAGIC = {348: b"n+1", 540: b"n+2"}
GZIP_LEVEL = 3


class NiftiError(DataError):
    """A file that cannot be read as NIfTI.

    Attributes:
        kind: which fault it is, a short name for tables ("damaged gzip").
    """

    def __init__(self, found: str, *, kind: str = "damaged file", **fields: Any) -> None:
        super().__init__(found, **fields)
        self.kind = kind

    def __reduce__(self):  # keeps the kind when the error crosses a process boundary
        return (*super().__reduce__(), {"kind": self.kind})


@dataclass(frozen=True)
class Nifti:
    """One file as it is stored.

    Attributes:
        data: array in the file's own axis order and, without scaling, its own type.
        affine: (4, 4) voxel index to RAS millimetres.
        header: nibabel's header.
    """

    data: np.ndarray
    affine: np.ndarray
    header: nib.Nifti1Header

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size in mm along the three spatial axes of `data`."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))


def read(path: str | Path, max_bytes: int = MAX_BYTES) -> Nifti:
    """Reads a `.nii` or `.nii.gz` file whole.

    Args:
        path: the file.
        max_bytes: refuse a header that announces more voxel data than this.

    Raises:
        NiftiError: absent, empty, truncated, damaged or not a NIfTI file, or a header that cannot be right.
    """
    path = Path(path)
    try:
        with _open(path) as stream:
            header = _read_header(stream, path)
            wanted = _data_bytes(header, path, max_bytes)
            raw = stream.read(wanted)
            extra = stream.read(1)  # also makes gzip compare its check sum
    except FileNotFoundError:
        raise NiftiError(
            "no such file", kind="absent file", where=path, expected="a NIfTI file", remedy="check the path"
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, f"damaged gzip data ({error})", "damaged gzip") from None
    except OSError as error:
        raise NiftiError(
            f"cannot be opened ({error.strerror})", kind="unreadable file", where=path, remedy="check its permissions"
        ) from None
    if len(raw) < wanted:
        raise _damaged(path, f"{len(raw)} bytes of voxel data, header announces {wanted}", "truncated file")
    if extra:
        raise _damaged(path, f"more voxel data than the {wanted} bytes that the header announces", "trailing bytes")
    data: np.ndarray = np.frombuffer(raw, header.get_data_dtype()).reshape(header.get_data_shape(), order="F")
    slope, intercept = scaling(header)
    if (slope, intercept) != (1.0, 0.0):
        data = data.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    return Nifti(data, _affine(header, path), header)


def read_affine(path: str | Path) -> np.ndarray:
    """The (4, 4) affine of a file, voxel index to RAS millimetres; the voxels are not read.

    Raises:
        NiftiError: absent, damaged or not a NIfTI file.
    """
    path = Path(path)
    try:
        with _open(path) as stream:
            return _affine(_read_header(stream, path), path)
    except OSError as error:
        raise NiftiError(f"cannot be opened ({error.strerror})", kind="unreadable file", where=path) from None
    except (EOFError, zlib.error) as error:
        raise _damaged(path, f"damaged gzip data ({error})", "damaged gzip") from None


def scaling(header: nib.Nifti1Header) -> tuple[float, float]:
    """Slope and intercept that turn stored numbers into intensities; (1, 0) where the header announces none."""
    slope, intercept = header.get_slope_inter()
    return (1.0, 0.0) if slope is None else (float(slope), float(intercept or 0.0))


def _open(path: Path) -> BinaryIO:
    stream = open(path, "rb")  # noqa: SIM115 (the caller closes it)
    magic = stream.read(2)
    stream.seek(0)
    if not magic:
        stream.close()
        raise _damaged(path, "empty file", "empty file")
    return gzip.GzipFile(fileobj=stream) if magic == b"\x1f\x8b" else stream  # type: ignore[return-value]


def _damaged(path: Path, found: str, kind: str = "damaged header") -> NiftiError:
    remedy = "copy or download the file again"
    return NiftiError(found, kind=kind, where=path, expected="a whole NIfTI file", remedy=remedy)


def _read_header(stream: BinaryIO, path: Path) -> nib.Nifti1Header:
    start = stream.read(4)
    if not start:
        raise _damaged(path, "nothing inside the gzip file", "empty file")
    size = {int.from_bytes(start, order) for order in ("little", "big")} & set(HEADER_BYTES)  # type: ignore[arg-type]
    if not size:
        raise NiftiError(
            "not a NIfTI file",
            kind="not a NIfTI file",
            where=path,
            expected=".nii or .nii.gz",
            remedy="convert it, e.g. with dcm2niix",
        )
    length = size.pop()
    block = start + stream.read(length - 4)
    if len(block) < length:
        raise _damaged(path, f"{len(block)} bytes, shorter than a header", "truncated file")
    try:
        header = HEADER_BYTES[length].from_fileobj(io.BytesIO(block), check=False)
        kind = header.get_data_dtype()
        shape = header.get_data_shape()
        header.get_slope_inter()
    except Exception as error:  # nibabel raises many kinds on a header of random bytes
        raise _damaged(path, f"unreadable header ({error})") from None
    if bytes(header["magic"]).rstrip(b"\0") != MAGIC[length]:
        raise _damaged(path, f"header magic {bytes(header['magic'])!r} is not that of a single NIfTI file")
    if kind.kind not in "iuf":
        raise _damaged(path, f"voxels of type {kind}, not plain numbers")
    if not shape or min(shape) < 1:
        raise _damaged(path, f"header announces shape {tuple(int(s) for s in shape)}")
    offset, first = float(header["vox_offset"]), length + 4  # the first four bytes after it announce extensions
    if not (first <= offset <= MAX_OFFSET) or offset != int(offset):
        raise _damaged(path, f"header announces voxel data at byte {offset:g}")
    stream.read(int(offset) - length)  # extensions
    return header


def _data_bytes(header: nib.Nifti1Header, path: Path, max_bytes: int) -> int:
    shape = header.get_data_shape()
    count = header.get_data_dtype().itemsize
    for side in shape:
        count *= int(side)
    if count > max_bytes:
        raise NiftiError(
            f"header announces shape {tuple(int(s) for s in shape)}, {count / 1e9:.3g} GB",
            kind="absurd size",
            where=path,
            expected=f"at most {max_bytes / 1e9:.2g} GB",
            remedy="copy or download the file again",
        )
    return count


def _affine(header: nib.Nifti1Header, path: Path) -> np.ndarray:
    if header["pixdim"][0] == 0:
        header["pixdim"][0] = 1  # the standard reads a handedness of 0 as 1
    try:
        with np.errstate(all="ignore"):
            affine = np.asarray(header.get_best_affine(), float)
            sound = np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-6
    except Exception:  # a quaternion of random bytes
        sound = False
    if not sound:
        raise _damaged(path, "the header's affine is not an invertible matrix of finite numbers")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if sizes.min() < VOXEL_MM[0] or sizes.max() > VOXEL_MM[1]:
        raise _damaged(path, "the header's affine announces voxels of " + " x ".join(f"{s:.3g}" for s in sizes) + " mm")
    return affine + 0.0  # turns -0.0 into 0.0


def to_ras(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reorders and flips the first three axes so that they run to the patient's right, front and top.

    Nothing is interpolated: an oblique scan keeps its obliqueness, in the closest axis order.

    Returns:
        (X, Y, Z, ...) array and its (4, 4) affine.
    """
    orientation = io_orientation(affine)
    return apply_orientation(data, orientation), affine @ inv_ornt_aff(orientation, data.shape[:3]) + 0.0


def from_ras(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Puts a RAS array back into the axis order of a file with the given affine; undoes `to_ras`."""
    return apply_orientation(data, ornt_transform(axcodes2ornt("RAS"), io_orientation(affine)))


def write(path: str | Path, data: np.ndarray, affine: np.ndarray, description: str = "") -> Path:
    """Writes an array atomically; the same array gives the same bytes.

    Args:
        path: ends in `.nii` or `.nii.gz`.
        data: (X, Y, Z) or (X, Y, Z, C), of a type that NIfTI has.
        affine: (4, 4) in mm, stored as both sform and qform.
        description: at most 79 characters for the header's `descrip`.
    """
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header["descrip"] = description.encode()[:79]
    image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    with atomic(path) as temporary:
        packed = str(path).endswith(".gz")
        temporary.write_bytes(gzip.compress(content, GZIP_LEVEL, mtime=0) if packed else content)
    return Path(path)
