"""On real develop scans: the cache is the direct computation, and every pipeline runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from brainseg_utils.datasets.find import find_cases
from brainseg_utils.pipeline import registry
from brainseg_utils.pipeline.cache import Cache
from brainseg_utils.pipeline.loaders import Patches, loader
from brainseg_utils.pipeline.transforms import from_classes, load_case

pytestmark = pytest.mark.real
SPLIT = Path(__file__).resolve().parents[2] / "data" / "split.json"
FOLDERS = {"BraTS2021_01476": "brats2021", "Brats18_2013_2_1": "brats2020", "BraTS-SSA-00002-000": "brats2023"}


@pytest.fixture(scope="module")
def cases(real_data):
    develop = json.loads(SPLIT.read_text(encoding="utf-8"))["brats"]["develop"]
    assert set(FOLDERS) <= set(develop)
    return [find_cases(real_data / folder / name)[0] for name, folder in FOLDERS.items()]


@pytest.fixture(scope="module")
def cached(cases, tmp_path_factory):
    cache = Cache(tmp_path_factory.mktemp("cache"))
    return cache.build(cases), cache.entries(cases)


def test_cached_course_pipeline_is_the_direct_computation(cases, cached):
    summary, entries = cached
    assert summary.error < 2e-4  # sd: a hundredth of what uint8 would lose
    for case, entry in zip(cases, entries, strict=True):
        raw = load_case(case)
        brain = (np.asarray(raw["image"]) != 0).any(axis=0)  # BraTS-SSA-00002 has negative intensities
        direct = registry.preprocessing("course")(raw)
        image = entry.box.paste(entry.image())
        assert np.abs(image - direct["box"].paste(np.asarray(direct["image"]))).max() <= 1.01 * entry.error
        assert np.allclose(image[:, brain].mean(1), 0, atol=2e-3) and np.allclose(image[:, brain].std(1), 1, atol=2e-3)
        assert not image[:, ~brain].any()
        label = from_classes(entry.box.paste(entry.label())[0], case.scheme)
        inside = direct["box"].paste(np.ones(direct["box"].shape, bool))
        truth = case.label().data
        assert np.array_equal(label[inside], truth[inside])
        assert (truth[~inside] > 0).sum() == 0
        assert entry.bytes < 0.25 * 4 * raw["image"].numel()  # against float32 in memory


def test_real_patches_make_a_batch(cached):
    patches = Patches(cached[1], (128, 128, 128), foreground=1.0, regions=("ET", "TC", "WT"))
    (batch,) = loader(patches, 3)
    assert batch["image"].shape == (3, 4, 128, 128, 128) and batch["label"].shape == (3, 3, 128, 128, 128)
    et, tc, wt = batch["label"].sum(dim=(2, 3, 4)).T
    assert bool((et <= tc).all()) and bool((tc <= wt).all()) and bool((wt > 0).all())


@pytest.fixture(scope="module")
def scan(cases):
    return load_case(cases[0])


@pytest.mark.parametrize("report", ["r0", "r1", "r3", "r4"])
def test_every_reports_preprocessing_runs_on_a_real_scan(scan, report):
    out = registry.preprocessing(report)(dict(scan))
    shape = {"r0": (240, 240, 155), "r1": (128,) * 3, "r3": (128,) * 3, "r4": (229, 229, 144)}[report]
    assert tuple(out["image"].shape[1:]) == tuple(out["label"].shape[1:]) == shape
    assert bool(np.isfinite(np.asarray(out["image"])).all()) and bool(np.asarray(out["label"]).any())
