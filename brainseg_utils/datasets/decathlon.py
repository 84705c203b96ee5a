"""The `dataset.json` of a Decathlon folder (arXiv 2106.05735): which files there are and which channel is what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from brainseg_utils.datasets.layouts import MODALITIES, canonical_modality
from brainseg_utils.errors import BrainsegError, DataError


class Entry(NamedTuple):
    """One case of the index: "training" or "test", and file names relative to the folder."""

    part: str
    image: str
    label: str | None


def is_decathlon(path: Path) -> bool:
    """Whether a `dataset.json` is a Decathlon index: it lists images and modalities, or stands beside their folder."""
    if (path.parent / "imagesTr").is_dir():
        return True
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(index, dict) and "modality" in index and ("training" in index or "test" in index)


def read_decathlon_index(root: Path) -> dict:
    """The `dataset.json` of a Decathlon folder with its channel order as canonical modality names under "channels".

    Raises:
        DataError: not valid JSON, or its modalities are not the four of the brain tumour task.
    """
    path = root / "dataset.json"
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        channels = {canonical_modality(str(name)): int(number) for number, name in index["modality"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BrainsegError) as error:
        raise unusable_index(path, f"{type(error).__name__}: {error}") from None
    if sorted(channels) != sorted(MODALITIES) or sorted(channels.values()) != list(range(len(MODALITIES))):
        raise unusable_index(path, f"modality {index['modality']}")
    return {**index, "channels": channels}


def unusable_index(path: Path, found: str) -> DataError:
    """The error for a `dataset.json` that cannot be used."""
    return DataError(
        f"unusable Decathlon index ({found})",
        where=path,
        expected='"modality" with four names, 0 to 3, and lists "training" and "test"',
        remedy="take dataset.json from the data set's archive",
    )


def decathlon_entries(index: dict, path: Path) -> tuple[list[Entry], list[object]]:
    """The entries of a Decathlon index, and what stands among them that is none.

    Raises:
        DataError: "training" or "test" is not a list.
    """
    entries: list[Entry] = []
    wrong: list[object] = []
    for part in ("training", "test"):
        listed = index.get(part, [])
        if not isinstance(listed, list):
            raise unusable_index(path, f"{part!r} is not a list")
        for entry in listed:
            both = (entry.get("image"), entry.get("label")) if isinstance(entry, dict) else (entry, None)
            if isinstance(both[0], str) and (both[1] is None or isinstance(both[1], str)):
                entries.append(Entry(part, both[0], both[1]))
            else:
                wrong.append(entry)
    return entries, wrong
