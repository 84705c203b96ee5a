"""Dictionary transforms that MONAI has not, and how a case becomes the dictionary that they work on.

An item is what MONAI's dictionary transforms expect: "image" (C, X, Y, Z) float32 and, for labelled cases, "label"
(L, X, Y, Z) uint8, both `MetaTensor`s in RAS with their affine; "scheme" names the label scheme and "case" the case.
Freshly loaded, "label" has one channel with the class numbers of `classes`; `ToRegionsd` turns it into overlapping
region channels. Transforms of the label do nothing on an item without one, so the same steps serve inference.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import MapTransform, SpatialCrop

from brainseg_utils.datasets.cases import Case, SliceCase
from brainseg_utils.datasets.labels import TISSUE_NAMES, LabelScheme, get_scheme
from brainseg_utils.errors import DataError, SettingError
from brainseg_utils.pipeline import arrays

Item = dict[Hashable, Any]
KEYS = ("image", "label")


@dataclass(frozen=True)
class Step:
    """One named stage of a pipeline.

    Attributes:
        name: what it does, for captions.
        kind: "fixed" (same result every time), or random: "patch", "flip", "random".
        transform: item to item.
        mistake: what is wrong with it and why, where a report's mistake is kept.
        unstated: the report does not give its strength; the course chose one.
    """

    name: str
    kind: str
    transform: Callable[..., Any]
    mistake: str = ""
    unstated: bool = False


def classes(scheme: LabelScheme) -> tuple[str, ...]:
    """The tissues that class numbers 1, 2, ... stand for: one order for all data sets, whatever they write on disk.

    Example:
        >>> classes(get_scheme("brats2021")), classes(get_scheme("msd"))
        (('NETC', 'SNFH', 'ET'), ('NETC', 'SNFH', 'ET'))
    """
    return tuple(tissue for tissue in TISSUE_NAMES if tissue in scheme.tissues.values())


def to_classes(mask: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """Labels of a scheme to class numbers (uint8): 0 background, 1 NETC, 2 SNFH, 3 ET, 4 RC where the scheme has it.

    Example:
        >>> to_classes(np.array([0, 1, 2, 4]), get_scheme("brats2021")).tolist()
        [0, 1, 2, 3]
    """
    table = np.zeros(256, np.uint8)
    for number, tissue in enumerate(classes(scheme), 1):
        table[scheme.value(tissue)] = number
    return table[mask]


def from_classes(numbers: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """Class numbers back to the scheme's own integers; undoes `to_classes`."""
    return np.array([0, *(scheme.value(tissue) for tissue in classes(scheme))], np.uint8)[numbers]


def region_classes(scheme: LabelScheme, region: str) -> tuple[int, ...]:
    """The class numbers that make up a region.

    Raises:
        SettingError: the scheme has no such region.

    Example:
        >>> region_classes(get_scheme("msd"), "TC")
        (1, 3)
    """
    values = scheme.values(region)
    return tuple(n for n, tissue in enumerate(classes(scheme), 1) if scheme.value(tissue) in values)


def to_regions(numbers: torch.Tensor, scheme: LabelScheme, regions: Sequence[str]) -> torch.Tensor:
    """(1, ...) class numbers to (len(regions), ...) uint8 channels of 0 and 1, which may overlap."""
    out = torch.zeros((len(regions), *numbers.shape[1:]), dtype=torch.uint8)
    for channel, region in zip(out, regions, strict=True):
        for number in region_classes(scheme, region):
            channel |= numbers[0] == number
    return out


def load_case(case: Case, modalities: Sequence[str] | None = None) -> Item:
    """Reads a case into an item.

    Args:
        case: any layout's case.
        modalities: canonical names, in the wanted order; default: all that the layout has.

    Raises:
        DataError: a file is missing or damaged.
        LabelError: the mask has values that are not its scheme's.
    """
    image = case.images(modalities)
    affine = torch.as_tensor(image.affine)
    item: Item = {"case": case.id, "scheme": case.scheme.name}
    item["image"] = MetaTensor(torch.from_numpy(np.ascontiguousarray(image.data)), affine=affine)
    if case.label_path is not None or (isinstance(case, SliceCase) and all(case.mask_paths)):
        label = to_classes(case.label().data, case.scheme)
        if label.shape != image.data.shape[1:]:
            raise DataError(
                f"mask of shape {label.shape}", where=f"case {case.id}", expected=f"the images' {image.data.shape[1:]}"
            )
        item["label"] = MetaTensor(torch.from_numpy(np.ascontiguousarray(label[None])), affine=affine)
    return item


def load_slice(case: SliceCase, number: int) -> Item:
    """Reads one slice of an LGG patient, as its file stores it: "image" (3, rows, columns), "label" (1, rows, columns).

    Args:
        case: a patient of layout lgg.
        number: index into `case.slice_paths`, from 0.
    """
    from brainseg_utils.datasets.cases import read_tiff

    mask = case.mask_paths[number]
    image = np.moveaxis(read_tiff(case.slice_paths[number], channels=3), -1, 0).astype(np.float32)
    item: Item = {"case": case.id, "scheme": case.scheme.name, "image": MetaTensor(torch.from_numpy(image))}
    if mask is not None:
        values = read_tiff(mask, channels=1)
        case.scheme.check(values, mask)
        item["label"] = MetaTensor(torch.from_numpy(to_classes(values, case.scheme)[None]))
    return item


def like(tensor: Any, array: np.ndarray | torch.Tensor) -> MetaTensor:
    """An array of the same grid as `tensor`, with its affine and meta data."""
    data = torch.from_numpy(np.ascontiguousarray(array)) if isinstance(array, np.ndarray) else array
    return MetaTensor(data, meta=dict(tensor.meta)) if isinstance(tensor, MetaTensor) else MetaTensor(data)


class ToRegionsd(MapTransform):
    """Class numbers to region channels, by the item's own label scheme.

    MONAI's `ConvertToMultiChannelBasedOnBratsClassesd` takes 4 for ET whatever the data set, which loses ET in
    every BraTS file since 2023 (there it is 3) and calls the 2024 resection cavity ET.

    Args:
        regions: names of the scheme's regions, in channel order.

    Raises:
        SettingError: the item's scheme has no such region.
    """

    def __init__(self, regions: Sequence[str]) -> None:
        super().__init__("label", allow_missing_keys=True)
        self.regions = tuple(regions)

    def __call__(self, data: Mapping[Hashable, Any]) -> Item:
        """Replaces "label" (1, X, Y, Z) by (R, X, Y, Z)."""
        item = dict(data)
        if "label" in item:
            label = item["label"]
            plain = label.as_tensor() if isinstance(label, MetaTensor) else label
            item["label"] = like(label, to_regions(plain, get_scheme(item["scheme"]), self.regions))
        return item


class Imaged(MapTransform):
    """Applies a NumPy function to "image".

    Args:
        function: (C, X, Y, Z) float32 to an array of the same shape.
    """

    def __init__(self, function: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__("image")
        self.function = function

    def __call__(self, data: Mapping[Hashable, Any]) -> Item:
        """Replaces "image"."""
        item = dict(data)
        item["image"] = like(item["image"], self.function(np.asarray(item["image"])))
        return item


class CropBoxd(MapTransform):
    """Crops image and label to a box and keeps the box in the item, so that a mask can be pasted back.

    Args:
        find: item to the `arrays.Box` to keep. Boxes of successive crops are combined in item["box"].
    """

    def __init__(self, find: Callable[[Item], arrays.Box]) -> None:
        super().__init__(KEYS, allow_missing_keys=True)
        self.find = find

    def __call__(self, data: Mapping[Hashable, Any]) -> Item:
        """Crops; adds "box"."""
        item = dict(data)
        box = self.find(item)
        crop = SpatialCrop(roi_start=box.start, roi_end=box.stop)
        for key in self.key_iterator(item):
            item[key] = crop(item[key])
        item["box"] = item["box"].inner(box) if "box" in item else box
        return item


def brain_box(item: Item) -> arrays.Box:
    """The box around the brain, for `CropBoxd`: known at test time as well."""
    return arrays.bounding_box(arrays.brain_mask(np.asarray(item["image"])))


class TumourBox:
    """The box around the truth and a margin, for `CropBoxd`: R1's leak.

    Args:
        margin: voxels.
    """

    def __init__(self, margin: int) -> None:
        self.margin = margin

    def __call__(self, item: Item) -> arrays.Box:
        """The box.

        Raises:
            DataError: the item has no label: at test time there is no truth to crop around.
        """
        if "label" not in item:
            raise DataError(
                "no truth to crop around",
                where=f"case {item.get('case', '?')}",
                expected="a labelled case",
                remedy="crop to the brain instead, which is known at test time as well",
            )
        return arrays.bounding_box(np.any(np.asarray(item["label"]), axis=0), self.margin)


class BorderBox:
    """A box that leaves off a fixed number of voxels from both ends of each axis, for `CropBoxd` (R4).

    Args:
        start: voxels left off at the start.
        end: voxels left off at the end.
    """

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end

    def __call__(self, item: Item) -> arrays.Box:
        """The box.

        Raises:
            SettingError: nothing would be left.
        """
        full = tuple(int(n) for n in item["image"].shape[1:])
        shape = tuple(n - self.start - self.end for n in full)
        if min(shape) < 1:
            raise SettingError(f"cropping {self.start} + {self.end} voxels off {full}", expected="a larger image")
        return arrays.Box((self.start,) * len(full), shape, full)
