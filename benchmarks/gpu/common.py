"""What the GPU scripts for volumes share: a call that ends in time, its phantoms, trainings that are kept.

A call has a folder for results (`--out`: `results.json`, and a folder for each training that is a run's record with
fp16 weights) and a folder for work (`--work`: phantoms, cache, runs with their checkpoints). A training that a call's
end stopped goes on in the next call with the same `--work`.
"""

from __future__ import annotations

import _thread
import argparse
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from measuring import Busy, Pace, free, peak_mib, untuned  # noqa: E402

from brainseg_utils.files import write_json  # noqa: E402
from brainseg_utils.parallel import default_workers, one_thread  # noqa: E402

if TYPE_CHECKING:
    import torch

    from brainseg_utils.datasets.cases import Case
    from brainseg_utils.datasets.splits import Split
    from brainseg_utils.training.data import Sources
    from brainseg_utils.training.recipe import Recipe
    from brainseg_utils.training.run import Run

RECORDED = ("recipe.toml", "environment.json", "split.json", "history.csv", "metrics.json")
LARGEST_MB = 16.0  # of the weights that are brought back
STOP_S = 20  # for stopping, and for writing what is there
TRAIN, HELD_OUT = 64, 8
SEED = 12  # of the phantoms
PLACES = ("--out", "--work", "--data", "--start")  # arguments that say where things are on this machine


@dataclass
class Call:
    """One call of a script.

    Attributes:
        out: results; may be fetched at any time.
        work: phantoms, cache, runs.
        end: when everything must be written (`time.monotonic`).
        small: a rehearsal on a CPU.
        training_s: seconds that trainings get in all; 0: what is left of this call.
        pace: of measurements.
        given: the script's own arguments.
        results: what `results.json` holds.
    """

    out: Path
    work: Path
    end: float
    small: bool
    training_s: float
    pace: Pace
    given: argparse.Namespace
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.end - time.monotonic()

    def keep(self, **facts: Any) -> None:
        """Adds to `results.json`."""
        self.results |= facts
        write_json(self.out / "results.json", self.results)

    def told(self, **facts: Any) -> None:
        """Adds to `results.json`, and prints it."""
        print(*(f"{name}: {value}" for name, value in facts.items()), sep="\n", flush=True)
        self.keep(**facts)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Notes how long a part of the call took."""
        start = time.monotonic()
        yield
        self.results["seconds"][name] = round(time.monotonic() - start, 1)
        self.keep()


@contextmanager
def begin(
    doc: str, minutes: float = 8.5, more: Callable[[argparse.ArgumentParser], object] | None = None
) -> Iterator[Call]:
    """Reads the command line, and gives the call a folder to work in."""
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="results; may be fetched at any time")
    parser.add_argument(
        "--work", type=Path, help="phantoms, cache and runs, to go on with; default: a temporary folder"
    )
    parser.add_argument("--minutes", type=float, default=minutes, help="of this call")
    parser.add_argument("--training", type=float, default=0.0, help="minutes of training in all, over several calls")
    parser.add_argument("--small", action="store_true", help="a rehearsal on a CPU")
    if more:
        more(parser)
    given = parser.parse_args()
    import torch
    from threadpoolctl import threadpool_limits

    one_thread()  # loader processes have a core each; they take their settings over from here
    threadpool_limits(1)  # for libraries that are loaded already
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it: `until`

    torch.backends.cudnn.benchmark = torch.cuda.is_available()  # as MONAI's tutorial does; patches have one size
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        pace = Pace(warm=1, held_s=0.0, turn_s=0.0, turns=1) if given.small else Pace()
        end = start + 60 * given.minutes - STOP_S
        call = Call(given.out, given.work or Path(scratch), end, given.small, 60 * given.training, pace, given)
        name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        if (given.out / "results.json").is_file():
            call.results = json.loads((given.out / "results.json").read_text(encoding="utf-8"))
        call.keep(device=name, torch=torch.__version__, cores=default_workers(), seconds={})
        yield call
        print(f"{call.left + STOP_S:.0f} s before the end of the call", flush=True)


def phantoms(call: Call) -> tuple[list[Case], Split]:
    """64 + 8 phantoms at 1 mm, made by all cores, or the cases of `--data`; and who trains."""
    from brainseg_utils.datasets.find import find_cases
    from brainseg_utils.datasets.splits import Split, split
    from brainseg_utils.phantom import cohort

    if call.given.data:
        cases = find_cases(call.given.data)
        call.keep(data={"cases": len(cases)})
        return cases, split(cases, {"train": 0.8, "val": 0.2}, SEED)
    train, held_out, spacing = (3, 1, 2) if call.small else (TRAIN, HELD_OUT, 1)
    folder = call.work / "phantoms"
    with call.timed("phantoms"):
        cohort.make(folder, train + held_out, "brats2021", seed=SEED, spacing=spacing, healthy=0.0)
    cases = find_cases(folder)
    ids = [case.id for case in cases]
    call.keep(data={"train": train, "val": held_out, "mm": spacing, "seed": SEED})
    return cases, Split({"train": tuple(ids[held_out:]), "val": tuple(ids[:held_out])}, SEED)


def data_argument(parser: argparse.ArgumentParser) -> None:
    """`--data`, for `phantoms`."""
    parser.add_argument("--data", type=Path, help="a folder of cases instead of phantoms")


def read(call: Call, recipe: Recipe, cases: list[Case], split: Split) -> Sources:
    """The recipe's training patches and held-out volumes; the cache is made by all cores, in the call's folder."""
    from brainseg_utils.training import train

    options = {**recipe.data.options, "cache": str(call.work / "cache")}
    here = replace(recipe, data=replace(recipe.data, options=options))
    with call.timed(f"cache of {recipe.name}"):
        return train.sources(here, *train.members(here, split, cases))


def train(call: Call, recipe: Recipe, sources: Sources, split: Split, end: float) -> None:
    """Trains a recipe, or goes on with it, until it is done or the time is over; keeps what there is at every look.

    Args:
        call: of the script; its `work` holds the run.
        recipe: with its length.
        sources: of the recipe.
        split: for the record.
        end: of this training (`time.monotonic`).
    """
    from brainseg_utils.datasets.splits import save
    from brainseg_utils.training.loop import fit
    from brainseg_utils.training.run import Run

    free()
    run, busy = Run.begin(call.work / "runs" / recipe.name, recipe, resume=True), Busy()
    save(split, run.path / "split.json")
    predict = sources.predict
    assert predict is not None

    def look(network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
        busy.phase = "validation"
        with untuned():
            return predict(network, image)

    def after(row: dict[str, float], *_: object) -> None:
        collect(call, run, busy, row)
        busy.phase = "training"

    busy.start()
    with until(end):
        fit(recipe, replace(sources, predict=look), run, after)
    busy.over.set()
    collect(call, run, busy)
    print(recipe.name, call.results[recipe.name], flush=True)


def begun(call: Call, name: str) -> Recipe | None:
    """The recipe of a training that an earlier call has begun; measured choices and length are in it."""
    from brainseg_utils.training.run import Run

    run = Run(call.work / "runs" / name)
    return run.recipe if (run.path / "recipe.toml").is_file() else None


def collect(call: Call, run: Run, busy: Busy, row: dict[str, float] | None = None) -> None:
    """Record, fp16 weights and figures of a run, as far as it is; `row`: of the history, not written yet."""
    from brainseg_utils.inference import ensemble

    written = run.history().to_dict("records") if (run.path / "history.csv").is_file() else []
    rows: list[dict[Any, Any]] = [*written, *([row] if row else [])]
    if not rows:
        call.keep(**{run.recipe.name: {"status": "stopped before the first validation"}})
        return
    name, last = run.recipe.name, rows[-1]
    target = call.out / name
    target.mkdir(parents=True, exist_ok=True)
    for file in RECORDED:
        if (run.path / file).is_file():
            shutil.copyfile(run.path / file, target / file)
    told = {"command": command(), "seed": run.recipe.seed, "device": call.results["device"], "time": last["seconds"]}
    write_json(target / "environment.json", {**run.environment, **told})
    weights = [path for path in (run.weights, run.path / "best_dice.safetensors") if path.is_file()]
    if weights and weights[0].stat().st_size / 2e6 <= LARGEST_MB:
        ensemble.join(weights[:1], target / "weights.safetensors")
    figures = {
        "status": "done" if run.finished else "running" if row else "stopped",
        "steps": int(last["step"]),
        "steps_wanted": run.recipe.budget.steps,
        "dice": {key.removeprefix("dice_"): round(last[key], 4) for key in last if key.startswith("dice_")},
        "mean_dice": round(last["dice"], 4),
        "best_mean_dice": round(max(r["dice"] for r in rows), 4),
        "seconds": last["seconds"],
        "peak_mib": peak_mib(),
        "bf16": run.environment["bf16"],
        "gpu_busy": busy.shares(),
    }
    call.keep(**{name: figures})


def command() -> str:
    """The command line, without this machine's paths."""
    words = ["PATH" if before in PLACES else word for before, word in pairwise(sys.argv)]
    return shlex.join(["python", os.path.relpath(sys.argv[0], ROOT), *words])


@contextmanager
def until(end: float) -> Iterator[None]:
    """Stops what it contains at a time (`time.monotonic`), as Ctrl-C would, and goes on after it."""
    timer = threading.Timer(max(end - time.monotonic(), 0.1), _thread.interrupt_main)
    timer.daemon = True
    timer.start()
    try:
        yield
    except KeyboardInterrupt:
        if time.monotonic() < end:  # somebody pressed it
            raise
    finally:
        timer.cancel()
