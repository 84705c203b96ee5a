"""Masked reconstruction: what is hidden is the label, it can be learnt, and its weights begin a segmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brainseg_utils.errors import DataError, SettingError
from brainseg_utils.training import checkpoints
from brainseg_utils.training.loop import fit
from brainseg_utils.training.losses import Filled
from brainseg_utils.training.masked import Masked
from brainseg_utils.training.recipe import load
from brainseg_utils.training.run import Run
from brainseg_utils.training.train import sources

MASKED = {"data.name": "masked", "data.size": [24, 24, 24], "data.pool": 1, "data.uses": 4, "data.side": 6}
RUN = {"loss.name": "filled", "split.fractions": [], "split.validation": "all", "engine.keep": ["last"]}


class Heads:
    """Two samples: 1 in the head, more in each further modality, 0 around it."""

    def __len__(self):
        return 2

    def batch(self, numbers, channels_last=False):
        image = torch.zeros(len(numbers), 2, 10, 12, 8)
        image[:, 0, 2:, 2:, 2:], image[:, 1, 2:, 2:, 2:] = 1.0, 2.0
        return {"image": image, "label": image[:, :1], "case": [f"case{n}" for n in numbers]}


def test_what_is_hidden_is_the_label_and_the_rest_is_shown():
    whole, made = Heads().batch([0, 1]), Masked(Heads(), side=4, share=0.5, seed=3).batch([0, 1])
    hidden = ~made["label"].isnan()
    assert torch.equal(made["label"][hidden], whole["image"][hidden])
    assert not made["image"][hidden].any()
    shown = made["image"] != 0
    assert torch.equal(made["image"][shown], whole["image"][shown])
    assert torch.equal(shown | hidden, whole["image"] != 0)  # every voxel of the head is the one or the other
    assert 0.2 < float(hidden.sum() / (whole["image"] != 0).sum()) < 0.8
    assert not torch.equal(made["image"][0], made["image"][1])


def test_a_sample_is_the_same_whoever_draws_it():
    made = Masked(Heads(), side=4, share=0.5, seed=3)
    assert torch.equal(made.batch([0, 1])["image"][1], made.batch([1])["image"][0])
    assert not torch.equal(Masked(Heads(), 4, 0.5, seed=4).batch([1])["image"], made.batch([1])["image"])


@pytest.mark.parametrize(("side", "share", "named"), [(0, 0.5, "data.side"), (4, 0.0, "data.share"), (4, 1.0, "share")])
def test_holes_that_hide_nothing_or_everything_are_refused(side, share, named):
    with pytest.raises(SettingError, match=named):
        Masked(Heads(), side, share, 0)


def test_the_loss_looks_at_the_holes_alone():
    truth = torch.full((1, 2, 3), torch.nan)
    values = torch.zeros(1, 2, 3, requires_grad=True)
    assert float(Filled()(values.detach(), truth)) == 0
    truth[0, 1, 2] = -4.0
    loss = Filled()(values, truth)
    loss.backward()
    assert float(loss.detach()) == 4
    assert np.argwhere(values.grad.numpy()).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("changes", [{**MASKED, **RUN, "loss.name": "dice_ce"}, {"loss.name": "filled"}])
def test_its_loss_belongs_to_its_data(changes):
    with pytest.raises(SettingError, match='loss "filled" with data "masked"'):
        load("course_resunet3d", "full", changes)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A network that filled in holes for a few steps."""
    changes = {**MASKED, **RUN, "network.widths": [8, 8], "budget.steps": 20, "budget.epoch_steps": 5}
    recipe = load("course_resunet3d", "full", changes)
    return fit(recipe, sources(recipe, [], []), Run.begin(tmp_path_factory.mktemp("masked") / "run", recipe))


def test_it_is_learnt(pretrained):
    losses = pretrained.history()["train_loss"]
    assert losses.iloc[-1] < 0.8 * losses.iloc[0]


def test_a_segmentation_begins_with_its_weights_but_for_the_head(pretrained):
    recipe = load("course_resunet3d", "full", {"network.widths": [8, 8]})
    torch.manual_seed(5)
    network = checkpoints.build_network(recipe, 4, 3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    checkpoints.start_from(pretrained.weights, network, ("ET", "TC", "WT"))
    taught = pretrained.load().network.state_dict()
    heads = [name for name, tensor in before.items() if tensor.shape != taught[name].shape]
    assert heads
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name] if name in heads else taught[name]), name


def test_another_network_is_still_refused(pretrained):
    network = checkpoints.build_network(load("course_resunet3d", "full", {"network.widths": [8, 16]}), 4, 3)
    with pytest.raises(DataError, match="another network"):
        checkpoints.start_from(pretrained.weights, network, ("ET", "TC", "WT"))
