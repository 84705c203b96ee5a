"""Cross-validation: one run a fold, each fold held out once, and what the folds say together.

A fold is a run like any other, with `split.validation` its only difference, so that it can be made on another machine,
and a cross-validation that was interrupted goes on. The result is the mean over the folds with their spread, never the
best one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainseg_utils.datasets.splits import Split
from brainseg_utils.errors import SettingError
from brainseg_utils.parallel import imap, one_thread
from brainseg_utils.training.recipe import load
from brainseg_utils.training.run import Run
from brainseg_utils.training.train import train

if TYPE_CHECKING:
    import pandas as pd

FOLD = "fold"  # subsets of a split that are held out in turn are called so, with a number behind
DICE = "dice_"


@dataclass(frozen=True)
class _Job:
    """One fold: the arguments of `train`."""

    recipe: str | Path
    data_dir: Path
    out: Path
    profile: str
    changes: Mapping[str, Any]
    split: Split
    alone: bool


def cross_validate(
    recipe: str | Path,
    data_dir: str | Path,
    out: str | Path,
    split: Split,
    profile: str = "quick",
    workers: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> list[Run]:
    """Trains a recipe once for each fold of a split; runs that are finished are taken as they are.

    Args:
        recipe: name or TOML file.
        data_dir: a data set's root or its parent.
        out: folder for the runs, `out/fold0` and so on.
        split: with subsets "fold0", "fold1", ...; of `splits.k_fold`. A subset "test" is left out of all of them.
        profile: "quick" or "full".
        workers: folds that train at the same time, each on one thread; 1: in this process. Default: one a CPU.
        changes: settings by their place, as `recipe.load`.

    Returns:
        The runs, in the order of the folds.

    Raises:
        SettingError: a split without folds, or runs of other settings in `out`.
        BrainsegError: as `train`.
    """
    folds = [name for name in split.subsets if name.startswith(FOLD)]
    if len(folds) < 2:
        raise SettingError(
            f"a split into {', '.join(split.subsets)}", expected="two folds or more", remedy="make it with k_fold"
        )
    plain = {"split.folds": len(folds), "split.fractions": [], **(changes or {})}
    jobs = [
        _Job(recipe, Path(data_dir), Path(out, fold), profile, {**plain, "split.validation": fold}, split, workers != 1)
        for fold in folds
    ]
    return [Run(path) for path in imap(_fit, jobs, workers)]


def _fit(job: _Job) -> Path:
    if job.alone:  # several processes, each with as many threads as there are cores, stand in each other's way
        one_thread()
    chosen = load(job.recipe, job.profile, job.changes)
    return train(chosen, job.data_dir, job.out, resume=True, split=job.split).path


def spread(runs: Sequence[Run]) -> pd.DataFrame:
    """What several runs of one recipe reached on what each held out, at the end of its training.

    Args:
        runs: finished, with validation.

    Returns:
        One row a class: `mean, sd, least, greatest` of the Dice over the runs; `sd` divides by N - 1.

    Raises:
        SettingError: fewer than two runs, or one that is not finished or did not validate.
    """
    import pandas as pd

    outcomes = [
        {key.removeprefix(DICE): value for key, value in run.metrics.items() if key.startswith(DICE)} for run in runs
    ]
    if len(runs) < 2 or not all(outcomes):
        raise SettingError(f"{sum(map(bool, outcomes))} of {len(runs)} runs with a Dice", expected="two or more, all")
    table = pd.DataFrame(outcomes).agg(["mean", "std", "min", "max"]).T
    table.columns = pd.Index(["mean", "sd", "least", "greatest"])
    return table
