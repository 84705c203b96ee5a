"""Several networks in one file: nothing lost but float16's rounding, and no other file taken for one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from brainseg_utils.datasets.cases import read_tiff
from brainseg_utils.errors import DataError, SettingError
from brainseg_utils.inference import ensemble
from brainseg_utils.inference.ensemble import Settings, join, read, read_settings
from brainseg_utils.inference.postprocess import keep_heavy
from brainseg_utils.inference.predict import predict
from brainseg_utils.inference.slices import SlicePredictor
from brainseg_utils.models.registry import count_parameters
from brainseg_utils.training.checkpoints import build_network, load_weights, save_weights
from brainseg_utils.training.recipe import load

WIDTHS = (8, 8, 12, 12, 16)
KINDS = (
    {"network.name": "resunet2d", "network.widths": WIDTHS, "data.size": 64, "data.context": 1},
    {"network.name": "unet2d", "network.width": 4, "data.size": 32, "data.context": 0},
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Weights files of two different networks, as runs write them."""
    folder = tmp_path_factory.mktemp("runs")
    paths = []
    for number, changes in enumerate(KINDS):
        recipe = load("course_lgg", changes={**changes, "seed": number, "engine.precision": "fp32"})
        torch.manual_seed(number)
        channels = 3 * (2 * changes["data.context"] + 1)
        network = build_network(recipe, channels, 1)
        for name, buffer in network.named_buffers():
            if name.endswith("num_batches_tracked"):
                buffer.fill_(100_003)  # more than float16 can hold
        paths.append(
            save_weights(
                folder / f"run{number}" / "weights.safetensors", network.state_dict(), recipe, channels, ("tumour",)
            )
        )
    return paths


def test_networks_come_back_in_order_with_their_recipes(runs, tmp_path):
    path = join(runs, tmp_path / "both.safetensors")
    found, wanted = read(path), [load_weights(run) for run in runs]
    assert [one.recipe for one in found] == [one.recipe for one in wanted]
    assert [(one.in_channels, one.classes, one.exclusive) for one in found] == [
        (9, ("tumour",), False),
        (3, ("tumour",), False),
    ]
    for one, other in zip(found, wanted, strict=True):
        assert not one.network.training
        for (name, tensor), full in zip(
            one.network.state_dict().items(), other.network.state_dict().values(), strict=True
        ):
            assert tensor.dtype == full.dtype, name
            assert torch.equal(tensor, full.half().float() if full.is_floating_point() else full), name


def test_a_file_has_two_bytes_a_parameter_and_numbered_keys(runs, tmp_path):
    path = join(runs, tmp_path / "both.safetensors")
    parameters = sum(count_parameters(one.network) for one in read(path))
    assert 2 * parameters < path.stat().st_size < 2 * parameters + 40_000
    tensors = load_file(path)
    assert {name.partition("/")[0] for name in tensors} == {"0", "1"}
    assert {t.dtype for t in tensors.values()} == {torch.float16, torch.int64}


def test_predictions_are_those_of_the_runs_but_for_rounding(runs, lgg_cases, tmp_path):
    case = lgg_cases[0]
    whole = SlicePredictor([load_weights(run) for run in runs])(case)
    joined = SlicePredictor(read(join(runs, tmp_path / "both.safetensors")))(case)
    assert whole.std() > 1e-3
    assert np.abs(whole - joined).max() < 2e-3


def test_one_network_alone_is_a_file_that_runs_can_start_from(runs, tmp_path):
    path = join(runs[:1], tmp_path / "one.safetensors", Settings(threshold=0.5))
    alone = load_weights(path)
    assert alone.recipe == read(path)[0].recipe == load_weights(runs[0]).recipe
    assert read_settings(path).threshold == 0.5


def test_joined_files_can_be_joined_again(runs, tmp_path):
    both = join(runs, tmp_path / "both.safetensors", Settings(0.45, 0.1, False))
    three = join([both, runs[1]], tmp_path / "three.safetensors")
    assert [one.recipe.network.name for one in read(three)] == ["resunet2d", "unet2d", "unet2d"]
    assert read_settings(three) == Settings(0.45, 0.1, False)


def test_settings_travel_with_the_weights(runs, lgg_root, lgg_cases, tmp_path):
    assert read_settings(runs[0]) == Settings(0.4, 0.25, True)
    chosen = Settings(threshold=0.02, share=0.6, flips=False)
    path = join(runs[:1], tmp_path / "one.safetensors", chosen)
    predict(lgg_root, tmp_path / "out", path, probabilities=True)
    record = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert record["settings"] == {"threshold": 0.02, "share": 0.6, "flips": False, "zoom": 1.0}
    case, expected = lgg_cases[0], SlicePredictor(read(path), flips=False)(lgg_cases[0])
    wanted = keep_heavy(expected, 0.02, 0.6)
    assert 0 < wanted.mean() < 1
    assert wanted.any() and not np.array_equal(wanted, keep_heavy(expected))
    for plane, file in zip(wanted, case.slice_paths, strict=True):
        assert np.array_equal(read_tiff(tmp_path / "out" / case.id / f"{file.stem}_mask.tif") > 0, plane)
    with pytest.raises(SettingError, match="other weights or settings"):
        predict(lgg_root, tmp_path / "out", path, settings=Settings())


def test_what_cannot_be_joined_is_refused(runs, tmp_path):
    recipe = load("course_lgg", changes=KINDS[1])
    weights = build_network(recipe, 3, 1).state_dict()
    out = tmp_path / "out.safetensors"
    with pytest.raises(SettingError, match="no weights"):
        join([], out)
    other = save_weights(tmp_path / "other.safetensors", weights, recipe, 3, ("lesion",))
    with pytest.raises(SettingError, match="classes lesion and tumour"):
        join([runs[1], other], out)
    large = {name: tensor * 1e9 for name, tensor in weights.items()}
    with pytest.raises(DataError, match=r"1/.*float16"):
        join([runs[1], save_weights(tmp_path / "large.safetensors", large, recipe, 3, ("tumour",))], out)
    assert not out.exists()


def test_other_files_are_refused(runs, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("weights")
    with pytest.raises(DataError, match="not a safetensors file"):
        read(tmp_path / "text.safetensors")
    save_file({"0/a": torch.zeros(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(DataError, match="another program"):
        read(tmp_path / "bare.safetensors")
    both = join(runs, tmp_path / "both.safetensors")
    with pytest.raises(DataError, match=r"brainseg ensemble 1.*one network"):
        load_weights(both)
    about, tensors = ensemble.read_weights(both)
    new = ensemble.write_weights(tmp_path / "new.safetensors", {**about, "format": "brainseg ensemble 2"}, tensors)
    with pytest.raises(DataError, match="format 'brainseg ensemble 2'"):
        read(new)
    short = {**about, "members": about["members"][:1]}
    with pytest.raises(DataError, match="not listed"):
        read(ensemble.write_weights(tmp_path / "short.safetensors", short, tensors))
    odd = {**about, "predict": {"treshold": 0.4}}
    with pytest.raises(SettingError, match="did you mean 'threshold'"):
        read_settings(ensemble.write_weights(tmp_path / "odd.safetensors", odd, tensors))


def test_the_mean_of_weights_lies_halfway_and_counts_stay_whole(runs, tmp_path):
    about, first = runs[0], load_file(runs[0])
    moved = {name: t + 0.5 if t.is_floating_point() else t for name, t in first.items()}
    trained = load_weights(about)
    other = save_weights(tmp_path / "moved.safetensors", moved, trained.recipe, 9, ("tumour",))
    [mean] = read(ensemble.average([about, other], tmp_path / "mean.safetensors"))
    assert mean.recipe == trained.recipe
    for name, tensor in mean.network.state_dict().items():
        wanted = ((first[name] + moved[name]) / 2).half().float() if tensor.is_floating_point() else first[name]
        assert torch.equal(tensor, wanted), name
    [alone] = read(ensemble.average([about], tmp_path / "alone.safetensors"))
    assert all(torch.equal(t, first[n].half().float()) for n, t in alone.network.state_dict().items() if t.ndim)


def test_the_mean_refuses_networks_that_do_not_match(runs, tmp_path):
    out = tmp_path / "mean.safetensors"
    with pytest.raises(DataError, match="not the network of"):
        ensemble.average(runs, out)
    with pytest.raises(SettingError, match="no weights"):
        ensemble.average([], out)
    with pytest.raises(DataError, match="one network"):
        ensemble.average([join(runs, tmp_path / "both.safetensors")], out)
    trained = load_weights(runs[0])
    named = save_weights(tmp_path / "named.safetensors", load_file(runs[0]), trained.recipe, 9, ("lesion",))
    with pytest.raises(SettingError, match="networks of classes"):
        ensemble.average([runs[0], named], out)
    assert not out.exists()
