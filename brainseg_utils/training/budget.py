"""Seconds into steps: measured once, before the first step, and noted in the run.

Everything that follows (rates, epochs, the end) is counted in steps, so that a run that was interrupted, or shared its
machine for a while, is still the run that was begun.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

WARM = 2  # steps that are not timed: the first ones choose kernels and allocate
TIMED = 6


@dataclass(frozen=True)
class Measured:
    """What a budget of seconds became.

    Attributes:
        seconds: the budget.
        step_seconds: of one step, batches included.
        validation_seconds: of one look at the validation cases.
        steps: that fit.
    """

    seconds: float
    step_seconds: float
    validation_seconds: float
    steps: int


def convert(seconds: float, step_seconds: float, validation_seconds: float, epoch_steps: int) -> int:
    """Steps that fit into a time, at least one.

    Args:
        seconds: for everything.
        step_seconds: of a step.
        validation_seconds: of a validation, once every `epoch_steps` steps and at the end.
        epoch_steps: of an epoch.

    Example:
        >>> convert(100, step_seconds=0.5, validation_seconds=5, epoch_steps=10)
        100
    """
    return max(1, int(seconds / (step_seconds + validation_seconds / epoch_steps)))


def measure(
    seconds: float, step: Callable[[], object], validate: Callable[[], object] | None, epoch_steps: int
) -> Measured:
    """Times a few steps and a validation.

    Args:
        seconds: the budget.
        step: does one step, batch included, on something that is thrown away.
        validate: looks at all validation cases; None: there are none.
        epoch_steps: of an epoch.
    """
    for _ in range(WARM):
        step()
    start = time.perf_counter()
    for _ in range(TIMED):
        step()
    each = (time.perf_counter() - start) / TIMED
    start = time.perf_counter()
    if validate:
        validate()
    looking = time.perf_counter() - start if validate else 0.0
    return Measured(seconds, each, looking, convert(seconds, each, looking, epoch_steps))
