"""A recipe: everything that decides a run, read from one TOML file.

    title = "…"
    [data]       name = "slices", then that data's options
    [network]    name, options        [loss]  name, options
    [optimiser]  name, rate, decay    [schedule]  name, options
    [budget]     batch, and one of epochs, steps, seconds
    [split]      folds or fractions, and which subset validates
    [engine]     precision, accumulation, clipping, slow weights, what is kept
    [quick.…]    the same tables again: what the quick profile changes; [full.…] likewise

A setting that a report does not state is the course's choice and written `batch = { value = 8, unstated = true }`.
Settings that do not exist, have the wrong type or contradict each other are refused by name.
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

FOLDER = Path(__file__).resolve().parent.parent / "recipes"
PROFILES = ("quick", "full")
CHOICES = ("data", "network", "loss", "optimiser", "schedule")
LENGTHS = ("epochs", "steps", "seconds")


@dataclass(frozen=True)
class Choice:
    """One of several things by name, with its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def table(self) -> dict[str, Any]:
        """As in the file."""
        return {"name": self.name, **self.options}


@dataclass(frozen=True)
class Budget:
    """How long a run trains; exactly one of epochs, steps and seconds is given.

    Attributes:
        batch: samples an optimiser step, over all devices.
        epochs: passes of `epoch_steps` steps.
        steps: optimiser steps.
        seconds: converted once into steps by a measured warm-up; the run records how many.
        epoch_steps: steps between two validations; 0: as many as it takes to draw every training sample once.
    """

    batch: int
    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0
    epoch_steps: int = 0


@dataclass(frozen=True)
class Division:
    """Who trains and who validates.

    Attributes:
        folds: of equal size, by patient; 0: fractions.
        fractions: of train and val.
        validation: subset that validates ("fold0", "val"); "none": all train; "all": all validate, where the data kind
            makes its own training cases.
    """

    folds: int = 0
    fractions: tuple[float, ...] = ()
    validation: str = "fold0"


@dataclass(frozen=True)
class Engine:
    """How the loop runs.

    Attributes:
        precision: "auto", bf16 where the device computes in it; "bf16" or "fp32" to insist.
        channels_last: memory order in which convolutions are quicker on most devices.
        accumulate: parts into which a batch is cut to save memory.
        clip: largest norm of the gradient; 0: not clipped.
        ema: decay of the slow weights, which are then validated and kept; 0: none.
        patience: epochs without a better validation after which the run stops; 0: never.
        keep: policies, "best_dice", "best_loss", "last"; the first decides `weights.safetensors`.
        keep_every: also keep the weights of every k-th epoch; 0: none.
        workers: processes that prepare batches; 0: the training process itself.
        start: weights file to begin with, instead of random weights; the optimiser begins anew.
    """

    precision: str = "auto"
    channels_last: bool = True
    accumulate: int = 1
    clip: float = 0.0
    ema: float = 0.0
    patience: int = 0
    keep: tuple[str, ...] = ("best_dice",)
    keep_every: int = 0
    workers: int = 0
    start: str = ""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run.

    Attributes:
        name: of the file.
        title: for headings.
        about: what it is and where it comes from.
        seed: of weights, order, augmentation and split.
        profile: "quick" or "full", applied already.
        unstated: settings that are the course's choice, as "budget.batch".
    """

    name: str
    title: str
    data: Choice
    network: Choice
    loss: Choice
    optimiser: Choice
    schedule: Choice
    budget: Budget
    split: Division = field(default_factory=Division)
    engine: Engine = field(default_factory=Engine)
    about: str = ""
    seed: int = 0
    profile: str = "full"
    unstated: tuple[str, ...] = ()

    def toml(self) -> str:
        """The recipe in full, every default written out; `load` reads it back to an equal recipe."""
        tables: dict[str, Any] = {name: getattr(self, name) for name in ("name", "title", "about", "seed", "profile")}
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, Choice):
                tables[part.name] = value.table()
            elif part.name in TABLES:
                tables[part.name] = {f.name: getattr(value, f.name) for f in fields(value)}
        for where in self.unstated:
            table, setting = where.split(".")
            tables[table][setting] = {"value": tables[table][setting], "unstated": True}
        return to_toml(tables)


TABLES = {"budget": Budget, "split": Division, "engine": Engine}
PLAIN = ("name", "title", "about", "seed", "profile")


def names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str | Path, profile: str = "full", changes: Mapping[str, Any] | None = None) -> Recipe:
    """Reads a recipe and applies a profile and changes, in this order.

    Args:
        name: one of `names()`, or a TOML file.
        profile: "quick" or "full".
        changes: settings by their place, {"budget.epochs": 3, "seed": 1}. A length of the budget takes the place of the
            one that was there; another `name` in a table, of the table's options.

    Raises:
        DataError: no such file, or not TOML.
        SettingError: an unknown, mistyped or contradictory setting.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = FOLDER / f"{name}.toml"
        if not path.is_file():
            raise unknown("recipe", str(name), names())
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError("no such file", where=path, expected="a recipe", remedy="see brainseg_utils/recipes") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"not TOML ({error})", where=path) from None
    return parse({"name": path.stem, **content}, profile, changes, str(path))


def parse(
    content: Mapping[str, Any], profile: str = "full", changes: Mapping[str, Any] | None = None, where: str = "recipe"
) -> Recipe:
    """A recipe from the tables of its file; arguments and errors as `load`."""
    if profile not in PROFILES:
        raise unknown("profile", profile, PROFILES)
    tables = {key: value for key, value in content.items() if key not in PROFILES}
    known = {*PLAIN, *CHOICES, *TABLES}
    for key in tables:
        if key not in known:
            raise unknown("table", key, known | set(PROFILES), where=where)
    if "profile" not in tables:  # a run's own recipe has its profile applied already
        tables = _apply(tables, _dotted(content.get(profile, {})), f"{where}, profile {profile}")
        tables["profile"] = profile
    tables, unstated = _unmark(_apply(tables, changes or {}, where))
    validity.check_plain(tables, PLAIN, where)
    parts: dict[str, Any] = {}
    for key in CHOICES:
        parts[key] = _choice(tables.get(key), key, where)
    for key, kind in TABLES.items():
        parts[key] = _record(kind, tables.get(key, {}), f"{where} [{key}]")
    recipe = Recipe(**{key: tables[key] for key in PLAIN if key in tables}, **parts, unstated=unstated)
    validity.check(recipe, where)
    return recipe


def _dotted(tables: Mapping[str, Any]) -> dict[str, Any]:
    """{"budget": {"epochs": 3}} to {"budget.epochs": 3}."""
    flat: dict[str, Any] = {}
    for table, value in tables.items():
        flat.update({f"{table}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {table: value})
    return flat


def _apply(tables: Mapping[str, Any], changes: Mapping[str, Any], where: str) -> dict[str, Any]:
    changed = {key: dict(value) if isinstance(value, Mapping) else value for key, value in tables.items()}
    for place, value in sorted(changes.items(), key=lambda item: not item[0].endswith(".name")):  # names first
        table, dot, setting = place.partition(".")
        if not dot:
            if table not in PLAIN:
                raise unknown("setting", place, PLAIN, where=where)
            changed[table] = value
            continue
        if table not in (*CHOICES, *TABLES):
            raise unknown("table", table, (*CHOICES, *TABLES), where=where)
        old = changed.get(table, {})
        if table == "budget" and setting in LENGTHS:
            old = {k: v for k, v in old.items() if k not in LENGTHS or f"budget.{k}" in changes}
        if setting == "name" and old.get("name") != value:
            old = {}
        changed[table] = {**old, setting: value}
    return changed


def _unmark(tables: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Takes the marks off `{ value = …, unstated = true }`."""
    plain, unstated = dict(tables), []
    for table in (*CHOICES, *TABLES):
        if not isinstance(plain.get(table), Mapping):
            continue
        plain[table] = dict(plain[table])
        for setting, value in plain[table].items():
            if isinstance(value, Mapping):
                if set(value) != {"value", "unstated"}:
                    raise SettingError(
                        f"{table}.{setting} = {dict(value)}", expected="a value, or { value = …, unstated = true }"
                    )
                plain[table][setting] = value["value"]
                unstated += [f"{table}.{setting}"] * bool(value["unstated"])
    return plain, tuple(unstated)


def _choice(table: Any, key: str, where: str) -> Choice:
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        raise SettingError(f"no [{key}] with a name", where=where, expected=f'[{key}] name = "…"')
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items() if k != "name"}
    return Choice(table["name"], options)


def _record(kind: Any, table: Mapping[str, Any], where: str) -> Any:
    known = {f.name: f for f in fields(kind)}
    for setting, value in table.items():
        if setting not in known:
            raise unknown("setting", setting, known, where=where)
        validity.check_type(setting, value, str(known[setting].type), where)
    for name, f in known.items():
        if f.default is MISSING and name not in table:
            raise SettingError(f"no {name}", where=where, expected=f"{name} = a number")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})
