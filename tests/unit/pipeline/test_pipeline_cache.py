"""The cache: equal to the direct computation, found by what decides it, whole after interruptions and races."""

from __future__ import annotations

import json
import multiprocessing
import os
import time

import numpy as np
import pytest

from brainseg_utils.datasets.find import find_cases
from brainseg_utils.errors import DataError, SettingError
from brainseg_utils.parallel import one_thread
from brainseg_utils.pipeline import cache as cache_module
from brainseg_utils.pipeline import entry as entry_module
from brainseg_utils.pipeline import registry
from brainseg_utils.pipeline.cache import Cache
from brainseg_utils.pipeline.transforms import load_case

SMALL = {"r0": {"size": (32, 32, 32)}, "r1": {"size": (32, 32, 32)}, "r3": {"size": (32, 32, 32)}, "r4": {}}
SMALL |= {"course": {"size": (32, 32, 32)}}


@pytest.mark.parametrize("report", SMALL)
def test_entry_is_the_direct_computation_within_its_stated_error(cohort, tmp_path, report):
    cache = Cache(tmp_path, report, **SMALL[report])
    summary = cache.build(cohort[:1])
    (entry,) = cache.entries(cohort[:1])
    direct = registry.cached_part(report, **SMALL[report])(load_case(cohort[0]))
    image, label = np.asarray(direct["image"]), np.asarray(direct["label"])
    if report == "course":
        image, label = direct["box"].paste(image), direct["box"].paste(label)
    assert np.abs(entry.box.paste(entry.image()) - image).max() <= 1.01 * entry.error + 1e-6
    assert np.array_equal(entry.box.paste(entry.label()), label)
    assert summary.error == entry.error < 1e-3
    assert np.allclose(entry.affine @ [*entry.box.start, 1], cropped_corner(direct, entry, report))


def cropped_corner(direct, entry, report):
    start = entry.box.start if report != "course" else np.subtract(entry.box.start, direct["box"].start)
    return np.asarray(direct["image"].affine) @ [*start, 1]


def test_whole_numbers_are_stored_as_they_are(cohort, tmp_path):
    cache = Cache(tmp_path, "r4")  # its normalisation comes after the augmentation: raw intensities are cached
    cache.build(cohort[:1])
    (entry,) = cache.entries(cohort[:1])
    assert entry.scale == (1.0,) * 4 and entry.error == 0
    assert np.array_equal(entry.box.paste(entry.image()), cohort[0].images().data)


def test_entry_is_cropped_and_compact(cohort, tmp_path):
    cache = Cache(tmp_path)
    summary = cache.build(cohort)
    entries = cache.entries(cohort)
    voxels = sum(int(np.prod(entry.box.shape)) for entry in entries)
    assert summary.bytes == sum(path.stat().st_size for path in cache.folder.glob("*.safetensors"))
    assert summary.bytes < voxels * (4 * 2 + 1) + len(entries) * 40_000  # int16, uint8; points, header
    assert all(entry.box.shape < entry.box.full for entry in entries)
    assert str(summary).startswith("3 cases (3 built, 0 reused), 2 MB")


def test_points_are_tumour_of_every_class(cohort, tmp_path):
    cache = Cache(tmp_path)
    cache.build(cohort[:1])
    (entry,) = cache.entries(cohort[:1])
    label = entry.label()[0]
    assert len(entry.points) == 3
    for number, voxels in enumerate(entry.points, 1):
        assert np.all(label[tuple(voxels.T)] == number)
        assert len(voxels) == min((label == number).sum(), entry_module.POINTS)


def test_build_again_keeps_what_is_there(cohort, tmp_path):
    cache = Cache(tmp_path)
    assert cache.build(cohort).built == 3
    before = {path: path.stat().st_mtime_ns for path in cache.folder.glob("*.safetensors")}
    again = Cache(tmp_path).build(cohort)
    assert (again.built, again.cases) == (0, 3)
    assert {path: path.stat().st_mtime_ns for path in cache.folder.glob("*.safetensors")} == before


def test_changed_source_file_is_rebuilt(tmp_path, write_cohort):
    cases = write_cohort(tmp_path / "data", count=2)
    cache = Cache(tmp_path / "cache")
    cache.build(cases)
    status = cases[0].label_path.stat()
    os.utime(cases[0].label_path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert cache.find(cases[0]) is None and cache.find(cases[1]) is not None
    with pytest.raises(DataError, match=f"no entry for case {cases[0].id}.*Cache.build"):
        cache.entries(cases)
    assert cache.build(cases).built == 1
    assert len(cache.entries(cases)) == 2


def test_another_setting_is_another_entry_and_a_patch_size_is_not(cohort, tmp_path):
    folders = {
        Cache(tmp_path).folder,
        Cache(tmp_path, normalise="median").folder,
        Cache(tmp_path, modalities=("t1n", "t2f")).folder,
        Cache(tmp_path, "r0").folder,
        Cache(tmp_path, "r1", size=(16, 16, 16)).folder,
        Cache(tmp_path, "r1", size=(16, 16, 8)).folder,
        Cache(tmp_path, "r3", size=(16, 16, 16)).folder,
        Cache(tmp_path, "r4").folder,
        Cache(tmp_path, "r4", spacing=2.0).folder,
    }
    assert len(folders) == 9
    assert Cache(tmp_path, size=(64, 64, 64)).folder == Cache(tmp_path, foreground=0.2).folder == Cache(tmp_path).folder
    some = Cache(tmp_path, modalities=("t2f", "t1n"))
    some.build(cohort[:1])
    (entry,) = some.entries(cohort[:1])
    assert entry.modalities == ("t2f", "t1n") and entry.array("image").shape[0] == 2
    assert json.loads((some.folder / "settings.json").read_text())["modalities"] == ["t2f", "t1n"]
    with pytest.raises(SettingError, match="unknown pipeline"):
        Cache(tmp_path, "r9")


def test_scheme_decides_the_content(tmp_path, write_cohort):
    case = write_cohort(tmp_path / "data", count=1)[0]
    (other,) = find_cases(tmp_path / "data", scheme="brats2024-ped")
    cache = Cache(tmp_path / "cache")
    assert cache.key(case) != cache.key(other)
    cache.build([case])
    assert cache.find(other) is None


def test_cases_of_one_id_in_two_folders_do_not_share_an_entry(tmp_path, write_cohort):
    one, two = write_cohort(tmp_path / "a", count=1) + write_cohort(tmp_path / "b", count=1)
    cache = Cache(tmp_path / "cache")
    cache.build([one, two])
    assert one.id == two.id and cache.path(one) != cache.path(two)
    assert cache.build([one, two]).built == 0


DAMAGES = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "header": lambda data: data[:8] + b"x" * 40 + data[48:],
    "voxel": lambda data: data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:],
    "longer": lambda data: data + b"\0",
    "announces": lambda data: (2**62).to_bytes(8, "little") + data[8:],
    "shape": lambda data: data.replace(b'"shape":[4,', b'"shape":[5,'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_entry_is_noticed_and_rebuilt(cohort, tmp_path, damage):
    cache = Cache(tmp_path)
    cache.build(cohort[:1])
    path = cache.path(cohort[0])
    good = path.read_bytes()
    path.write_bytes(DAMAGES[damage](good))
    assert path.read_bytes() != good
    assert cache.build(cohort[:1]).built == 1
    assert path.read_bytes() == good


def test_interrupted_build_leaves_whole_entries_that_the_next_one_keeps(cohort, tmp_path, monkeypatch):
    cache, write, written = Cache(tmp_path), entry_module.write, []

    def interrupted(path, *arguments):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write(path, *arguments)

    monkeypatch.setattr(entry_module, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.build(cohort)
    monkeypatch.undo()
    assert len(cache.entries(cohort[:2])) == 2
    assert cache.build(cohort).built == 1


def test_killed_while_writing_leaves_no_entry_and_its_rest_is_swept(cohort, tmp_path, monkeypatch):
    import safetensors.numpy

    cache = Cache(tmp_path)
    cache.folder.mkdir(parents=True)
    old, new = cache.folder / ".tmp-1.a.safetensors", cache.folder / ".tmp-2.b.safetensors"
    for path in (old, new):
        path.write_bytes(b"half")
    long_ago = time.time() - 2 * cache_module.ABANDONED_S
    os.utime(old, (long_ago, long_ago))

    def half(tensors, path, metadata):
        path.write_bytes(b"half an entry")
        raise KeyboardInterrupt

    monkeypatch.setattr(safetensors.numpy, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        cache.build(cohort[:1])
    assert cache.find(cohort[0]) is None and not cache.path(cohort[0]).exists()
    assert not old.exists() and new.exists()  # one may belong to a process that is at work


def build_at_the_signal(folder, cases, barrier):
    one_thread()  # OpenMP's threads do not survive a fork
    barrier.wait()
    Cache(folder).build(cases, workers=1)


def test_two_processes_may_build_at_once(cohort, tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    both = [context.Process(target=build_at_the_signal, args=(tmp_path, cohort, barrier)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    cache = Cache(tmp_path)
    assert all(entry.sound() for entry in cache.entries(cohort))
    assert sorted(path.name[:4] for path in cache.folder.iterdir()) == ["BraT"] * 3 + ["sett"]
    assert cache.build(cohort).built == 0


def test_broken_case_is_named_and_the_others_are_cached(tmp_path, write_cohort):
    cases = write_cohort(tmp_path / "data")
    broken = cases[1].paths["t2f"]
    broken.write_bytes(broken.read_bytes()[:500])
    cache = Cache(tmp_path / "cache")
    with pytest.raises(DataError, match=rf"1 of 3 cases could not be cached: .*{broken.name}.*brainseg data verify"):
        cache.build(cases)
    assert len(cache.entries([cases[0], cases[2]])) == 2
    cases[2].paths["t1n"].unlink()
    with pytest.raises(DataError, match=r"2 of 3 cases.*no such file"):
        cache.build(cases)


def test_content_of_this_version(cohort, tmp_path):
    """Fails when a pipeline gives other content under the same `VERSION`: raise the version, then renew the numbers."""
    found = {}
    for report, settings in SMALL.items():
        cache = Cache(tmp_path, report, **settings)
        cache.build(cohort[:1])
        (entry,) = cache.entries(cohort[:1])
        values = entry.image()[entry.array("image") != 0]
        found[report] = [*entry.box.shape, *np.percentile(values, (0, 10, 50, 90, 100)), entry.label().sum()]
    assert found.keys() == CONTENT[cache_module.VERSION].keys()
    for report, numbers in CONTENT[cache_module.VERSION].items():
        assert np.allclose(found[report], numbers, atol=0.02), (report, [round(float(n), 2) for n in found[report]])


CONTENT = {
    1: {  # box, percentiles 0, 10, 50, 90, 100 of what is not 0, sum of the label
        "r0": [39, 41, 35, -3.13, -1.03, -0.16, 1.23, 5.68, 4725],
        "r1": [32, 32, 32, -0.6, -0.6, -0.6, 1.61, 2.56, 2062],
        "r3": [27, 26, 26, 0.0, 0.21, 0.57, 0.65, 0.92, 2062],
        "r4": [39, 41, 35, 180.0, 291.0, 368.0, 451.0, 699.0, 4725],
        "course": [39, 41, 35, -1.91, -1.04, -0.16, 1.24, 3.82, 6759],
    }
}


def test_unlabelled_case_has_no_label(tmp_path, write_cohort):
    case = write_cohort(tmp_path / "data", count=1)[0]
    case.label_path.unlink()
    (case,) = find_cases(tmp_path / "data")
    cache = Cache(tmp_path / "cache")
    cache.build([case])
    (entry,) = cache.entries([case])
    assert not entry.labelled and entry.points == []
    with pytest.raises(DataError, match="no label"):
        entry.label()


def test_lgg_slices_can_be_cached(tmp_path):
    from brainseg_utils.datasets.export import write_slices

    image = np.random.default_rng(0).integers(1, 255, (32, 32, 3)).astype(np.uint8)
    write_slices(tmp_path / "d", "PH_0001_20000101", {"t1n": image, "t2f": image, "t1c": image}, image > 200)
    (case,) = find_cases(tmp_path / "d")
    cache = Cache(tmp_path / "c")
    cache.build([case])
    (entry,) = cache.entries([case])
    assert entry.modalities == ("t1n", "t2f", "t1c")
    assert np.array_equal(entry.box.paste(entry.label())[0], case.label().data == 255)
    status = case.slice_paths[1].stat()
    os.utime(case.slice_paths[1], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert cache.find(case) is None
