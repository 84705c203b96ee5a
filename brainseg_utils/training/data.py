"""From cases to what the loop reads: samples by number to train on, batches in order to validate on.

A kind of data is a function here; the options of a recipe's `[data]` table are its keyword parameters.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from brainseg_utils.datasets.cases import Case
from brainseg_utils.datasets.layouts import MODALITIES
from brainseg_utils.errors import DataError, unknown
from brainseg_utils.training.volumes import REGIONS, phantoms, volumes

if TYPE_CHECKING:
    import torch

Batch = dict[str, Any]
AUGMENTATIONS = ("none", "course")


class Samples(Protocol):
    """Training samples: number n is the same whoever draws it and whenever (`pipeline.slices`, `pipeline.loaders`)."""

    def __len__(self) -> int:
        """Samples of one pass."""
        ...

    def batch(self, numbers: Sequence[int], channels_last: bool = False) -> Batch:
        """ "image" (N, C, ...), "label" (N, L, ...) and "case" of these samples."""
        ...


@dataclass(frozen=True)
class Sources:
    """What a run trains and validates on.

    Attributes:
        train: samples.
        validation: batches, the same each time it is iterated; None: nobody validates.
        in_channels: of the images.
        classes: names of what is segmented, background apart.
        exclusive: a voxel has one class: labels are class numbers, and the network has a background channel too.
        predict: network and image batch to logits at the label's size; None: one call of the network.
    """

    train: Samples
    validation: Iterable[Batch] | None
    in_channels: int
    classes: tuple[str, ...]
    exclusive: bool = False
    predict: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor] | None = None


def slices(
    train: Sequence[Case],
    validation: Sequence[Case],
    seed: int,
    batch: int,
    *,
    size: int = 128,
    context: int = 0,
    normalisation: str = "interior",
    balanced: bool = True,
    tumour: float = 0.5,
    beside: float = 0.15,
    augment: str = "none",
) -> Sources:
    """Slices of the LGG layout.

    Args:
        train: training cases.
        validation: cases that validate; empty: none do.
        seed: of order and augmentation.
        batch: slices a validation batch.
        size: pixels a side.
        context: neighbouring slices on each side that become channels.
        normalisation: of `pipeline.slices.read_stack`.
        balanced, tumour, beside: of `pipeline.slices.Slices`.
        augment: "none" or "course".

    Raises:
        DataError: cases of another layout, or without masks.
        SettingError: an option that has not such a value.
    """
    from brainseg_utils.pipeline.augment2d import Augment2D
    from brainseg_utils.pipeline.slices import CHANNELS, Slices, SliceStream, read_stacks

    if augment not in AUGMENTATIONS:
        raise unknown("augmentation", augment, AUGMENTATIONS)
    stacks = read_stacks([*train, *validation], size, normalisation)
    samples = Slices(
        stacks[: len(train)],
        seed=seed,
        context=context,
        balanced=balanced,
        tumour=tumour,
        beside=beside,
        augment=Augment2D() if augment == "course" else None,
    )
    for stack in stacks[len(train) :]:
        if stack.mask is None:
            raise DataError("no masks", where=f"case {stack.case_id}", expected="a mask for every validation slice")
    held_out = SliceStream(stacks[len(train) :], context, batch) if validation else None
    return Sources(samples, held_out, CHANNELS * (2 * context + 1), ("tumour",))


def masked(
    train: Sequence[Case],
    validation: Sequence[Case],
    seed: int,
    batch: int,
    *,
    side: int = 8,
    share: float = 0.5,
    size: tuple[int, ...] = (64, 64, 64),
    spacing: int = 2,
    modalities: tuple[str, ...] = MODALITIES,
    pool: int = 48,
    uses: int = 32,
    patches: int = 2,
    wild: float = 0.0,
    rough: float = 0.0,
) -> Sources:
    """Patches of phantoms with holes, to be filled in; nobody validates.

    Args:
        train: not used: training cases are made.
        validation: not used.
        seed: of the phantoms and the holes.
        batch: not used.
        side, share: of the cubes that are hidden (`masked.Masked`).
        size, spacing, modalities, pool, uses, patches, wild, rough: as for `phantoms`.

    Raises:
        SettingError: an option that has not such a value.
    """
    from brainseg_utils.training.masked import Masked

    options: dict[str, Any] = {"pool": pool, "uses": uses, "patches": patches, "wild": wild, "rough": rough}
    whole = phantoms([], [], seed, batch, size=size, spacing=spacing, modalities=modalities, **options)
    return Sources(Masked(whole.train, side, share, seed), None, len(modalities), modalities)


def mixed(
    train: Sequence[Case],
    validation: Sequence[Case],
    seed: int,
    batch: int,
    *,
    share: float = 0.5,
    size: tuple[int, ...] = (80, 80, 64),
    spacing: int = 2,
    modalities: tuple[str, ...] = MODALITIES,
    regions: tuple[str, ...] = REGIONS,
    exclusive: bool = False,
    foreground: float = 0.6,
    post: float = 0.0,
    lgg: float = 0.16,
    pool: int = 48,
    wild: float = 0.0,
    rough: float = 0.0,
    faint: float = 0.0,
    cysts: float = 0.0,
    alike: float = 0.0,
    band: float = 0.0,
    small: float = 0.0,
    dropout: float = 0.0,
    cache: str = "runs/cache",
) -> Sources:
    """Patches of the folder's cases, and of phantoms between them (`mixed.Mixed`).

    Args:
        train: training cases.
        validation: cases that validate, whole; empty: none do.
        seed: of both.
        batch: not used.
        share: of the samples that are from the cases.
        size, modalities, regions, exclusive, foreground, dropout: as for `volumes` and `phantoms`.
        spacing: mm that cases are brought to and phantoms are made at, 1 or 2.
        post, lgg, pool, wild, rough, faint, cysts, alike, band, small: as for `phantoms`.
        cache: folder for preprocessed cases.

    Raises:
        DataError: cases without masks, of the LGG layout, or that cannot be read.
        SettingError: an option that has not such a value.
    """
    from brainseg_utils.training.mixed import Mixed

    both: dict[str, Any] = {"size": size, "modalities": modalities, "regions": regions, "exclusive": exclusive}
    both |= {"foreground": foreground, "dropout": dropout, "cache": cache}
    looks: dict[str, Any] = {"post": post, "lgg": lgg, "pool": pool, "wild": wild, "rough": rough, "faint": faint}
    looks |= {"cysts": cysts, "alike": alike, "band": band, "small": small}
    cases = volumes(train, validation, seed, batch, spacing=float(spacing), **both)
    made = phantoms([], [], seed, batch, spacing=spacing, **looks, **both)
    return replace(cases, train=Mixed(cases.train, made.train, share, seed))


KINDS: Mapping[str, Callable[..., Sources]] = {
    "slices": slices,
    "volumes": volumes,
    "phantoms": phantoms,
    "masked": masked,
    "mixed": mixed,
}
MADE = ("phantoms", "masked")  # kinds that make their own training samples: the folder's cases can only validate


def check(name: str, options: Mapping[str, Any]) -> None:
    """Refuses a kind of data or an option that does not exist.

    Raises:
        SettingError: with the nearest name.
    """
    if name not in KINDS:
        raise unknown("kind of data", name, KINDS)
    parameters = inspect.signature(KINDS[name]).parameters.values()
    known = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise unknown("option", option, known, where=f"data {name}")
