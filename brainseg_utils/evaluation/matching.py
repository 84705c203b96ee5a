"""Which prediction belongs to which truth: two files, or two folders matched by case id.

Truth folders are data sets in any layout, or masks alone, flat or in a folder a case. Predictions may carry the
layout's own names (`<id>-seg.nii.gz`), the bare id, a name that ends with the id as the challenge servers ask
for, or lie in a folder named as the case.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from brainseg_utils.datasets.find import find_cases, modality_word, nifti_stem, search
from brainseg_utils.datasets.layouts import get_layout, layout_of_id
from brainseg_utils.errors import BrainsegError, DataError
from brainseg_utils.evaluation.jobs import Job, Matched, no_masks, walk
from brainseg_utils.evaluation.matching_slices import match_slices
from brainseg_utils.evaluation.protocols import Protocol

DECATHLON_IMAGES = ("imagesTr", "imagesTs")
_SEG = re.compile(r"[-_]seg$")
_UNTIL_2021_ID = re.compile(r"^brats(?:1[789]|20|2021)_", re.IGNORECASE)
_SERVER_ID = re.compile(r"\d{5}-\d{3}$")  # the servers look at the patient number and time point only


def match(truth: Path, prediction: Path, protocol: Protocol) -> Matched:
    """Pairs the masks of two files or two folders.

    Args:
        truth: a mask, or a folder in any layout.
        prediction: a mask, or a folder.
        protocol: says whether masks are volumes or slices, and what bare files mean.

    Raises:
        DataError: a path is absent, a folder holds no mask, one is a file and the other a folder, or no prediction
            belongs to any case.
    """
    for path in (truth, prediction):
        if not path.exists():
            raise DataError("no such file or folder", where=path, remedy="check the path")
    if truth.is_file() != prediction.is_file():
        raise DataError(
            f"{truth} is a {_kind(truth)}, {prediction} a {_kind(prediction)}",
            expected="two files, or two folders",
            remedy="give the mask's file on both sides, or the folder on both",
        )
    if truth.is_file():
        return Matched(
            (Job(_mask_id(truth.name) or truth.stem, (truth,), (prediction,), protocol.scheme_name),), (), ()
        )
    return (
        match_slices(truth, prediction, protocol) if protocol.in_pixels else _match_volumes(truth, prediction, protocol)
    )


def _kind(path: Path) -> str:
    return "file" if path.is_file() else "folder"


def _mask_id(file_name: str) -> str | None:
    """The case id in a mask's file name: without `.nii.gz` and without `-seg` or `_seg`."""
    stem = nifti_stem(file_name)
    return None if stem is None else _SEG.sub("", stem)


@dataclass(frozen=True)
class _Truths:
    masks: Mapping[str, tuple[Path, str]]  # case id to file and scheme name
    faults: tuple[str, ...]
    warnings: tuple[str, ...]


def _match_volumes(truth: Path, prediction: Path, protocol: Protocol) -> Matched:
    truths = _truths(truth, protocol)
    files = list(_loose_masks(prediction))
    if not files:
        raise no_masks(prediction, "NIfTI masks (.nii, .nii.gz)")
    found, doubled = _assign(truths.masks, files)
    faults = [*truths.faults]
    for case, candidates in doubled.items():
        names = ", ".join(str(path) for path in candidates)
        faults.append(f"case {case}: {len(candidates)} predictions ({names}); leave one")
    if not found and not doubled:
        raise DataError(
            f"none of its {len(files)} masks belongs to a case of {truth}",
            where=prediction,
            expected=f"names with a case id, as {next(iter(truths.masks))}.nii.gz",
            remedy="check that the two folders belong together",
        )
    used = {*found.values(), *(path for candidates in doubled.values() for path in candidates)}
    # A file that carries a scored case's id beside its mask is something else, such as probabilities.
    strays = [path for path in files if path not in used and not any(case in path.name for case in found)]
    notes = [*truths.warnings, *(f"{path}: no truth for this prediction, not scored" for path in strays)]
    jobs = [
        Job(case, (path,), (found[case],) if case in found else (), scheme)
        for case, (path, scheme) in sorted(truths.masks.items())
        if case not in doubled
    ]
    return Matched(tuple(jobs), tuple(faults), tuple(notes))


def _truths(root: Path, protocol: Protocol) -> _Truths:
    """The masks of a data set in any layout; of a folder with masks alone if there is no image in it."""
    masks: dict[str, tuple[Path, str]] = {}
    faults: list[str] = []
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for folder in search(root):
            if folder.layout == "lgg":
                continue
            try:
                bare = None if folder.layout else protocol.scheme_name
                cases = find_cases(folder.path, layout=folder.layout, scheme=bare)
            except BrainsegError as error:
                faults.append(str(error))
                continue
            for case in cases:
                if case.label_path is None:
                    if case.layout != "msd":  # Decathlon's test images have no masks by design
                        faults.append(f"case {case.id}: no mask in {folder.path}; expected a *seg file")
                    continue
                _put(masks, faults, case.id, case.label_path, _scheme(case.scheme.name, protocol))
    notes += [str(warning.message) for warning in caught]
    if not masks and not faults:
        for path in _loose_masks(root):
            case_id = _mask_id(path.name)
            assert case_id is not None
            _put(masks, faults, case_id, path, _scheme(_scheme_of_id(case_id, protocol), protocol))
    if not masks and faults:
        raise DataError(
            f"no case with a mask; first of {len(faults)} faults: {faults[0]}",
            where=root,
            expected="truth to score with",
        )
    if not masks:
        raise no_masks(root, "case folders or NIfTI masks (LGG slices are scored with protocol lgg)")
    return _Truths(masks, tuple(faults), tuple(notes))


def _put(masks: dict[str, tuple[Path, str]], faults: list[str], case: str, path: Path, scheme: str) -> None:
    """Adds a mask, unless there is one of this case already, which then stays."""
    if case in masks:
        faults.append(f"case {case}: two masks ({masks[case][0]}, {path}), the first was taken; leave one")
    else:
        masks[case] = (path, scheme)


def _scheme(of_folder: str, protocol: Protocol) -> str:
    return of_folder if protocol.folder_scheme else protocol.scheme_name


def _scheme_of_id(case_id: str, protocol: Protocol) -> str:
    """The label scheme of a mask whose images are elsewhere: what its id says, else the protocol's."""
    layout = layout_of_id(case_id, "flair" if _UNTIL_2021_ID.match(case_id) else "seg")
    return get_layout(layout).scheme_name if layout else protocol.scheme_name


def _loose_masks(root: Path) -> Iterator[Path]:
    """NIfTI files that are not named as an image of some modality."""
    for path in walk(root):
        if (
            nifti_stem(path.name)
            and not modality_word(path.name, path.parent.name)
            and "images" not in path.parent.name
        ):
            yield path


def _assign(cases: Iterable[str], files: list[Path]) -> tuple[dict[str, Path], dict[str, list[Path]]]:
    """Case id to prediction, and case id to several that fit equally well; the clearest kind of name goes first."""
    found: dict[str, Path] = {}
    doubled: dict[str, list[Path]] = {}
    left = list(files)
    for keys in (_exact, _ends_with_id, _starts_with_id, _in_folder, _ends_with_number):
        open_cases = [case for case in cases if case not in found and case not in doubled]
        candidates: dict[str, list[Path]] = defaultdict(list)
        for path, case in keys(open_cases, left):
            candidates[case].append(path)
        for case, paths in candidates.items():
            if len(paths) == 1:
                found[case] = paths[0]
            else:
                doubled[case] = paths
        taken = {path for paths in candidates.values() for path in paths}
        left = [path for path in left if path not in taken]
    return found, doubled


def _exact(cases: list[str], files: list[Path]) -> Iterator[tuple[Path, str]]:
    known = set(cases)
    for path in files:
        if (name := _mask_id(path.name)) in known and name is not None:
            yield path, name


def _ends_with_id(cases: list[str], files: list[Path]) -> Iterator[tuple[Path, str]]:
    for path in files:
        name = _mask_id(path.name) or ""
        yield from ((path, case) for case in cases if name.endswith(("-" + case, "_" + case, "." + case)))


def _starts_with_id(cases: list[str], files: list[Path]) -> Iterator[tuple[Path, str]]:
    for path in files:
        name = _mask_id(path.name) or ""
        yield from ((path, case) for case in cases if name.startswith((case + "-", case + "_", case + ".")))


def _in_folder(cases: list[str], files: list[Path]) -> Iterator[tuple[Path, str]]:
    known = set(cases)
    yield from ((path, path.parent.name) for path in files if path.parent.name in known)


def _ends_with_number(cases: list[str], files: list[Path]) -> Iterator[tuple[Path, str]]:
    numbers = {case: m.group() for case in cases if (m := _SERVER_ID.search(case))}
    unique = Counter(numbers.values())
    by_number = {number: case for case, number in numbers.items() if unique[number] == 1}
    for path in files:
        m = _SERVER_ID.search(_mask_id(path.name) or "")
        if m and m.group() in by_number:
            yield path, by_number[m.group()]
