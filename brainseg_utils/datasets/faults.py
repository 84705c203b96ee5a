"""What `brainseg data verify` hands back: faults with file, found, expected and remedy, as text, JSON or CSV.

A fault makes the exit code 1. A notice is something worth knowing that is not wrong: no labels in a validation set, or
the mask of BraTS 2020 case 355 under its odd name.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from brainseg_utils.files import atomic, write_json


class Kind(StrEnum):
    """Every kind of fault, by the name that stands in tables and files."""

    # names
    MISSING = "missing modality"
    MISNAMED = "misnamed file"
    TWICE = "modality twice"
    NO_LABEL = "no label"
    ODD_MASK = "mask under another name"
    STRAY = "file of no case"
    HIDDEN = "hidden file"
    DUPLICATE_ID = "duplicate case id"
    INDEX = "unusable index"
    ABSENT = "absent file"
    NOT_LISTED = "not in the index"
    # one NIfTI file (those that `nifti.read` finds)
    EMPTY = "empty file"
    DAMAGED_GZIP = "damaged gzip"
    TRUNCATED = "truncated file"
    TRAILING = "trailing bytes"
    NOT_NIFTI = "not a NIfTI file"
    DAMAGED_HEADER = "damaged header"
    ABSURD_SIZE = "absurd size"
    UNREADABLE = "unreadable file"
    # what is in it
    DIMENSIONS = "wrong dimensions"
    ORIENTATION = "header against itself"
    SCALING = "intensity scaling"
    NOT_FINITE = "NaN or infinity"
    CONSTANT = "empty image"
    ABSURD_VALUES = "absurd intensities"
    UNKNOWN_LABEL = "unknown label"
    FRACTIONAL_LABEL = "label not a whole number"
    OUTSIDE_BRAIN = "label outside the brain"
    # files that belong together
    SHAPE = "shape differs"
    AFFINE = "affine differs"
    ROUNDING = "affine differs by rounding"
    SAME_IMAGE = "identical images"
    # slices
    NO_MASK = "slice without mask"
    NO_SLICE = "mask without slice"
    MASK_SIZE = "mask of another size"
    NOT_BINARY = "mask not binary"
    GAP = "gap in slice numbers"
    SLICE_TWICE = "slice number twice"
    SLICE_SIZE = "slice of another size"
    SLICE_FORMAT = "slice format"
    UNREADABLE_TIFF = "unreadable TIFF"


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        case: case id, or "" where it is about the whole folder.
        file: path relative to the folder that was verified.
        kind: value of `Kind`.
        found: what is wrong.
        expected: what would have been right.
        remedy: what to do.
    """

    case: str
    file: str
    kind: str
    found: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.kind}: {self.found}; expected {self.expected}; {self.remedy}"


class Findings:
    """Collects faults and notices about files below one root.

    Attributes:
        faults: in the order in which they were found.
        notices: the same, for what is not wrong.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.faults: list[Fault] = []
        self.notices: list[Fault] = []

    def fault(self, kind: Kind, case: str, file: Path, found: str, expected: str, remedy: str) -> None:
        """Notes a fault."""
        self.faults.append(Fault(case, self.relative(file), kind.value, found, expected, remedy))

    def notice(self, kind: Kind, case: str, file: Path, found: str, expected: str, remedy: str) -> None:
        """Notes something that is not wrong."""
        self.notices.append(Fault(case, self.relative(file), kind.value, found, expected, remedy))

    def add(self, other: Findings) -> None:
        """Takes over what another one collected."""
        self.faults += other.faults
        self.notices += other.notices

    def relative(self, file: Path) -> str:
        """The path as it is printed: relative to the root where it is below it."""
        return file.relative_to(self.root).as_posix() if file.is_relative_to(self.root) else str(file)


@dataclass(frozen=True)
class Report:
    """What was verified and what was found.

    Attributes:
        root: the folder.
        layout: key of `layouts.LAYOUTS`.
        scheme: key of `labels.SCHEMES`.
        cases: number of cases.
        files: number of files that were read.
        faults: sorted by file.
        notices: sorted by file.
    """

    root: str
    layout: str
    scheme: str
    cases: int
    files: int
    faults: tuple[Fault, ...] = field(default=())
    notices: tuple[Fault, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """1 if there is a fault, else 0."""
        return 1 if self.faults else 0

    def summary(self) -> str:
        """One line: how many faults, in how much."""
        read = f"{_count(self.cases, 'case')} ({self.layout}, {_count(self.files, 'file')} read)"
        if not self.faults:
            return f"no faults in {read}"
        kinds = Counter(fault.kind for fault in self.faults)
        listed = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        return f"{_count(len(self.faults), 'fault')} in {read}: {listed}"

    def lines(self) -> list[str]:
        """Every fault and notice on a line of its own, then the summary."""
        faults = [f"fault: {fault}" for fault in self.faults]
        return [*faults, *(f"notice: {notice}" for notice in self.notices), self.summary()]

    def print(self) -> None:
        """Prints a table where somebody watches a terminal, plain lines where nobody does."""
        if sys.stdout.isatty() and (self.faults or self.notices):
            _print_table(self.faults, "fault", "red")
            _print_table(self.notices, "notice", "yellow")
            print(self.summary())
        else:
            print("\n".join(self.lines()))

    def as_dict(self) -> dict[str, Any]:
        """The report as plain types, for JSON."""
        return {**asdict(self), "faults": _rows(self.faults), "notices": _rows(self.notices)}

    def write_json(self, path: str | Path) -> Path:
        """Writes the report as JSON."""
        return write_json(path, self.as_dict())

    def write_csv(self, path: str | Path) -> Path:
        """Writes a table with one row a fault or notice; the first column, `severity`, says which."""
        columns = ["severity", *Fault.__dataclass_fields__]
        with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            writer.writerows({"severity": "fault", **row} for row in _rows(self.faults))
            writer.writerows({"severity": "notice", **row} for row in _rows(self.notices))
        return Path(path)


def _rows(faults: Iterable[Fault]) -> list[dict[str, str]]:
    return [asdict(fault) for fault in faults]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _print_table(faults: Iterable[Fault], title: str, colour: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    faults = list(faults)
    if not faults:
        return
    table = Table(show_lines=True, expand=True)
    table.add_column(f"file and {title}", ratio=2, overflow="fold")
    table.add_column("found, expected, what to do", ratio=3, overflow="fold")
    for fault in faults:
        where = Text.assemble(fault.file.replace("/", "/\n") + "\n", (fault.kind, f"bold {colour}"))
        what = Text.assemble(f"{fault.found}\n", (f"expected {fault.expected}\n", "dim"), fault.remedy)
        table.add_row(where, what)
    Console().print(table)
