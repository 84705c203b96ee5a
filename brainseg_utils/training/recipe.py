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

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brainseg_utils.training import validity
from brainseg_utils.training.tables import PROFILES, Choice, Form

__all__ = ["PROFILES", "Budget", "Choice", "Division", "Engine", "Recipe", "load", "names", "parse"]


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
        return FORM.write(self)


FORM = Form(
    folder=Path(__file__).resolve().parent.parent / "recipes",
    choices=("data", "network", "loss", "optimiser", "schedule"),
    records={"budget": Budget, "split": Division, "engine": Engine},
    one_of=("budget.epochs", "budget.steps", "budget.seconds"),
)


def names() -> list[str]:
    """The recipes that come with the package."""
    return FORM.names()


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
    content, where = FORM.read(name)
    return parse(content, profile, changes, where)


def parse(
    content: Mapping[str, Any], profile: str = "full", changes: Mapping[str, Any] | None = None, where: str = "recipe"
) -> Recipe:
    """A recipe from the tables of its file; arguments and errors as `load`."""
    recipe = Recipe(**FORM.fill(content, profile, changes, where))
    validity.check(recipe, where)
    return recipe
