"""The course's recipe for volumes on a GPU: how quick the engine is, and what 64 phantoms at 1 mm are enough for.

    python benchmarks/gpu/volumes.py --out DIR [--minutes 8.5] [--data FOLDER] [--work DIR]     one call, one GPU
    python benchmarks/gpu/volumes.py --small --out DIR                                          a CPU, a minute

1. 64 + 8 phantoms at 1 mm, by all cores; or the cases of --data, four fifths of which train.
2. Alone on the device, recipe course_resunet3d, patches of 128^3: memory order and batch are chosen by samples a second
   with a batch that is there. Then samples a second with loader and all, in turns with a plain loop.
3. The recipe trains until the minutes are over; how many steps that is follows from the measured speed, so that its
   schedule ends in time. The held-out cases are validated whole.

The plain loop is what MONAI's BraTS tutorial does, for the same network: `Dataset` without a cache, so that every
sample begins with the NIfTI files, four loader processes, batches of one, float32, Adam, Dice loss. PyTorch's default
holds for it, by which convolutions may use TF32, and cuDNN's search for quick kernels is on for both, as it is there.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import common
import measuring

if TYPE_CHECKING:
    import torch

    from brainseg_utils.datasets.cases import Case
    from brainseg_utils.training.data import Sources
    from brainseg_utils.training.recipe import Recipe

NAME = "course_resunet3d"
BATCHES = (2, 4, 8)
SMALL = {"data.size": [32, 32, 32], "network.widths": [8, 8, 16]}
SMALL_S = 15.0  # of training
PLAIN_WORKERS = 4  # the tutorial's


def main() -> None:
    """Phantoms, speeds, a training."""
    with common.begin(__doc__ or "", more=common.data_argument) as call:
        cases, split = common.phantoms(call)
        recipe = common.begun(call, NAME) or make(call, {})
        sources = common.read(call, recipe, cases, split)
        if common.begun(call, NAME) is None:
            chosen = measuring.choose(
                call, lambda changes: make(call, changes), sources, BATCHES[: 2 if call.small else 3]
            )
            chosen["engine.workers"] = measuring.workers(call, sources, chosen["budget.batch"])
            step_s, look_s = speeds(call, make(call, chosen), sources, cases)
            time_s = SMALL_S if call.small else call.training_s or call.left
            recipe = make(call, chosen | measuring.planned(step_s, look_s, time_s))
        common.train(call, recipe, sources, split, call.end)


def make(call: common.Call, changes: dict[str, Any]) -> Recipe:
    """The recipe, with changes."""
    from brainseg_utils.training.recipe import load

    return load(NAME, "quick" if call.small else "full", {**(SMALL if call.small else {}), **changes})


def speeds(call: common.Call, recipe: Recipe, sources: Sources, cases: list[Case]) -> tuple[float, float]:
    """Measures engine and plain loop in turns; seconds of an engine's step and of a validation."""
    measuring.free()
    plain = Plain(recipe, cases, call.pace)
    rates: dict[str, list[float]] = {"engine": [], "plain": []}
    with call.timed("speed"), measuring.engine(recipe, sources, call.pace) as engine:
        both: dict[str, Any] = {"engine": engine, "plain": plain}
        there = {name: one.held() for name, one in both.items()}
        for turn in range(call.pace.turns):
            for name in list(both)[:: -1 if turn % 2 else 1]:
                rates[name].append(both[name].turn())
        look_s = engine.look()
    middle = {name: statistics.median(values) for name, values in rates.items()}
    call.told(
        speed={
            "samples_a_second": {name: round(rate, 2) for name, rate in middle.items()},
            "ratio": round(middle["engine"] / middle["plain"], 2),
            "turns": {name: [round(rate, 2) for rate in values] for name, values in rates.items()},
            "with_a_batch_that_is_there": {name: round(rate, 2) for name, rate in there.items()},
            "validation_s": round(look_s, 2),
            "workers": recipe.engine.workers,
        }
    )
    return recipe.budget.batch / middle["engine"], look_s


class Plain:
    """The plain loop, to be timed.

    Args:
        recipe: whose network and patches it takes.
        cases: labelled, in BraTS's numbers.
        pace: of the measurement.
    """

    def __init__(self, recipe: Recipe, cases: list[Case], pace: measuring.Pace) -> None:
        import torch
        from monai.losses import DiceLoss

        from brainseg_utils.training.checkpoints import build_network

        self.pace, self.workers = pace, 1 if pace.turn_s == 0 else PLAIN_WORKERS
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = build_network(recipe, 4, 3).to(self.device).train()
        self.optimiser = torch.optim.Adam(self.network.parameters(), 1e-4, weight_decay=1e-5)
        self.loss = DiceLoss(smooth_nr=0, smooth_dr=1e-5, squared_pred=True, to_onehot_y=False, sigmoid=True)
        self.data = plain_data(cases, recipe.data.options["size"])

    def batches(self) -> Iterator[dict[str, torch.Tensor]]:
        """Of one sample each, for ever."""
        from monai.data import DataLoader

        while True:
            yield from DataLoader(self.data, batch_size=1, shuffle=True, num_workers=self.workers)

    def step(self, batch: dict[str, torch.Tensor]) -> None:
        """As the tutorial's, without mixed precision."""
        image, truth = batch["image"].to(self.device), batch["label"].to(self.device)
        self.optimiser.zero_grad()
        outputs = self.network(image)
        loss = self.loss(main_head(outputs), truth)
        loss.backward()
        self.optimiser.step()
        loss.item()

    def held(self) -> float:
        """Samples a second with a batch that is there."""
        batch = next(self.batches())
        for _ in range(self.pace.warm):
            self.step(batch)
        return 1 / measuring.seconds(lambda: self.step(batch), self.pace.held_s)

    def turn(self) -> float:
        """Samples a second, loader and all."""
        return 1 / measuring.steady(self.batches(), self.step, self.pace, self.workers)


def main_head(outputs: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    """The prediction at full size: the tutorial knows no others."""
    return outputs[0] if isinstance(outputs, list) else outputs


def plain_data(cases: list[Case], size: tuple[int, ...]) -> torch.utils.data.Dataset:
    """The tutorial's transforms, on patches of the recipe's size."""
    from monai import transforms as t
    from monai.data import Dataset

    both = ["image", "label"]
    steps = [
        t.LoadImaged(keys=both),
        t.EnsureChannelFirstd(keys="image"),
        t.EnsureTyped(keys=both),
        t.ConvertToMultiChannelBasedOnBratsClassesd(keys="label"),
        t.Orientationd(keys=both, axcodes="RAS"),
        t.Spacingd(keys=both, pixdim=(1.0, 1.0, 1.0), mode=("bilinear", "nearest")),
        t.SpatialPadd(keys=both, spatial_size=size),  # scans smaller than a patch; whole heads at 1 mm are not
        t.RandSpatialCropd(keys=both, roi_size=size, random_size=False),
        *(t.RandFlipd(keys=both, prob=0.5, spatial_axis=axis) for axis in range(3)),
        t.NormalizeIntensityd(keys="image", nonzero=True, channel_wise=True),
        t.RandScaleIntensityd(keys="image", factors=0.1, prob=1.0),
        t.RandShiftIntensityd(keys="image", offsets=0.1, prob=1.0),
    ]
    items = [{"image": [str(p) for p in dict.fromkeys(c.paths.values())], "label": str(c.label_path)} for c in cases]
    return Dataset(items, t.Compose(steps))


if __name__ == "__main__":
    main()
