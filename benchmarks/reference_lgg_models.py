"""R2's four models beside the course's two, on one split of the real patients and at one budget of computing time.

    python benchmarks/reference_lgg_models.py --lgg FOLDER [--work runs/reference/lgg-models] [--seconds 300]

Each recipe trains as it stands in `brainseg_utils/recipes`, but for its length: as many steps as fit into the budget of
one CPU core, by the seconds of CPU that its step takes here (measured first; other programs on the machine change them
less than the clock). Validation comes on top. Folds 2 and 3 of `data/split.json` are held out, since the course's
choices were made on folds 0 and 1. Nothing is selected: the weights of the last step are scored, at threshold .5,
without flips and without post-processing, on whole patients at the files' own size.

Writes `data/reference/runs/lgg_<recipe>`: the run, and `scores.csv` with one row a held-out patient.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import step_cost

from brainseg_utils.datasets.cases import SliceCase, read_tiff
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.splits import Split
from brainseg_utils.evaluation import voxel
from brainseg_utils.files import atomic
from brainseg_utils.inference.slices import SlicePredictor
from brainseg_utils.parallel import imap, one_thread
from brainseg_utils.training.recipe import load
from brainseg_utils.training.records import record
from brainseg_utils.training.run import Run
from brainseg_utils.training.train import train

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ("r2_unet_dice", "r2_unet_combo07", "r2_unet_combo05", "r2_setr", "course_lgg", "course_setr")
HELD_OUT = (2, 3)
LOOKS = 6  # validations in a run
THRESHOLD = 0.5


@dataclass(frozen=True)
class Task:
    """One recipe to train and score."""

    recipe: str
    lgg: Path
    work: Path
    seconds: float


def division() -> Split:
    """The held-out patients as "val", the others as "train"."""
    folds = json.loads((ROOT / "data" / "split.json").read_text(encoding="utf-8"))["lgg"]["fold_of"]
    subsets = {
        "train": tuple(sorted(i for i, fold in folds.items() if fold not in HELD_OUT)),
        "val": tuple(sorted(i for i, fold in folds.items() if fold in HELD_OUT)),
    }
    return Split(subsets, 0)


def fit(task: Task) -> tuple[str, Path, float]:
    """Trains one recipe; its name, run folder and seconds a step."""
    one_thread()
    out = task.work / task.recipe
    cases = find_cases(task.lgg)
    fixed: dict[str, Any] = {"split.folds": 0, "split.fractions": [0.6, 0.4], "split.validation": "val"}
    measured = load(task.recipe, "full", {**fixed, "budget.steps": step_cost.STEPS})
    each = step_cost.noted(task.work / f"{task.recipe}.json", measured, division(), cases)
    changes = {**fixed, **step_cost.length(task.seconds, each, LOOKS), "engine.keep": ["last"]}
    run = train(load(task.recipe, "full", changes), task.lgg, out, resume=True, split=division())
    return task.recipe, run.path, each


def score(run: Run, lgg: Path) -> pd.DataFrame:
    """One row a held-out patient."""
    predictor = SlicePredictor([run.load()], flips=False)
    rows = []
    for case in find_cases(lgg):
        if case.id in division()["val"] and isinstance(case, SliceCase):
            probability = predictor(case)
            planes = [read_tiff(path, channels=1) for path in case.mask_paths if path is not None]
            truth = np.stack(planes).reshape(probability.shape) > 0
            c = voxel.count(truth, probability >= THRESHOLD)
            row = {"patient": case.id, "dice": c.dice, "iou": c.iou}
            rows.append({**row, "pixel_accuracy": c.accuracy, "mean_accuracy": c.mean_accuracy})
    return pd.DataFrame(rows)


def main() -> None:
    """Trains two at a time, then scores and records."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lgg", type=Path, required=True, help="folder of the LGG data set")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "reference" / "lgg-models")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    command = f"python benchmarks/reference_lgg_models.py --lgg FOLDER --seconds {arguments.seconds:g}"
    tasks = [Task(name, arguments.lgg, arguments.work, arguments.seconds) for name in RECIPES]
    for name, folder, each in imap(fit, tasks, arguments.workers):
        run = Run(folder)
        scores = score(run, arguments.lgg)
        run.note(budget={"cpu_seconds": arguments.seconds, "step_seconds": each, "steps": run.metrics["steps"]})
        kept = record(folder, f"lgg_{name}", command=command)
        with atomic(kept / "scores.csv") as temporary:
            scores.round(4).to_csv(temporary, index=False)
        print(f"{name:18s} {run.metrics['steps']:5d} steps of {each:.2f} s   mean Dice {scores['dice'].mean():.3f}")


if __name__ == "__main__":
    main()
