"""The slice viewer: controls around `slices.render`. Every change makes a new `ViewState` and sends one PNG."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets
import numpy as np
import traitlets

from brainseg_utils.views import figures, palette, png, slices, words
from brainseg_utils.views.state import PlaneChoice, ViewState, Window, largest_lesion_point, scene_of

if TYPE_CHECKING:
    from brainseg_utils.datasets.cases import Case

HERE = Path(__file__).parent
WIDTH = 964  # pixels of the picture that fit a notebook's column
SMALLEST, LARGEST = 240, 480  # pixels of a panel's longer side
PAGE = 10  # slices that PageUp and PageDown go
OPACITY_STEP = 0.1
PLANE_KEYS: Mapping[str, PlaneChoice] = {"a": "axial", "c": "coronal", "s": "sagittal", "3": "three planes"}
PLANE_NAMES = {"axial": "Axial", "coronal": "Coronal", "sagittal": "Sagittal", "three planes": "3 planes"}
LABEL_NAMES = {"truth": "truth", "prediction": "prediction", "both": "both", "errors": "differences"}
KEYS_HELP = (
    "click or drag: crosshair · arrows, PageUp, PageDown, Home, End: slice · a, c, s, 3: plane · "
    "o: overlay · b: borders · x: crosshair · + −: opacity · t, p: truth, prediction"
)


class Picture(anywidget.AnyWidget):
    """An image that reports pointer and keys. Its script and style travel with it; nothing is fetched.

    Attributes:
        png: the image's bytes.
        alt: the image in words.
    """

    _esm = HERE / "picture.js"
    _css = HERE / "picture.css"
    png = traitlets.Bytes(b"").tag(sync=True)
    alt = traitlets.Unicode("").tag(sync=True)


class SliceWidget(ipywidgets.VBox):
    """Slices of one case with controls. `widget.state` is what is shown, and may be set.

    Args:
        state: what to show first.
        controls: False leaves the picture with pointer and keyboard alone.
    """

    def __init__(self, state: ViewState, controls: bool = True) -> None:
        self.picture = Picture()
        self.readout = ipywidgets.HTML()
        self.readout.add_class("brainseg-readout")
        self._state = state
        self._setting = False
        self._make_controls(state)
        self.picture.on_msg(self._on_message)
        bars = [self._top_bar(), self._bottom_bar()] if controls else []
        super().__init__([*bars, self.picture, self.readout])
        self.add_class("brainseg-slices")
        self.state = state

    @property
    def state(self) -> ViewState:
        """What is shown."""
        return self._state

    @state.setter
    def state(self, state: ViewState) -> None:
        self._state = replace(state, size=panel_size(state))
        self._set_controls()
        with self.picture.hold_sync():
            self.picture.png = png.encode(slices.render(self._state))
            self.picture.alt = words.describe(self._state)
        self.readout.value = words.readout(self._state)

    def on_key(self, key: str) -> None:
        """Does what a key means; unknown keys do nothing."""
        state = self._state
        last = state.scene.shape[state.axis] - 1
        steps = {"ArrowUp": 1, "ArrowRight": 1, "ArrowDown": -1, "ArrowLeft": -1, "PageUp": PAGE, "PageDown": -PAGE}
        steps |= {"Home": -last, "End": last}
        both = state.scene.truth is not None and state.scene.prediction is not None
        changes: Mapping[str, Callable[[], dict[str, Any]]] = {
            "o": lambda: {"overlay": not state.overlay},
            "b": lambda: {"outline": not state.outline},
            "x": lambda: {"crosshair": not state.crosshair},
            "+": lambda: {"opacity": min(1.0, round(state.opacity + OPACITY_STEP, 2))},
            "-": lambda: {"opacity": max(0.0, round(state.opacity - OPACITY_STEP, 2))},
            "t": lambda: {"labels": "truth"} if both else {},
            "p": lambda: {"labels": "prediction"} if both else {},
        }
        if key in steps:
            self.state = state.moved(steps[key])
        elif key in PLANE_KEYS:
            self.state = replace(state, plane=PLANE_KEYS[key])
        elif key in changes:
            self.state = replace(state, **changes[key]())

    def on_point(self, row: float, column: float) -> None:
        """Moves the crosshair to what the picture shows at a pixel; outside the panels nothing happens."""
        point = slices.locate(self._state, row, column)
        if point is not None and point != self._state.at:
            self.state = replace(self._state, point=point)

    def _on_message(self, _: Any, content: Any, __: Any) -> None:
        if not isinstance(content, dict):
            return
        if content.get("kind") == "key":
            self.on_key(str(content.get("key")))
        elif content.get("kind") == "point":
            self.on_point(float(content["row"]), float(content["column"]))

    def _make_controls(self, state: ViewState) -> None:
        scene = state.scene
        self.plane = ipywidgets.ToggleButtons(
            options=[(text, value) for value, text in PLANE_NAMES.items()],
            style={"button_width": "6.5em"},
        )
        self.modalities = [
            ipywidgets.ToggleButton(description=palette.modality_name(m), layout={"width": "auto"})
            for m in scene.modalities
        ]
        self.labels = ipywidgets.Dropdown(
            options=[(text, value) for value, text in LABEL_NAMES.items()],
            description="labels",
            style={"description_width": "4em"},
            layout=_wide("13em"),
        )
        slim = {"description_width": "4em"}
        self.slice = ipywidgets.IntSlider(description="slice", style=slim, layout=_wide("18em"))
        self.window = ipywidgets.FloatRangeSlider(
            description="window", min=0, max=100, step=0.5, readout_format=".1f", style=slim, layout=_wide("21em")
        )
        self.opacity = ipywidgets.FloatSlider(
            description="opacity", min=0, max=1, step=0.05, style=slim, layout=_wide("16em")
        )
        self.overlay = ipywidgets.ToggleButton(description="Overlay", layout={"width": "auto"})
        self.outline = ipywidgets.ToggleButton(description="Outline", layout={"width": "auto"})
        for control in (*self._valued(), *self.modalities):
            control.observe(self._from_controls, "value")

    def _valued(self) -> tuple[Any, ...]:
        return self.plane, self.labels, self.slice, self.window, self.opacity, self.overlay, self.outline

    def _top_bar(self) -> ipywidgets.HBox:
        scene = self._state.scene
        parts: list[Any] = [self.plane]
        if len(self.modalities) > 1:
            parts.append(ipywidgets.HBox(self.modalities))
        if scene.truth is not None and scene.prediction is not None:
            parts.append(self.labels)
        parts.append(ipywidgets.HTML(f'<span title="{KEYS_HELP}" class="brainseg-keys">keys</span>'))
        return ipywidgets.HBox(parts, layout=_bar())

    def _bottom_bar(self) -> ipywidgets.HBox:
        scene = self._state.scene
        parts: list[Any] = [self.slice]
        if self._state.window.kind == "percent":
            parts.append(self.window)
        if scene.truth is not None or scene.prediction is not None:
            parts += [self.overlay, self.outline, self.opacity]
        return ipywidgets.HBox(parts, layout=_bar())

    def _set_controls(self) -> None:
        state = self._state
        self._setting = True
        try:
            self.slice.max = state.scene.shape[state.axis] - 1
            self.slice.value = state.at[state.axis]
            self.plane.value, self.labels.value = state.plane, state.labels
            if state.window.kind == "percent":
                self.window.value = (state.window.low, state.window.high)
            self.opacity.value, self.overlay.value, self.outline.value = state.opacity, state.overlay, state.outline
            for channel, button in enumerate(self.modalities):
                button.value = channel in state.channels
        finally:
            self._setting = False

    def _from_controls(self, change: Any) -> None:
        if self._setting:
            return
        state, names = self._state, self._state.scene.modalities
        shown = tuple(name for name, button in zip(names, self.modalities, strict=True) if button.value)
        if state.window.kind == "percent" and self.window.value[0] < self.window.value[1]:
            state = replace(state, window=Window(*self.window.value))
        state = replace(
            state,
            plane=self.plane.value,
            shown=shown,
            labels=self.labels.value,
            overlay=self.overlay.value,
            outline=self.outline.value,
            opacity=self.opacity.value,
        )
        self.state = state.on_slice(self.slice.value) if change["owner"] is self.slice else state

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The live view and, for readers without a kernel, its static twin: the first picture with its description."""
        live = super()._repr_mimebundle_(**kwargs)
        if live is None:
            return None
        data, metadata = figures.mimebundle(slices.render(self._state), words.describe(self._state))
        return {**live, **data}, metadata


def panel_size(state: ViewState) -> int:
    """Pixels of a panel's longer side with which the picture fills a notebook's column."""
    columns = 3 if state.plane == "three planes" else len(state.channels)
    return int(np.clip((WIDTH + slices.GAP) // columns - slices.GAP, SMALLEST, LARGEST))


def view_case(case: Case, prediction: np.ndarray | None = None, **settings: Any) -> SliceWidget:
    """The slice viewer on a case, opened where the lesion is largest.

    Args:
        case: from `find_cases`.
        prediction: (X, Y, Z) integer labels in the case's scheme, on its RAS grid.
        **settings: fields of `ViewState` other than the scene.

    Raises:
        DataError: a damaged or missing file.
        GeometryError: a prediction on another grid.
    """
    scene = scene_of(case, prediction)
    point = settings.pop("point", None) or largest_lesion_point(scene)
    labels = settings.pop("labels", "both" if scene.truth is not None and prediction is not None else "truth")
    return SliceWidget(ViewState(scene, point=point, labels=labels, **settings))


def _wide(width: str) -> dict[str, str]:
    return {"width": width}


def _bar() -> dict[str, str]:
    return {"flex_flow": "row wrap", "align_items": "center", "grid_gap": "2px 14px"}
