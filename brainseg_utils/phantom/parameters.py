"""The phantom's numbers: one readable TOML file, read once into frozen, typed records.

A key that no record knows is refused with the nearest name, so that a misspelt setting never passes silently.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import tomllib
import typing
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from brainseg_utils.errors import SettingError, unknown
from brainseg_utils.phantom.contrast_settings import ContrastSettings
from brainseg_utils.phantom.settings import (
    Difficulty,
    Frame,
    GrowthSettings,
    LggSettings,
    RimSettings,
    ScannerSettings,
    StructureSettings,
    SubjectSettings,
    TumourSettings,
)


@dataclass(frozen=True)
class Parameters:
    """All of `parameters.toml`."""

    frame: dict[str, Frame]
    subject: SubjectSettings
    structures: StructureSettings
    tumour: TumourSettings
    growth: GrowthSettings
    rim: RimSettings
    contrast: ContrastSettings
    scanner: ScannerSettings
    difficulty: dict[str, Difficulty]
    lgg: LggSettings

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any number changes."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]

    def setting(self, difficulty: str) -> Difficulty:
        """The factors of a difficulty; a `SettingError` names the known ones."""
        if difficulty not in self.difficulty:
            raise unknown("difficulty", difficulty, self.difficulty)
        return self.difficulty[difficulty]


def parse(text: str, where: str | Path = "parameters.toml") -> Parameters:
    """Reads parameters from TOML text.

    Raises:
        SettingError: for text that is no TOML, an unknown or missing key, or a value of the wrong type.

    Example:
        >>> parse(builtin_text()).frame["sri24"].shape
        (240, 240, 155)
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"not TOML ({error})", where=where, remedy="mend the line it names") from None
    return _convert(Parameters, table, str(where))


def builtin_text() -> str:
    """The text of the package's own `parameters.toml`."""
    return resources.files("brainseg_utils.phantom").joinpath("parameters.toml").read_text(encoding="utf-8")


@functools.cache
def default() -> Parameters:
    """The package's own parameters, read once."""
    return parse(builtin_text())


def _convert(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind` (a record, a dict, a tuple or a number); errors say where in the file."""
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict and isinstance(value, dict):
        return {k: _convert(arguments[1], v, f"{where}: {k}") for k, v in value.items()}
    if origin is tuple and isinstance(value, list) and len(value) == len(arguments):
        return tuple(_convert(k, v, where) for k, v in zip(arguments, value, strict=True))
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    name = getattr(kind, "__name__", str(kind))
    raise SettingError(f"{value!r}", where=where, expected=name, remedy="compare with the package's parameters.toml")


def _record(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise SettingError(f"{value!r}", where=where, expected="a table", remedy="write it as [name] with keys")
    hints = typing.get_type_hints(kind)
    for key in value:
        if key not in hints:
            raise unknown("key", key, hints, where=where)
    missing = [key for key in hints if key not in value]
    if missing:
        raise SettingError(f"no key {missing[0]!r}", where=where, remedy="add it, as in the package's parameters.toml")
    return kind(**{key: _convert(hint, value[key], f"{where}: {key}") for key, hint in hints.items()})
