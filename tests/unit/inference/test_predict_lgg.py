"""Predicting a folder of LGG slices: names, sizes, what is kept, and going on after an interruption."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from brainseg_utils.datasets.cases import read_tiff
from brainseg_utils.errors import DataError, SettingError
from brainseg_utils.evaluation.cohort import evaluate
from brainseg_utils.inference.postprocess import keep_heavy
from brainseg_utils.inference.predict import predict
from brainseg_utils.inference.slices import SlicePredictor, enlarged
from brainseg_utils.pipeline import slices
from brainseg_utils.pipeline.slices import read_stack
from brainseg_utils.training.checkpoints import Trained, save_weights
from brainseg_utils.training.recipe import load

CHANGES = {"data.size": 32, "data.context": 1, "network.name": "unet2d", "network.width": 2}


class Bright(nn.Module):
    """Tumour is where FLAIR of the middle slice is bright, and only on the left half where `left`."""

    def __init__(self, left=False):
        super().__init__()
        self.left = left

    def forward(self, image):
        logits = 4 * (image[:, 4:5] - 3)
        return torch.where(torch.arange(image.shape[-1]) < image.shape[-1] // 2, logits, -9.0) if self.left else logits


def trained(network, **changes):
    recipe = load("course_lgg", changes={**CHANGES, **changes})
    return Trained(network, recipe, 9, ("tumour",), False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights whose prediction is nearly `Bright`'s: the last layer of a U-Net reads FLAIR through its first skip."""
    from brainseg_utils.training.checkpoints import build_network

    recipe = load("course_lgg", changes={**CHANGES, "engine.precision": "fp32"})
    network = build_network(recipe, 9, 1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.down1[0].weight[0, 4, 1, 1] = 1
        network.down1[2].weight[0, 0, 1, 1] = 1
        network.join1[0].weight[0, 2, 1, 1] = 1  # after the two channels that come from below
        network.join1[2].weight[0, 0, 1, 1] = 1
        network.head.weight[0, 0] = 4
        network.head.bias[0] = -12
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    return save_weights(path, network.state_dict(), recipe, 9, ("tumour",))


def test_masks_have_the_slices_names_and_sizes_and_score(lgg_root, lgg_cases, weights, tmp_path):
    done = predict(lgg_root, tmp_path / "out", weights.parent)
    assert (done.made, done.there) == (6, 0)
    for case in lgg_cases:
        for path in case.slice_paths:
            mask = read_tiff(tmp_path / "out" / case.id / f"{path.stem}_mask.tif")
            assert mask.shape == (64, 64)
            assert mask.dtype == np.uint8
            assert set(np.unique(mask)) <= {0, 255}
    rows = evaluate(lgg_root, tmp_path / "out", "lgg", workers=1).rows
    assert rows[rows["metric"] == "dice"]["value"].min() > 0.8


def test_an_interrupted_prediction_goes_on_where_it_was(lgg_root, lgg_cases, weights, tmp_path):
    out = tmp_path / "out"
    predict(lgg_root, out, weights)
    whole = {path: path.read_bytes() for path in sorted(out.rglob("*.tif"))}
    gone = [path for path in whole if lgg_cases[2].id in path.name][:2]
    for path in gone:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in whole if lgg_cases[0].id in path.name}
    done = predict(lgg_root, out, weights)
    assert (done.made, done.there) == (1, 5)
    assert {path: path.read_bytes() for path in sorted(out.rglob("*.tif"))} == whole
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())


def test_probabilities_are_written_on_request(lgg_root, lgg_cases, weights, tmp_path):
    predict(lgg_root, tmp_path / "out", weights, probabilities=True)
    path = lgg_cases[0].slice_paths[3]
    folder = tmp_path / "out" / lgg_cases[0].id
    probability = read_tiff(folder / f"{path.stem}_probability.tif")
    mask = read_tiff(folder / f"{path.stem}_mask.tif") > 0
    assert probability.dtype == np.float32
    assert mask.any()
    assert (probability[mask] >= 0.4).all()


def test_predictions_of_two_weights_are_never_mixed(lgg_root, weights, tmp_path):
    predict(lgg_root, tmp_path / "out", weights)
    with pytest.raises(SettingError, match="other weights or settings"):
        predict(lgg_root, tmp_path / "out", [weights, weights])
    with pytest.raises(SettingError, match="place of the truth"):
        predict(lgg_root, lgg_root, weights)
    with pytest.raises(DataError, match="no weights"):
        predict(lgg_root, tmp_path / "other", tmp_path)


def test_masks_of_the_input_are_not_read(lgg_cases, monkeypatch):
    asked = []
    read = slices.read_tiff
    monkeypatch.setattr(slices, "read_tiff", lambda path, channels: asked.append(path) or read(path, channels))
    SlicePredictor([trained(Bright())])(lgg_cases[0])
    assert asked == list(lgg_cases[0].slice_paths)


def test_probabilities_are_in_the_files_orientation(lgg_cases):
    case = lgg_cases[0]
    probability = SlicePredictor([trained(Bright(), **{"data.size": 64})], flips=False)(case)
    stack = read_stack(case, 64)
    assert np.allclose(probability, torch.sigmoid(4 * (stack.image[:, 1].float() - 3)).numpy(), atol=0.02)


def test_flips_and_several_networks_are_averaged(lgg_cases):
    case = lgg_cases[0]
    whole = SlicePredictor([trained(Bright())], flips=False)(case)
    left = SlicePredictor([trained(Bright(left=True))], flips=False)(case)
    both = SlicePredictor([trained(Bright()), trained(Bright(left=True))], flips=False)(case)
    assert np.allclose(both, (whole + left) / 2, atol=1e-6)
    mirrored = SlicePredictor([trained(Bright(left=True))], flips=True)(case)
    assert np.allclose(mirrored[:, :, :28], whole[:, :, :28] / 2, atol=0.01)
    assert np.allclose(mirrored[:, :, 36:], whole[:, :, 36:] / 2, atol=0.01)


def test_the_enlarged_slice_is_put_back_in_place_and_averaged_where_it_was_seen(lgg_cases):
    smooth = torch.linspace(-1, 1, 64)[None, None, :, None] * torch.linspace(0, 2, 64)
    back = enlarged(enlarged(smooth, 1.25, "border"), 1 / 1.25, "zeros")
    assert torch.allclose(back[..., 10:-10, 10:-10], smooth[..., 10:-10, 10:-10], atol=0.02)
    assert not back[..., :3, :].any()  # of the border nothing was seen
    case, network = lgg_cases[0], trained(Bright(), **{"data.size": 64})
    plain, both = SlicePredictor([network])(case), SlicePredictor([network], zoom=1.25)(case)
    assert np.array_equal(plain[:, :5], both[:, :5])
    assert np.abs(plain - both).max() > 0
    assert ((plain > 0.5) == (both > 0.5)).mean() > 0.99


def test_a_sure_second_lesion_stays_and_an_unsure_speck_goes():
    p = np.zeros((20, 20, 6))
    p[2:8, 2:8, 1:4] = 0.9
    p[12:16, 12:16, 2:4] = 0.95
    p[18:20, 0:2, 5] = 0.5
    kept = keep_heavy(p)
    assert kept[4, 4, 2] and kept[13, 13, 3] and not kept[18, 0, 5]
    assert keep_heavy(p, share=0).sum() == (p >= 0.4).sum()


def test_components_hang_together_over_corners_and_slices():
    p = np.zeros((4, 4, 4))
    p[0, 0, 0], p[1, 1, 1], p[2, 2, 2], p[3, 3, 3] = 0.9, 0.5, 0.5, 0.5
    assert keep_heavy(p, share=0.5).sum() == 4


def test_nothing_above_the_threshold_is_an_empty_mask():
    assert not keep_heavy(np.full((3, 3, 3), 0.39)).any()


@given(st.integers(0, 2**32), st.floats(0, 1))
def test_what_is_kept_is_part_of_the_threshold_mask_with_the_heaviest_component(seed, share):
    p = np.random.default_rng(seed).random((6, 6, 6)) ** 3
    kept, all_ = keep_heavy(p, share=share), p >= 0.4
    assert (kept <= all_).all()
    assert kept.any() == all_.any()
