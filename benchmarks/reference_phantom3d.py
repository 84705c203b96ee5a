"""The reference network for 3D scans, trained on phantoms alone: stretches of training, and the model made of them.

    python benchmarks/reference_phantom3d.py train --seed N [--steps 9000] [--change data.wild=0.5 ...]
        [--start FILE ... | --fresh] [--work runs/reference/phantom3d]
    python benchmarks/reference_phantom3d.py ship --real FOLDER [--work runs/reference/phantom3d]

A stretch goes on from the weights that the project ships, from the mean of the weights in `--start`, or with --fresh
from nothing; always with a fresh optimiser and warm-up. Interrupted, the same command goes on. Several may run side by
side, each with a seed that none had, since a seed's heads would come again. One may be stopped early.

`ship` makes the model of the stretches in `--work` that the record has not, each choice on the `develop` cases of
`data/split.json` alone:

1. the last weights that each stretch kept, and the shipped ones, are ordered by their mean Dice; from the best on, one
   after the other joins the mean of the weights if that mean becomes better (a greedy soup: Wortsman et al. 2022,
   arXiv 2203.05482);
2. threshold and share of components are chosen for one region after the other, the least ET with ET's, from few values;
   then whether a core lies inside its rim, with thresholds for tumours without one, and the first thresholds again;
   over the predictions of the mean and of all in it, so that no single case's voxel decides;
3. `develop` and `test` are scored with them, apart: `data/reference/runs/phantom/scores.csv`, one row a case and
   region, and `summary.json`;
4. the fp16 weights, the rules inside, and the card: `data/reference/models/phantom`. They take the place of the
   shipped ones if they are better on `develop`, by mean Dice over regions and cases.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
from real_scans import LEAST, REGIONS, ROOT, Seen, cases, score, summarise

from brainseg_utils.datasets.cases import Case
from brainseg_utils.errors import SettingError
from brainseg_utils.files import atomic, write_json, write_text
from brainseg_utils.inference import ensemble
from brainseg_utils.inference.regions import Rules
from brainseg_utils.inference.volumes import VolumePredictor
from brainseg_utils.parallel import one_thread
from brainseg_utils.phantom import cohort
from brainseg_utils.training.recipe import load
from brainseg_utils.training.records import record
from brainseg_utils.training.run import Run, environment
from brainseg_utils.training.train import train

RECIPE, NAME = "phantom3d", "phantom"
LAST = 2  # of a stretch's kept weights that compete
LOOKS = ("lgg", "post", "wild", "rough", "faint", "cysts", "alike", "band", "small")  # shares of the phantoms
SETTINGS = ("spacing", "coarse", *LOOKS, "augment", "tone")  # that the record tells
MODEL, RECORD = (ROOT / "data" / "reference" / part / NAME for part in ("models", "runs"))
SHIPPED = MODEL / "weights.safetensors"
SEED = 1001  # of the phantoms that validate; those of the training are others
VALIDATION = 8
FLIPS = (0,)  # left and right: a head's only mirror axis
BOTH = (1.0, 2.0)  # mm: thin rims are seen at 1, how far oedema reaches is judged better at 2
SPACINGS = {"WT": (2.0,), "TC": BOTH, "ET": BOTH, "RC": BOTH}
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SHARES = (0.0, 0.1, 0.3)  # of the largest component
LEAST_ET = (0.0, 100.0, 300.0, 1000.0)  # mm^3
RIM, REACH = 0.05, 3.0  # share of ET in the core from which it is a rim; mm
LOW = (LEAST, 0.2, 0.3)  # thresholds for tumours without a rim; lower ones would find tumours in healthy brains
WORTH = 0.003  # mean Dice; a rule that gives less on so few cases is left out
CARD = """# Model card: brain tumours on four MRI sequences, learned from phantoms

**Use:** teaching and research; the default of `brainseg predict` for scans after treatment (layout brats2024), as
`--weights {name}` for all layouts in volumes. Not a medical device.

**Input:** T1, T1 with contrast, T2, FLAIR, skull-stripped and on one grid; one or more may be missing. **Output:**
ET, TC, WT, and RC where the layout has it, on the grid of the files.

**Network:** residual U-Net `resunet3d`, {parameters:,} parameters, trained in voxels of 2 mm, recipe
`phantom3d`. It looks at a scan in those and, for all but WT, in voxels of 1 mm too; probabilities of both, and of the
mirrored scan, are averaged. Rules: {rules}.

**Data:** synthetic heads alone (`brainseg_utils.phantom`), made while it trained, no picture twice in a stretch (the
first three stretches began with the same ones); {steps:,} steps of {batch} patches in {stretches} stretches, {fine} of
them in voxels of 1 mm, {stopped} stopped early. The weights are a mean of points of some of them, which
`environment.json` lists. The phantoms' anatomy is the MNI ICBM 2009c atlas through nilearn (Fonov et al.,
doi:10.1016/j.neuroimage.2010.07.033), free to use with its copyright notice. No patient's scan was trained on.

**On real scans it never saw** (Dice a case at the files' own resolution; no tumour and none found counts 1):

{table}

`develop` chose weights and rules and guided the phantoms' settings. `test` was scored {looks} times on the way, each
time after such a choice; the later choices were made by people who knew the earlier figures. Every case is in
`data/reference/runs/{name}/scores.csv`, every stretch and every earlier figure in `environment.json` beside it.

**Weak where:** the tumour core without enhancement against oedema, small enhancing rims, low-contrast low-grade
tumours; scans with skull, children, other diseases. After treatment (RC) it was seen on phantoms alone.

**Made by:** `{command}`, after its `train` ({hours:.1f} hours of one CPU core in all), {versions}.
"""


def short(weights: Path) -> str:
    """What the record calls some weights."""
    return "shipped" if weights == SHIPPED else f"{weights.parent.name}/{weights.stem}"


def stretch(given: argparse.Namespace) -> Run:
    """Trains, or goes on with an interrupted training."""
    folder, start = given.work / "phantoms", given.work / f"start-{given.seed}.safetensors"
    cohort.make(folder, VALIDATION, "brats2023", seed=SEED, spacing=2, workers=1)
    settings = {"budget.steps": given.steps, "seed": given.seed, "engine.keep_every": 1, **dict(given.change)}
    if not given.fresh:
        files = given.start or [SHIPPED]
        if not start.is_file():  # an interrupted stretch goes on from what it began with
            write_json(start.with_suffix(".json"), [short(file) for file in files])
            ensemble.average(files, start)
        settings["engine.start"] = os.path.relpath(start)
    return train(load(RECIPE, "full", settings), folder, given.work / f"seed-{given.seed}", resume=True)


def soup(files: list[Path], chosen: list[Case], out: Path) -> dict[Path, list[Seen]]:
    """Writes the mean of some of the weights to `out`, and says whose, with what each of them sees alone.

    Each that joined made the mean better. They are compared by the rules that suit the mean of all, over the regions
    that a case has: a few voxels of ET where there is none would cost a whole point and decide everything.
    """
    rules = choose(predicted(ensemble.average(files, out), chosen))

    def value(seen: list[Seen]) -> float:
        rows = score(seen, rules)
        return float(rows.loc[rows["truth_ml"] > 0, "dice"].mean())

    alone = {file: predicted(file, chosen) for file in files}
    values = {file: value(seen) for file, seen in alone.items()}
    order = sorted(files, key=lambda file: -values[file])
    members, best = order[:1], values[order[0]]
    for file in order[1:]:
        found = value(predicted(ensemble.average([*members, file], out), chosen))
        if found > best:
            members, best = [*members, file], found
    ensemble.average(members, out)
    return {file: alone[file] for file in members}


def better(seen: list[Seen], rules: Rules, others: Iterable[Rules]) -> Rules:
    """The first of some rules, or one that is worth more than it on these cases."""
    best, value = rules, float(score(seen, rules)["dice"].mean())
    needed = value + WORTH
    for other in others:
        found = float(score(seen, other)["dice"].mean())
        if found > needed:
            best, needed = other, found
    return best


def choose(seen: list[Seen], spacings: Mapping[str, tuple[float, ...]] = SPACINGS) -> Rules:
    """Threshold and share of each region, outer ones first, since the others lie inside; with ET's also its least."""
    rules = Rules(flips=FLIPS, spacings=spacings)
    for region in REGIONS:
        grid = itertools.product(THRESHOLDS, SHARES, LEAST_ET if region == "ET" else (0.0,))
        rules = better(seen, rules, [_with(rules, region, *values) for values in grid])
    low = [{}, *({"WT": outer, "TC": core} for outer, core in itertools.product(LOW, LOW))]
    rules = better(seen, rules, [replace(rules, rim=RIM, reach=REACH, without_rim=values) for values in low])
    for region in ("WT", "TC") if rules.rim else ():
        share = rules.shares.get(region, 0.0)
        rules = better(seen, rules, [_with(rules, region, value, share, rules.small_et) for value in THRESHOLDS])
    return rules


def _with(rules: Rules, region: str, threshold: float, share: float, least: float) -> Rules:
    thresholds, shares = {**rules.thresholds, region: threshold}, {**rules.shares, region: share}
    return replace(rules, thresholds=thresholds, shares=shares, small_et=least)


def predicted(
    weights: Path, chosen: Iterable[Case], spacings: Mapping[str, tuple[float, ...]] = SPACINGS
) -> list[Seen]:
    """Cases as a network sees them, with their mirror images."""
    predictor = VolumePredictor(ensemble.read(weights), Rules(flips=FLIPS, spacings=spacings))
    return [Seen.of(predictor, case) for case in chosen]


def table(summaries: dict[str, dict[str, dict[str, float]]]) -> str:
    """The card's table."""
    lines = ["| cases | region | mean (95 % interval) | median | n |", "|---|---|---|---|---|"]
    for subset, regions in summaries.items():
        for region, row in regions.items():
            spread = f"{row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
            lines.append(f"| {subset} | {region} | {spread} | {row['median']:.3f} | {row['cases']} |")
    return "\n".join(lines)


def write(run: Run, rules: Rules, seen: dict[str, list[Seen]], facts: dict[str, Any], weights: Path) -> None:
    """Writes the model, its card and its record: of the last stretch with a part in it, or the one that is there."""
    scores = {subset: score(those, rules) for subset, those in seen.items()}
    summaries = {subset: summarise(rows, f"{NAME} {subset}") for subset, rows in scores.items()}
    if run.path != RECORD:
        record(run.path, NAME, facts["command"])
    rows = pd.concat([frame.assign(subset=subset) for subset, frame in scores.items()])
    with atomic(RECORD / "scores.csv") as temporary:
        rows.round(4).to_csv(temporary, index=False)
    write_json(RECORD / "summary.json", summaries)
    made = json.loads((RECORD / "environment.json").read_text(encoding="utf-8"))
    write_json(RECORD / "environment.json", {**made, **facts, "rules": asdict(rules)})
    target = ensemble.join([weights], SHIPPED, rules)
    stretches = facts["stretches"]
    text = CARD.format(
        name=NAME,
        parameters=run.metrics["parameters"],
        rules=json.dumps({name: value for name, value in asdict(rules).items() if value}),
        steps=sum(one["steps"] for one in stretches),
        batch=run.recipe.budget.batch,
        stretches=len(stretches),
        stopped=sum(one["steps"] < one["planned"] for one in stretches),
        fine=sum(one["settings"].get("spacing") == 1 for one in stretches),
        looks=len(facts["looks at test"]) + 1,
        table=table(summaries),
        command=facts["command"],
        hours=sum(one["seconds"] for one in stretches) / 3600,
        versions=f"torch {environment()['versions']['torch']}",
    )
    write_text(MODEL / "card.md", text)
    print(table(summaries), f"\n{target.stat().st_size / 1e6:.2f} MB", sep="\n")


def setting(text: str) -> tuple[str, Any]:
    """A setting of the recipe by its place: data.wild=0.5."""
    name, _, value = text.partition("=")
    return name, json.loads(value)


def told(run: Run) -> dict[str, Any]:
    """What the record says of a stretch, stopped early or not."""
    last, options = run.history().iloc[-1], run.recipe.data.options
    done = {
        "steps": int(last["step"]),
        "planned": run.recipe.budget.steps,
        "seconds": round(float(last["seconds"]), 1),
    }
    kept = {name: options[name] for name in SETTINGS if name in options}
    noted = run.path.parent / f"start-{run.recipe.seed}.json"
    start = json.loads(noted.read_text(encoding="utf-8")) if noted.is_file() else []
    seed = run.recipe.seed
    return {**done, "dice": round(float(last["dice"]), 4), "seed": seed, "start": start, "settings": kept}


def close(run: Run) -> None:
    """A stretch that was stopped early ends with what it has."""
    if not run.finished:
        (trained,) = ensemble.read(sorted(run.path.glob("epoch-*.safetensors"))[-1])
        parameters = sum(weight.numel() for weight in trained.network.parameters())
        last = told(run)
        facts = {name: last[name] for name in ("steps", "seconds", "dice")}
        run.write_metrics({**facts, "stopped_early": True, "parameters": parameters})


def ship(given: argparse.Namespace, command: str) -> None:
    """Makes the model of the new stretches, and writes it if it is better than the one that is there."""
    noted = json.loads((RECORD / "environment.json").read_text(encoding="utf-8"))
    known = {one["seed"] for one in noted["stretches"]}
    runs = [run for run in map(Run, sorted(given.work.glob("seed-*"))) if run.recipe.seed not in known]
    if not runs:
        raise SettingError(
            "no stretch that the record has not", where=given.work, remedy="train one, with a new --seed"
        )
    for run in runs:
        close(run)
    files = [weights for run in runs for weights in sorted(run.path.glob("epoch-*.safetensors"))[-LAST:]]
    develop, mixed = cases(given.real, "develop"), given.work / "soup.safetensors"
    members = soup([SHIPPED, *files], develop, mixed)
    seen = {"develop": predicted(mixed, develop)}
    rules = choose([*seen["develop"], *(one for alone in members.values() for one in alone)])
    value = float(score(seen["develop"], rules)["dice"].mean())
    if value <= noted["develop"]:
        print(f"not better on develop: {value:.4f}, shipped {noted['develop']:.4f}; nothing was changed")
        return
    seen["test"] = predicted(mixed, cases(given.real, "test"))
    before = json.loads((RECORD / "summary.json").read_text(encoding="utf-8"))["test"]
    facts = {
        "command": command,
        "looks at test": [*noted["looks at test"], {region: before[region]["mean"] for region in REGIONS}],
        "stretches": [*noted["stretches"], *map(told, runs)],
        "develop": round(value, 4),
        "weights": [{short(file): noted["weights"]} if file == SHIPPED else short(file) for file in members],
    }
    joined = [run for run in runs if run.path in {file.parent for file in members}]
    write(joined[-1] if joined else Run(RECORD), rules, seen, facts, mixed)


def main() -> None:
    """A stretch, or the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    teach, publish = kinds.add_parser("train"), kinds.add_parser("ship")
    teach.add_argument("--seed", type=int, required=True)
    teach.add_argument("--steps", type=int, default=9000)
    teach.add_argument("--change", type=setting, action="append", default=[], help="a setting, as data.wild=0.5")
    begin = teach.add_mutually_exclusive_group()
    begin.add_argument("--start", type=Path, nargs="+", help="weights whose mean is gone on from; default: the shipped")
    begin.add_argument("--fresh", action="store_true", help="begin from nothing")
    publish.add_argument("--real", type=Path, required=True, help="folder of the real data sets")
    for one in (teach, publish):
        one.add_argument("--work", type=Path, default=ROOT / "runs" / "reference" / RECIPE)
    given = parser.parse_args()
    one_thread()
    if given.kind == "train":
        stretch(given)
        return
    words = ["FOLDER" if word == str(given.real) else word for word in sys.argv[1:]]
    ship(given, shlex.join(["python", os.path.relpath(sys.argv[0], ROOT), *words]))


if __name__ == "__main__":
    main()
