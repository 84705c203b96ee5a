"""From a recipe and a folder of cases to a run: what `brainseg train` calls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainseg_utils.datasets import splits
from brainseg_utils.datasets.cases import Case
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.splits import Split
from brainseg_utils.errors import SettingError
from brainseg_utils.training import data
from brainseg_utils.training.recipe import Recipe, load
from brainseg_utils.training.run import Run

if TYPE_CHECKING:
    from brainseg_utils.training.data import Sources
    from brainseg_utils.training.loop import AfterEpoch

RUNS = Path("runs", "train")


def train(
    recipe: str | Path | Recipe,
    data_dir: str | Path,
    out: str | Path | None = None,
    profile: str = "quick",
    resume: bool = False,
    *,
    changes: Mapping[str, Any] | None = None,
    split: Split | None = None,
    after_epoch: AfterEpoch | None = None,
) -> Run:
    """Trains a recipe on a folder of cases.

    Args:
        recipe: name, TOML file, or a recipe that was loaded already (then profile and changes do nothing).
        data_dir: a data set's root or its parent.
        out: the run's folder; default: `runs/train/<recipe>-<time>`.
        profile: "quick" or "full".
        resume: go on with the run in `out`, which must be of the same recipe; there may be none yet.
        changes: settings by their place, as `recipe.load`.
        split: who trains and who validates; default: the recipe's own, made from its seed.
        after_epoch: as `loop.fit`.

    Returns:
        The run, finished.

    Raises:
        BrainsegError: what is wrong with recipe, data or machine, and what to do.
    """
    chosen = recipe if isinstance(recipe, Recipe) else load(recipe, profile, changes)
    if resume and out is None:
        raise SettingError("resume without a run", expected="the folder of the run to go on with", remedy="give --out")
    folder = Path(out) if out else RUNS / f"{chosen.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    cases = find_cases(data_dir)
    division = split or divide(chosen, cases)
    run = Run.begin(folder, chosen, resume)
    if run.finished:
        return run
    train_cases, held_out = members(chosen, division, cases)
    subsets = {"train": tuple(c.id for c in train_cases), "val": tuple(c.id for c in held_out)}
    _remember(Split(subsets, division.seed), run)
    from brainseg_utils.training.loop import fit

    return fit(chosen, sources(chosen, train_cases, held_out), run, after_epoch)


def divide(recipe: Recipe, cases: list[Case]) -> Split:
    """The split that a recipe asks for, by patient."""
    if recipe.split.validation == "all":  # the data kind makes its own training cases
        return Split({"all": tuple(case.id for case in cases)}, recipe.seed)
    if recipe.split.folds:
        return splits.k_fold(cases, recipe.split.folds, recipe.seed)
    fractions = dict(zip(("train", "val", "test"), recipe.split.fractions, strict=False))
    return splits.split(cases, fractions, recipe.seed)


def members(recipe: Recipe, split: Split, cases: list[Case]) -> tuple[list[Case], list[Case]]:
    """Training and validation cases; a subset named "test" is neither, cases that the split leaves out are neither."""
    by_id = {case.id: case for case in cases}
    splits.check(split, cases)
    subset = recipe.split.validation
    inside = {i for name, ids in split.subsets.items() if name != "test" for i in ids}
    held_out = set() if subset == "none" else set(split[subset])
    return [by_id[i] for i in sorted(inside - held_out)], [by_id[i] for i in sorted(held_out)]


def sources(recipe: Recipe, train_cases: list[Case], held_out: list[Case]) -> Sources:
    """Reads the cases as the recipe's `[data]` table says."""
    part = max(recipe.budget.batch // recipe.engine.accumulate, 1)
    return data.KINDS[recipe.data.name](train_cases, held_out, recipe.seed, part, **recipe.data.options)


def _remember(split: Split, run: Run) -> None:
    path = run.path / "split.json"
    if path.is_file() and splits.load(path).subsets != split.subsets:
        raise SettingError(
            "the run was begun with other cases or another split", where=path, remedy="resume with the same data"
        )
    splits.save(split, path)
