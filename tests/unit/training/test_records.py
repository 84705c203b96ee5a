"""What is kept of a run, and that a record is whole or not there."""

from __future__ import annotations

import shutil

import pytest

from brainseg_utils.errors import DataError
from brainseg_utils.training import records
from brainseg_utils.training.records import record
from brainseg_utils.training.run import Run


@pytest.fixture
def run(little, tmp_path):
    """A run that is not finished yet."""
    run = Run.begin(tmp_path / "run", little(seed=5))
    run.note(device="cpu", threads=1)
    run.write_history([{"epoch": 1, "step": 20, "train_loss": 0.5, "seconds": 7.5}])
    (run.path / "split.json").write_text("{}")
    run.checkpoints.mkdir()
    run.weights.write_bytes(b"large")
    return run


def test_a_finished_run_becomes_a_record_and_replaces_the_one_before(run, little, tmp_path):
    folder = tmp_path / "reference" / "runs"
    with pytest.raises(DataError, match="not finished"):
        record(run.path, "lgg", "make lgg", folder=folder)
    run.write_metrics({"dice": 0.5, "seconds": 7.5})
    record(run.path, "lgg", "make lgg", device="one GPU", folder=folder)
    assert Run(folder / "lgg").environment["device"] == "one GPU"
    path = record(run.path, "lgg", "make lgg again", folder=folder)
    names = {"recipe.toml", "split.json", "history.csv", "metrics.json", "environment.json"}
    assert {file.name for file in path.iterdir()} == names
    assert Run(path).recipe == little(seed=5)
    assert Run(path).metrics["dice"] == 0.5
    told = {"command": "make lgg again", "seed": 5, "device": "CPU, 1 thread", "time": 7.5, "threads": 1}
    assert Run(path).environment == told
    assert [path.name for path in (tmp_path / "reference").iterdir()] == ["runs"]


def test_a_copy_that_fails_leaves_the_record_before(run, tmp_path, monkeypatch):
    folder = tmp_path / "reference" / "runs"
    run.write_metrics({"seconds": 7.5})
    record(run.path, "lgg", "first", folder=folder)
    copy = shutil.copyfile

    def full(source, target):
        if source.name == "metrics.json":
            raise OSError(28, "No space left on device")
        return copy(source, target)

    monkeypatch.setattr(records.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        record(run.path, "lgg", "second", folder=folder)
    assert Run(folder / "lgg").environment["command"] == "first"
    assert [path.name for path in (tmp_path / "reference").iterdir()] == ["runs"]
