"""A slice picture in words: alt text for readers who do not see it, and the values under the crosshair."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from brainseg_utils.evaluation.errors import ERROR_NAMES, error_map
from brainseg_utils.views import palette, slices
from brainseg_utils.views.state import PLANES, Labels, ViewState

SIDES = {
    "axial": "the patient's right on the left, anterior up",
    "coronal": "the patient's right on the left, superior up",
    "sagittal": "anterior on the left, superior up",
}


def describe(state: ViewState) -> str:
    """Alt text: what is shown, where, how it is turned, and how much of each label the slice holds.

    Example:
        >>> from brainseg_utils.views.state import Scene
        >>> truth = np.zeros((4, 4, 4), np.uint8); truth[1:3, 1:3, 2] = 1
        >>> scene = Scene(np.ones((1, 4, 4, 4)), ("t2f",), truth=truth, tissues={1: "SNFH"})
        >>> print(describe(ViewState(scene, plane="sagittal")))
        FLAIR, sagittal slice x = 2 (0 to 3), anterior on the left, superior up. Truth on this slice: SNFH 2 mm².
    """
    scene = state.scene
    start = f"{scene.title}: " if scene.title else ""
    modalities = joined(palette.modality_name(scene.modalities[c]) for c in state.channels)
    if state.plane == "three planes":
        cuts = ", ".join(f"{plane} {'xyz'[axis]} = {state.at[axis]}" for plane, axis in PLANES.items())
        where = f"three planes through one point ({cuts}), the patient's right on the left"
    else:
        name = "xyz"[state.axis]
        last = scene.shape[state.axis] - 1
        where = f"{state.plane} slice {name} = {state.at[state.axis]} (0 to {last}), {SIDES[state.plane]}"
    shown = state.overlay or state.outline
    labels = "".join(f" {_amounts(state, source)}" for source in state.sources) if shown else ""
    return f"{start}{modalities}, {where}.{labels}"


def readout(state: ViewState) -> str:
    """The voxel under the crosshair: its place, each modality's value, and its labels.

    Example:
        >>> from brainseg_utils.views.state import Scene
        >>> readout(ViewState(Scene(np.full((1, 4, 4, 4), 7.0), ("t1c",))))
        'x 2, y 2, z 2 · T1 contrast 7'
    """
    x, y, z = state.at
    values = (
        f"{palette.modality_name(name)} {image[x, y, z]:.4g}"
        for name, image in zip(state.scene.modalities, state.scene.images, strict=True)
    )
    labels = (
        f"{name} {state.scene.tissues.get(int(volume[x, y, z]), 'background')}"
        for name, volume in (("truth", state.scene.truth), ("prediction", state.scene.prediction))
        if volume is not None
    )
    return " · ".join([f"x {x}, y {y}, z {z}", *values, *labels])


def joined(words: Iterable[str]) -> str:
    """Words as a list in a sentence.

    Example:
        >>> joined(["T1", "T2", "FLAIR"])
        'T1, T2 and FLAIR'
    """
    known = list(words)
    return " and ".join(([", ".join(known[:-1])] if len(known) > 1 else []) + known[-1:])


def _amounts(state: ViewState, source: Labels) -> str:
    """What one row of the picture holds, as areas on the slice, or volumes where all three planes are shown."""
    scene = state.scene
    if scene.truth is None and scene.prediction is None:
        return ""
    three = state.plane == "three planes"
    counts = scene.counts[source] if three else _on_slice(state, source)
    if source == "errors":
        values = ERROR_NAMES
    else:
        order = palette.in_order(scene.tissues.values())
        values = dict(sorted(scene.tissues.items(), key=lambda item: order.index(item[1])))
    present = [f"{name} {_size(state, int(counts[value]), three)}" for value, name in values.items() if counts[value]]
    place = "in the volume" if three else "on this slice"
    return f"{source.capitalize()} {place}: {joined(present) or 'nothing labelled'}."


def _on_slice(state: ViewState, source: Labels) -> np.ndarray:
    truth, prediction = (
        None if volume is None else slices.cut(volume, state.planes[0], state.at[state.axis])
        for volume in (state.scene.truth, state.scene.prediction)
    )
    labels = prediction if source == "prediction" else truth
    if source == "errors":
        assert truth is not None and prediction is not None
        labels = error_map(truth, prediction)
    assert labels is not None
    return np.bincount(labels.ravel(), minlength=256)


def _size(state: ViewState, voxels: int, volume: bool) -> str:
    spacing, unit = state.scene.spacing, state.scene.unit
    if unit != "mm":
        return f"{voxels} voxels" if volume else f"{voxels} pixels"
    if volume:
        return f"{voxels * float(np.prod(spacing)) / 1000:.1f} mL"
    across = [s for axis, s in enumerate(spacing) if axis != state.axis]
    area = voxels * across[0] * across[1]
    return f"{area / 100:.1f} cm²" if area >= 100 else f"{area:.0f} mm²"
