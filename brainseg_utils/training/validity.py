"""What a recipe may say: known names, right types, no contradictions. Nothing is built here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from brainseg_utils.errors import SettingError, unknown

if TYPE_CHECKING:
    from brainseg_utils.training.recipe import Recipe

PRECISIONS = ("auto", "bf16", "fp32")
POLICIES = ("best_dice", "best_loss", "last")
OPTIMISERS: Mapping[str, tuple[str, ...]] = {
    "adam": ("rate",),
    "adamw": ("rate", "decay"),
    "sgd": ("rate", "decay", "momentum"),
}
FROM_DATA = ("in_channels", "out_channels")
TYPES = {"int": int, "float": (int, float), "str": str, "bool": bool}


def check_type(setting: str, value: Any, declared: str, where: str) -> None:
    """Refuses a value whose type is not the declared one ("int", "float", "tuple[str, ...]" …)."""
    text = declared.removesuffix(" | None")
    if text.startswith("tuple["):
        if not isinstance(value, list | tuple):
            raise _mistyped(setting, value, "a list", where)
        for part in value:
            check_type(setting, part, text[len("tuple[") :].split(",")[0].rstrip("]"), where)
    elif text in TYPES:
        wrong_bool = isinstance(value, bool) != (text == "bool")
        if wrong_bool or not isinstance(value, TYPES[text]):  # type: ignore[arg-type]
            raise _mistyped(setting, value, {"int": "a whole number", "float": "a number"}.get(text, text), where)


def check_plain(tables: Mapping[str, Any], plain: Sequence[str], where: str) -> None:
    """Types of the settings that stand in no table."""
    if "title" not in tables:
        raise SettingError("no title", where=where, expected='title = "…"')
    for name in plain:
        if name in tables:
            check_type(name, tables[name], "int" if name == "seed" else "str", where)


def check(recipe: Recipe, where: str) -> None:
    """Refuses names that do not exist and settings that contradict each other.

    Raises:
        SettingError: the first that is found.
    """
    _names(recipe, where)
    _budget(recipe, where)
    _engine(recipe, where)
    _split(recipe, where)


def _names(recipe: Recipe, where: str) -> None:
    from brainseg_utils.models import registry
    from brainseg_utils.training import data, losses, schedules

    data.check(recipe.data.name, recipe.data.options)
    check_options(data.KINDS[recipe.data.name], recipe.data.options, f"{where} [data]")
    entry = registry.check(recipe.network.name, recipe.network.options)
    check_options(registry.kind(entry), recipe.network.options, f"{where} [network]")
    for option in FROM_DATA:
        if option in recipe.network.options:
            raise SettingError(f"network.{option}", where=where, expected="no such setting: the data decides it")
    losses.check(recipe.loss.name, recipe.loss.options)
    check_options(losses.LOSSES[recipe.loss.name], recipe.loss.options, f"{where} [loss]")
    losses.build(recipe.loss.name, **recipe.loss.options)
    if (recipe.data.name == "masked") != (recipe.loss.name == "filled"):
        raise SettingError(
            f"loss {recipe.loss.name} with data {recipe.data.name}",
            where=where,
            expected='loss "filled" with data "masked", where the label is an image, and with no other',
        )
    schedule = recipe.schedule
    if schedule.name in schedules.SCHEDULES:
        check_options(schedules.SCHEDULES[schedule.name], schedule.options, f"{where} [schedule]")
    schedules.build(schedule.name, **schedule.options)
    _optimiser(recipe, where)


def _optimiser(recipe: Recipe, where: str) -> None:
    name, options = recipe.optimiser.name, recipe.optimiser.options
    if name not in OPTIMISERS:
        raise unknown("optimiser", name, OPTIMISERS, where=where)
    for option, value in options.items():
        if option not in OPTIMISERS[name]:
            raise unknown("option", option, OPTIMISERS[name], where=f"{where}, optimiser {name}")
        check_type(option, value, "float", f"{where} [optimiser]")
    if options.get("rate", 0) <= 0:
        raise SettingError("no rate above 0", where=f"{where} [optimiser]", expected="rate = 1e-3, for example")


def check_options(builder: Callable[..., Any], options: Mapping[str, Any], where: str) -> None:
    """Compares options with the types of the parameters of what they are for."""
    for name, parameter in inspect.signature(builder).parameters.items():
        if name in options:
            check_type(name, options[name], str(parameter.annotation), where)


def _budget(recipe: Recipe, where: str) -> None:
    budget, parts = recipe.budget, recipe.engine.accumulate
    given = [name for name in ("epochs", "steps", "seconds") if getattr(budget, name)]
    if len(given) != 1:
        raise SettingError(
            f"{' and '.join(given) or 'neither epochs, steps nor seconds'} in [budget]",
            where=where,
            expected="exactly one of epochs, steps and seconds",
        )
    for name in ("batch", given[0]):
        if getattr(budget, name) <= 0:
            raise SettingError(f"budget.{name} = {getattr(budget, name)}", where=where, expected="a number above 0")
    if parts < 1 or budget.batch % parts:
        raise SettingError(
            f"engine.accumulate = {parts} with budget.batch = {budget.batch}",
            where=where,
            expected="a number of parts that divides the batch",
        )


def _engine(recipe: Recipe, where: str) -> None:
    engine = recipe.engine
    if engine.precision not in PRECISIONS:
        raise unknown("precision", engine.precision, PRECISIONS, where=where)
    for policy in engine.keep:
        if policy not in POLICIES:
            raise unknown("policy", policy, POLICIES, where=where)
    if not engine.keep:
        raise SettingError("engine.keep is empty", where=where, expected=f"some of {', '.join(POLICIES)}")
    if not 0 <= engine.ema < 1:
        raise SettingError(f"engine.ema = {engine.ema}", where=where, expected="a decay from 0 to below 1")
    for name in ("clip", "patience", "keep_every", "workers"):
        if getattr(engine, name) < 0:
            raise SettingError(f"engine.{name} = {getattr(engine, name)}", where=where, expected="0 or more")


def _split(recipe: Recipe, where: str) -> None:
    from brainseg_utils.training.data import MADE

    split, engine = recipe.split, recipe.engine
    made = recipe.data.name in MADE
    if made != (split.validation == "all") or (made and (split.folds or split.fractions)):
        raise SettingError(
            f'split.validation = "{split.validation}" with data {recipe.data.name}',
            where=f"{where} [split]",
            expected='"all", without folds and fractions: training cases are made' if made else "a subset, or none",
        )
    if made:
        return
    if bool(split.folds) == bool(split.fractions):
        raise SettingError(
            "folds and fractions" if split.folds else "neither folds nor fractions",
            where=f"{where} [split]",
            expected="exactly one of the two",
        )
    if split.validation == "none":
        wants = {f"engine.keep = {p}": p != "last" for p in engine.keep}
        wants |= {"engine.patience": engine.patience > 0, "schedule plateau": recipe.schedule.name == "plateau"}
        for name, needed in wants.items():
            if needed:
                raise SettingError(
                    f'{name} with split.validation = "none"',
                    where=where,
                    expected="a subset that validates",
                    remedy='or engine.keep = ["last"]',
                )
        return
    subsets = [f"fold{n}" for n in range(split.folds)] or ["val", "test"][: len(split.fractions) - 1]
    if split.validation not in subsets:
        raise unknown("subset", split.validation, [*subsets, "none"], where=f"{where} [split]")


def _mistyped(setting: str, value: Any, expected: str, where: str) -> SettingError:
    return SettingError(f"{setting} = {value!r}", where=where, expected=expected)
