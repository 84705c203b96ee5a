"""Scores of real masks: a real network's output, and perturbed truths, against code written from the definition."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainseg_utils.datasets.labels import get_scheme
from brainseg_utils.evaluation import perturb
from brainseg_utils.evaluation.cohort import evaluate
from brainseg_utils.evaluation.matching import match
from brainseg_utils.evaluation.protocols import PROTOCOLS, get_protocol, score_case
from brainseg_utils.evaluation.reading import read_mask
from brainseg_utils.evaluation.surface import bounding_box
from brainseg_utils.seeds import stream

pytestmark = pytest.mark.real
MARGIN = 12  # voxels around all labels: more than any dilation, so that a crop scores as the volume
NAIVE = Path(__file__).resolve().parents[2] / "benchmarks" / "lesion_metrics_naive.py"
SURROUNDINGS = 20  # voxels around the tumour in which false specks may lie
COMPARED_EVERY = 5  # cases; the straightforward code takes seconds for each
OTHER_PROTOCOLS = ("brats2020", "brats2023-men", "brats2023-met", "brats2024")
UNCROPPED = ("specificity", "accuracy")  # they count the air around the head


@pytest.fixture(scope="module")
def naive():
    spec = importlib.util.spec_from_file_location("lesion_metrics_naive", NAIVE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def real_masks(root, folder, protocol="brats2023"):
    """Case id, labels in the scheme of the protocol, spacing."""
    wanted = get_protocol(protocol).scheme
    for job in match(root / folder, root / folder, get_protocol(protocol)).jobs:
        scheme = get_scheme(job.scheme)
        mask = read_mask(job.truth, scheme)
        assert not mask.warnings
        yield job.case, scheme.convert(mask.labels, wanted), mask.spacing


def perturbed(labels, spacing, case):
    """Shifted, with one tissue taken for another or the smallest component missed, and false specks."""
    rng = stream(0, "real-evaluation", case)
    box = bounding_box(labels, SURROUNDINGS)
    moved = perturb.shift(labels[box], (2, -1, 1))
    moved = perturb.relabel(moved, 1, 2) if rng.random() < 0.5 else perturb.miss_smallest(moved)
    prediction = np.zeros_like(labels)
    prediction[box] = perturb.add_specks(moved, spacing, np.ones(moved.shape, bool), 6, 3, rng)
    return prediction


def crop(*arrays):
    box = bounding_box(np.any(arrays, axis=0), MARGIN)
    return [array[box] for array in arrays]


def found_scores(truth, prediction, spacing, protocol):
    return {(s.region, s.metric): s.value for s in score_case(truth, prediction, spacing, protocol)}


@pytest.mark.parametrize("folder", ["brats2020", "brats2021", "brats2023"])
def test_perturbed_truths_score_as_defined_under_every_protocol(real_data, naive, folder):
    cases = 0
    for twin in ("brats2023-ssa", "brats2023-ped"):  # the same rules under another name
        assert PROTOCOLS[twin].lesion_rules == PROTOCOLS["brats2023"].lesion_rules
    for case, truth, spacing in real_masks(real_data, folder):
        prediction = perturbed(truth, spacing, case)
        small = crop(truth, prediction)
        found = found_scores(truth, prediction, spacing, "brats2023")
        if cases % COMPARED_EVERY == 0:
            expected = {
                **naive.lesionwise_2023(*small, spacing),
                **naive.voxelwise(*small, spacing, "brats2023"),
            }
            compared = {key: value for key, value in expected.items() if key[1] not in UNCROPPED}
            assert naive.largest_difference(compared, found) < 1e-9, case
        for protocol in OTHER_PROTOCOLS:
            scheme = get_scheme("brats2024" if protocol == "brats2024" else "brats2023")
            other = {(s.region, s.metric): s.value for s in score_case(*small, spacing, PROTOCOLS[protocol], scheme)}
            assert all(np.isfinite(value) for value in other.values())
            assert other["WT", "dice"] == found["WT", "dice"] and other["WT", "hd"] == found["WT", "hd"]
        cases += 1
    assert cases >= 3


def test_post_treatment_masks_with_a_cavity_score_as_defined(real_data, naive):
    cases = 0
    for case, truth, spacing in real_masks(real_data, "masks2024", "brats2024"):
        assert (truth == 4).any()
        prediction = perturbed(truth, spacing, case)
        small = crop(truth, prediction)
        whole = found_scores(truth, prediction, spacing, "brats2024")
        if cases == 0:  # the straightforward code takes long
            expected = {**naive.lesionwise_2024(*small, spacing), **naive.voxelwise(*small, spacing, "brats2024")}
        else:
            expected = found_scores(*small, spacing, "brats2024")
        compared = {key: value for key, value in expected.items() if key[1] not in UNCROPPED}
        assert naive.largest_difference(compared, whole) < 1e-9, case
        cases += 1
        lost = found_scores(truth, np.where(truth == 4, 2, truth), spacing, "brats2024")
        assert (lost["RC", "dice"], lost["RC", "hd95"]) == (0, 337)
        assert lost["ET", "lesion_dice"] == 1
    assert cases == 2


def test_a_real_networks_output_is_scored_from_files(real_data, naive, tmp_path):
    """HD-GLIO knows two labels: 1 FLAIR abnormality, 2 enhancing; in the BraTS 2020 scheme 2 and 4."""
    case = "BraTS20_Training_002"
    image = nib.load(real_data / "predictions" / f"{case}-hdglio-seg.nii.gz")
    labels = np.asarray(image.dataobj).astype(np.uint8)
    mapped = np.array([0, 2, 4], np.uint8)[labels]
    (tmp_path / case).mkdir()
    nib.save(nib.Nifti1Image(mapped, image.affine), tmp_path / case / f"{case}_seg.nii.gz")
    found = evaluate(real_data / "brats2020", tmp_path, "brats2020", workers=1)
    assert not found.faults and case not in found.missing and len(found.missing) == 2
    rows = found.rows[found.rows["case"] == case].set_index(["region", "metric"])["value"]
    truth = next(t for c, t, _ in real_masks(real_data, "brats2020", "brats2020") if c == case)
    for region, values in (("WT", (1, 2, 4)), ("ET", (4,))):
        masks = crop(np.isin(truth, values), np.isin(mapped, values))
        expected = naive.whole_region(*masks, (1.0, 1.0, 1.0), 0.0)
        for metric in ("dice", "iou", "sensitivity", "precision", "hd", "hd95", "assd", "nsd_area_1mm"):
            assert rows[region, metric] == pytest.approx(expected[metric], abs=1e-9), (region, metric)
        assert rows[region, "dice"] > 0.5


def test_lgg_masks_shifted_by_a_pixel(real_data, tmp_path):
    import tifffile

    patients = sorted(p for p in (real_data / "lgg" / "kaggle_3m").iterdir() if p.is_dir())[:4]
    for patient in patients:
        for path in patient.glob("*_mask.tif"):
            (tmp_path / "truth" / patient.name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "prediction" / patient.name).mkdir(parents=True, exist_ok=True)
            mask = tifffile.imread(path)
            tifffile.imwrite(tmp_path / "truth" / patient.name / path.name, mask)
            tifffile.imwrite(tmp_path / "prediction" / patient.name / path.name, np.roll(mask, 1, axis=0))
    found = evaluate(tmp_path / "truth", tmp_path / "prediction", "lgg", workers=1)
    assert found.exit_code == 0 and found.rows["case"].nunique() == 4
    table = found.rows.pivot(index="case", columns="metric", values="value")
    assert (table["hd95"] <= 1).all() and (table["dice"] > 0.8).all() and (table["dice"] < 1).all()
