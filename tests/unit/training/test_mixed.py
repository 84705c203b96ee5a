"""Real cases and phantoms in one training: the share that was asked for, the same sample for a number, one target."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brainseg_utils.datasets.export import write_case
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.layouts import MODALITIES
from brainseg_utils.errors import SettingError
from brainseg_utils.inference.volumes import VolumePredictor
from brainseg_utils.training.mixed import Mixed
from brainseg_utils.training.train import train

SIDE = 28
DATA = {"name": "mixed", "size": [16, 16, 16], "pool": 1, "regions": ["ET", "TC", "WT", "RC"]}
BUDGET = {"batch": 2, "steps": 4, "epoch_steps": 2}


class Named:
    """Samples that are their number and say where they come from."""

    def __init__(self, name, count=5):
        self.name, self.count = name, count

    def __len__(self):
        return self.count

    def batch(self, numbers, channels_last=False):
        image = torch.tensor(numbers, dtype=torch.float32).reshape(-1, 1, 1, 1, 1).expand(-1, 2, 2, 2, 2).contiguous()
        if channels_last:
            image = image.contiguous(memory_format=torch.channels_last_3d)
        label = torch.zeros(len(numbers), 1, 2, 2, 2, dtype=torch.uint8)
        return {"image": image, "label": label, "case": [f"{self.name}{n}" for n in numbers]}


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_each_source_has_its_share_and_a_sample_its_number(share):
    found = Mixed(Named("case"), Named("made"), share, seed=3).batch(range(1000))
    assert np.mean([name.startswith("case") for name in found["case"]]) == pytest.approx(share, abs=0.05)
    assert [int(name.removeprefix("case").removeprefix("made")) for name in found["case"]] == list(range(1000))
    assert found["image"][:, 0, 0, 0, 0].tolist() == list(range(1000))


def test_a_sample_does_not_depend_on_its_batch():
    samples = Mixed(Named("case"), Named("made"), 0.5, seed=3)
    assert samples.batch(range(20))["case"][7:9] == samples.batch([7, 8])["case"]
    assert samples.batch(range(50))["case"] != Mixed(Named("case"), Named("made"), 0.5, seed=4).batch(range(50))["case"]
    assert len(samples) == 5


def test_the_memory_order_that_was_asked_for_is_kept():
    image = Mixed(Named("case"), Named("made"), 0.5, seed=3).batch([0, 1, 2], channels_last=True)["image"]
    assert image.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_that_leaves_one_source_out_is_refused(share):
    with pytest.raises(SettingError, match="a share"):
        Mixed(Named("case"), Named("made"), share, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three balls of brain with a tumour inside."""
    root = tmp_path_factory.mktemp("folder")
    far = np.linalg.norm(np.indices((SIDE,) * 3) - (SIDE - 1) / 2, axis=0)
    label = np.select([far < 2, far < 4, far < 6], [1, 3, 2], 0).astype(np.uint8)
    for number in range(3):
        noise = np.random.default_rng(number).normal(100, 5, (len(MODALITIES), *label.shape))
        images = dict(zip(MODALITIES, np.where(far < 12, noise + 40 * (label > 0), 0).astype(np.int16), strict=True))
        write_case(root, "brats2023", f"BraTS-GLI-{number:05d}-000", images, label, np.diag([2.0, 2.0, 2.0, 1.0]))
    return root


def test_a_network_trains_on_both_and_is_validated_on_the_folder(folder, tiny, tmp_path):
    recipe = tiny(DATA, BUDGET, {"folds": 3}, data__cache=str(tmp_path / "cache"))
    run = train(recipe, folder, tmp_path / "run")
    history = run.history()
    assert history["step"].tolist() == [2, 4]
    assert {"dice_ET", "dice_TC", "dice_WT", "dice_RC"} <= set(history.columns)
    case = find_cases(folder)[0]
    said = VolumePredictor([run.load()])(case)  # on the folder's scans, as after any other training on volumes
    assert said.regions == run.recipe.data.options["regions"]
    assert said.data.shape[1:] == said.box.shape


def test_it_cannot_do_without_cases(tiny):
    with pytest.raises(SettingError, match="a subset"):
        tiny(DATA, BUDGET, {"validation": "all"})
