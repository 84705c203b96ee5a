"""One cached case in one file, from which a patch is read without reading the rest.

The file is a safetensors file: "image" int16 (C, X, Y, Z), "label" uint8 (L, X, Y, Z) where there is one, "points"
uint16 (N, 4): class or region channel, X, Y, Z of tumour voxels to centre patches on. Its header carries the rest.

int16 and not something smaller, by measurement (a 128^3 patch of four modalities to float32, one thread): int16 3.7 ms,
uint8 3.4 ms, float16 4.0 ms, float32 3.9 ms; the time goes into writing the result. The rounding error of int16 is at
most 1/65534 of a channel's largest magnitude (under .0001 sd of a clipped z-score); float16's is .001 and uint8's .01.
Whole-number images that fit are stored as they are.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from brainseg_utils.errors import DataError
from brainseg_utils.files import atomic
from brainseg_utils.pipeline.arrays import Box, bounding_box

MOST = 32767  # largest int16
POINTS = 4096  # tumour voxels that are kept of each class to centre patches on
MAPPED = 128  # files that stay mapped at once: each holds a file descriptor
TYPES = {"I16": np.int16, "U8": np.uint8, "U16": np.uint16}


@dataclass(frozen=True)
class Entry:
    """A cached case.

    Attributes:
        path: its file.
        key: what its content was made from (`cache.Cache.key`).
        case_id: the case.
        patient: the patient.
        scheme: name of the label scheme.
        modalities: channel order.
        box: the stored part in the grid that the cached steps gave, everything outside being 0. Where the steps only
            crop (course, R0), that grid is the scan's own and `box.paste` brings a mask back to it.
        affine: (4, 4) of that full grid, mm.
        scale: per channel, the image is the stored integer times this.
        offsets: byte range, type and shape of each array.
    """

    path: Path
    key: str
    case_id: str
    patient: str
    scheme: str
    modalities: tuple[str, ...]
    box: Box
    affine: np.ndarray
    scale: tuple[float, ...]
    offsets: Mapping[str, tuple[int, int, str, tuple[int, ...]]]
    sums: Mapping[str, int]
    stamp: int

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return max(end for _, end, _, _ in self.offsets.values())

    @property
    def labelled(self) -> bool:
        """Whether there is a label."""
        return "label" in self.offsets

    @property
    def error(self) -> float:
        """Largest rounding error of the image, in its own unit; 0 where integers are stored as they are."""
        return max((s / 2 for s in self.scale if s != 1.0), default=0.0)

    def array(self, name: str) -> np.ndarray:
        """A stored array ("image", "label", "points"), mapped and not read."""
        begin, end, kind, shape = self.offsets[name]
        return _mapped(self.path, self.stamp)[begin:end].view(TYPES[kind]).reshape(shape)

    @cached_property
    def points(self) -> list[np.ndarray]:
        """Tumour voxels (N, 3) of each class that is present, relative to `box`."""
        if not self.labelled:
            return []
        table = np.array(self.array("points"))
        return [table[table[:, 0] == kind, 1:].astype(int) for kind in np.unique(table[:, 0])]

    def image(self) -> np.ndarray:
        """The whole stored image, float32 (C, X, Y, Z); `box.paste` gives the full grid."""
        return self.array("image") * np.asarray(self.scale, np.float32)[:, None, None, None]

    def label(self) -> np.ndarray:
        """The whole stored label, uint8 (L, X, Y, Z).

        Raises:
            DataError: the case has none.
        """
        if not self.labelled:
            raise DataError("no label", where=f"cached case {self.case_id}", remedy="use a labelled case")
        return np.array(self.array("label"))

    def sound(self) -> bool:
        """Whether every stored byte is as it was written (reads the whole file)."""
        try:
            return all(_sum(self.array(name)) == self.sums[name] for name in self.offsets)
        except (OSError, ValueError):
            return False

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "points"}


def _sum(array: np.ndarray) -> int:
    return zlib.crc32(array.reshape(-1).view(np.uint8).data)


@lru_cache(maxsize=MAPPED)
def _mapped(path: Path, stamp: int) -> np.ndarray:
    """A file's bytes; `stamp` makes a file that was replaced another one.

    Mapped copy-on-write: nothing writes to them, but PyTorch warns of arrays that cannot be written.
    """
    return np.asarray(np.memmap(path, np.uint8, "c"))


def quantise(image: np.ndarray) -> tuple[np.ndarray, tuple[float, ...]]:
    """A float image (C, X, Y, Z) as int16 and the factor of each channel that brings it back.

    Example:
        >>> stored, scale = quantise(np.array([[[[0.0, 1.5, -3.0]]]], np.float32))
        >>> stored.ravel().tolist(), round(scale[0] * 32767, 6)
        ([0, 16384, -32767], 3.0)
    """
    stored, scale = np.empty(image.shape, np.int16), []
    for channel, out in zip(image, stored, strict=True):
        most = float(np.abs(channel).max(initial=0))
        whole = most <= MOST and not (channel % 1).any()
        factor = 1.0 if whole else most / MOST
        np.rint(channel / np.float32(factor), out=out, casting="unsafe")
        scale.append(float(np.float32(factor)))
    return stored, tuple(scale)


def tumour_points(label: np.ndarray) -> np.ndarray:
    """Voxels to centre patches on: uint16 (N, 4) of class or channel, X, Y, Z; at most `POINTS` of each, spread evenly.

    Args:
        label: (1, X, Y, Z) class numbers, or (R, X, Y, Z) region channels.
    """
    masks = [(n, label[0] == n) for n in np.unique(label) if n] if len(label) == 1 else list(enumerate(label > 0))
    rows = []
    for number, mask in masks:
        places = np.flatnonzero(mask)
        if len(places) > POINTS:
            places = places[np.linspace(0, len(places) - 1, POINTS).astype(int)]
        xyz = np.stack(np.unravel_index(places, mask.shape), axis=1)
        rows.append(np.column_stack([np.full(len(xyz), number), xyz]))
    return np.concatenate(rows).astype(np.uint16) if rows else np.empty((0, 4), np.uint16)


def write(path: Path, item: Mapping, key: str, patient: str, modalities: Sequence[str]) -> None:
    """Writes an item as a cached case, atomically, cropped to what is not 0.

    Args:
        path: the file.
        item: "image" (C, X, Y, Z), "label" (L, X, Y, Z) or none, "case", "scheme", and "box" where steps cropped.
        key: kept in the header.
        patient: kept in the header.
        modalities: kept in the header.
    """
    from safetensors.numpy import save_file

    image = np.asarray(item["image"])
    label = np.asarray(item["label"]) if "label" in item else None
    there = (image != 0).any(axis=0)
    if label is not None:
        there |= label.any(axis=0)
    inside = bounding_box(there)
    stored, scale = quantise(inside.crop(image))
    tensors = {"image": stored}
    if label is not None:
        tensors["label"] = np.ascontiguousarray(inside.crop(label))
        tensors["points"] = tumour_points(tensors["label"])
    box, affine = inside, np.asarray(item["image"].affine, float).copy()
    if "box" in item and item["box"].shape == inside.full:  # not where a resize followed the crop (R1)
        box = item["box"].inner(inside)
        affine[:3, 3] -= affine[:3, :3] @ np.array(item["box"].start)  # the crop had moved the origin to the box
    head = {
        "key": key,
        "case_id": item["case"],
        "patient": patient,
        "scheme": item["scheme"],
        "modalities": list(modalities),
        "box": [box.start, box.shape, box.full],
        "affine": affine.tolist(),
        "scale": scale,
        "sums": {name: _sum(array) for name, array in tensors.items()},
    }
    with atomic(path) as temporary:
        save_file(tensors, temporary, {"brainseg": json.dumps(head)})


def read(path: Path) -> Entry | None:
    """The cached case in a file; None if the file is absent, cut off or not one of ours. Voxels are not read."""
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno())
            length = int.from_bytes(stream.read(8), "little")
            if length > size.st_size:
                return None
            header = json.loads(stream.read(length))
        head = json.loads(header.pop("__metadata__")["brainseg"])
        start = 8 + length
        offsets = {}
        for name, tensor in header.items():
            begin, end = tensor["data_offsets"]
            offsets[name] = (start + begin, start + end, tensor["dtype"], tuple(tensor["shape"]))
        if max(end for _, end, _, _ in offsets.values()) != size.st_size:
            return None
        return Entry(
            path=path,
            key=head["key"],
            case_id=head["case_id"],
            patient=head["patient"],
            scheme=head["scheme"],
            modalities=tuple(head["modalities"]),
            box=Box(*(tuple(numbers) for numbers in head["box"])),
            affine=np.array(head["affine"]),
            scale=tuple(head["scale"]),
            offsets=offsets,
            sums=head["sums"],
            stamp=size.st_mtime_ns,
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
