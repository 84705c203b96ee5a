"""`verify`: a good cohort has no fault; a cohort damaged in one way has that fault and no other."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shutil
import struct

import numpy as np
import pytest

from brainseg_utils.datasets import damage, damage_slices, nifti
from brainseg_utils.datasets.faults import Fault, Kind, Report
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.layouts import LAYOUTS
from brainseg_utils.datasets.verify import verify
from brainseg_utils.errors import DataError, SettingError

VOLUMETRIC = ("brats2020", "brats2021", "brats2023", "brats2024")


def listed(report: Report) -> set[tuple[str, str]]:
    return {(fault.kind, fault.file) for fault in report.faults}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_good_cohort_has_no_fault(good_cohorts, layout):
    report = verify(good_cohorts[layout], workers=1)
    assert (report.faults, report.notices, report.exit_code) == ((), (), 0)
    assert report.layout == layout
    assert report.cases == 3
    assert report.files == {"lgg": 3 * 2 * 16, "msd": 3 * 2}.get(layout, 3 * 5)


@pytest.mark.parametrize(
    ("layout", "function"),
    [
        *((VOLUMETRIC[i % 4], function) for i, function in enumerate(damage.BRATS)),
        *((layout, function) for layout in VOLUMETRIC for function in damage.NAMES),
        *(("lgg", function) for function in damage_slices.LGG),
        *(("msd", function) for function in damage_slices.DECATHLON),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_each_damage_is_listed_and_nothing_else(cohort, layout, function):
    root = cohort(layout)
    done = function(root)
    report = verify(root, workers=1)
    assert listed(report) == {(done.kind.value, done.file)}
    assert report.exit_code == 1
    assert all(fault.found and fault.expected and fault.remedy for fault in report.faults)


def test_every_fault_is_listed_not_only_the_first(cohort):
    root = cohort("brats2021")
    cases = find_cases(root)
    expected = {(d.kind.value, d.file) for d in (damage.truncate(root), damage.write_unknown_label(root))}
    for case in cases[1:]:
        case.paths["t1n"].write_bytes(b"")
        case.paths["t1c"].unlink()
        name = f"{case.id}/{case.id}"
        expected |= {(Kind.EMPTY.value, f"{name}_t1.nii.gz"), (Kind.MISSING.value, f"{name}_t1ce.nii.gz")}
    assert listed(verify(root, workers=1)) == expected


def test_several_workers_find_the_same(cohort):
    root = cohort("brats2023")
    damage.shift(root)
    damage.copy_patient(root)
    assert verify(root, workers=2) == verify(root, workers=1)


def test_messages_name_what_was_found_and_expected(cohort):
    root = cohort("brats2023")
    damage.write_unknown_label(root)
    label = find_cases(root)[1].label_path
    file = nifti.read(label)
    nifti.write(label, np.where(file.data == 3, 4, file.data), file.affine)  # raw 2021 labels under a 2023 name
    seven, four = verify(root, workers=1).faults
    assert "7 is not in scheme brats2023 (1 voxel)" in seven.found
    assert seven.expected == "0, 1 NETC, 2 SNFH, 3 ET"
    assert "4 is ET in brats2021" in four.remedy


def test_whole_number_floats_are_labels(cohort):
    root = cohort("brats2020")
    label = find_cases(root)[0].label_path
    file = nifti.read(label)
    nifti.write(label, file.data.astype(np.float64), file.affine)
    assert verify(root, workers=1).faults == ()


def test_a_set_without_labels_gets_one_notice(cohort):
    root = cohort("brats2023")
    for case in find_cases(root):
        case.label_path.unlink()
    report = verify(root, workers=1)
    assert report.exit_code == 0
    assert [notice.kind for notice in report.notices] == ["no label"]


def test_training_cases_want_labels_even_if_none_has_one(cohort):
    root = cohort("brats2020")  # BraTS20_Training_001
    for case in find_cases(root):
        case.label_path.unlink()
    assert [fault.kind for fault in verify(root, workers=1).faults] == ["no label"] * 3


def test_validation_set_beside_training_set(cohort, tmp_path):
    both = tmp_path / "both"
    shutil.move(cohort("brats2023"), both / "training")
    shutil.copytree(both / "training", both / "validation")
    for number, case in enumerate(find_cases(both / "validation"), 11):
        other = f"BraTS-GLI-{number:05d}-000"
        case.label_path.unlink()
        for path in case.paths.values():
            data = nifti.read(path).data + np.int16(number)
            nifti.write(path.with_name(path.name.replace(case.id, other)), data, nifti.read(path).affine)
            path.unlink()
        case.folder.rename(case.folder.with_name(other))
    report = verify(both, workers=1)
    assert report.faults == ()
    assert [notice.file for notice in report.notices] == ["validation"]


def test_lgg_without_any_mask_gets_one_notice(cohort):
    root = cohort("lgg")
    for mask in root.rglob("*_mask.tif"):
        mask.unlink()
    report = verify(root, workers=1)
    assert (report.exit_code, len(report.notices)) == (0, 1)


def test_the_odd_mask_of_2020_is_understood(cohort):
    root = cohort("brats2020")
    label = find_cases(root)[0].label_path
    label.rename(label.with_name("W39_1998.09.19_Segm.nii.gz"))
    report = verify(root, workers=1)
    assert report.exit_code == 0
    assert [(n.kind, n.file.split("/")[1]) for n in report.notices] == [
        ("mask under another name", "W39_1998.09.19_Segm.nii.gz")
    ]


@pytest.mark.parametrize("layout", VOLUMETRIC)
def test_a_case_with_nothing_but_its_mask_is_not_overlooked(cohort, layout):
    root = cohort(layout)
    case = find_cases(root)[1]
    for path in case.paths.values():
        path.unlink()
    assert listed(verify(root, workers=1)) == {
        ("missing modality", path.relative_to(root).as_posix()) for path in case.paths.values()
    }


def test_an_empty_case_folder_is_not_overlooked(cohort):
    root = cohort("brats2021")
    (root / "BraTS2021_00077").mkdir()
    kinds = sorted(fault.kind for fault in verify(root, workers=1).faults)
    assert kinds == ["missing modality"] * 4 + ["no label"]


def test_a_patient_with_nothing_but_masks_is_not_overlooked(cohort):
    root = cohort("lgg")
    for path in find_cases(root)[0].slice_paths:
        path.unlink()
    assert {fault.kind for fault in verify(root, workers=1).faults} == {"mask without slice"}


def test_two_files_for_one_modality(cohort):
    root = cohort("brats2023")
    path = find_cases(root)[0].paths["t1c"]
    shutil.copyfile(path, path.with_name(path.name.replace("t1c", "t1ce")))
    assert [fault.kind for fault in verify(root, workers=1).faults] == ["modality twice"]


def test_a_modality_copied_over_another(cohort):
    root = cohort("brats2021")
    paths = find_cases(root)[0].paths
    shutil.copyfile(paths["t1n"], paths["t1c"])
    (fault,) = verify(root, workers=1).faults
    assert (fault.kind, fault.file.split("/")[1]) == ("identical images", paths["t1c"].name)
    assert paths["t1n"].name in fault.found


@pytest.mark.parametrize("layout", ["brats2020", "brats2023", "lgg"])
def test_the_same_id_in_two_places(cohort, layout):
    root = cohort(layout)
    case = find_cases(root)[2]
    shutil.copytree(case.folder, root / "again" / case.id)
    (fault,) = verify(root, workers=1).faults
    assert (fault.kind, fault.case) == ("duplicate case id", case.id)
    assert {fault.file, fault.found.split()[-1]} == {case.id, f"again/{case.id}"}


def test_the_same_patient_stored_with_another_type_and_orientation(cohort):
    root = cohort("brats2021")
    first, second = find_cases(root)[:2]
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = 23
    for modality, path in first.paths.items():
        file = nifti.read(path)
        nifti.write(second.paths[modality], file.data[::-1].astype(np.float32), file.affine @ flip)
    (fault,) = verify(root, workers=1).faults
    assert (fault.kind, fault.case, fault.file) == ("identical images", second.id, second.id)
    assert first.id in fault.found


def test_affines_that_differ_by_rounding_are_a_notice(cohort):
    root = cohort("brats2021")
    path = find_cases(root)[0].paths["t1n"]
    file = nifti.read(path)
    affine = file.affine.copy()
    affine[0, 3] += 1e-5
    nifti.write(path, file.data, affine)
    report = verify(root, workers=1)
    assert (report.exit_code, [n.kind for n in report.notices]) == (0, ["affine differs by rounding"])


def test_a_broken_index_is_a_fault_and_no_crash(cohort):
    root = cohort("msd")
    for content in ("{", "[]", '{"modality": null}', '{"modality": {"0": "T1w"}}', "7"):
        (root / "dataset.json").write_text(content)
        assert [(f.kind, f.file) for f in verify(root, workers=1).faults] == [("unusable index", "dataset.json")]


@pytest.mark.parametrize("part", ["training", "test"])
@pytest.mark.parametrize("value", [7, None, {"a": 1}, "text"])
def test_an_index_whose_lists_are_none(cohort, part, value):
    root = cohort("msd")
    index = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**index, part: value}))
    assert [fault.kind for fault in verify(root, workers=1).faults] == ["unusable index"]
    with pytest.raises(DataError, match="is not a list"):
        find_cases(root)


def test_an_index_that_names_files_elsewhere(cohort, tmp_path):
    root = cohort("msd")
    shutil.copyfile(next((root / "imagesTr").iterdir()), tmp_path / "outside.nii.gz")
    index = json.loads((root / "dataset.json").read_text())
    index["test"] = ["../outside.nii.gz"]
    (root / "dataset.json").write_text(json.dumps(index))
    assert [fault.kind for fault in verify(root, workers=1).faults] == ["absent file"]


def test_a_folder_without_cases_and_one_with_two_data_sets(cohort, tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="no cases found"):
        verify(tmp_path / "nothing")
    cohort("brats2021"), cohort("brats2023")
    with pytest.raises(SettingError, match="several data sets"):
        verify(tmp_path)


def test_report_as_json_and_csv(cohort, tmp_path, capsys):
    root = cohort("brats2021")
    damage.empty(root)
    (root / "BraTS2021_00001" / "extra.nii.gz").write_bytes(b"")
    report = verify(root, workers=1)
    content = json.loads(report.write_json(tmp_path / "r.json").read_text())
    assert content["faults"][0]["kind"] == "empty file"
    assert (content["layout"], content["cases"], len(content["notices"])) == ("brats2021", 3, 1)
    with open(report.write_csv(tmp_path / "r.csv"), newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["severity"], row["kind"]) for row in rows] == [
        ("fault", "empty file"),
        ("notice", "file of no case"),
    ]
    report.print()
    printed = capsys.readouterr().out.splitlines()
    assert printed == report.lines()
    assert printed[-1] == "1 fault in 3 cases (brats2021, 15 files read): 1 empty file"


def test_a_fault_in_one_line():
    fault = Fault("a", "a/a_t1.nii", "empty file", "0 bytes", "an image", "copy it again")
    assert str(fault) == "a/a_t1.nii: empty file: 0 bytes; expected an image; copy it again"


def test_codes_that_mean_nothing(cohort):
    root = cohort("brats2023")
    path = find_cases(root)[0].paths["t1n"]
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[252:256] = struct.pack("<2h", 1, 255)  # qform_code, sform_code: nibabel then takes the qform
    path.write_bytes(gzip.compress(bytes(content)))
    (fault,) = verify(root, workers=1).faults
    assert fault.kind == "header against itself"
    assert "sform_code 255" in fault.found


def test_table_on_a_terminal(cohort, capsys, monkeypatch):
    root = cohort("brats2023")
    damage.blank(root)
    report = verify(root, workers=1)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    report.print()
    printed = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)  # without colours
    for part in ("empty image", "every voxel is 0", "expected an image", "1 fault in 3 cases"):
        assert part in printed
    assert max(map(len, printed.splitlines())) <= 100
