"""Speeds at a steady pace, and what follows from them: memory order, batch, and how many steps end in time."""

from __future__ import annotations

import gc
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common import Call

    from brainseg_utils.training.data import Sources
    from brainseg_utils.training.loop import Loop
    from brainseg_utils.training.recipe import Recipe

LOOK_EVERY_S = 40  # seconds of training between two validations
MARGIN = 0.93  # share of the time that is planned: steps may become slower
FAR = 10**6  # steps that no measurement reaches
WORTH = 1.05  # a larger batch must be so much quicker
SAMPLE_S = 0.5  # between two looks at how busy the GPU is
AHEAD = 3  # batches of each loader process in shared memory: two that wait, one in the making


@dataclass(frozen=True)
class Pace:
    """How long things are measured: steps before, seconds with a batch that is there, seconds of a turn, turns."""

    warm: int = 4
    held_s: float = 2.0
    turn_s: float = 10.0
    turns: int = 2


def workers(call: Call, sources: Sources, batch: int) -> int:
    """Loader processes: a core each, two left for the training process, and as many as shared memory has room for."""
    from brainseg_utils.parallel import default_workers

    if call.small:
        return 1
    sample = sources.train.batch([0])
    needed = AHEAD * batch * sum(sample[name].nbytes for name in ("image", "label"))
    shared = Path("/dev/shm")
    room = shutil.disk_usage(shared).free // needed if shared.is_dir() else FAR
    return int(min(max(default_workers() - 2, 1), room))


class Engine:
    """The engine's steps, to be timed; the run that it writes is thrown away.

    Args:
        recipe: what is trained.
        sources: its data.
        pace: of the measurement.
    """

    def __init__(self, recipe: Recipe, sources: Sources, pace: Pace) -> None:
        from brainseg_utils.training.loop import Loop
        from brainseg_utils.training.run import Run

        self.recipe, self.sources, self.pace = recipe, sources, pace
        self.folder = tempfile.TemporaryDirectory()
        self.loop: Loop = Loop(recipe, sources, Run(self.folder.name))
        self.loop.steps = FAR

    def held(self) -> float:
        """Samples a second with a batch that lies in memory already."""
        import torch

        batch = self.sources.train.batch(range(self.recipe.budget.batch), self.recipe.engine.channels_last)
        if torch.cuda.is_available():
            batch |= {name: batch[name].pin_memory() for name in ("image", "label")}
        for _ in range(self.pace.warm):
            self.loop._step([batch])
        return self.recipe.budget.batch / seconds(lambda: self.loop._step([batch]), self.pace.held_s)

    def turn(self) -> float:
        """Samples a second, loader and all."""
        first = self.loop.state.step
        batches = self.loop._batches(first, first + FAR // 10)
        return self.recipe.budget.batch / steady(
            batches, lambda batch: self.loop._step(batch), self.pace, self.recipe.engine.workers
        )

    def look(self) -> float:
        """Seconds of a validation, reckoned from one case that is predicted a second time."""
        import torch

        held_out: Any = self.sources.validation
        start = time.perf_counter()
        for _ in range(2):
            start = time.perf_counter()
            batch = next(iter(held_out))
            with torch.no_grad(), untuned():
                logits = self.loop._predict(self.loop.plain.eval(), batch["image"].to(self.loop.device))
                float(self.loop.loss(logits.float(), batch["label"].to(self.loop.device)))
        return (time.perf_counter() - start) * len(held_out)


@contextmanager
def engine(recipe: Recipe, sources: Sources, pace: Pace) -> Iterator[Engine]:
    """An engine whose memory is free again afterwards."""
    made = Engine(recipe, sources, pace)
    try:
        yield made
    finally:
        made.folder.cleanup()
        made.__dict__.clear()
        free()


def free() -> None:
    """Gives memory that nobody uses back to the device, and counts peaks anew."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def seconds(step: Callable[[], object], least: float) -> float:
    """Seconds of one step: mean of all that begin within `least` seconds, one at least."""
    import torch

    def now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()  # the search for quick kernels takes more than the steps
    start, count = now(), 0
    while not count or time.perf_counter() - start < least:
        step()
        count += 1
    return (now() - start) / count


def steady(batches: Iterator[Any], step: Callable[[Any], object], pace: Pace, workers: int) -> float:
    """Seconds of one step with its batch, once the batches are used up that a loader's processes make ahead."""
    for _ in range(pace.warm):
        step(next(batches))
    if pace.turn_s:
        for _ in range(2 * workers):
            next(batches)
    return seconds(lambda: step(next(batches)), pace.turn_s)


def peak_mib() -> int:
    """Most memory in use on the device since `free` or `seconds` began (on a CPU: of the process, ever)."""
    import torch

    from brainseg_utils.training import memory

    return round(memory.peak(torch.device("cuda" if torch.cuda.is_available() else "cpu")) / memory.MIB)


def try_out(call: Call, recipe: Recipe, sources: Sources) -> dict[str, float] | None:
    """Samples a second and memory of a recipe with a batch that is there; None if it does not fit into memory."""
    import torch

    from brainseg_utils.errors import BrainsegError

    free()
    try:
        with engine(recipe, sources, call.pace) as made:
            return {"samples_a_second": round(made.held(), 2), "peak_mib": peak_mib()}
    except (BrainsegError, torch.OutOfMemoryError) as error:
        print(f"left out: {str(error).splitlines()[0]}", flush=True)
    free()  # here, where the error holds no tensor any more
    return None


def choose(
    call: Call, make: Callable[[dict[str, Any]], Recipe], sources: Sources, batches: tuple[int, ...]
) -> dict[str, Any]:
    """Memory order and batch: the quicker order at the first batch, then a larger batch where it is worth it.

    Args:
        call: it notes what was found.
        make: changes to the recipe.
        sources: of the recipe.
        batches: to try, the recipe's own first.

    Returns:
        The changes.
    """
    found: dict[str, Any] = {}

    def measure(changes: dict[str, Any]) -> float:
        name = f"batch {changes['budget.batch']}, channels {'last' if changes['engine.channels_last'] else 'first'}"
        found[name] = try_out(call, make(changes), sources)
        return found[name]["samples_a_second"] if found[name] else 0.0

    with call.timed("choice"):
        orders = [{"engine.channels_last": last, "budget.batch": batches[0]} for last in (False, True)]
        chosen, best = max(((changes, measure(changes)) for changes in orders), key=lambda pair: pair[1])
        for batch in batches[1:]:
            rate = measure({**chosen, "budget.batch": batch})
            if rate > WORTH * best:
                chosen, best = {**chosen, "budget.batch": batch}, rate
    call.told(choice={"measured, a batch that is there": found, "chosen": chosen})
    return chosen


def planned(step_s: float, look_s: float, time_s: float) -> dict[str, int]:
    """A length for the recipe, so that its schedule ends in time: steps, and steps between two validations."""
    from brainseg_utils.training import budget

    every = max(1, round(min(LOOK_EVERY_S, time_s / 4) / step_s))
    steps = budget.convert(MARGIN * time_s - look_s, step_s, look_s, every)  # the last look comes on top
    return {"budget.steps": steps, "budget.epoch_steps": min(every, steps)}


@contextmanager
def untuned() -> Iterator[None]:
    """Without cuDNN's search for the quickest kernels, which would begin anew at every size of a head."""
    import torch

    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class Busy(threading.Thread):
    """Samples the share of the time in which the GPU computes; `phase` says what the samples belong to."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.phase, self.over = "training", threading.Event()
        self.samples: dict[str, list[float]] = {}

    def run(self) -> None:
        """Until `over` is set, or nobody can tell."""
        while not self.over.wait(SAMPLE_S):
            phase, share = self.phase, utilisation()
            if share is None:
                return
            self.samples.setdefault(phase, []).append(share)

    def shares(self) -> dict[str, float] | None:
        """Mean of each phase; None: not known."""
        return {phase: round(sum(s) / len(s), 3) for phase, s in self.samples.items()} or None


def utilisation() -> float | None:
    """Share of the last moment in which the GPU computed something; None without a GPU, or where nobody can tell."""
    import torch

    if not torch.cuda.is_available():
        return None
    try:
        return torch.cuda.utilization() / 100
    except Exception:  # no pynvml, or a part of a GPU: NVML has its own kinds of error
        order = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        try:
            return float(subprocess.run(order, capture_output=True, text=True, check=True).stdout.split()[0]) / 100
        except (OSError, ValueError, IndexError, subprocess.CalledProcessError):
            return None
