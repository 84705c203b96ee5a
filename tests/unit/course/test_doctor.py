"""`brainseg doctor` finds what is wrong and says what to do about it."""

import importlib.metadata
import shutil
from collections import namedtuple

import pytest

from brainseg_utils.course import doctor


def finding(what, findings):
    return next(f for f in findings if f.what == what)


def test_pins_are_read_with_their_comments_left_out():
    text = "# head\ntorch==2.13.0  # why\nMedPy==0.5.2\nrange>=1\n"
    assert doctor.read_pins(text) == {"torch": "2.13.0", "medpy": "0.5.2"}


def test_another_version_is_noted_with_the_command_that_mends_it(monkeypatch):
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0.1" if name == "monai" else version(name))
    found = finding("monai", doctor.diagnose())
    assert (found.found, found.status) == ("0.0.1", "note")
    assert "pip install -c constraints.txt monai==" in found.remedy


def test_a_missing_package_is_wrong(monkeypatch):
    version = importlib.metadata.version

    def absent(name):
        if name == "nibabel":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert finding("nibabel", doctor.diagnose()).status == "wrong"


def test_a_full_disk_is_wrong(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - 10**9, 10**9))
    found = finding("disk", doctor.diagnose())
    assert found.status == "wrong" and "5 GB" in found.remedy


def test_missing_widget_scripts_are_wrong(monkeypatch):
    monkeypatch.setattr(doctor, "LAB_EXTENSIONS", ("no-such-extension",))
    assert finding("widgets", doctor.diagnose()).status == "wrong"


def test_no_browser_is_only_a_note(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert finding("Chromium", doctor.diagnose()).status == "note"


@pytest.mark.parametrize("what", ["Python", "RAM"])
def test_this_machine_passes_where_the_tests_run(what):
    assert finding(what, doctor.diagnose()).status in ("ok", "note")
