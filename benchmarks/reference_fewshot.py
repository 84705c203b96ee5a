"""Few-shot: the phantom network taught on the eight real `develop` cases, against the same network from scratch.

    python benchmarks/reference_fewshot.py --real FOLDER [--steps 600] [--seeds 0 1 2] [--work runs/reference/fewshot]

Both arms have one recipe (`course_resunet3d` at 2 mm, with the regions of the phantom network), one set of cases, one
number of steps; they differ in where they begin, and in the rate: that of the recipe from scratch, a quarter of it from
the phantom weights. Nothing is selected: the last slow weights are scored on the eight `test` cases at the files' own
resolution, beside the phantom network without any of these cases ("zero-shot"), all of them with the rules that the
phantom network carries. Pairs are compared case by case.

Writes `data/reference/runs/fewshot` (scores.csv, summary.json) and, if the fine-tuned network's mean Dice over `test`
cases and regions is the best, the first seed's weights as a model to ship: `data/reference/models/fewshot`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from real_scans import REGIONS, ROOT, Seen, cases, score, summarise
from reference_phantom3d import MODEL, table

from brainseg_utils.datasets import splits
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
ARMS = ("scratch", "fine-tuned")
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
`data/split.json`, from BraTS 2018, 2020, 2021 and 2023 (BraTS-GLI and BraTS-Africa). They may be used for research and
teaching with the citations that BraTS asks for (Menze et al., doi:10.1109/TMI.2014.2377694; Bakas et al.,
doi:10.1038/sdata.2017.117; Baid et al., arXiv 2107.02314; Adewole et al., arXiv 2305.19369). The 2023 releases are CC
BY-NC 4.0, so these weights are for non-commercial use; those of `phantom` saw no patient and are not bound by it.

**On eight real scans it never saw** (Dice a case; no tumour and none found counts 1), beside the phantom network and
the same network from scratch on the same eight cases for the same number of steps:

{table}

Every case and seed: `data/reference/runs/fewshot/scores.csv`.

**Weak where:** eight patients are few; after treatment use `--weights phantom`, which knows the resection cavity.

**Made by:** `{command}` ({minutes:.0f} minutes of one CPU core an arm), {versions}.
"""


def fit(arm: str, seed: int, steps: int, real: Path, work: Path) -> Run:
    """Trains an arm, or goes on with it."""
    changes = {**CHANGES, "budget.steps": steps, "budget.epoch_steps": max(steps // 6, 1), "seed": seed}
    changes["data.cache"] = os.path.relpath(work / "cache")
    changes["optimiser.rate"] = RATE if arm == "scratch" else SMALL
    if arm != "scratch":
        changes["engine.start"] = os.path.relpath(MODEL / "weights.safetensors")
    recipe, chosen = load("course_resunet3d", "full", changes), cases(real, "develop")
    run = Run.begin(work / f"{arm}-{seed}", recipe, resume=True)
    splits.save(Split({"train": tuple(sorted(case.id for case in chosen))}, seed), run.path / "split.json")
    return loop.fit(recipe, sources(recipe, chosen, []), run)  # not `train`: the eight are of several data sets


def scored(arm: str, seed: int, weights: Path, real: Path, rules: Rules) -> pd.DataFrame:
    """One row a `test` case and region."""
    predictor = VolumePredictor(ensemble.read(weights), rules)
    seen = (Seen.of(predictor, case) for case in cases(real, "test"))
    return score(seen, rules).assign(arm=arm, seed=seed)


def compare(scores: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Fine-tuned minus each other arm, case by case (means over seeds), with its interval."""
    means = scores.groupby(["arm", "region", "case"])["dice"].mean()
    found: dict[str, dict[str, Any]] = {}
    for other in sorted({*scores["arm"]} - {"fine-tuned"}):
        for region in REGIONS:
            pairs = means["fine-tuned", region].sort_index(), means[other, region].sort_index()
            difference = (pairs[0] - pairs[1]).to_numpy()
            low, high = statistics.bootstrap_interval(difference, stream(0, NAME, other, region))
            row = {"mean": difference.mean(), "low": low, "high": high}
            found[f"fine-tuned minus {other}, {region}"] = {key: round(float(value), 4) for key, value in row.items()}
    return found


def main() -> None:
    """All arms and seeds, their scores, and the model if it is the better one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, required=True, help="folder of the real data sets")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "reference" / NAME)
    arguments = parser.parse_args()
    one_thread()
    words = ["python", os.path.relpath(sys.argv[0], ROOT), "--real", "FOLDER", "--steps", str(arguments.steps)]
    command = shlex.join([*words, "--seeds", *map(str, arguments.seeds)])
    runs = {
        (arm, seed): fit(arm, seed, arguments.steps, arguments.real, arguments.work)
        for seed in arguments.seeds
        for arm in ARMS
    }
    shipped = MODEL / "weights.safetensors"
    rules = ensemble.read_settings(shipped)
    assert isinstance(rules, Rules)
    frames = [scored("zero-shot", 0, shipped, arguments.real, rules)]
    frames += [scored(arm, seed, run.weights, arguments.real, rules) for (arm, seed), run in runs.items()]
    scores = pd.concat(frames)
    first = runs["fine-tuned", arguments.seeds[0]]
    record(first.path, NAME, command)
    with atomic(RECORD / "scores.csv") as temporary:
        scores.round(4).to_csv(temporary, index=False)
    means = scores.groupby(["arm", "case", "region"], as_index=False)[["dice", "truth_ml"]].mean()
    summaries = {str(arm): summarise(rows, f"{NAME} {arm}") for arm, rows in means.groupby("arm")}
    write_json(RECORD / "summary.json", {**summaries, "differences": compare(scores)})
    print(table(summaries))
    by_arm = scores.groupby("arm")["dice"].mean()
    if by_arm.idxmax() != "fine-tuned":
        print(f"{by_arm.idxmax()} is better: no weights were written")
        return
    ensemble.join([first.weights], TARGET / "weights.safetensors", rules)
    facts = {"steps": arguments.steps, "table": table(summaries), "command": command}
    facts |= {"parameters": first.metrics["parameters"], "minutes": first.metrics["seconds"] / 60}
    write_text(TARGET / "card.md", CARD.format(versions=f"torch {environment()['versions']['torch']}", **facts))


if __name__ == "__main__":
    main()
