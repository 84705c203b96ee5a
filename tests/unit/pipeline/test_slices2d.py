"""LGG slices: what is read, how it is normalised, which slices are drawn, and what augmentation may not do."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from brainseg_utils.datasets.cases import Case, read_tiff
from brainseg_utils.errors import DataError, SettingError
from brainseg_utils.pipeline import slices
from brainseg_utils.pipeline.augment2d import FLAIR, POST, PRE, Augment2D, blurred
from brainseg_utils.pipeline.slices import Slices, SliceStream, Stack, kind_of, read_stack, read_stacks
from brainseg_utils.seeds import stream

STILL = Augment2D(**{field.name: 0.0 for field in fields(Augment2D)})


@pytest.fixture(scope="module")
def stacks(lgg_cases):
    return read_stacks(lgg_cases, 32)


def stack(masks, case_id="a", size=8):
    mask = torch.zeros(len(masks), 1, size, size, dtype=torch.uint8)
    mask[[bool(m) for m in masks]] = 1
    image = torch.arange(len(masks), dtype=torch.float16)[:, None, None, None].expand(-1, 3, size, size).clone()
    return Stack(case_id, case_id, image, mask, (size, size))


def test_a_stack_is_the_files_at_one_size(lgg_cases):
    case = lgg_cases[0]
    read = read_stack(case, 64, "unit")
    assert read.image.shape == (7, 3, 64, 64)
    assert read.shape == (64, 64)
    pixels = read_tiff(case.slice_paths[3])
    assert torch.allclose(read.image[3].float() * 255, torch.tensor(pixels).permute(2, 0, 1).float(), atol=0.1)
    assert torch.equal(read.mask[3, 0], torch.tensor(read_tiff(case.mask_paths[3]) > 0).to(torch.uint8))


def test_a_smaller_stack_holds_the_mean_of_the_pixels(lgg_cases):
    full, half = (read_stack(lgg_cases[0], size, "unit") for size in (64, 32))
    by_hand = full.image.float().unflatten(3, (32, 2)).unflatten(2, (32, 2)).mean((3, 5))
    assert torch.allclose(half.image.float(), by_hand, atol=2e-3)
    assert abs(4 * int(half.mask.sum()) / int(full.mask.sum()) - 1) < 0.15


def test_the_brains_interior_has_median_0_and_spread_1(lgg_cases):
    volume = np.stack([np.moveaxis(read_tiff(p), 2, 0) for p in lgg_cases[0].slice_paths]).astype(np.float32)
    inside = slices.interior(volume)
    normal = slices.normalise(volume)
    assert 0.1 < inside.mean() < 0.6
    for channel in range(3):
        values = normal[:, channel][inside]
        assert abs(np.median(values)) < 0.1
        assert np.percentile(values, 90) - np.percentile(values, 10) == pytest.approx(2.563, rel=0.05)


def test_normalisation_forgets_the_scanners_gain_and_a_bright_scalp():
    rng = stream(0, "interior")
    y, x = np.mgrid[:128, :128] - 64
    radius = np.hypot(x, y)
    volume = np.zeros((3, 3, 128, 128), np.float32)
    volume[..., radius < 55] = 80 + 8 * rng.standard_normal((3, 3, int((radius < 55).sum())))
    scalp = volume.copy()
    scalp[..., (radius >= 50) & (radius < 55)] = 250
    assert np.allclose(slices.normalise(scalp)[..., radius < 40], slices.normalise(volume)[..., radius < 40], atol=0.05)
    assert np.allclose(slices.normalise(0.5 * volume), slices.normalise(volume), atol=0.02)


def test_a_blank_channel_and_a_blank_volume_stay_finite():
    volume = np.zeros((2, 3, 32, 32), np.float32)
    assert np.isfinite(slices.normalise(volume)).all()


def test_kinds_of_slices():
    assert kind_of(stack([0, 0, 0, 0, 1, 1, 0, 0, 0])).tolist() == [2, 2, 1, 1, 0, 0, 1, 1, 2]
    assert kind_of(stack([0, 0, 0])).tolist() == [2, 2, 2]
    assert kind_of(stack([1, 0, 0])).tolist() == [0, 1, 1]


def test_half_of_the_draws_have_tumour_and_15_percent_lie_beside_it():
    many = [stack([0] * 12 + [1] * n + [0] * 12, f"case{n}") for n in (1, 4)]
    drawn = Slices(many, tumour=0.5, beside=0.15)
    batch = drawn.batch(range(4000))
    kinds = {s.case_id: kind_of(s) for s in many}
    found = np.array([kinds[c][k] for c, k in zip(batch["case"], batch["slice"], strict=True)])
    assert np.bincount(found) / 4000 == pytest.approx([0.5, 0.15, 0.35], abs=0.03)
    of_tumour = np.array([c == "case4" for c, kind in zip(batch["case"], found, strict=True) if kind == 0])
    assert of_tumour.mean() == pytest.approx(2 / 3, abs=0.04)  # square roots of 4 and 1


def test_unbalanced_draws_each_slice_once_an_epoch_in_a_new_order():
    drawn = Slices([stack([0, 1, 0], "a"), stack([0, 0], "b")], balanced=False)
    epochs = [drawn.batch(range(5 * e, 5 * e + 5)) for e in range(3)]
    places = [list(zip(e["case"], e["slice"], strict=True)) for e in epochs]
    assert all(sorted(p) == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)] for p in places)
    assert len({tuple(p) for p in places}) > 1


def test_a_sample_is_the_same_in_any_batch(stacks):
    drawn = Slices(stacks, seed=3, context=1, augment=Augment2D())
    together, alone = drawn.batch(range(8)), drawn.batch([5])
    assert torch.equal(together["image"][5], alone["image"][0])
    assert torch.equal(together["label"][5], alone["label"][0])
    other = Slices(stacks, seed=4, context=1, augment=Augment2D()).batch([5])
    assert not torch.equal(other["image"], alone["image"])


def test_neighbours_are_channels_and_the_ends_repeat():
    drawn = Slices([stack([1, 1, 1])], context=1, balanced=False)
    batch = drawn.batch(range(3))
    for image, k in zip(batch["image"], batch["slice"], strict=True):
        assert image[::3, 0, 0].tolist() == [max(k - 1, 0), k, min(k + 1, 2)]


def test_the_stream_gives_every_slice_once_and_batches_of_one_patient(stacks):
    stream_ = SliceStream(stacks, context=1, batch_size=4)
    batches = list(stream_)
    assert len(batches) == len(stream_) == 12
    assert all(len(set(b["case"])) == 1 for b in batches)
    seen = [(c, k) for b in batches for c, k in zip(b["case"], b["slice"], strict=True)]
    assert seen == [(s.case_id, k) for s in stacks for k in range(7)]
    assert torch.equal(torch.cat([b["label"] for b in batches]), torch.cat([s.mask for s in stacks]))


def test_augmentation_of_strength_0_changes_nothing(stacks):
    plain, still = (Slices(stacks, context=1, augment=a).batch(range(6)) for a in (None, STILL))
    assert torch.allclose(plain["image"], still["image"], atol=1e-4)
    assert torch.equal(plain["label"], still["label"])


def test_mask_and_image_move_together():
    size = 32
    image = torch.zeros(1, 3, size, size)
    image[..., 10:20, 6:14] = 1
    label = (image[:, :1] > 0).to(torch.uint8)
    moving = Augment2D(**{**vars(STILL), "rotation": 22, "scale": 0.25, "shift": 0.1, "flip": 0.5, "elastic": 0.01})
    for number in range(20):
        moved, mask = moving(image, label, [stream(number, "move")])
        assert mask.sum() > 20
        assert torch.equal(moved[0, 0] >= 0.5, mask[0, 0] == 1)


def test_a_missing_sequence_is_flair_in_every_slice_of_the_sample():
    image = torch.randn(1, 9, 16, 16)
    label = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    missing = Augment2D(**{**vars(STILL), "both_missing": 1.0})
    changed = missing(image, label, [stream(0, "missing")])[0].unflatten(1, (3, 3))
    assert torch.equal(changed[:, :, PRE], changed[:, :, FLAIR])
    assert torch.equal(changed[:, :, POST], changed[:, :, FLAIR])
    assert torch.allclose(changed[:, :, FLAIR], image.unflatten(1, (3, 3))[:, :, FLAIR], atol=1e-5)
    blank = Augment2D(**{**vars(STILL), "zero_missing": 1.0})
    changed = blank(image, label, [stream(0, "missing")])[0].unflatten(1, (3, 3))
    assert sorted(float(changed[:, :, c].abs().sum()) == 0 for c in (PRE, FLAIR, POST)) == [False, False, True]


def test_blur_keeps_the_mean_and_takes_the_noise():
    planes = torch.randn(2, 3, 64, 64)
    soft = blurred(planes, 1.0)
    assert torch.allclose(soft.mean((2, 3)), planes.mean((2, 3)), atol=0.01)
    assert float(soft.std()) < 0.5


def test_the_given_batch_is_not_changed(stacks):
    before = [s.image.clone() for s in stacks]
    Slices(stacks, context=1, augment=Augment2D(zero_missing=1.0)).batch(range(12))
    assert all(torch.equal(a, s.image) for a, s in zip(before, stacks, strict=True))


def test_what_cannot_be_trained_on_is_refused(lgg_cases, stacks):
    with pytest.raises(SettingError, match="did you mean 'interior'"):
        read_stack(lgg_cases[0], 32, "interor")
    with pytest.raises(DataError, match="slices of the lgg layout"):
        read_stack(Case("x", "x", "brats2023", lgg_cases[0].scheme, {}, None), 32)
    with pytest.raises(DataError, match="case b: no masks"):
        Slices([Stack("b", "b", stacks[0].image, None, (64, 64))])
    with pytest.raises(SettingError, match="shares"):
        Slices(stacks, tumour=0.9, beside=0.2)
