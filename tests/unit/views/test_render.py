"""`render` is a pure function, turned and scaled as radiologists read, with labels where they are and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from brainseg_utils.errors import GeometryError, LabelError, SettingError
from brainseg_utils.evaluation.errors import error_map
from brainseg_utils.views import draw, palette, png, slices
from brainseg_utils.views.state import (
    PLANES,
    Labels,
    PlaneChoice,
    Scene,
    ViewState,
    Window,
    largest_lesion_point,
)

TISSUES = {1: "NETC", 2: "SNFH", 3: "ET", 4: "RC"}
MODALITIES = ("t1n", "t1c", "t2w", "t2f")
PLAIN = {"crosshair": False, "overlay": False, "outline": False}


def make_scene(shape=(20, 24, 16), spacing=(1.0, 1.0, 1.0), channels=4, seed=0) -> Scene:
    rng = np.random.default_rng(seed)
    images = rng.normal(100, 20, (channels, *shape)).astype(np.float32)
    truth = np.zeros(shape, np.uint8)
    truth[4:16, 4:20, 3:13] = 2
    truth[6:14, 6:12, 5:11] = 3
    truth[8:12, 8:10, 6:10] = 1
    truth[6:14, 13:17, 5:11] = 4
    return Scene(images, MODALITIES[:channels], spacing, truth, np.roll(truth, 2, 0), TISSUES, "case")


def bright_corner(corner: tuple[int, int, int]) -> Scene:
    """A volume that is dark but for one eighth, given by 0 or 1 along X, Y, Z."""
    images = np.full((1, 20, 20, 20), 1.0, np.float32)
    images[(0, *(slice(10 * c, 10 * c + 10) for c in corner))] = 100
    return Scene(images, ("t1c",))


def panel_mean(state: ViewState, vertical: str, horizontal: str) -> float:
    """Mean brightness of a quarter of the (only) panel, away from letters."""
    panels, _ = slices.layout(state)
    rows, columns = panels[0].place
    view = slices.render(state)[rows, columns].astype(float)
    height, width, _ = view.shape
    at_row = height // 4 if vertical == "top" else 3 * height // 4
    at_column = width // 4 if horizontal == "left" else 3 * width // 4
    return view[at_row - 8 : at_row + 8, at_column - 8 : at_column + 8].mean()


states = st.builds(
    lambda plane, labels, overlay, outline, opacity, point, shown, size, spacing: ViewState(
        make_scene(spacing=spacing), point, plane, shown, Window(), labels, overlay, outline, opacity, True, size
    ),
    st.sampled_from(get_args(PlaneChoice)),
    st.sampled_from(get_args(Labels)),
    st.booleans(),
    st.booleans(),
    st.floats(0, 1),
    st.tuples(st.integers(0, 19), st.integers(0, 23), st.integers(0, 15)),
    st.lists(st.sampled_from(MODALITIES), unique=True).map(tuple),
    st.integers(40, 140),
    st.tuples(*[st.floats(0.5, 5)] * 3),
)


@settings(max_examples=60, deadline=None)
@given(states)
def test_same_state_same_pixels_and_arrays_untouched(state):
    before = [state.scene.images.copy(), state.scene.truth.copy(), state.scene.prediction.copy()]
    first = slices.render(state)
    again = slices.render(state)
    assert first.dtype == np.uint8
    assert first.shape == (*slices.layout(state)[1], 3)
    assert first.tobytes() == again.tobytes()
    for old, new in zip(before, (state.scene.images, state.scene.truth, state.scene.prediction), strict=True):
        assert np.array_equal(old, new)


@settings(max_examples=60, deadline=None)
@given(states, st.floats(0, 0.999), st.floats(0, 0.999), st.integers(0, 100))
def test_a_click_on_a_panel_leads_to_the_voxel_drawn_there(state, down, across, which):
    panels, _ = slices.layout(state)
    panel = panels[which % len(panels)]
    point = slices.locate(state, panel.row + down * panel.height, panel.column + across * panel.width)
    assert point is not None
    axis = PLANES[panel.plane]
    assert point[axis] == state.at[axis]  # a click stays on the slice
    column, row = (a for a in range(3) if a != axis)
    shape = state.scene.shape
    assert abs((shape[column] - 1 - point[column] + 0.5) / shape[column] - across) <= 0.5 / shape[column] + 1e-6
    assert abs((shape[row] - 1 - point[row] + 0.5) / shape[row] - down) <= 0.5 / shape[row] + 1e-6


def test_locate_is_none_beside_the_panels():
    state = ViewState(make_scene())
    _, (height, width) = slices.layout(state)
    assert slices.locate(state, height - 2, 10) is None
    assert slices.locate(state, 10, width + 5) is None


@pytest.mark.parametrize(
    ("plane", "corner", "place"),
    [
        ("axial", (1, 1, 0), ("top", "left")),  # right, anterior
        ("axial", (0, 0, 0), ("bottom", "right")),  # left, posterior
        ("coronal", (1, 0, 1), ("top", "left")),  # right, superior
        ("coronal", (0, 0, 0), ("bottom", "right")),
        ("sagittal", (0, 1, 1), ("top", "left")),  # anterior, superior
        ("sagittal", (0, 0, 0), ("bottom", "right")),
    ],
)
def test_pictures_are_turned_as_radiologists_read_them(plane, corner, place):
    state = ViewState(bright_corner(corner), point=(5, 5, 5), plane=plane, window=Window(0, 100, "value"), **PLAIN)
    means = {(v, h): panel_mean(state, v, h) for v in ("top", "bottom") for h in ("left", "right")}
    assert max(means, key=lambda key: means[key]) == place
    assert means[place] == pytest.approx(255, abs=1)


def test_letters_say_which_side_is_which():
    assert slices.LETTERS == {
        "axial": ("R", "L", "A", "P"),
        "coronal": ("R", "L", "S", "I"),
        "sagittal": ("A", "P", "S", "I"),
    }
    black = Scene(np.zeros((1, 20, 20, 20), np.float32), ("",))
    view = slices.render(ViewState(black, **PLAIN))[:240, :240, 0]
    letters, _ = draw.text("R", slices.FONT)
    height, width = letters.shape
    top = int(120 - height / 2)
    drawn = view[top : top + height, 4 : 4 + width]
    assert np.array_equal(drawn > 120, letters > 120 / 235)


def test_a_lone_voxel_is_drawn_under_the_crosshair():
    scene = make_scene()
    truth = np.zeros(scene.shape, np.uint8)
    truth[3, 20, 7] = 3
    state = ViewState(replace(scene, truth=truth), point=(3, 20, 7), opacity=1.0, crosshair=False, outline=False)
    for plane in PLANES:
        view = replace(state, plane=plane)
        rows, columns = np.nonzero((slices.render(view)[: -slices.STRIP] == palette.TISSUES["ET"].rgb).all(-1))
        assert len(rows) > 0
        assert {slices.locate(view, r, c) for r, c in zip(rows, columns, strict=True)} == {(3, 20, 7)}


def test_anisotropic_voxels_keep_their_proportions():
    scene = Scene(np.ones((1, 20, 20, 10), np.float32), ("t1c",), (1.0, 1.0, 4.0))
    panel = slices.layout(ViewState(scene, plane="coronal", size=200))[0][0]
    assert (panel.height, panel.width) == (200, 100)  # 40 mm high, 20 mm wide


def test_three_planes_share_one_scale():
    scene = Scene(np.ones((1, 40, 60, 30), np.float32), ("t1c",))
    panels, _ = slices.layout(ViewState(scene, plane="three planes", size=120))
    assert [(p.plane, p.height, p.width) for p in panels] == [
        ("axial", 120, 80),
        ("coronal", 60, 80),
        ("sagittal", 60, 120),
    ]


@pytest.mark.parametrize("tissue", TISSUES.values())
def test_each_tissue_has_its_colour_when_the_overlay_is_on_and_not_when_off(tissue):
    rgb = np.array(palette.TISSUES[tissue].rgb)
    state = ViewState(make_scene(channels=1), point=(10, 9, 8), opacity=1.0, outline=False, crosshair=False)
    panel = slices.layout(state)[0][0]
    assert (slices.render(state)[panel.place] == rgb).all(-1).any()
    assert not (slices.render(replace(state, overlay=False))[panel.place] == rgb).all(-1).any()


def test_the_overlay_mixes_with_the_image_by_its_opacity():
    images = np.full((1, 20, 20, 20), 50.0, np.float32)
    scene = Scene(images, ("t1c",), truth=np.full((20, 20, 20), 2, np.uint8), tissues=TISSUES)
    state = ViewState(scene, window=Window(0, 100, "value"), opacity=0.25, outline=False, crosshair=False)
    expected = 0.75 * 128 + 0.25 * np.array(palette.TISSUES["SNFH"].rgb)  # a tissue with a plain pattern
    assert slices.render(state)[60, 60] == pytest.approx(expected, abs=1.5)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12))
def test_borders_lie_at_borders_and_inside_the_label(seed, size):
    labels = np.random.default_rng(seed).integers(0, 3, (size, size))
    edge = draw.border(labels)
    around = np.pad(labels, 1)
    for row, column in np.ndindex(labels.shape):
        here = around[row + 1, column + 1]
        near = (
            around[row, column + 1],
            around[row + 2, column + 1],
            around[row + 1, column],
            around[row + 1, column + 2],
        )
        assert edge[row, column] == (here != 0 and any(n != here for n in near))


def test_the_outline_changes_border_pixels_alone():
    state = ViewState(make_scene(channels=1), point=(10, 9, 8), overlay=False, crosshair=False)
    panel = slices.layout(state)[0][0]
    changed = (slices.render(state) != slices.render(replace(state, outline=False))).any(-1)[panel.place]
    labels = draw.nearest(slices.cut(state.scene.truth, "axial", 8), (panel.height, panel.width))
    assert changed.sum() > 100
    assert not (changed & ~draw.border(labels)).any()


def test_errors_and_both_show_what_the_rows_say():
    scene = make_scene()
    both = ViewState(scene, labels="both")
    assert [p.source for p in slices.layout(both)[0]] == ["truth"] * 4 + ["prediction"] * 4
    wrong = ViewState(scene, point=(10, 9, 8), labels="errors", opacity=1.0, outline=False, crosshair=False)
    panel = slices.layout(wrong)[0][0]
    drawn = slices.render(wrong)[panel.place]
    codes = draw.nearest(slices.cut(error_map(scene.truth, scene.prediction), "axial", 8), (panel.height, panel.width))
    for code, name in ((2, "missed"), (3, "extra"), (4, "other tissue")):
        assert (codes == code).any()
        assert np.array_equal((drawn == palette.ERRORS[name].rgb).all(-1) & (codes > 1), codes == code)


def test_labels_that_are_not_there_are_left_out():
    scene = make_scene()
    assert ViewState(replace(scene, prediction=None), labels="both").sources == ("truth",)
    assert ViewState(replace(scene, truth=None), labels="errors").sources == ("prediction",)
    bare = replace(scene, truth=None, prediction=None)
    assert slices.render(ViewState(bare, labels="errors")).shape[2] == 3


def test_the_window_maps_its_ends_to_black_and_white():
    ramp = np.broadcast_to(np.linspace(0, 100, 41, dtype=np.float32)[None, :, None, None], (1, 41, 41, 41)).copy()
    state = ViewState(Scene(ramp, ("",)), window=Window(25, 75, "value"), size=4 * 41, **PLAIN)
    line = slices.render(state)[50, : 4 * 41, 0]
    assert set(line[:40]) == {255}  # the patient's right, where x is largest, is on the left
    assert set(line[-40:]) == {0}
    assert line[81:83].mean() == pytest.approx(127.5, abs=1)


def test_not_a_number_is_drawn_black():
    images = np.full((1, 20, 20, 20), 5.0, np.float32)
    images[0, 10:] = np.nan
    view = slices.render(ViewState(Scene(images, ("",)), window=Window(0, 5, "value"), **PLAIN))
    assert view[60, 60].tolist() == [0, 0, 0]
    assert view[60, 180].tolist() == [255, 255, 255]


def test_percent_windows_ignore_the_background():
    images = np.zeros((1, 30, 30, 30), np.float32)
    images[0, 10:20, 10:20, 10:20] = np.linspace(100, 200, 1000).reshape(10, 10, 10)
    low, high = Window(0, 50).limits(Scene(images, ("",)), 0)
    assert low == pytest.approx(100, abs=1)
    assert high == pytest.approx(150, abs=1)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
def test_png_bytes_decode_to_the_pixels(height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    assert np.array_equal(np.asarray(Image.open(BytesIO(png.encode(image)))), image)


def test_a_compact_png_is_smaller_and_looks_the_same():
    image = slices.render(ViewState(make_scene(), crosshair=False))
    small = png.compact(image)
    decoded = np.asarray(Image.open(BytesIO(small)).convert("RGB")).astype(int)
    assert len(small) < len(png.encode(image))
    assert np.abs(decoded - image).mean() < 2


def test_a_compact_png_keeps_grey_grey_beside_colours():
    image = np.zeros((256, 320, 3), np.uint8)
    image[:, :256] = np.arange(256, dtype=np.uint8)[None, :, None]
    image[:, 256:] = np.random.default_rng(0).integers(0, 256, (256, 64, 3))
    decoded = np.asarray(Image.open(BytesIO(png.compact(image))).convert("RGB")).astype(int)
    greys = decoded[:, :256]
    assert np.ptp(greys, axis=2).max() == 0
    assert np.abs(greys - image[:, :256]).max() <= 1


def test_moving_stops_at_the_ends_and_the_first_look_is_at_the_lesion():
    state = ViewState(make_scene())
    assert state.at == (10, 12, 8)
    assert state.moved(100).at == (10, 12, 15)
    assert state.moved(-100).at == (10, 12, 0)
    assert replace(state, plane="sagittal").moved(1).at == (11, 12, 8)
    x, y, z = largest_lesion_point(state.scene)
    assert state.scene.truth[x, y, z] > 0
    assert largest_lesion_point(replace(state.scene, truth=None, prediction=None)) == (10, 12, 8)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"plane": "axal"}, SettingError, "did you mean 'axial'"),
        ({"labels": "predictio"}, SettingError, "did you mean 'prediction'"),
        ({"shown": ("t1",)}, SettingError, "unknown modality 't1'"),
        ({"opacity": 1.5}, SettingError, "opacity 1.5"),
        ({"point": (0, 0, 99)}, SettingError, "a voxel inside"),
    ],
)
def test_a_wrong_setting_is_refused(change, error, words):
    with pytest.raises(error, match=words):
        replace(ViewState(make_scene()), **change)


def test_arrays_that_do_not_belong_together_are_refused():
    scene = make_scene()
    with pytest.raises(GeometryError, match="prediction of shape"):
        replace(scene, prediction=scene.prediction[:-1])
    with pytest.raises(GeometryError, match="images of shape"):
        replace(scene, modalities=("t1c",))
    with pytest.raises(GeometryError, match="spacing"):
        replace(scene, spacing=(1.0, 0.0, 1.0))
    with pytest.raises(LabelError, match="label value 4 in truth"):
        replace(scene, tissues={1: "NETC", 2: "SNFH", 3: "ET"})
    with pytest.raises(LabelError, match="float"):
        replace(scene, truth=scene.truth.astype(float))
    with pytest.raises(SettingError, match="window 60 to 40"):
        Window(60, 40)


@pytest.mark.parametrize("size", [160, 240, 600])
def test_the_legend_names_everything_in_as_many_lines_as_it_needs(size, monkeypatch):
    state = ViewState(make_scene(channels=1), point=(10, 9, 8), labels="errors", size=size, crosshair=False)
    written = []
    monkeypatch.setattr(draw, "write", lambda strip, text, *rest, **more: written.append(text))
    slices.render(state)
    assert {"agreed", "missed", "extra", "other tissue"} <= set(written)
