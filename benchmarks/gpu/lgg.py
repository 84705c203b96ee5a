"""R2 on a GPU: its four models for their full epoch counts, the course's two beside them, and the engine's speed.

    python benchmarks/gpu/lgg.py --lgg FOLDER --out DIR [--minutes 8.5] [--runs DIR]     one call, one GPU
    python benchmarks/gpu/lgg.py --small --out DIR                                       a CPU, phantoms, a minute
    python benchmarks/gpu/lgg.py --pack FOLDER --out DIR                                 slices small enough to carry

First, alone on the device, the engine's slices a second beside a plain fp32 loop's on the same network, and from them
seconds a training epoch. Then all recipes train at the same time, each in a process of its own, on four folds of
`data/split.json`; fold 0 validates. When the minutes are over, those that are not done are stopped at their last
checkpoint; the same call with the same --runs goes on from there.

DIR is brought up to date while the trainings run: `results.json` (speeds, and of each recipe the epochs done, the Dice,
the seconds), `<recipe>/` with a record of each run (no checkpoints), `<recipe>.safetensors` in fp16 of the small ones.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import LARGEST_MB, RECORDED, ROOT

from brainseg_utils.files import write_json

EPOCHS = {"r2_setr": 350, "r2_unet_dice": 20, "r2_unet_combo07": 20, "r2_unet_combo05": 40}  # R2's
STEPS = {"course_setr": 20_000, "course_lgg": 6000}
LOOKS = 35  # validations a run
WARM, TIMED, ROUNDS = 5, 10, 5
FAIR = 96  # slices a batch, beside the recipe's: enough to keep a large GPU busy
STOP_S = 20  # for writing what is there
EVERY_S = 10
SMALL_RECIPES = ("r2_setr", "r2_unet_dice", "course_setr", "course_lgg")
SMALL = {"data.size": 32, "budget.batch": 4}
SMALL_SETR = {"network.size": 32, "network.cuts": 4, "network.dim": 16, "network.depth": 1, "network.mlp": 16}


def main() -> None:
    """Measures speed, trains, and keeps what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lgg", type=Path, help="folder of LGG slices")
    parser.add_argument("--out", type=Path, required=True, help="results; may be fetched at any time")
    parser.add_argument("--runs", type=Path, help="the runs with their checkpoints; default: a temporary folder")
    parser.add_argument("--minutes", type=float, default=8.5)
    parser.add_argument("--small", action="store_true", help="a rehearsal on a CPU")
    parser.add_argument("--pack", type=Path, help="write this folder's slices at 128 pixels, compressed, to --out")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.pack:
        pack(given.pack, given.out)
        return
    with tempfile.TemporaryDirectory() as scratch:
        runs = given.runs or Path(scratch) / "runs"
        if given.train:
            train_one(given.train, given.lgg, runs, given.small)
            return
        end = time.monotonic() + 60 * given.minutes - STOP_S
        lgg = given.lgg or phantoms(Path(scratch) / "phantoms")
        write_json(given.out / "results.json", {"speed": speeds(given.small)})
        train_all(lgg, runs, given.out, end, given.small)


def speeds(small: bool) -> dict[str, Any]:
    """Slices a second of engine and plain loop, one after the other in turns, by recipe and batch."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    found: dict[str, Any] = {"device": name, "torch": torch.__version__}
    for recipe in ("r2_unet_dice", "r2_setr"):
        for batch in (4,) if small else (16, FAIR):
            found[f"{recipe}, batch {batch}"] = compare(recipe, batch, device, small)
            print(recipe, batch, found[f"{recipe}, batch {batch}"], flush=True)
    return found


def compare(recipe: str, batch: int, device: str, small: bool) -> dict[str, float]:
    """Median slices a second of both, and their ratio."""
    from training_2d import engine, patients, plain_loop

    from brainseg_utils.training.recipe import load

    profile, rounds, timed = ("quick", 1, 1) if small else ("full", ROUNDS, TIMED)
    stacks = patients(load(recipe, profile).data.options["size"])
    with tempfile.TemporaryDirectory() as folder:
        steps = {
            "plain": plain_loop(stacks, recipe, profile, batch, device),
            "engine": engine(stacks, Path(folder), 1, recipe, profile, batch),
        }
        for step in steps.values():
            seconds(step, 1 if small else WARM)
        times: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(rounds):
            for name in list(steps)[:: -1 if turn % 2 else 1]:
                times[name].append(seconds(steps[name], timed))
    rates = {name: batch / statistics.median(values) for name, values in times.items()}
    return {name: round(rate, 1) for name, rate in rates.items()} | {
        "ratio": round(rates["engine"] / rates["plain"], 2)
    }


def seconds(step: Callable[[], object], count: int) -> float:
    """Seconds of one step, mean of some."""
    import torch

    start = time.perf_counter()
    for _ in range(count):
        step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / count


def train_all(lgg: Path, runs: Path, out: Path, end: float, small: bool) -> None:
    """Starts every training, writes down what there is, and stops what is not done at the end."""
    order = [sys.executable, __file__, "--lgg", str(lgg), "--runs", str(runs), "--out", str(out)]
    order += ["--small"] * small
    started: dict[str, subprocess.Popen] = {}
    for name in SMALL_RECIPES if small else (*EPOCHS, *STEPS):
        started[name] = subprocess.Popen([*order, "--train", name])
        if small:  # a CPU does one thing at a time
            started[name].wait()
    while any(process.poll() is None for process in started.values()) and time.monotonic() < end:
        time.sleep(EVERY_S)
        collect(runs, out, started)
    for process in started.values():
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    for process in started.values():
        try:
            process.wait(STOP_S / 2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    print(json.dumps(collect(runs, out, started), indent=1))
    failed = [name for name, process in started.items() if process.returncode not in (0, 130, -signal.SIGINT)]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def train_one(name: str, lgg: Path, runs: Path, small: bool) -> None:
    """One recipe, or as much of it as there is time for."""
    from brainseg_utils.datasets.find import find_cases
    from brainseg_utils.datasets.splits import Split, save
    from brainseg_utils.training import train
    from brainseg_utils.training.loop import fit
    from brainseg_utils.training.recipe import load
    from brainseg_utils.training.run import Run

    changes: dict[str, Any] = {"engine.workers": 0 if small else 2}
    if small:
        changes |= {**SMALL, "network.stages": 3, **SMALL_SETR} if "setr" in name else SMALL
    profile = "quick" if small else "full"
    recipe, cases = load(name, profile, changes), find_cases(lgg)
    split = folds([case.id for case in cases]) or train.divide(recipe, cases)
    inside, held_out = train.members(recipe, split, cases)
    sources = train.sources(recipe, inside, held_out)
    epoch = math.ceil(len(sources.train) / recipe.budget.batch)
    steps = 2 if small else STEPS.get(name) or EPOCHS[name] * epoch
    changes |= {"budget.steps": steps, "budget.epoch_steps": math.ceil(steps / (1 if small else LOOKS))}
    recipe = load(name, profile, changes)
    run = Run.begin(runs / name, recipe, resume=True)
    subsets = {"train": tuple(case.id for case in inside), "val": tuple(case.id for case in held_out)}
    save(Split(subsets, split.seed), run.path / "split.json")
    run.note(slices=len(sources.train), steps=steps, steps_of_an_epoch=epoch)
    fit(recipe, sources, run)


def folds(ids: list[str]) -> Any:
    """The project's split, if it is of these patients."""
    from brainseg_utils.datasets.splits import Split

    fold_of = json.loads((ROOT / "data" / "split.json").read_text(encoding="utf-8"))["lgg"]["fold_of"]
    if set(ids) != set(fold_of):
        return None
    return Split({f"fold{n}": tuple(sorted(i for i in ids if fold_of[i] == n)) for n in range(5)}, 0)


def collect(runs: Path, out: Path, started: dict[str, subprocess.Popen]) -> dict[str, Any]:
    """Records, small weights and figures of all runs, as far as they are."""
    from brainseg_utils.inference import ensemble
    from brainseg_utils.training.run import Run

    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    speed = results["speed"]
    for name, process in started.items():
        run = Run(runs / name)
        if not (run.path / "history.csv").is_file():
            continue
        (out / name).mkdir(exist_ok=True)
        for file in RECORDED:
            if (run.path / file).is_file():
                shutil.copyfile(run.path / file, out / name / file)
        history, facts = run.history(), run.environment
        results[name] = {
            "status": "done" if run.finished else "running" if process.poll() is None else "stopped",
            "epochs": round(int(history["step"].iloc[-1]) / facts["steps_of_an_epoch"], 1),
            "epochs_wanted": round(facts["steps"] / facts["steps_of_an_epoch"], 1),
            "dice": round(float(history["dice"].iloc[-1]), 4),
            "best_dice": round(float(history["dice"].max()), 4),
            "seconds": float(history["seconds"].iloc[-1]),
        }
        alone = speed.get(f"{name}, batch {run.recipe.budget.batch}")
        if alone:
            results[name]["seconds_of_an_epoch_alone"] = round(facts["slices"] / alone["engine"], 2)
        if run.weights.is_file() and run.weights.stat().st_size / 2e6 <= LARGEST_MB:
            ensemble.join([run.weights], out / f"{name}.safetensors")
    write_json(out / "results.json", results)
    return results


def phantoms(folder: Path) -> Path:
    """A few phantoms in the LGG layout."""
    from brainseg_utils.phantom import cohort

    cohort.make(folder, 5, "lgg", workers=1)
    return folder


def pack(source: Path, out: Path, size: int = 128) -> None:
    """Writes all slices and masks of a folder at half their size and compressed, about a tenth of the bytes.

    The recipes read slices at 128 pixels by the same mean of pixels; what is lost is the rounding to whole grey levels.
    """
    import numpy as np
    import tifffile
    import torch

    from brainseg_utils.datasets.cases import SliceCase, read_tiff
    from brainseg_utils.datasets.find import find_cases
    from brainseg_utils.pipeline.slices import resize

    for case in find_cases(source):
        assert isinstance(case, SliceCase)
        (out / case.id).mkdir(parents=True, exist_ok=True)
        for path in (*case.slice_paths, *(mask for mask in case.mask_paths if mask)):
            pixels = read_tiff(path)
            planes = torch.from_numpy(np.atleast_3d(pixels).astype(np.float32)).permute(2, 0, 1)[None]
            small = resize(planes, size)[0].permute(1, 2, 0).numpy()
            if path in case.mask_paths:
                small = np.where(small >= 127.5, 255, 0)
            values = np.squeeze(small.round().astype(np.uint8))
            tifffile.imwrite(out / case.id / path.name, values, compression="zlib")
    print(f"{sum(f.stat().st_size for f in out.rglob('*.tif')) / 1e6:.1f} MB in {out}")


if __name__ == "__main__":
    main()
