"""The index of a Decathlon folder against the files that are there."""

from __future__ import annotations

from pathlib import Path

from brainseg_utils.datasets.decathlon import decathlon_entries, read_decathlon_index
from brainseg_utils.datasets.faults import Findings, Kind
from brainseg_utils.datasets.find import nifti_stem
from brainseg_utils.datasets.names_volumes import VolumePlan, nifti_like
from brainseg_utils.errors import DataError

FOLDERS = ("imagesTr", "labelsTr", "imagesTs")


def plan_decathlon(root: Path, scheme: str, findings: Findings) -> list[VolumePlan]:
    """One plan a case of the index; notes files that are listed and absent, there and not listed, or listed twice."""
    path = root / "dataset.json"
    try:
        index = read_decathlon_index(root)
        entries, wrong = decathlon_entries(index, path)
    except DataError as error:
        findings.fault(Kind.INDEX, "", path, error.found, error.expected or "", error.remedy or "")
        return []
    for entry in wrong:
        findings.fault(
            Kind.INDEX,
            "",
            path,
            f"entry {entry!r}",
            '{"image": "./imagesTr/….nii.gz", "label": "./labelsTr/….nii.gz"}',
            "take dataset.json from the data set's archive",
        )
    listed: set[Path] = set()
    plans = []
    for part, image, label in entries:
        case = nifti_stem(Path(image).name) or Path(image).name
        there = [_there(root, name, case, listed, findings) for name in (image, label) if name is not None]
        if label is None and part == "training":
            findings.fault(Kind.NO_LABEL, case, root / image, "no label in the index", "a label", "mend dataset.json")
        if there[0] is not None:
            mask = there[1] if label is not None else None
            plans.append(VolumePlan(findings.root, case, root, scheme, (("", there[0]),), mask, len(index["channels"])))
    _note_not_listed(root, listed, findings)
    return plans


def _there(root: Path, name: str, case: str, listed: set[Path], findings: Findings) -> Path | None:
    """The file of an index entry, None and a fault where it is absent or was listed before."""
    path = (root / name).resolve()
    shown = root / name.removeprefix("./")
    if path in listed:
        findings.fault(
            Kind.DUPLICATE_ID, case, shown, "listed twice in dataset.json", "each file once", "mend dataset.json"
        )
        return None
    listed.add(path)
    if not path.is_relative_to(root.resolve()) or not path.is_file():
        findings.fault(
            Kind.ABSENT,
            case,
            shown,
            "named in dataset.json and not there",
            "a file below the data set's folder",
            "copy or download the file again, or take it out of dataset.json",
        )
        return None
    return shown


def _note_not_listed(root: Path, listed: set[Path], findings: Findings) -> None:
    for folder in FOLDERS:
        for path in sorted((root / folder).glob("*")):
            stem = nifti_like(path.name)
            if stem is not None and not path.name.startswith(".") and path.resolve() not in listed:
                findings.fault(
                    Kind.NOT_LISTED,
                    stem,
                    path,
                    "there and not named in dataset.json",
                    "an entry for it",
                    "add it to dataset.json, or move it elsewhere",
                )
