"""Names, before anything is read: which file of a case folder is which modality, and what is wrong with its name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from brainseg_utils.datasets.faults import Findings, Kind
from brainseg_utils.datasets.find import NIFTI_ENDINGS, Folder, walk
from brainseg_utils.datasets.layouts import ALIASES, MODALITIES, Layout

SEG = "seg"


@dataclass(frozen=True)
class VolumePlan:
    """What there is to read of one case.

    Attributes:
        root: the folder that is verified.
        case: case id.
        folder: where the case is.
        scheme: key of `labels.SCHEMES`.
        images: (modality, file) pairs; Decathlon: one pair.
        label: the mask, None where there is none.
        channels: how many modalities an image file holds on its fourth axis; 0: it is 3D.
    """

    root: Path
    case: str
    folder: Path
    scheme: str
    images: tuple[tuple[str, Path], ...]
    label: Path | None
    channels: int = 0

    @property
    def files(self) -> int:
        """How many files there are to read."""
        return len(self.images) + (self.label is not None)


def plan_folder(folder: Folder, layout: Layout, scheme: str, findings: Findings) -> VolumePlan:
    """Gives every file of a case folder its part and notes misnamed, doubled and missing ones."""
    claims: dict[str, list[tuple[bool, str]]] = {}
    unknown: list[str] = []
    for name in folder.files:
        if nifti_like(name) is None:
            continue
        role, exact = _claim(name, folder.path.name, layout)
        if role is None:
            unknown.append(name)
        else:
            claims.setdefault(role, []).append((not exact, name))
    chosen = {role: min(names) for role, names in claims.items()}  # exact names first
    missing = [m for m in layout.suffixes if m not in chosen]
    if len(missing) == 1 and len(unknown) == 1 and SEG in chosen:
        chosen[missing[0]] = (True, unknown.pop())  # one name too many and one too few: the same file
    _note_names(folder.path, chosen, claims, layout, findings)
    label = chosen.get(SEG, (False, ""))[1]
    if not label and len(unknown) == 1 and not any(m not in chosen for m in layout.suffixes):
        label = unknown.pop()
        findings.notice(
            Kind.ODD_MASK,
            folder.path.name,
            folder.path / label,
            "the only NIfTI file that is no modality: taken as the mask (as in BraTS 2020 case 355)",
            layout.file_name(folder.path.name, SEG),
            "rename it if other programs are to find it",
        )
    _note_missing(folder.path, chosen, unknown, layout, findings)
    images = tuple((m, folder.path / chosen[m][1]) for m in MODALITIES if m in chosen)
    return VolumePlan(
        findings.root, folder.path.name, folder.path, scheme, images, folder.path / label if label else None
    )


def nifti_like(name: str) -> str | None:
    """The file name without a NIfTI ending in whatever case; None for other files."""
    for ending in NIFTI_ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return None


def _claim(name: str, case: str, layout: Layout) -> tuple[str | None, bool]:
    """Which part a file plays in its case, and whether its name is exactly the layout's."""
    words = {**layout.suffixes, SEG: SEG}
    for role, word in words.items():
        if name in {layout.file_name(case, word, ending) for ending in NIFTI_ENDINGS}:
            return role, True
    stem = nifti_like(name) or ""
    if stem.lower().startswith(case.lower()):
        rest = stem[len(case) :].lower().lstrip("-_. ")
        return (rest if rest == SEG else ALIASES.get(rest)), False
    for role, word in words.items():  # the right ending on another case's name
        if stem.endswith(layout.separator + word):
            return role, False
    return None, False


def _note_names(
    folder: Path,
    chosen: dict[str, tuple[bool, str]],
    claims: dict[str, list[tuple[bool, str]]],
    layout: Layout,
    findings: Findings,
) -> None:
    for role, (misnamed, name) in chosen.items():
        expected = layout.file_name(folder.name, layout.suffixes.get(role, SEG))
        if misnamed:
            found = f"stands for {'the mask' if role == SEG else role}, under a name that is not the layout's"
            findings.fault(Kind.MISNAMED, folder.name, folder / name, found, expected, f"rename it to {expected}")
        for _, other in sorted(claims.get(role, []))[1:]:
            findings.fault(
                Kind.TWICE,
                folder.name,
                folder / other,
                f"a second file for {'the mask' if role == SEG else role}, beside {name}",
                f"{expected} alone",
                "keep one of the two",
            )


def _note_missing(
    folder: Path, chosen: dict[str, tuple[bool, str]], unknown: Sequence[str], layout: Layout, findings: Findings
) -> None:
    for modality, word in layout.suffixes.items():
        if modality not in chosen:
            expected = layout.file_name(folder.name, word)
            also = f"; {', '.join(unknown)} is none that is known" if unknown else ""
            findings.fault(
                Kind.MISSING,
                folder.name,
                folder / expected,
                f"no file for modality {modality}{also}",
                expected,
                "copy or download the file again",
            )
    if all(m in chosen for m in layout.suffixes):
        for name in unknown:
            findings.notice(
                Kind.STRAY,
                folder.name,
                folder / name,
                "a NIfTI file that is neither a modality nor the mask",
                ", ".join(layout.file_name(folder.name, w) for w in (*layout.suffixes.values(), SEG)),
                "it is not read; move it elsewhere",
            )


def lost_folders(root: Path, known: Iterable[Folder], endings: tuple[str, ...]) -> list[Folder]:
    """Folders named like the known cases, or holding files named after them, that have no modality under its name."""
    taken = {folder.path for folder in known}
    patterns = {_pattern(path.name) for path in taken}
    lost = []
    for here, directories, names in walk(root):
        if here in taken:
            directories.clear()
            continue
        files = tuple(sorted(n for n in names if not n.startswith(".") and n.lower().endswith(endings)))
        own = any(n.lower().startswith(here.name.lower()) and n != here.name for n in files)
        if own or (here != root and _pattern(here.name) in patterns and not directories):
            lost.append(Folder(here, None, files))
    return lost


def _pattern(name: str) -> str:
    return re.sub(r"\d+", "#", name.lower())


def note_unlabelled(plans: Sequence[VolumePlan], layout: Layout, findings: Findings) -> None:
    """Notes cases without a mask: a fault where their neighbours have one, else one notice for the whole folder.

    Validation sets come without masks, so a folder in which no case has one is taken to be such a set, unless the case
    ids say "Training".
    """
    parents: dict[Path, list[VolumePlan]] = {}
    for plan in plans:
        parents.setdefault(plan.folder.parent, []).append(plan)
    for parent, here in parents.items():
        without = [plan for plan in here if plan.label is None]
        training = [p for p in without if len(without) < len(here) or "training" in p.case.lower()]
        for plan in training:
            name = layout.file_name(plan.case, SEG)
            if "validation" not in plan.case.lower():
                findings.fault(
                    Kind.NO_LABEL, plan.case, plan.folder / name, "no mask", name, "copy or download the file again"
                )
        if without and not training:
            findings.notice(
                Kind.NO_LABEL,
                "",
                parent,
                f"none of {len(here)} cases has a mask: taken as a set without labels (validation)",
                "masks, if it is for training",
                "nothing to do for prediction",
            )
