"""A folder, searched for cases: what is recognised, and what is asked instead of guessed."""

from __future__ import annotations

import json
import shutil

import pytest

from brainseg_utils.datasets.find import find_cases, modality_word, nifti_stem
from brainseg_utils.datasets.layouts import LAYOUTS, MODALITIES
from brainseg_utils.errors import DataError, SettingError


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_is_recognised(good_cohorts, layout):
    cases = find_cases(good_cohorts[layout])
    assert [case.id for case in cases] == [LAYOUTS[layout].example_id.format(n) for n in (1, 2, 3)]
    assert {case.layout for case in cases} == {layout}
    assert {case.scheme.name for case in cases} == {LAYOUTS[layout].scheme_name}
    assert [case.id for case in find_cases(good_cohorts[layout], layout)] == [case.id for case in cases]
    if layout != "lgg":
        assert all(set(case.paths) == set(MODALITIES) and case.label_path.is_file() for case in cases)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_from_the_parent_and_from_one_case_folder(cohort, layout):
    root = cohort(layout)
    assert len(find_cases(root.parent)) == 3
    case = find_cases(root)[1]
    if layout != "msd":
        assert [found.id for found in find_cases(case.folder)] == [case.id]


def test_grades_one_folder_further_down(cohort, tmp_path):
    root = cohort("brats2020")
    deep = tmp_path / "MICCAI" / "Data" / "HGG"
    deep.parent.mkdir(parents=True)
    root.rename(deep)
    assert len(find_cases(tmp_path)) == 3


def test_linked_cases_are_found_and_a_loop_of_links_ends(cohort, tmp_path):
    root = cohort("brats2023")
    (tmp_path / "mine").mkdir()
    for folder in sorted(root.iterdir())[:2]:
        (tmp_path / "mine" / folder.name).symlink_to(folder)
    assert len(find_cases(tmp_path / "mine")) == 2
    (tmp_path / "mine" / "loop").symlink_to(tmp_path / "mine")
    assert [case.id for case in find_cases(tmp_path / "mine")] == [case.id for case in find_cases(root)[:2]]


def test_files_without_gz(cohort):
    root = cohort("brats2020")
    for path in root.rglob("*.nii.gz"):
        path.rename(path.with_suffix(""))
    assert [len(case.paths) for case in find_cases(root)] == [4, 4, 4]


def test_slices_are_sorted_as_numbers(good_cohorts):
    case = find_cases(good_cohorts["lgg"])[0]
    assert [int(path.stem.rsplit("_", 1)[1]) for path in case.slice_paths] == list(range(1, 17))


def test_a_2021_folder_is_not_read_as_2023(good_cohorts):
    for layout in ("brats2020", "brats2021"):
        for wanted in ("brats2023", "brats2024"):
            with pytest.raises(DataError, match=f"no case of layout {wanted}.*3 folders named as in {layout}.*4 is ET"):
                find_cases(good_cohorts[layout], wanted)


def test_the_other_layout_of_the_same_names_can_be_given(good_cohorts):
    assert {case.layout for case in find_cases(good_cohorts["brats2023"], "brats2024")} == {"brats2024"}
    assert {case.scheme.name for case in find_cases(good_cohorts["brats2021"], "brats2020")} == {"brats2021"}


def test_paediatric_names_are_asked_about(cohort):
    root = cohort("brats2023")
    for case in find_cases(root):
        other = case.id.replace("GLI", "PED")
        for path in case.folder.iterdir():
            path.rename(path.with_name(path.name.replace(case.id, other)))
        case.folder.rename(case.folder.with_name(other))
    with pytest.raises(SettingError, match="do not say which year's labels"):
        find_cases(root)
    assert {case.scheme.name for case in find_cases(root, scheme="brats2024-ped")} == {"brats2024-ped"}
    assert {case.scheme.name for case in find_cases(root, "brats2023")} == {"brats2023"}
    (root / "phantom.json").write_text('{"layout": "brats2024"}')
    assert {case.layout for case in find_cases(root)} == {"brats2024"}
    (root / "phantom.json").write_text('{"layout": 7}')
    with pytest.raises(SettingError):
        find_cases(root)


def test_two_data_sets_in_one_folder(cohort, tmp_path):
    cohort("brats2021"), cohort("brats2023")
    with pytest.raises(SettingError, match=r"several data sets in one folder: brats2021 \(3 folders\), brats2023"):
        find_cases(tmp_path)
    assert len(find_cases(tmp_path, "brats2021")) == 3


def test_one_misnamed_file_does_not_decide(cohort):
    root = cohort("brats2023")
    path = find_cases(root)[0].paths["t2f"]
    path.rename(path.with_name(path.name.replace("-t2f", "_flair")))
    cases = find_cases(root)
    assert [len(case.paths) for case in cases] == [3, 4, 4]


def test_the_odd_mask_of_2020(cohort):
    root = cohort("brats2020")
    label = find_cases(root)[0].label_path
    label.rename(label.with_name("W39_1998.09.19_Segm.nii.gz"))
    with pytest.warns(UserWarning, match="taken as the mask of BraTS20_Training_001"):
        case = find_cases(root)[0]
    assert case.label_path.name == "W39_1998.09.19_Segm.nii.gz"
    assert case.label().data.any()


def test_hidden_files_are_skipped(cohort):
    for layout in LAYOUTS:
        root = cohort(layout)
        before = find_cases(root)
        for path in list(root.rglob("*.*")):
            path.with_name(f"._{path.name}").write_bytes(b"\0")
        assert find_cases(root) == before


def test_decathlon_channels_come_from_the_index(cohort):
    root = cohort("msd")
    index = json.loads((root / "dataset.json").read_text())
    assert find_cases(root)[0].channels == {"t2f": 0, "t1n": 1, "t1c": 2, "t2w": 3}
    index["modality"] = {"0": "T1w", "1": "FLAIR", "2": "T2w", "3": "T1gd"}
    index["test"] = ["./imagesTs/BRATS_900.nii.gz"]
    (root / "dataset.json").write_text(json.dumps(index))
    cases = find_cases(root)
    assert cases[0].channels == {"t1n": 0, "t2f": 1, "t2w": 2, "t1c": 3}
    assert (cases[-1].id, cases[-1].label_path) == ("BRATS_900", None)


@pytest.mark.parametrize("entry", [7, None, {}, {"image": 3}, {"image": "a.nii.gz", "label": []}, []])
def test_an_index_with_a_wrong_entry(cohort, entry):
    root = cohort("msd")
    index = json.loads((root / "dataset.json").read_text())
    index["training"].append(entry)
    (root / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="unusable Decathlon index"):
        find_cases(root)


def test_absent_and_empty_folders(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        find_cases(tmp_path / "none")
    with pytest.raises(DataError, match="no cases found"):
        find_cases(tmp_path)
    with pytest.raises(SettingError, match="unknown layout"):
        find_cases(tmp_path, "brats")


def test_names():
    assert modality_word("A_t1ce.nii.gz", "A") == "t1ce"
    assert modality_word("A-t1c.nii", "A") == "t1c"
    assert modality_word("A_T1CE.nii.gz", "A") is None
    assert modality_word("A_seg.nii.gz", "A") is None
    assert nifti_stem("a.b.nii.gz") == "a.b"
    assert nifti_stem("a.hdr") is None


def test_a_copy_elsewhere_is_found_too(cohort):
    root = cohort("brats2021")
    shutil.copytree(find_cases(root)[0].folder, root / "again" / "BraTS2021_00001")
    assert [case.id[-1] for case in find_cases(root)] == ["1", "1", "2", "3"]
