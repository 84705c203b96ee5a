"""Phantoms that are made while a network trains: the same for a number, new all the time, and like the scanner's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from brainseg_utils.errors import SettingError
from brainseg_utils.phantom import looks, scanner
from brainseg_utils.phantom import redraw as redraw_room
from brainseg_utils.phantom.contrast import T2F, T2W, draw_contrast
from brainseg_utils.phantom.geometry import geometry
from brainseg_utils.phantom.looks import Look
from brainseg_utils.phantom.packed import pack
from brainseg_utils.phantom.parameters import default
from brainseg_utils.phantom.redraw import blur, redraw
from brainseg_utils.pipeline import course
from brainseg_utils.seeds import stream
from brainseg_utils.training import phantoms as phantoms_room
from brainseg_utils.training.data import Sources
from brainseg_utils.training.loop import fit
from brainseg_utils.training.phantoms import Making, Phantoms, normalise
from brainseg_utils.training.run import Run

SIZE = (32, 32, 32)
KINDS = ("ring", "cavity_et", "healthy")
LEAST = Making(difficulty="easy", pool=2, uses=4, patches=2)
DATA = {"name": "phantoms", "size": list(SIZE)}
BUDGET = {"batch": 2, "steps": 24, "epoch_steps": 4}


@pytest.fixture(scope="module")
def geometries():
    return [
        geometry(3, n, kind=kind, treatment="post" if kind == "cavity_et" else "pre", difficulty="easy")
        for n, kind in enumerate(KINDS)
    ]


@pytest.fixture(scope="module")
def packed(geometries):
    return [pack(case) for case in geometries]


@pytest.fixture
def phantoms(packed):
    """Makes samples whose geometries are the three of the fixture in turn, and which note what they made."""

    def make(making=LEAST, **options):
        heads = packed[: options.pop("heads", len(packed))]
        samples = Phantoms(options.pop("size", SIZE), 0, making, **options)
        samples.made = []

        def made(index):
            samples.made.append(index)
            return heads[index % len(heads)]

        samples.make = made
        return samples

    return make


def test_a_sample_does_not_depend_on_who_draws_it_and_when(phantoms):
    making = replace(LEAST, wild=0.3, rough=0.3, dropout=0.3, augment=0.5)
    one, other = phantoms(making), phantoms(making)
    before = [one.batch([n, n + 1]) for n in range(0, 24, 2)][-1]
    later = other.batch([22, 23])
    assert torch.equal(before["image"], later["image"])
    assert torch.equal(before["label"], later["label"])
    assert before["case"] == later["case"]


def test_no_picture_is_seen_twice_and_old_heads_make_room(phantoms):
    samples = phantoms(replace(LEAST, flips=(), augment=0.0))
    for n in range(0, 40, 2):
        samples.batch([n, n + 1])
    draws = 40 // LEAST.patches
    assert len(set(samples.made)) == len(samples.made)  # each geometry is made once
    assert max(samples.made) >= draws // LEAST.uses - 1
    assert len(samples.pool) <= LEAST.pool + 4
    whole = phantoms(replace(LEAST, flips=(), augment=0.0, patches=1, foreground=0.0), size=(96, 96, 96))
    pictures = whole.batch(range(8))
    same = [(a, b) for a in range(8) for b in range(a) if pictures["case"][a] == pictures["case"][b]]
    assert same
    assert not any(torch.equal(pictures["image"][a], pictures["image"][b]) for a, b in same)
    assert all(torch.equal(pictures["label"][a], pictures["label"][b]) for a, b in same)


def test_a_real_geometry_is_made_from_seed_and_number_alone():
    one, other = (Phantoms(SIZE, seed, LEAST).make(5) for seed in (1, 1))
    assert np.array_equal(one.label, other.label)
    assert all(np.array_equal(one.layers[name], other.layers[name]) for name in one.layers)


def test_patches_hold_the_tumour_as_often_as_is_asked_for(phantoms):
    samples = phantoms(
        replace(LEAST, foreground=1.0, augment=0.0), regions=("NETC", "SNFH", "ET", "RC"), size=(16,) * 3
    )
    batch = samples.batch(range(48))
    with_tumour = torch.tensor([int(name.split("-")[1]) % 3 != 2 for name in batch["case"]])
    there = batch["label"].flatten(2).any(2)
    assert there[with_tumour].any(1).all()
    assert not there[~with_tumour].any()
    assert there[with_tumour][:, 2].float().mean() > 0.4
    assert there[:, 3].any()  # cavities of the case after treatment


def test_modalities_are_chosen_and_lost(phantoms):
    making = replace(LEAST, augment=0.0)
    whole, part = phantoms(making).batch([5]), phantoms(making, modalities=("t2f", "t1n")).batch([5])
    torch.testing.assert_close(part["image"][0], whole["image"][0, [3, 0]])
    lost = phantoms(replace(making, dropout=0.5, foreground=0.0)).batch(range(40))["image"]
    there = lost.flatten(2).abs().amax(2) > 0
    assert 0.25 < (~there).any(1).float().mean() < 0.75
    assert there.any(1).all()


def test_classes_exclude_each_other(phantoms):
    making = replace(LEAST, augment=0.0)
    classes = phantoms(making, regions=("NETC", "SNFH", "ET", "RC"), exclusive=True).batch(range(6))["label"]
    regions = phantoms(making, regions=("ET", "TC", "WT", "RC")).batch(range(6))["label"]
    assert classes.shape[1] == 1
    assert torch.equal(regions[:, 0], (classes[:, 0] == 3).byte())
    assert torch.equal(regions[:, 2], ((classes[:, 0] > 0) & (classes[:, 0] < 4)).byte())
    assert torch.equal(regions[:, 3], (classes[:, 0] == 4).byte())


def test_the_picture_is_upright(geometries, packed):
    """RAS, as every case that is read: what the geometry stores from left to right is turned."""
    case, row = geometries[0], packed[0]
    assert case.affine[0, 0] < 0 and case.affine[1, 1] < 0
    assert np.array_equal(row.label, case.label[::-1, ::-1])
    assert all(axis[0] < axis[-1] for axis in row.axes)


def medians(values, label):
    z = (values - values.mean()) / values.std()
    return [np.median(z[label == value]) for value in (0, 1, 2, 3)]


def test_a_redrawn_case_looks_like_a_scanned_one(geometries, packed, monkeypatch):
    case, row = geometries[0], packed[0]
    same = draw_contrast(default(), stream(0, "contrast"), case.facts, default().setting("easy"))
    for room in (scanner, redraw_room):
        monkeypatch.setattr(room, "draw_contrast", lambda *_: same)
    scanned, redrawn = [], []
    inside = row.label.reshape(-1)[row.kept[row.brain]]
    for draw in range(16):
        image = scanner.render(case, 0, draw)[:, case.mask].astype(np.float32)
        scanned.append([medians(m, case.label[case.mask]) for m in image])
        redrawn.append([medians(m, inside) for m in redraw(row, stream(0, "redraw", draw))])
    assert np.abs(np.mean(scanned, 0) - np.mean(redrawn, 0)).max() < 0.15


def test_wild_and_rough_draws_leave_the_scanners_range(packed):
    row = packed[0]
    inside = row.label.reshape(-1)[row.kept[row.brain]]
    usual, wild = (
        np.array([medians(redraw(row, stream(0, "wild", n), Look(wild=share))[1], inside) for n in range(8)])
        for share in (0.0, 1.0)
    )
    assert (usual[:, 3] > usual[:, 1]).all()  # enhancing tumour is brighter than necrosis on T1 with contrast
    assert not (wild[:, 3] > wild[:, 1]).all()
    rough = redraw(row, stream(0, "rough"), Look(rough=1.0))
    assert np.isfinite(rough).all() and not np.array_equal(rough, redraw(row, stream(0, "rough")))


def test_blur_is_a_gaussian():
    from scipy import ndimage

    image = np.random.default_rng(0).normal(size=(12, 10, 14)).astype(np.float32)
    for sd in (0.4, 0.9):
        expected = ndimage.gaussian_filter(image, sd, mode="nearest", radius=max(1, round(3 * sd)))
        assert np.allclose(blur(image, sd), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["zscore", "median"])
def test_the_normalisation_is_that_of_a_scan(kind):
    rng = np.random.default_rng(0)
    values = rng.gamma(4, 20, (2, 40_000)).astype(np.float32)
    tumour = rng.random(40_000) < 0.2
    values[:, tumour] += 120
    image = values.reshape(2, 200, 20, 10)
    expected = course.zscore(course.clip(image)) if kind == "zscore" else course.median(image)
    assert np.abs(normalise(values.copy(), tumour, 1.0, kind) - expected.reshape(2, -1)).max() < 0.15
    without = normalise(values.copy(), tumour, 0.0, kind)[:, ~tumour]
    assert abs(without.mean() - (0 if kind == "zscore" else without.mean())) < 0.05
    assert without.mean() > normalise(values.copy(), tumour, 1.6, kind)[:, ~tumour].mean() + 0.3


def test_a_faint_lesion_lets_the_healthy_brain_through(packed):
    case = packed[0]
    tumour, parameters = case.tumour, default()

    def distance(share):
        """Of the lesion's mean from the healthy one's, a modality, over six draws."""
        found = []
        for draw in range(6):
            image = redraw(case, stream(0, "faint", draw), Look(faint=share), parameters)
            found.append(np.abs(image[:, tumour].mean(1) - image[:, ~tumour].mean(1)) / image[:, ~tumour].std(1))
        return np.mean(found, axis=0)

    clear, faint = distance(0.0), distance(1.0)
    assert faint[T2F] < 0.85 * clear[T2F]
    assert faint[T2W] < 0.9 * clear[T2W]


def test_a_core_that_is_all_cyst_is_dark_on_flair_and_its_oedema_is_not(packed, monkeypatch):
    """FLAIR puts fluid out."""
    case = packed[0]
    inside = case.label.reshape(-1)[case.kept[case.brain]]
    monkeypatch.setattr(looks, "CYST_LEVEL", (-9.0, -9.0))
    monkeypatch.setattr(looks, "CYST_MEAN", [(0.3, 0.3)] * 4)

    def brightness(share, label):
        """Of a label over the healthy brain's, on FLAIR."""
        images = [redraw(case, stream(0, "cyst", draw), Look(cysts=share))[T2F] for draw in range(4)]
        return np.mean([image[inside == label].mean() / image[inside == 0].mean() for image in images])

    assert brightness(1.0, 1) < 0.8 * brightness(0.0, 1)
    assert brightness(1.0, 2) == pytest.approx(brightness(0.0, 2), rel=0.1)


def test_where_oedema_and_core_look_alike_only_their_place_tells(packed):
    case = packed[0]
    facts, p = case.facts, default()
    for kind, moved in (("ring", "oedema"), ("lgg", "net")):
        contrast = draw_contrast(p, stream(0, "alike"), {**facts, "kind": kind}, p.setting("normal"))
        other = looks.alike(contrast, stream(1, "alike"))
        before, after = (np.abs(c.mean["net"] - c.mean["oedema"]) for c in (contrast, other))
        assert (after <= 0.7 * before + 1e-9).all()
        changed = {name for name, mean in other.mean.items() if not np.array_equal(mean, contrast.mean[name])}
        assert changed == {moved}


def test_a_band_of_oedema_follows_the_core_through_grey_matter_as_through_white():
    """The same head and core; the band's outer border is nearly everywhere as far from the core."""
    from scipy import ndimage

    spread = {}
    for band in (0.0, 1.0):
        case = Phantoms(SIZE, 5, replace(LEAST, lgg=1.0, healthy=0.0, band=band)).make(1)
        found, core = case.label > 0, np.isin(case.label, (1, 3))
        far = ndimage.distance_transform_edt(~core, sampling=2)
        border = found & ~ndimage.binary_erosion(found) & ~core
        spread[band] = far[border].std() / far[border].mean()
    assert spread[1.0] < 0.8 * spread[0.0]


def test_small_cores_are_small_in_as_much_oedema():
    core, oedema = {}, {}
    for small in (0.0, 1.0):
        phantoms = Phantoms(SIZE, 5, replace(LEAST, lgg=0.0, healthy=0.0, small=small, difficulty="normal"))
        labels = [phantoms.make(index).label for index in range(4)]
        core[small] = np.median([np.isin(label, (1, 3)).sum() for label in labels])
        oedema[small] = np.median([(label == 2).sum() for label in labels])
    assert core[1.0] < 0.4 * core[0.0]
    assert oedema[1.0] > 0.4 * oedema[0.0]


def test_some_heads_have_coarse_voxels(monkeypatch):
    made = []

    def note(*_, spacing, **__):
        made.append(spacing)
        return spacing

    monkeypatch.setattr(phantoms_room, "geometry", note)
    monkeypatch.setattr(phantoms_room, "pack", lambda case: case)
    some = Phantoms(SIZE, 5, replace(LEAST, spacing=1, coarse=0.5))
    drawn = [some.make(index) for index in range(200)]
    assert drawn == made and set(drawn) == {1, 2}
    assert 80 < drawn.count(2) < 120
    assert [some.make(index) for index in range(5)] == drawn[:5], "by seed and number alone"


def test_the_share_of_low_grade_tumours_is_the_recipes(monkeypatch):
    asked = []

    def note(*_, weights, **__):
        asked.append(weights)

    monkeypatch.setattr(phantoms_room, "geometry", note)
    monkeypatch.setattr(phantoms_room, "pack", lambda case: case)
    made = Phantoms(SIZE, 0, replace(LEAST, lgg=0.4, post=0.5))
    for index in range(20):
        made.make(index)
    before = [weights for weights in asked if weights is not None]
    assert 0 < len(before) < 20
    assert all(weights["lgg"] == 0.4 and sum(weights.values()) == pytest.approx(1) for weights in before)
    assert before[0]["ring"] / before[0]["solid"] == pytest.approx(0.66 / 0.11)


def test_a_network_learns_from_them(phantoms, tiny, tmp_path):
    recipe = tiny(DATA, BUDGET, {"validation": "all"})
    making = replace(LEAST, foreground=1.0, uses=100, augment=0.0, lesion_weight=(1.0, 1.0))
    samples = phantoms(making, heads=1)
    held_out = [samples.batch([10_000, 10_001])]
    run = fit(recipe, Sources(samples, held_out, 4, ("ET", "TC", "WT")), Run.begin(tmp_path / "run", recipe))
    history = run.history()
    assert history["train_loss"].iloc[-1] < 0.8 * history["train_loss"].iloc[0]
    assert history["val_loss"].iloc[-1] < 0.9 * history["val_loss"].iloc[0]
    assert {"dice_ET", "dice_TC", "dice_WT"} <= set(history.columns)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split__folds": 3, "split__validation": "fold0"}, "training cases are made"),
        ({"split__folds": 3}, "training cases are made"),
        ({"data__name": "volumes"}, "a subset"),
        ({"data__uses": "often"}, "whole number"),
    ],
)
def test_a_split_that_makes_no_sense_is_refused(changes, words, tiny):
    with pytest.raises(SettingError, match=words):
        tiny(DATA, BUDGET, {"validation": "all"}, **changes)
