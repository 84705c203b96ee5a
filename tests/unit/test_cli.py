"""The command line: exit codes, one-line errors, and that each verb calls its function."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from brainseg_utils import cli
from brainseg_utils.datasets import export
from brainseg_utils.datasets.layouts import MODALITIES


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from brainseg_utils.cli import main; main()", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    )


@pytest.fixture
def cohort(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(4):
        images = {m: rng.integers(1, 500, (12, 10, 8)).astype(np.int16) for m in MODALITIES}
        label = np.zeros((12, 10, 8), np.uint8)
        label[3 : 5 + number, 3:6, 2:5] = 3
        export.write_case(tmp_path / "data", "brats2023", f"BraTS-GLI-{number:05d}-000", images, label, np.eye(4))
    return tmp_path / "data"


def test_help_names_every_verb():
    text = run("--help").stdout + run("data", "--help").stdout + run("course", "--help").stdout
    for verb in (
        "doctor",
        "train",
        "predict",
        "evaluate",
        "report",
        "verify",
        "download",
        "phantom",
        "split",
        "cache",
        "run",
    ):
        assert verb in text


def test_an_error_is_one_line_and_exit_2():
    done = run("data", "verify", "no/such/folder")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("brainseg: no/such/folder: no such folder")


def test_debug_shows_the_traceback():
    assert "Traceback" in run("--debug", "data", "verify", "no/such/folder").stderr


def test_an_unknown_verb_is_answered_with_the_nearest():
    done = run("data", "verifi", ".")
    assert done.returncode == 2
    assert "verify" in done.stderr


def test_split_is_saved_reused_and_never_overwritten(cohort, tmp_path):
    out = tmp_path / "split.json"
    first = run("data", "split", cohort, "--out", out, "--fractions", "0.5,0.5")
    assert (first.returncode, first.stdout.strip()) == (0, f"train 2, val 2 cases in {out}")
    before = out.read_bytes()
    assert run("data", "split", cohort, "--out", out, "--fractions", "0.5,0.5").returncode == 0
    other = run("data", "split", cohort, "--out", out, "--fractions", "0.5,0.5", "--seed", 1)
    assert other.returncode == 2 and "seed 0" in other.stderr
    assert out.read_bytes() == before


def test_split_by_folds_and_by_size(cohort, tmp_path):
    out = tmp_path / "folds.json"
    assert run("data", "split", cohort, "--out", out, "--folds", 2, "--stratify").returncode == 0
    subsets = json.loads(out.read_text())["subsets"]
    assert sorted(map(len, subsets.values())) == [2, 2]


@pytest.mark.parametrize("fractions", ["a,b", "1", "0.5,0.6", "0.2,0.2,0.2,0.4"])
def test_bad_fractions_are_refused(cohort, tmp_path, fractions):
    done = run("data", "split", cohort, "--out", tmp_path / "x.json", "--fractions", fractions)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert not (tmp_path / "x.json").exists()


def test_pairs_are_papermills():
    assert cli.join_pairs(["-p", "a", "1", "-p", "b=2", "-p", "c", "x y"]) == ["-p", "a=1", "-p", "b=2", "-p", "c=x y"]


def test_doctor_runs_and_reports_what_the_course_needs():
    done = run("doctor")
    assert done.returncode in (0, 1)
    for what in ("Python", "packages", "device", "RAM", "disk", "widgets", "Chromium"):
        assert what in done.stdout
