"""The errors that a reader of the course can do something about.

Every message says what was found, where, what was expected and what to do. The command line prints the
message on one line and exits with 2; anything that is not a `BrainsegError` is a defect of the package.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class BrainsegError(Exception):
    """A request or an input that cannot be used.

    Args:
        found: what is wrong, in one clause ("no file for modality t1c").
        where: the file, folder, case or setting that it is about.
        expected: what would have been right.
        remedy: what the reader can do now.

    Example:
        >>> print(BrainsegError("no cases", where="/data/x", expected="case folders", remedy="check the path"))
        /data/x: no cases; expected case folders; check the path
    """

    def __init__(
        self, found: str, *, where: str | Path | None = None, expected: str | None = None, remedy: str | None = None
    ) -> None:
        self.found, self.where, self.expected, self.remedy = found, where, expected, remedy
        parts = [found if where is None else f"{where}: {found}"]
        if expected:
            parts.append(f"expected {expected}")
        if remedy:
            parts.append(remedy)
        super().__init__("; ".join(parts))

    def __reduce__(self):  # keeps the fields when the error crosses a process boundary
        return (_rebuild, (type(self), self.found, self.where, self.expected, self.remedy))


def _rebuild(kind, found, where, expected, remedy):
    return kind(found, where=where, expected=expected, remedy=remedy)


class DataError(BrainsegError):
    """A file or folder whose content is not what its place promises."""


class LabelError(DataError):
    """Label values that the label scheme does not know, or that are not whole numbers."""


class GeometryError(DataError):
    """Shapes, affines or orientations that do not belong together."""


class SettingError(BrainsegError):
    """An unknown or contradictory setting."""


def unknown(kind: str, name: object, known: Iterable[str], where: str | Path | None = None) -> SettingError:
    """The error for a name that is not in a table, with the nearest name that is.

    Example:
        >>> print(unknown("layout", "brats2032", ["brats2020", "brats2023"]))
        unknown layout 'brats2032'; expected one of brats2020, brats2023; did you mean 'brats2023'?
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    return SettingError(
        f"unknown {kind} {name!r}",
        where=where,
        expected="one of " + ", ".join(names),
        remedy=f"did you mean {near[0]!r}?" if near else "choose one of these",
    )
