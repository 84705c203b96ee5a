"""Painted extras: shapes that vary, places that are healthy, labels that follow, a share that is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brainseg_utils.datasets.export import write_case
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.layouts import MODALITIES
from brainseg_utils.errors import DataError, SettingError
from brainseg_utils.models.painter import Painter
from brainseg_utils.seeds import stream
from brainseg_utils.training import gan_recipe, shapes
from brainseg_utils.training.gan_run import write_generator
from brainseg_utils.training.painting import PaintTumourd, TumourPainter
from brainseg_utils.training.volumes import volumes

SIDE = 24


def ball(radius=4):
    """NETC inside ET inside SNFH."""
    far = np.sqrt(sum((axis - radius) ** 2 for axis in np.indices((2 * radius + 1,) * 3)))
    return np.select([far < 0.4 * radius, far < 0.7 * radius, far <= radius], [1, 3, 2], 0).astype(np.uint8)


def brain(seed=0):
    """(4, X, Y, Z) with a background of 0 around a box of brain that holds a little ventricle."""
    image = np.zeros((4, SIDE, SIDE, SIDE), np.float32)
    image[:, 2:-2, 2:-2, 2:-2] = stream(seed, "brain").normal(0, 0.3, (4, SIDE - 4, SIDE - 4, SIDE - 4))
    image[0, 10:13, 10:13, 10:13], image[2, 10:13, 10:13, 10:13] = -3, 3
    return image


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """An untrained painter's file: three codes, one without ET."""
    torch.manual_seed(0)
    recipe = gan_recipe.load("course_painter", "quick", {"generator.widths": [4, 8]})
    codes = torch.stack([torch.full((4, 4), float(k)) for k in range(3)])
    codes[0, 2] = torch.nan
    path = tmp_path_factory.mktemp("painter") / "weights.safetensors"
    return write_generator(path, recipe, Painter(widths=(4, 8)).state_dict(), codes)


@pytest.fixture(scope="module")
def painter(weights):
    return TumourPainter.load(weights)


def item(label=None):
    image = torch.from_numpy(brain())
    return {"image": image, "label": torch.zeros(1, SIDE, SIDE, SIDE, dtype=torch.uint8) if label is None else label}


def test_the_label_follows_the_paint_and_the_rest_is_untouched(painter):
    change = PaintTumourd(painter, [ball()], 1e9)
    change.set_random_state(seed=0)
    before = item()
    after = change(before)
    painted, moved = after["label"][0] > 0, (after["image"] != before["image"]).any(dim=0)
    assert set(after["label"].unique().tolist()) == {0, 1, 2, 3}
    assert painted.sum() >= shapes.LEAST and moved[painted].all()
    far = torch.nn.functional.max_pool3d(painted[None].float(), 3, stride=1, padding=1)[0] == 0
    assert not moved[far].any()
    assert not (before["image"] == 0).all(dim=0)[painted].any()  # never outside the brain
    assert not painted[10:13, 10:13, 10:13].any()  # nor in a ventricle
    assert before["label"].sum() == 0


def test_a_tumour_that_is_there_stays(painter):
    there = torch.zeros(1, SIDE, SIDE, SIDE, dtype=torch.uint8)
    there[0, 4:8, 4:8, 4:8] = 4
    change = PaintTumourd(painter, [ball(3)], 1e9)
    for seed in range(5):
        change.set_random_state(seed=seed)
        before, after = item(there), change(item(there))
        old = there[0] > 0
        assert torch.equal(after["label"][0][old], there[0][old])
        assert torch.equal(after["image"][:, old], before["image"][:, old])


@pytest.mark.parametrize(("extras", "share"), [(0.5, 1 / 3), (1.0, 0.5)])
def test_extras_are_the_stated_share(painter, extras, share):
    change = PaintTumourd(painter, [ball(3)], extras)
    change.set_random_state(seed=0)
    drawn = []
    for _ in range(600):
        change.randomize(None)
        drawn.append(change._do_transform)
    assert np.mean(drawn) == pytest.approx(share, abs=0.06)


def test_a_seed_decides_everything(painter):
    change = PaintTumourd(painter, [ball(), ball(3)], 1e9)
    found = []
    for seed in (1, 1, 2):
        change.set_random_state(seed=seed)
        found.append(change(item()))
    assert torch.equal(found[0]["image"], found[1]["image"]) and torch.equal(found[0]["label"], found[1]["label"])
    assert not torch.equal(found[0]["image"], found[2]["image"])


def test_where_there_is_no_room_nothing_is_painted(painter):
    change = PaintTumourd(painter, [ball()], 1e9)
    full = torch.ones(1, SIDE, SIDE, SIDE, dtype=torch.uint8)
    assert torch.equal(change(item(full))["label"], full)


def test_codes_have_the_tissues_that_are_asked_for(painter):
    rng = stream(0, "codes")
    for _ in range(20):
        code = painter.draw_code([3], rng)
        assert 1 <= code[2, 0] <= 2 and not code.isnan().any()
    assert 0 <= painter.draw_code([1], rng)[0, 0] <= 2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
@example(185)  # 2.8 times as large
def test_a_varied_shape_has_the_same_tissues_and_about_the_same_size(seed):
    shape = ball(6)
    found = shapes.vary(shape, stream(seed, "shape"))
    assert set(np.unique(found)) == {0, 1, 2, 3}
    most = 1.5 * np.exp(3 * shapes.LOG_SCALE)  # scaled along three axes; bending adds half of that at most
    assert 1 / most < (found > 0).sum() / (shape > 0).sum() < most
    assert all(found.any(axis=tuple(a for a in range(3) if a != axis))[[0, -1]].all() for axis in range(3))


def test_a_shape_is_laid_where_its_core_has_room():
    free = np.zeros((SIDE,) * 3, bool)
    free[:, :, 12:] = True
    for seed in range(20):
        label = shapes.place(ball(), free, stream(seed, "place"))
        if label is not None:
            assert not label[:, :, :12].any()
            assert np.isin(label, (1, 3)).sum() >= shapes.ROOM * np.isin(ball(), (1, 3)).sum()
    assert shapes.place(ball(), np.zeros_like(free), stream(0, "place")) is None


def test_grown_shapes_are_the_phantoms_own():
    found = shapes.grown_shapes(2, seed=0)
    assert all(set(np.unique(shape)) <= {0, 1, 2, 3, 4} and (shape > 0).sum() > 100 for shape in found)
    assert not np.array_equal(*found)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Three scans at 2 mm, the last without a tumour."""
    root = tmp_path_factory.mktemp("cases")
    for number in range(3):
        label = np.zeros((SIDE,) * 3, np.uint8)
        if number < 2:
            label[3:10, 3:10, 3:10] = ball(3)
        images = {
            name: np.where(brain()[0] != 0, 300 + 50 * brain(number + k)[k], 0) for k, name in enumerate(MODALITIES)
        }
        write_case(root, "brats2023", f"BraTS-GLI-{number:05d}-000", images, label, np.diag([2.0, 2, 2, 1]))
    return find_cases(root)


@pytest.mark.parametrize("kind", ["grown", "warped"])
def test_a_recipes_setting_paints_training_patches_and_leaves_validation_alone(
    cases, weights, tmp_path, monkeypatch, kind
):
    monkeypatch.setattr(shapes, "grown_shapes", lambda *a: [ball(3)])
    monkeypatch.setattr("brainseg_utils.training.painting.grown_shapes", lambda *a: [ball(3)])

    def sources(**options):
        options = {"size": (16, 16, 16), "spacing": 2.0, "foreground": 0.0, "augment": "none", **options}
        return volumes(cases[2:], cases[:1], 0, 1, cache=str(tmp_path / "cache"), **options)

    def tumours(made):
        return made.train.batch(range(24))["label"].flatten(1).any(1).float().mean()

    assert tumours(sources()) == 0  # the training case is healthy
    extras = {"painted": 1.0, "painter": str(weights), "shapes": kind}
    if kind == "warped":
        with pytest.raises(SettingError, match="no training case has a tumour"):
            sources(**extras)
        return
    made = sources(**extras)
    assert 0.2 < tumours(made) < 0.8
    plain, same = (next(iter(s.validation)) for s in (sources(), made))
    assert torch.equal(plain["image"], same["image"]) and torch.equal(plain["label"], same["label"])


def test_labels_of_the_training_cases_are_shapes_too(cases, weights, tmp_path):
    made = volumes(
        cases,
        [],
        0,
        1,
        size=(16,) * 3,
        spacing=2.0,
        cache=str(tmp_path),
        painted=0.5,
        painter=str(weights),
        shapes="warped",
    )
    assert len(made.train.patches.augment.transforms[0].shapes) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing": 1.0}, "data.spacing = 1.0; expected 2, which the painter was trained with"),
        ({"normalisation": "median"}, "data.normalisation = median"),
        ({"modalities": ("t1n", "t2f")}, "expected pipeline course, t1n, t1c, t2w, t2f"),
        ({"shapes": "drawn"}, "unknown kind of shapes"),
    ],
)
def test_patches_that_the_painter_does_not_know_are_refused(cases, weights, tmp_path, options, message):
    given = {
        "size": (16,) * 3,
        "spacing": 2.0,
        "cache": str(tmp_path),
        "painted": 1.0,
        "painter": str(weights),
        **options,
    }
    with pytest.raises(SettingError, match=message):
        volumes(cases, [], 0, 1, **given)


def test_weights_of_another_kind_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        TumourPainter.load(tmp_path / "nothing.safetensors")
    recipe = gan_recipe.load("r1_gan", "quick", {"generator.width": 2})
    path = write_generator(tmp_path / "r1.safetensors", recipe, gan_recipe.build(recipe.generator).state_dict(), None)
    with pytest.raises(SettingError, match="expected a painter"):
        TumourPainter.load(path)


def test_contrasts_of_the_training_cases_take_the_place_of_the_painters(cases, weights, tmp_path):
    options = {"size": (16,) * 3, "spacing": 2.0, "cache": str(tmp_path), "painted": 0.5, "painter": str(weights)}
    found = volumes(cases, [], 0, 1, **options, shapes="warped").train.patches.augment.transforms[0].painter.codes
    assert found.shape == (3, 4, 4)
    assert found[2].isnan()[:3].all() and not found[:2, :3].isnan().any()  # the third has no tumour
    assert (found[:, 3] == 1).all()  # no case has RC: the mean of the painter's own codes
