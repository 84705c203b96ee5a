"""Metrics as sliders: a mask is moved, grown, split and blurred, and the scores against the unchanged one follow.

`render` is a pure function from a sandbox and a change to pixels; `MetricSliders` puts controls around it. Notebook 07
uses both: the live view where a kernel runs, and drawings of the same function on paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import ipywidgets
import numpy as np

from brainseg_utils.evaluation.sandbox import Change, Measured, Sandbox, changed, measure
from brainseg_utils.views import draw, figures, palette, png, slices
from brainseg_utils.views.state import Scene, ViewState, Window
from brainseg_utils.views.widget import Picture

HD95_SHOWN_MM = 40.0  # the end of HD95's bar
SKY_BLUE = palette.Style(palette.OKABE_ITO["sky blue"], "plain", "solid")
VERMILION = palette.Style(palette.OKABE_ITO["vermilion"], "plain", "solid")
PANEL, BARS_WIDTH, ROW = 430, 500, 46
NAMES: Mapping[str, str] = {
    "dice": "Dice",
    "iou": "IoU",
    "sensitivity": "sensitivity",
    "nsd": "NSD at 1 mm",
    "lesion_dice": "lesion-wise Dice",
    "hd95": "HD95 (mm)",
}
LIMITS: Mapping[str, tuple[float, float]] = {"move": (0, 12), "grow": (-8, 8), "split": (0, 20), "blur": (0, 8)}


def render(sandbox: Sandbox, change: Change) -> np.ndarray:
    """Draws where truth and changed mask agree and differ, and a bar for each metric.

    Returns:
        (H, W, 3) uint8.
    """
    return _draw(sandbox, *_result(sandbox, change))


def describe(sandbox: Sandbox, change: Change) -> str:
    """The picture in words: what was done, and the scores."""
    return _words(change, _result(sandbox, change)[1])


def _result(sandbox: Sandbox, change: Change) -> tuple[np.ndarray, Measured]:
    prediction = changed(sandbox, change)
    return prediction, measure(sandbox, prediction)


def _draw(sandbox: Sandbox, prediction: np.ndarray, scores: Measured) -> np.ndarray:
    left = render_slice(sandbox, prediction)
    height = max(left.shape[0], ROW * (len(NAMES) + 2))
    canvas = np.full((height, left.shape[1] + BARS_WIDTH, 3), slices.BACKGROUND, np.uint8)
    canvas[: left.shape[0], : left.shape[1]] = left
    _bars(canvas[:, left.shape[1] :], scores)
    return canvas


def render_slice(sandbox: Sandbox, prediction: np.ndarray, size: int = PANEL) -> np.ndarray:
    """The slice alone: missed and extra voxels filled, agreed ones outlined; (H, W, 3) uint8."""
    x, y, z = sandbox.spacing
    masks = sandbox.truth.astype(np.uint8), prediction.astype(np.uint8)
    scene = Scene(sandbox.image[None], ("t2f",), (x, y, z), *masks, {1: "tumour"})
    window = Window(0, max(float(np.quantile(sandbox.image[:, :, sandbox.point[2]], 0.995)), 1e-6), "value")
    state = ViewState(scene, sandbox.point, labels="errors", window=window, crosshair=False, opacity=0.5, size=size)
    return slices.render(state)


def _words(change: Change, scores: Measured) -> str:
    done = [f"{f.name} {getattr(change, f.name):g} mm" for f in fields(change) if getattr(change, f.name)]
    numbers = ", ".join(f"{name} {getattr(scores, key):.2f}" for key, name in NAMES.items())
    return (
        f"A lesion and its changed copy ({', '.join(done) or 'unchanged'}) in one slice, with a bar for each score: "
        f"{numbers}; lesions found {scores.found}, missed {scores.missed}, invented {scores.invented}."
    )


def _bars(panel: np.ndarray, scores: Measured) -> None:
    """One row a metric: name, bar, number; and a line about lesions."""
    left, right, size = 160, BARS_WIDTH - 80, 15
    for row, (key, name) in enumerate(NAMES.items()):
        value = float(getattr(scores, key))
        share = min(value / HD95_SHOWN_MM, 1.0) if key == "hd95" else value
        middle = ROW * row + ROW // 2 + 8
        draw.write(panel, name, middle, left - 12, size, "mr")
        panel[middle - 9 : middle + 9, left:right] = 45
        colour = VERMILION if key == "hd95" else SKY_BLUE
        panel[middle - 9 : middle + 9, left : left + round(share * (right - left))] = colour.rgb
        text = f"{value:.1f}" if key == "hd95" else f"{value:.3f}"
        draw.write(panel, text, middle, right + 10, size, "ml")
    bottom = ROW * len(NAMES) + ROW // 2 + 4
    counts = f"lesions: {scores.found} found, {scores.missed} missed, {scores.invented} invented"
    draw.write(panel, counts, bottom, left, size, "ml")
    note = f"blue bars: 0 to 1, full is best; the red one: 0 to {HD95_SHOWN_MM:g} mm, empty is best"
    draw.write(panel, note, bottom + 30, 12, 12, "ml", grey=170)


class MetricSliders(ipywidgets.VBox):
    """Four sliders and the picture. `widget.change` is what is shown, and may be set.

    Args:
        sandbox: the lesion.
        change: what to show first.
    """

    def __init__(self, sandbox: Sandbox, change: Change | None = None) -> None:
        self.sandbox = sandbox
        self.picture = Picture()
        self._setting = False
        self.sliders = {name: _slider(name, sandbox, *limits) for name, limits in LIMITS.items()}
        for slider in self.sliders.values():
            slider.observe(self._from_sliders, "value")
        controls = ipywidgets.HBox(
            list(self.sliders.values()), layout={"flex_flow": "row wrap", "grid_gap": "2px 14px"}
        )
        super().__init__([controls, self.picture])
        self.change = change or Change()

    @property
    def change(self) -> Change:
        """What is shown."""
        return self._change

    @change.setter
    def change(self, change: Change) -> None:
        self._change = change
        self._setting = True
        try:
            for name, slider in self.sliders.items():
                slider.value = getattr(change, name)
        finally:
            self._setting = False
        with self.picture.hold_sync():
            prediction, scores = _result(self.sandbox, change)
            self.picture.png = png.encode(_draw(self.sandbox, prediction, scores))
            self.picture.alt = _words(change, scores)

    def _from_sliders(self, _: Any) -> None:
        if not self._setting:
            self.change = Change(**{name: slider.value for name, slider in self.sliders.items()})

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The live view and, for readers without a kernel, its picture with a description."""
        live = super()._repr_mimebundle_(**kwargs)
        if live is None:
            return None
        data, metadata = figures.mimebundle(render(self.sandbox, self.change), describe(self.sandbox, self.change))
        return {**live, **data}, metadata


def _slider(name: str, sandbox: Sandbox, low: float, high: float) -> ipywidgets.FloatSlider:
    step = sandbox.spacing[0] if name == "move" else 0.5
    return ipywidgets.FloatSlider(
        description=f"{name} (mm)", min=low, max=high, step=step, readout_format=".1f", layout={"width": "21em"}
    )
