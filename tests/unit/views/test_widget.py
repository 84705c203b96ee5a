"""The viewer's controls, keys and clicks; its static twin; the 3D view's arrays; figures with alt text."""

from __future__ import annotations

import base64
import gzip
from dataclasses import replace
from io import BytesIO

import matplotlib
import nbformat
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from PIL import Image

from brainseg_utils.datasets.export import write_case, write_slices
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.errors import GeometryError, SettingError
from brainseg_utils.views import figures, palette, slices, volumes, words
from brainseg_utils.views.state import Scene, ViewState, scene_of
from brainseg_utils.views.widget import LARGEST, SliceWidget, panel_size, view_case

matplotlib.use("Agg")
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def scene() -> Scene:
    rng = np.random.default_rng(1)
    images = rng.normal(100, 20, (4, 20, 24, 16)).astype(np.float32)
    truth = np.zeros((20, 24, 16), np.uint8)
    truth[5:15, 6:18, 4:12] = 2
    truth[7:11, 8:14, 6:10] = 3
    return Scene(
        images, ("t1n", "t1c", "t2w", "t2f"), (1.0, 1.0, 2.0), truth, np.roll(truth, 2, 1), {2: "SNFH", 3: "ET"}, "c1"
    )


@pytest.fixture
def widget(scene) -> SliceWidget:
    return SliceWidget(ViewState(scene, point=(8, 9, 7)))


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def test_the_picture_is_what_render_draws(widget):
    assert np.array_equal(decoded(widget.picture.png), slices.render(widget.state))
    assert widget.picture.alt == words.describe(widget.state)


@pytest.mark.parametrize(
    ("key", "field", "value"),
    [
        ("ArrowUp", "point", (8, 9, 8)),
        ("ArrowLeft", "point", (8, 9, 6)),
        ("PageUp", "point", (8, 9, 15)),
        ("PageDown", "point", (8, 9, 0)),
        ("Home", "point", (8, 9, 0)),
        ("End", "point", (8, 9, 15)),
        ("c", "plane", "coronal"),
        ("s", "plane", "sagittal"),
        ("3", "plane", "three planes"),
        ("o", "overlay", False),
        ("b", "outline", False),
        ("x", "crosshair", False),
        ("+", "opacity", 0.45),
        ("-", "opacity", 0.25),
        ("p", "labels", "prediction"),
    ],
)
def test_keys_do_what_the_help_says(widget, key, field, value):
    before = widget.picture.png
    widget._on_message(None, {"kind": "key", "key": key}, [])
    assert getattr(widget.state, field) == value
    assert widget.picture.png != before


def test_unknown_keys_and_messages_do_nothing(widget):
    before = widget.state
    widget._on_message(None, {"kind": "key", "key": "q"}, [])
    widget._on_message(None, "noise", [])
    widget._on_message(None, {"kind": "other"}, [])
    assert widget.state is before


def test_a_click_moves_the_crosshair_and_the_other_planes_follow(widget):
    widget.state = replace(widget.state, plane="three planes")
    panel = slices.layout(widget.state)[0][0]
    widget._on_message(None, {"kind": "point", "row": panel.row + 3, "column": panel.column + 3}, [])
    assert widget.state.at == (19, 23, 7)  # right, anterior; the axial slice stays
    assert widget.readout.value.startswith("x 19, y 23, z 7")
    same = widget.state
    widget._on_message(None, {"kind": "point", "row": 1e6, "column": 0}, [])
    assert widget.state is same


def test_controls_change_the_state_and_follow_it(widget):
    widget.plane.value = "sagittal"
    assert (widget.slice.max, widget.slice.value) == (19, 8)
    widget.slice.value = 3
    assert widget.state.at == (3, 9, 7)
    widget.modalities[0].value = widget.modalities[3].value = False
    assert widget.state.shown == ("t1c", "t2w")
    widget.window.value = (5, 95)
    assert (widget.state.window.low, widget.state.window.high) == (5, 95)
    widget.labels.value = "errors"
    widget.opacity.value = 0.8
    assert (widget.state.labels, widget.state.opacity) == ("errors", 0.8)
    widget.on_key("ArrowUp")
    assert widget.slice.value == 4


def test_the_last_modality_cannot_be_hidden(widget):
    for button in widget.modalities:
        button.value = False
    assert len(widget.state.channels) == 4
    assert all(button.value for button in widget.modalities)


def test_few_panels_are_drawn_larger(scene):
    assert panel_size(ViewState(scene)) == 240
    assert panel_size(ViewState(scene, shown=("t1c",))) == LARGEST
    assert slices.layout(ViewState(scene, plane="three planes", size=panel_size(ViewState(scene))))[1][1] <= 964


def test_the_static_twin_travels_with_the_live_view(widget):
    data, metadata = widget._repr_mimebundle_()
    assert set(data) == {WIDGET, "image/png", "text/plain"}
    assert metadata["image/png"]["alt"] == data["text/plain"] == words.describe(widget.state)
    assert decoded(base64.b64decode(data["image/png"])).shape == slices.render(widget.state).shape


def test_the_twin_is_what_an_export_without_widget_state_shows(widget):
    from nbconvert import HTMLExporter

    data, metadata = widget._repr_mimebundle_()
    cell = nbformat.v4.new_code_cell("view", outputs=[nbformat.v4.new_output("display_data", data, metadata=metadata)])
    page, _ = HTMLExporter(template_name="classic").from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    assert data["image/png"][:60] in page
    assert "axial slice z = 7" in page


def test_alt_text_says_what_where_and_how_much(scene):
    state = ViewState(scene, point=(8, 9, 7))
    assert words.describe(state) == (
        "c1: T1, T1 contrast, T2 and FLAIR, axial slice z = 7 (0 to 15), the patient's right on the left, anterior up. "
        "Truth on this slice: SNFH 96 mm² and ET 24 mm²."
    )
    coronal = words.describe(replace(state, plane="coronal", shown=("t2f",), labels="errors"))
    assert "FLAIR, coronal slice y = 9" in coronal
    assert "Errors on this slice: agreed" in coronal
    three = words.describe(replace(state, plane="three planes"))
    assert "SNFH 1.7 mL and ET 0.2 mL" in three  # (960 - 96) and 96 voxels of 2 mm³
    assert "nothing labelled" in words.describe(state.on_slice(0))
    assert "Truth" not in words.describe(replace(state, overlay=False, outline=False))
    assert "12 pixels" not in words.describe(state)
    assert "SNFH 96 pixels" in words.describe(replace(state, scene=replace(scene, unit="px")))


def test_a_case_is_viewed_from_its_files(tmp_path, scene):
    images = dict(zip(scene.modalities, scene.images, strict=True))
    write_case(tmp_path, "brats2023", "BraTS-GLI-00001-000", images, scene.truth, np.diag([1.0, 1.0, 2.0, 1.0]))
    case = find_cases(tmp_path)[0]
    widget = view_case(case, scene.prediction, plane="coronal")
    shown = widget.state.scene
    assert np.allclose(shown.images, scene.images)
    assert np.array_equal(shown.truth, scene.truth)
    assert shown.spacing == (1.0, 1.0, 2.0)
    assert (widget.state.plane, widget.state.labels, shown.title) == ("coronal", "both", case.id)
    with pytest.raises(GeometryError, match="prediction of shape"):
        scene_of(case, scene.prediction[1:])
    view = volumes.view_volume(case)
    assert [v.name for v in view.niivue.volumes] == ["t1c.nii.gz", "labels.nii.gz"]


def test_an_lgg_patient_is_viewed_and_needs_no_masks(tmp_path, scene):
    images = {m: np.full((20, 24, 16), 10 * (1 + i), np.uint8) for i, m in enumerate(("t1n", "t2f", "t1c"))}
    folder = write_slices(tmp_path, "TCGA_CS_0001_20000101", images, scene.truth > 0)
    shown = view_case(find_cases(tmp_path, "lgg")[0]).state.scene
    assert (shown.modalities, shown.unit, shown.tissues) == (("t1n", "t2f", "t1c"), "px", {255: "tumour"})
    assert np.array_equal(shown.truth == 255, scene.truth > 0)
    assert "tumour 120 pixels" in words.describe(ViewState(shown, point=(8, 9, 7)))
    (folder / "TCGA_CS_0001_20000101_3_mask.tif").unlink()
    assert scene_of(find_cases(tmp_path, "lgg")[0]).truth is None


def test_the_3d_view_holds_the_arrays_with_the_tissues_colours(scene):
    view = volumes.VolumeView(ViewState(scene, shown=("t1c",)))
    image, labels = (Nifti1Image.from_bytes(gzip.decompress(v.data)) for v in view.niivue.volumes)
    assert np.array_equal(np.asarray(labels.dataobj), scene.truth)
    assert image.header.get_zooms() == (1.0, 1.0, 2.0)
    assert np.corrcoef(np.asarray(image.dataobj).ravel(), scene.images[1].ravel())[0, 1] > 0.99
    colours = volumes.label_colours(scene)
    assert (colours["R"][2], colours["G"][2], colours["B"][2]) == palette.TISSUES["ET"].rgb
    assert "T1 contrast" in view.children[1].value and "#D55E00" in view.children[1].value
    data, metadata = view._repr_mimebundle_()
    assert WIDGET in data
    assert "three planes" in metadata["image/png"]["alt"]


def test_a_figure_is_shown_once_with_its_description(monkeypatch):
    from matplotlib import pyplot

    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: shown.append((data, options["metadata"])))
    figure, axes = pyplot.subplots()
    axes.plot([0, 1], **figures.line_style("ET"))
    axes.bar([0], [1], **figures.bar_style("NETC"))
    axes.legend(handles=figures.legend_handles(["ET", "NETC"]))
    figures.show(figure, "A line that rises from 0 to 1.")
    (data, metadata) = shown[0]
    assert decoded(base64.b64decode(data["image/png"])).std() > 0
    assert metadata == {"image/png": {"alt": "A line that rises from 0 to 1."}}
    assert not pyplot.fignum_exists(figure.number)
    assert [h.get_label() for h in figures.legend_handles(["ET", "NETC"])] == ["NETC", "ET"]
    with pytest.raises(SettingError, match="4 words or more"):
        figures.show(figure, "a figure")


def test_a_montage_spreads_over_the_lesion_and_says_so(scene):
    image, alt = figures.montage(ViewState(scene, shown=("t2f",)))
    tile = slices.render(ViewState(scene, shown=("t2f",)))
    assert image.shape == (2 * (tile.shape[0] - slices.STRIP) + slices.STRIP, 4 * tile.shape[1] + 3 * slices.GAP, 3)
    assert alt.startswith("8 axial slices (z = 4, 5, 6, 7, 8, 9, 10, 11). The middle one: c1: FLAIR")
    few, alt = figures.montage(ViewState(scene, shown=("t2f",)), [2, 9], columns=4)
    assert few.shape[1] == 2 * tile.shape[1] + slices.GAP
    with pytest.raises(SettingError, match="montage of three planes"):
        figures.montage(ViewState(scene, plane="three planes"))


def test_the_style_gives_each_line_its_own_colour_and_dash():
    with matplotlib.rc_context():
        figures.use_style()
        lines = list(matplotlib.rcParams["axes.prop_cycle"])
    assert len({line["color"] for line in lines}) == len({str(line["linestyle"]) for line in lines}) == len(lines)
