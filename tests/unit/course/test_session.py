"""`begin`: seeds, no network, data, one line; profiles and the checkout it finds."""

from __future__ import annotations

import random
import re
import socket
import sys

import numpy as np
import pytest

from brainseg_utils.course import begin, checkout, offline, profiles
from brainseg_utils.errors import DataError, SettingError

GIB = 2**30


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "brainseg_utils").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "scans").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    before = bool(offline._originals)
    yield tmp_path
    if not before:
        offline.unblock()


def test_begin_prints_one_line_and_takes_the_readers_folder(root, capsys):
    setup = begin("77", data_dir="../scans", seed=5)
    assert (setup.data_dir, setup.lgg_dir, setup.phantom) == (root / "scans", None, False)
    assert setup.output_dir == root / "runs" / "notebooks" / "77" and setup.output_dir.is_dir()
    assert setup.profile.quick and setup.profile.spacing_mm == 2 and setup.workers >= 1 and setup.check is None
    line = "Notebook 77, quick profile, seed 5: scans in scans; results go to runs/notebooks/77\n"
    assert capsys.readouterr().out == line


def test_begin_fixes_the_seeds_and_blocks_the_network(root):
    draws = []
    for _ in range(2):
        setup = begin("77", data_dir="../scans", seed=5)
        draws.append((random.random(), np.random.rand(), float(setup.rng("noise", 1).random())))
    assert draws[0] == draws[1]
    with pytest.raises(offline.OfflineError):
        socket.getaddrinfo("example.org", 80)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"profile": "fast"}, SettingError, "unknown profile 'fast'"),
        ({"data_dir": "../scan"}, DataError, "scan: no such folder"),
        ({"data_dir": "../scans", "lgg_dir": "../nowhere"}, DataError, "nowhere: no such folder"),
    ],
)
def test_begin_refuses_what_it_cannot_use(root, arguments, error, message):
    with pytest.raises(error, match=message):
        begin("77", **arguments)


class Phantoms:
    """Stands for the phantom room and counts how often it was asked."""

    def __init__(self):
        self.made = []

    def make(self, out, cases, layout, *, seed, spacing, difficulty, workers):
        out.mkdir(parents=True)
        (out / "case").write_text(layout)
        self.made.append((cases, layout, seed, spacing, difficulty))


@pytest.fixture
def made(monkeypatch):
    stand_in = Phantoms()
    monkeypatch.setitem(sys.modules, "brainseg_utils.phantom.cohort", stand_in)
    return stand_in.made


def test_without_a_folder_phantoms_are_made_once(root, made, capsys):
    first = begin("77", lgg_dir="", cases=3)
    second = begin("78", lgg_dir="", cases=3)
    assert made == [(3, "brats2023", 0, 2, "normal"), (3, "lgg", 0, 2, "normal")]
    assert first.data_dir == second.data_dir and first.phantom
    assert (first.lgg_dir / "case").read_text() == "lgg"
    assert "3 phantoms (brats2023); results go to" in capsys.readouterr().out
    assert [path.name for path in first.data_dir.parent.glob(".making*")] == []


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"cases": 4}, {"layout": "brats2021"}, {"difficulty": "easy"}, {"profile": "full"}]
)
def test_another_setting_makes_another_cohort(root, made, change):
    assert begin("77", cases=3).data_dir != begin("77", **{"cases": 3, **change}).data_dir
    assert len(made) == 2


def test_interrupted_cohort_is_not_taken_for_a_whole_one(root, monkeypatch):
    class Broken(Phantoms):
        def make(self, out, *args, **kwargs):
            super().make(out, *args, **kwargs)
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "brainseg_utils.phantom.cohort", Broken())
    with pytest.raises(KeyboardInterrupt):
        begin("77", cases=3)
    assert list((root / "runs" / "notebooks" / "phantoms").iterdir()) == []


def test_workers_follow_memory_and_cores():
    assert [profiles.workers(memory * GIB, 4) for memory in (1, 2, 4, 64)] == [1, 1, 2, 4]


def test_memory_limit_of_a_server_counts(monkeypatch):
    monkeypatch.setenv("MEM_LIMIT", str(GIB))
    assert profiles.memory_limit() <= GIB


def test_checkout_is_found_upwards_or_from_the_package(root, tmp_path_factory):
    assert checkout.find_root() == root
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert (checkout.find_root(elsewhere) / "pyproject.toml").is_file()


def test_paths_are_shown_without_the_machine(root):
    assert checkout.shown(root / "runs" / "x", root) == "runs/x"


def test_numbered_leaves_out_what_is_no_notebook(root):
    for name in ("01_a.ipynb", "01_a.new.ipynb", "notes.ipynb", "00_b.ipynb"):
        (root / "notebooks" / name).touch()
    files = checkout.numbered(root / "notebooks", ".ipynb")
    assert [path.name for path in files] == ["00_b.ipynb", "01_a.ipynb"]
    assert checkout.select(files, "1") == checkout.select(files, ["01_a"]) == files[1:]
    with pytest.raises(
        SettingError, match=re.escape("unknown notebook '01_aa'; expected one of 00_b, 01_a; did you mean")
    ):
        checkout.select(files, "01_aa")
