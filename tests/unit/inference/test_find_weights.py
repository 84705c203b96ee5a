"""Which file a name means, and that the project's models are part of an installation."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from brainseg_utils.datasets.layouts import LAYOUTS, get_layout
from brainseg_utils.errors import DataError, SettingError
from brainseg_utils.inference import weights
from brainseg_utils.inference.predict import predict
from brainseg_utils.inference.regions import REGIONS
from brainseg_utils.inference.volumes import VolumePredictor
from brainseg_utils.inference.weights import find
from brainseg_utils.training.checkpoints import build_network, save_weights
from brainseg_utils.training.recipe import load

ROOT = Path(__file__).parents[3]


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder of models that holds "lgg" and "other"."""
    monkeypatch.setattr(weights, "manifest_path", lambda: tmp_path / "data" / "manifest.toml")
    recipe = load("course_lgg", changes={"network.name": "unet2d", "network.width": 2, "data.size": 32})
    for name in ("lgg", "other"):
        path = tmp_path / "data" / "reference" / "models" / name / "weights.safetensors"
        save_weights(path, build_network(recipe, 9, 1).state_dict(), recipe, 9, ("tumour",))
    return tmp_path / "data" / "reference" / "models"


def test_files_runs_names_and_the_layouts_own(models, tmp_path, monkeypatch):
    file = models / "other" / "weights.safetensors"
    assert find(file, "lgg") == find(str(models / "other"), "lgg") == find("other", "lgg") == file
    assert find(None, "lgg") == models / "lgg" / "weights.safetensors"
    (tmp_path / "lgg").mkdir()  # data of the same name
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find("lgg", "lgg") == find(None, "lgg")
    for name in ("./lgg", "run"):
        with pytest.raises(DataError, match="no weights"):
            find(name, "lgg")


def test_what_is_not_there_is_said_with_what_is(models, tmp_path):
    with pytest.raises(DataError, match=r"no weights.*model's name"):
        find(tmp_path / "none", "lgg")
    with pytest.raises(SettingError, match=r"unknown model 'othr'.*lgg, other; did you mean 'other'"):
        find("othr", "lgg")
    with pytest.raises(SettingError, match=r"no model for layout brats2031.*--weights"):
        find(None, "brats2031")


def test_an_installation_without_the_models_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "manifest_path", lambda: tmp_path / "manifest.toml")
    with pytest.raises(DataError, match=r"lgg.weights\.safetensors: no such file.*whole checkout.*--weights"):
        find(None, "lgg")


def test_predict_uses_the_layouts_model_and_records_it(models, lgg_root, tmp_path):
    assert predict(lgg_root, tmp_path / "out").made == 6
    record = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert record["weights"] == ["lgg/weights.safetensors"]
    assert predict(lgg_root, tmp_path / "out", "lgg").there == 6
    with pytest.raises(SettingError, match="other weights"):
        predict(lgg_root, tmp_path / "out", "other")


def test_defaults_are_of_layouts():
    assert set(weights.DEFAULTS) <= set(LAYOUTS)


@pytest.mark.parametrize("layout", sorted(set(weights.DEFAULTS) - {"lgg"}))
def test_the_model_of_a_layout_segments_every_region_that_its_masks_have(layout):
    predictor = VolumePredictor.load(None, layout)
    assert set(get_layout(layout).scheme.regions) & set(REGIONS) <= set(predictor.regions)
    assert set(predictor.rules.thresholds) <= set(predictor.regions)


def test_an_installation_has_every_model():
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    names = {path.parent.name for path in (ROOT / "data" / "reference" / "models").glob("*/weights.safetensors")}
    for name in names | set(weights.DEFAULTS.values()):
        folder = f"reference/models/{name}"
        assert shipped[f"share/brainseg/{folder}"] == [f"data/{folder}/*"]
