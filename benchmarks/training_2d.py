"""Claim: the engine trains R2's U-Net at 3 times the slices a second of a plain fp32 loop, or more, on a CPU.

Both train the same network (1,862,849 parameters, 128 pixels, batches of 16, Dice loss, Adam) on the same slices. The
plain loop is what R2 would write: float32, the usual memory order, batches from a `Dataset` through a `DataLoader`. The
engine is `loop.Loop` as recipe r2_unet_dice makes it, once with its batch whole and once in two parts of 8
(`engine.accumulate = 2`): the same gradient, since the Dice loss is a mean over slices and the network has no batch
norm, in half the memory, and the second is what the claim is about. The gain is that of bf16, of channels last, and of
memory that is kept from one step to the next. It needs a CPU that computes in bf16 (AVX-512 BF16 or AMX), and is said
to be absent elsewhere.

Each runs in a process of its own (how memory is kept is a matter of the whole process), on one thread, and they take
turns step by step. Seconds are those of CPU, which other programs on the machine change less than the clock.

    python benchmarks/training_2d.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SLICES, PATIENTS, BATCH, NEEDED = 24, 4, 16, 3.0
RECIPE, SIZE = "r2_unet_dice", 128
ENGINES = {"engine": 1, "engine, parts of 8": 2}  # parts of a step
PLAIN, CLAIM = "plain fp32", "engine, parts of 8"


def patients(size: int = SIZE) -> list:
    """Random slices with a random mask: the time of a step does not depend on what they show."""
    import torch

    from brainseg_utils.pipeline.slices import Stack
    from brainseg_utils.seeds import stream

    stacks = []
    for number in range(PATIENTS):
        rng = stream(number, "benchmark")
        image = torch.from_numpy(rng.standard_normal((SLICES, 3, size, size))).half()
        mask = torch.from_numpy((rng.random((SLICES, 1, size, size)) < 0.03).astype("uint8"))
        stacks.append(Stack(f"patient{number}", f"patient{number}", image, mask, (size, size)))
    return stacks


def plain_loop(
    stacks: list, recipe: str = RECIPE, profile: str = "full", batch: int = BATCH, device: str = "cpu"
) -> Callable[[], object]:
    """One step of the plain loop."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    from brainseg_utils.training import losses
    from brainseg_utils.training.checkpoints import build_network
    from brainseg_utils.training.recipe import load

    class Plain(Dataset):
        """One slice a sample, as tutorials write it."""

        def __len__(self) -> int:
            return PATIENTS * SLICES

        def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
            stack, k = stacks[number // SLICES], number % SLICES
            return stack.image[k].float(), stack.mask[k].float()

    network = build_network(load(recipe, profile), 3, 1).to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    dice = losses.Dice()

    def forever() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield from DataLoader(Plain(), batch_size=batch, shuffle=True, drop_last=True)

    batches = forever()

    def step() -> None:
        image, truth = (tensor.to(device) for tensor in next(batches))
        optimiser.zero_grad()
        dice(network(image), truth).backward()
        optimiser.step()

    return step


def engine(
    stacks: list, folder: Path, parts: int, recipe: str = RECIPE, profile: str = "full", batch: int = BATCH
) -> Callable[[], object]:
    """One step of the engine, on the device that it finds."""
    from brainseg_utils.pipeline.slices import Slices
    from brainseg_utils.training.data import Sources
    from brainseg_utils.training.loop import Loop
    from brainseg_utils.training.recipe import load
    from brainseg_utils.training.run import Run

    changes = {"budget.steps": 10_000, "budget.batch": batch, "engine.accumulate": parts}
    chosen = load(recipe, profile, changes)
    loop = Loop(chosen, Sources(Slices(stacks, balanced=False), None, 3, ("tumour",)), Run(folder))
    batches = loop._batches(0, chosen.budget.steps)
    return lambda: loop._step(next(batches))


def contestant(name: str) -> None:
    """One process: a step for every line that comes in, its seconds of CPU as the line that goes out."""
    import torch

    from brainseg_utils.training import device

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        step = plain_loop(patients()) if name == PLAIN else engine(patients(), Path(folder), ENGINES[name])
        step()
        print(device.has_bf16(torch.device("cpu")), flush=True)
        for _ in sys.stdin:
            start = time.process_time()
            step()
            print(time.process_time() - start, flush=True)


def main() -> None:
    """Prints the speeds and their ratios; exit code 1 if the claim does not hold where it should."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        contestant(arguments.contestant)
        return
    names = [PLAIN, *ENGINES]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = {
        name: subprocess.Popen(
            [sys.executable, __file__, "--contestant", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=alone,
        )
        for name in names
    }
    has = {_line(process) for process in started.values()} == {"True"}  # all are warm now
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(arguments.rounds):
        for name in names[:: -1 if turn % 2 else 1]:
            process = started[name]
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
            times[name].append(float(_line(process)))
    for process in started.values():
        process.communicate()
    middle = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in middle.items():
        spread = " to ".join(f"{BATCH / t:.2f}" for t in (max(times[name]), min(times[name])))
        print(f"{name:20s} {BATCH / seconds:6.2f} slices a second of CPU ({spread}), {middle[PLAIN] / seconds:.2f} x")
    ratio = middle[PLAIN] / middle[CLAIM]
    print(f"ratio {ratio:.2f} on one thread; bf16 on this CPU: {'yes' if has else 'no'}")
    sys.exit(has and ratio < NEEDED)


def _line(process: subprocess.Popen) -> str:
    assert process.stdout
    line = process.stdout.readline().strip()
    if not line:
        sys.exit(f"a contestant ended early, exit code {process.wait()}")
    return line


if __name__ == "__main__":
    main()
