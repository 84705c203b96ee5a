"""Claim: the engine trains R2's U-Net at 3 times the slices a second of a plain fp32 loop, or more, on a CPU.

Both train the same network (1,862,849 parameters, 128 pixels, batches of 16, Dice loss, Adam) on the same slices. The
plain loop is what R2 would write: float32, the usual memory order, batches from a `Dataset` through a `DataLoader`. The
engine is `loop.Loop` as recipe r2_unet_dice makes it, once with its batch whole and once in two parts of 8
(`engine.accumulate = 2`): the same gradient, since the Dice loss is a mean over slices and the network has no batch
norm, in half the memory, and the second is what the claim is about. The gain is that of bf16, of channels last, and of
memory that is kept from one step to the next. It needs a CPU that computes in bf16 (AVX-512 BF16 or AMX), and is said
to be absent elsewhere.

    python benchmarks/training_2d.py [--rounds 5]
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from turns import Claim, compete

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


def _fresh_engine(folder: Path, parts: int) -> Callable[[], object]:
    return engine(patients(), folder, parts)


def main() -> None:
    """Prints the speeds and their ratios; exit code 1 if the claim does not hold where it should."""
    with tempfile.TemporaryDirectory() as folder:
        makers: dict[str, Callable[[], Callable[[], object]]] = {PLAIN: lambda: plain_loop(patients())}
        for name, parts in ENGINES.items():
            makers[name] = partial(_fresh_engine, Path(folder), parts)
        compete(__file__, __doc__, makers, Claim(CLAIM, PLAIN, NEEDED, BATCH, "slices"))


if __name__ == "__main__":
    main()
