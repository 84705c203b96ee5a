"""Names of the data sets: words, ids and patients."""

from __future__ import annotations

import pytest

from brainseg_utils.datasets.layouts import LAYOUTS, canonical_modality, get_layout, layout_of_id, patient_of
from brainseg_utils.errors import SettingError


@pytest.mark.parametrize(
    ("canonical", "words"),
    [
        ("t1n", ("t1", "T1w", "t1n")),
        ("t1c", ("t1ce", "T1Gd", "t1gd", "T1CE", "t1c")),
        ("t2w", ("t2", "T2w", "t2W")),
        ("t2f", ("flair", "FLAIR", "t2f")),
    ],
)
def test_every_word_for_a_modality(canonical, words):
    assert {canonical_modality(word) for word in words} == {canonical}


def test_a_word_that_is_none():
    with pytest.raises(SettingError, match=r"unknown modality 'flare'.*did you mean 'flair'"):
        canonical_modality("flare")


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("BraTS-GLI-00002-000", "BraTS-GLI-00002"),
        ("BraTS-GLI-00002-101", "BraTS-GLI-00002"),
        ("BraTS-SSA-00002-000", "BraTS-SSA-00002"),  # another person than GLI-00002
        ("BraTS2021_00002", "BraTS2021_00002"),
        ("BraTS20_Training_355", "BraTS20_Training_355"),
        ("Brats18_2013_2_1", "2013_2"),
        ("BraTS19_CBICA_ABM_1", "CBICA_ABM"),
        ("TCGA_CS_4941_19960909", "TCGA_CS_4941"),
        ("BRATS_001", "BRATS_001"),
    ],
)
def test_patient_of_a_case(case, patient):
    assert patient_of(case) == patient


@pytest.mark.parametrize(
    ("case", "word", "layout"),
    [
        ("BraTS20_Training_001", "flair", "brats2020"),
        ("Brats18_2013_2_1", "t1ce", "brats2020"),
        ("BraTS2021_00000", "t1", "brats2021"),
        ("brats2021_00000", "t1", "brats2021"),
        ("BraTS-GLI-00000-000", "t1n", "brats2023"),
        ("BraTS-SSA-00002-000", "t1n", "brats2023"),
        ("BraTS-GLI-00005-100", "t1n", "brats2024"),
        ("BraTS-PED-00005-000", "t1n", None),  # two schemes under one name
        ("mine", "t1n", None),
    ],
)
def test_layout_of_a_name(case, word, layout):
    assert layout_of_id(case, word) == layout


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if layout.suffixes])
def test_example_ids_are_of_their_own_layout(name):
    layout = get_layout(name)
    assert layout_of_id(layout.example_id.format(7), layout.suffixes["t1c"]) == name


def test_file_names():
    assert get_layout("brats2021").file_name("BraTS2021_00001", "t1ce") == "BraTS2021_00001_t1ce.nii.gz"
    assert get_layout("brats2023").file_name("A-1", "seg", ".nii") == "A-1-seg.nii"
    with pytest.raises(SettingError, match="did you mean 'brats2021'"):
        get_layout("brats_2021")
