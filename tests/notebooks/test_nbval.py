"""nbval, as `make test` calls it: every cell runs, marked cells are compared, widgets and progress disturb nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SANITIZE = Path(__file__).resolve().parents[1] / "sanitize.cfg"


def run_nbval(notebook):
    (notebook.parent / "pytest.ini").write_text("[pytest]\n")
    options = ["-c", str(notebook.parent / "pytest.ini"), "-p", "no:cacheprovider", "-q", "-rf"]
    command = [sys.executable, "-m", "pytest", *options, "--nbval-lax", "--nbval-sanitize-with", str(SANITIZE)]
    return subprocess.run([*command, str(notebook)], cwd=notebook.parent, capture_output=True, text=True)


@pytest.fixture
def copy(example_root, tmp_path):
    """The built example in a checkout of its own, to be spoilt."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "brainseg_utils").mkdir()
    return Path(shutil.copy(example_root / "notebooks" / "90_example.ipynb", tmp_path / "notebooks"))


def test_committed_outputs_hold(copy):
    result = run_nbval(copy)
    assert result.returncode == 0 and re.search(r"\b8 passed\b", result.stdout), result.stdout


def test_changed_facts_fail_and_unmarked_outputs_do_not(copy):
    text = copy.read_text(encoding="utf-8")
    assert "64 voxels inside" in text and "results go to runs" in text
    changed = text.replace("64 voxels inside", "65 voxels inside").replace("results go to runs", "results go elsewhere")
    copy.write_text(changed, encoding="utf-8")
    result = run_nbval(copy)
    assert result.returncode == 1 and re.search(r"\b1 failed, 7 passed\b", result.stdout), result.stdout
    assert "Cell outputs differ" in result.stdout


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("made in 12.5 s", "made in 9 s", True),
        ("cache: 120 MiB", "cache: 98.4 MiB", True),
        ("in /home/ada/course", "in /tmp/x-1/course", True),
        ("shape (4, 240, 240)", "shape (4, 240, 155)", False),
        ("WT 0.91, TC 0.80", "WT 0.91, TC 0.81", False),
        ("volume 31.2 mL", "volume 31.3 mL", False),
    ],
)
def test_sanitising_forgives_costs_and_paths_only(one, other, same):
    from nbval.plugin import get_sanitize_patterns

    def clean(text):
        for pattern, replacement in get_sanitize_patterns(SANITIZE.read_text(encoding="utf-8")):
            text = re.sub(pattern, replacement, text)
        return text

    assert (clean(one) == clean(other)) == same
