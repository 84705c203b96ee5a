"""Ways to damage a small LGG or Decathlon cohort; as `damage`, for the faults that only these can have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

from brainseg_utils.datasets import nifti
from brainseg_utils.datasets.cases import SliceCase, read_tiff
from brainseg_utils.datasets.damage import CONTENT, Damage
from brainseg_utils.datasets.faults import Kind
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.files import write_json


def _slice(root: Path) -> tuple[Path, Path]:
    """The middle slice of the first patient, and its mask."""
    case = find_cases(root)[0]
    assert isinstance(case, SliceCase)
    middle = len(case.slice_paths) // 2
    mask = case.mask_paths[middle]
    assert mask is not None
    return case.slice_paths[middle], mask


def _damage(root: Path, kind: Kind, file: Path, done: str) -> Damage:
    return Damage(kind, file.relative_to(root).as_posix(), done)


def remove_mask(root: Path) -> Damage:
    """Deletes the mask of one slice."""
    image, mask = _slice(root)
    mask.unlink()
    return _damage(root, Kind.NO_MASK, image, f"{mask.name} deleted")


def remove_slice(root: Path) -> Damage:
    """Deletes one slice and leaves its mask."""
    image, mask = _slice(root)
    image.unlink()
    return _damage(root, Kind.NO_SLICE, mask, f"{image.name} deleted")


def remove_both(root: Path) -> Damage:
    """Deletes a slice with its mask."""
    image, mask = _slice(root)
    image.unlink()
    mask.unlink()
    return _damage(root, Kind.GAP, image, "slice and mask deleted")


def shrink_mask(root: Path) -> Damage:
    """Takes every second row and column of a mask."""
    mask = _slice(root)[1]
    tifffile.imwrite(mask, np.ascontiguousarray(read_tiff(mask)[::2, ::2]))
    return _damage(root, Kind.MASK_SIZE, mask, "stored at half size")


def blur_mask(root: Path) -> Damage:
    """Writes a grey value into a mask, as resizing with interpolation does."""
    image, mask = _slice(root)
    pixels = read_tiff(mask).copy()
    pixels[tuple(np.argwhere(read_tiff(image).any(axis=2))[0])] = 128
    tifffile.imwrite(mask, pixels)
    return _damage(root, Kind.NOT_BINARY, mask, "one pixel set to 128")


def mark_background(root: Path) -> Damage:
    """Labels a pixel where the slice is black."""
    image, mask = _slice(root)
    pixels = read_tiff(mask).copy()
    pixels[tuple(np.argwhere(~read_tiff(image).any(axis=2))[0])] = 255
    tifffile.imwrite(mask, pixels)
    return _damage(root, Kind.OUTSIDE_BRAIN, mask, "one background pixel labelled")


def crop_slice(root: Path) -> Damage:
    """Takes one row off a slice and its mask."""
    image, mask = _slice(root)
    for path in (image, mask):
        tifffile.imwrite(path, np.ascontiguousarray(read_tiff(path)[:-1]))
    return _damage(root, Kind.SLICE_SIZE, image, "one row removed, from the mask too")


def drop_channels(root: Path) -> Damage:
    """Stores a slice as grey, without its other two modalities."""
    image = _slice(root)[0]
    tifffile.imwrite(image, np.ascontiguousarray(read_tiff(image)[:, :, 1]))
    return _damage(root, Kind.SLICE_FORMAT, image, "stored with one channel")


def widen_type(root: Path) -> Damage:
    """Stores a slice with 16 bits."""
    image = _slice(root)[0]
    tifffile.imwrite(image, read_tiff(image).astype(np.uint16) * 257, photometric="rgb")
    return _damage(root, Kind.SLICE_FORMAT, image, "stored with 16 bits")


def cut_tiff(root: Path) -> Damage:
    """Cuts a slice in the middle."""
    image = _slice(root)[0]
    content = image.read_bytes()
    image.write_bytes(content[: len(content) // 2])
    return _damage(root, Kind.UNREADABLE_TIFF, image, "second half cut off")


def pad_number(root: Path) -> Damage:
    """Pads a slice number with zeros; its mask keeps its name."""
    image = _slice(root)[0]
    stem, number = image.stem.rsplit("_", 1)
    renamed = image.with_name(f"{stem}_{int(number):03d}.tif")
    image.rename(renamed)
    return _damage(root, Kind.MISNAMED, renamed, f"was {image.name}")


def repeat_slice(root: Path) -> Damage:
    """Copies a slice under its number padded with zeros."""
    image = _slice(root)[0]
    stem, number = image.stem.rsplit("_", 1)
    copy = image.with_name(f"{stem}_{int(number):03d}.tif")
    copy.write_bytes(image.read_bytes())
    return _damage(root, Kind.SLICE_TWICE, copy, f"copied from {image.name}")


def copy_slices(root: Path) -> Damage:
    """Copies the slices of the first patient over those of the second, which has as many."""
    first, second = find_cases(root)[:2]
    assert isinstance(first, SliceCase) and isinstance(second, SliceCase)
    for sources, targets in ((first.slice_paths, second.slice_paths), (first.mask_paths, second.mask_paths)):
        for source, target in zip(sources, targets, strict=True):
            if source and target:
                target.write_bytes(source.read_bytes())
    return _damage(root, Kind.SAME_IMAGE, second.folder, f"now the same patient as {first.id}")


def blank_slices(root: Path) -> Damage:
    """Blackens every slice and mask of the first patient."""
    case = find_cases(root)[0]
    assert isinstance(case, SliceCase)
    for path in (*case.slice_paths, *(mask for mask in case.mask_paths if mask)):
        tifffile.imwrite(path, np.zeros_like(read_tiff(path)))
    return _damage(root, Kind.CONSTANT, case.folder, "every pixel set to 0")


def hide_slice(root: Path) -> Damage:
    """Adds the kind of file that macOS leaves on foreign disks."""
    image = _slice(root)[0]
    path = image.with_name(f"._{image.name}")
    path.write_bytes(b"\0\5\x16\7")
    return _damage(root, Kind.HIDDEN, path, "added")


def remove_listed_file(root: Path) -> Damage:
    """Deletes an image that `dataset.json` names."""
    path = next(iter(find_cases(root)[0].paths.values()))
    path.unlink()
    return _damage(root, Kind.ABSENT, path, "deleted")


def forget_entry(root: Path) -> Damage:
    """Takes a case out of `dataset.json` and removes its mask, so that one file is left that nothing names."""
    case = find_cases(root)[0]
    path = next(iter(case.paths.values()))
    index = _index(root)
    index["training"] = [entry for entry in index["training"] if case.id not in entry["image"]]
    write_json(_index_path(root), index)
    assert case.label_path is not None
    case.label_path.unlink()
    return _damage(root, Kind.NOT_LISTED, path, "taken out of dataset.json")


def break_entry(root: Path) -> Damage:
    """Adds an entry to `dataset.json` that is a number."""
    index = _index(root)
    index["training"].append(7)
    write_json(_index_path(root), index)
    return _damage(root, Kind.INDEX, _index_path(root), "entry 7 added")


def repeat_entry(root: Path) -> Damage:
    """Lists a test image twice."""
    path = next(iter(find_cases(root)[0].paths.values()))
    index = _index(root)
    index["test"].append(f"./imagesTr/{path.name}")
    write_json(_index_path(root), index)
    return _damage(root, Kind.DUPLICATE_ID, path, "listed twice")


def rename_channel(root: Path) -> Damage:
    """Gives two channels the same name."""
    index = _index(root)
    index["modality"]["0"] = index["modality"]["1"]
    write_json(_index_path(root), index)
    return _damage(root, Kind.INDEX, _index_path(root), "channel 0 named as channel 1")


def drop_channel_axis(root: Path) -> Damage:
    """Stores a 4D image without its other modalities."""
    path = next(iter(find_cases(root)[0].paths.values()))
    file = nifti.read(path)
    nifti.write(path, file.data[..., 0], file.affine)
    return _damage(root, Kind.DIMENSIONS, path, "stored as 3D")


def _index_path(root: Path) -> Path:
    return next(iter(sorted(root.rglob("dataset.json"))))


def _index(root: Path) -> dict:
    return json.loads(_index_path(root).read_text(encoding="utf-8"))


LGG: tuple[Callable[[Path], Damage], ...] = (
    remove_mask,
    remove_slice,
    remove_both,
    shrink_mask,
    blur_mask,
    mark_background,
    crop_slice,
    drop_channels,
    widen_type,
    cut_tiff,
    pad_number,
    repeat_slice,
    copy_slices,
    blank_slices,
    hide_slice,
)
DECATHLON: tuple[Callable[[Path], Damage], ...] = (
    *CONTENT,
    remove_listed_file,
    forget_entry,
    break_entry,
    repeat_entry,
    rename_channel,
    drop_channel_axis,
)
