"""Every fault of a folder of scans: names first, then each file read once, then cases against each other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from brainseg_utils import parallel, progress
from brainseg_utils.datasets.faults import Fault, Findings, Kind, Report
from brainseg_utils.datasets.find import NIFTI_ENDINGS, Folder, find_folders, walk
from brainseg_utils.datasets.inspect_slices import TIFF_ENDINGS, SlicePlan, inspect_slices, plan_masks, plan_slices
from brainseg_utils.datasets.inspect_volumes import Inspection, inspect_volumes
from brainseg_utils.datasets.labels import LabelScheme
from brainseg_utils.datasets.layouts import Layout
from brainseg_utils.datasets.names_decathlon import plan_decathlon
from brainseg_utils.datasets.names_volumes import VolumePlan, lost_folders, note_unlabelled, plan_folder

Plan = VolumePlan | SlicePlan


def verify(
    root: str | Path, layout: str | None = None, scheme: str | None = None, workers: int | None = None
) -> Report:
    """Lists every fault of a folder of scans.

    Args:
        root: a data set's root, its parent, or one case folder.
        layout: key of `layouts.LAYOUTS`; default: recognised from the names.
        scheme: key of `labels.SCHEMES`, where it is not the layout's own.
        workers: processes; default: one a CPU. Each holds one case in memory.

    Raises:
        DataError: the folder is absent or holds no case.
        SettingError: several layouts in one folder, or names that do not decide between two.
    """
    root = Path(root)
    findings = Findings(root)
    chosen, labels, folders = find_folders(root, layout, scheme)
    _note_hidden(root, findings)
    plans = _plans(root, chosen, labels, folders, findings)
    if chosen.name != "msd":  # there the ids are file names, which the index lists once
        _note_duplicate_ids(plans, findings)
    workers = min(workers or parallel.default_workers(), len(plans))
    results = parallel.imap(_inspect, plans, workers)
    twins = Twins(findings)
    files = 0
    for result in progress.track(results, "verify", total=len(plans)):
        findings.add(result.findings)
        twins.add(result)
        files += result.files
    order = {"faults": _sorted(findings.faults), "notices": _sorted(findings.notices)}
    return Report(str(root), chosen.name, labels.name, len(plans), files, **order)


def _sorted(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    return tuple(sorted(faults, key=lambda fault: (fault.file, fault.kind)))


def _inspect(plan: Plan) -> Inspection:
    return inspect_slices(plan) if isinstance(plan, SlicePlan) else inspect_volumes(plan)


def _plans(root: Path, layout: Layout, scheme: LabelScheme, folders: list[Folder], findings: Findings) -> list[Plan]:
    if layout.name == "msd":
        return [plan for folder in folders for plan in plan_decathlon(folder.path, scheme.name, findings)]
    endings = TIFF_ENDINGS if layout.name == "lgg" else NIFTI_ENDINGS
    folders = sorted([*folders, *lost_folders(root, folders, endings)], key=lambda folder: folder.path)
    if layout.name == "lgg":
        return list(plan_masks([plan_slices(folder, findings) for folder in folders], findings))
    plans = [plan_folder(folder, layout, scheme.name, findings) for folder in folders]
    note_unlabelled(plans, layout, findings)
    return list(plans)


def _note_hidden(root: Path, findings: Findings) -> None:
    for folder, _, files in walk(root):
        for name in files:
            if name.startswith("._"):
                findings.fault(
                    Kind.HIDDEN,
                    folder.name,
                    folder / name,
                    "a file that macOS leaves beside the real one; it holds no image",
                    "no ._ files",
                    "delete it (dot_clean, or find -name '._*' -delete)",
                )


def _note_duplicate_ids(plans: Iterable[Plan], findings: Findings) -> None:
    """Two folders of one name; names that differ only by case are one on Windows and macOS."""
    first: dict[str, Plan] = {}
    for plan in plans:
        other = first.setdefault(plan.case.lower(), plan)
        if other is not plan:
            findings.fault(
                Kind.DUPLICATE_ID,
                plan.case,
                plan.folder,
                f"the id is also that of {findings.relative(other.folder)}",
                "one folder a case id",
                "keep one, or give the other its own id",
            )


class Twins:
    """Remembers a digest a file and notes images that were seen before: one patient under two ids, or a wrong copy."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.seen: dict[str, tuple[str, Path]] = {}

    def add(self, result: Inspection) -> None:
        """Compares one case's images with all before."""
        repeated: dict[Path, tuple[str, Path]] = {}
        for path, digest in result.digests.items():
            case, other = self.seen.setdefault(digest, (result.case, path))
            one_id_twice = case.lower() == result.case.lower() and other.parent != result.folder
            if other != path and not one_id_twice:  # that is another fault, noted already
                repeated[path] = (case, other)
        others = {case for case, _ in repeated.values()}
        if len(repeated) == len(result.digests) and len(others) == 1 and others != {result.case}:
            self._note(result, result.folder if len(repeated) > 1 else next(iter(repeated)), others.pop())
            return
        for path, (_, other) in repeated.items():
            self._note(result, path, self.findings.relative(other))

    def _note(self, result: Inspection, file: Path, other: str) -> None:
        self.findings.fault(
            Kind.SAME_IMAGE,
            result.case,
            file,
            f"the same voxels as {other}",
            "each patient under one id, each image in one file",
            "keep one: the same patient on both sides of a split makes scores too good",
        )
