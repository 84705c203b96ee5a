"""How many threads a small training is given: as many as make it quicker at this moment.

Two threads that share the work of a small layer wait for each other, spinning. On a quiet machine that gains a third;
where something else runs, each wait lasts until the other thread has its turn, and two threads take ten times as long
as one. Notebooks with live trainings measure it once, at their beginning.
"""

from __future__ import annotations

import time
from collections.abc import Callable

MOST = 2
WORTH_IT = 0.85  # of the time of one thread: a smaller gain is noise
STEPS = 4


def set_threads(most: int = MOST) -> int:
    """Times a few training steps of a small network and sets torch's threads.

    Args:
        most: threads that may be used; never more than torch has now.

    Returns:
        The threads that are set.
    """
    import torch

    allowed = min(most, torch.get_num_threads())
    return choose(allowed, _steps(), torch.set_num_threads)


def choose(allowed: int, step: Callable[[], object], set_number: Callable[[int], object]) -> int:
    """Doubles the threads for as long as a step becomes clearly quicker, and sets and returns their number.

    Args:
        allowed: the largest number.
        step: what is timed.
        set_number: sets the threads of the next steps.
    """

    def seconds(threads: int) -> float:
        set_number(threads)
        step()  # once for what only the first step pays
        start = time.perf_counter()
        for _ in range(STEPS):
            step()
        return time.perf_counter() - start

    chosen, best = 1, seconds(1)
    while 2 * chosen <= allowed and (taken := seconds(2 * chosen)) < WORTH_IT * best:
        chosen, best = 2 * chosen, taken
    set_number(chosen)
    return chosen


def _steps() -> Callable[[], object]:
    import torch

    from brainseg_utils.models.unet2d import UNet2D

    with torch.random.fork_rng(devices=[]):
        network = UNet2D(width=16).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        image = torch.rand(8, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    return lambda: network(image).mean().backward()
