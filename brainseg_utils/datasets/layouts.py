"""How each data set names its folders and files: one table, read by `find` and `export`.

Canonical modality names are those of BraTS 2023: t1n (T1 before contrast), t1c (T1 after contrast), t2w, t2f (FLAIR).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from brainseg_utils.datasets.labels import LabelScheme, get_scheme
from brainseg_utils.errors import unknown

MODALITIES = ("t1n", "t1c", "t2w", "t2f")
LGG_CHANNELS = ("t1n", "t2f", "t1c")  # red, green, blue of the Kaggle slices
MODALITY_TITLES: Mapping[str, str] = {"t1n": "T1", "t1c": "T1 with contrast", "t2w": "T2", "t2f": "FLAIR"}
ALIASES: Mapping[str, str] = {
    "t1": "t1n",
    "t1w": "t1n",
    "t1ce": "t1c",
    "t1gd": "t1c",
    "t2": "t2w",
    "flair": "t2f",
    **{name: name for name in MODALITIES},
}
POST_TREATMENT_TIMEPOINT = 100  # BraTS 2024 counts time points from 100, BraTS 2023 from 0
_CHALLENGE_ID = re.compile(r"^(?P<patient>BraTS-(?P<collection>[A-Za-z]+)-\d{5})-(?P<timepoint>\d{3})$", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """One data set's naming.

    Attributes:
        name: key in `LAYOUTS`.
        scheme_name: its label scheme.
        suffixes: canonical modality to the word in the file name; empty where files are not one a modality.
        separator: what stands between case id and word.
        example_id: a case id of the data set's own pattern, used to name written cases.
    """

    name: str
    scheme_name: str
    suffixes: Mapping[str, str]
    separator: str
    example_id: str

    @property
    def scheme(self) -> LabelScheme:
        """The label scheme of the layout's masks."""
        return get_scheme(self.scheme_name)

    def file_name(self, case_id: str, word: str, ending: str = ".nii.gz") -> str:
        """The name of one file of a case: `word` is a suffix of the layout or "seg"."""
        return f"{case_id}{self.separator}{word}{ending}"


_UNTIL_2021 = {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"}
_SINCE_2023 = {name: name for name in MODALITIES}

LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("brats2020", "brats2021", _UNTIL_2021, "_", "BraTS20_Training_{:03d}"),
        Layout("brats2021", "brats2021", _UNTIL_2021, "_", "BraTS2021_{:05d}"),
        Layout("brats2023", "brats2023", _SINCE_2023, "-", "BraTS-GLI-{:05d}-000"),
        Layout("brats2024", "brats2024", _SINCE_2023, "-", "BraTS-GLI-{:05d}-100"),
        Layout("msd", "msd", {}, "", "BRATS_{:03d}"),
        Layout("lgg", "lgg", {}, "_", "PH_{:04d}"),
    )
}


def get_layout(name: str) -> Layout:
    """A layout by name.

    Raises:
        SettingError: no such layout, with the nearest name.
    """
    if name not in LAYOUTS:
        raise unknown("layout", name, LAYOUTS)
    return LAYOUTS[name]


def canonical_modality(name: str) -> str:
    """The canonical name of a modality, whatever data set's word is given ("T1Gd", "flair", "t1ce").

    Raises:
        SettingError: not a word for any of the four.

    Example:
        >>> canonical_modality("T1gd"), canonical_modality("FLAIR")
        ('t1c', 't2f')
    """
    key = name.lower()
    if key not in ALIASES:
        raise unknown("modality", name, ALIASES)
    return ALIASES[key]


def patient_of(case_id: str) -> str:
    """The patient that a case belongs to; two scans of one patient give the same answer.

    2023 and 2024 name collection, patient and time point; 2017-2019 end in a scan number; the LGG folders end in the
    date of the scan. In the other data sets a case is a patient.

    Example:
        >>> patient_of("BraTS-GLI-00002-101"), patient_of("Brats18_2013_2_1"), patient_of("TCGA_CS_4941_19960909")
        ('BraTS-GLI-00002', '2013_2', 'TCGA_CS_4941')
    """
    if match := _CHALLENGE_ID.match(case_id):
        return match["patient"]
    if match := re.match(r"^brats1[789]_(.+)_\d+$", case_id, re.IGNORECASE):
        return match[1]
    if match := re.match(r"^((?:TCGA|PH)_.+)_\d{8}$", case_id):
        return match[1]
    return case_id


def layout_of_id(case_id: str, word: str) -> str | None:
    """The layout that a case id and the word of one of its files belong to; None where they do not decide.

    Paediatric cases of 2023 and 2024 have the same names and different labels: they never decide.
    """
    if word in _UNTIL_2021.values():
        return "brats2021" if case_id.lower().startswith("brats2021_") else "brats2020"
    match = _CHALLENGE_ID.match(case_id)
    if match is None or match["collection"].upper() == "PED":
        return None
    return "brats2024" if int(match["timepoint"]) >= POST_TREATMENT_TIMEPOINT else "brats2023"
