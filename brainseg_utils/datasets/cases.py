"""The `Case` record: one scan session of one patient, whatever data set it comes from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from brainseg_utils.datasets import nifti
from brainseg_utils.datasets.labels import LabelScheme
from brainseg_utils.datasets.layouts import LGG_CHANNELS, MODALITIES
from brainseg_utils.errors import DataError, GeometryError

AFFINE_TOLERANCE_MM = 1e-3
MAX_SLICE_BYTES = 50_000_000  # a slice is 256x256x3 bytes


@dataclass(frozen=True)
class Volume:
    """Image or label arrays with their place in space, RAS.

    Attributes:
        data: (C, X, Y, Z) intensities or (X, Y, Z) labels.
        affine: (4, 4), voxel index to RAS in `unit`.
        unit: "mm", or "px" for slices that carry no spacing.
    """

    data: np.ndarray
    affine: np.ndarray
    unit: str = "mm"

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along X, Y, Z in `unit`."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres (only meaningful in mm)."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000


@dataclass(frozen=True)
class Case:
    """One scan session; nothing is read until it is asked for.

    Attributes:
        id: the data set's name of the case.
        patient: same for all sessions of one person.
        layout: key of `layouts.LAYOUTS`.
        scheme: what the mask's integers mean.
        paths: canonical modality to file; a modality that is absent is absent here.
        label_path: the mask's file, None for unlabelled cases.
        channels: modality to index on the last axis, where one file holds several modalities (Decathlon).
    """

    id: str
    patient: str
    layout: str
    scheme: LabelScheme
    paths: Mapping[str, Path]
    label_path: Path | None
    channels: Mapping[str, int] = field(default_factory=dict)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that have a file, in canonical order."""
        return tuple(m for m in MODALITIES if m in self.paths)

    @property
    def folder(self) -> Path:
        """Where the case's files are."""
        return next(iter(self.paths.values())).parent

    def images(self, modalities: Sequence[str] | None = None) -> Volume:
        """Loads modalities as float32 (C, X, Y, Z) in RAS.

        Args:
            modalities: canonical names, in the wanted order; default: all four.

        Raises:
            DataError: a modality has no file, or its file is damaged.
            GeometryError: the files do not share one shape and affine.
        """
        wanted = tuple(MODALITIES if modalities is None else modalities)
        arrays = np.empty(0, np.float32)
        affine: np.ndarray | None = None
        opened: dict[Path, nifti.Nifti] = {}
        for number, modality in enumerate(wanted):
            if modality not in self.paths:
                raise DataError(
                    f"no file for modality {modality}",
                    where=f"case {self.id}",
                    expected=", ".join(wanted),
                    remedy=f"it has {', '.join(self.modalities) or 'none'}; run `brainseg data verify` on the folder",
                )
            path = self.paths[modality]
            if path not in opened:
                opened = {path: nifti.read(path)}  # of several modalities in one file; else one at a time
            data, turned = self._spatial(opened[path], modality, path)
            if affine is None:
                affine, arrays = turned, np.empty((len(wanted), *data.shape), np.float32)
            if not same_grid(data, turned, arrays[0], affine):
                raise GeometryError(
                    f"shape {data.shape} or affine differs from {wanted[0]} ({arrays.shape[1:]})",
                    where=path,
                    expected="one grid for all files of a case",
                    remedy="register and resample the modalities to one grid",
                )
            affine = turned
            arrays[number] = data
        assert affine is not None
        return Volume(arrays, affine)

    def _spatial(self, file: nifti.Nifti, modality: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
        data = file.data
        if self.channels:
            if data.ndim != 4 or data.shape[3] <= self.channels[modality]:
                raise _not_3d(path, data.shape, "(X, Y, Z, modalities)")
            data = data[..., self.channels[modality]]
        elif data.ndim != 3:
            raise _not_3d(path, data.shape, "(X, Y, Z)")
        return nifti.to_ras(data, file.affine)

    def label(self) -> Volume:
        """Loads the mask as uint8 (X, Y, Z) in RAS, in the scheme's integers, checked against the scheme.

        Raises:
            DataError: the case has no mask, or the file is damaged.
            LabelError: values that are not the scheme's, or not whole numbers.
        """
        if self.label_path is None:
            raise DataError("no label file", where=f"case {self.id}", remedy="use a labelled (training) case")
        file = nifti.read(self.label_path)
        if file.data.ndim != 3:
            raise _not_3d(self.label_path, file.data.shape, "(X, Y, Z)")
        self.scheme.check(file.data, self.label_path)
        data, affine = nifti.to_ras(file.data, file.affine)
        return Volume(data.astype(np.uint8), affine)


@dataclass(frozen=True)
class SliceCase(Case):
    """One patient of the LGG set: 2D colour slices with masks, stacked from inferior to superior.

    The files carry no spacing; volumes are in pixels. Rows run from anterior to posterior, columns from the patient's
    right to the left, which gives the RAS array after a transposition and one flip.

    Attributes:
        slice_paths: image files in slice order.
        mask_paths: the masks, None where a slice has none.
    """

    slice_paths: tuple[Path, ...] = ()
    mask_paths: tuple[Path | None, ...] = ()

    @property
    def modalities(self) -> tuple[str, ...]:
        """The three channels, in the files' order."""
        return LGG_CHANNELS

    @property
    def folder(self) -> Path:
        """Where the slices are."""
        return self.slice_paths[0].parent

    def images(self, modalities: Sequence[str] | None = None) -> Volume:
        """Loads the slices as float32 (C, X, Y, Z) in RAS, 0 to 255; default modalities: t1n, t2f, t1c.

        Raises:
            DataError: a slice is damaged, not three channels, or of another size.
        """
        wanted = LGG_CHANNELS if modalities is None else tuple(modalities)
        missing = [m for m in wanted if m not in LGG_CHANNELS]
        if missing:
            raise DataError(f"no modality {missing[0]}", where=f"case {self.id}", expected=", ".join(LGG_CHANNELS))
        stack = _stack([read_tiff(path, channels=3) for path in self.slice_paths], self.slice_paths)
        data = np.moveaxis(stack, 3, 0)[[LGG_CHANNELS.index(m) for m in wanted]]
        return Volume(np.stack([_slices_to_ras(c) for c in data]).astype(np.float32), np.eye(4), "px")

    def label(self) -> Volume:
        """Loads the masks as uint8 (X, Y, Z), 0 or 255.

        Raises:
            DataError: a slice has no mask, or one of another size.
            LabelError: a mask is not binary.
        """
        planes, files = [], []
        for path, mask in zip(self.slice_paths, self.mask_paths, strict=True):
            if mask is None:
                raise DataError("no mask for this slice", where=path, expected=f"{path.stem}_mask.tif")
            files.append(mask)
            planes.append(read_tiff(mask, channels=1))
            self.scheme.check(planes[-1], mask)
        return Volume(_slices_to_ras(_stack(planes, files)).astype(np.uint8), np.eye(4), "px")


def _stack(planes: Sequence[np.ndarray], files: Sequence[Path]) -> np.ndarray:
    """Slices on one axis, the third."""
    for plane, file in zip(planes, files, strict=True):
        if plane.shape != planes[0].shape:
            raise DataError(
                f"size {plane.shape[:2]}", where=file, expected=f"{planes[0].shape[:2]}, as {files[0].name}"
            )
    return np.stack(planes, axis=2)


def _slices_to_ras(stack: np.ndarray) -> np.ndarray:
    """(rows, columns, slices) as stored to (X, Y, Z) RAS."""
    return stack.transpose(1, 0, 2)[::-1, ::-1]


def slices_from_ras(volume: np.ndarray) -> np.ndarray:
    """(X, Y, Z) RAS to (rows, columns, slices) as the LGG files store them."""
    return volume[::-1, ::-1].transpose(1, 0, 2)


def read_tiff(path: Path, channels: int | None = None) -> np.ndarray:
    """Reads a TIFF slice: (rows, columns, 3) for `channels=3`, (rows, columns) for 1, as it is for None.

    Raises:
        DataError: absent, damaged, of several pages, or of another number of channels.
    """
    import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it has to say comes as an exception too
    try:
        with tifffile.TiffFile(path) as file:
            page, pages = file.pages[0], len(file.pages)
            if pages > 1 or page.nbytes > MAX_SLICE_BYTES:
                raise ValueError(f"{pages} page(s) of {page.nbytes / 1e6:.3g} MB")
            image = page.asarray()
    except FileNotFoundError:
        raise DataError("no such file", where=path, expected="a TIFF slice") from None
    except Exception as error:  # tifffile raises many kinds on damaged files
        raise DataError(f"unreadable TIFF ({error})", where=path, remedy="copy or download it again") from None
    if image.ndim == 3 and image.shape[2] == 1 and channels == 1:
        image = image[:, :, 0]
    if channels is None or image.shape[2:] == (() if channels == 1 else (channels,)):
        return image
    raise DataError(f"shape {image.shape}", where=path, expected=f"{channels} channel{'s' * (channels > 1)}")


def same_grid(a: np.ndarray, affine_a: np.ndarray, b: np.ndarray, affine_b: np.ndarray) -> bool:
    """Whether two arrays have one shape and, within a thousandth of a millimetre, one affine."""
    return a.shape == b.shape and bool(np.allclose(affine_a, affine_b, atol=AFFINE_TOLERANCE_MM))


def _not_3d(path: Path, shape: tuple[int, ...], expected: str) -> DataError:
    return DataError(f"array of shape {shape}", where=path, expected=expected, remedy="use the data set's own file")
