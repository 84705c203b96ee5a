"""Few-shot: the phantom network taught on the eight real `develop` cases, against the same network from scratch.

    python benchmarks/reference_fewshot.py --real FOLDER [--steps 600] [--seeds 0 1 2] [--work runs/reference/fewshot]

    scratch       from random weights
    fine-tuned    from the phantom network's, at a quarter of the rate
    halfway       the mean of the fine-tuned and the phantom network's weights (`ensemble.average`)
    zero-shot     the phantom network, without any of these cases

All that are trained have one recipe (`course_resunet3d` at 2 mm, with the regions of the phantom network), one set of
cases and one number of steps. Nothing is selected on the way: the last slow weights are scored on the eight `test`
cases at the files' own resolution, with the rules that the phantom network carries, which were chosen on `develop`.
Pairs are compared case by case, over the means of the seeds.

Which one ships is decided on `develop` alone: half of it teaches, the other half is scored, then the other way round
(first seed). Zero-shot has an advantage there: its rules were chosen on these cases.

Writes `data/reference/runs/fewshot` (scores.csv, folds.csv, summary.json) and, if zero-shot is not the best on
`develop`, the first seed's weights as a model to ship: `data/reference/models/fewshot`.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from real_scans import REGIONS, ROOT, Seen, cases, score, summarise
from reference_phantom3d import MODEL, table

from brainseg_utils.datasets import splits
from brainseg_utils.datasets.cases import Case
from brainseg_utils.datasets.splits import Split
from brainseg_utils.evaluation import statistics
from brainseg_utils.files import atomic, write_json, write_text
from brainseg_utils.inference import ensemble
from brainseg_utils.inference.regions import Rules
from brainseg_utils.inference.volumes import VolumePredictor
from brainseg_utils.parallel import one_thread
from brainseg_utils.seeds import stream
from brainseg_utils.training import loop
from brainseg_utils.training.recipe import load
from brainseg_utils.training.records import record
from brainseg_utils.training.run import Run, environment
from brainseg_utils.training.train import sources

NAME = "fewshot"
RECORD, TARGET = (ROOT / "data" / "reference" / part / NAME for part in ("runs", "models"))
PHANTOM = MODEL / "weights.safetensors"
TRAINED = ("scratch", "fine-tuned")
PAIR = ("halfway", "fine-tuned")
RATE, SMALL = 2e-3, 5e-4
CHANGES: dict[str, Any] = {
    "data.spacing": 2.0,
    "data.size": [80, 80, 64],
    "data.regions": ["ET", "TC", "WT", "RC"],
    "data.dropout": 0.15,
    "split.validation": "none",
    "engine.keep": ["last"],
    "engine.ema": 0.99,
}
CARD = """# Model card: brain tumours on four MRI sequences, phantoms and eight patients

**Use:** teaching and research: the default of `brainseg predict` for scans before treatment (layouts brats2020,
brats2021, brats2023, msd). Not a medical device.

**Input:** T1, T1 with contrast, T2, FLAIR, skull-stripped and on one grid; one or more may be missing. **Output:**
ET, TC, WT on the grid of the files.

**Network:** residual U-Net `resunet3d`, {parameters:,} parameters, works at 2 mm; probabilities averaged with those of
the mirrored scan, with the rules of the phantom network.

**Data:** the phantom network (`phantom`, its own card), then {steps} steps on the eight `develop` cases of
`data/split.json` ({kind}: see the table), from BraTS 2018, 2020, 2021 and 2023 (BraTS-GLI and BraTS-Africa). They may
be used for research and teaching with the citations that BraTS asks for (Menze et al., doi:10.1109/TMI.2014.2377694;
Bakas et al., doi:10.1038/sdata.2017.117; Baid et al., arXiv 2107.02314; Adewole et al., arXiv 2305.19369). The 2023
releases are CC BY-NC 4.0, so these weights are for non-commercial use; those of `phantom` saw no patient and are not
bound by it.

**On eight real scans it never saw** (Dice a case, means over three seeds; no tumour and none found counts 1): from
random weights ("scratch"), from the phantom network ("fine-tuned"), the mean of the weights of both ("halfway"), and
the phantom network as it is ("zero-shot"):

{table}

Every case and seed: `data/reference/runs/fewshot/scores.csv`.

**Weak where:** eight patients are few; after treatment use `--weights phantom`, which knows the resection cavity.

**Made by:** `{command}` ({minutes:.0f} minutes of one CPU core an arm), {versions}.
"""


def fit(arm: str, seed: int, steps: int, chosen: list[Case], work: Path, suffix: str = "") -> Path:
    """Trains an arm, or goes on with it; its run's folder."""
    changes = {**CHANGES, "budget.steps": steps, "budget.epoch_steps": max(steps // 6, 1), "seed": seed}
    changes["data.cache"] = os.path.relpath(work / "cache")
    changes["optimiser.rate"] = RATE if arm == "scratch" else SMALL
    if arm != "scratch":
        changes["engine.start"] = os.path.relpath(PHANTOM)
    recipe = load("course_resunet3d", "full", changes)
    run = Run.begin(work / f"{arm}-{seed}{suffix}", recipe, resume=True)
    splits.save(Split({"train": tuple(sorted(case.id for case in chosen))}, seed), run.path / "split.json")
    return loop.fit(recipe, sources(recipe, chosen, []), run).path  # not `train`: the eight are of several data sets


def weights_of(run: Path) -> dict[str, Path]:
    """What a fine-tuning gives: its own weights, and the mean of them and those where it began."""
    tuned = run / "weights.safetensors"
    return {"fine-tuned": tuned, "halfway": ensemble.average([tuned, PHANTOM], run / "halfway.safetensors")}


def scored(arm: str, seed: int, weights: Path, chosen: list[Case], rules: Rules) -> pd.DataFrame:
    """One row a case and region."""
    predictor = VolumePredictor(ensemble.read(weights), rules)
    return score((Seen.of(predictor, case) for case in chosen), rules).assign(arm=arm, seed=seed)


def folds(seed: int, steps: int, chosen: list[Case], work: Path, rules: Rules) -> pd.DataFrame:
    """Each half of the cases by the networks that the other half taught, and zero-shot."""
    frames = []
    for part in (0, 1):
        run = fit("fine-tuned", seed, steps, chosen[1 - part :: 2], work, f"-half{part}")
        for arm, weights in {"zero-shot": PHANTOM, **weights_of(run)}.items():
            frames.append(scored(arm, seed, weights, chosen[part::2], rules))
    return pd.concat(frames)


def compare(scores: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Fine-tuned and halfway minus each other arm, case by case (means over seeds), with intervals."""
    means = scores.groupby(["arm", "region", "case"])["dice"].mean()
    found: dict[str, dict[str, Any]] = {}
    for arm, other in (*itertools.product(("fine-tuned", "halfway"), ("scratch", "zero-shot")), PAIR):
        for region in REGIONS:
            pairs = means[arm, region].sort_index(), means[other, region].sort_index()
            difference = (pairs[0] - pairs[1]).to_numpy()
            low, high = statistics.bootstrap_interval(difference, stream(0, NAME, arm, other, region))
            row = {"mean": difference.mean(), "low": low, "high": high}
            found[f"{arm} minus {other}, {region}"] = {key: round(float(value), 4) for key, value in row.items()}
    return found


def main() -> None:
    """All arms and seeds, their scores, and the model that is the better one on `develop`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, required=True, help="folder of the real data sets")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "reference" / NAME)
    given = parser.parse_args()
    one_thread()
    words = ["python", os.path.relpath(sys.argv[0], ROOT), "--real", "FOLDER", "--steps", str(given.steps)]
    command = shlex.join([*words, "--seeds", *map(str, given.seeds)])
    develop, first = cases(given.real, "develop"), given.seeds[0]
    rules = ensemble.read_settings(PHANTOM)
    assert isinstance(rules, Rules)
    halves = folds(first, given.steps, develop, given.work, rules)
    best = str(halves.groupby("arm")["dice"].mean().idxmax())
    runs = {(arm, seed): fit(arm, seed, given.steps, develop, given.work) for seed in given.seeds for arm in TRAINED}
    test = cases(given.real, "test")
    frames = [scored("zero-shot", 0, PHANTOM, test, rules)]
    for (trained, seed), run in runs.items():
        made = weights_of(run) if trained == "fine-tuned" else {trained: run / "weights.safetensors"}
        frames += [scored(arm, seed, weights, test, rules) for arm, weights in made.items()]
    scores = pd.concat(frames)
    tuned = Run(runs["fine-tuned", first])
    record(tuned.path, NAME, command)
    for name, frame in (("scores", scores), ("folds", halves)):
        with atomic(RECORD / f"{name}.csv") as temporary:
            frame.round(4).to_csv(temporary, index=False)
    means = scores.groupby(["arm", "case", "region"], as_index=False)[["dice", "truth_ml"]].mean()
    summaries = {str(arm): summarise(rows, f"{NAME} {arm}") for arm, rows in means.groupby("arm")}
    by_fold = halves.groupby(["arm", "region"])["dice"].mean().unstack().round(4).to_dict("index")
    write_json(RECORD / "summary.json", {**summaries, "differences": compare(scores), "develop": by_fold, "best": best})
    print(table(summaries), by_fold, f"best on develop: {best}", sep="\n")
    if best == "zero-shot":
        return
    ensemble.join([weights_of(tuned.path)[best]], TARGET / "weights.safetensors", rules)
    facts = {"steps": given.steps, "table": table(summaries), "command": command, "kind": best}
    facts |= {"parameters": tuned.metrics["parameters"], "minutes": tuned.metrics["seconds"] / 60}
    write_text(TARGET / "card.md", CARD.format(versions=f"torch {environment()['versions']['torch']}", **facts))


if __name__ == "__main__":
    main()
