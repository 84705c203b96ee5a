"""The learning rate of every step, as a share of the recipe's rate.

A schedule is a function of the step, the number of steps and the length of an epoch, and of nothing else: step 70 of
100 has its rate whether the run was interrupted or not. `plateau` alone looks at the validation loss, and keeps what it
has seen as a small dictionary, which the checkpoint holds.

Sources: cosine and warm restarts, Loshchilov and Hutter, arXiv 1608.03983; one-cycle, Smith, arXiv 1803.09820.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from brainseg_utils.errors import SettingError, unknown


class Constant:
    """The rate stays, after a linear warm-up.

    Args:
        warmup: share of all steps in which the rate rises from nearly 0.
    """

    def __init__(self, warmup: float = 0.0) -> None:
        if not 0 <= warmup < 1:
            raise SettingError(f"warmup = {warmup}", expected="a share of the steps, 0 to below 1")
        self.warmup = warmup

    def factor(self, step: int, steps: int, epoch_steps: int) -> float:
        """The share of the rate at a step.

        Args:
            step: 0 is the first.
            steps: of the whole run.
            epoch_steps: of one epoch.
        """
        warm = round(self.warmup * steps)
        return (step + 1) / (warm + 1) if step < warm else self.after(step - warm, steps - warm, epoch_steps)

    def after(self, step: int, steps: int, epoch_steps: int) -> float:
        """The share at a step counted from the end of the warm-up."""
        return 1.0

    def observe(self, loss: float) -> None:
        """Told the validation loss at the end of each epoch."""

    def state(self) -> dict[str, float]:
        """What a checkpoint must hold."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Goes on from `state`."""


class Cosine(Constant):
    """From the rate down to `floor` along half a cosine.

    Args:
        warmup: as `Constant`.
        floor: share of the rate at the end.

    Example:
        >>> [round(Cosine().factor(step, 4, 1), 3) for step in range(5)]
        [1.0, 0.854, 0.5, 0.146, 0.0]
    """

    def __init__(self, warmup: float = 0.0, floor: float = 0.0) -> None:
        super().__init__(warmup)
        self.floor = floor

    def after(self, step: int, steps: int, epoch_steps: int) -> float:
        """The share at a step after the warm-up."""
        return _half_cosine(step / max(steps, 1), self.floor)


class Restarts(Constant):
    """A cosine that begins anew.

    Args:
        cycle: epochs of the first cosine. R4: 10.
        growth: each cosine is this many times longer than the one before.
        floor: share of the rate at its end.
        warmup: as `Constant`.

    Example:
        >>> [round(Restarts(cycle=2).factor(step, 4, 1), 3) for step in range(4)]
        [1.0, 0.5, 1.0, 0.5]
    """

    def __init__(self, cycle: float = 10, growth: float = 1.0, floor: float = 0.0, warmup: float = 0.0) -> None:
        super().__init__(warmup)
        if cycle <= 0 or growth < 1:
            raise SettingError(f"cycle = {cycle}, growth = {growth}", expected="a cycle above 0, growth of 1 or more")
        self.cycle, self.growth, self.floor = cycle, growth, floor

    def after(self, step: int, steps: int, epoch_steps: int) -> float:
        """The share at a step after the warm-up."""
        length = self.cycle * epoch_steps
        place = float(step)
        while place >= length:
            place -= length
            length *= self.growth
        return _half_cosine(place / length, self.floor)


class OneCycle(Constant):
    """Up to the rate, then far below where it began, both along half a cosine.

    Args:
        rise: share of the steps until the rate is reached.
        start: share of the rate at the first step.
        end: share of the rate at the last step.
    """

    def __init__(self, rise: float = 0.3, start: float = 0.04, end: float = 4e-6) -> None:
        super().__init__()
        if not 0 < rise < 1:
            raise SettingError(f"rise = {rise}", where="schedule one_cycle", expected="a share between 0 and 1")
        self.rise, self.start, self.end = rise, start, end

    def after(self, step: int, steps: int, epoch_steps: int) -> float:
        """The share at a step."""
        top = self.rise * steps
        if step < top:
            return _half_cosine(1 - step / top, self.start)
        return _half_cosine((step - top) / max(steps - top, 1), self.end)


class Plateau(Constant):
    """The rate is multiplied by `drop` when the validation loss has not fallen for `patience` epochs.

    Args:
        drop: the multiplier.
        patience: epochs without a new best before a drop.
        floor: the share is never lower.
        warmup: as `Constant`.

    Example:
        >>> schedule = Plateau(patience=1)
        >>> for loss in (0.5, 0.6, 0.6):
        ...     schedule.observe(loss)
        >>> schedule.factor(0, 10, 1)
        0.1
    """

    def __init__(self, drop: float = 0.1, patience: int = 10, floor: float = 0.0, warmup: float = 0.0) -> None:
        super().__init__(warmup)
        if not 0 < drop < 1:
            raise SettingError(f"drop = {drop}", where="schedule plateau", expected="a multiplier between 0 and 1")
        self.drop, self.patience, self.floor = drop, patience, floor
        self.share, self.best, self.waited = 1.0, math.inf, 0

    def after(self, step: int, steps: int, epoch_steps: int) -> float:
        """The share now."""
        return self.share

    def observe(self, loss: float) -> None:
        """Told the validation loss at the end of each epoch."""
        if loss < self.best:
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.share, self.waited = max(self.share * self.drop, self.floor), 0

    def state(self) -> dict[str, float]:
        """What a checkpoint must hold."""
        return {"share": self.share, "best": self.best, "waited": self.waited}

    def restore(self, state: Mapping[str, float]) -> None:
        """Goes on from `state`."""
        self.share, self.best, self.waited = state["share"], state["best"], int(state["waited"])


def _half_cosine(place: float, floor: float) -> float:
    """1 at place 0, `floor` at place 1."""
    return floor + (1 - floor) * (1 + math.cos(math.pi * min(place, 1.0))) / 2


SCHEDULES: Mapping[str, type[Constant]] = {
    "constant": Constant,
    "cosine": Cosine,
    "restarts": Restarts,
    "plateau": Plateau,
    "one_cycle": OneCycle,
}


def build(name: str, **options: Any) -> Constant:
    """A schedule by name.

    Raises:
        SettingError: unknown schedule, or an option that it does not have: a cosine has no `patience`, a one-cycle no
            `warmup`, for it has its own rise.
    """
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    known = inspect.signature(SCHEDULES[name]).parameters
    for option in options:
        if option not in known:
            raise unknown("option", option, known, where=f"schedule {name}")
    return SCHEDULES[name](**options)
