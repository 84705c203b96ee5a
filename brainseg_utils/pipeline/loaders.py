"""Batches of random patches, read from the cache.

Sample number n is the same whoever draws it: patch, flips and augmentation come from (seed, n) alone, and epoch e of a
data set of length L holds the numbers e L to (e + 1) L - 1. So a run that is resumed, or has another number of
workers, sees the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from torch.utils.data import DataLoader, Dataset, Sampler

from brainseg_utils.datasets.labels import get_scheme
from brainseg_utils.errors import SettingError, unknown
from brainseg_utils.parallel import one_thread
from brainseg_utils.pipeline.course import draw_start
from brainseg_utils.pipeline.entry import Entry
from brainseg_utils.pipeline.reading import empty, read_patch
from brainseg_utils.pipeline.transforms import to_regions
from brainseg_utils.seeds import stream

WITHIN = ("brain", "scan")
Batch = dict[str, Any]


class Patches(Dataset):
    """Random patches of cached cases; with `size=None` whole scans.

    A sample is a dictionary: "image" (C, X, Y, Z) float32; "label", (1, X, Y, Z) uint8 class numbers or, with
    `regions`, (R, X, Y, Z) uint8 channels of 0 and 1; "case", the id; "start", the patch's first voxel in the stored
    box, before flips.

    Args:
        entries: of `Cache.entries`.
        size: X, Y, Z of the patch; None: the full grid of each case (they must then have one shape to share a batch).
        seed: of everything that is random.
        foreground: probability that a patch must hold tumour, the class drawn first.
        flips: axes that are turned round with probability .5.
        augment: more random transforms, such as `registry.live_part("course")`.
        regions: region channels instead of class numbers.
        modalities: which, in the wanted order; default: all that are cached.
        samples: patches of each case an epoch.
        within: "brain", patches in the stored box; "scan", anywhere in the scan's own grid, background included (R0).

    Raises:
        SettingError: no entries, or a modality, region or `within` that is not there.

    Example:
        >>> Patches([], (64, 64, 64))
        Traceback (most recent call last):
        ...
        brainseg_utils.errors.SettingError: no cached cases; expected entries of Cache.entries
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        size: Sequence[int] | None,
        *,
        seed: int = 0,
        foreground: float = 0.5,
        flips: Sequence[int] = (0, 1, 2),
        augment: Compose | None = None,
        regions: Sequence[str] | None = None,
        modalities: Sequence[str] | None = None,
        samples: int = 1,
        within: str = "brain",
    ) -> None:
        if not entries:
            raise SettingError("no cached cases", expected="entries of Cache.entries")
        if within not in WITHIN:
            raise unknown("value of within", within, WITHIN)
        self.entries, self.seed, self.foreground = tuple(entries), seed, foreground
        self.size: tuple[int, ...] | None = tuple(size) if size is not None else None
        self.flips, self.augment, self.samples, self.within = tuple(flips), augment, samples, within
        self.regions = regions and tuple(regions)
        self.modalities = tuple(modalities or entries[0].modalities)
        self.channels = [_channels(entry, self.modalities) for entry in self.entries]
        if self.regions:
            for scheme in {entry.scheme for entry in self.entries}:
                for region in self.regions:
                    get_scheme(scheme).values(region)

    def __len__(self) -> int:
        return len(self.entries) * self.samples

    def __getitem__(self, number: int) -> Batch:
        """Sample `number`; numbers from `len(self)` on are those of later epochs."""
        return self._sample(number, None)

    def batch(self, numbers: Sequence[int], channels_last: bool = False) -> Batch:
        """Several samples as one batch, written straight into its memory.

        Args:
            numbers: of the samples.
            channels_last: lay the images out as `torch.channels_last_3d`, which makes 3D convolutions faster on a CPU.

        Returns:
            "image" (N, C, X, Y, Z), "label" (N, L, X, Y, Z) if all cases have one, "case" and "start" as lists.
        """
        sizes = {self.size or self._entry(n)[1].box.full for n in numbers}
        if len(sizes) > 1:
            raise SettingError(
                f"scans of shapes {sorted(map(tuple, sizes))} in one batch", remedy="give a patch size, or batch 1"
            )
        images = empty((len(numbers), len(self.modalities), *sizes.pop()), channels_last)
        samples = [self._sample(n, out) for n, out in zip(numbers, images, strict=True)]
        if self.augment is not None:
            images = _stacked(images, [s["image"] for s in samples])
        batch: Batch = {"image": images, "case": [s["case"] for s in samples], "start": [s["start"] for s in samples]}
        if all("label" in s for s in samples):
            batch["label"] = torch.stack([s["label"] for s in samples])
        return batch

    def _entry(self, number: int) -> tuple[int, Entry]:
        epoch, place = divmod(number, len(self))
        index = int(_order(self.seed, epoch, len(self))[place]) // self.samples
        return index, self.entries[index]

    def _sample(self, number: int, out: torch.Tensor | None) -> Batch:
        index, entry = self._entry(number)
        rng = stream(self.seed, "patch", number)
        size, start = self._place(entry, rng)
        flips = [axis in self.flips and bool(rng.random() < 0.5) for axis in range(3)]
        image, label = read_patch(entry, start, size, flips, self.channels[index], out)
        item: Batch = {"image": image, "case": entry.case_id, "start": start}
        if label is not None:
            scheme = get_scheme(entry.scheme)
            item["label"] = to_regions(label, scheme, self.regions) if self.regions and len(label) == 1 else label
        if self.augment is not None:
            self.augment.set_random_state(seed=int(rng.integers(2**32)))
            item = {**self.augment({**item, "scheme": entry.scheme})}
            item = {k: v.as_tensor() if hasattr(v, "as_tensor") else v for k, v in item.items() if k in _KEPT}
        return item

    def _place(self, entry: Entry, rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if self.size is None:
            return entry.box.full, tuple(-a for a in entry.box.start)
        wants_tumour = rng.random() < self.foreground
        kinds = entry.points if wants_tumour else []
        point = None
        if kinds:
            voxels = kinds[rng.integers(len(kinds))]
            point = voxels[rng.integers(len(voxels))]
        if self.within == "brain":
            return self.size, draw_start(rng, entry.box.shape, self.size, point)
        point = None if point is None else point + np.array(entry.box.start)
        start = draw_start(rng, entry.box.full, self.size, point)
        return self.size, tuple(a - b for a, b in zip(start, entry.box.start, strict=True))


_KEPT = ("image", "label", "case", "start")


def _channels(entry: Entry, modalities: Sequence[str]) -> list[int]:
    for name in modalities:
        if name not in entry.modalities:
            raise unknown("cached modality", name, entry.modalities, where=f"case {entry.case_id}")
    return [entry.modalities.index(name) for name in modalities]


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, length: int) -> np.ndarray:
    return stream(seed, "order", epoch).permutation(length)


def _stacked(images: torch.Tensor, parts: list[torch.Tensor]) -> torch.Tensor:
    if parts[0].shape != images.shape[1:]:
        return torch.stack(parts)
    for target, part in zip(images, parts, strict=True):
        if target.data_ptr() != part.data_ptr():
            target.copy_(part)
    return images


class Epochs(Sampler[int]):
    """Numbers the samples of one epoch after the other; set `epoch` to resume.

    Args:
        length: of the data set.
        epoch: the next one to give.
    """

    def __init__(self, length: int, epoch: int = 0) -> None:
        self.length, self.epoch = length, epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * self.length
        self.epoch += 1
        return iter(range(first, first + self.length))


class _Batches(Dataset):
    """Gives whole batches to the DataLoader: its `__getitems__` is called with a batch of sample numbers."""

    def __init__(self, patches: Patches, channels_last: bool) -> None:
        self.patches, self.channels_last = patches, channels_last

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, number: int) -> Batch:
        return self.patches[number]

    def __getitems__(self, numbers: list[int]) -> Batch:
        return self.patches.batch(numbers, self.channels_last)


def loader(
    patches: Patches, batch_size: int, *, workers: int = 0, epoch: int = 0, channels_last: bool = False
) -> DataLoader:
    """Batches of one epoch each time it is iterated, in an order that is new each epoch.

    Args:
        patches: the data set.
        batch_size: samples a batch; the last batch of an epoch may be smaller.
        workers: processes that prepare batches; 0: this one. The batches are the same.
        epoch: the first epoch to give (to resume).
        channels_last: memory order of the images (`Patches.batch`).
    """
    return DataLoader(
        _Batches(patches, channels_last),
        batch_size=batch_size,
        sampler=Epochs(len(patches), epoch),
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_start_worker if workers else None,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(number: int) -> None:
    one_thread()
