"""Figures in notebooks: shown with alt text, with one legend and one set of line styles, small enough to keep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from brainseg_utils.errors import SettingError
from brainseg_utils.views import palette, png, slices, words
from brainseg_utils.views.state import ViewState

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110
FEWEST_WORDS = 4  # an alt text that is shorter does not say what a picture shows


def show(picture: Figure | np.ndarray, alt: str) -> None:
    """Displays a picture with its description: the one way in which notebooks show figures.

    The output holds the PNG, the description as its `alt` (metadata of image/png, which HTML exports use) and again as
    text/plain, for readers of the raw notebook. A matplotlib figure is closed, so that it is not shown twice.

    Args:
        picture: a matplotlib figure, or (H, W, 3) uint8.
        alt: one or two sentences that say what one would see.

    Raises:
        SettingError: the description is too short to be one.
    """
    from IPython.display import display

    data, metadata = mimebundle(picture, alt)
    display(data, metadata=metadata, raw=True)


def mimebundle(picture: Figure | np.ndarray, alt: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `show` displays: data and metadata by mime type.

    Raises:
        SettingError: the description is too short to be one.
    """
    import base64

    if len(alt.split()) < FEWEST_WORDS:
        raise SettingError(
            f"alt text {alt!r}", expected=f"{FEWEST_WORDS} words or more", remedy="say in a sentence what is to be seen"
        )
    image = picture if isinstance(picture, np.ndarray) else pixels(picture)
    encoded = base64.b64encode(png.compact(image)).decode("ascii")
    return {"image/png": encoded, "text/plain": alt}, {"image/png": {"alt": alt}}


def montage(state: ViewState, indices: Sequence[int] | None = None, columns: int = 4) -> tuple[np.ndarray, str]:
    """Slices of one plane side by side: the widget's static twin for a whole volume.

    Args:
        state: what to draw; its plane is one of the three, its crosshair is left out.
        indices: slices; default: eight, evenly spread over what is labelled, or over the middle of the volume.
        columns: pictures a row.

    Returns:
        (H, W, 3) uint8, and its alt text.

    Raises:
        SettingError: "three planes" has no single series of slices.
    """
    if state.plane == "three planes":
        raise SettingError("a montage of three planes", expected="axial, coronal or sagittal")
    chosen = _spread(state) if indices is None else list(indices)
    views = [replace(state.on_slice(i), crosshair=False) for i in chosen]
    tiles = [slices.render(view) for view in views]
    height, width, _ = tiles[0].shape
    height -= slices.legend_height(views[0], width)
    rows = -(-len(tiles) // columns)
    across = min(columns, len(tiles))
    whole = across * (width + slices.GAP) - slices.GAP
    body = slices.legend_height(state, whole)
    canvas = np.full((rows * height + body, whole, 3), slices.BACKGROUND, np.uint8)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        place = canvas[row * height :, column * (width + slices.GAP) :]
        place[:height, :width] = tile[:height]
    slices.legend(canvas[-body:], state)
    listed = ", ".join(map(str, chosen))
    first = words.describe(views[len(views) // 2])
    return canvas, f"{len(tiles)} {state.plane} slices ({'xyz'[state.axis]} = {listed}). The middle one: {first}"


def legend_handles(names: Iterable[str]) -> list[Any]:
    """Matplotlib patches with the course's colours and hatches, in its order: `axes.legend(handles=...)`.

    Args:
        names: tissues or regions.

    Raises:
        SettingError: one has no style.
    """
    from matplotlib.patches import Patch

    return [
        Patch(facecolor=style.colour, hatch=style.hatch, edgecolor="black", linewidth=0.5, label=name)
        for name in palette.in_order(names)
        for style in [palette.style(name)]
    ]


def line_style(name: str) -> dict[str, str]:
    """Keywords of a tissue's or region's line for `axes.plot`.

    Example:
        >>> line_style("ET")
        {'color': '#D55E00', 'linestyle': 'solid', 'label': 'ET'}
    """
    style = palette.style(name)
    return {"color": style.colour, "linestyle": style.dash, "label": name}


def bar_style(name: str) -> dict[str, Any]:
    """Keywords of a tissue's or region's area for `axes.bar`, `axes.fill_between` and histograms."""
    style = palette.style(name)
    return {"facecolor": style.colour, "hatch": style.hatch, "edgecolor": "black", "linewidth": 0.5, "label": name}


def use_style() -> None:
    """Sets matplotlib's defaults for the course: Okabe-Ito colours with a line style each, plain axes."""
    import matplotlib as mpl
    from cycler import cycler

    colours = [palette.OKABE_ITO[c] for c in ("blue", "vermilion", "bluish green", "orange", "reddish purple")]
    dashes = ["-", "--", ":", "-.", (0, (5, 1))]
    mpl.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=colours) + cycler(linestyle=dashes),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "figure.constrained_layout.use": True,
            "figure.dpi": DPI,
            "figure.facecolor": "white",
            "image.cmap": palette.MAPS["intensity"],
            "legend.frameon": False,
        }
    )


def pixels(figure: Figure) -> np.ndarray:
    """A matplotlib figure as it is shown, (H, W, 3) uint8, empty margins cut off; the figure is closed."""
    from io import BytesIO

    from matplotlib import pyplot
    from PIL import Image

    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", facecolor="white")
    pyplot.close(figure)
    return np.asarray(Image.open(buffer).convert("RGB"))


def _spread(state: ViewState, count: int = 8) -> list[int]:
    labels = state.scene.prediction if state.sources == ("prediction",) else state.scene.truth
    size = state.scene.shape[state.axis]
    low, high = size * 0.2, size * 0.8
    if labels is not None and labels.any():
        others = tuple(axis for axis in range(3) if axis != state.axis)
        present = np.flatnonzero(labels.any(axis=others))
        low, high = float(present[0]), float(present[-1])
    return sorted({round(i) for i in np.linspace(low, high, count)})
