"""Which samples a step sees: a function of the step alone, so that a resumed run sees what the first would have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from brainseg_utils.errors import SettingError
from brainseg_utils.training.data import Batch, Samples


def part_size(batch: int, accumulate: int, devices: int) -> int:
    """Samples that one device holds at a time.

    Raises:
        SettingError: the batch cannot be cut so.
    """
    if batch % (accumulate * devices):
        raise SettingError(
            f"budget.batch = {batch} on {devices} devices in {accumulate} parts",
            expected=f"a multiple of {accumulate * devices}",
        )
    return batch // (accumulate * devices)


def numbers(step: int, part: int, batch: int, accumulate: int = 1, device: int = 0, devices: int = 1) -> range:
    """The samples of one part of a step's batch on one device.

    Example:
        >>> [list(numbers(3, part, batch=4, accumulate=2)) for part in range(2)]
        [[12, 13], [14, 15]]
    """
    size = part_size(batch, accumulate, devices)
    first = step * batch + (part * devices + device) * size
    return range(first, first + size)


def steps(
    samples: Samples,
    first: int,
    last: int,
    batch: int,
    accumulate: int = 1,
    *,
    device: int = 0,
    devices: int = 1,
    channels_last: bool = False,
    workers: int = 0,
) -> Iterator[list[Batch]]:
    """The parts of each step's batch, from step `first` to the one before `last`.

    Args:
        samples: of the data.
        first, last: steps.
        batch: samples a step.
        accumulate: parts.
        device, devices: this one's number, and how many.
        channels_last: memory order of the images.
        workers: processes that prepare batches; the batches are the same.
    """
    wanted = [
        numbers(step, part, batch, accumulate, device, devices)
        for step in range(first, last)
        for part in range(accumulate)
    ]
    loader: DataLoader[Any] = DataLoader(
        _Numbered(samples, channels_last),
        batch_size=None,
        sampler=wanted,  # type: ignore[arg-type]
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )
    parts: list[Batch] = []
    for part in loader:
        parts.append(part)
        if len(parts) == accumulate:
            yield parts
            parts = []


class _Numbered(Dataset):
    def __init__(self, samples: Samples, channels_last: bool) -> None:
        self.samples, self.channels_last = samples, channels_last

    def __getitem__(self, wanted: Sequence[int]) -> Batch:
        return self.samples.batch(wanted, self.channels_last)
