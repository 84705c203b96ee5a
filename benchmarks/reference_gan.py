"""GAN augmentation, judged: three painters, what they paint, and what painted extras are worth to a segmentation.

    python benchmarks/reference_gan.py [--real FOLDER] [--work runs/reference/gan] [--steps 80] [--seeds 0 1 2]
                                       [--only painters]

`painters`    the course's painter at its quick size with each seed, on phantoms that are made while it trains
`judge`       each painter on phantoms that it has not seen: how much of the gap from healthy to real tissue its paint
              closes, the same with labels shuffled, texture, Fréchet distance and precision and recall on features of
              the segmentation network that is trained here without extras, copies of training patches
`experiment`  the course's segmentation recipe with 0, .5 and 1 painted extras a real patch, without and with classical
              augmentation, with each seed and its painter, equal steps: few phantoms train, others are scored
`fewshot`     the same with the real `develop` cases as the whole training set, scored on the `test` cases (`--real`)

Shapes and contrasts of the extras are those of the cases that train, varied and mixed. Nothing is selected: the weights
of the last step are scored, at 2 mm. Differences are paired by case, each case's Dice averaged over the seeds, with
95 % bootstrap intervals.

Each piece is left alone when it is there, so that an interrupted script goes on. Writes the records
`data/reference/runs/gan_{painters,judge,experiment,fewshot}` and the first seed's painter as
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

import numpy as np
import pandas as pd
import real_scans
import torch

from brainseg_utils.datasets.cases import Case
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.evaluation import realism
from brainseg_utils.evaluation.statistics import compare
from brainseg_utils.files import atomic, write_json, write_text
from brainseg_utils.models.painter import TISSUES, contrast_code, hole_of, one_hot
from brainseg_utils.parallel import one_thread
from brainseg_utils.phantom import cohort
from brainseg_utils.training import gan_recipe, gan_samples
from brainseg_utils.training.gan_run import GanRun, read_generator, write_generator
from brainseg_utils.training.loop import fit
from brainseg_utils.training.painting import TumourPainter
from brainseg_utils.training.recipe import load
from brainseg_utils.training.run import Run, environment
from brainseg_utils.training.train import sources

ROOT = Path(__file__).resolve().parent.parent
RECORDS, MODEL = ROOT / "data" / "reference" / "runs", ROOT / "data" / "reference" / "models" / "painter"
SHARES = (0.0, 0.5, 1.0)
AUGMENTATIONS = {"none": "none", "classical": "pipeline"}
COHORT_SEED, TRAIN, TEST = 47, 8, 12  # phantoms of the experiment
JUDGED = 64  # patches a side of each comparison
SIDE = 48  # of a judged patch, and of a patch of the experiment
SHUFFLED = [2, 0, 1, 3]  # order of the tissues
MODALITIES = ("t1n", "t1c", "t2w", "t2f")
REGIONS = ("ET", "TC", "WT")


CARD = """# Model card: a painter of tumours, learned from phantoms

**Use:** teaching and research: more training patches with a tumour, for notebook 06 and `data.painter` of a recipe. Not
a medical device; a painted scan is no patient's and must not be passed off as one.

**Input:** T1, T1 with contrast, T2, FLAIR at 2 mm, z-scores over the brain; a hole, the label map of the tumour to
paint (NETC, SNFH, ET, RC), and its contrast code (mean of each tissue in each modality). **Output:** the scan with the
tumour painted into the hole, to the bit unchanged outside it.

**Network:** `painter`, {parameters:,} parameters, against `patch_critic`; recipe `course_painter`, quick profile;
the file holds the recipe and {codes} contrast codes of training patches beside the weights.

**Data:** synthetic heads alone (`brainseg_utils.phantom`), made while it trained; {steps} steps of {batch} patches of
{side} voxels a side. The phantoms' anatomy is the MNI ICBM 2009c atlas through nilearn (Fonov et al.,
doi:10.1016/j.neuroimage.2010.07.033), free to use with its copyright notice. No patient's scan was trained on.

**How good:** `data/reference/runs/gan_judge`: how much of the gap from healthy to real tissue it closes in each tissue
and modality, texture, variety. What painted extras are worth to a segmentation: `gan_experiment`, `gan_fewshot`.

**Weak where:** the tissue around a painted tumour is not pushed aside; textures come out smoother than real ones;
treated tumours (RC) were in none of its patches.

**Made by:** `python benchmarks/reference_gan.py --only painters`, seed {seed} ({minutes:.0f} minutes of a part of one
CPU core), torch {version}.
"""


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


def unseen(seed: int, number: int) -> dict[str, Any]:
    """Patches of phantoms that no painter was trained on."""
    size = [SIDE] * 3
    recipe = gan_recipe.load(
        "course_painter", "quick", {"seed": seed, "data.size": size, "data.pool": 12, "data.uses": 2}
    )
    return gan_samples.samples(recipe).batch(range(number))


@torch.no_grad()
def paint(
    loaded: TumourPainter, batch: dict[str, Any], order: list[int] | None = None, own: bool = False
) -> torch.Tensor:
    """The patches with their tumours painted anew.

    Args:
        loaded: the painter.
        batch: patches.
        order: of the tissues in the label, to shuffle it.
        own: with the contrast of the patch itself, to be compared tissue by tissue; else with a code of the painter's
            own training patches, as in use.
    """
    rng, made = np.random.default_rng(0), []
    torch.manual_seed(0)
    for image, label in zip(batch["image"], batch["label"], strict=True):
        layers, brain = one_hot(label[None]), (image != 0).any(dim=0)[None, None]
        drawn = loaded.draw_code([int(n) for n in label.unique() if n], rng)[None]
        code = contrast_code(image[None], layers) if own else drawn
        shown = layers if order is None else layers[:, order]
        made.append(loaded.network(image[None], hole_of(label[None], brain), shown, code)[0])
    return torch.stack(made)


@torch.no_grad()
def features(network: torch.nn.Module, images: torch.Tensor) -> np.ndarray:
    """Means over space of the segmentation network's coarsest scale but one, (N, F)."""
    kept: list[torch.Tensor] = []
    hook = network.down[-2].register_forward_hook(lambda module, given, found: kept.append(found.mean(dim=(2, 3, 4))))
    for image in images:
        network(image[None])
    hook.remove()
    return torch.cat(kept).float().numpy()


def judge(settings: Settings) -> dict[str, pd.DataFrame]:
    """One row a painter, and how much of each gap it closes."""
    trained = segmentation(settings, "experiment", 0.0, "classical", settings.seeds[0], None).load().network.eval()
    held_out, training = unseen(1000, JUDGED), unseen(0, JUDGED)
    other = unseen(2000, JUDGED)
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
        near = realism.nearest(seen, features(trained, training["image"]), again)
        precision, recall = realism.precision_recall(real, seen)
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
                "frechet": realism.frechet_distance(real, seen),
                "frechet_real_real": realism.frechet_distance(real, again),
                "precision": precision,
                "recall": recall,
                "copied": near.copied,
                **grain(held_out, made),
            }
        )
        tables.append(table.assign(seed=seed))
    return {"judge": pd.DataFrame(rows), "gaps": pd.concat(tables)}


def gaps(batch: dict[str, Any], made: torch.Tensor, shuffled: torch.Tensor) -> pd.DataFrame:
    """How much of the gap from healthy to real tissue is closed, a row a tissue and modality that differ by .3 sd."""
    layers = one_hot(batch["label"])
    there = layers.flatten(2).any(dim=2)[..., None]
    image = batch["image"]
    outside = ~hole_of(batch["label"]) & (image != 0).any(dim=1, keepdim=True)
    healthy = [float(image[:, k][outside[:, 0]].mean()) for k in range(4)]
    means = [
        contrast_code(one, layers).masked_fill(~there, torch.nan).nanmean(dim=0) for one in (image, made, shuffled)
    ]
    rows = []
    for t, tissue in enumerate(TISSUES):
        for m, modality in enumerate(MODALITIES):
            real, right, wrong = (float(mean[t, m]) for mean in means)
            if abs(real - healthy[m]) > 0.3:
                closed = [realism.closed_gap(real, value, healthy[m]) for value in (right, wrong)]
                rows.append((tissue, modality, healthy[m], real, right, wrong, *closed))
    return pd.DataFrame(rows, columns=["tissue", "modality", "healthy", "real", "made", "wrong", "closed", "shuffled"])


def grain(batch: dict[str, Any], made: torch.Tensor) -> dict[str, float]:
    """Spread and correlation of neighbouring voxels in oedema on FLAIR, real and made, medians over the patches."""
    found: dict[str, list[realism.Texture]] = {"real": [], "made": []}
    for k in range(len(made)):
        mask = batch["label"][k, 0].numpy() == TISSUES.index("SNFH") + 1
        for name, images in (("real", batch["image"]), ("made", made)):
            found[name].append(realism.texture(images[k, 3].numpy(), mask))
    return {
        f"{what}_{name}": float(np.nanmedian([value(t) for t in group]))
        for name, group in found.items()
        for what, value in (("sd", lambda t: t.sd), ("neighbours", lambda t: t.correlation[0]))
    }


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


def ship(run: GanRun) -> None:
    """Writes a painter as the model that comes with the course."""
    recipe, weights, codes = read_generator(run.path)
    assert codes is not None
    half = {name: tensor.half() for name, tensor in weights.items()}
    write_generator(MODEL / "weights.safetensors", recipe, half, codes)
    facts = {
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        "steps": run.metrics["steps"],
        "batch": recipe.budget.batch,
        "side": recipe.data.options["size"][0],
        "minutes": run.metrics["seconds"] / 60,
        "codes": len(codes),
        "version": torch.__version__,
        "seed": recipe.seed,
    }
    write_text(MODEL / "card.md", CARD.format(**facts))


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
    words = ["python", "benchmarks/reference_gan.py", *(["--real", "FOLDER"] if piece == "fewshot" else [])]
    words += ["--steps", str(settings.steps), "--seeds", *map(str, settings.seeds), "--only", piece]
    seed = ", ".join(map(str, settings.seeds))
    facts = {"command": shlex.join(words), "seed": seed, "device": "CPU, 1 thread", "time": round(taken, 1)}
    write_json(folder / "environment.json", {**environment(), **facts})


def main() -> None:
    """Runs what is asked for."""
    makers: dict[str, Any] = {
        "painters": painters,
        "judge": judge,
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
    if given.only == "fewshot" and given.real is None:
        parser.error("fewshot needs --real")
    one_thread()
    settings = Settings(given.work, given.real, given.steps, tuple(given.seeds))
    wanted = [given.only] if given.only else [piece for piece in makers if given.real or piece != "fewshot"]
    for piece in wanted:
        began = time.monotonic()
        tables = makers[piece](settings)
        keep(settings, piece, tables, time.monotonic() - began if piece == "judge" else seconds(settings, piece))


if __name__ == "__main__":
    main()
