"""`make lab`: the reader's copies in work/ are made, updated where unchanged, and never overwritten."""

from __future__ import annotations

import subprocess
import sys

import pytest

from brainseg_utils.course.lab import update


@pytest.fixture
def root(tmp_path):
    (tmp_path / "brainseg_utils").mkdir()
    (tmp_path / "notebooks" / "solutions").mkdir(parents=True)
    (tmp_path / "notebooks" / "01_a.ipynb").write_text("course 1")
    (tmp_path / "notebooks" / "solutions" / "01_a.ipynb").write_text("solution")
    assert update(tmp_path) == ["01_a.ipynb: copied"]
    return tmp_path


def work(root):
    return {path.name: path.read_text() for path in sorted((root / "work").glob("*.ipynb"))}


def course_changes(root, text):
    (root / "notebooks" / "01_a.ipynb").write_text(text)


def reader_changes(root, text, name="01_a.ipynb"):
    (root / "work" / name).write_text(text)


def test_unchanged_copy_is_left_and_nothing_is_said(root):
    assert update(root) == []
    assert work(root) == {"01_a.ipynb": "course 1"}


def test_unchanged_copy_follows_the_course(root):
    course_changes(root, "course 2")
    assert update(root) == ["01_a.ipynb: updated"]
    assert work(root) == {"01_a.ipynb": "course 2"}


def test_changed_copy_is_never_overwritten(root):
    reader_changes(root, "mine")
    assert update(root) == []
    course_changes(root, "course 2")
    assert update(root) == ["01_a.ipynb: yours is kept; the course's new version is 01_a.new.ipynb"]
    assert update(root) == [], "said once"
    assert work(root) == {"01_a.ipynb": "mine", "01_a.new.ipynb": "course 2"}


def test_a_new_version_that_the_reader_changed_is_kept_as_well(root):
    reader_changes(root, "mine")
    course_changes(root, "course 2")
    update(root)
    course_changes(root, "course 3")
    update(root)
    assert work(root)["01_a.new.ipynb"] == "course 3", "nobody had touched it"
    reader_changes(root, "mine too", "01_a.new.ipynb")
    course_changes(root, "course 4")
    update(root)
    assert work(root) == {"01_a.ipynb": "mine", "01_a.new.ipynb": "mine too", "01_a.new2.ipynb": "course 4"}


def test_deleted_copy_comes_back(root):
    (root / "work" / "01_a.ipynb").unlink()
    assert update(root) == ["01_a.ipynb: copied"]


def test_lost_record_counts_every_copy_as_the_readers(root):
    (root / "work" / ".copied.json").unlink()
    course_changes(root, "course 2")
    update(root)
    assert work(root) == {"01_a.ipynb": "course 1", "01_a.new.ipynb": "course 2"}


def test_command_only_copies_when_told_so(root):
    command = [sys.executable, "-m", "brainseg_utils.course.lab", "--copy-only"]
    course_changes(root, "course 2")
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert said == "01_a.ipynb: updated\nyour notebooks are in work\n"
