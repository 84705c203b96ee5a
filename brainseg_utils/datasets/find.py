"""A folder, searched for cases: which data set it is, and a `Case` for every scan session in it."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from brainseg_utils.datasets.cases import Case, SliceCase
from brainseg_utils.datasets.decathlon import decathlon_entries, is_decathlon, read_decathlon_index, unusable_index
from brainseg_utils.datasets.labels import LabelScheme, get_scheme
from brainseg_utils.datasets.layouts import LAYOUTS, Layout, get_layout, layout_of_id, patient_of
from brainseg_utils.errors import BrainsegError, DataError, SettingError

NIFTI_ENDINGS = (".nii.gz", ".nii")
SEARCH_DEPTH = 4  # data set's parent / data set / grade (HGG, LGG) / case
_SLICE = re.compile(r"^(?P<patient>.+)_(?P<number>\d+)\.tif$")
_WORDS = {word: layout.separator for layout in LAYOUTS.values() for word in layout.suffixes.values()}


@dataclass(frozen=True)
class Folder:
    """One folder that looks like a case (or a Decathlon data set): what layout, and the files in it."""

    path: Path
    layout: str | None  # None: the names are those of several layouts
    files: tuple[str, ...]


def find_cases(root: str | Path, layout: str | None = None, scheme: str | None = None) -> list[Case]:
    """Every case below a folder, sorted by id, with nothing but names read.

    Args:
        root: a data set's root, its parent, or one case folder.
        layout: key of `LAYOUTS`; default: recognised from the names (and from `phantom.json`).
        scheme: key of `labels.SCHEMES`, for a data set whose labels are not its layout's (paediatric releases).

    Raises:
        DataError: the folder is absent or holds no case of the layout.
        SettingError: several layouts in one folder, or names that do not decide between two.

    Example:
        >>> find_cases("no/such/folder")
        Traceback (most recent call last):
        ...
        brainseg_utils.errors.DataError: no/such/folder: no such folder; expected a data set's folder; check the path
    """
    chosen, labels, folders = find_folders(root, layout, scheme)
    cases = [case for folder in folders for case in _cases_in(folder, chosen, labels)]
    if not cases:
        raise _none_found(Path(root), chosen.name, folders)
    return sorted(cases, key=lambda case: case.id)


def find_folders(
    root: str | Path, layout: str | None = None, scheme: str | None = None
) -> tuple[Layout, LabelScheme, list[Folder]]:
    """The case folders below `root`, and the layout and label scheme that they are read with.

    Args and errors as in `find_cases`.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError("no such folder", where=root, expected="a data set's folder", remedy="check the path")
    chosen_scheme = get_scheme(scheme) if scheme else None
    found = list(search(root))
    chosen = get_layout(layout) if layout else get_layout(_decide(root, found, chosen_scheme))
    folders = [
        folder
        for folder in found
        if folder.layout == chosen.name
        or (folder.layout is None and _names_fit(folder, chosen))
        or (layout and folder.layout and _same_names(folder.layout, chosen.name))
    ]
    if not folders:
        raise _none_found(root, chosen.name, found)
    return chosen, chosen_scheme or chosen.scheme, folders


def walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `os.walk`, sorted; links are followed, each folder once, none hidden or below `SEARCH_DEPTH`."""
    seen: set[str] = set()
    for path, directories, files in os.walk(root, followlinks=True):
        here = Path(path)
        seen.add(os.path.realpath(here))
        if len(here.relative_to(root).parts) >= SEARCH_DEPTH:
            directories.clear()
        visible = sorted(d for d in directories if not d.startswith("."))
        directories[:] = [d for d in visible if os.path.realpath(here / d) not in seen]
        yield here, directories, sorted(files)


def search(root: Path) -> Iterator[Folder]:
    """Every folder at or below `root` that holds files named like a case's, not deeper than `SEARCH_DEPTH`."""
    for here, directories, files in walk(root):
        visible = tuple(sorted(f for f in files if not f.startswith(".")))
        if "dataset.json" in visible and is_decathlon(here / "dataset.json"):
            directories.clear()
            yield Folder(here, "msd", visible)
        elif any((match := _SLICE.match(f)) and match["patient"] == here.name for f in visible):
            yield Folder(here, "lgg", visible)
        elif words := [w for f in visible if (w := modality_word(f, here.name))]:
            yield Folder(here, _layout_of(here, words), visible)


def modality_word(file_name: str, case_id: str) -> str | None:
    """The modality word that ends a NIfTI file name ("t1ce"), exactly as a layout writes it, or None."""
    stem = nifti_stem(file_name)
    if stem is None:
        return None
    for word, separator in _WORDS.items():
        if stem.endswith(separator + word) and stem != case_id:
            return word
    return None


def nifti_stem(file_name: str) -> str | None:
    """The file name without `.nii` or `.nii.gz`; None for other files."""
    for ending in NIFTI_ENDINGS:
        if file_name.endswith(ending):
            return file_name[: -len(ending)]
    return None


def _layout_of(folder: Path, words: list[str]) -> str | None:
    for marker in (folder / "phantom.json", folder.parent / "phantom.json"):
        if marker.is_file():
            try:
                return get_layout(json.loads(marker.read_text(encoding="utf-8"))["layout"]).name
            except (ValueError, KeyError, TypeError, BrainsegError):
                continue
    votes = Counter(layout_of_id(folder.name, word) for word in words)  # one misnamed file does not decide
    return votes.most_common(1)[0][0]


def _same_names(one: str, other: str) -> bool:
    a, b = LAYOUTS[one], LAYOUTS[other]
    return bool(a.suffixes) and a.suffixes == b.suffixes


def _names_fit(folder: Folder, layout: Layout) -> bool:
    words = {modality_word(f, folder.path.name) for f in folder.files}
    return bool(words & set(layout.suffixes.values()))


def _decide(root: Path, folders: list[Folder], scheme: LabelScheme | None) -> str:
    counts = Counter(folder.layout for folder in folders)
    if not counts:
        raise DataError(
            "no cases found",
            where=root,
            expected="folders as in " + ", ".join(LAYOUTS),
            remedy="check the path, or make a cohort with `brainseg data phantom`",
        )
    known = [name for name in counts if name]
    if not known and scheme:
        known = [layout.name for layout in LAYOUTS.values() if layout.scheme_name == scheme.name] or ["brats2023"]
        known = known[:1]
    if not known:
        example = next(f.path.name for f in folders if f.layout is None)
        raise SettingError(
            f"the names of {counts[None]} case folders (e.g. {example}) do not say which year's labels they hold",
            where=root,
            expected="BraTS-<collection>-<5 digits>-<3 digits>, and not the paediatric collection",
            remedy="give the layout (brats2023 or brats2024), or the label scheme (brats2024-ped)",
        )
    if len(known) > 1:
        found = ", ".join(f"{name} ({counts[name]} folders)" for name in sorted(known))
        raise SettingError(
            f"several data sets in one folder: {found}",
            where=root,
            expected="one layout",
            remedy="give the layout, or a folder that holds one data set",
        )
    return known[0]


def _none_found(root: Path, layout: str, folders: list[Folder]) -> DataError:
    others = Counter(f.layout or "unknown" for f in folders)
    found = "; found " + ", ".join(f"{n} folders named as in {name}" for name, n in others.items()) if others else ""
    scheme = get_layout(layout).scheme
    why = ""
    if set(others) & {"brats2020", "brats2021"} and layout in ("brats2023", "brats2024"):
        why = f"; in those 4 is ET, in {layout} the labels are {scheme.describe()}, so they are not read as {layout}"
    return DataError(
        f"no case of layout {layout}{found}{why}",
        where=root,
        remedy="leave the layout out to have it recognised, or convert the data set",
    )


def _cases_in(folder: Folder, layout: Layout, scheme: LabelScheme) -> list[Case]:
    if layout.name == "msd":
        return _decathlon_cases(folder.path, scheme)
    if layout.name == "lgg":
        return [_slice_case(folder, scheme)]
    by_word = {word: modality for modality, word in layout.suffixes.items()}
    paths: dict[str, Path] = {}
    label: Path | None = None
    others: list[Path] = []
    for name in folder.files:
        stem = nifti_stem(name)
        if stem is None:
            continue
        word = modality_word(name, folder.path.name)
        if word in by_word:
            paths[by_word[word]] = folder.path / name
        elif stem.endswith(layout.separator + "seg"):
            label = folder.path / name
        elif word is None:
            others.append(folder.path / name)
    if label is None and len(others) == 1 and len(paths) == len(layout.suffixes):
        label = others[0]  # BraTS 2020 case 355: its mask is W39_1998.09.19_Segm.nii
        warnings.warn(f"{label}: taken as the mask of {folder.path.name}, which has no *seg file", stacklevel=4)
    case_id = folder.path.name
    return [Case(case_id, patient_of(case_id), layout.name, scheme, paths, label)]


def _slice_case(folder: Folder, scheme: LabelScheme) -> SliceCase:
    numbered = {}
    for name in folder.files:
        match = _SLICE.match(name)
        if match and match["patient"] == folder.path.name:
            numbered[int(match["number"])] = folder.path / name
    slices = tuple(numbered[k] for k in sorted(numbered))
    present = set(folder.files)
    masks = tuple(p.with_name(f"{p.stem}_mask.tif") if f"{p.stem}_mask.tif" in present else None for p in slices)
    case_id = folder.path.name
    return SliceCase(case_id, patient_of(case_id), "lgg", scheme, {}, None, {}, slices, masks)


def _decathlon_cases(root: Path, scheme: LabelScheme) -> list[Case]:
    index = read_decathlon_index(root)
    entries, wrong = decathlon_entries(index, root / "dataset.json")
    if wrong:
        raise unusable_index(root / "dataset.json", f"entry {wrong[0]!r}")
    return [_decathlon_case(root, e.image, e.label, index["channels"], scheme) for e in entries]


def _decathlon_case(root: Path, image: str, label: str | None, channels: dict, scheme: LabelScheme) -> Case:
    path = root / image
    case_id = nifti_stem(path.name) or path.name
    paths = dict.fromkeys(channels, path)
    return Case(case_id, patient_of(case_id), "msd", scheme, paths, root / label if label else None, channels)
