"""Checkpoints: whole or not there, on a full disk as well; and weights that can be read without trust."""

from __future__ import annotations

import pickle
import re
import signal
from contextlib import contextmanager

import pytest
import torch

from brainseg_utils.errors import BrainsegError, DataError
from brainseg_utils.training import checkpoints
from brainseg_utils.training.loop import fit
from brainseg_utils.training.run import Run

TENSORS = {"network": {"a": torch.arange(6.0).reshape(2, 3)}, "optimiser": {"0.step": torch.tensor(3.0)}}


def test_a_checkpoint_reads_back_and_replaces_the_one_before(tmp_path):
    checkpoints.save(tmp_path / "c", 3, TENSORS, {"step": 3})
    checkpoints.save(tmp_path / "c", 7, TENSORS, {"step": 7, "best": [0.1]})
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["step-000000007"]
    tensors, state = checkpoints.load(checkpoints.last(tmp_path / "c"))
    assert state == {"step": 7, "best": [0.1]}
    assert torch.equal(tensors["network"]["a"], TENSORS["network"]["a"])


@contextmanager
def small_disk():
    """Lets this process write files of 20 kB at most, as a disk does that is about to be full.

    Only around the one call that is tested: the limit also holds for the log that the tests are written to.
    """
    resource = pytest.importorskip("resource", reason="file-size limits are a thing of POSIX systems")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    checkpoints.save(tmp_path / "c", 3, TENSORS, {"step": 3})
    large = {**TENSORS, "ema": {"a": torch.zeros(10_000)}}
    with pytest.raises(BrainsegError) as error, small_disk():
        checkpoints.save(tmp_path / "c", 7, large, {"step": 7})
    assert re.search(r"could not write a checkpoint.*step 3 is whole.*free some space", str(error.value))
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["step-000000003"]
    assert checkpoints.load(checkpoints.last(tmp_path / "c"))[1] == {"step": 3}


def test_a_run_on_a_full_disk_stops_and_is_resumed_when_there_is_room(little, sources, tmp_path, monkeypatch):
    recipe = little()
    whole = fit(recipe, sources(), Run.begin(tmp_path / "whole", recipe))
    real, written = checkpoints.save_file, []

    def full(tensors, path, metadata=None):
        if metadata is None:  # part of a checkpoint, not weights
            written.append(path)
            if len(written) > 4:
                path.write_bytes(b"half")
                raise OSError(28, "No space left on device")
        real(tensors, path, metadata)

    monkeypatch.setattr(checkpoints, "save_file", full)
    run = Run.begin(tmp_path / "run", recipe)
    with pytest.raises(BrainsegError, match=r"No space left.*checkpoint of step \d+ is whole"):
        fit(recipe, sources(), run)
    monkeypatch.setattr(checkpoints, "save_file", real)
    resumed = fit(recipe, sources(), Run.begin(tmp_path / "run", recipe, resume=True))
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()


def test_a_folder_that_was_being_written_is_no_checkpoint(tmp_path):
    checkpoints.save(tmp_path / "c", 3, TENSORS, {"step": 3})
    (tmp_path / "c" / ".tmp-1234").mkdir()
    assert checkpoints.last(tmp_path / "c").name == "step-000000003"
    checkpoints.save(tmp_path / "c", 4, TENSORS, {"step": 4})
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["step-000000004"]


def test_a_damaged_checkpoint_is_said_to_be_one(tmp_path):
    path = checkpoints.save(tmp_path / "c", 3, TENSORS, {"step": 3})
    (path / "network.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="damaged checkpoint"):
        checkpoints.load(path)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_an_optimiser_goes_on_in_its_parameters_memory_order(kind):
    def steps(network, optimiser, count):
        for n in range(count):
            network.weight.grad = torch.full_like(network.weight, n + 1.0)
            optimiser.step()

    options = {"lr": 0.1, **({"momentum": 0.9} if kind is torch.optim.SGD else {})}
    torch.manual_seed(0)
    one = torch.nn.Conv2d(4, 4, 3, bias=False).to(memory_format=torch.channels_last)
    first = kind(one.parameters(), **options)
    steps(one, first, 3)
    other = torch.nn.Conv2d(4, 4, 3, bias=False).to(memory_format=torch.channels_last)
    other.load_state_dict(one.state_dict())
    second = kind(other.parameters(), **options)
    checkpoints.restore_optimiser(second, checkpoints.optimiser_tensors(first))
    for value in second.state[other.weight].values():
        assert value.ndim == 0 or value.stride() == other.weight.stride()
    steps(one, first, 2)
    steps(other, second, 2)
    assert torch.equal(one.weight, other.weight)


def test_weights_carry_their_recipe(little, tmp_path):
    recipe = little()
    network = checkpoints.build_network(recipe, 3, 1)
    path = checkpoints.save_weights(tmp_path / "w.safetensors", network.state_dict(), recipe, 3, ("object",))
    trained = checkpoints.load_weights(path)
    assert (trained.recipe, trained.in_channels, trained.classes, trained.exclusive) == (recipe, 3, ("object",), False)
    assert not trained.network.training
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in trained.network.state_dict().items())


def test_what_is_no_weights_file_is_refused_and_never_unpickled(little, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        checkpoints.load_weights(tmp_path / "none.safetensors")
    trap = tmp_path / "trap.safetensors"
    trap.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(DataError, match="not a safetensors file"):
        checkpoints.load_weights(trap)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="of another program"):
        checkpoints.load_weights(tmp_path / "other.safetensors")
    wrong = checkpoints.save_weights(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, little(), 3, ("object",))
    with pytest.raises(DataError, match="do not fit their recipe"):
        checkpoints.load_weights(wrong)
