"""The reference model of the LGG layout, and its cross-validation: everything from nothing, in one command.

    python benchmarks/reference_lgg.py --lgg FOLDER [--work runs/reference/lgg] [--workers 2]

Steps, each left alone if it was done already, each training resumable:

1. phantoms in the LGG layout, and every member of the ensemble trained on them;
2. five folds of `data/split.json`: every member goes on from its phantom weights on the real patients of four folds,
   predicts those of the fifth, and the members' probabilities are averaged;
3. threshold and share of the post-processing chosen on folds 0 and 1, the only ones that any choice was made on;
4. scores of all 36 patients into `data/reference/runs/lgg_cross_validation`;
5. the members trained on all patients, in one fp16 file, with its card: `data/reference/models/lgg`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainseg_utils.datasets.cases import SliceCase, read_tiff
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.splits import Split
from brainseg_utils.evaluation import statistics, voxel
from brainseg_utils.files import atomic, write_json, write_text
from brainseg_utils.inference import ensemble
from brainseg_utils.inference.postprocess import keep_heavy
from brainseg_utils.inference.slices import SlicePredictor
from brainseg_utils.parallel import imap, one_thread
from brainseg_utils.phantom import cohort
from brainseg_utils.seeds import stream
from brainseg_utils.training.recipe import load
from brainseg_utils.training.records import record
from brainseg_utils.training.run import Run, environment
from brainseg_utils.training.train import train

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "data" / "reference"
CHOSEN_ON = (0, 1)  # folds
PHANTOMS, PHANTOM_SEED, PHANTOM_FOLDER = 160, 100, "phantoms"
FOLD_STEPS, FINAL_STEPS = 1200, 1500
THRESHOLDS, SHARES = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6), (0.0, 0.15, 0.25, 0.4)
CARD = """# Model card: LGG, FLAIR abnormality on slices

**Use:** teaching and research: the default of `brainseg predict` for folders in the LGG layout. Not a medical device.

**Input:** one patient's slices, 8-bit TIFF, channels T1, FLAIR, T1 with contrast (a sequence that was not acquired is
filled with FLAIR), the head's border included. **Output:** one mask a slice.

**Networks:** {networks} residual U-Nets (`resunet2d`, {parameters:,} parameters together, recipe `course_lgg`),
probabilities averaged with those of the mirrored slices and, where the zoom is not 1, of the enlarged ones (zoom
{zoom}); components kept from probability {threshold}, lighter than {share} of the heaviest one dropped.

**Data:** {phantoms} synthetic patients (`brainseg data phantom --layout lgg`), then all {patients} patients of the
sample of the TCGA-LGG slices (Kaggle, M. Buda; CC BY-NC-SA 4.0: the weights are for non-commercial use, under the same
terms) that `data/split.json` names. Cite: Buda, Saha, Mazurowski, doi:10.1016/j.compbiomed.2019.05.002; Mazurowski et
al., doi:10.1007/s11060-017-2420-1.

**Cross-validated** on the same {patients} patients, five folds by patient, each patient predicted by networks that
never saw it: Dice over a patient's slices, mean {mean:.3f} (95 % interval of the mean {low:.3f} to {high:.3f}), median
{median:.3f}. Training length and post-processing were chosen on folds 0 and 1: there {chosen:.3f}, on the other
three {others:.3f}. The loudness of the phantoms' channels was fitted to all {patients} patients before that.
Every patient: `data/reference/runs/lgg_cross_validation/scores.csv`.

**Weak where:** lesions hardly brighter than white matter on FLAIR, very small lesions, other scanners than those of the
collection. One expert's masks, five institutions, no healthy people: it will find something in anyone.

**Made by:** `{command}` ({hours:.1f} hours of one CPU core), {versions}.
"""
ZOOMS = (1.0, 1.15)  # 1.15: also predict the slices enlarged
METRICS = ("dice", "iou", "pixel_accuracy", "mean_accuracy")
MEMBERS: dict[str, dict[str, Any]] = {
    "three-slices": {"data.context": 1, "seed": 10},
    "one-slice": {"data.context": 0, "seed": 11},
}
PHANTOM_STEPS = {"three-slices": 4000, "one-slice": 3000}
ON_PHANTOMS = {"budget.epoch_steps": 1000, "split.folds": 16, "engine.keep": ["last"]}
ON_PATIENTS = {"budget.epoch_steps": 400, "engine.keep": ["last"], "optimiser.rate": 1e-3}


@dataclass(frozen=True)
class Task:
    """One training: of a member on a folder, from weights or from nothing."""

    out: Path
    data: Path
    changes: dict[str, Any]
    split: Split | None


def fit(task: Task) -> Run:
    """Trains on one thread; two trainings side by side are quicker than one on two threads."""
    one_thread()
    return train(load("course_lgg", "full", task.changes), task.data, task.out, resume=True, split=task.split)


def on_phantoms(work: Path, data: Path) -> list[Task]:
    """Members from nothing."""
    return [
        Task(work / f"phantoms-{name}", data, {**ON_PHANTOMS, "budget.steps": PHANTOM_STEPS[name], **member}, None)
        for name, member in MEMBERS.items()
    ]


def on_patients(work: Path, lgg: Path, folds: dict[str, int], fold: int | None) -> list[Task]:
    """Members from their phantom weights; the patients of `fold` are left out, those of None are all there."""
    steps = FINAL_STEPS if fold is None else FOLD_STEPS
    subsets = {f"fold{k}": tuple(sorted(i for i, f in folds.items() if f == k)) for k in sorted(set(folds.values()))}
    changes: dict[str, Any] = {**ON_PATIENTS, "budget.steps": steps}
    changes["split.validation"] = "none" if fold is None else f"fold{fold}"
    tasks = []
    for name, member in MEMBERS.items():
        start = {"engine.start": os.path.relpath(work / f"phantoms-{name}" / "weights.safetensors")}
        out = work / f"{'all' if fold is None else f'fold{fold}'}-{name}"
        tasks.append(Task(out, lgg, {**changes, **member, **start}, Split(subsets, 0)))
    return tasks


@dataclass(frozen=True)
class Predicted:
    """A held-out patient: probabilities by zoom, and truth, (K, rows, columns)."""

    patient: str
    fold: int
    probability: dict[float, np.ndarray]
    truth: np.ndarray


def held_out(work: Path, lgg: Path, folds: dict[str, int]) -> list[Predicted]:
    """Every patient as predicted by the members that have not seen it."""
    cases = {case.id: case for case in find_cases(lgg) if isinstance(case, SliceCase)}
    found = []
    for fold in sorted(set(folds.values())):
        files = [work / f"fold{fold}-{name}" / "weights.safetensors" for name in MEMBERS]
        networks = [network for file in files for network in ensemble.read(file)]
        predictors = {zoom: SlicePredictor(networks, zoom=zoom) for zoom in ZOOMS}
        for patient in sorted(i for i, f in folds.items() if f == fold):
            planes = [read_tiff(path, channels=1) for path in cases[patient].mask_paths if path is not None]
            probability = {zoom: predictor(cases[patient]) for zoom, predictor in predictors.items()}
            truth = np.stack(planes).reshape(probability[1.0].shape) > 0
            found.append(Predicted(patient, fold, probability, truth))
    return found


def choose(patients: list[Predicted]) -> tuple[ensemble.Settings, pd.DataFrame]:
    """Threshold and share with the best mean Dice on the folds to choose on, and the whole table."""
    seen = [p for p in patients if p.fold in CHOSEN_ON]
    rows = []
    for zoom, threshold, share in itertools.product(ZOOMS, THRESHOLDS, SHARES):
        dice = [voxel.count(p.truth, keep_heavy(p.probability[zoom], threshold, share)).dice for p in seen]
        rows.append({"zoom": zoom, "threshold": threshold, "share": share, "dice": float(np.mean(dice))})
    table = pd.DataFrame(rows)
    best = table.sort_values("dice", ascending=False, kind="stable").iloc[0]
    return ensemble.Settings(float(best["threshold"]), float(best["share"]), zoom=float(best["zoom"])), table


def score(patients: list[Predicted], settings: ensemble.Settings) -> pd.DataFrame:
    """One row a patient: patient, fold, and `METRICS`, over all of its slices pooled."""
    rows = []
    for p in patients:
        counts = voxel.count(p.truth, keep_heavy(p.probability[settings.zoom], settings.threshold, settings.share))
        values = (counts.dice, counts.iou, counts.accuracy, counts.mean_accuracy)
        rows.append({"patient": p.patient, "fold": p.fold, **dict(zip(METRICS, values, strict=True))})
    return pd.DataFrame(rows)


def summarise(scores: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Mean, its 95 % interval, and median of each metric, over all patients, the folds chosen on, and the others."""
    groups = {"all": scores, "chosen_on": scores[scores["fold"].isin(CHOSEN_ON)]}
    groups["not_chosen_on"] = scores[~scores["fold"].isin(CHOSEN_ON)]
    summary: dict[str, dict[str, float]] = {}
    for group, rows in groups.items():
        for metric in METRICS:
            low, high = statistics.bootstrap_interval(rows[metric].to_numpy(), stream(0, "lgg", group, metric))
            middle = {"mean": rows[metric].mean(), "low": low, "high": high, "median": rows[metric].median()}
            summary[f"{group} {metric}"] = {name: round(float(value), 4) for name, value in middle.items()}
    return summary


def main() -> None:
    """Everything, in order."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lgg", type=Path, required=True, help="folder of the LGG data set")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "reference" / "lgg")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    work, lgg = arguments.work, arguments.lgg
    folds = json.loads((ROOT / "data" / "split.json").read_text(encoding="utf-8"))["lgg"]["fold_of"]
    command, start = shlex.join([os.path.relpath(sys.argv[0], ROOT), "--lgg", "FOLDER"]), time.time()

    def all_of(tasks: list[Task]) -> list[Run]:
        return list(imap(fit, tasks, arguments.workers))

    cohort.make(work / PHANTOM_FOLDER, PHANTOMS, "lgg", seed=PHANTOM_SEED, workers=arguments.workers)
    begun = all_of(on_phantoms(work, work / PHANTOM_FOLDER))
    runs = all_of([task for fold in sorted(set(folds.values())) for task in on_patients(work, lgg, folds, fold)])
    patients = held_out(work, lgg, folds)
    settings, table = choose(patients)
    scores = score(patients, settings)
    facts: dict[str, Any] = {"command": f"python {command}", "device": "CPU, one thread a training, two at a time"}
    facts["seed"] = [member["seed"] for member in MEMBERS.values()]
    facts |= {"chosen_on_folds": list(CHOSEN_ON), **asdict(settings)}
    trained = [*begun, *runs]
    facts |= {"training_seconds": round(sum(run.metrics["seconds"] for run in trained)), **environment()}
    write_cross_validation(REFERENCE / "runs" / "lgg_cross_validation", scores, table, facts)
    finals = all_of(on_patients(work, lgg, folds, None))
    for name, run in zip(MEMBERS, finals, strict=True):
        record(run.path, f"lgg_all_{name}", command=facts["command"])
    target = REFERENCE / "models" / "lgg" / "weights.safetensors"
    ensemble.join([run.weights for run in finals], target, settings)
    facts["training_seconds"] += round(sum(run.metrics["seconds"] for run in finals))
    write_text(target.with_name("card.md"), card(scores, facts, sum(run.metrics["parameters"] for run in finals)))
    print(f"{target.stat().st_size / 1e6:.1f} MB, {time.time() - start:.0f} s")


def card(scores: pd.DataFrame, facts: dict[str, Any], parameters: int) -> str:
    """The model card, every figure from the run."""
    summary = summarise(scores)
    return CARD.format(
        networks=len(MEMBERS),
        parameters=parameters,
        threshold=facts["threshold"],
        share=facts["share"],
        zoom=facts["zoom"],
        phantoms=PHANTOMS,
        patients=len(scores),
        chosen=summary["chosen_on dice"]["mean"],
        others=summary["not_chosen_on dice"]["mean"],
        command=facts["command"],
        hours=facts["training_seconds"] / 3600,
        versions=f"torch {facts['versions']['torch']}",
        **summary["all dice"],
    )


def write_cross_validation(folder: Path, scores: pd.DataFrame, table: pd.DataFrame, facts: dict[str, Any]) -> None:
    """Writes the scores, what was chosen from, and the summary."""
    for name, frame in (("scores.csv", scores), ("choice.csv", table)):
        with atomic(folder / name) as temporary:
            frame.round(4).to_csv(temporary, index=False)
    summary = summarise(scores)
    write_json(folder / "summary.json", summary)
    write_json(folder / "environment.json", facts)
    print(json.dumps({name: row for name, row in summary.items() if name.endswith(" dice")}, indent=1))


if __name__ == "__main__":
    main()
