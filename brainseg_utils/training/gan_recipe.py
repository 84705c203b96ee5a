"""The recipe of a generator that is trained against a discriminator, read from one TOML file.

    title = "…"
    [data]           name = "phantoms" or "volumes", then that data's options
    [generator]      name, options        [discriminator]  name, options
    [loss]           adversarial = "hinge", and the weights of what is added to it
    [rates]          of both optimisers (Adam)
    [budget]         batch, steps, epoch_steps
    [engine]         precision, accumulation, slow weights, what keeps the two in balance
    [quick.…]        the same tables again: what the quick profile changes; [full.…] likewise

Two networks, two rates and a sum of losses do not fit the tables of `recipe`; its way of saying things is the same:
`batch = { value = 2, unstated = true }` marks what a report does not state, and what does not exist is refused by name.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainseg_utils.errors import SettingError, unknown
from brainseg_utils.training import data, validity
from brainseg_utils.training.tables import Choice, Form

if TYPE_CHECKING:
    from torch import nn

NETWORKS: Mapping[str, tuple[str, str]] = {
    "painter": ("brainseg_utils.models.painter", "Painter"),
    "patch_critic": ("brainseg_utils.models.painter", "PatchCritic"),
    "generator_r1": ("brainseg_utils.models.gan_r1", "GeneratorR1"),
    "discriminator_r1": ("brainseg_utils.models.gan_r1", "DiscriminatorR1"),
}
PAIRS: Mapping[str, str] = {"painter": "patch_critic", "generator_r1": "discriminator_r1"}
"""Generator to the discriminator that it can play against."""
KINDS = ("phantoms", "volumes")
DECIDED = ("regions", "exclusive", "modalities", "dropout")
"""Options of the data that the game decides: class numbers of all tissues, four modalities."""
ADVERSARIAL = ("hinge", "least_squares", "bce")


@dataclass(frozen=True)
class Loss:
    """What the generator minimises.

    Attributes:
        adversarial: "hinge", "least_squares" or "bce".
        weight: of the adversarial loss.
        reconstruction: weight of the mean distance from the real tissue inside the hole; 0: none.
        features: weight of the distance between what the discriminator's layers see; 0: none.
    """

    adversarial: str = "hinge"
    weight: float = 1.0
    reconstruction: float = 0.0
    features: float = 0.0


@dataclass(frozen=True)
class Rates:
    """Of Adam, for both networks.

    Attributes:
        generator, discriminator: learning rates at the beginning; they fall to 0 along a line.
        beta: decay of Adam's mean gradient.
    """

    generator: float = 1e-3
    discriminator: float = 1e-3
    beta: float = 0.5


@dataclass(frozen=True)
class Length:
    """How long a run trains.

    Attributes:
        batch: patches a step.
        steps: of both optimisers.
        epoch_steps: between two rows of the history.
    """

    batch: int = 4
    steps: int = 1000
    epoch_steps: int = 50


@dataclass(frozen=True)
class GanEngine:
    """How the loop runs.

    Attributes:
        precision: "auto", bf16 where the device computes in it; "bf16" or "fp32" to insist.
        accumulate: parts into which a batch is cut to save memory.
        ema: decay of the generator's slow weights, which are kept.
        ceiling: the discriminator rests while its running accuracy is above this; 1: it never rests.
        clip: largest norm of either gradient; 0: not clipped.
        start: weights file of a generator to begin with.
    """

    precision: str = "auto"
    accumulate: int = 1
    ema: float = 0.99
    ceiling: float = 1.0
    clip: float = 0.0
    start: str = ""


@dataclass(frozen=True)
class GanRecipe:
    """Everything that decides a run; tables as in the module's text."""

    name: str
    title: str
    data: Choice
    generator: Choice
    discriminator: Choice
    loss: Loss = field(default_factory=Loss)
    rates: Rates = field(default_factory=Rates)
    budget: Length = field(default_factory=Length)
    engine: GanEngine = field(default_factory=GanEngine)
    about: str = ""
    seed: int = 0
    profile: str = "full"
    unstated: tuple[str, ...] = ()

    def toml(self) -> str:
        """The recipe in full, every default written out; `parse` reads it back to an equal recipe."""
        return FORM.write(self)


FORM = Form(
    folder=Path(__file__).resolve().parent.parent / "recipes" / "gan",
    choices=("data", "generator", "discriminator"),
    records={"loss": Loss, "rates": Rates, "budget": Length, "engine": GanEngine},
)


def names() -> list[str]:
    """The recipes that come with the package."""
    return FORM.names()


def load(name: str | Path, profile: str = "full", changes: Mapping[str, Any] | None = None) -> GanRecipe:
    """Reads a recipe and applies a profile and changes, in this order.

    Args:
        name: one of `names()`, or a TOML file.
        profile: "quick" or "full".
        changes: settings by their place, {"budget.steps": 30, "seed": 1}. Another `name` in a table takes the place of
            the table's options, too.

    Raises:
        DataError: no such file, or not TOML.
        SettingError: an unknown, mistyped or contradictory setting.

    Example:
        >>> recipe = load("course_painter", "quick", {"seed": 3})
        >>> recipe.generator.name, recipe.discriminator.name, recipe.seed
        ('painter', 'patch_critic', 3)
    """
    content, where = FORM.read(name)
    return parse(content, profile, changes, where)


def parse(
    content: Mapping[str, Any], profile: str = "full", changes: Mapping[str, Any] | None = None, where: str = "recipe"
) -> GanRecipe:
    """A recipe from the tables of its file; arguments and errors as `load`."""
    recipe = GanRecipe(**FORM.fill(content, profile, changes, where))
    _check(recipe, where)
    return recipe


def build(choice: Choice) -> nn.Module:
    """A network with random weights."""
    return _class(choice.name)(**choice.options)


def _class(name: str) -> type[nn.Module]:
    module, kind = NETWORKS[name]
    return getattr(importlib.import_module(module), kind)


def _check(recipe: GanRecipe, where: str) -> None:
    """Refuses names that do not exist and settings that contradict each other."""
    if recipe.data.name not in KINDS:
        raise unknown("kind of data", recipe.data.name, KINDS, where=where)
    for option in DECIDED:
        if option in recipe.data.options:
            raise SettingError(f"data.{option}", where=where, expected="no such setting: the game decides it")
    data.check(recipe.data.name, recipe.data.options)
    validity.check_options(data.KINDS[recipe.data.name], recipe.data.options, f"{where} [data]")
    for part, known in (("generator", PAIRS), ("discriminator", tuple(PAIRS.values()))):
        choice = getattr(recipe, part)
        if choice.name not in known:
            raise unknown(part, choice.name, known, where=where)
        parameters = inspect.signature(_class(choice.name)).parameters
        for option in choice.options:
            if option not in parameters:
                raise unknown("option", option, parameters, where=f"{where} [{part}]")
        validity.check_options(_class(choice.name), choice.options, f"{where} [{part}]")
    if recipe.discriminator.name != PAIRS[recipe.generator.name]:
        raise SettingError(
            f"discriminator {recipe.discriminator.name} with generator {recipe.generator.name}",
            where=where,
            expected=PAIRS[recipe.generator.name],
        )
    if recipe.loss.adversarial not in ADVERSARIAL:
        raise unknown("adversarial loss", recipe.loss.adversarial, ADVERSARIAL, where=where)
    if recipe.engine.precision not in validity.PRECISIONS:
        raise unknown("precision", recipe.engine.precision, validity.PRECISIONS, where=where)
    budget, parts = recipe.budget, recipe.engine.accumulate
    if min(budget.batch, budget.steps, budget.epoch_steps, parts) < 1 or budget.batch % parts:
        raise SettingError(
            f"budget {budget}, accumulate {parts}",
            where=where,
            expected="whole numbers above 0, and a batch that divides into the parts",
        )
    if min(recipe.rates.generator, recipe.rates.discriminator) <= 0 or not 0 <= recipe.engine.ema < 1:
        raise SettingError(
            f"{recipe.rates}, ema {recipe.engine.ema}", where=where, expected="rates above 0, ema below 1"
        )
