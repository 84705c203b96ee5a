"""Patches of volumes to train on, whole volumes to validate on.

Everything that is random about sample number n comes from (seed, n), so that a run that is resumed, or has another
number of workers, sees the same samples (`pipeline.loaders`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from brainseg_utils.datasets.labels import LabelScheme, get_scheme
from brainseg_utils.pipeline.entry import Entry
from brainseg_utils.pipeline.loaders import Patches
from brainseg_utils.pipeline.reading import read_patch
from brainseg_utils.pipeline.registry import late_part
from brainseg_utils.pipeline.transforms import Item, region_classes
from brainseg_utils.seeds import stream
from brainseg_utils.training.data import Batch

LARGEST = 6_000_000  # voxels that go through a network in one pass; more are cut into overlapping windows
OVERLAP = 0.5
ABSENT = ("RC",)  # regions that a scheme may lack: before treatment there is no cavity, and the channel is empty


class Volumes:
    """Patches of cached cases, with targets as the network learns them.

    Args:
        patches: of class numbers, or of region channels where the pipeline has made them.
        regions: channels of the target; names of classes where they are exclusive.
        exclusive: the target is class numbers (N, 1, X, Y, Z), not region channels (N, R, X, Y, Z).
        dropout: share of the samples that lose modalities.
    """

    def __init__(self, patches: Patches, regions: Sequence[str], exclusive: bool, dropout: float) -> None:
        self.patches, self.regions, self.exclusive, self.dropout = patches, tuple(regions), exclusive, dropout
        self.schemes = {entry.case_id: entry.scheme for entry in patches.entries}

    def __len__(self) -> int:
        return len(self.patches)

    def batch(self, numbers: Sequence[int], channels_last: bool = False) -> Batch:
        """ "image" (N, C, X, Y, Z), "label" (N, L, X, Y, Z) uint8 and "case" of these samples."""
        found = self.patches.batch(numbers, channels_last)
        for image, number in zip(found["image"], numbers, strict=True):
            lose_modalities(image, self.dropout, stream(self.patches.seed, "modalities", number))
        label = found["label"]
        if label.shape[1] == 1:
            schemes = [get_scheme(self.schemes[case]) for case in found["case"]]
            parts = [target(part, s, self.regions, self.exclusive) for part, s in zip(label, schemes, strict=True)]
            label = torch.stack(parts)
        return {"image": found["image"], "label": label, "case": found["case"]}


class Whole:
    """Validation batches of one whole volume each, read again whenever it is iterated.

    Args:
        entries: cached cases.
        pipeline: key of `registry.PIPELINES`, whose steps after the random ones are applied here.
        settings: of the pipeline.
        modalities: in channel order.
        regions, exclusive: as `Volumes`.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        pipeline: str,
        settings: dict,
        modalities: Sequence[str],
        regions: Sequence[str],
        exclusive: bool,
    ) -> None:
        self.entries, self.modalities = tuple(entries), tuple(modalities)
        self.regions, self.exclusive = tuple(regions), exclusive
        self.rest = late_part(pipeline, **settings)
        self.cropped = pipeline == "course"  # to the brain; the reports' networks see the whole grid

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Batch]:
        for entry in self.entries:
            yield self.batch(entry)

    def batch(self, entry: Entry) -> Batch:
        """One case: "image" (1, C, X, Y, Z), "label" (1, L, X, Y, Z), "case"."""
        channels = [entry.modalities.index(name) for name in self.modalities]
        box = entry.box
        start, size = ((0, 0, 0), box.shape) if self.cropped else (tuple(-a for a in box.start), box.full)
        image, label = read_patch(entry, start, size, channels=channels)
        item: Item = {"image": image, "label": label, "case": entry.case_id, "scheme": entry.scheme}
        item = self.rest(item)
        image, label = (torch.as_tensor(np.asarray(item[key])) for key in ("image", "label"))
        if label.shape[0] == 1:
            label = target(label, get_scheme(entry.scheme), self.regions, self.exclusive)
        return {"image": image[None], "label": label[None].to(torch.uint8), "case": [entry.case_id]}


def target(numbers: Tensor, scheme: LabelScheme, regions: Sequence[str], exclusive: bool) -> Tensor:
    """What a network learns from class numbers.

    Args:
        numbers: (1, X, Y, Z) uint8, as `transforms.to_classes`.
        scheme: of the case; a scheme without RC gives it an empty channel.
        regions: names of the channels.
        exclusive: class number k stands for the k-th name instead.

    Returns:
        uint8 (1, X, Y, Z) numbers, or (R, X, Y, Z) channels of 0 and 1.

    Raises:
        SettingError: the scheme has no such region.

    Example:
        >>> row = torch.tensor([0, 1, 2, 3], dtype=torch.uint8).reshape(1, 1, 1, 4)
        >>> target(row, get_scheme("brats2021"), ("ET", "TC", "WT", "RC"), False).flatten(1).tolist()
        [[0, 0, 0, 1], [0, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 0]]
    """
    out = torch.zeros((1 if exclusive else len(regions), *numbers.shape[1:]), dtype=torch.uint8)
    for place, region in enumerate(regions):
        if region in ABSENT and region not in scheme.regions:
            continue
        for number in region_classes(scheme, region):
            here = numbers[0] == number
            if exclusive:
                out[0].masked_fill_(here, place + 1)
            else:
                out[place] |= here
    return out


def lose_modalities(image: Tensor, share: float, rng: np.random.Generator) -> None:
    """Sets some modalities of an image (C, X, Y, Z) to 0, in place, as if they had not been acquired.

    One is left at least; one is lost more often than two, and two than three.

    Args:
        image: changed.
        share: how often that happens.
        rng: of the sample.
    """
    count = len(image)
    if count < 2 or rng.random() >= share:
        return
    weights = 0.5 ** np.arange(1, count)
    lost = 1 + int(rng.choice(count - 1, p=weights / weights.sum()))
    image[rng.permutation(count)[:lost].tolist()] = 0


def one_pass_or_windows(window: Sequence[int]):
    """How a volume of any size is predicted in validation.

    Args:
        window: X, Y, Z of a window where one pass would take too much memory.

    Returns:
        Network and image (1, C, X, Y, Z) to logits of the image's size: one pass up to `LARGEST` voxels, above that
        windows that overlap by half, blended by a Gaussian.
    """

    def predict(network: nn.Module, image: Tensor) -> Tensor:
        if image[0, 0].numel() <= LARGEST:
            return network(image)
        return sliding_window_inference(image, tuple(window), 1, network, OVERLAP, mode="gaussian")  # type: ignore

    return predict
