"""GAN augmentation, judged: three painters, what they paint, and what painted extras are worth to a segmentation.

    python benchmarks/reference_gan.py [--real FOLDER] [--work runs/reference/gan] [--steps 80] [--seeds 0 1 2]
                                       [--only painters]

`painters`    the course's painter at its quick size with each seed, on phantoms that are made while it trains
`judge`       each painter on phantoms that it has not seen: how much of the gap from healthy to real tissue its paint
              closes, the same with labels shuffled, texture, Fréchet distance and precision and recall on features of
              the segmentation network that is trained here without extras, copies of training patches
`develop`     the first painter, which knows phantoms alone, on the real `develop` cases: their own tumours are painted
              anew with their own contrast; gaps and borders as numbers (`--real`)
`experiment`  the course's segmentation recipe with 0, .5 and 1 painted extras a real patch, without and with classical
              augmentation, with each seed and its painter, equal steps: few phantoms train, others are scored
`fewshot`     `experiment` with the real `develop` cases as the whole training set, scored on the `test` cases

Shapes and contrasts of the extras are those of the cases that train, varied and mixed. Nothing is selected: the weights
of the last step are scored, at 2 mm. Differences are paired by case, each case's Dice averaged over the seeds, with
95 % bootstrap intervals.

Each piece is left alone when it is there, so that an interrupted script goes on. Writes the records
`data/reference/runs/gan_{painters,judge,develop,experiment,fewshot}` and the first seed's painter as
`data/reference/models/painter`.
"""

from __future__ import annotations

import argparse
import functools
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import real_scans
import torch
from painted_patches import SIDE, borders, centre, features, gaps, grain, paint, unseen
from painter_model import ship

from brainseg_utils.datasets.cases import Case
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.evaluation import realism
from brainseg_utils.evaluation.statistics import compare
from brainseg_utils.files import atomic, write_json
from brainseg_utils.models.painter import TISSUES
from brainseg_utils.parallel import one_thread
from brainseg_utils.phantom import cohort
from brainseg_utils.pipeline.arrays import bounding_box
from brainseg_utils.training import gan_recipe, gan_samples
from brainseg_utils.training.gan_run import GanRun
from brainseg_utils.training.loop import fit
from brainseg_utils.training.painting import MARGIN, TumourPainter
from brainseg_utils.training.recipe import load
from brainseg_utils.training.run import Run, environment
from brainseg_utils.training.train import sources
from brainseg_utils.training.volumes import volumes

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "data" / "reference" / "runs"
SHARES = (0.0, 0.5, 1.0)
AUGMENTATIONS = {"none": "none", "classical": "pipeline"}
COHORT_SEED, TRAIN, TEST = 47, 8, 12  # phantoms of the experiment
JUDGED, TRAINED = 64, 256  # patches a side of each comparison; of the training set, in which copies are looked for
REAL = ("develop", "fewshot")  # pieces that need the real scans
SHUFFLED = [2, 0, 1, 3]  # order of the tissues
REGIONS = ("ET", "TC", "WT")


@dataclass(frozen=True)
class Settings:
    """What the command line says."""

    work: Path
    real: Path | None
    steps: int
    seeds: tuple[int, ...]


def painter(settings: Settings, seed: int) -> GanRun:
    """A trained painter; goes on where it stopped."""
    recipe = gan_recipe.load("course_painter", "quick", {"seed": seed})
    return gan_samples.train(recipe, settings.work / "painters" / str(seed), resume=True)


def judge(settings: Settings) -> dict[str, pd.DataFrame]:
    """One row a painter, and how much of each gap it closes.

    A painted patch has its surroundings in common with the real one that it was made from. So distributions are
    compared with those of a third set, `other`, and beside them those of the real patches with the same set.
    """
    trained = segmentation(settings, "experiment", 0.0, "classical", settings.seeds[0], None).load().network.eval()
    held_out, other = unseen(1000, JUDGED), unseen(2000, JUDGED)
    real = features(trained, held_out["image"])
    again = features(trained, other["image"])
    rows, tables = [], []
    for seed in settings.seeds:
        run = painter(settings, seed)
        loaded = TumourPainter.load(run.path)
        made = paint(loaded, held_out)
        table = gaps(held_out, *(paint(loaded, held_out, order, own=True) for order in (None, SHUFFLED)))
        history = run.history()
        seen = features(trained, made)
        training = gan_samples.samples(run.recipe).batch(range(TRAINED))["image"]
        near = realism.nearest(
            *(features(trained, centre(one, training.shape[-1])) for one in (made, training, other["image"]))
        )
        precision, recall = realism.precision_recall(again, seen)
        late = history.iloc[len(history) // 2 :]
        rows.append(
            {
                "seed": seed,
                "steps": int(history["step"].iloc[-1]),
                "least_gap_closed": table["closed"].min(),
                "median_gap_closed": table["closed"].median(),
                "median_gap_closed_shuffled": table["shuffled"].median(),
                "accuracy": late["accuracy"].mean(),
                "accuracy_low": late["accuracy"].min(),
                "accuracy_high": late["accuracy"].max(),
                "variety": history["variety"].iloc[-1],
                "frechet": realism.frechet_distance(again, seen),
                "frechet_real_real": realism.frechet_distance(again, real),
                "precision": precision,
                "recall": recall,
                "copied": near.copied,
                **grain(held_out, made),
            }
        )
        tables.append(table.assign(seed=seed))
    return {"judge": pd.DataFrame(rows), "gaps": pd.concat(tables)}


def develop(settings: Settings) -> dict[str, pd.DataFrame]:
    """How much of each gap is closed in each real case, and whether the border of the hole is seen."""
    loaded = TumourPainter.load(painter(settings, settings.seeds[0]).path)
    cases, options = division(settings, "fewshot")[0], {"regions": TISSUES, "exclusive": True}
    cache = str(settings.work / "cache")
    found = volumes(cases, [], 0, 1, size=(SIDE,) * 3, spacing=2.0, augment="none", cache=cache, **options)
    parts: dict[str, list[pd.DataFrame]] = {"gaps": [], "borders": []}
    for entry in found.train.patches.entries:
        box = bounding_box(entry.label()[0] > 0, MARGIN).slices
        image, label = (torch.from_numpy(one[(slice(None), *box)])[None] for one in (entry.image(), entry.label()))
        batch = {"image": image.float(), "label": label}
        made, shuffled = (paint(loaded, batch, order, own=True) for order in (None, SHUFFLED))
        parts["gaps"].append(gaps(batch, made, shuffled).assign(case=entry.case_id))
        parts["borders"].append(borders(batch, made).assign(case=entry.case_id))
    return {name: pd.concat(tables) for name, tables in parts.items()}


@functools.cache
def division(settings: Settings, kind: str) -> tuple[list[Case], list[Case]]:
    """Who trains, who is scored."""
    if kind == "fewshot":
        assert settings.real is not None
        return real_scans.cases(settings.real, "develop"), real_scans.cases(settings.real, "test")
    folder = settings.work / "phantoms"
    cohort.make(folder, TRAIN + TEST, "brats2023", seed=COHORT_SEED, spacing=2, workers=1)
    cases = find_cases(folder)
    return cases[:TRAIN], cases[TRAIN:]


def segmentation(settings: Settings, kind: str, share: float, augment: str, seed: int, used: Path | None) -> Run:
    """One run of the experiment, with `scores.csv`."""
    training, held_out = division(settings, kind)
    changes: dict[str, Any] = {"seed": seed, "budget.steps": settings.steps, "budget.epoch_steps": settings.steps}
    changes |= {
        "data.size": [SIDE] * 3,
        "data.augment": AUGMENTATIONS[augment],
        "data.cache": str(settings.work / "cache"),
    }
    if used is not None:
        changes |= {"data.painted": share, "data.painter": str(used), "data.shapes": "warped"}
    folder = settings.work / kind / f"{augment}-{share:g}-{seed}"

    def score(row: dict[str, float], network: torch.nn.Module, validation: Any) -> None:
        rows = [
            (case, region, "dice", value, "")
            for case, values in validation.by_case.items()
            for region, value in zip(REGIONS, values, strict=True)
        ]
        with atomic(folder / "scores.csv") as temporary:
            pd.DataFrame(rows, columns=["case", "region", "metric", "value", "unit"]).to_csv(temporary, index=False)

    recipe = load("course_resunet3d", "quick", changes)
    run = Run.begin(folder, recipe, resume=True)
    return run if run.finished else fit(recipe, sources(recipe, training, held_out), run, score)


def experiment(settings: Settings, kind: str) -> dict[str, pd.DataFrame]:
    """All runs: Dice a setting, case and region, and each setting against the one with neither."""
    scores: dict[tuple[str, float], pd.DataFrame] = {}
    for seed in settings.seeds:
        used = painter(settings, seed).path
        for augment in AUGMENTATIONS:
            for share in SHARES:
                run = segmentation(settings, kind, share, augment, seed, used if share else None)
                found = pd.read_csv(run.path / "scores.csv", keep_default_na=False)
                scores[augment, share] = pd.concat([scores.get((augment, share)), found])
    keys = ["case", "region", "metric", "unit"]
    pooled = {key: table.groupby(keys, as_index=False)["value"].mean() for key, table in scores.items()}
    parts = [table.assign(augment=key[0], extras=key[1]) for key, table in pooled.items()]
    differences = [
        compare(pooled[augment, 0.0], pooled[augment, share], ("dice",)).assign(augment=augment, extras=share)
        for augment in AUGMENTATIONS
        for share in SHARES[1:]
    ]
    differences.append(compare(pooled["none", 0.0], pooled["classical", 0.0], ("dice",)).assign(augment="classical"))
    return {"scores": pd.concat(parts), "differences": pd.concat(differences)}


def painters(settings: Settings) -> dict[str, pd.DataFrame]:
    """The histories of all; the first is kept as a model."""
    runs = {seed: painter(settings, seed) for seed in settings.seeds}
    ship(runs[settings.seeds[0]])
    return {"history": pd.concat([run.history().assign(seed=seed) for seed, run in runs.items()])}


def seconds(settings: Settings, piece: str) -> float:
    """What the piece's trainings took."""
    return sum(Run(folder).metrics["seconds"] for folder in (settings.work / piece).iterdir())


def keep(settings: Settings, piece: str, tables: Mapping[str, pd.DataFrame], taken: float) -> None:
    """Writes a record and prints it."""
    folder = RECORDS / f"gan_{piece}"
    for name, table in tables.items():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(folder / f"{name}.csv") as temporary:
            table.round(4).to_csv(temporary, index=False)
        print(f"{piece}, {name}\n{table.round(3).to_string(index=False)}\n", flush=True)
    words = ["python", "benchmarks/reference_gan.py", *(["--real", "FOLDER"] if piece in REAL else [])]
    words += ["--steps", str(settings.steps), "--seeds", *map(str, settings.seeds), "--only", piece]
    seed = ", ".join(map(str, settings.seeds))
    facts = {"command": shlex.join(words), "seed": seed, "device": "CPU, 1 thread", "time": round(taken, 1)}
    write_json(folder / "environment.json", {**environment(), **facts})


def main() -> None:
    """Runs what is asked for."""
    makers: dict[str, Any] = {
        "painters": painters,
        "judge": judge,
        "develop": develop,
        "experiment": functools.partial(experiment, kind="experiment"),
        "fewshot": functools.partial(experiment, kind="fewshot"),
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="folder of the real scans; without it, no `fewshot`")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "reference" / "gan")
    parser.add_argument("--steps", type=int, default=80, help="of each segmentation")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", choices=makers)
    given = parser.parse_args()
    if given.only in REAL and given.real is None:
        parser.error(f"{given.only} needs --real")
    one_thread()
    settings = Settings(given.work, given.real, given.steps, tuple(given.seeds))
    wanted = [given.only] if given.only else [piece for piece in makers if given.real or piece not in REAL]
    for piece in wanted:
        began = time.monotonic()
        tables = makers[piece](settings)
        taken = time.monotonic() - began if piece in ("judge", "develop") else seconds(settings, piece)
        keep(settings, piece, tables, taken)


if __name__ == "__main__":
    main()
