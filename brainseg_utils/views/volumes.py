"""Three planes and a 3D rendering on the graphics card, with NiiVue. Its script is in its wheel: nothing is fetched."""

from __future__ import annotations

import gzip
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
from ipyniivue import NiiVue, ShowRender, SliceType, Volume

from brainseg_utils.views import figures, palette, slices, words
from brainseg_utils.views.state import Labels, Scene, ViewState, largest_lesion_point, scene_of

if TYPE_CHECKING:
    from brainseg_utils.datasets.cases import Case

HEIGHT = 300  # pixels
TWIN = 320  # pixels of the static twin's longer side
QUICK = 1  # gzip level


class VolumeView(ipywidgets.VBox):
    """NiiVue with a legend and a static twin: three planes through the same point, described in words.

    Attributes:
        niivue: the live view, with all of ipyniivue's methods.

    Args:
        state: what to show: its first modality, its labels ("both" and "errors" show the truth), its window, point
            and opacity.
        height: pixels.
    """

    def __init__(self, state: ViewState, height: int = HEIGHT) -> None:
        self.niivue = NiiVue(
            height=height,
            is_radiological_convention=True,
            sagittal_nose_left=True,
            slice_type=SliceType.MULTIPLANAR,
            multiplanar_show_render=ShowRender.ALWAYS,
            back_color=(0.0, 0.0, 0.0, 1.0),
            font_color=(0.9, 0.9, 0.9, 1.0),
            crosshair_color=(0.8, 0.8, 0.8, 0.6),
            crosshair_width=1.0,
            crosshair_width_unit="mm",
        )
        self.niivue.scene.crosshair_pos = [(p + 0.5) / n for p, n in zip(state.at, state.scene.shape, strict=True)]
        self.niivue.load_volumes(volumes_of(state))
        first = state.scene.modalities[state.channels[0]]
        labels: Labels = "prediction" if state.sources == ("prediction",) else "truth"
        self._twin = replace(state, plane="three planes", shown=(first,), labels=labels, size=TWIN)
        super().__init__([self.niivue, ipywidgets.HTML(_legend(self._twin))])

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        live = super()._repr_mimebundle_(**kwargs)
        if live is None:
            return None
        data, metadata = figures.mimebundle(slices.render(self._twin), words.describe(self._twin))
        return {**live, **data}, metadata


def _legend(state: ViewState) -> str:
    """What is shown, with each tissue's colour beside its name, as HTML."""
    scene = state.scene
    parts = [escape(scene.title)] if scene.title else []
    parts.append(palette.modality_name(scene.modalities[state.channels[0]]))
    if scene.truth is not None or scene.prediction is not None:
        parts.append(state.labels)
        square = '<span style="background: {}; display: inline-block; width: 0.9em; height: 0.9em"></span> {}'
        tissues = palette.in_order(scene.tissues.values())
        parts += [square.format(palette.TISSUES[tissue].colour, tissue) for tissue in tissues]
    return " &nbsp; ".join(parts)


def volumes_of(state: ViewState) -> list[Volume]:
    """The state's first modality, windowed to 8 bits, and its labels in the tissues' colours, as in-memory NIfTI."""
    scene, channel = state.scene, state.channels[0]
    low, high = state.window.limits(scene, channel)
    values = np.nan_to_num(scene.images[channel])
    grey = np.clip((values - low) * (255 / max(high - low, 1e-12)), 0, 255).astype(np.uint8)
    name = f"{scene.modalities[channel]}.nii.gz"
    image = Volume(data=nifti_bytes(grey, scene.spacing), name=name, colormap="gray", cal_min=0, cal_max=255)
    labels = scene.prediction if state.sources == ("prediction",) else scene.truth
    if labels is None:
        return [image]
    overlay = Volume(
        data=nifti_bytes(labels.astype(np.uint8), scene.spacing),
        name="labels.nii.gz",
        opacity=min(1.0, 2 * state.opacity) if state.overlay else 0.0,
    )
    overlay.set_colormap_label(label_colours(scene))
    return [image, overlay]


def label_colours(scene: Scene) -> dict[str, list]:
    """The tissues' colours as NiiVue takes them: R, G, B, A (0 to 255), I (label values) and names.

    Example:
        >>> label_colours(Scene(np.ones((1, 2, 2, 2)), ("t1c",), tissues={4: "ET"}))["I"]
        [0, 4]
    """
    values = sorted(scene.tissues)
    rgb = [(0, 0, 0)] + [palette.TISSUES[scene.tissues[v]].rgb for v in values]
    red, green, blue = (list(channel) for channel in zip(*rgb, strict=True))
    return {
        "R": red,
        "G": green,
        "B": blue,
        "A": [0] + [255] * len(values),
        "I": [0, *values],
        "labels": ["", *(scene.tissues[v] for v in values)],
    }


def nifti_bytes(volume: np.ndarray, spacing: tuple[float, float, float]) -> bytes:
    """A .nii.gz file's bytes with the volume's middle at the origin.

    Args:
        volume: (X, Y, Z) uint8, RAS.
        spacing: voxel size in millimetres.
    """
    import nibabel

    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-s * (n - 1) / 2 for s, n in zip(spacing, volume.shape, strict=True)]
    image = nibabel.nifti1.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), QUICK)


def view_volume(case: Case, prediction: np.ndarray | None = None, modality: str = "t1c") -> VolumeView:
    """The 3D view on a case: one modality, and the prediction if there is one, else the truth.

    Args:
        case: from `find_cases`.
        prediction: (X, Y, Z) integer labels in the case's scheme, on its RAS grid.
        modality: which image.

    Raises:
        DataError: a damaged or missing file.
        GeometryError: a prediction on another grid.
    """
    scene = scene_of(case, prediction, (modality,))
    point = largest_lesion_point(scene)
    return VolumeView(ViewState(scene, point=point, labels="truth" if prediction is None else "prediction"))
