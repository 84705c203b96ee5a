"""Which weights are worth keeping, and when to stop: judged after each validation, on numbers alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from brainseg_utils.training.recipe import Engine


@dataclass
class State:
    """Where a run is: what a checkpoint holds beside the tensors.

    Attributes:
        step: steps done.
        best_dice, best_loss: of the validations so far.
        waited: validations since the last better one.
        stopped: patience came to its end.
        schedule: what `schedules.Plateau` has seen.
        rows: of the history.
    """

    step: int = 0
    best_dice: float = -math.inf
    best_loss: float = math.inf
    waited: int = 0
    stopped: bool = False
    schedule: dict[str, float] = field(default_factory=dict)
    rows: list[dict[str, float]] = field(default_factory=list)


def judge(state: State, engine: Engine, epoch: int, dice: float | None, loss: float | None) -> list[str]:
    """Notes a validation in the state, and says what to write.

    The highest Dice is the best, the lowest loss is; an equal one is not better. Patience watches the first policy that
    is kept (the Dice, if that is "last").

    Args:
        state: changed.
        engine: of the recipe.
        epoch: counted from 1.
        dice: mean validation Dice; None where nobody validates.
        loss: validation loss.

    Returns:
        Names of the weights to write now: policies, and "epoch-0005" for every k-th epoch.

    Example:
        >>> state, engine = State(), Engine(keep=("best_dice", "best_loss"), patience=2)
        >>> [judge(state, engine, 1, d, l) for d, l in ((0.5, 0.4), (0.6, 0.5), (0.55, 0.3), (0.6, 0.3))]
        [['best_dice', 'best_loss'], ['best_dice'], ['best_loss'], []]
        >>> state.best_dice, state.best_loss, state.stopped
        (0.6, 0.3, True)
    """
    names: list[str] = []
    if dice is not None and loss is not None:
        better = {"best_dice": dice > state.best_dice, "best_loss": loss < state.best_loss}
        if better["best_dice"]:
            state.best_dice = dice
        if better["best_loss"]:
            state.best_loss = loss
        names += [policy for policy in engine.keep if better.get(policy)]
        watched = engine.keep[0] if engine.keep[0] in better else "best_dice"
        state.waited = 0 if better[watched] else state.waited + 1
        state.stopped = 0 < engine.patience <= state.waited
    if engine.keep_every and epoch % engine.keep_every == 0:
        names.append(f"epoch-{epoch:04d}")
    return names
