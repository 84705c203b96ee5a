"""Claim: `brainseg predict` is 10 times or more ahead of MONAI's sliding window with the same network, and as good.

One 240x240x155 case, one network. `predict` is timed whole: four files read, brain box, normalisation, one pass, back
to the scan's grid, components, a file written. Of MONAI's `sliding_window_inference` (windows of 128^3, overlap .5,
float32, as its tutorials have it) the call alone is timed, on the scan normalised beforehand; its mask is made by the
same rules. Dice with the truth must not differ by more than .005 in any region. Random weights give random masks: give
weights that were trained (MONAI's UNet of R4, 4.8 M parameters, is the network that the claim was made for).

Each works in a process of its own (how memory is kept is a matter of the whole process), on as many threads, after a
first time that is not counted. Seconds of CPU are what is compared: other programs on the machine change them less than
the clock. The first `predict`, with all that is loaded for it, must stay below 20 s by the clock.

    python benchmarks/predict_3d.py [CASE] [--weights RUN] [--rounds 3] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from brainseg_utils.datasets import nifti
from brainseg_utils.datasets.cases import Case
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.evaluation.voxel import count
from brainseg_utils.inference import ensemble
from brainseg_utils.inference.predict import predict
from brainseg_utils.inference.regions import Rules, label, region_names, to_regions
from brainseg_utils.inference.weights import find
from brainseg_utils.models.registry import count_parameters
from brainseg_utils.phantom import cohort
from brainseg_utils.pipeline.arrays import brain_mask
from brainseg_utils.pipeline.prepare import NORMALISERS, View, view
from brainseg_utils.pipeline.regrid import regrid
from brainseg_utils.pipeline.spacing import coarse_image
from brainseg_utils.training import device as devices
from brainseg_utils.training.checkpoints import Trained, build_network, save_weights
from brainseg_utils.training.recipe import load

AHEAD, SECONDS, DICE = 10.0, 20.0, 0.005
WINDOW, OVERLAP = (128, 128, 128), 0.5
SHAPE = (240, 240, 155)


def random_weights(folder: Path) -> Path:
    """R4's network, untrained."""
    recipe = load("r4_unet")
    network = build_network(recipe, 4, 3)
    return save_weights(folder / "random.safetensors", network.state_dict(), recipe, 4, ("TC", "WT", "ET"))


def timed(work: Callable[[], Any], rounds: int) -> tuple[Any, list[float], float]:
    """What the work gives, seconds of CPU of each round but the first, and seconds of that by the clock."""
    clock, first, seconds = time.perf_counter(), 0.0, []
    for _ in range(rounds + 1):
        cpu = time.process_time()
        result = work()
        seconds.append(time.process_time() - cpu)
        first = first or time.perf_counter() - clock
    return result, seconds[1:], first


def whole_scan(case: Case, seen: View) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """The scan as the network sees it, not cropped, and the way back to its grid."""
    scan = case.images()
    plan = regrid(scan.data.shape[1:], scan.spacing, seen.spacing)
    image = torch.from_numpy(scan.data)
    coarse = image if plan.shape == plan.full else coarse_image(image, plan)
    brain = torch.from_numpy(brain_mask(scan.data))
    return torch.from_numpy(NORMALISERS[seen.how](coarse.numpy())), lambda p: plan.up(p) * brain


def monai_window(network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    """MONAI's sliding window with its defaults."""
    from monai.inferers.utils import sliding_window_inference

    with torch.inference_mode():
        return sliding_window_inference(image[None], WINDOW, 1, network, overlap=OVERLAP)[0]


def mask_of(logits: torch.Tensor, back: Callable, one: Trained, case: Case, rules: Rules) -> np.ndarray:
    """Labels in RAS by the rules of the weights."""
    probability = torch.softmax(logits, 0)[1:] if one.exclusive else torch.sigmoid(logits)
    regions = back(to_regions(probability, one.classes, one.exclusive)).numpy()
    named = dict(zip(region_names(one.classes, one.exclusive), regions, strict=True))
    return label(named, case.scheme, case.images(["t1n"]).spacing, rules, one.exclusive)


def ours(case: Case, weights: Path, rounds: int, scratch: Path) -> dict[str, Any]:
    """Times of `predict`; leaves its mask."""

    def work() -> None:
        shutil.rmtree(scratch / "out", ignore_errors=True)
        assert predict(case.folder, scratch / "out", weights).made == 1

    _, seconds, first = timed(work, rounds)
    file = nifti.read(next((scratch / "out" / case.id).glob("*.nii.gz")))
    np.save(scratch / "ours.npy", nifti.to_ras(file.data, file.affine)[0])
    return {"cpu": seconds, "first": first}


def monai(case: Case, weights: Path, rounds: int, scratch: Path) -> dict[str, Any]:
    """Times of the sliding window; leaves its mask."""
    (one,), rules = ensemble.read(weights), ensemble.read_settings(weights)
    assert isinstance(rules, Rules)
    image, back = whole_scan(case, view(**one.recipe.data.options))
    logits, seconds, first = timed(lambda: monai_window(one.network, image), rounds)
    np.save(scratch / "monai.npy", mask_of(logits, back, one, case, rules))
    return {"cpu": seconds, "first": first}


CONTESTANTS: Mapping[str, Callable[[Case, Path, int, Path], dict[str, Any]]] = {"ours": ours, "monai": monai}


def compare(case: Case, weights: Path, given: argparse.Namespace, scratch: Path) -> bool:
    """Prints times and scores; whether the claim holds."""
    (one,) = ensemble.read(weights)
    print(f"{one.recipe.network.name}, {count_parameters(one.network):,} parameters; case {case.id}")
    bf16 = devices.uses_bf16(one.recipe.engine.precision, torch.device("cpu"))
    print(f"{given.threads} thread(s), bf16 {'yes' if bf16 else 'no: this CPU has none'}")
    times = {}
    for name in CONTESTANTS:
        command = [sys.executable, __file__, str(case.folder), "--weights", str(weights), "--contestant", name]
        command += ["--rounds", str(given.rounds), "--threads", str(given.threads), "--scratch", str(scratch)]
        made = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        times[name] = json.loads(made.stdout)
        print(f"  {name}: " + ", ".join(f"{s:.2f}" for s in times[name]["cpu"]) + " s of CPU")
    ahead = statistics.median(times["monai"]["cpu"]) / statistics.median(times["ours"]["cpu"])
    first = times["ours"]["first"]
    print(
        f"predict is {ahead:.1f} times ahead (needed: {AHEAD:g}); the first took {first:.1f} s (allowed: {SECONDS:g})"
    )
    found, other, truth = np.load(scratch / "ours.npy"), np.load(scratch / "monai.npy"), case.label().data
    worst = 0.0
    for region in (r for r in region_names(one.classes, one.exclusive) if r in case.scheme.regions):
        mine, theirs, true = (case.scheme.region(mask, region) for mask in (found, other, truth))
        a, b = (count(true, mask).dice for mask in (mine, theirs))
        between = count(mine, theirs).dice
        print(f"  {region}: Dice {a:.4f} and {b:.4f} with the truth, {between:.4f} with each other")
        worst = max(worst, abs(a - b))
    print(f"largest difference of Dice {worst:.4f} (allowed: {DICE})")
    return ahead >= AHEAD and first <= SECONDS and worst <= DICE


def main() -> None:
    """Prints the figures; exit code 1 if the claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", type=Path, help="a labelled case's folder; default: a phantom of 1 mm")
    parser.add_argument("--weights", help="one network that was trained on volumes; default: R4's with random weights")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--contestant", choices=sorted(CONTESTANTS), help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    if given.contestant:
        case = find_cases(given.case)[0]
        print(json.dumps(CONTESTANTS[given.contestant](case, Path(given.weights), given.rounds, given.scratch)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        if given.case is None:
            cohort.make(scratch / "case", 1, "brats2021", seed=1, spacing=1, workers=1, healthy=0.0)
        case = find_cases(given.case or scratch / "case")[0]
        if case.images(["t1n"]).data.shape[1:] != SHAPE:
            print(f"note: the claim is about {SHAPE}, this case has {case.images(['t1n']).data.shape[1:]}")
        weights = find(given.weights, case.layout) if given.weights else random_weights(scratch)
        sys.exit(0 if compare(case, weights, given, scratch) else 1)


if __name__ == "__main__":
    main()
