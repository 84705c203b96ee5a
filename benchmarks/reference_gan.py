"""GAN augmentation, judged: three painters, what they paint, and what painted extras are worth to a segmentation.

    python benchmarks/reference_gan.py [--real FOLDER] [--work runs/reference/gan] [--seconds 300] [--only painters]

`painters`    the course's painter with three seeds on phantoms, as many steps as fit into the seconds of one CPU core
              by the CPU that a step takes here
`judge`       each painter on phantoms that it has not seen: how much of the gap from healthy to real tissue its paint
              closes, the same with labels shuffled, texture, Fréchet distance and precision and recall on features of
              the segmentation network that is trained here without extras, copies of training patches
`experiment`  the course's segmentation recipe with 0, .5 and 1 painted extras a real patch, without and with classical
              augmentation, three seeds each, equal steps: few phantoms train, others are scored
`fewshot`     the same with the real `develop` cases as the whole training set, scored on the `test` cases (`--real`);
              shapes and contrasts of the extras are those of the training cases

Nothing is selected: the weights of the last step are scored. Differences are paired by case, each case's Dice averaged
over the seeds, with 95 % bootstrap intervals. Each piece is written when it is done and left alone when it is there, so
that an interrupted script goes on. Results: `WORK/judge.csv`, `experiment.csv`, `fewshot.csv` and their comparisons.
"""

from __future__ import annotations

import argparse
import tempfile
import time
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
from brainseg_utils.files import atomic
from brainseg_utils.models.painter import TISSUES, contrast_code, hole_of, one_hot
from brainseg_utils.parallel import one_thread
from brainseg_utils.phantom import cohort
from brainseg_utils.training import adversarial, batches, gan_recipe, gan_samples
from brainseg_utils.training.gan_run import GanRun
from brainseg_utils.training.loop import fit
from brainseg_utils.training.painting import TumourPainter
from brainseg_utils.training.recipe import load
from brainseg_utils.training.run import Run
from brainseg_utils.training.train import sources

ROOT = Path(__file__).resolve().parent.parent
SEEDS = (0, 1, 2)
SHARES = (0.0, 0.5, 1.0)
AUGMENTATIONS = {"none": "none", "classical": "pipeline"}
COHORT_SEED, TRAIN, TEST = 47, 8, 16  # phantoms of the experiment
JUDGED = 64  # patches a side of each comparison
SIDE = 48
WARM, TIMED = 3, 6  # steps
MODALITIES = ("t1n", "t1c", "t2w", "t2f")
REGIONS = ("ET", "TC", "WT")


@dataclass(frozen=True)
class Settings:
    """What the command line says."""

    work: Path
    real: Path | None
    seconds: float
    steps: int


def painter(settings: Settings, seed: int) -> GanRun:
    """A trained painter; goes on where it stopped."""
    folder = settings.work / "painters" / str(seed)
    if (folder / "recipe.toml").is_file():
        recipe = GanRun(folder).recipe
    else:
        recipe = gan_recipe.load("course_painter", "quick", {"seed": seed})
        loop = adversarial.GanLoop(recipe, gan_samples.samples(recipe), Run(tempfile.mkdtemp()))
        began = 0.0
        for number, parts in enumerate(batches.steps(loop.samples, 0, WARM + TIMED, recipe.budget.batch)):
            loop.step(parts)
            if number == WARM - 1:
                began = time.process_time()
        steps = max(60, int(settings.seconds / ((time.process_time() - began) / TIMED)))
        recipe = gan_recipe.load("course_painter", "quick", {"seed": seed, "budget.steps": steps})
    return gan_samples.train(recipe, folder, resume=True)


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


def judge(settings: Settings) -> pd.DataFrame:
    """One row a painter."""
    trained = segmentation(settings, "experiment", 0.0, "classical", 0, None).load().network.eval()
    held_out, training = unseen(1000, JUDGED), unseen(0, JUDGED)
    other = unseen(2000, JUDGED)
    real = features(trained, held_out["image"])
    again = features(trained, other["image"])
    rows = []
    for seed in SEEDS:
        run = painter(settings, seed)
        loaded = TumourPainter.load(run.path)
        made = paint(loaded, held_out)
        table = gaps(held_out, *(paint(loaded, held_out, order, own=True) for order in (None, [2, 0, 1, 3])))
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
        table.to_csv(settings.work / f"gaps-{seed}.csv", index=False)
    return pd.DataFrame(rows)


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
    changes |= {"data.augment": AUGMENTATIONS[augment], "data.cache": str(settings.work / "cache")}
    if used is not None:
        changes |= {"data.painted": share, "data.painter": str(used)}
        changes |= {"data.shapes": "warped" if kind == "fewshot" else "grown"}
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


def experiment(settings: Settings, kind: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All runs; mean Dice a setting and region, and each setting against the one with neither."""
    scores: dict[tuple[str, float], pd.DataFrame] = {}
    for seed in SEEDS:
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
    return pd.concat(parts), pd.concat(differences)


def write(table: pd.DataFrame, path: Path) -> None:
    """Writes a table and prints it."""
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False)
    print(f"{path.name}\n{table.round(3).to_string(index=False)}\n", flush=True)


def main() -> None:
    """Runs what is asked for."""
    pieces = ("painters", "judge", "experiment", "fewshot")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="folder of the real scans; without it, no `fewshot`")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "reference" / "gan")
    parser.add_argument("--seconds", type=float, default=300, help="CPU of each painter's training")
    parser.add_argument("--steps", type=int, default=400, help="of each segmentation")
    parser.add_argument("--only", choices=pieces)
    given = parser.parse_args()
    one_thread()
    settings = Settings(given.work, given.real, given.seconds, given.steps)
    wanted = (given.only,) if given.only else pieces if given.real else pieces[:-1]
    for piece in wanted:
        if piece == "painters":
            write(
                pd.concat([painter(settings, seed).history().assign(seed=seed) for seed in SEEDS]),
                given.work / "painters.csv",
            )
        elif piece == "judge":
            write(judge(settings), given.work / "judge.csv")
        else:
            scores, differences = experiment(settings, piece)
            write(scores, given.work / f"{piece}.csv")
            write(differences, given.work / f"{piece}-differences.csv")


if __name__ == "__main__":
    main()
