"""A run that is interrupted and resumed ends with the weights of one that was not, to the bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from brainseg_utils.errors import SettingError
from brainseg_utils.seeds import stream
from brainseg_utils.training import checkpoints
from brainseg_utils.training.loop import fit
from brainseg_utils.training.run import Run

STEPS = 12
KILLS = sorted(stream(0, "kills").choice(STEPS, 10, replace=False).tolist())
BATCH = 4
WRITTEN = ("weights.safetensors", "best_dice.safetensors", "best_loss.safetensors")


class Killed(BaseException):
    """Stands for whatever ends a process; nothing catches it."""


def killed_at(*steps):
    """A fault of the samples that strikes once at each of these steps, in the middle of its batch."""
    left = set(steps)

    def fault(number):
        step, place = divmod(number, BATCH)
        if place == 2 and step in left:
            left.discard(step)
            raise Killed

    return fault


def go_on(recipe, sources, folder):
    """Trains, and resumes as often as it is killed; returns the run and how often that was."""
    kills = 0
    while True:
        try:
            return fit(recipe, sources, Run.begin(folder, recipe, resume=True)), kills
        except Killed:
            kills += 1


def contents(run):
    files = {name: (run.path / name).read_bytes() for name in WRITTEN}
    tensors, state = checkpoints.load(checkpoints.last(run.checkpoints))
    for row in state["rows"]:
        row.pop("seconds")
    return files, tensors, state, run.history().drop(columns="seconds")


def assert_same(one, other):
    assert one[0] == other[0]
    assert all(torch.equal(value, other[1][part][name]) for part in one[1] for name, value in one[1][part].items())
    assert one[2] == other[2]
    assert one[3].equals(other[3])


@pytest.fixture(scope="module")
def recipes():
    return {
        "adamw, ema, dropout, cosine": {},
        "plateau, accumulation, channels last": {
            "schedule__name": "plateau",
            "schedule__patience": 0,
            "engine__accumulate": 2,
            "engine__ema": 0.0,
        },
        "bf16, sgd with momentum": {
            "engine__precision": "bf16",
            "optimiser__name": "sgd",
            "optimiser__rate": 0.01,
            "optimiser__momentum": 0.9,
        },
    }


@pytest.mark.parametrize("name", ["adamw, ema, dropout, cosine"])
def test_ten_kills_at_random_steps_leave_no_trace(recipes, name, little, blobs, sources, tmp_path):
    recipe = little(**recipes[name])
    whole = contents(fit(recipe, sources(), Run.begin(tmp_path / "whole", recipe)))
    for kill in KILLS:
        run, kills = go_on(recipe, sources(blobs(fault=killed_at(kill))), tmp_path / f"kill{kill}")
        assert kills == 1
        assert_same(contents(run), whole)


@pytest.mark.parametrize("name", ["plateau, accumulation, channels last", "bf16, sgd with momentum"])
def test_a_run_that_is_killed_many_times_leaves_no_trace(recipes, name, little, blobs, sources, tmp_path):
    recipe = little(**recipes[name])
    whole = contents(fit(recipe, sources(), Run.begin(tmp_path / "whole", recipe)))
    run, kills = go_on(recipe, sources(blobs(fault=killed_at(*KILLS))), tmp_path / "killed")
    assert kills == len(KILLS)
    assert_same(contents(run), whole)


def test_a_run_that_was_stopped_early_stays_stopped(little, blobs, sources, tmp_path):
    changes = {"optimiser__rate": 1e-12, "engine__patience": 1, "budget__steps": 40, "engine__ema": 0.0}
    recipe = little(**changes)
    run = fit(recipe, sources(), Run.begin(tmp_path / "run", recipe))
    (run.path / "metrics.json").unlink()  # as if it had been killed before its last word
    weights = run.weights.read_bytes()
    samples = blobs()
    again = fit(recipe, sources(samples), Run.begin(tmp_path / "run", recipe, resume=True))
    assert again.metrics["stopped_early"]
    assert again.weights.read_bytes() == weights
    assert len(samples.drawn) == 1


def test_a_real_kill_is_survived(little, sources, tmp_path):
    script = Path(__file__).with_name("killed_run.py")
    command = [sys.executable, str(script), str(tmp_path / "killed"), "8"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    run = Run(tmp_path / "killed")
    assert checkpoints.last(run.checkpoints).name == "step-000000006"
    recipe = little()
    whole = fit(recipe, sources(), Run.begin(tmp_path / "whole", recipe))
    resumed = fit(recipe, sources(), Run.begin(tmp_path / "killed", recipe, resume=True))
    assert_same(contents(resumed), contents(whole))


def test_the_time_budget_of_the_first_start_holds(little, blobs, sources, tmp_path):
    recipe = little(budget__seconds=60.0)
    with pytest.raises(Killed):
        fit(recipe, sources(blobs(fault=killed_at(8))), Run.begin(tmp_path / "run", recipe))
    run = Run(tmp_path / "run")
    run.note(budget={**run.environment["budget"], "steps": 13})
    assert fit(recipe, sources(), Run.begin(tmp_path / "run", recipe, resume=True)).metrics["steps"] == 13


def test_a_finished_run_is_left_alone_and_a_taken_folder_refused(little, blobs, sources, tmp_path):
    recipe = little()
    run = fit(recipe, sources(), Run.begin(tmp_path / "run", recipe))
    before = {path: path.stat().st_mtime_ns for path in run.path.glob("*.safetensors")}
    samples = blobs()
    fit(recipe, sources(samples), Run.begin(tmp_path / "run", recipe, resume=True))
    assert samples.drawn == []
    assert {path: path.stat().st_mtime_ns for path in run.path.glob("*.safetensors")} == before
    with pytest.raises(SettingError, match="there is a run already; resume it"):
        Run.begin(tmp_path / "run", recipe)
    with pytest.raises(SettingError, match="begun with 'seed = 0', not 'seed = 1'"):
        Run.begin(tmp_path / "run", little(seed=1), resume=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("x")
    with pytest.raises(SettingError, match="not empty"):
        Run.begin(tmp_path / "photos", recipe, resume=True)
