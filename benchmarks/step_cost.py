"""What a training step costs here, and how many fit into a budget of computing time.

In seconds of CPU, batch included: other programs on the machine change them less than the clock.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from brainseg_utils.datasets.cases import Case
from brainseg_utils.datasets.splits import Split
from brainseg_utils.files import write_json
from brainseg_utils.training.loop import Loop
from brainseg_utils.training.recipe import Recipe
from brainseg_utils.training.run import Run
from brainseg_utils.training.train import members, sources

WARM, TIMED = 2, 6  # steps; the first ones allocate, and read the cases
STEPS = WARM + TIMED


def seconds_of(step: Callable[[], object]) -> float:
    """Seconds of CPU of one of `TIMED` calls, after `WARM` others."""
    for _ in range(WARM):
        step()
    start = time.process_time()
    for _ in range(TIMED):
        step()
    return (time.process_time() - start) / TIMED


def noted(path: Path, recipe: Recipe, split: Split, cases: Iterable[Case]) -> float:
    """Seconds of CPU of a recipe's training step: measured once, then read from `path`.

    Args:
        path: JSON file of the one number.
        recipe: of `STEPS` steps.
        split: who trains.
        cases: of the split, all.
    """
    if not path.is_file():
        with tempfile.TemporaryDirectory() as folder:
            loop = Loop(recipe, sources(recipe, members(recipe, split, list(cases))[0], []), Run(folder))
            batches = loop._batches(0, STEPS)
            write_json(path, seconds_of(lambda: loop._step(next(batches))))
    return float(json.loads(path.read_text(encoding="utf-8")))


def length(seconds: float, step_seconds: float, looks: int) -> dict[str, int]:
    """A budget as changes of a recipe: the steps that fit, at least one a look, and steps between two looks."""
    steps = max(round(seconds / step_seconds), looks)
    return {"budget.steps": steps, "budget.epoch_steps": -(-steps // looks)}
