"""What there is to score: one job a case, made by matching files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from brainseg_utils.errors import DataError


@dataclass(frozen=True)
class Job:
    """One case to score.

    Attributes:
        case: its id.
        truth: the mask's file, or the masks of a patient's slices in order.
        prediction: the same for the prediction; empty if there is none.
        scheme: name of the label scheme of both.
    """

    case: str
    truth: tuple[Path, ...]
    prediction: tuple[Path, ...]
    scheme: str


@dataclass(frozen=True)
class Matched:
    """What two folders have in common.

    Attributes:
        jobs: cases of the truth, sorted by id, with or without a prediction.
        faults: cases that cannot be scored, one message each.
        warnings: what was left out or guessed, one message each.
    """

    jobs: tuple[Job, ...]
    faults: tuple[str, ...]
    warnings: tuple[str, ...]


def walk(root: Path) -> Iterator[Path]:
    """Every visible file below a folder, sorted; links are followed, each folder once."""
    seen: set[str] = set()
    for folder, directories, files in os.walk(root, followlinks=True):
        here = os.path.realpath(folder)
        if here in seen:
            directories.clear()
            continue
        seen.add(here)
        directories[:] = sorted(d for d in directories if not d.startswith("."))
        yield from (Path(folder) / name for name in sorted(files) if not name.startswith("."))


def no_masks(folder: Path, expected: str) -> DataError:
    """The error for a folder without any mask."""
    return DataError("no masks found", where=folder, expected=expected, remedy="check the path")
