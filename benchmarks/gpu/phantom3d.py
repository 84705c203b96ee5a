"""The reference network for 3D scans on a GPU: one more stretch of its training on phantoms.

    python benchmarks/gpu/phantom3d.py --out DIR [--minutes 8.5] [--start FILE] [--seed N] [--work DIR]
    python benchmarks/gpu/phantom3d.py --small --out DIR                                    a CPU, a minute

1. For a share of the time, all cores make geometries and put them on the disk. On one core the recipe makes a new one
   every so many draws; here each of many loader processes would make the same ones again.
2. The recipe phantom3d trains until the minutes are over, with a batch that is larger than on a CPU. Its draws are made
   by the loader processes, each from any of the geometries, with fresh contrast: that is what the speed depends on.
3. It begins with --start, by default the weights that the project ships, if they are there; without them, from
   nothing. What those reach on the same held-out phantoms is noted beside.

DIR/phantom3d is the run's record with its weights in fp16. Another stretch wants another --seed.
"""

from __future__ import annotations

import argparse
import os
import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common
import measuring

from brainseg_utils.files import atomic
from brainseg_utils.parallel import default_workers, imap
from brainseg_utils.phantom.packed import Packed
from brainseg_utils.training.phantoms import SPREAD, Making, Phantoms

if TYPE_CHECKING:
    from brainseg_utils.datasets.cases import Case
    from brainseg_utils.datasets.splits import Split
    from brainseg_utils.training.data import Sources
    from brainseg_utils.training.recipe import Recipe

NAME = "phantom3d"
SHIPPED = common.ROOT / "data" / "reference" / "models" / "phantom" / "weights.safetensors"
VALIDATION, SEED = 8, 1001  # the phantoms that `benchmarks/reference_phantom3d.py` validates on
FIRST_SEED = 1000  # of stretches on a GPU; those on a CPU count from 0
MAKING_SHARE = 0.15  # of the time
GEOMETRIES = 512  # at most
MEMORY_SHARE = 0.4  # of what is free, for the geometries that all loader processes hold
FOR_EVER = 10**6  # draws after which a geometry makes room for another
SMALL = {"data.size": [32, 32, 32], "network.widths": [8, 8, 16]}
SMALL_GEOMETRIES, SMALL_S = 3, 10.0


class Stored(Phantoms):
    """Samples from geometries that were made before.

    Args:
        samples: whose place they take.
        folder: of `geometries`.
    """

    def __init__(self, samples: Phantoms, folder: Path) -> None:
        self.__dict__.update(samples.__dict__)
        self.folder = folder

    def make(self, index: int) -> Packed:
        """Reads geometry number `index`."""
        return pickle.loads(path(self.folder, index).read_bytes())


def main() -> None:
    """Geometries, speed, a training."""
    with common.begin(__doc__ or "", more=arguments) as call:
        cases, split = held_out(call)
        recipe = common.begun(call, NAME)
        if recipe is None:
            plain = make(call, {})
            count = geometries(call, plain)
            batch = SPREAD * plain.data.options["patches"]  # whole draws: no two loader processes make the same one
            chosen = {"data.pool": count, "data.uses": FOR_EVER, "budget.batch": batch}
            chosen |= start(call)
            sources = stored(call, make(call, chosen), cases, split)
            chosen["engine.workers"] = measuring.workers(call, sources, chosen["budget.batch"])
            step_s, look_s = speed(call, make(call, chosen), sources)
            time_s = SMALL_S if call.small else call.training_s or call.left
            recipe = make(call, chosen | measuring.planned(step_s, look_s, time_s))
        common.train(call, recipe, stored(call, recipe, cases, split), split, call.end)


def arguments(parser: argparse.ArgumentParser) -> None:
    """This script's own."""
    parser.add_argument("--start", type=Path, help="weights to begin with; default: the shipped ones")
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="of the stretch")


def make(call: common.Call, changes: dict[str, Any]) -> Recipe:
    """The recipe, with changes."""
    from brainseg_utils.training.recipe import load

    fixed = {"seed": call.given.seed, **(SMALL if call.small else {})}
    return load(NAME, "quick" if call.small else "full", {**fixed, **changes})


def start(call: common.Call) -> dict[str, Any]:
    """Weights to begin with, if there are any that fit; a rehearsal's network is too small for them."""
    weights = call.given.start or SHIPPED
    if call.small or not weights.is_file():
        return {}
    return {"engine.start": os.path.relpath(weights)}


def held_out(call: common.Call) -> tuple[list[Case], Split]:
    """The phantoms that validate."""
    from brainseg_utils.datasets.find import find_cases
    from brainseg_utils.datasets.splits import Split
    from brainseg_utils.phantom import cohort

    with call.timed("phantoms"):
        folder = call.work / "phantoms"
        cohort.make(folder, 1 if call.small else VALIDATION, "brats2023", seed=SEED, spacing=2)
    cases = find_cases(folder)
    return cases, Split({"all": tuple(case.id for case in cases)}, call.given.seed)


def stored(call: common.Call, recipe: Recipe, cases: list[Case], split: Split) -> Sources:
    """The recipe's data, its geometries read from the disk."""
    sources = common.read(call, recipe, cases, split)
    assert isinstance(sources.train, Phantoms)
    return replace(sources, train=Stored(sources.train, call.work / "geometries"))


def geometries(call: common.Call, recipe: Recipe) -> int:
    """Makes as many as there is time and memory for; how many there are."""
    from brainseg_utils.training.train import sources

    samples = sources(recipe, [], []).train
    assert isinstance(samples, Phantoms)
    folder, end = call.work / "geometries", time.monotonic() + MAKING_SHARE * call.left
    most, size = SMALL_GEOMETRIES if call.small else GEOMETRIES, 0
    with call.timed("geometries"):
        jobs = ((samples.size, samples.seed, samples.making, folder, index) for index in range(most))
        for done, size in enumerate(imap(make_one, jobs), 1):
            if time.monotonic() > end or done >= room(size):
                break
    count = next(index for index in range(1, most + 1) if index == most or not path(folder, index).is_file())
    call.told(geometries={"count": count, "mb_each": round(size / 1e6, 1)})
    return count


def make_one(job: tuple[tuple[int, ...], int, Making, Path, int]) -> int:
    """Makes one geometry and writes it; its bytes."""
    size, seed, making, folder, index = job
    if not path(folder, index).is_file():
        case = Phantoms(size, seed, making).make(index)
        with atomic(path(folder, index)) as temporary:
            temporary.write_bytes(pickle.dumps(case, protocol=pickle.HIGHEST_PROTOCOL))
    return path(folder, index).stat().st_size


def path(folder: Path, index: int) -> Path:
    """Where geometry number `index` lies."""
    return folder / f"{index}.pickle"


def room(size: int) -> int:
    """Geometries of so many bytes that every loader process may hold."""
    import psutil

    return max(1, int(MEMORY_SHARE * psutil.virtual_memory().available / default_workers() / size))


def speed(call: common.Call, recipe: Recipe, sources: Sources) -> tuple[float, float]:
    """Notes patches a second, and what the weights to begin with reach; seconds of a step and of a validation."""
    from brainseg_utils.training.validation import validate

    measuring.free()
    with call.timed("speed"), measuring.engine(recipe, sources, call.pace) as engine:
        loop = engine.loop
        with measuring.untuned():
            before = validate(loop.plain, sources, loop.loss, loop.accelerator, loop._predict)
        there, rate, look_s = engine.held(), engine.turn(), engine.look()
    call.told(
        speed={
            "patches_a_second": round(rate, 2),
            "with_a_batch_that_is_there": round(there, 2),
            "batch": recipe.budget.batch,
            "workers": recipe.engine.workers,
        },
        before={name: round(value, 4) for name, value in before.dice.items()},
    )
    return recipe.budget.batch / rate, look_s


if __name__ == "__main__":
    main()
