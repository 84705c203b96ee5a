"""LGG patients as stacks of slices at one size, and batches of slices drawn from them.

Arrays keep the files' own orientation (rows, columns); a stack is (K, 3, S, S), K slices from inferior to superior, the
three channels T1, FLAIR and T1 with contrast. Sample number n is the same whoever draws it, as in `loaders`: patient,
slice and augmentation come from (seed, n) alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from brainseg_utils.datasets.cases import Case, SliceCase, read_tiff
from brainseg_utils.errors import DataError, SettingError, unknown
from brainseg_utils.progress import track
from brainseg_utils.seeds import stream

CHANNELS = 3
NORMALISATIONS = ("interior", "unit")
FULL_SIZE = 256  # pixels a side of the files, in which the next three are given
HEAD_SHARE = 0.1  # brighter than this share of the volume's 99th percentile: head
EROSION = 20.0  # pixels from the head's border to the interior of the brain: scalp, skull and fluid are left outside
CENTRE_LIMITS = (-5.0, 6.0)
SD_OF_10_90 = 2.563  # a normal distribution's p90 - p10, in standard deviations
SPARSE = 2  # every second pixel tells median and spread as well, in a quarter of the time
BESIDE = 2  # slices from the nearest tumour slice that count as beside it
Batch = dict[str, Any]
Augment = Callable[[torch.Tensor, torch.Tensor, Sequence[np.random.Generator]], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Stack:
    """One patient's slices, ready for a network.

    Attributes:
        case_id: folder of the patient.
        patient: same for all scans of one person.
        image: float16 (K, 3, S, S), normalised.
        mask: uint8 (K, 1, S, S), 0 or 1; None without masks.
        shape: rows and columns of the files.
    """

    case_id: str
    patient: str
    image: torch.Tensor
    mask: torch.Tensor | None
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.image)


def read_stack(case: Case, size: int = 128, normalisation: str = "interior", masks: bool = True) -> Stack:
    """Reads one patient.

    Args:
        case: of the LGG layout.
        size: pixels a side; larger files are averaged, smaller ones interpolated.
        normalisation: "interior", each channel centred on the median of the brain's interior and divided by its spread;
            "unit", 0-255 to 0-1 (R2).
        masks: read them too, where every slice has one.

    Raises:
        DataError: not an LGG case, a damaged slice, or slices of several sizes.
        SettingError: no such normalisation.
    """
    if normalisation not in NORMALISATIONS:
        raise unknown("normalisation", normalisation, NORMALISATIONS)
    if not isinstance(case, SliceCase):
        raise DataError(f"layout {case.layout}", where=f"case {case.id}", expected="slices of the lgg layout")
    pixels = _pile([read_tiff(path, channels=3) for path in case.slice_paths], case)  # (K, rows, columns, 3)
    volume = np.ascontiguousarray(np.moveaxis(pixels, 3, 1), dtype=np.float32)
    image = resize(torch.from_numpy(normalise(volume, normalisation)), size).half()
    mask = None
    if masks and all(path is not None for path in case.mask_paths):
        planes = [read_tiff(path, channels=1) for path in case.mask_paths if path is not None]
        truth = torch.from_numpy((_pile(planes, case) > 0).astype(np.float32))
        mask = (resize(truth[:, None], size) >= 0.5).to(torch.uint8)
    return Stack(case.id, case.patient, image, mask, (pixels.shape[1], pixels.shape[2]))


def read_stacks(cases: Sequence[Case], size: int = 128, normalisation: str = "interior") -> list[Stack]:
    """Reads a cohort, in the order of `cases`; arguments and errors as `read_stack`."""
    return [read_stack(case, size, normalisation) for case in track(cases, "read slices")]


def normalise(volume: np.ndarray, normalisation: str = "interior") -> np.ndarray:
    """Brings a volume's channels to one scale.

    Args:
        volume: float32 (K, 3, rows, columns), 0 to 255.
        normalisation: as `read_stack`.

    Returns:
        float32, same shape: for "interior" 0 is the median of the brain, 1 its standard deviation (as far as p10 and
        p90 tell it), cut to -5 .. 6.
    """
    if normalisation == "unit":
        return volume / 255
    sparse = volume[..., ::SPARSE, ::SPARSE] if volume.shape[-1] >= FULL_SIZE else volume
    inside = interior(sparse)
    result = np.empty_like(volume)
    for channel in range(volume.shape[1]):
        within = sparse[:, channel][inside]
        low, centre, high = np.percentile(within, (10, 50, 90)) if len(within) else (0.0, 0.0, 0.0)
        spread = max((high - low) / SD_OF_10_90, 1.0)  # a grey level at least: a channel without a scan stays flat
        result[:, channel] = np.clip((volume[:, channel] - centre) / spread, *CENTRE_LIMITS)
    return result


def interior(volume: np.ndarray) -> np.ndarray:
    """The inner part of the brain: the head, holes filled, without the 20 pixels (of 256) next to its border.

    Args:
        volume: (K, 3, rows, columns), 0 to 255.

    Returns:
        Boolean (K, rows, columns). Where nothing is left, as in a small head, the head itself.
    """
    import edt
    from scipy import ndimage

    brightest = volume.max(axis=1)
    head = brightest > HEAD_SHARE * np.percentile(brightest, 99)
    depth = EROSION * volume.shape[-1] / FULL_SIZE
    inside = np.zeros_like(head)
    for k, plane in enumerate(head):
        filled = np.pad(ndimage.binary_fill_holes(plane), 1)  # beyond the image is outside the head
        inside[k] = edt.edt(filled)[1:-1, 1:-1] > depth
    return inside if inside.any() else head


def resize(planes: torch.Tensor, size: int) -> torch.Tensor:
    """(K, C, rows, columns) to (K, C, size, size): mean of the pixels where it shrinks, bilinear where it grows."""
    if tuple(planes.shape[2:]) == (size, size):
        return planes
    if min(planes.shape[2:]) >= size:
        return F.interpolate(planes, size=(size, size), mode="area")
    return F.interpolate(planes, size=(size, size), mode="bilinear", align_corners=False)


def with_context(image: torch.Tensor, number: int, context: int) -> torch.Tensor:
    """A slice between its neighbours: (K, 3, S, S) to (3 (2 context + 1), S, S), the end slices repeated.

    Example:
        >>> stack = torch.arange(3.0).reshape(3, 1, 1, 1)
        >>> with_context(stack, 0, 1).flatten().tolist()
        [0.0, 0.0, 1.0]
    """
    around = [min(max(number + offset, 0), len(image) - 1) for offset in range(-context, context + 1)]
    return image[around].flatten(0, 1)


class Slices:
    """Training slices of some patients.

    `batch` gives "image" float32 (N, 3 (2 context + 1), S, S), "label" uint8 (N, 1, S, S), "case" and "slice" as lists.

    Args:
        stacks: of the training patients, with masks.
        seed: of everything random.
        context: neighbours on each side that become channels.
        balanced: draw kinds of slices by the shares below, and patients by the square root of their slices of the kind;
            False: every slice once an epoch (R2).
        tumour: share of slices with tumour.
        beside: share of slices without tumour at most two from one with it, where false alarms are likeliest.
        augment: changes images and labels (`augment2d.Augment2D`).

    Raises:
        DataError: no patients, or one without masks.
        SettingError: shares that are no shares.
    """

    def __init__(
        self,
        stacks: Sequence[Stack],
        *,
        seed: int = 0,
        context: int = 0,
        balanced: bool = True,
        tumour: float = 0.5,
        beside: float = 0.15,
        augment: Augment | None = None,
    ) -> None:
        if min(tumour, beside) < 0 or tumour + beside > 1:
            raise SettingError(f"tumour = {tumour} and beside = {beside}", expected="shares that add up to 1 at most")
        for stack in stacks:
            if stack.mask is None:
                raise DataError("no masks", where=f"case {stack.case_id}", expected="a mask for every training slice")
        if not stacks:
            raise DataError("no patients to train on", expected="one or more")
        self.stacks, self.seed, self.context, self.augment = tuple(stacks), seed, context, augment
        self.balanced, self.shares = balanced, (tumour, beside, 1 - tumour - beside)
        self.places = [(s, k) for s, stack in enumerate(self.stacks) for k in range(len(stack))]
        kinds = [kind_of(stack) for stack in self.stacks]
        self.kinds = [[np.flatnonzero(kind == value) for kind in kinds] for value in range(3)]

    def __len__(self) -> int:
        return len(self.places)

    def batch(self, numbers: Sequence[int], channels_last: bool = False) -> Batch:
        """The samples of these numbers as one batch."""
        generators = [stream(self.seed, "slice", number) for number in numbers]
        places = [self._place(number, rng) for number, rng in zip(numbers, generators, strict=True)]
        image = torch.stack([with_context(self.stacks[s].image, k, self.context).float() for s, k in places])
        label = torch.stack([_mask(self.stacks[s])[k] for s, k in places])
        if self.augment is not None:
            image, label = self.augment(image, label, generators)
        if channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        cases = [self.stacks[s].case_id for s, _ in places]
        return {"image": image, "label": label, "case": cases, "slice": [k for _, k in places]}

    def _place(self, number: int, rng: np.random.Generator) -> tuple[int, int]:
        if not self.balanced:
            epoch, place = divmod(number, len(self))
            return self.places[int(_order(self.seed, epoch, len(self))[place])]
        kind = int(np.searchsorted(np.cumsum(self.shares), rng.random(), side="right"))
        counts = np.array([len(found) for found in self.kinds[min(kind, 2)]], float)
        if not counts.any():  # a cohort without such slices
            return self.places[int(rng.integers(len(self)))]
        weights = np.sqrt(counts)
        s = int(rng.choice(len(counts), p=weights / weights.sum()))
        return s, int(rng.choice(self.kinds[min(kind, 2)][s]))


class SliceStream:
    """All slices of some patients in order, as batches: what validation and prediction look at.

    Args:
        stacks: the patients.
        context: as in `Slices`.
        batch_size: slices a batch; a batch holds slices of one patient.
    """

    def __init__(self, stacks: Sequence[Stack], context: int = 0, batch_size: int = 16) -> None:
        self.stacks, self.context, self.batch_size = tuple(stacks), context, batch_size

    def __len__(self) -> int:
        return sum(-(-len(stack) // self.batch_size) for stack in self.stacks)

    def __iter__(self) -> Iterator[Batch]:
        for stack in self.stacks:
            for first in range(0, len(stack), self.batch_size):
                numbers = range(first, min(first + self.batch_size, len(stack)))
                image = torch.stack([with_context(stack.image, k, self.context).float() for k in numbers])
                batch: Batch = {"image": image, "case": [stack.case_id] * len(numbers), "slice": list(numbers)}
                if stack.mask is not None:
                    batch["label"] = stack.mask[first : numbers.stop]
                yield batch


def kind_of(stack: Stack) -> np.ndarray:
    """What each slice is: 0 with tumour, 1 beside a slice with tumour, 2 neither.

    Example:
        >>> mask = torch.zeros(6, 1, 2, 2, dtype=torch.uint8); mask[1] = 1
        >>> kind_of(Stack("a", "a", torch.zeros(6, 3, 2, 2), mask, (2, 2))).tolist()
        [1, 0, 1, 1, 2, 2]
    """
    tumour = _mask(stack).flatten(1).amax(dim=1).numpy() > 0
    near = np.convolve(tumour, np.ones(2 * BESIDE + 1), "same") > 0 if len(tumour) > 2 * BESIDE else tumour | True
    return np.where(tumour, 0, np.where(near & tumour.any(), 1, 2))


def _mask(stack: Stack) -> torch.Tensor:
    assert stack.mask is not None
    return stack.mask


def _pile(planes: Sequence[np.ndarray], case: SliceCase) -> np.ndarray:
    shapes = {plane.shape for plane in planes}
    if len(shapes) > 1:
        raise DataError(f"slices of shapes {sorted(shapes)}", where=f"case {case.id}", expected="one shape")
    return np.stack(planes)


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, length: int) -> np.ndarray:
    return stream(seed, "order", epoch).permutation(length)
