"""Claim: the engine trains R4's network at 3 times the patches a second of R4's loop, or more, on a CPU.

Both train MONAI's UNet (4,812,512 parameters) with Dice loss and AdamW on patches of 64^3 from the same two phantoms at
1 mm, two patches a step. R4's loop is what MONAI's tutorials write: every sample begins with the NIfTI files and goes
through the report's transforms in their stated order, then a patch is cut; a `DataLoader` makes batches; float32, the
usual memory order. R4 trains on whole scans, which the claim leaves aside: a patch costs both sides the same network.
The engine is `loop.Loop` with the course's pipeline, its cache filled beforehand, bf16 and channels last. "network
alone" is R4's loop with a batch that is there: what loading costs, and what the network does. It needs a CPU that
computes in bf16 (AVX-512 BF16 or AMX), and is said to be absent elsewhere.

    python benchmarks/training_3d.py [--rounds 5]
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turns import Claim, compete

if TYPE_CHECKING:
    from brainseg_utils.datasets.cases import Case
    from brainseg_utils.training.recipe import Recipe

BATCH, SIDE, NEEDED = 2, 64, 3.0
ENGINE, PLAIN, ALONE = "engine", "R4's loop", "network alone"


def phantoms(folder: Path) -> list[Case]:
    """Two scans of 1 mm; every contestant makes the same for itself."""
    from brainseg_utils.datasets.find import find_cases
    from brainseg_utils.phantom import cohort

    cohort.make(folder, 2, "brats2021", seed=3, spacing=1, workers=1, healthy=0.0)
    return find_cases(folder)


def chosen(folder: Path) -> Recipe:
    """R4's network under the course's recipe."""
    from brainseg_utils.training.recipe import load

    changes: dict[str, Any] = {"network.name": "monai_unet", "data.size": [SIDE] * 3, "data.spacing": 1.0}
    changes |= {"data.cache": str(folder / "cache"), "budget.batch": BATCH, "budget.steps": 10_000}
    changes |= {"loss.name": "dice", "split.validation": "none", "engine.keep": ["last"], "engine.channels_last": True}
    return load("course_resunet3d", "full", changes)


def plain_loop(cases: list[Case], folder: Path, held: bool = False) -> Callable[[], object]:
    """One step of R4's loop; with a batch that is held, of its network alone."""
    import torch
    from monai.data import DataLoader, Dataset
    from monai.losses import DiceLoss
    from monai.transforms import Compose, RandSpatialCropd, SelectItemsd

    from brainseg_utils.pipeline.reports import KEYS, r4
    from brainseg_utils.pipeline.transforms import load_case
    from brainseg_utils.training.checkpoints import build_network

    crop = RandSpatialCropd(KEYS, [SIDE] * 3, random_size=False)
    data = Dataset(cases, Compose([load_case, *(step.transform for step in r4(16)), crop, SelectItemsd(KEYS)]))
    network = build_network(chosen(folder), 4, 3).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    dice = DiceLoss(sigmoid=True, smooth_nr=1e-5, smooth_dr=1e-5)

    def forever() -> Iterator[dict[str, torch.Tensor]]:
        while True:
            yield from DataLoader(data, batch_size=BATCH, shuffle=True)

    batches = itertools.repeat(next(forever())) if held else forever()

    def step() -> None:
        batch = next(batches)
        optimiser.zero_grad()
        dice(network(batch["image"]), batch["label"]).backward()
        optimiser.step()

    return step


def engine(cases: list[Case], folder: Path) -> Callable[[], object]:
    """One step of the engine."""
    from brainseg_utils.training.loop import Loop
    from brainseg_utils.training.run import Run
    from brainseg_utils.training.train import sources

    recipe = chosen(folder)
    loop = Loop(recipe, sources(recipe, cases, []), Run(folder / "run"))
    batches = loop._batches(0, recipe.budget.steps)
    return lambda: loop._step(next(batches))


def main() -> None:
    """Prints the speeds and their ratios; exit code 1 if the claim does not hold where it should."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        makers: dict[str, Callable[[], Callable[[], object]]] = {
            PLAIN: lambda: plain_loop(phantoms(folder / "phantoms"), folder),
            ALONE: lambda: plain_loop(phantoms(folder / "phantoms"), folder, held=True),
            ENGINE: lambda: engine(phantoms(folder / "phantoms"), folder),
        }
        compete(__file__, __doc__, makers, Claim(ENGINE, PLAIN, NEEDED, BATCH, "patches"))


if __name__ == "__main__":
    main()
