"""Patches from the cache: the right voxels, turned the same way, the same for any number of workers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from brainseg_utils.datasets.labels import get_scheme
from brainseg_utils.errors import SettingError
from brainseg_utils.pipeline import registry
from brainseg_utils.pipeline.cache import Cache
from brainseg_utils.pipeline.course import cut, draw_start
from brainseg_utils.pipeline.loaders import Patches, loader
from brainseg_utils.pipeline.reading import empty, read_patch
from brainseg_utils.pipeline.transforms import from_classes

SIZE = (20, 24, 16)


@pytest.fixture(scope="module")
def entries(cohort, tmp_path_factory):
    cache = Cache(tmp_path_factory.mktemp("cache"))
    cache.build(cohort)
    return cache.entries(cohort)


starts = st.tuples(*[st.integers(-50, 60)] * 3)
sizes = st.tuples(*[st.integers(1, 50)] * 3)


@settings(max_examples=60, deadline=None)
@given(start=starts, size=sizes, flips=st.tuples(*[st.booleans()] * 3), last=st.booleans())
def test_a_read_is_a_cut_of_the_whole_then_a_flip(entries, start, size, flips, last):
    entry = entries[0]
    out = empty((2, *size), channels_last=last)
    image, label = read_patch(entry, start, size, flips, channels=(3, 1), out=out)
    axes = [axis + 1 for axis, flip in enumerate(flips) if flip]
    assert np.allclose(image.numpy(), np.flip(cut(entry.image()[[3, 1]], start, size), axes), atol=1e-6)
    assert np.array_equal(label.numpy(), np.flip(cut(entry.label(), start, size), axes))
    assert image.data_ptr() == out.data_ptr() and label.dtype == torch.uint8


@settings(deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 60)] * 3),
    size=st.tuples(*[st.integers(1, 60)] * 3),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_a_drawn_patch_is_inside_where_it_fits_and_holds_its_point(shape, size, seed, data):
    point = [data.draw(st.integers(0, n - 1)) for n in shape]
    for wanted in (None, point):
        start = draw_start(np.random.default_rng(seed), shape, size, wanted)
        for a, s, n, p in zip(start, size, shape, point, strict=True):
            assert 0 <= a <= n - s if s <= n else a == (n - s) // 2
            if wanted is not None:
                assert a <= p < a + s


def test_every_start_is_drawn_equally_often():
    rng = np.random.default_rng(0)
    counts = np.bincount([draw_start(rng, (12,), (8,))[0] for _ in range(5000)])
    assert len(counts) == 5 and abs(counts - 1000).max() < 130


def test_foreground_share_and_classes(entries):
    always = Patches(entries, (9, 9, 9), foreground=1.0, samples=40)
    assert all(always[n]["label"].any() for n in range(len(always)))
    assert np.mean([bool((always[n]["label"] == 1).any()) for n in range(len(always))]) > 1 / 3  # the rarest class
    never = Patches(entries, (9, 9, 9), foreground=0.0, samples=40)
    assert np.mean([bool(never[n]["label"].any()) for n in range(len(never))]) < 0.7


def test_sample_is_the_stored_patch_and_flips_are_even(entries):
    patches = Patches(entries, SIZE, samples=30)
    by_id = {entry.case_id: entry for entry in entries}
    turned = np.zeros(3)
    for n in range(len(patches)):
        sample = patches[n]
        entry = by_id[sample["case"]]
        plain = cut(entry.image(), sample["start"], SIZE)
        found = [f for f in np.ndindex(2, 2, 2) if np.allclose(sample["image"], np.flip(plain, axes(f)), atol=1e-6)]
        assert len(found) == 1
        assert np.array_equal(sample["label"], np.flip(cut(entry.label(), sample["start"], SIZE), axes(found[0])))
        turned += found[0]
    assert np.all(abs(turned / len(patches) - 0.5) < 0.17)


def axes(flips):
    return [axis + 1 for axis, flip in enumerate(flips) if flip]


def test_an_epoch_has_every_case_equally_often_in_a_new_order(entries):
    patches = Patches(entries, SIZE, samples=4)
    epochs = [[patches[n]["case"] for n in range(e * 12, e * 12 + 12)] for e in range(2)]
    for epoch in epochs:
        assert sorted(epoch) == sorted([entry.case_id for entry in entries] * 4)
    assert epochs[0] != epochs[1]


def same(a, b):
    return all(
        torch.equal(x[key], y[key]) and x["case"] == y["case"]
        for x, y in zip(a, b, strict=True)
        for key in ("image", "label")
    )


@pytest.mark.parametrize("last", [False, True])
def test_same_batches_with_0_or_2_workers_after_resuming_and_in_any_memory_order(entries, last):
    def patches(seed=5):
        augment = registry.live_part("course", size=SIZE)
        return Patches(entries, SIZE, seed=seed, augment=augment, regions=("ET", "TC", "WT"), samples=2)

    plain = loader(patches(), 4)
    first, second = list(plain), list(plain)
    assert [len(b["image"]) for b in first] == [4, 2]
    assert first[0]["label"].shape == (4, 3, *SIZE) and first[0]["image"].dtype == torch.float32
    parallel = loader(patches(), 4, workers=2, channels_last=last)
    assert same(parallel, first) and same(parallel, second)
    assert same(loader(patches(), 4, epoch=1), second)
    assert not same(first, second) and not same(loader(patches(seed=6), 4), first)
    for batch in loader(patches(), 4, channels_last=last):
        order = torch.channels_last_3d if last else torch.contiguous_format
        assert batch["image"].is_contiguous(memory_format=order)
        assert type(batch["image"]) is torch.Tensor and type(batch["label"]) is torch.Tensor


def test_regions_are_those_of_the_scheme(entries):
    scheme = get_scheme("brats2023")
    numbers = Patches(entries, SIZE, samples=5)
    channels = Patches(entries, SIZE, samples=5, regions=("WT", "ET", "SNFH"))
    for n in range(15):
        mask = from_classes(numbers[n]["label"][0].numpy(), scheme)
        for channel, region in zip(channels[n]["label"], ("WT", "ET", "SNFH"), strict=True):
            assert np.array_equal(channel.numpy().astype(bool), scheme.region(mask, region))


def test_modalities_are_chosen_while_reading(entries):
    every, one = Patches(entries, SIZE), Patches(entries, SIZE, modalities=("t2f", "t1n"))
    assert torch.equal(one[1]["image"], every[1]["image"][[3, 0]])


def test_whole_scans_have_the_scans_own_grid(cohort, entries):
    whole = Patches(entries, None, flips=())
    sample = whole[0]
    case = next(case for case in cohort if case.id == sample["case"])
    assert sample["image"].shape[1:] == case.images().data.shape[1:]
    assert np.array_equal(from_classes(sample["label"][0].numpy(), case.scheme), case.label().data)
    assert whole.batch([0, 1])["image"].shape[0] == 2


def test_r0_patches_come_from_anywhere_in_the_scan(cohort, tmp_path):
    cache = Cache(tmp_path, "r0", size=SIZE)
    cache.build(cohort)
    within = {w: Patches(cache.entries(cohort), SIZE, foreground=0, samples=60, within=w) for w in ("brain", "scan")}
    empty_share = {
        w: np.mean([float((p[n]["image"] == 0).float().mean()) for n in range(180)]) for w, p in within.items()
    }
    assert empty_share["scan"] > empty_share["brain"] + 0.1
    assert within["scan"][0]["label"].shape == (3, *SIZE)


def test_mixed_schemes_share_class_numbers(tmp_path, write_cohort):
    cache = Cache(tmp_path / "c")
    old, new = (write_cohort(tmp_path / layout, layout, count=1) for layout in ("brats2021", "brats2023"))
    cache.build(old + new)
    a, b = cache.entries(old + new)
    assert a.scheme != b.scheme and np.array_equal(a.label(), b.label()) and np.array_equal(a.image(), b.image())


def test_unlabelled_cases_give_images_only(tmp_path, write_cohort):
    from brainseg_utils.datasets.find import find_cases

    write_cohort(tmp_path / "d", count=1)[0].label_path.unlink()
    cases = find_cases(tmp_path / "d")
    cache = Cache(tmp_path / "c")
    cache.build(cases)
    batch = Patches(cache.entries(cases), SIZE).batch([0])
    assert "label" not in batch and batch["image"].shape == (1, 4, *SIZE)


def test_wrong_requests_are_explained(entries):
    with pytest.raises(SettingError, match="did you mean 't2w'"):
        Patches(entries, SIZE, modalities=("t2",))
    with pytest.raises(SettingError, match="unknown region 'RC'"):
        Patches(entries, SIZE, regions=("RC",))
    with pytest.raises(SettingError, match="one of brain, scan"):
        Patches(entries, SIZE, within="head")


def test_entries_travel_to_other_processes(entries):
    entries[0].points  # noqa: B018 (fills what is kept)
    copy = pickle.loads(pickle.dumps(entries[0]))
    assert np.array_equal(copy.image(), entries[0].image())
    assert len(pickle.dumps(entries[0])) < 5000
