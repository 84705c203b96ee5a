"""What a slice picture shows: the arrays (`Scene`) and how they are looked at (`ViewState`). Both are frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from brainseg_utils.datasets.cases import Case, SliceCase
from brainseg_utils.errors import GeometryError, LabelError, SettingError, unknown
from brainseg_utils.evaluation.errors import error_map
from brainseg_utils.views import palette

Plane = Literal["axial", "coronal", "sagittal"]
PlaneChoice = Literal["axial", "coronal", "sagittal", "three planes"]
Labels = Literal["truth", "prediction", "both", "errors"]
PLANES: Mapping[Plane, int] = {"axial": 2, "coronal": 1, "sagittal": 0}  # the array axis that a plane cuts across
SAMPLE = 200_000  # voxels a channel that its percentiles are taken from
Point = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Scene:
    """Arrays to look at, all on one RAS grid.

    Attributes:
        images: (C, X, Y, Z) intensities.
        modalities: C names, "t1n" and so on, or any other text.
        spacing: voxel size along X, Y, Z in `unit`.
        truth: (X, Y, Z) integer labels, or None.
        prediction: the same from a model, or None.
        tissues: label value to tissue, as in `LabelScheme.tissues`.
        title: shown under the picture, usually the case's id.
        unit: "mm", or "px" for data without spacing.

    Raises:
        GeometryError: shapes that do not belong together.
        LabelError: label values without a tissue.

    Example:
        >>> Scene(np.zeros((1, 4, 5, 6), np.float32), ("t1c",)).shape
        (4, 5, 6)
    """

    images: np.ndarray
    modalities: tuple[str, ...]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    truth: np.ndarray | None = None
    prediction: np.ndarray | None = None
    tissues: Mapping[int, str] = field(default_factory=dict)
    title: str = ""
    unit: str = "mm"

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[0] != len(self.modalities) or 0 in self.images.shape:
            raise GeometryError(
                f"images of shape {self.images.shape}", expected=f"(C, X, Y, Z) with C = {len(self.modalities)}"
            )
        if len(self.spacing) != 3 or not all(np.isfinite(s) and s > 0 for s in self.spacing):
            raise GeometryError(f"spacing {self.spacing}", expected="three positive numbers")
        for name, labels in (("truth", self.truth), ("prediction", self.prediction)):
            if labels is not None:
                self._check(name, labels)
        palette.in_order(self.tissues.values())

    def _check(self, name: str, labels: np.ndarray) -> None:
        if labels.shape != self.shape:
            raise GeometryError(f"{name} of shape {labels.shape}", expected=f"the images' {self.shape}")
        if labels.dtype.kind not in "uib":
            raise LabelError(f"{name} of type {labels.dtype}", expected="integer labels", remedy="threshold it first")
        present = np.flatnonzero(np.bincount(labels.ravel())) if labels.dtype == np.uint8 else np.unique(labels)
        alien = sorted(int(v) for v in present if v != 0 and int(v) not in self.tissues)
        if alien or max(self.tissues, default=0) > 255:
            raise LabelError(
                f"label value {', '.join(map(str, alien))} in {name}", expected=f"0 or one of {dict(self.tissues)}"
            )

    @property
    def shape(self) -> Point:
        """(X, Y, Z)."""
        x, y, z = self.images.shape[1:]
        return x, y, z

    @cached_property
    def quantiles(self) -> np.ndarray:
        """(C, 1001): each channel's values at 0.0, 0.1, ... 100.0 percent of its non-zero voxels."""
        out = np.zeros((len(self.images), 1001), np.float32)
        for row, channel in zip(out, self.images, strict=True):
            step = max(1, channel.size // (4 * SAMPLE))
            sample = channel.reshape(-1)[::step]
            sample = sample[(sample != 0) & np.isfinite(sample)]
            if sample.size:
                row[:] = np.quantile(sample[:: max(1, sample.size // SAMPLE)], np.linspace(0, 1, 1001))
        return out

    @cached_property
    def counts(self) -> Mapping[Labels, np.ndarray]:
        """Voxels of each label value in the whole volume: of the truth, the prediction and their `errors`."""
        volumes: dict[Labels, np.ndarray | None] = {"truth": self.truth, "prediction": self.prediction}
        if self.truth is not None and self.prediction is not None:
            volumes["errors"] = error_map(self.truth, self.prediction)
        return {name: np.bincount(v.ravel(), minlength=256) for name, v in volumes.items() if v is not None}


@dataclass(frozen=True)
class Window:
    """The intensities drawn as black and as white.

    Attributes:
        low: drawn black.
        high: drawn white.
        kind: "percent" of each modality's non-zero voxels, or "value" in the images' own unit.
    """

    low: float = 0.5
    high: float = 99.5
    kind: Literal["percent", "value"] = "percent"

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.kind == "percent" and not (self.low >= 0 and self.high <= 100)):
            raise SettingError(
                f"window {self.low:g} to {self.high:g} {self.kind}", expected="low < high, and 0 to 100 for percent"
            )

    def limits(self, scene: Scene, channel: int) -> tuple[float, float]:
        """Black and white for one channel in its own unit."""
        if self.kind == "value":
            return self.low, self.high
        low, high = (scene.quantiles[channel, round(10 * p)] for p in (self.low, self.high))
        return float(low), float(high)


@dataclass(frozen=True)
class ViewState:
    """One picture, completely: `slices.render` draws it and nothing else decides how it looks.

    Attributes:
        scene: the arrays.
        point: voxel (x, y, z) where the slices cut and the crosshair stands; None means the volume's middle.
        plane: one plane, or "three planes" through the point.
        shown: modalities, in order; empty means all.
        window: intensity window.
        labels: whose labels: "truth", "prediction", "both" (one above the other) or "errors" (where they differ).
        overlay: fill the labels.
        outline: draw their borders.
        opacity: of the fill, 0 to 1.
        crosshair: draw the lines through the point.
        size: pixels of a panel's longer side.
    """

    scene: Scene
    point: Point | None = None
    plane: PlaneChoice = "axial"
    shown: tuple[str, ...] = ()
    window: Window = field(default_factory=Window)
    labels: Labels = "truth"
    overlay: bool = True
    outline: bool = True
    opacity: float = 0.35
    crosshair: bool = True
    size: int = 240

    def __post_init__(self) -> None:
        for kind, value, known in (("plane", self.plane, PlaneChoice), ("labels", self.labels, Labels)):
            if value not in get_args(known):
                raise unknown(kind, value, get_args(known))
        for name in self.shown:
            if name not in self.scene.modalities:
                raise unknown("modality", name, self.scene.modalities)
        if not 0 <= self.opacity <= 1:
            raise SettingError(f"opacity {self.opacity:g}", expected="0 to 1")
        shape = self.scene.shape
        point = tuple(n // 2 for n in shape) if self.point is None else self.point
        if len(point) != 3 or not all(0 <= p < n for p, n in zip(point, shape, strict=True)):
            raise SettingError(f"point {point}", expected=f"a voxel inside {shape}")
        object.__setattr__(self, "point", tuple(int(p) for p in point))

    @property
    def at(self) -> Point:
        """The point, always set."""
        assert self.point is not None
        return self.point

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The planes drawn."""
        return tuple(PLANES) if self.plane == "three planes" else (self.plane,)

    @property
    def channels(self) -> tuple[int, ...]:
        """Indices of the modalities drawn."""
        return tuple(self.scene.modalities.index(m) for m in (self.shown or self.scene.modalities))

    @property
    def sources(self) -> tuple[Labels, ...]:
        """Which labels the rows of the picture show, one entry a row; those that the scene lacks are left out."""
        truth, prediction = self.scene.truth is not None, self.scene.prediction is not None
        if truth and prediction:
            return ("truth", "prediction") if self.labels == "both" else (self.labels,)
        return ("prediction",) if prediction else ("truth",)

    @property
    def axis(self) -> int:
        """The array axis that the slice control moves along; axial in "three planes"."""
        return PLANES[self.planes[0]]

    def moved(self, step: int) -> ViewState:
        """The state some slices further on, stopping at the volume's end."""
        return self.on_slice(self.at[self.axis] + step)

    def on_slice(self, index: int) -> ViewState:
        """The state with the point on another slice of the plane, clipped to the volume."""
        point = list(self.at)
        point[self.axis] = int(np.clip(index, 0, self.scene.shape[self.axis] - 1))
        return replace(self, point=(point[0], point[1], point[2]))


def largest_lesion_point(scene: Scene) -> Point:
    """Where to look first: the voxel at the middle of the slices with most labelled area; else the volume's middle.

    Example:
        >>> truth = np.zeros((8, 8, 8), np.uint8); truth[2:5, 3:6, 6] = 1
        >>> largest_lesion_point(Scene(np.ones((1, 8, 8, 8)), ("t1c",), truth=truth, tissues={1: "ET"}))
        (3, 4, 6)
    """
    labels = scene.truth if scene.truth is not None else scene.prediction
    if labels is None or not labels.any():
        x, y, z = scene.shape
        return x // 2, y // 2, z // 2
    z = int(np.count_nonzero(labels, axis=(0, 1)).argmax())
    columns, rows = np.nonzero(labels[:, :, z])
    return int(np.median(columns)), int(np.median(rows)), z


def scene_of(case: Case, prediction: np.ndarray | None = None, modalities: tuple[str, ...] | None = None) -> Scene:
    """Loads a case as a scene.

    Args:
        case: from `find_cases`; a case without labels gives a scene without truth.
        prediction: (X, Y, Z) integer labels in the case's scheme, on its RAS grid.
        modalities: default: those that the case has.

    Raises:
        DataError: a damaged or missing file.
        GeometryError: a prediction on another grid.
    """
    names = modalities or case.modalities
    volume = case.images(names)
    masks = case.mask_paths if isinstance(case, SliceCase) else (case.label_path,)
    truth = case.label().data if all(masks) else None
    return Scene(
        volume.data, tuple(names), volume.spacing, truth, prediction, case.scheme.tissues, case.id, volume.unit
    )
