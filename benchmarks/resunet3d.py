"""What the course's 3D network costs on one core, and what its choices cost or save, side by side in one run.

    python benchmarks/resunet3d.py

Seconds of processor time, the least of three, of a training step (bf16, batch 1, 80x80x64 voxels) and of a pass over a
brain's box (144x176x144 voxels), for the default and for one change at a time: norm, layout, widths, blocks, and two
convolutions at full size. Processor time, since other work on the machine leaves it nearly alone. Needs bf16 in
hardware to be representative.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from brainseg_utils.models.registry import build, count_parameters
from brainseg_utils.training import device, losses

PATCH, BOX = (80, 80, 64), (144, 176, 144)
LAST = "channels last"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    f"default, {LAST}": {},
    "batch norm": {"norm": "batch"},
    f"batch norm, {LAST}": {"norm": "batch"},
    "four scales": {"widths": (32, 64, 96, 128)},
    "four scales, two blocks at X/8 and X/16": {"widths": (32, 64, 96, 128), "blocks": (1, 1, 2, 2)},
    "24 channels at X/2": {"widths": (24, 64, 96, 128, 112)},
    "48 channels at X/2": {"widths": (48, 64, 96, 128, 112)},
    "8 channels at full size": {"refine": 8},
}


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """Processor seconds of the quickest of some calls, after one that is not counted."""
    work()
    taken = []
    for _ in range(times):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def measure(options: Mapping[str, Any], channels_last: bool) -> tuple[int, float, float]:
    """Parameters, and seconds of a step and of a pass."""
    torch.manual_seed(0)
    network = device.layout(build("resunet3d", **options), 3, channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
    loss = losses.build("dice_ce")
    patch, truth = torch.randn(1, 4, *PATCH), (torch.rand(1, 3, *PATCH) > 0.9).float()
    box = torch.randn(1, 4, *BOX)

    def step() -> None:
        with device.autocast(True, patch.device):
            outputs = network.train()(patch)
        optimiser.zero_grad()
        losses.deep(loss, outputs, truth).backward()
        optimiser.step()

    @torch.inference_mode()
    def forward() -> None:
        with device.autocast(True, box.device):
            network.eval()(box)

    return count_parameters(network), seconds(step), seconds(forward)


def main() -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    print(f"{'':42}{'parameters':>11}{'step s':>9}{'ratio':>7}{'box s':>9}{'ratio':>7}")
    first: tuple[float, float] | None = None
    for name, options in VARIANTS.items():
        parameters, step, forward = measure(options, LAST in name)
        first = first or (step, forward)
        ratios = step / first[0], forward / first[1]
        print(f"{name:42}{parameters:11,}{step:9.2f}{ratios[0]:7.2f}{forward:9.2f}{ratios[1]:7.2f}", flush=True)


if __name__ == "__main__":
    main()
