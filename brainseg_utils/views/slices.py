"""The slice picture: `render(state)` is a pure function from a `ViewState` to pixels.

Slices are drawn as radiologists read them: the patient's right on the picture's left in axial and coronal planes, the
face to the left in sagittal ones, anterior and superior up. Voxels keep their proportions in millimetres.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from brainseg_utils.evaluation.errors import ERROR_NAMES, error_map
from brainseg_utils.views import draw, palette
from brainseg_utils.views.state import PLANES, Labels, Plane, Point, Scene, ViewState

GAP = 4  # pixels between panels
BACKGROUND = 18
STRIP = 26  # pixels of the legend's line
FONT = 12
SWATCH = 15
CROSS = (255, 255, 255)
CROSS_OPACITY = 0.55
CROSS_GAP = 7  # pixels left free around the point, so that the lines do not hide it
PATTERN_BOOST = 0.3  # added to the opacity where a pattern has its strokes
BARS = (100, 50, 20, 10, 5, 2, 1)  # lengths that a scale bar may have
LETTERS: Mapping[Plane, tuple[str, str, str, str]] = {  # at the left, right, top and bottom
    "axial": ("R", "L", "A", "P"),
    "coronal": ("R", "L", "S", "I"),
    "sagittal": ("A", "P", "S", "I"),
}


@dataclass(frozen=True)
class Panel:
    """One slice in the picture: a channel, a plane and whose labels, at (row, column) with (height, width)."""

    channel: int
    plane: Plane
    source: Labels
    row: int
    column: int
    height: int
    width: int

    @property
    def place(self) -> tuple[slice, slice]:
        """Where it lies in the picture."""
        return slice(self.row, self.row + self.height), slice(self.column, self.column + self.width)


def layout(state: ViewState) -> tuple[list[Panel], tuple[int, int]]:
    """Where each panel stands, and the picture's height and width in pixels.

    One plane gives a column a modality and a row a label source; three planes give a column a plane.
    """
    scale = _scale(state)
    sizes = {plane: _panel_size(state.scene, plane, scale) for plane in state.planes}
    if state.plane == "three planes":
        grid = [[(c, p, s) for p in state.planes] for c in state.channels for s in state.sources]
    else:
        grid = [[(c, state.planes[0], s) for c in state.channels] for s in state.sources]
    panels, row, width = [], 0, 0
    for line in grid:
        tallest, column = max(sizes[p][0] for _, p, _ in line), 0
        for channel, plane, source in line:
            height, across = sizes[plane]
            panels.append(Panel(channel, plane, source, row + (tallest - height) // 2, column, height, across))
            column += across + GAP
        width = max(width, column - GAP)
        row += tallest + GAP
    return panels, (row + legend_height(state, width), width)


def render(state: ViewState) -> np.ndarray:
    """Draws the picture. The same state gives the same pixels, and the arrays in it are left as they are.

    Returns:
        (H, W, 3) uint8.
    """
    panels, (height, width) = layout(state)
    canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
    inks: dict[tuple[Plane, Labels], _Ink] = {}  # the modalities share theirs
    for panel in panels:
        key = (panel.plane, panel.source)
        if key not in inks:
            inks[key] = _ink(state, panel)
        view = canvas[panel.place]
        view[:] = _grey(state, panel)[..., None]
        inks[key].apply(view)
        if state.crosshair:
            _cross(view, state, panel)
        _annotate(view, state, panel, last=panel is panels[-1])
    legend(canvas[height - legend_height(state, width) :], state)
    return canvas


def locate(state: ViewState, row: float, column: float) -> Point | None:
    """The voxel that a pixel of the picture shows: what a click there means.

    Returns:
        (x, y, z), or None outside the panels.
    """
    for panel in layout(state)[0]:
        if 0 <= row - panel.row < panel.height and 0 <= column - panel.column < panel.width:
            point = list(state.at)
            for axis, place, size in zip(
                _axes(panel.plane),
                (column - panel.column, row - panel.row),
                (panel.width, panel.height),
                strict=True,
            ):
                n = state.scene.shape[axis]
                point[axis] = n - 1 - int(place * n / size)
            return point[0], point[1], point[2]
    return None


def cut(volume: np.ndarray, plane: Plane, index: int) -> np.ndarray:
    """One slice of an (X, Y, Z) RAS array as rows and columns of a picture, in radiological orientation.

    Example:
        >>> cut(np.arange(8).reshape(2, 2, 2), "axial", 0)  # top left is right and anterior: x = 1, y = 1
        array([[6, 2],
               [4, 0]])
    """
    where: list[slice | int] = [slice(None)] * 3
    where[PLANES[plane]] = index
    return volume[tuple(where)].T[::-1, ::-1]  # a view: `take` would copy volumes that are not C-ordered


def _axes(plane: Plane) -> tuple[int, int]:
    """The array axes along a picture's columns and rows."""
    column, row = (axis for axis in range(3) if axis != PLANES[plane])
    return column, row


def _scale(state: ViewState) -> float:
    """Pixels per millimetre, the same in all panels."""
    scene = state.scene
    extents = [scene.shape[axis] * scene.spacing[axis] for plane in state.planes for axis in _axes(plane)]
    return state.size / max(extents)


def _panel_size(scene: Scene, plane: Plane, scale: float) -> tuple[int, int]:
    column, row = (max(1, round(scene.shape[a] * scene.spacing[a] * scale)) for a in _axes(plane))
    return row, column


def _grey(state: ViewState, panel: Panel) -> np.ndarray:
    low, high = state.window.limits(state.scene, panel.channel)
    values = cut(state.scene.images[panel.channel], panel.plane, state.at[PLANES[panel.plane]])
    grey = (values.astype(np.float32, order="C") - low) * (255 / max(high - low, 1e-12))
    grey = np.fmin(np.fmax(grey, 0), 255)  # NaN is drawn black
    return (draw.smooth(grey, (panel.height, panel.width)) + 0.5).astype(np.uint8)


def _labels(state: ViewState, panel: Panel) -> np.ndarray:
    """The panel's labels as indices into `_styles`, 0 for background."""
    scene, index = state.scene, state.at[PLANES[panel.plane]]
    truth, prediction = (
        None if volume is None else cut(volume, panel.plane, index) for volume in (scene.truth, scene.prediction)
    )
    shape = panel.height, panel.width
    if panel.source == "errors":
        assert truth is not None and prediction is not None
        return draw.nearest(error_map(truth, prediction), shape)
    labels = prediction if panel.source == "prediction" else truth
    if labels is None:
        return np.zeros(shape, np.uint8)
    table = np.zeros(256, np.uint8)
    order = palette.in_order(scene.tissues.values())
    for value, tissue in scene.tissues.items():
        table[value] = 1 + order.index(tissue)
    return draw.nearest(table[labels.astype(np.uint8)], shape)


def _styles(state: ViewState) -> dict[str, palette.Style]:
    if state.sources == ("errors",):
        return {name: palette.ERRORS[name] for name in ERROR_NAMES.values()}
    return {name: palette.TISSUES[name] for name in palette.in_order(state.scene.tissues.values())}


@dataclass(frozen=True)
class _Ink:
    """What the labels put on a panel: inked pixels, their colour times its opacity, and how much of the image stays."""

    pixels: tuple[np.ndarray, ...]
    colour: np.ndarray
    through: np.ndarray

    def apply(self, view: np.ndarray) -> None:
        view[self.pixels] = (view[self.pixels] * self.through + self.colour).astype(np.uint8)


def _ink(state: ViewState, panel: Panel) -> _Ink:
    labels = _labels(state, panel)
    opacity = np.zeros(labels.shape, np.float32)
    colours = np.zeros((256, 3), np.float32)
    edge = draw.border(labels) if state.outline else None
    for index, (name, style) in enumerate(_styles(state).items(), start=1):
        here = labels == index
        if not here.any():
            continue
        colours[index] = style.rgb
        if state.overlay and name != "agreed":
            opacity[here] = state.opacity
            strokes = here & draw.pattern(style.pattern, here.shape)
            opacity[strokes] = min(1.0, state.opacity + PATTERN_BOOST * (state.opacity > 0))
        if edge is not None:
            opacity[here & edge & draw.dash(style.dash, here.shape)] = 1.0
    pixels = np.nonzero(opacity)
    alpha = opacity[pixels][:, None]
    return _Ink(pixels, colours[labels[pixels]] * alpha + 0.5, 1 - alpha)


def _cross(view: np.ndarray, state: ViewState, panel: Panel) -> None:
    places = []
    for axis, size in zip(_axes(panel.plane), (panel.width, panel.height), strict=True):
        n = state.scene.shape[axis]
        places.append(min(size - 1, int((n - 0.5 - state.at[axis]) * size / n)))
    column, row = places
    for line in (
        view[row, : max(0, column - CROSS_GAP)],
        view[row, column + CROSS_GAP + 1 :],
        view[: max(0, row - CROSS_GAP), column],
        view[row + CROSS_GAP + 1 :, column],
    ):
        line[:] = line * (1 - CROSS_OPACITY) + np.array(CROSS) * CROSS_OPACITY


def _annotate(view: np.ndarray, state: ViewState, panel: Panel, last: bool) -> None:
    height, width, _ = view.shape
    left, right, top, bottom = LETTERS[panel.plane]
    draw.write(view, left, height / 2, 4, FONT, "ml")
    draw.write(view, right, height / 2, width - 4, FONT, "mr")
    draw.write(view, top, 2, width / 2, FONT, "tm")
    draw.write(view, bottom, height - 2, width / 2, FONT, "bm")
    draw.write(view, palette.modality_name(state.scene.modalities[panel.channel]), 2, 5, FONT, "tl")
    if state.labels != "truth" and (state.overlay or state.outline) and state.scene.prediction is not None:
        draw.write(view, panel.source, 2, width - 5, FONT, "tr", grey=200)
    axis = PLANES[panel.plane]
    draw.write(view, f"{'xyz'[axis]} = {state.at[axis]}", height - 2, 5, FONT - 1, "bl")
    if last:
        _scale_bar(view, state)


def _scale_bar(view: np.ndarray, state: ViewState) -> None:
    height, width, _ = view.shape
    scale = _scale(state)
    length = next((bar for bar in BARS if bar * scale <= width / 3), None)
    if length is None:
        return
    pixels = round(length * scale)
    view[height - 7 : height - 4, width - 7 - pixels : width - 5] = 0
    view[height - 6 : height - 5, width - 6 - pixels : width - 6] = 235
    draw.write(view, f"{length} {state.scene.unit}", height - 7, width - 6, FONT - 1, "br")


def legend_height(state: ViewState, width: int) -> int:
    """Pixels that the legend below panels of this width needs: as many lines as its words fill, shown or not."""
    return STRIP * max(len(_legend_lines(state, width)), 1)


def legend(strip: np.ndarray, state: ViewState) -> None:
    """Draws what stands below the panels in place: the labels that are shown, and where there is room the title."""
    column, middle = 5, STRIP // 2
    lines = _legend_lines(state, strip.shape[1]) if state.overlay or state.outline else []
    for number, line in enumerate(lines):
        column, middle = 5, number * STRIP + STRIP // 2
        for name, style in line.items():
            swatch = strip[middle - SWATCH // 2 : middle - SWATCH // 2 + SWATCH, column : column + SWATCH]
            _swatch(swatch, style, filled=name != "agreed")
            draw.write(strip, name, middle, column + SWATCH + 5, FONT, "ml")
            column += SWATCH + draw.text_width(name, FONT) + 18
    if column + draw.text_width(state.scene.title, FONT) < strip.shape[1]:
        draw.write(strip, state.scene.title, middle, strip.shape[1] - 5, FONT, "mr", grey=170)


def _legend_lines(state: ViewState, width: int) -> list[dict[str, palette.Style]]:
    lines: list[dict[str, palette.Style]] = []
    end = width
    for name, style in _styles(state).items():
        needed = SWATCH + draw.text_width(name, FONT)
        if end + needed > width:
            lines.append({})
            end = 5
        lines[-1][name] = style
        end += needed + 18
    return lines


def _swatch(view: np.ndarray, style: palette.Style, filled: bool) -> None:
    view[:] = 70
    shape = view.shape[:2]
    if filled:
        view[:] = (70 * 0.5 + np.array(style.rgb) * 0.5).astype(np.uint8)
        view[draw.pattern(style.pattern, shape)] = style.rgb
    view[draw.border(np.ones(shape, np.uint8)) & draw.dash(style.dash, shape)] = style.rgb
