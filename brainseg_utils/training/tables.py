"""A recipe's tables: read from TOML, changed by a profile and by hand, checked one by one, and written back.

Two kinds of recipe say things in the same way: `recipe`, one network, and `gan_recipe`, two that play against each
other. A `Form` says which tables a kind has; what they may say together is checked by the kind itself.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from brainseg_utils.errors import DataError, SettingError, unknown
from brainseg_utils.training import validity
from brainseg_utils.training.toml import to_toml

PROFILES = ("quick", "full")
PLAIN = ("name", "title", "about", "seed", "profile")
"""Settings that stand in no table."""
MARK = ("value", "unstated")


@dataclass(frozen=True)
class Choice:
    """One of several things by name, with its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def table(self) -> dict[str, Any]:
        """As in the file."""
        return {"name": self.name, **self.options}


@dataclass(frozen=True)
class Form:
    """Which tables the recipes of one kind have.

    Attributes:
        folder: of the recipes that come with the package.
        choices: tables with a name and its options.
        records: tables of settings, and the dataclass whose fields they are.
        one_of: places ("budget.epochs") of which a changed one takes the place of the others.

    Example:
        >>> form = Form(Path("recipes"), ("data",), {})
        >>> marked = {"title": "a", "data": {"name": "slices", "size": {"value": 64, "unstated": True}}}
        >>> filled = form.fill(marked, "quick", {"data.depth": 3}, "a.toml")
        >>> filled["data"], filled["unstated"], filled["profile"]
        (Choice(name='slices', options={'size': 64, 'depth': 3}), ('data.size',), 'quick')
    """

    folder: Path
    choices: tuple[str, ...]
    records: Mapping[str, Any]
    one_of: tuple[str, ...] = ()

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of all tables, in the order in which they are written."""
        return (*self.choices, *self.records)

    def names(self) -> list[str]:
        """The recipes that come with the package."""
        return sorted(path.stem for path in self.folder.glob("*.toml"))

    def read(self, name: str | Path) -> tuple[dict[str, Any], str]:
        """A file's content and its place, for `fill`.

        Args:
            name: one of `names()`, or a TOML file.

        Raises:
            DataError: no such file, or not TOML.
            SettingError: no such recipe.
        """
        path = Path(name)
        if path.suffix != ".toml":
            path = self.folder / f"{name}.toml"
            if not path.is_file():
                raise unknown("recipe", str(name), self.names())
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            remedy = f"or name one of {', '.join(self.names())}"
            raise DataError("no such file", where=path, expected="a recipe", remedy=remedy) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"not TOML ({error})", where=path, expected="a recipe") from None
        return {"name": path.stem, **content}, str(path)

    def fill(
        self, content: Mapping[str, Any], profile: str, changes: Mapping[str, Any] | None, where: str
    ) -> dict[str, Any]:
        """What a recipe is made of, after a profile and then changes are applied.

        Args:
            content: tables of a file, with those of the profiles in "quick" and "full".
            profile: "quick" or "full"; a run's own recipe names its profile and has it applied already.
            changes: settings by their place, {"budget.epochs": 3, "seed": 1}. Another `name` in a table takes the place
                of the table's options, too.
            where: of errors.

        Returns:
            The plain settings that are given, a `Choice` or record for each table, and "unstated": places of settings
            that were marked `{ value = …, unstated = true }`.

        Raises:
            SettingError: a setting or table that is unknown, mistyped or missing, or an ill mark.
        """
        if profile not in PROFILES:
            raise unknown("profile", profile, PROFILES)
        given = {key: value for key, value in content.items() if key not in PROFILES}
        for key, value in given.items():
            if key not in PLAIN:
                self._check_table(key, value, where)
        if "profile" not in given:
            given = self._apply(given, _places(content.get(profile, {}), profile, where), f"{where}, profile {profile}")
            given["profile"] = profile
        given, unstated = self._unmark(self._apply(given, changes or {}, where), where)
        validity.check_plain(given, PLAIN, where)
        if given["profile"] not in PROFILES:
            raise unknown("profile", given["profile"], PROFILES, where=where)
        filled = {key: given[key] for key in PLAIN if key in given}
        filled |= {key: _choice(given.get(key, {}), key, where) for key in self.choices}
        filled |= {key: _record(kind, given.get(key, {}), f"{where} [{key}]") for key, kind in self.records.items()}
        return {**filled, "unstated": unstated}

    def write(self, recipe: Any) -> str:
        """A recipe as TOML, every default written out; from `fill` comes the same again."""
        tables: dict[str, Any] = {name: getattr(recipe, name) for name in PLAIN}
        tables |= {name: getattr(recipe, name).table() for name in self.choices}
        for name, kind in self.records.items():
            tables[name] = {f.name: getattr(getattr(recipe, name), f.name) for f in fields(kind)}
        for place in recipe.unstated:
            table, setting = place.split(".")
            tables[table][setting] = dict(zip(MARK, (tables[table][setting], True), strict=True))
        return to_toml(tables)

    def _check_table(self, key: str, value: Any, where: str) -> None:
        if key not in self.tables:
            raise unknown("table", key, (*PLAIN, *self.tables, *PROFILES), where=where)
        if not isinstance(value, Mapping):
            raise SettingError(f"{key} = {value!r}", where=where, expected=f"a table, [{key}]")

    def _apply(self, tables: Mapping[str, Any], changes: Mapping[str, Any], where: str) -> dict[str, Any]:
        changed = {key: dict(value) if isinstance(value, Mapping) else value for key, value in tables.items()}
        for place, value in sorted(changes.items(), key=lambda item: not item[0].endswith(".name")):  # names first
            table, dot, setting = place.partition(".")
            if not dot:
                if table not in PLAIN:
                    raise unknown("setting", place, PLAIN, where=where)
                changed[table] = value
                continue
            if table not in self.tables:
                raise unknown("table", table, self.tables, where=where)
            old = changed.get(table, {})
            if place in self.one_of:
                replaced = {other for other in self.one_of if other not in changes}
                old = {k: v for k, v in old.items() if f"{table}.{k}" not in replaced}
            if setting == "name" and old.get("name") != value:
                old = {}
            changed[table] = {**old, setting: value}
        return changed

    def _unmark(self, tables: Mapping[str, Any], where: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Takes the marks off; places of those that say "unstated", in the order in which they are written."""
        plain, unstated = dict(tables), []
        for table in self.tables:
            order = [f.name for f in fields(self.records[table])] if table in self.records else ["name"]
            values = tables.get(table, {})
            for setting in sorted(values, key=lambda name: order.index(name) if name in order else len(order)):
                value, place = values[setting], f"{table}.{setting}"
                if isinstance(value, Mapping):
                    _check_mark(value, place, where)
                    plain[table] = {**plain[table], setting: value["value"]}
                    unstated += [place] * value["unstated"]
        return plain, tuple(unstated)


def _check_mark(value: Mapping[str, Any], place: str, where: str) -> None:
    if set(value) != set(MARK) or not isinstance(value["unstated"], bool):
        expected = "a value, or { value = …, unstated = true }"
        raise SettingError(f"{place} = {dict(value)}", where=where, expected=expected)


def _places(tables: Any, profile: str, where: str) -> dict[str, Any]:
    """A profile's {"budget": {"epochs": 3}} to {"budget.epochs": 3}."""
    if not isinstance(tables, Mapping):
        raise SettingError(f"{profile} = {tables!r}", where=where, expected=f"tables, [{profile}.budget] for example")
    flat: dict[str, Any] = {}
    for table, value in tables.items():
        flat.update({f"{table}.{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {table: value})
    return flat


def _choice(table: Mapping[str, Any], key: str, where: str) -> Choice:
    if not isinstance(table.get("name"), str):
        raise SettingError(f"no [{key}] with a name", where=where, expected=f'[{key}] name = "…"')
    return Choice(table["name"], {k: _frozen(v) for k, v in table.items() if k != "name"})


def _record(kind: Any, table: Mapping[str, Any], where: str) -> Any:
    known = {f.name: f for f in fields(kind)}
    for setting, value in table.items():
        if setting not in known:
            raise unknown("setting", setting, known, where=where)
        validity.check_type(setting, value, str(known[setting].type), where)
    for name, f in known.items():
        if f.default is MISSING and name not in table:
            raise SettingError(f"no {name}", where=where, expected=f"{name} = a number")
    return kind(**{k: _frozen(v) for k, v in table.items()})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
