"""The recorded 3D runs: one change at a time, reports beside the course, after treatment, modalities, folds, Swin.

    python benchmarks/reference_3d.py [--real FOLDER] [--work runs/reference/3d] [--only NAME]

All train on one cohort of phantoms at 2 mm (`COHORTS`; by patient four fifths train, one fifth is held out) at a budget
of computing time: as many steps as fit into so many seconds of one CPU core, by the seconds of CPU that a step takes
here, batch included (measured first; other programs on the machine change them less than the clock). Validation comes
on top. The reports' recipes keep network, loss, optimiser and preprocessing; patches and grids of 128 voxels become 64,
since voxels are twice as long here, and ten looks at the held-out cases are their ten epochs. Nothing is selected and
nothing stops early: the weights of the last step are scored, without flips and without rules on components, on whole
cases at the files' own voxels. With `--real` the reports' recipes and the course's are also scored, without any further
training, on the real `test` cases of `data/split.json`; without it those rows are left out and a note says so.

Writes `data/reference/runs/<name>` as each run finishes, with `scores.csv` (one row a case and region) and
`summary.json` (means and bootstrap intervals). What is there with the same budget is left alone, so that an
interrupted script goes on.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import real_scans
import step_cost
from real_scans import Seen
from reference_3d_plans import FOLDS, MASKED, Plan, plans

from brainseg_utils.datasets import splits
from brainseg_utils.datasets.cases import Case, Volume
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.layouts import MODALITIES
from brainseg_utils.datasets.splits import Split
from brainseg_utils.evaluation.statistics import compare, summarise
from brainseg_utils.files import atomic, write_json
from brainseg_utils.inference.regions import Rules
from brainseg_utils.inference.volumes import VolumePredictor
from brainseg_utils.parallel import one_thread
from brainseg_utils.phantom import cohort
from brainseg_utils.training.checkpoints import Trained
from brainseg_utils.training.recipe import load
from brainseg_utils.training.records import record
from brainseg_utils.training.run import Run, environment
from brainseg_utils.training.train import train

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "data" / "reference" / "runs"
SEED = 31  # of the phantoms; no other cohort of the project has it
SPACING = 2  # mm
COHORTS = {"before": ("brats2023", 40), "after": ("brats2024", 40)}  # treatment: layout, cases
PARTS = {"train": 0.8, "val": 0.2}
SEEN = 2  # held-out cases in a look of many
GROUPS = ("phantoms", "after", "swin")  # of records that are compared: names begin so


@cache
def phantoms(work: Path, treatment: str) -> tuple[Path, tuple[Case, ...], Split]:
    """A cohort's folder, its cases, and who trains."""
    layout, count = COHORTS[treatment]
    folder = work / f"phantoms-{treatment}"
    cohort.make(folder, count, layout, seed=SEED, spacing=SPACING, workers=1, healthy=0.0)
    cases = tuple(find_cases(folder))
    return folder, cases, splits.split(cases, PARTS, SEED)


def division(plan: Plan, work: Path) -> tuple[Split, str]:
    """Who trains, and the subset that validates; a fold's cases are of those that train, the rest is its test."""
    _, cases, parts = phantoms(work, plan.cohort)
    if plan.fold is not None:
        folds = splits.k_fold([case for case in cases if case.id in parts["train"]], FOLDS, SEED)
        return Split({**folds.subsets, "test": parts["val"]}, SEED), f"fold{plan.fold}"
    if plan.looks == 1:
        return parts, "val"
    seen, unseen = parts["val"][:SEEN], parts["val"][SEEN:]
    return Split({"train": parts["train"], "val": seen, "test": unseen}, SEED), "val"


def pretrained(plan: Plan, work: Path) -> Run:
    """The plan's network taught to fill in what was hidden of phantoms, for its share of the seconds."""
    folder, cases, _ = phantoms(work, plan.cohort)
    network = {name: value for name, value in plan.changes.items() if name.startswith(("network.", "engine."))}
    fixed: dict[str, Any] = {**network, **MASKED, "engine.keep": ["last"], "engine.patience": 0}
    everyone = Split({"all": tuple(case.id for case in cases)}, SEED)
    name = f"{plan.name}_masked"
    measured = load(plan.recipe, plan.profile, {**fixed, "budget.steps": step_cost.STEPS})
    each = step_cost.noted(work / f"{name}.json", measured, everyone, cases)
    length = step_cost.length(plan.seconds * plan.masked, each, plan.looks)
    return train(load(plan.recipe, plan.profile, {**fixed, **length}), folder, work / "runs" / name, resume=True)


def fit(plan: Plan, work: Path) -> Run:
    """Trains a plan's recipe, or goes on with it."""
    folder, cases, _ = phantoms(work, plan.cohort)
    split, subset = division(plan, work)
    whole = {"split.folds": 0, "split.fractions": list(PARTS.values())}
    parts = {"split.folds": FOLDS, "split.fractions": []} if plan.fold is not None else whole
    fixed: dict[str, Any] = {**plan.changes, **parts, "split.validation": subset}
    fixed |= {"data.cache": os.path.relpath(work / "cache"), "engine.keep": ["last"], "engine.patience": 0}
    before = pretrained(plan, work) if plan.masked else None
    if before:
        fixed["engine.start"] = os.path.relpath(before.weights)
    measured = load(plan.recipe, plan.profile, {**fixed, "budget.steps": step_cost.STEPS})
    name = re.sub("_(seed|fold)[0-9]", "", plan.name)  # seeds and folds take as many steps
    each = step_cost.noted(work / f"{name}.json", measured, split, cases)
    length = step_cost.length(plan.seconds * (1 - plan.masked), each, plan.looks)
    recipe = load(plan.recipe, plan.profile, {**fixed, **length})
    run = train(recipe, folder, work / "runs" / plan.name, resume=True, split=split)
    budget = {"cpu_seconds": plan.seconds, "step_seconds": each, "steps": run.metrics["steps"]}
    run.note(budget=budget | ({"masked_share": plan.masked, "masked_steps": before.metrics["steps"]} if before else {}))
    return run


@dataclass(frozen=True)
class Without(Case):
    """A case one of whose pictures was not taken: it is 0 everywhere."""

    lost: str = ""

    def images(self, modalities: Iterable[str] | None = None) -> Volume:
        wanted = tuple(MODALITIES if modalities is None else modalities)
        scan = super().images(wanted)
        if self.lost in wanted:
            scan.data[wanted.index(self.lost)] = 0
        return scan


def scored(networks: list[Trained], cases: Iterable[Case], cohort_name: str, lost: str = "") -> list[dict[str, Any]]:
    """One row a case and region; of several networks the mean of their probabilities."""
    predictor, rows = VolumePredictor(networks, Rules()), []
    for case in cases:
        seen = Seen.of(predictor, Without(**vars(case), lost=lost) if lost else case)
        for found in seen.rows(predictor.rules, case.scheme.regions):
            row = {"cohort": cohort_name, "lost": lost or "none", "case": case.id, "region": found["region"]}
            rows.append({**row, "metric": "dice", "value": found["dice"], "unit": "1", "truth_ml": found["truth_ml"]})
    return rows


def score(plan: Plan, run: Run, work: Path, real: list[Case]) -> pd.DataFrame:
    """On the held-out phantoms, on the fold where there is one, and on real scans where the plan asks for them."""
    _, cases, parts = phantoms(work, plan.cohort)
    networks, held_out = [run.load()], [case for case in cases if case.id in parts["val"]]
    rows = [row for lost in ("", *plan.lost) for row in scored(networks, held_out, "phantoms", lost)]
    if plan.fold is not None:
        split, subset = division(plan, work)
        rows += scored(networks, [case for case in cases if case.id in split[subset]], "fold")
    return pd.DataFrame(rows + (scored(networks, real, "real") if plan.real else []))


def summary_of(scores: pd.DataFrame) -> dict[str, Any]:
    """Means and intervals: {"phantoms": {"WT": {...}}}; with a modality lost, {"phantoms without t1c": {...}}."""
    told: dict[str, Any] = {}
    for (name, lost), rows in scores.groupby(["cohort", "lost"], sort=False):
        table = summarise(rows).set_index("region")[["cases", "mean", "low", "high", "median"]].round(4)
        told[str(name) if lost == "none" else f"{name} without {lost}"] = table.to_dict("index")
    return told


def write_scores(folder: Path, scores: pd.DataFrame, summary: Mapping[str, Any]) -> None:
    """`scores.csv` and `summary.json` of a record."""
    write_json(folder / "summary.json", dict(summary))
    with atomic(folder / "scores.csv") as temporary:
        scores.round(4).to_csv(temporary, index=False)


def ensemble(work: Path, command: str) -> None:
    """A record of scores alone: the mean of the five folds' networks on the cases that none of them saw."""
    made = [work / "runs" / f"folds_fold{fold}" for fold in range(FOLDS)]
    folder = RECORDS / "folds_ensemble"
    if folder.is_dir() or not all(Run(path).finished for path in made):
        return
    _, cases, parts = phantoms(work, "before")
    scores = pd.DataFrame(scored([Run(p).load() for p in made], [c for c in cases if c.id in parts["val"]], "phantoms"))
    seconds = sum(Run(path).metrics["seconds"] for path in made)
    facts = {**environment(), "command": command, "seed": SEED, "device": "CPU, 1 thread", "time": seconds}
    folder.mkdir(parents=True)
    write_json(folder / "environment.json", facts)
    write_scores(folder, scores, summary_of(scores))


def differences() -> None:
    """Adds to each of the course's records by how much it is ahead of the others of its group, case by case."""
    columns = ["cases", "difference", "low", "high", "p_holm"]
    for group in GROUPS:
        tables = {path.parent.name: pd.read_csv(path) for path in sorted(RECORDS.glob(f"{group}_*/scores.csv"))}
        for name in (name for name in tables if name.startswith(f"{group}_course_")):
            ours, ahead = dict(iter(tables[name].groupby("cohort"))), {}
            for other in (other for other in tables if other != name):
                theirs = dict(iter(tables[other].groupby("cohort")))
                found = {place: compare(theirs[place], ours[place], ("dice",)) for place in ours if place in theirs}
                ahead[other] = {
                    place: table.set_index("region")[columns].round(4).to_dict("index")
                    for place, table in found.items()
                }
            write_json(RECORDS / name / "summary.json", {**summary_of(tables[name]), "ahead of": ahead})


def main() -> None:
    """Trains, scores and records one plan after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, help="folder with the unpacked real data sets (brats2020, brats2021, ...)")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "reference" / "3d")
    parser.add_argument("--only", default="", help="runs whose name begins so")
    parser.add_argument("--seconds", type=float, help="of CPU for every run, instead of each group's own")
    given = parser.parse_args()
    one_thread()
    real = real_scans.cases(given.real, "test") if given.real else []
    if not real:
        print("note: no real scans; rows of real cases are left out")
    command = "python benchmarks/reference_3d.py" + (" --real FOLDER" if real else "")
    chosen = [plan for plan in plans() if plan.name.startswith(given.only)]
    for plan in [replace(p, seconds=given.seconds or p.seconds) for p in chosen]:
        kept = RECORDS / plan.name
        facts = Run(kept).environment.get("budget", {})
        if (kept / "scores.csv").is_file() and facts.get("cpu_seconds") == plan.seconds:
            continue
        start = time.process_time()
        run = fit(plan, given.work)
        scores = score(plan, run, given.work, real)
        kept = record(run.path, plan.name, command=command)
        write_scores(kept, scores, summary_of(scores))
        shutil.rmtree(run.checkpoints, ignore_errors=True)
        told = {name: {r: round(s["mean"], 3) for r, s in by.items()} for name, by in summary_of(scores).items()}
        print(plan.name, run.metrics["steps"], "steps,", round(time.process_time() - start), "s of CPU", flush=True)
        print("   ", told, flush=True)
        ensemble(given.work, command)
        differences()


if __name__ == "__main__":
    main()
