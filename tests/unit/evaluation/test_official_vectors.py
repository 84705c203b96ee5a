"""The package against the numbers of the challenges' own scripts (tests/vectors, made from their raw output)."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from brainseg_utils.datasets.labels import get_scheme
from brainseg_utils.evaluation import boundary, voxel
from brainseg_utils.evaluation.lesions import prepare, score
from brainseg_utils.evaluation.protocols import PROTOCOLS, score_case

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
CONTENT = json.loads((VECTORS / "vectors.json").read_text())
CASES = {case["name"]: case for case in CONTENT["cases"]}
PROTOCOL_OF_BLOCK = {
    "brats2023-GLI": "brats2023",
    "brats2023-MEN": "brats2023-men",
    "brats2023-MET": "brats2023-met",
    "brats2024-GLI": "brats2024",
}
METRIC_OF_COLUMN = {
    "Num_TP": "lesion_tp",
    "Num_FP": "lesion_fp",
    "Num_FN": "lesion_fn",
    "LesionWise_Score_Dice": "lesion_dice",
    "LesionWise_Score_HD95": "lesion_hd95",
    "LesionWise_Score_NSD @ 0.5": "lesion_nsd_0.5mm",
    "LesionWise_Score_NSD @ 1.0": "lesion_nsd_1mm",
    "Legacy_Dice": "dice",
    "Legacy_HD95": "hd95",
    "Legacy NSD @ 0.5": "nsd_voxel_0.5mm",
    "Legacy NSD @ 1.0": "nsd_voxel_1mm",
    "Sensitivity": "sensitivity",
    "Specificity": "specificity",
    "GT_Complete_Volume": "volume_truth",
}
# Columns that the 2024 script computes on the prediction without its small lesions (evaluation contract, 6.3).
FILTERED_COLUMNS = (
    "Legacy_Dice",
    "Legacy_HD95",
    "Legacy NSD @ 0.5",
    "Legacy NSD @ 1.0",
    "Sensitivity",
    "Specificity",
)
TOLERANCE = 1e-6


def painted(case):
    spec = importlib.util.spec_from_file_location("vector_painting", VECTORS / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build_case(case)


def without_small_lesions(prediction, region):
    """The region of the prediction as the 2024 script sees it: groups up to the threshold are gone."""
    rules = replace(PROTOCOLS["brats2024"].lesion_rules[region], partners=())
    mask = get_scheme("brats2024").region(prediction, region)
    lesions = prepare({region: mask}, {region: rules}, (1, 1, 1), truth=True)[region].lesions
    if not lesions.count:
        return mask
    kept = np.zeros(mask.shape, bool)
    kept[tuple(slice(o, o + n) for o, n in zip(lesions.parts.origin, lesions.parts.data.shape, strict=True))] = np.isin(
        lesions.parts.data, np.flatnonzero(lesions.sizes() > rules.threshold)
    )
    return kept & mask


@pytest.mark.parametrize("block", PROTOCOL_OF_BLOCK)
@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_the_official_script(name, block):
    case = CASES[name]
    truth, prediction, spacing = painted(case)
    found = {(s.region, s.metric): s.value for s in score_case(truth, prediction, spacing, PROTOCOL_OF_BLOCK[block])}
    columns = CONTENT["columns"]["brats2024-GLI" if block == "brats2024-GLI" else "brats2023-*"]
    for region, row in case["expected"][block].items():
        skipped = set()
        if block == "brats2024-GLI":
            skipped.update(case["brats2024_unreliable"].get(region, ()))
            mask = get_scheme("brats2024").region(prediction, region)
            if not np.array_equal(mask, without_small_lesions(prediction, region)):
                skipped.update(FILTERED_COLUMNS)
        for column, expected in zip(columns, row, strict=True):
            if column not in skipped:
                assert found[region, METRIC_OF_COLUMN[column]] == pytest.approx(expected, abs=TOLERANCE), column


@pytest.mark.parametrize("name", CASES)
def test_what_is_left_out_above_differs_by_the_removed_specks_alone(name):
    """On the filtered prediction the package gives the official region-wide 2024 columns too."""
    case = CASES[name]
    truth, prediction, spacing = painted(case)
    compared = 0
    for region, row in case["expected"]["brats2024-GLI"].items():
        expected = dict(zip(CONTENT["columns"]["brats2024-GLI"], row, strict=True))
        mask = get_scheme("brats2024").region(truth, region)
        kept = without_small_lesions(prediction, region)
        counts = voxel.count(mask, kept)
        surfaces = boundary.surface_distances(mask, kept, spacing)
        borders = boundary.border_distances(mask, kept, spacing)
        found = {
            "Legacy_Dice": counts.dice,
            "Legacy_HD95": boundary.hausdorff(surfaces, penalty=337),
            "Sensitivity": counts.sensitivity,
            "Specificity": counts.specificity,
            "Legacy NSD @ 0.5": boundary.nsd_voxel(borders, 0.5),
            "Legacy NSD @ 1.0": boundary.nsd_voxel(borders, 1.0),
        }
        for column in set(FILTERED_COLUMNS) - set(case["brats2024_unreliable"].get(region, ())):
            assert found[column] == pytest.approx(expected[column], abs=TOLERANCE), (region, column)
            compared += 1
    assert compared >= len(PROTOCOLS["brats2024"].regions)


@pytest.mark.parametrize("block", ["brats2023-GLI", "brats2024-GLI"])
def test_each_lesion_has_the_official_volume_dice_hd95_and_matches(block):
    protocol = PROTOCOLS[PROTOCOL_OF_BLOCK[block]]
    lesions = 0
    for case in CASES.values():
        truth, prediction, spacing = painted(case)
        sides = [
            prepare(
                {region: protocol.scheme.region(labels, region) for region in protocol.regions},
                protocol.lesion_rules,
                spacing,
                truth=labels is truth,
            )
            for labels in (truth, prediction)
        ]
        for region, expected in case["lesions"][block].items():
            result = score(sides[0][region], sides[1][region], protocol.lesion_rules[region], protocol.penalty)
            found = sorted((x.volume, x.dice, x.hd95, x.matches) for x in result.lesions)
            assert np.allclose(found, sorted(map(tuple, expected)), atol=TOLERANCE), (case["name"], region)
            lesions += len(expected)
    assert lesions > 150


def test_voxel_counts_and_boundary_metrics_are_those_of_the_reference_libraries():
    compared = 0
    for case in CASES.values():
        truth, prediction, spacing = painted(case)
        scheme = get_scheme("brats2021" if "brats2021-labels" in case["tags"] else "brats2024")
        for region, expected in case["voxelwise"].items():
            if region not in scheme.regions:
                continue
            masks = scheme.region(truth, region), scheme.region(prediction, region)
            counts = voxel.count(*masks)
            assert (counts.tp, counts.fp, counts.fn, counts.tn) == tuple(expected[k] for k in ("tp", "fp", "fn", "tn"))
            if "gsd" not in expected:
                continue
            surfaces = boundary.surface_distances(*masks, spacing)
            found = {
                "hd": boundary.hausdorff(surfaces, 1.0),
                "hd95": boundary.hausdorff(surfaces),
                **{f"sdice_{name}mm": boundary.nsd_area(surfaces, t) for name, t in (("0_5", 0.5), ("1", 1), ("2", 2))},
            }
            for key, value in found.items():
                assert value == pytest.approx(expected["gsd"][key], abs=TOLERANCE), (case["name"], region, key)
            assd = boundary.assd(boundary.border_distances(*masks, spacing))
            assert assd == pytest.approx(expected["medpy"]["assd"], abs=TOLERANCE)
            compared += 1
    assert compared > 150


def test_raw_2021_labels_lose_their_enhancing_tumour_and_mapped_ones_do_not():
    case = CASES["scheme_2021_raw"]
    truth, prediction, spacing = painted(case)
    raw = {(s.region, s.metric): s.value for s in score_case(truth, prediction, spacing, "brats2023")}
    mapped = {
        (s.region, s.metric): s.value
        for s in score_case(truth, prediction, spacing, "brats2023", get_scheme("brats2021"))
    }
    assert raw["ET", "volume_truth"] == 0 and raw["ET", "dice"] == 1
    assert mapped["ET", "volume_truth"] == (truth == 4).sum() > 0
