"""Splits: laws that hold for any cohort, and the file that keeps one."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainseg_utils.datasets import splits
from brainseg_utils.datasets.cases import Case
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.labels import get_scheme
from brainseg_utils.errors import DataError, SettingError


def a_case(collection: str, patient: int, session: int) -> Case:
    person = f"BraTS-{collection}-{patient:05d}"
    return Case(f"{person}-{session:03d}", person, "brats2023", get_scheme("brats2023"), {}, None)


@st.composite
def cohorts(draw, least=5) -> list[Case]:
    """Patients of two collections with one to three sessions each, in any order."""
    people = draw(
        st.lists(
            st.tuples(st.sampled_from(["GLI", "SSA"]), st.integers(0, 99)), min_size=least, max_size=60, unique=True
        )
    )
    cases = [a_case(c, p, s) for c, p in people for s in range(draw(st.integers(1, 3)))]
    return draw(st.permutations(cases))


SEEDS = st.integers(0, 2**31)
FRACTIONS = st.sampled_from([splits.EIGHTY_TWENTY, splits.THREE_WAY])


def patients(split: splits.Split, cases: list[Case]) -> dict[str, set[str]]:
    person = {case.id: case.patient for case in cases}
    return {name: {person[i] for i in ids} for name, ids in split.subsets.items()}


def assert_a_partition(split: splits.Split, cases: list[Case]) -> None:
    dealt = [i for ids in split.subsets.values() for i in ids]
    assert sorted(dealt) == sorted(case.id for case in cases)  # every case once
    sides = list(patients(split, cases).values())
    assert sum(map(len, sides)) == len(set().union(*sides))  # every patient on one side
    splits.check(split, cases)


@settings(max_examples=60, deadline=None)
@given(cases=cohorts(), fractions=FRACTIONS, seed=SEEDS)
def test_every_patient_is_on_one_side_in_the_right_share(cases, fractions, seed):
    split = splits.split(cases, fractions, seed)
    assert_a_partition(split, cases)
    sides = patients(split, cases)
    total = sum(map(len, sides.values()))
    assert all(sides.values())
    for name, share in fractions.items():
        assert abs(len(sides[name]) - share * total) <= 1.0 + 1e-9


@settings(max_examples=60, deadline=None)
@given(cases=cohorts(), folds=st.integers(2, 5), seed=SEEDS)
def test_folds_are_of_equal_size(cases, folds, seed):
    split = splits.k_fold(cases, folds, seed)
    assert_a_partition(split, cases)
    sizes = [len(side) for side in patients(split, cases).values()]
    assert max(sizes) - min(sizes) <= 1
    assert sorted(split.rest("fold0") + split["fold0"]) == sorted(case.id for case in cases)


@settings(max_examples=40, deadline=None)
@given(cases=cohorts(), seed=SEEDS, data=st.data())
def test_the_same_seed_gives_the_same_split_whatever_the_order(cases, seed, data):
    again = data.draw(st.permutations(cases))
    assert splits.split(cases, seed=seed) == splits.split(again, seed=seed)
    assert splits.k_fold(cases, 3, seed) == splits.k_fold(again, 3, seed)


def test_another_seed_gives_another_split():
    cases = [a_case("GLI", n, 0) for n in range(40)]
    assert len({splits.split(cases, seed=seed)["val"] for seed in range(10)}) == 10


@settings(max_examples=40, deadline=None)
@given(count=st.integers(20, 80), seed=SEEDS, folds=st.integers(2, 5))
def test_strata_are_spread_evenly(count, seed, folds):
    cases = [a_case("GLI", n, 0) for n in range(count)]
    sizes = {case.id: float(n) for n, case in enumerate(cases)}
    split = splits.k_fold(cases, folds, seed, sizes)
    assert_a_partition(split, cases)
    for stratum in range(splits.STRATA):
        members = {case.id for n, case in enumerate(cases) if n * splits.STRATA // count == stratum}
        counts = [len(members & set(split[fold])) for fold in split.subsets]
        assert max(counts) - min(counts) <= 2


def test_a_patient_is_as_large_as_their_largest_tumour():
    cases = [a_case("GLI", n, session) for n in range(8) for session in range(2)]
    sizes = {case.id: float(index) for index, case in enumerate(cases)}
    assert_a_partition(splits.split(cases, sizes=sizes), cases)
    with pytest.raises(SettingError, match="no tumour size for BraTS-GLI-00003-001"):
        splits.split(cases, sizes={i: s for i, s in sizes.items() if i != "BraTS-GLI-00003-001"})


def test_settings_that_cannot_be():
    cases = [a_case("GLI", n, 0) for n in range(4)]
    with pytest.raises(SettingError, match=r"add up to 0.9; expected 1"):
        splits.split(cases, {"train": 0.7, "val": 0.2})
    with pytest.raises(SettingError, match="expected 1"):
        splits.split(cases, {"train": 1.2, "val": -0.2})
    with pytest.raises(SettingError, match="1 folds"):
        splits.k_fold(cases, 1)
    with pytest.raises(SettingError, match="4 patients; expected 5 or more"):
        splits.k_fold(cases, 5)
    with pytest.raises(SettingError, match="no subset 'test'; expected train, val"):
        splits.split(cases)["test"]


def test_overlap_is_refused():
    cases = [a_case("GLI", 1, 0), a_case("GLI", 1, 1), a_case("GLI", 2, 0)]
    leak = splits.Split({"train": (cases[0].id, cases[2].id), "val": (cases[1].id,)}, 0)
    splits.check(leak)  # the ids alone do not show it
    with pytest.raises(DataError, match="patient BraTS-GLI-00001 is in train and in val"):
        splits.check(leak, cases)
    twice = splits.Split({"train": (cases[0].id,), "val": (cases[0].id,)}, 0)
    with pytest.raises(DataError, match="is in train and in val"):
        splits.check(twice)
    with pytest.raises(DataError, match="case BraTS-GLI-00002-000 of subset train is not in the cohort"):
        splits.check(leak, cases[:2])


@settings(max_examples=20, deadline=None)
@given(cases=cohorts(), seed=SEEDS)
def test_what_is_saved_is_loaded(cases, seed):
    with tempfile.TemporaryDirectory() as folder:
        split = splits.split(cases, splits.THREE_WAY, seed)
        path = splits.save(split, Path(folder) / "split.json")
        assert splits.load(path, cases) == split


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"seed": 0, "subsets": 3}', '{"seed": "x", "subsets": {}}'])
def test_a_file_that_is_no_split(tmp_path, content):
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(DataError, match="not a split file"):
        splits.load(tmp_path / "split.json")
    with pytest.raises(DataError, match="no such file"):
        splits.load(tmp_path / "none.json")


def test_an_overlapping_file_is_refused(tmp_path):
    (tmp_path / "split.json").write_text(json.dumps({"seed": 0, "subsets": {"train": ["a"], "val": ["a"]}}))
    with pytest.raises(DataError, match="patient a is in train and in val"):
        splits.load(tmp_path / "split.json")


def test_a_saved_split_is_reused_and_never_overwritten(good_cohorts, tmp_path):
    cases = find_cases(good_cohorts["brats2021"])
    path = tmp_path / "split.json"
    made = splits.reuse_or_make(path, cases, stratify=True)
    content = path.read_bytes()
    assert splits.reuse_or_make(path, cases) == made
    with pytest.raises(SettingError, match="a saved split of 3 cases into train, val with seed 0"):
        splits.reuse_or_make(path, cases, seed=1)
    with pytest.raises(SettingError, match="expected 3 cases into fold0, fold1"):
        splits.reuse_or_make(path, cases, folds=2)
    with pytest.raises(DataError, match="not in the cohort"):
        splits.reuse_or_make(path, cases[:2])
    assert path.read_bytes() == content


@pytest.mark.parametrize("layout", ["brats2021", "msd", "lgg"])
def test_tumour_size_counts_the_whole_tumour(good_cohorts, layout):
    case = find_cases(good_cohorts[layout])[0]
    assert splits.tumour_size(case) == (case.label().data > 0).sum()
