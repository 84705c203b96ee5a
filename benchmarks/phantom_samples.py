"""Claim: phantoms that are made while the network trains cost a fifth of a training step, or less.

One process, one thread, CPU seconds (which other programs on the machine change less than the clock). A step is the
recipe's own: its network, loss, optimiser and patch, on samples that lie ready. What a sample costs is counted whole:
rendering, normalisation, patch, augmentation, and a new geometry after every `uses` draws, all in the recipe's finest
voxels, though some of its heads have coarser ones. The scanner that writes cohorts (`scanner.render`) is timed beside
the renderer of training (`redraw.redraw`) on the same head of 2 mm.

    python benchmarks/phantom_samples.py [--recipe phantom3d] [--steps 6]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

NEEDED = 0.2


def seconds(work: Callable[[int], object], times: int) -> float:
    """Median CPU seconds of a call, after one that is not counted."""
    work(0)
    taken = []
    for number in range(1, times + 1):
        start = time.process_time()
        work(number)
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def main() -> None:
    """Prints what each part costs, and the share of the step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="phantom3d")
    parser.add_argument("--steps", type=int, default=6)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"

    import tempfile

    import torch

    from brainseg_utils.phantom.geometry import geometry
    from brainseg_utils.phantom.packed import pack
    from brainseg_utils.phantom.redraw import redraw
    from brainseg_utils.phantom.scanner import render
    from brainseg_utils.seeds import stream
    from brainseg_utils.training.loop import Loop
    from brainseg_utils.training.recipe import load
    from brainseg_utils.training.run import Run
    from brainseg_utils.training.train import sources

    torch.set_num_threads(1)
    case = geometry(0, 3, kind="ring")
    head = pack(case)
    scanned = seconds(lambda n: render(case, 0, n), 5)
    redrawn = seconds(lambda n: redraw(head, stream(0, "benchmark", n)), 10)
    finest = {"data.pool": 1, "data.uses": 10**6, "data.coarse": 0.0, "budget.epoch_steps": 1000}
    recipe = load(given.recipe, "full", finest)
    uses, patches, spacing = (load(given.recipe).data.options[name] for name in ("uses", "patches", "spacing"))
    made = seconds(lambda n: pack(geometry(0, n, spacing=spacing)), 3)
    found, batch = sources(recipe, [], []), recipe.budget.batch
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(recipe, found, Run.begin(folder + "/run", recipe))
        ready = found.train.batch(range(batch))
        step = seconds(lambda n: loop._step([ready]), given.steps)
    drawing = 4 * batch * patches  # enough for whole rounds of draws
    drawn = seconds(
        lambda n: [found.train.batch(range(k, k + batch)) for k in range(n * drawing, (n + 1) * drawing, batch)], 3
    )
    sample = drawn / drawing + made / (uses * patches)
    print(f"a new geometry                   {1000 * made:7.0f} ms, every {uses} draws of {patches} patches")
    print(f"the scanner that writes cohorts  {1000 * scanned:7.0f} ms a head")
    print(f"the renderer of training         {1000 * redrawn:7.0f} ms a head, {scanned / redrawn:.1f} times as quick")
    print(f"a training sample in all         {1000 * sample:7.0f} ms")
    print(f"a step on {batch} ready samples         {1000 * step:7.0f} ms")
    share = sample * batch / (sample * batch + step)
    print(f"samples are {share:.0%} of the training time (needed: {NEEDED:.0%} or less): {share <= NEEDED}")


if __name__ == "__main__":
    main()
