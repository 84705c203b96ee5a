"""Cohorts on disk: every layout, any number of workers, interruptions."""

from __future__ import annotations

import json
import os

import nibabel
import numpy as np
import pytest

from brainseg_utils.datasets.find import find_cases
from brainseg_utils.errors import DataError, SettingError
from brainseg_utils.files import sha256
from brainseg_utils.phantom import cohort

FIRST_IDS = {
    "brats2020": "BraTS20_Training_001",
    "brats2021": "BraTS2021_00000",
    "brats2023": "BraTS-GLI-00000-000",
    "brats2024": "BraTS-GLI-00000-100",
    "msd": "BRATS_001",
}


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Three cases made by one process."""
    out = tmp_path_factory.mktemp("cohort") / "small"
    return out, cohort.make(out, 3, "brats2023", seed=4, workers=1)


def test_two_workers_write_the_same_bytes(small, tmp_path):
    _, alone = small
    together = cohort.make(tmp_path, 2, "brats2023", seed=4, workers=2)
    assert [r["files"] for r in together] == [r["files"] for r in alone[:2]]


def test_the_record_says_what_was_drawn(small):
    out, made = small
    record = cohort.read_record(out)
    assert record["phantom"] is True and record["layout"] == "brats2023" and record["seed"] == 4
    assert record["cases"] == json.loads(json.dumps(made))
    case = record["cases"][0]
    label = np.asarray(nibabel.load(out / case["id"] / f"{case['id']}-seg.nii.gz").dataobj)
    assert case["volumes"]["SNFH"] == pytest.approx((label == 2).sum() * 8 / 1000, abs=1e-3)
    assert {"kind", "foci", "core_volume", "brain_volume", "enhancing"} <= set(case)
    assert all(sha256(out / name) == digest for name, digest in case["files"].items())


def test_a_cohort_is_completed_and_what_is_there_is_left_alone(small):
    out, made = small
    files = [out / name for record in made for name in record["files"]]
    before = {path: path.stat().st_mtime_ns for path in files}
    damaged = files[0]
    damaged.write_bytes(b"half")
    (out / made[1]["id"] / f"{made[1]['id']}-t2w.nii.gz").unlink()
    assert cohort.make(out, 3, "brats2023", seed=4, workers=1) == made
    assert all(sha256(out / name) == digest for record in made for name, digest in record["files"].items())
    untouched = [out / name for name in made[2]["files"]]
    assert all(path.stat().st_mtime_ns == before[path] for path in untouched)
    assert cohort.make(out, 1, "brats2023", seed=4, workers=1) == made[:1]
    assert len(cohort.read_record(out)["cases"]) == 3


def test_other_settings_do_not_overwrite_a_cohort(small):
    out, _ = small
    with pytest.raises(SettingError, match="a phantom cohort with seed 4, not 5"):
        cohort.make(out, 3, "brats2023", seed=5)
    with pytest.raises(SettingError, match="layout 'brats2023'"):
        cohort.make(out, 3, "brats2021", seed=4)


def test_an_interruption_leaves_whole_cases_and_a_record(tmp_path, monkeypatch):
    real = cohort.make_case

    def stops(job):
        if job.index == 1:
            raise KeyboardInterrupt
        return real(job)

    monkeypatch.setattr(cohort, "make_case", stops)
    with pytest.raises(KeyboardInterrupt):
        cohort.make(tmp_path, 2, "brats2021", seed=1, workers=1)
    assert [case["id"] for case in cohort.read_record(tmp_path)["cases"]] == ["BraTS2021_00000"]
    assert not [name for _, _, names in os.walk(tmp_path) for name in names if ".tmp-" in name]


@pytest.mark.parametrize("layout", ["brats2020", "brats2021", "brats2024", "msd"])
def test_every_layout_is_read_back_as_itself(layout, tmp_path):
    made = cohort.make(tmp_path, 1, layout, seed=2, workers=1, healthy=0.0)
    (case,) = find_cases(tmp_path)
    assert case.id == made[0]["id"] == FIRST_IDS[layout] and case.layout == layout
    volume, label = case.images(), case.label()
    shape = (91, 109, 91) if layout == "brats2024" else (120, 120, 78)
    assert volume.data.shape == (4, *shape) and volume.spacing == (2, 2, 2)
    case.scheme.check(label.data)
    voxels = {tissue: int((label.data == value).sum()) for value, tissue in case.scheme.tissues.items()}
    for tissue, cm3 in made[0]["volumes"].items():
        assert voxels.get(tissue, 0) * 8 / 1000 == pytest.approx(cm3, abs=1e-3)
    image = nibabel.load(next(tmp_path.rglob(f"{case.id}*.nii.gz")))
    assert bytes(image.header["descrip"]).rstrip(b"\0") == b"phantom"
    assert image.get_data_dtype() == np.int16
    signs = {"brats2024": (-2, 2, 2)}.get(layout, (-2, -2, 2))
    np.testing.assert_array_equal(np.diag(image.affine)[:3], signs)
    if layout == "brats2024":
        np.testing.assert_array_equal(image.affine[:3, 3], (89.5, -125.5, -71.5))


def test_patients_of_2024_are_seen_once_or_twice():
    listed = cohort.case_list(60, "brats2024", seed=0)
    assert len(listed) == 60 and len({name for name, _, _ in listed}) == 60
    second = [name for name, _, visit in listed if visit == 1]
    assert 5 <= len(second) <= 30 and all(name.endswith("-101") for name in second)
    assert cohort.case_list(20, "brats2024", seed=0) == listed[:20]


def test_slices_are_those_of_the_kaggle_set(tmp_path):
    import tifffile

    (record,) = cohort.make(tmp_path, 1, "lgg", seed=3, workers=1)
    folder = tmp_path / record["id"]
    names = sorted(path.name for path in folder.iterdir())
    count = record["slices"]
    numbers = range(1, count + 1)
    assert names == sorted(f"{record['id']}_{k}{end}" for k in numbers for end in (".tif", "_mask.tif"))
    images = np.stack([tifffile.imread(folder / f"{record['id']}_{k}.tif") for k in numbers])
    masks = np.stack([tifffile.imread(folder / f"{record['id']}_{k}_mask.tif") for k in numbers])
    assert images.shape == (count, 256, 256, 3) and images.dtype == np.uint8
    assert masks.shape == (count, 256, 256) and set(np.unique(masks)) == {0, 255}
    assert masks.any((1, 2)).sum() == record["tumour_slices"]
    middle = images[count // 2]
    head = middle.max(-1) > 20
    rows, columns = np.flatnonzero(head.any(1)), np.flatnonzero(head.any(0))
    assert 170 < rows[-1] - rows[0] < 256 and 130 < columns[-1] - columns[0] < 220
    assert images[:, :8, :8].mean() < 8  # air
    assert middle[head].mean() > 35
    (case,) = find_cases(tmp_path)
    assert case.images().data.shape == (3, 256, 256, count)
    lesion, foreground = images[masks > 0][:, 1].mean(), images[images.max(-1) > 20][:, 1].mean()
    assert lesion > foreground  # FLAIR


def test_requests_that_cannot_be_met(tmp_path):
    with pytest.raises(SettingError, match="treatment post in layout brats2021"):
        cohort.make(tmp_path, 1, "brats2021", treatment="post")
    with pytest.raises(SettingError, match="healthy share"):
        cohort.make(tmp_path, 1, "brats2021", healthy=1.5)
    with pytest.raises(SettingError, match="did you mean 'brats2023'"):
        cohort.make(tmp_path, 1, "brats20233")
    with pytest.raises(DataError, match="no phantom cohort"):
        cohort.read_record(tmp_path)
    (tmp_path / cohort.RECORD).write_text("{")
    with pytest.raises(DataError, match="damaged record"):
        cohort.make(tmp_path, 1, "brats2021")
