"""Each report's pipeline: what it states is what it does, mistakes included; image and label stay together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor

from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.labels import SCHEMES, get_scheme
from brainseg_utils.errors import DataError, SettingError
from brainseg_utils.pipeline import registry
from brainseg_utils.pipeline.transforms import (
    Step,
    ToRegionsd,
    classes,
    from_classes,
    load_case,
    load_slice,
    to_classes,
    to_regions,
)

SMALL = {"r0": {"size": (32, 32, 32)}, "r1": {"size": (32, 32, 32)}, "r3": {"size": (32, 32, 32)}}
SMALL |= {"r4": {}, "course": {"size": (32, 32, 32)}}
VOLUMES = tuple(SMALL)


@pytest.fixture
def item(cohort):
    return load_case(cohort[0])


@pytest.mark.parametrize("scheme", [s for s in SCHEMES.values() if s.name != "lgg"], ids=lambda s: s.name)
def test_class_numbers_go_back_and_regions_are_the_schemes(scheme):
    mask = np.array([0, *scheme.tissues], np.uint8).reshape(1, -1)
    numbers = to_classes(mask, scheme)
    assert sorted(numbers.ravel()) == list(range(len(scheme.tissues) + 1))
    assert np.array_equal(from_classes(numbers, scheme), mask)
    regions = tuple(scheme.regions)
    channels = to_regions(torch.from_numpy(numbers), scheme, regions)
    for channel, region in zip(channels, regions, strict=True):
        assert np.array_equal(channel.numpy().astype(bool), scheme.region(mask[0], region))


def test_every_data_set_has_the_same_class_order():
    for name in ("brats2021", "brats2023", "msd"):
        assert classes(get_scheme(name)) == ("NETC", "SNFH", "ET")
    assert classes(get_scheme("brats2024")) == ("NETC", "SNFH", "ET", "RC")


def test_monais_conversion_loses_et_of_2023_and_ours_does_not(item):
    from monai.transforms import ConvertToMultiChannelBasedOnBratsClasses

    label = np.asarray(item["label"])
    theirs = np.asarray(ConvertToMultiChannelBasedOnBratsClasses()(label[0]))
    ours = np.asarray(ToRegionsd(("TC", "WT", "ET"))(item)["label"])
    et = int((label == 3).sum())
    assert et > 100
    assert theirs[2].sum() == 0 and ours[2].sum() == et
    assert np.array_equal(ours[1], label[0] > 0)


def test_names_that_do_not_exist_are_refused():
    with pytest.raises(SettingError, match="did you mean 'r4'"):
        registry.steps("r44")
    with pytest.raises(SettingError, match=r"pipeline r3: unknown setting 'sizes'.*did you mean 'size'"):
        registry.preprocessing("r3", sizes=(1, 1, 1))
    with pytest.raises(SettingError, match="unknown normalisation 'zcore'"):
        registry.steps("course", normalise="zcore")


@pytest.mark.parametrize("report", VOLUMES)
def test_walk_leaves_every_earlier_picture_alone(item, report):
    first = {key: np.asarray(item[key]).copy() for key in ("image", "label")}
    seen: list[tuple[Step, dict, np.ndarray]] = []
    for step, after in registry.walk(item, report, seed=1, **SMALL[report]):
        seen.append((step, after, np.asarray(after["image"]).copy()))
    for key, before in first.items():
        assert np.array_equal(np.asarray(item[key]), before), key
    for step, after, before in seen:
        assert np.array_equal(np.asarray(after["image"]), before), step.name
        assert np.asarray(after["label"]).dtype == np.uint8, step.name
        assert after["image"].dtype == torch.float32, step.name
        assert after["image"].shape[1:] == after["label"].shape[1:], step.name


def test_walk_is_preprocessing_then_augmentation_except_in_r4(item):
    for report in VOLUMES:
        kinds = [step.kind == "fixed" for step in registry.steps(report, **SMALL[report])]
        assert (kinds == sorted(kinds, reverse=True)) == (report != "r4")


@pytest.mark.parametrize("report", VOLUMES)
def test_every_stage_of_a_walk_shows_its_effect_when_asked(item, report):
    before = item
    for step, after in registry.walk(item, report, seed=2, always=True, **SMALL[report]):
        if step.kind == "random" and step.name != "random crop of nine tenths":
            assert not np.array_equal(np.asarray(before["image"]), np.asarray(after["image"])), step.name
        before = after


def test_same_seed_same_walk(item):
    def last(seed):
        return np.asarray([after for _, after in registry.walk(item, "course", seed, size=(24, 24, 24))][-1]["image"])

    assert np.array_equal(last(3), last(3))
    assert not np.array_equal(last(3), last(4))


def test_r0_zscores_non_zero_voxels_into_regions(item):
    out = registry.preprocessing("r0", size=(32, 32, 32))(dict(item))
    brain = np.asarray(item["image"]) != 0
    for channel, inside in zip(np.asarray(out["image"]), brain, strict=True):
        assert channel[inside].mean() == pytest.approx(0, abs=1e-4) and channel[inside].std() == pytest.approx(
            1, abs=1e-4
        )
        assert not channel[~inside].any()
    et, tc, wt = np.asarray(out["label"])
    assert np.all(et <= tc) and np.all(tc <= wt) and 0 < et.sum() < tc.sum() < wt.sum()


def test_r1_crops_to_the_truth_and_has_no_answer_without_one(item):
    out = registry.preprocessing("r1", size=(32, 32, 32))(dict(item))
    truth = np.argwhere(np.asarray(item["label"])[0])
    assert out["image"].shape == (4, 32, 32, 32)
    assert out["box"].start == tuple(np.maximum(truth.min(0) - 20, 0))
    assert out["box"].stop == tuple(np.minimum(truth.max(0) + 21, item["image"].shape[1:]))
    del item["label"]
    with pytest.raises(DataError, match=r"no truth to crop around.*crop to the brain"):
        registry.preprocessing("r1", size=(32, 32, 32))(item)


def test_r1_zscore_depends_on_how_much_background_there_is(item):
    wide = {key: torch.nn.functional.pad(item[key], (20, 20) * 3) for key in ("image", "label")}
    step = next(s for s in registry.steps("r1") if s.name.startswith("z-score"))
    narrow = np.asarray(step.transform(item)["image"])
    more = np.asarray(step.transform(wide)["image"])[:, 20:-20, 20:-20, 20:-20]
    assert step.mistake and np.abs(more - narrow).mean() > 0.3
    course = registry.steps("course")[1].transform
    assert np.allclose(
        np.asarray(course(wide)["image"])[:, 20:-20, 20:-20, 20:-20], np.asarray(course(item)["image"]), atol=1e-5
    )


def test_r2_resizes_slices(tmp_path):
    from brainseg_utils.datasets.export import write_slices

    image = np.random.default_rng(0).integers(0, 255, (256, 256, 3)).astype(np.uint8)
    mask = np.zeros((256, 256, 3), bool)
    mask[40:80, 100:160] = True
    write_slices(tmp_path, "PH_0001_20000101", {"t1n": image, "t2f": image, "t1c": image}, mask)
    (case,) = find_cases(tmp_path)
    item = load_slice(case, 1)
    out = registry.preprocessing("r2")(item)
    assert item["image"].shape == (3, 256, 256) and out["image"].shape == (3, 128, 128)
    assert 0.9 < float(out["image"].max()) <= 1
    assert int(out["label"].sum()) == 20 * 30
    assert registry.augmentation("r2").transforms == ()


def test_r3_squeezes_the_tissue_when_one_voxel_is_bright(item):
    before = np.asarray(registry.preprocessing("r3", size=(32, 32, 32))(dict(item))["image"])
    bright = item["image"].clone()
    bright[:, 24, 26, 22] = 20 * bright.max()
    after = np.asarray(registry.preprocessing("r3", size=(32, 32, 32))({**item, "image": bright})["image"])
    assert before.min() == 0 and 0.8 < before.max() <= 1
    assert np.median(after[after > 0]) < 0.1 * np.median(before[before > 0])


def test_r4_leaves_229x229x144_of_a_brats_scan_and_the_runnable_one_pads():
    image = MetaTensor(torch.zeros(1, 240, 240, 155), affine=torch.eye(4))
    label = MetaTensor(torch.zeros(1, 240, 240, 155, dtype=torch.uint8), affine=torch.eye(4))
    item = {"image": image, "label": label, "scheme": "brats2021"}
    stated = registry.preprocessing("r4")(dict(item))
    assert stated["image"].shape == (1, 229, 229, 144) and stated["label"].shape == (3, 229, 229, 144)
    assert registry.preprocessing("r4", multiple=16)(dict(item))["image"].shape == (1, 240, 240, 144)
    with pytest.raises(SettingError, match="cropping 5 \\+ 6 voxels"):
        registry.steps("r4")[-1].transform({"image": image[:, :10, :10, :10]})


def test_r4_spaces_to_1_mm(tmp_path, write_cohort):
    case = write_cohort(tmp_path, count=1, shape=(24, 26, 22))[0]
    item = load_case(case)
    for key in ("image", "label"):
        item[key].affine = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64))
    steps = dict(zip([s.name for s in registry.steps("r4")], registry.steps("r4"), strict=True))
    out = steps["spacing 1 mm"].transform(item)
    assert out["image"].shape[1:] == out["label"].shape[1:] == (47, 51, 43)
    assert set(np.unique(out["label"])) == set(np.unique(item["label"]))


def test_r0_keeps_the_scan_s_voxels_unless_a_spacing_is_asked_for(tmp_path, write_cohort):
    item = load_case(write_cohort(tmp_path, count=1, shape=(24, 26, 22))[0])
    names = [step.name for step in registry.steps("r0", size=(8, 8, 8))]
    asked = registry.steps("r0", size=(8, 8, 8), spacing=2.0)
    assert [step.name for step in asked] == ["spacing 2 mm", *names]
    out = asked[0].transform(item)
    assert out["image"].shape[1:] == out["label"].shape[1:] == (12, 14, 12)  # from 1 mm; (n - 1) / 2 + 1 rounded
    assert set(np.unique(out["label"])) <= set(np.unique(item["label"]))


def test_r4_normalisation_undoes_its_intensity_scaling(item):
    steps = registry.steps("r4")
    zscore = next(s for s in steps if s.name.startswith("z-score")).transform
    scaled = zscore({**item, "image": item["image"] * 1.1})
    assert np.allclose(np.asarray(scaled["image"]), np.asarray(zscore(item)["image"]), atol=1e-4)
    assert {s.name.split()[0] for s in steps if s.mistake and s.kind == "random"} == {"scale", "shift", "Gaussian"}


@pytest.mark.parametrize("normalise", ["zscore", "median"])
def test_course_crops_to_the_brain_and_a_mask_can_be_pasted_back(item, normalise):
    out = registry.preprocessing("course", normalise=normalise)(dict(item))
    brain = (np.asarray(item["image"]) != 0).any(axis=0)
    image = out["box"].paste(np.asarray(out["image"]))
    assert out["image"].shape[1:] < item["image"].shape[1:]
    assert not image[:, ~brain].any()
    assert np.array_equal(out["box"].paste(np.asarray(out["label"])), np.asarray(item["label"]))
    corner = np.asarray(out["image"].affine) @ [0, 0, 0, 1]
    assert np.allclose(corner, np.asarray(item["image"].affine) @ [*out["box"].start, 1])
    if normalise == "zscore":
        assert np.allclose(image[:, brain].mean(1), 0, atol=1e-3) and np.allclose(image[:, brain].std(1), 1, atol=1e-3)


def test_inference_needs_no_label(item):
    del item["label"]
    for report in ("r0", "r3", "r4", "course"):
        out = registry.preprocessing(report, **SMALL[report])(dict(item))
        assert "label" not in out and out["image"].shape[0] == 4


def landmark(shape=(44, 44, 44), off=(6, -5, 4)):
    """A dim ball of a brain with a bright ball in it, off its centre: the bright part is the label."""
    grid = np.meshgrid(*[np.arange(n) - n / 2 for n in shape], indexing="ij")
    brain = sum(g**2 for g in grid) < 18**2
    spot = sum((g - o) ** 2 for g, o in zip(grid, off, strict=True)) < 7**2
    image = np.where(brain, 100.0, 0) + np.where(spot, 900.0, 0)
    affine = torch.eye(4, dtype=torch.float64)
    return {
        "image": MetaTensor(torch.as_tensor(np.stack([image] * 4), dtype=torch.float32), affine=affine),
        "label": MetaTensor(torch.as_tensor(3 * spot[None].astype(np.uint8)), affine=affine),
        "scheme": "brats2023",
        "case": "landmark",
    }


def centre_of(mask):
    return np.argwhere(mask).mean(axis=0)


@pytest.mark.parametrize("report", VOLUMES)
def test_image_and_label_move_together_in_every_stage(report):
    moved = 0
    for seed in range(6):
        for step, after in registry.walk(landmark(), report, seed, always=seed % 2 == 0, **SMALL[report]):
            image = np.asarray(after["image"])
            channel = image[int(np.argmax(np.ptp(image, axis=(1, 2, 3))))]  # one that was not dropped
            bright = channel > 0.5 * (np.quantile(channel, 0.999) + np.median(channel))
            label = np.asarray(after["label"]).any(axis=0)
            if label.sum() < 60:
                continue  # a patch that missed the landmark
            if step.kind != "fixed":
                moved += 1
            overlap = 2 * (bright & label).sum() / (bright.sum() + label.sum())
            distance = np.linalg.norm(centre_of(bright) - centre_of(label))
            assert overlap > 0.85 and distance < 0.75, (seed, step.name, overlap, distance)
    assert moved > 10
