"""Pipelines by name: "r0" to "r4" as the reports state them, and "course"."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from monai.transforms import Compose, Randomizable, RandomizableTransform

from brainseg_utils.errors import BrainsegError, unknown
from brainseg_utils.pipeline import reports
from brainseg_utils.pipeline.course import course
from brainseg_utils.pipeline.transforms import Item, Step


@dataclass(frozen=True)
class Pipeline:
    """One report's pipeline.

    Attributes:
        title: for headings.
        build: settings to the steps, in the report's order.
    """

    title: str
    build: Callable[..., tuple[Step, ...]]


PIPELINES: Mapping[str, Pipeline] = {
    "r0": Pipeline("R0 Swin-UNETR", reports.r0),
    "r1": Pipeline("R1 3D U-Net, BraTS 2024", reports.r1),
    "r2": Pipeline("R2 2D U-Net and SETR, LGG", reports.r2),
    "r3": Pipeline("R3 3D U-Net, Dice + Focal", reports.r3),
    "r4": Pipeline("R4 MONAI UNet", reports.r4),
    "course": Pipeline("The course", course),
}


def steps(report: str, **settings: Any) -> tuple[Step, ...]:
    """A pipeline's stages in the stated order.

    Args:
        report: key of `PIPELINES`.
        **settings: arguments of the function that builds it (`reports.r0` ... `course.course`).

    Raises:
        SettingError: no such pipeline, or a setting that it does not have.

    Example:
        >>> [step.name for step in steps("r2")]
        ['0-255 to 0-1', 'resize to 128x128']
    """
    if report not in PIPELINES:
        raise unknown("pipeline", report, PIPELINES)
    build = PIPELINES[report].build
    known = inspect.signature(build).parameters
    for name in settings:
        if name not in known:
            raise unknown("setting", name, known, where=f"pipeline {report}")
    return build(**settings)


class _Compose(Compose):
    """MONAI's, which lets the course's own errors through instead of wrapping them in a RuntimeError."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Applies the stages.

        Raises:
            BrainsegError: of a stage.
        """
        try:
            return super().__call__(*arguments, **options)
        except RuntimeError as error:
            cause: BaseException | None = error
            while cause is not None:
                if isinstance(cause, BrainsegError):
                    raise cause from None
                cause = cause.__cause__
            raise


def preprocessing(report: str, **settings: Any) -> Compose:
    """The stages that give the same result every time, in order: what validation and inference use."""
    return _Compose([step.transform for step in steps(report, **settings) if step.kind == "fixed"])


def augmentation(report: str, **settings: Any) -> Compose:
    """The random stages, in order, for an item that `preprocessing` made."""
    return _Compose([step.transform for step in steps(report, **settings) if step.kind != "fixed"])


def cached_part(report: str, **settings: Any) -> Compose:
    """The stages up to the first random one: what `cache.Cache` computes once.

    All of the preprocessing, except in R4, where the normalisation comes after the augmentation.
    """
    stages = steps(report, **settings)
    return _Compose([step.transform for step in stages[: _first_random(stages)]])


def cached_names(report: str, **settings: Any) -> list[str]:
    """The names of the stages of `cached_part`; each says the setting that it depends on, so they key the cache."""
    stages = steps(report, **settings)
    return [step.name for step in stages[: _first_random(stages)]]


def live_part(report: str, **settings: Any) -> Compose:
    """The stages after `cached_part` and after the patch and the flips that `loaders.Patches` does while it reads."""
    stages = steps(report, **settings)
    return _Compose([s.transform for s in stages[_first_random(stages) :] if s.kind not in ("patch", "flip")])


def late_part(report: str, **settings: Any) -> Compose:
    """The fixed stages after the first random one: what validation still has to do with a cached case."""
    stages = steps(report, **settings)
    return _Compose([step.transform for step in stages[_first_random(stages) :] if step.kind == "fixed"])


def flip_axes(report: str, **settings: Any) -> tuple[int, ...]:
    """The axes that `loaders.Patches` flips while it reads; a report whose flips come later has none here."""
    stages = [step for step in steps(report, **settings) if step.kind == "flip"]
    return tuple("XYZ".index(step.name.split()[1][0]) for step in stages)


def _first_random(stages: tuple[Step, ...]) -> int:
    return next((n for n, step in enumerate(stages) if step.kind != "fixed"), len(stages))


def walk(item: Item, report: str, seed: int = 0, always: bool = False, **settings: Any) -> Iterator[tuple[Step, Item]]:
    """Applies a pipeline stage by stage, for a row of pictures; neither the given nor a yielded item is changed later.

    Args:
        item: of `transforms.load_case` (R2: `load_slice`).
        report: key of `PIPELINES`.
        seed: of the random stages.
        always: apply every random stage, whatever its probability, so that each picture shows its effect.
        **settings: as for `steps`.

    Yields:
        The stage and the item after it.
    """
    for number, step in enumerate(steps(report, **settings)):
        if isinstance(step.transform, Randomizable):
            step.transform.set_random_state(seed=seed * 1000 + number)
            if always:
                _make_certain(step.transform)
        item = dict(step.transform(dict(item)))
        yield step, item


def _make_certain(transform: Any) -> None:
    for inner in transform.transforms if isinstance(transform, Compose) else [transform]:
        if isinstance(inner, RandomizableTransform):
            inner.prob = 1.0


def mistakes(report: str, **settings: Any) -> Mapping[str, str]:
    """Stage to what is wrong with it, for the stages that keep a report's mistake.

    Raises:
        SettingError: as `steps`.
    """
    return {step.name: step.mistake for step in steps(report, **settings) if step.mistake}
