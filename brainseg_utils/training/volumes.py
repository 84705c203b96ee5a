"""3D data kinds: patches of a cohort's volumes, and patches of phantoms that are made while the network trains.

The options of a recipe's `[data]` table are the keyword parameters here. A voxel belongs to overlapping regions
(`regions`, one sigmoid channel each), or with `exclusive = true` to one class (`regions` are then tissues, softmax).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from brainseg_utils.datasets.cases import Case, SliceCase
from brainseg_utils.datasets.labels import REGION_NAMES, TISSUE_NAMES
from brainseg_utils.datasets.layouts import MODALITIES
from brainseg_utils.errors import DataError, SettingError, unknown

if TYPE_CHECKING:
    from brainseg_utils.training.data import Sources

REGIONS = ("ET", "TC", "WT")
AUGMENTATIONS = ("none", "pipeline")
CHANNELS: Mapping[str, tuple[str, ...]] = {"r0": ("ET", "TC", "WT"), "r4": ("TC", "WT", "ET")}
"""Region channels that a report's own pipeline makes, in its order."""
SIZED = ("course", "r0", "r1", "r3")
SPACED = ("course", "r0", "r4")
MULTIPLE = 16
"""R4's stated crop does not pass its network; the runnable recipe pads to this."""
NORMALISATIONS = ("zscore", "median")


def volumes(
    train: Sequence[Case],
    validation: Sequence[Case],
    seed: int,
    batch: int,
    *,
    pipeline: str = "course",
    size: tuple[int, ...] = (96, 96, 96),
    spacing: float = 0.0,
    normalisation: str = "zscore",
    modalities: tuple[str, ...] = MODALITIES,
    regions: tuple[str, ...] = REGIONS,
    exclusive: bool = False,
    foreground: float = 0.5,
    augment: str = "pipeline",
    tone: float = 0.0,
    dropout: float = 0.0,
    samples: int = 1,
    painted: float = 0.0,
    painter: str = "",
    shapes: str = "grown",
    cache: str = "runs/cache",
) -> Sources:
    """Patches of the cases of any 3D layout, preprocessed once into a cache.

    Args:
        train: training cases.
        validation: cases that validate, whole; empty: none do.
        seed: of order, patches and augmentation.
        batch: not used: whole volumes are validated one by one.
        pipeline: "course", or a report's preprocessing and augmentation as it states them ("r0", "r1", "r3", "r4").
        size: X, Y, Z of a patch (r1, r3: of the grid that whole scans are resized to; r4: not used, whole scans).
        spacing: mm that scans are brought to (course, r4); 0: their own (r4: 1).
        normalisation: "zscore" or "median", over the brain (course).
        modalities: channels, in order.
        regions: channels of the target, or with `exclusive` the classes. r0 and r4 have their own order.
        exclusive: softmax classes instead of sigmoid regions.
        foreground: share of the patches that are centred on tumour, each tissue as often as any other (course).
        augment: "none" or "pipeline", what the pipeline does.
        tone: share of the samples with new tone curves besides (course), for scanners that the cases do not know.
        dropout: share of the samples that lose one modality or more.
        samples: patches of each case in one pass.
        painted: extras a real patch, patches into which a tumour is painted while they are drawn (course): with 1, half
            of the samples are extras.
        painter: run folder or weights file of the generator that paints.
        shapes: of painted tumours: "grown" by the phantom's model; or "warped", shapes and contrasts of the training
            cases.
        cache: folder for preprocessed cases.

    Raises:
        DataError: cases without masks, of the LGG layout, or that cannot be read.
        SettingError: an option that has not such a value, or that the pipeline has not.
    """
    from brainseg_utils.pipeline.cache import Cache
    from brainseg_utils.pipeline.loaders import Patches
    from brainseg_utils.pipeline.registry import flip_axes, live_part
    from brainseg_utils.training.data import Sources
    from brainseg_utils.training.samples3d import Volumes, Whole, one_pass_or_windows

    _check(regions, exclusive, modalities, size)
    if augment not in AUGMENTATIONS:
        raise unknown("augmentation", augment, AUGMENTATIONS)
    if CHANNELS.get(pipeline, regions) != regions or (pipeline in CHANNELS and exclusive):
        raise SettingError(
            f"regions {', '.join(regions)}{' exclusive' * exclusive} with pipeline {pipeline}",
            expected=f"regions {', '.join(CHANNELS[pipeline])}, which it makes itself",
        )
    settings = _settings(pipeline, size, spacing, normalisation, foreground, tone)
    cases = _labelled([*train, *validation])
    store = Cache(cache, pipeline, modalities=modalities, **settings)
    store.build(cases)
    entries = store.entries(cases)
    live = {**settings, **({"drop": 0.0} if pipeline == "course" else {})}
    changed = augment == "pipeline"
    change = live_part(pipeline, **live) if changed else None
    if painted:
        from brainseg_utils.training.painting import extras, patch_settings

        found = patch_settings(pipeline, spacing, normalisation, modalities)
        change = extras(painted, painter, shapes, seed, found, entries[: len(train)], change)
    patches = Patches(
        entries[: len(train)],
        None if pipeline in ("r1", "r3", "r4") else size,
        seed=seed,
        foreground=foreground if pipeline == "course" else 0.0,
        flips=flip_axes(pipeline, **settings) if changed else (),
        augment=change,
        samples=samples,
        within="brain" if pipeline == "course" else "scan",
    )
    held_out = entries[len(train) :]
    whole = Whole(held_out, pipeline, settings, modalities, regions, exclusive) if held_out else None
    return Sources(
        Volumes(patches, regions, exclusive, dropout),
        whole,
        len(modalities),
        regions,
        exclusive,
        one_pass_or_windows(size),
    )


def phantoms(
    train: Sequence[Case],
    validation: Sequence[Case],
    seed: int,
    batch: int,
    *,
    size: tuple[int, ...] = (80, 80, 64),
    spacing: int = 2,
    normalisation: str = "zscore",
    modalities: tuple[str, ...] = MODALITIES,
    regions: tuple[str, ...] = REGIONS,
    exclusive: bool = False,
    foreground: float = 0.5,
    difficulty: str = "normal",
    post: float = 0.0,
    healthy: float = 0.08,
    lgg: float = 0.16,
    pool: int = 48,
    uses: int = 32,
    patches: int = 2,
    wild: float = 0.0,
    rough: float = 0.0,
    faint: float = 0.0,
    cysts: float = 0.0,
    alike: float = 0.0,
    band: float = 0.0,
    small: float = 0.0,
    coarse: float = 0.0,
    lesion_weight: tuple[float, ...] = (0.0, 1.6),
    flips: tuple[int, ...] = (0,),
    augment: float = 0.3,
    tone: float = 0.0,
    dropout: float = 0.0,
    cache: str = "runs/cache",
) -> Sources:
    """Patches of phantoms that are made while the network trains; the folder's cases all validate.

    Args:
        train: not used: training cases are made.
        validation: cases that validate, whole, brought to the same voxel size; empty: none do.
        seed: of the phantoms, their contrast and their patches.
        batch: not used.
        size: X, Y, Z of a patch.
        spacing: 1 or 2 (mm).
        normalisation: "zscore" or "median", over the brain.
        modalities: channels, in order.
        regions: channels of the target, or with `exclusive` the classes; RC is empty before treatment.
        exclusive: softmax classes instead of sigmoid regions.
        foreground: share of the patches of a case with a tumour that are centred on it, each tissue equally often.
        difficulty: "easy", "normal" or "hard".
        post: share of cases after treatment.
        healthy: share of cases without a lesion.
        lgg: share of low-grade gliomas among the tumours before treatment.
        pool: geometries in memory (6 MB each at 2 mm, 45 MB at 1 mm).
        uses: draws after which a new geometry takes an old one's place; so often each is drawn, on average.
        patches: of each draw.
        wild: share of draws in which half of the modalities have tissue contrasts nearer to random ones.
        rough: share of draws with more shading, blur, noise and thicker slices.
        faint: share of draws whose lesion lets the healthy brain through.
        cysts: share of draws with cysts in the core.
        alike: share of draws in which oedema and core without enhancement look alike.
        band: share of cases whose oedema is an even band around the core.
        small: share of cases whose core, if it is of a high grade, is small.
        coarse: share of cases with voxels of 2 mm, whatever `spacing` says, for `inference.regions.Rules.spacings`.
        lesion_weight: least and greatest weight of the tumour in the normalisation's statistics.
        flips: axes (0 to 2: X to Z) along which half of the patches are mirrored.
        augment: share of the patches that also go through the course's augmentation.
        tone: share of those that have new tone curves.
        dropout: share of the patches that lose one modality or more.
        cache: folder for preprocessed validation cases.

    Raises:
        DataError: validation cases without masks, of the LGG layout, or that cannot be read.
        SettingError: an option that has not such a value.
    """
    from brainseg_utils.pipeline.cache import Cache
    from brainseg_utils.training.data import Sources
    from brainseg_utils.training.phantoms import Making, Phantoms
    from brainseg_utils.training.samples3d import Whole, one_pass_or_windows

    _check(regions, exclusive, modalities, size)
    if normalisation not in NORMALISATIONS:
        raise unknown("normalisation", normalisation, NORMALISATIONS)
    for name, value in {"pool": pool, "uses": uses, "patches": patches}.items():
        if value < 1:
            raise SettingError(f"data.{name} = {value}", expected="1 or more")
    if not 0 <= lgg <= 1:
        raise SettingError(f"data.lgg = {lgg}", expected="a share, 0 to 1")
    if len(lesion_weight) != 2 or not 0 <= lesion_weight[0] <= lesion_weight[1]:
        raise SettingError(f"data.lesion_weight = {list(lesion_weight)}", expected="least and greatest, 0 or more")
    making = Making(
        spacing=spacing,
        difficulty=difficulty,
        post=post,
        healthy=healthy,
        lgg=lgg,
        pool=pool,
        uses=uses,
        patches=patches,
        wild=wild,
        rough=rough,
        faint=faint,
        cysts=cysts,
        alike=alike,
        band=band,
        small=small,
        coarse=coarse,
        normalisation=normalisation,
        lesion_weight=(lesion_weight[0], lesion_weight[1]),
        foreground=foreground,
        flips=flips,
        augment=augment,
        tone=tone,
        dropout=dropout,
    )
    whole = None
    if validation:
        settings = _settings("course", size, float(spacing), normalisation, foreground, 0.0)
        store = Cache(cache, "course", modalities=modalities, **settings)
        store.build(_labelled(validation))
        whole = Whole(store.entries(validation), "course", settings, modalities, regions, exclusive)
    samples = Phantoms(size, seed, making, modalities, regions, exclusive)
    return Sources(samples, whole, len(modalities), regions, exclusive, one_pass_or_windows(size))


def _settings(
    pipeline: str, size: Sequence[int], spacing: float, normalisation: str, foreground: float, tone: float
) -> dict[str, Any]:
    """The settings that a pipeline has; others that are not at their default are refused."""
    settings: dict[str, Any] = {}
    if pipeline in SIZED:
        settings["size"] = tuple(size)
    if pipeline == "course":
        return {**settings, "normalise": normalisation, "foreground": foreground, "spacing": spacing, "tone": tone}
    for name, changed in {"normalisation": normalisation != "zscore", "tone": tone > 0}.items():
        if changed:
            raise SettingError(f"data.{name} with pipeline {pipeline}", expected="none: the report states its own")
    if pipeline == "r4":
        return {**settings, "multiple": MULTIPLE, "spacing": spacing or 1.0}
    if pipeline == "r0":
        return {**settings, "spacing": spacing}
    if spacing:
        raise SettingError(f"data.spacing with pipeline {pipeline}", expected=f"none; {', '.join(SPACED)} have it")
    return settings


def _check(regions: Sequence[str], exclusive: bool, modalities: Sequence[str], size: Sequence[int]) -> None:
    if len(size) != 3 or min(size) < 1:
        raise SettingError(f"data.size = {list(size)}", expected="three numbers, X, Y, Z")
    for names, known, what in (
        (regions, TISSUE_NAMES if exclusive else REGION_NAMES, "class" if exclusive else "region"),
        (modalities, MODALITIES, "modality"),
    ):
        for name in names:
            if name not in known:
                raise unknown(what, name, known)
        if len(set(names)) < len(names) or not names:
            raise SettingError(f"{what} list {list(names)}", expected="each name once")


def _labelled(cases: Sequence[Case]) -> list[Case]:
    for case in cases:
        if isinstance(case, SliceCase):
            raise DataError("slices", where=f"case {case.id}", expected="volumes", remedy='use data.name = "slices"')
        if case.label_path is None:
            raise DataError("no mask", where=f"case {case.id}", expected="labelled cases, to train and to validate")
    return list(cases)
