"""`evaluate` on files and folders: what is matched, what is warned of, what is refused, what is written."""

from __future__ import annotations

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import tifffile

from brainseg_utils.errors import DataError, SettingError
from brainseg_utils.evaluation.cohort import evaluate, read_evaluation

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def tumour(enhancing=3, shift=0):
    labels = np.zeros((24, 22, 20), np.uint8)
    labels[5 + shift : 15 + shift, 5:15, 5:15] = 2
    labels[7 + shift : 13 + shift, 7:13, 7:13] = 1
    labels[8 + shift : 12 + shift, 8:12, 8:12] = enhancing
    return labels


def save(path, data, affine=LPS):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def cohort(root, ids, shift=1):
    """Masks alone: `truth/<id>-seg.nii.gz` and a shifted prediction of each under the bare id."""
    for case in ids:
        save(root / "truth" / f"{case}-seg.nii.gz", tumour())
        save(root / "prediction" / f"{case}.nii.gz", tumour(shift=shift))
    return root / "truth", root / "prediction"


def value(evaluation, case, region, metric):
    rows = evaluation.rows
    found = rows[(rows["case"] == case) & (rows["region"] == region) & (rows["metric"] == metric)]
    assert len(found) == 1
    return float(found["value"].iloc[0])


IDS = ("BraTS-GLI-00001-000", "BraTS-GLI-00002-000", "BraTS-GLI-00003-001")


def test_two_files_give_a_tidy_table_in_json_and_csv(tmp_path, capsys):
    truth, prediction = cohort(tmp_path, IDS[:1])
    found = evaluate(truth / f"{IDS[0]}-seg.nii.gz", prediction / f"{IDS[0]}.nii.gz", "brats2023")
    assert found.exit_code == 0 and not found.warnings
    assert value(found, IDS[0], "WT", "dice") == pytest.approx(0.9)
    assert value(found, IDS[0], "WT", "hd95") == 1
    assert value(found, IDS[0], "ET", "lesion_dice") == pytest.approx(0.75)
    content = json.loads(found.write_json(tmp_path / "scores.json").read_text())
    assert content["protocol"] == "brats2023"
    assert content["rows"][0] == {"case": IDS[0], "region": "WT", "metric": "dice", "value": 0.9, "unit": "1"}
    with open(found.write_csv(tmp_path / "scores.csv"), newline="") as stream:
        assert [*csv.DictReader(stream)][1]["metric"] == "iou"
    for name in ("scores.json", "scores.csv"):
        assert read_evaluation(tmp_path / name).rows.equals(found.rows)
    found.print()
    assert "0.900" in capsys.readouterr().out


def test_units_and_metrics_of_each_protocol(tmp_path):
    truth, prediction = cohort(tmp_path, IDS[:1])
    files = truth / f"{IDS[0]}-seg.nii.gz", prediction / f"{IDS[0]}.nii.gz"
    for protocol, regions, lesionwise in (("brats2020", 3, 0), ("brats2023-met", 3, 5), ("brats2024", 6, 7)):
        rows = evaluate(*files, protocol).rows
        assert rows["region"].nunique() == regions
        metrics = dict(zip(rows["metric"], rows["unit"], strict=True))
        assert sum(name.startswith("lesion_") for name in metrics) == lesionwise
        assert (metrics["dice"], metrics["hd95"], metrics["volume_truth"]) == ("1", "mm", "mm3")


def test_folders_are_matched_and_a_pool_gives_the_same_numbers(tmp_path):
    truth, prediction = cohort(tmp_path, [f"BraTS-GLI-{n:05d}-000" for n in range(5)])
    alone = evaluate(truth, prediction, "brats2024", workers=1)
    assert evaluate(truth, prediction, "brats2024", workers=2).rows.equals(alone.rows)
    assert alone.rows["case"].nunique() == 5


@pytest.mark.parametrize(
    "name",
    [
        "{id}.nii.gz",
        "{id}.nii",
        "{id}-seg.nii.gz",
        "{id}_seg.nii.gz",
        "{id}/{id}-seg.nii.gz",
        "{id}/prediction.nii.gz",
        "{id}-ensemble-seg.nii.gz",
        "fold0_{id}.nii.gz",
        "team{number}.nii.gz",
    ],
)
def test_names_under_which_a_prediction_is_found(tmp_path, name):
    truth, _ = cohort(tmp_path, IDS[:2])
    for case in IDS[:2]:
        save(tmp_path / "named" / name.format(id=case, number=case[-9:]), tumour(shift=2))
    found = evaluate(truth, tmp_path / "named", "brats2023", workers=1)
    assert found.exit_code == 0 and not found.warnings
    assert [value(found, case, "WT", "hd95") for case in IDS[:2]] == [2, 2]


def test_a_number_that_two_collections_share_decides_nothing(tmp_path):
    for case in ("BraTS-GLI-00002-000", "BraTS-SSA-00002-000"):
        save(tmp_path / "truth" / f"{case}-seg.nii.gz", tumour())
    save(tmp_path / "prediction" / "00002-000.nii.gz", tumour())
    with pytest.raises(DataError, match="none of its 1 masks belongs to a case"):
        evaluate(tmp_path / "truth", tmp_path / "prediction", "brats2023")


def test_the_scheme_comes_from_the_folder_and_bare_files_have_the_protocols(tmp_path):
    case = "BraTS2021_00000"
    folder = tmp_path / "data" / case
    for word in ("t1", "t1ce", "t2", "flair"):
        save(folder / f"{case}_{word}.nii.gz", np.ones((24, 22, 20), np.int16))
    mask = save(folder / f"{case}_seg.nii.gz", tumour(enhancing=4))
    prediction = save(tmp_path / "prediction" / case / f"{case}_seg.nii.gz", tumour(enhancing=4))
    found = evaluate(tmp_path / "data", tmp_path / "prediction", "brats2023")
    assert value(found, case, "ET", "volume_truth") == 64 and not found.warnings
    bare = evaluate(mask, prediction, "brats2023")
    assert value(bare, case, "ET", "volume_truth") == 0 and bare.exit_code == 0
    assert len(bare.warnings) == 2
    assert f"{mask}: 64 voxels of value 4" in bare.warnings[0] and str(prediction) in bare.warnings[1]
    masks_alone = evaluate(tmp_path / "prediction", tmp_path / "prediction", "brats2023")
    assert value(masks_alone, case, "ET", "volume_truth") == 64
    assert value(evaluate(mask, prediction, "brats2020"), case, "ET", "volume_truth") == 64


def test_a_missing_prediction_gets_the_worst_scores_and_is_flagged(tmp_path):
    truth, prediction = cohort(tmp_path, IDS)
    (prediction / f"{IDS[1]}.nii.gz").unlink()
    save(truth / f"{IDS[1]}-seg.nii.gz", np.where(tumour() == 3, 1, tumour()))
    found = evaluate(truth, prediction, "brats2023", workers=1)
    assert found.missing == (IDS[1],) and found.exit_code == 1
    assert any(IDS[1] in warning and "no prediction" in warning for warning in found.warnings)
    for region in ("WT", "TC", "ET"):  # the truth has no ET
        for metric, worst in (("dice", 0), ("sensitivity", 0), ("hd95", 374), ("lesion_dice", 0), ("lesion_hd95", 374)):
            assert value(found, IDS[1], region, metric) == worst
    assert (value(found, IDS[1], "WT", "lesion_fn"), value(found, IDS[1], "ET", "lesion_fn")) == (1, 0)
    assert value(found, IDS[1], "WT", "volume_truth") == 1000


def nan_mask():
    labels = tumour().astype(np.float32)
    labels[8, 8, 8] = np.nan
    return labels


def truncate(path):
    save(path, np.random.default_rng(0).integers(0, 4, (24, 22, 20)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:-200])


BAD = {
    "shape": (lambda path: save(path, tumour()[:-1]), ["(23, 22, 20)", "(24, 22, 20)"]),
    "affine": (lambda path: save(path, tumour(), np.diag([-1.0, -1.0, 2.0, 1.0])), ["affine"]),
    "origin": (lambda path: save(path, tumour(), LPS + np.eye(4, k=3) * 5), ["affine"]),
    "nan": (lambda path: save(path, nan_mask()), ["nan", "not whole numbers"]),
    "probabilities": (lambda path: save(path, (tumour() / 3).astype(np.float32)), ["not whole numbers", "probability"]),
    "dimensions": (lambda path: save(path, np.stack([tumour()] * 3, axis=3)), ["(24, 22, 20, 3)"]),
    "corrupt": (truncate, ["damaged"]),
    "empty file": (lambda path: path.write_bytes(b""), ["empty file"]),
    "not NIfTI": (lambda path: path.write_bytes(b"no mask at all" * 100), ["not a NIfTI file"]),
}


@pytest.mark.parametrize("side", ["prediction", "truth"])
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_named_and_the_rest_is_scored(tmp_path, kind, side):
    truth, prediction = cohort(tmp_path, IDS)
    path = {"truth": truth / f"{IDS[1]}-seg.nii.gz", "prediction": prediction / f"{IDS[1]}.nii.gz"}[side]
    make, words = BAD[kind]
    make(path)
    found = evaluate(truth, prediction, "brats2023", workers=1)
    assert found.exit_code == 2
    (fault,) = found.faults
    assert IDS[1] in fault and str(path) in fault and all(word in fault for word in words)
    assert sorted(set(found.rows["case"])) == [IDS[0], IDS[2]]
    assert len(found.rows) == 2 * 3 * 19


def test_two_predictions_of_a_case_are_named(tmp_path):
    truth, prediction = cohort(tmp_path, IDS[:2])
    save(prediction / "again" / f"{IDS[0]}.nii.gz", tumour())
    found = evaluate(truth, prediction, "brats2023")
    assert found.exit_code == 2 and "2 predictions" in found.faults[0] and IDS[0] in found.faults[0]
    assert set(found.rows["case"]) == {IDS[1]}


def test_a_prediction_without_truth_is_a_warning_and_probabilities_beside_it_are_not(tmp_path):
    truth, prediction = cohort(tmp_path, IDS[:1])
    save(prediction / f"{IDS[2]}.nii.gz", tumour())
    save(prediction / f"{IDS[0]}-probabilities.nii.gz", tumour())
    found = evaluate(truth, prediction, "brats2023")
    assert found.exit_code == 0 and len(found.warnings) == 1 and IDS[2] in found.warnings[0]


@pytest.mark.parametrize("side", ["truth", "prediction"])
def test_an_empty_folder_is_refused(tmp_path, side):
    cohort(tmp_path, IDS[:1])
    (tmp_path / "empty").mkdir()
    folders = {"truth": tmp_path / "truth", "prediction": tmp_path / "prediction", side: tmp_path / "empty"}
    with pytest.raises(DataError, match="empty: no masks found"):
        evaluate(folders["truth"], folders["prediction"], "brats2023")


def test_requests_that_make_no_sense_are_refused(tmp_path):
    truth, prediction = cohort(tmp_path, IDS[:1])
    with pytest.raises(DataError, match="no such file or folder"):
        evaluate(truth, tmp_path / "nowhere", "brats2023")
    with pytest.raises(DataError, match="two files, or two folders"):
        evaluate(truth, prediction / f"{IDS[0]}.nii.gz", "brats2023")
    with pytest.raises(SettingError, match="unknown protocol 'brats2032'"):
        evaluate(truth, prediction, "brats2032")
    with pytest.raises(DataError, match="not a table of scores"):
        read_evaluation(prediction / f"{IDS[0]}.nii.gz")


def slices(root, patient, numbers, shift=0, skip=()):
    for n in numbers:
        plane = np.zeros((32, 32), np.uint8)
        plane[4 + n + shift : 10 + n + shift, 8:14] = 255
        if n not in skip:
            (root / patient).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(root / patient / f"{patient}_{n}_mask.tif", plane)


def test_lgg_slices_are_stacked_in_numeric_order_and_scored_in_pixels(tmp_path):
    patient, numbers = "TCGA_XX_0001_20000101", range(1, 13)  # 10 comes after 9, not after 1
    slices(tmp_path / "truth", patient, numbers)
    slices(tmp_path / "prediction", patient, numbers, shift=1)
    found = evaluate(tmp_path / "truth", tmp_path / "prediction", "lgg")
    assert found.rows["case"].unique().tolist() == [patient]
    assert value(found, patient, "tumour", "dice") == pytest.approx(5 / 6)
    assert value(found, patient, "tumour", "hd") == 1  # each slice is the next one shifted: nearer than in the plane
    assert value(found, patient, "tumour", "volume_truth") == 12 * 36
    recall, specificity = (value(found, patient, "tumour", name) for name in ("sensitivity", "specificity"))
    assert value(found, patient, "tumour", "mean_accuracy") == pytest.approx((recall + specificity) / 2)
    units = dict(zip(found.rows["metric"], found.rows["unit"], strict=True))
    assert (units["hd95"], units["assd"], units["volume_truth"]) == ("px", "px", "px")


def test_folders_that_are_links_are_followed_each_once(tmp_path):
    patients = [f"TCGA_XX_000{k}_20000101" for k in range(2)]
    for patient in patients:
        slices(tmp_path / "all", patient, range(1, 5))
        (tmp_path / "chosen").mkdir(exist_ok=True)
        (tmp_path / "chosen" / patient).symlink_to(tmp_path / "all" / patient)
    (tmp_path / "all" / patients[0] / "up").symlink_to(tmp_path / "all")  # a circle
    found = evaluate(tmp_path / "chosen", tmp_path / "all", "lgg", workers=1)
    assert found.exit_code == 0 and found.rows["case"].unique().tolist() == patients
    truth, prediction = cohort(tmp_path / "volumes", IDS[:2])
    (tmp_path / "linked").symlink_to(truth)
    (truth / "again").symlink_to(truth)
    assert evaluate(tmp_path / "linked", prediction, "brats2023", workers=1).rows["case"].nunique() == 2


def test_lgg_patients_with_missing_slices_are_named_and_without_any_are_missing(tmp_path):
    patients = [f"TCGA_XX_000{k}_20000101" for k in range(3)]
    for k, patient in enumerate(patients):
        slices(tmp_path / "truth", patient, range(1, 5))
        if k < 2:
            slices(tmp_path / "prediction", patient, range(1, 5), skip=(3,) if k == 1 else ())
    found = evaluate(tmp_path / "truth", tmp_path / "prediction", "lgg", workers=1)
    assert found.exit_code == 2 and "slice 3" in found.faults[0] and patients[1] in found.faults[0]
    assert found.missing == (patients[2],)
    assert value(found, patients[0], "tumour", "dice") == 1
    assert value(found, patients[2], "tumour", "hd95") == pytest.approx(np.sqrt(32**2 + 32**2 + 4**2))


def test_a_data_set_without_masks_is_no_truth(tmp_path):
    _, prediction = cohort(tmp_path, IDS[:1])
    for word in ("t1n", "t1c", "t2w", "t2f"):
        save(tmp_path / "data" / IDS[0] / f"{IDS[0]}-{word}.nii.gz", np.ones((4, 4, 4), np.int16))
    with pytest.raises(DataError, match="no case with a mask"):
        evaluate(tmp_path / "data", prediction, "brats2023")


def test_two_masks_of_a_case_are_named(tmp_path):
    truth, prediction = cohort(tmp_path, IDS[:2])
    save(truth / "again" / f"{IDS[0]}-seg.nii.gz", tumour())
    found = evaluate(truth, prediction, "brats2023", workers=1)
    assert found.exit_code == 2 and "two masks" in found.faults[0]
    assert found.rows["case"].nunique() == 2


def test_colour_images_are_not_masks(tmp_path):
    truth, prediction = cohort(tmp_path, IDS[:2])
    colour = np.zeros((24, 22, 20), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    save(prediction / f"{IDS[0]}.nii.gz", colour)
    found = evaluate(truth, prediction, "brats2023", workers=1)
    assert found.exit_code == 2 and "type" in found.faults[0]
    assert found.rows["case"].unique().tolist() == [IDS[1]]
