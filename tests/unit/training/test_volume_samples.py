"""3D patches of a cohort: what they hold, where they come from, what validates; and no leak from label to image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brainseg_utils.datasets.export import write_case, write_decathlon_index
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.labels import get_scheme
from brainseg_utils.datasets.layouts import MODALITIES, get_layout
from brainseg_utils.errors import DataError, SettingError
from brainseg_utils.training import samples3d
from brainseg_utils.training.device import has_bf16
from brainseg_utils.training.loop import Loop, fit
from brainseg_utils.training.recipe import load, names
from brainseg_utils.training.run import Run
from brainseg_utils.training.train import train
from brainseg_utils.training.volumes import volumes

SIZE = (16, 16, 16)
BUDGET = {"batch": 2, "steps": 4, "epoch_steps": 2}
VOLUMES = [name for name in names() if load(name).data.name in ("volumes", "phantoms")]
SHALLOW = {"network.depths": [1, 1, 1, 1], "network.window": 2}
LEAST = {
    "phantom3d": {"data.pool": 1, "network.widths": [4, 6, 8]},
    "course_resunet3d": {"network.widths": [4, 6, 8]},
    "r0_swin": SHALLOW,
    "course_swin": SHALLOW,
}


def scan(seed=0, side=28, rc=False):
    """A ball of brain with a small tumour: NETC inside ET inside SNFH, and a cavity beside it."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices((side,) * 3) - (side - 1) / 2
    inside = x**2 + y**2 + z**2 < (0.45 * side) ** 2
    far = np.sqrt((x - 2) ** 2 + (y + 1) ** 2 + z**2)
    label = np.select([far < 2.2, far < 3.5, far < 6], [1, 3, 2], 0).astype(np.uint8)
    if rc:
        label[(np.abs(x + 6) < 2) & (np.abs(y) < 2) & (np.abs(z) < 2)] = 4
    images = {}
    for number, name in enumerate(MODALITIES):
        values = 100 + 10 * number + rng.normal(0, 3, label.shape) + 60 * (label > 0)
        images[name] = np.where(inside, values, 0).astype(np.int16)
    return images, label


def cohort(root, layout="brats2023", count=3, spacing=1.0, **options):
    for number in range(count):
        images, label = scan(number, **options)
        name = get_layout(layout).example_id.format(number + 1)
        write_case(root, layout, name, images, label, np.diag([spacing, spacing, spacing, 1]))
    if layout == "msd":
        write_decathlon_index(root, [get_layout(layout).example_id.format(n + 1) for n in range(count)], "")
    return find_cases(root)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


def sources(cases, cache, validation=(), seed=0, **options):
    return volumes(cases, validation, seed, 2, size=options.pop("size", SIZE), cache=cache, **options)


def test_a_sample_does_not_depend_on_who_draws_it_and_when(cases, cache):
    one, other = (sources(cases, cache, dropout=0.5).train for _ in range(2))
    together = one.batch([7, 8, 9])
    alone = other.batch([9])
    assert torch.equal(together["image"][2], alone["image"][0])
    assert torch.equal(together["label"][2], alone["label"][0])
    assert together["case"][2] == alone["case"][0]
    last = other.batch([9], channels_last=True)["image"]
    assert last.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(last, alone["image"])


def test_patches_are_centred_on_every_tissue_equally_often(cases, cache):
    train = sources(cases, cache, foreground=1.0, size=(8, 8, 8), augment="none", regions=("NETC", "SNFH", "ET")).train
    held = train.batch(range(60))["label"].flatten(2).any(2)
    assert held.any(1).all()
    assert held[:, 2].float().mean() > 0.6  # ET is 9 % of the tumour's voxels
    anywhere = sources(cases, cache, foreground=0.0, size=(8, 8, 8), augment="none").train
    assert anywhere.batch(range(60))["label"].flatten(1).any(1).float().mean() < 0.9


def test_a_subset_of_modalities_is_that_part_of_all(cases, cache):
    whole = sources(cases, cache, augment="none").train.batch([3])["image"]
    part = sources(cases, cache, augment="none", modalities=("t2f", "t1n")).train.batch([3])["image"]
    # normalised over the brain, which is the same, whichever modality shows it
    torch.testing.assert_close(part[0], whole[0, [3, 0]], atol=2e-3, rtol=0)


def test_the_stated_share_of_samples_loses_modalities_and_one_is_left(cases, cache):
    train = sources(cases, cache, augment="none", dropout=0.4, foreground=1.0).train
    there = train.batch(range(200))["image"].flatten(2).abs().amax(2) > 0
    lost = (~there).sum(1)
    assert 0.3 < (lost > 0).float().mean() < 0.5
    assert lost.max() <= 3
    assert (lost == 1).sum() > (lost == 2).sum() > 0


@pytest.mark.parametrize("layout", ["brats2020", "brats2021", "brats2023", "brats2024", "msd"])
def test_regions_are_the_same_whatever_the_layout_writes(layout, tmp_path):
    rc = layout == "brats2024"
    found = cohort(tmp_path / "data", layout, 1, rc=rc)
    made = sources(found, str(tmp_path / "cache"), augment="none", size=(28, 28, 28), regions=("ET", "TC", "WT", "RC"))
    label = made.train.batch([0])["label"][0].flatten(1).sum(1).tolist()
    truth = scan(rc=rc)[1]
    wanted = [np.isin(truth, v).sum() for v in ((3,), (1, 3), (1, 2, 3), (4,))]
    assert label == wanted
    assert (wanted[3] > 0) == rc


def test_classes_exclude_each_other(cases, cache):
    made = sources(cases, cache, augment="none", regions=("NETC", "SNFH", "ET", "RC"), exclusive=True, size=(28,) * 3)
    label = made.train.batch([0])["label"]
    assert made.exclusive and label.shape == (1, 1, 28, 28, 28)
    assert torch.bincount(label.flatten().int(), minlength=5)[1:].tolist() == [
        int((scan()[1] == value).sum()) for value in (1, 2, 3, 4)
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(0, 10_000))
def test_image_and_label_move_together(cases, cache, number):
    batch = sources(cases, cache, foreground=1.0).train.batch([number])
    image, tumour = batch["image"][0].mean(0), batch["label"][0, 2] > 0
    brain = image != 0
    if tumour.sum() < 50 or (brain & ~tumour).sum() < 50:
        return
    # the tumour is 20 sd of the noise brighter: where the label were a voxel off, half of its surface would be dark
    threshold = (image[tumour].median() + image[brain & ~tumour].median()) / 2
    both = ((image > threshold) & tumour).sum()
    assert 2 * both / ((image > threshold).sum() + tumour.sum()) > 0.8


def test_the_label_does_not_leak_into_the_image(tmp_path):
    """Other labels, same images: where labels do not choose the patch, nothing of the image changes."""
    images, label = scan()
    found = []
    for name, mask in (("a", label), ("b", np.where(label, 2, 0).astype(np.uint8))):
        root = tmp_path / name / "data"
        write_case(root, "brats2023", "BraTS-GLI-00001-000", images, mask, np.eye(4))
        made = sources(find_cases(root), str(tmp_path / "cache"), foreground=0.0, dropout=0.3)
        found.append(made.train.batch(range(12)))
    assert torch.equal(found[0]["image"], found[1]["image"])
    assert not torch.equal(found[0]["label"], found[1]["label"])


def test_one_millimetre_is_trained_at_two(tmp_path):
    fine = cohort(tmp_path / "fine", count=1, side=40)
    made = sources(fine, str(tmp_path / "cache"), augment="none", spacing=2.0, validation=fine, regions=("ET", "WT"))
    batch = next(iter(made.validation))
    assert max(batch["image"].shape[2:]) <= 20
    label = scan(side=40)[1]
    for channel, values in zip(batch["label"][0], ((3,), (1, 2, 3)), strict=True):
        blocks = np.isin(label, values).reshape(20, 2, 20, 2, 20, 2).mean((1, 3, 5))
        assert int(channel.sum()) == (blocks >= 0.5).sum()
    brain = batch["image"][0, 0] != 0
    edge = brain & ~torch.nn.functional.conv3d(brain[None, None].float(), torch.ones(1, 1, 3, 3, 3), padding=1)[
        0, 0
    ].ge(27)
    healthy = batch["label"][0, 1] == 0
    rim, within = (batch["image"][0, 0][m & healthy].median() for m in (edge, brain & ~edge))
    assert abs(float(rim - within)) < 0.3  # averaged with the air beside it, the rim would be 2 sd darker


def test_validation_is_the_whole_case_and_the_same_each_time(cases, cache):
    made = sources(cases[:2], cache, validation=cases[2:])
    first, again = (next(iter(made.validation)) for _ in range(2))
    assert first["case"] == [cases[2].id]
    assert torch.equal(first["image"], again["image"])
    assert int(first["label"][0, 2].sum()) == int((scan(2)[1] > 0).sum())


def test_windows_give_what_one_pass_gives(monkeypatch):
    network = torch.nn.Conv3d(4, 3, 1)
    image = torch.randn(1, 4, 20, 18, 22)
    predict = samples3d.one_pass_or_windows((12, 12, 12))
    whole = predict(network, image)
    monkeypatch.setattr(samples3d, "LARGEST", 1000)
    assert torch.allclose(predict(network, image), whole, atol=1e-5)


@pytest.mark.parametrize("pipeline", ["r0", "r1", "r3", "r4"])
def test_the_reports_pipelines_train_and_validate(pipeline, tmp_path):
    regions = {"r0": ("ET", "TC", "WT"), "r4": ("TC", "WT", "ET")}.get(pipeline, ("NETC", "SNFH", "ET"))
    found = cohort(tmp_path / "data", count=2, side=43)
    exclusive = pipeline in ("r1", "r3")
    made = sources(
        found[:1],
        str(tmp_path / "cache"),
        validation=found[1:],
        pipeline=pipeline,
        regions=regions,
        exclusive=exclusive,
    )
    batch, whole = made.train.batch([0, 1]), next(iter(made.validation))
    side = {"r4": 32, "r0": 16}.get(pipeline, 16)
    assert batch["image"].shape == (2, 4, side, side, side)
    assert whole["image"].shape[2:] == ((43,) * 3 if pipeline == "r0" else (side,) * 3)
    assert whole["label"].shape[1] == (1 if exclusive else 3)
    if pipeline != "r0":
        assert whole["label"].any()
    label = whole["label"][0]
    assert label.max() <= (3 if exclusive else 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    cohort(root, "brats2024", count=8, spacing=2.0, side=43, rc=True)
    return root


@pytest.mark.parametrize("name", VOLUMES)
def test_every_recipe_for_volumes_trains_on_a_folder(name, folder, cache, tmp_path):
    changes = {"data.cache": cache, "budget.steps": 2, "budget.epoch_steps": 1}
    changes |= LEAST.get(name, {})
    if not name.startswith("r4"):
        changes["data.size"] = list(SIZE)
    run = train(name, folder, tmp_path / "run", changes=changes)
    history = run.history()
    assert history["step"].tolist() == [1, 2]
    assert all(f"dice_{region}" in history for region in run.recipe.data.options["regions"])
    assert history["val_loss"].notna().all()


@pytest.mark.parametrize(("side", "right"), [(24, True), (16, False)])  # the deepest of three levels: 3, and 2 voxels
def test_bf16_is_not_used_where_its_gradients_are_wrong(side, right, cases, cache, tiny, tmp_path):
    def loop(precision):
        data = {"name": "volumes", "size": [side] * 3}
        recipe = tiny(data, BUDGET, {"folds": 2}, engine__precision=precision)
        return Loop(recipe, sources(cases, cache, size=(side,) * 3), Run(tmp_path / precision))

    assert loop("auto").half == (right and has_bf16(torch.device("cpu")))
    assert not loop("fp32").half
    if right:
        assert loop("bf16").half
    else:
        with pytest.raises(SettingError, match="2 voxels deep"):
            loop("bf16")


class Killed(BaseException):
    pass


def test_a_resumed_run_ends_with_the_same_weights(cases, cache, tiny, tmp_path):
    recipe = tiny({"name": "volumes", "size": list(SIZE)}, BUDGET, {"folds": 2}, engine__ema=0.9)

    def made():
        return sources(cases[:2], cache, validation=cases[2:], dropout=0.3)

    straight = fit(recipe, made(), Run.begin(tmp_path / "straight", recipe))
    broken = made()
    draw = broken.train.batch

    def stops(numbers, channels_last=False):
        if 6 in numbers:
            raise Killed
        return draw(numbers, channels_last)

    broken.train.batch = stops
    with pytest.raises(Killed):
        fit(recipe, broken, Run.begin(tmp_path / "resumed", recipe))
    resumed = fit(recipe, made(), Run.begin(tmp_path / "resumed", recipe, resume=True))
    one, other = (run.load().network.state_dict() for run in (straight, resumed))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    history = resumed.history()
    assert {"dice_ET", "dice_TC", "dice_WT"} <= set(history.columns)
    assert history["step"].tolist() == [2, 4]


def test_tone_curves_change_pictures_and_no_label(cases, cache):
    plain, toned = (sources(cases, cache, tone=tone).train.batch(range(4)) for tone in (0.0, 1.0))
    assert torch.equal(plain["label"], toned["label"])
    assert torch.equal(plain["image"] == 0, toned["image"] == 0)
    assert not torch.allclose(plain["image"], toned["image"], atol=0.05)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"regions": ("ET", "XX")}, "region"),
        ({"regions": ("WT", "TC", "ET"), "pipeline": "r4"}, "TC, WT, ET"),
        ({"modalities": ("t1", "t2f")}, "modality"),
        ({"size": (8, 8)}, "three numbers"),
        ({"augment": "course"}, "augmentation"),
        ({"pipeline": "r3", "spacing": 2.0}, "spacing"),
        ({"pipeline": "r3", "normalisation": "median"}, "states its own"),
        ({"pipeline": "r3", "tone": 0.5}, "states its own"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(cases, cache, options, words):
    with pytest.raises(SettingError, match=words):
        sources(cases, cache, **options)


def test_cases_without_masks_are_refused(tmp_path):
    images, _ = scan()
    write_case(tmp_path, "brats2023", "BraTS-GLI-00001-000", images, None, np.eye(4))
    with pytest.raises(DataError, match="no mask"):
        sources(find_cases(tmp_path), str(tmp_path / "cache"))


def test_a_region_that_the_scheme_lacks_is_refused_unless_it_is_the_cavity():
    numbers = torch.zeros(1, 2, 2, 2, dtype=torch.uint8)
    with pytest.raises(SettingError, match="CC"):
        samples3d.target(numbers, get_scheme("brats2023"), ("CC",), False)
