"""On real develop scans: a prediction lies on the scan's own grid, in its labels, and does not depend on its axes."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from brainseg_utils.datasets import nifti
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.inference.predict import predict
from brainseg_utils.training.checkpoints import build_network, save_weights
from brainseg_utils.training.recipe import load

pytestmark = pytest.mark.real
SPLIT = Path(__file__).resolve().parents[2] / "data" / "split.json"
FOLDERS = {"BraTS2021_01476": "brats2021", "BraTS-SSA-00002-000": "brats2023"}  # LPS; RAS, with negative intensities


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights that find a tissue of each kind somewhere."""
    recipe = load("phantom3d", changes={"network.widths": [8, 8, 8], "engine.precision": "fp32"})
    torch.manual_seed(0)
    network = build_network(recipe, 4, 4)
    with torch.no_grad():
        network.head.bias.zero_()
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    return save_weights(path, network.state_dict(), recipe, 4, ("ET", "TC", "WT", "RC"))


@pytest.mark.parametrize("name", FOLDERS)
def test_a_real_case_comes_back_on_its_own_grid(name, real_data, weights, tmp_path):
    assert name in json.loads(SPLIT.read_text(encoding="utf-8"))["brats"]["develop"]
    (case,) = find_cases(real_data / FOLDERS[name] / name)
    assert predict(case.folder, tmp_path / "out", weights, probabilities=True).made == 1
    folder = tmp_path / "out" / name
    truth = nifti.read(case.label_path)
    made = nifti.read(folder / case.label_path.name)
    assert made.data.dtype == truth.data.dtype == np.uint8
    assert made.data.shape == truth.data.shape == (240, 240, 155)
    assert np.array_equal(made.affine, truth.affine)
    assert set(np.unique(made.data)) == {0, *case.scheme.tissues}
    brain = np.any([nifti.read(path).data != 0 for path in case.paths.values()], axis=0)
    assert not made.data[~brain].any()
    for path in folder.glob("*probability*"):
        assert 0 <= nifti.read(path).data.min() < nifti.read(path).data.max() <= 1

    turned = tmp_path / "turned" / name
    turned.mkdir(parents=True)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(made.affine), nib.orientations.axcodes2ornt(("P", "I", "R"))
    )
    for path in case.paths.values():
        nib.save(nib.load(path).as_reoriented(turn), turned / path.name)
    predict(turned, tmp_path / "again", weights)
    other = nifti.read(tmp_path / "again" / name / case.label_path.name)
    assert nib.aff2axcodes(other.affine) == ("P", "I", "R")
    assert np.array_equal(nifti.to_ras(other.data, other.affine)[0], nifti.to_ras(made.data, made.affine)[0])
