"""Swin-UNETR on a GPU: R0's recipe and the course's on the same phantoms at 1 mm, feature size 48, patches of 128^3.

    python benchmarks/gpu/swin.py --out DIR [--minutes 8.5] [--data FOLDER] [--work DIR] [--only RECIPE]
    python benchmarks/gpu/swin.py --small --out DIR                                         a CPU, a few minutes

1. 64 + 8 phantoms at 1 mm, by all cores; or the cases of --data, four fifths of which train.
2. Speed and memory, alone on the device: cases a second with loader and all (an epoch is one patch of each case),
   seconds an epoch, and most memory in use; R0's recipe in float32 too ("auto" is the engine's choice, bf16 where the
   device has it). Memory order and batch of the course's recipe are chosen by measurement; R0 states its batch of 2.
3. R0's recipe trains for its ten epochs, or for as many as fit into half of the time that is left; the course's trains
   until the minutes are over. Both schedules are planned from the measured speed. Held-out cases are validated whole.

With --training MINUTES and --work, trainings are planned for so long (together), and calls go on with them.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import Any

import common
import measuring

from brainseg_utils.training.data import Sources
from brainseg_utils.training.recipe import Recipe

R0, COURSE = "r0_swin", "course_swin"
R0_EPOCHS, R0_LOOKS = 10, 3
BATCHES = (2, 4, 8)
PRECISIONS = {R0: ("auto", "fp32"), COURSE: ("auto",)}  # one network: the second would say the same
SMALL: dict[str, Any] = {"data.size": [64, 64, 64], "network.feature_size": 12, "budget.batch": 1}
SMALL_S = 5.0  # of each training
TOO_SHORT_S = 30  # of what is left of a call, to begin a training


@dataclass(frozen=True)
class Measured:
    """What a training is planned from: settings, seconds of a step and of a validation."""

    settings: dict[str, Any]
    step_s: float
    look_s: float


def main() -> None:
    """Phantoms, speeds, two trainings."""
    with common.begin(__doc__ or "", more=arguments) as call:
        cases, split = common.phantoms(call)
        names = [call.given.only] if call.given.only else [R0, COURSE]
        sources = {name: common.read(call, make(call, name, {}), cases, split) for name in names}
        found = {name: measure(call, name, sources[name]) for name in names if common.begun(call, name) is None}
        spent = 0.0
        for number, name in enumerate(names, 1):
            if call.left < TOO_SHORT_S and not call.small:
                break
            time_s = SMALL_S if call.small else (call.training_s - spent if call.training_s else call.left)
            time_s /= 1 if number == len(names) else 2
            recipe = common.begun(call, name) or planned(call, name, found[name], sources[name], time_s)
            common.train(call, recipe, sources[name], split, call.end)
            spent += call.results[name].get("seconds", 0.0)


def arguments(parser: argparse.ArgumentParser) -> None:
    """This script's own."""
    common.data_argument(parser)
    parser.add_argument("--only", choices=(R0, COURSE), help="one recipe, with all of the time")


def make(call: common.Call, name: str, changes: dict[str, Any]) -> Recipe:
    """A recipe, with changes."""
    from brainseg_utils.training.recipe import load

    return load(name, "quick" if call.small else "full", {**(SMALL if call.small else {}), **changes})


def measure(call: common.Call, name: str, sources: Sources) -> Measured:
    """Speed and memory of a recipe; training goes on with the engine's own precision."""
    recipe = make(call, name, {})
    settings: dict[str, Any] = {"budget.batch": recipe.budget.batch}
    if name == COURSE:
        settings = measuring.choose(
            call, lambda changes: make(call, name, changes), sources, (1,) if call.small else BATCHES
        )
    settings["engine.workers"] = measuring.workers(call, sources, settings["budget.batch"])
    rows: dict[str, dict[str, Any]] = {}
    look_s = 0.0
    with call.timed(f"speed of {name}"):
        for precision in PRECISIONS[name]:
            chosen = make(call, name, {**settings, "engine.precision": precision})
            measuring.free()
            with measuring.engine(chosen, sources, call.pace) as engine:
                rate, peak = engine.turn(), measuring.peak_mib()
                look_s, half = look_s or engine.look(), engine.loop.half
            epoch_s = len(sources.train) / rate
            rows[precision] = {
                "computes_in": "bf16" if half else "fp32",
                "cases_a_second": round(rate, 3),
                "seconds_an_epoch": round(epoch_s, 1),
                "peak_mib": peak,
            }
    if "fp32" in rows:
        rows["auto"]["ratio"] = round(rows["auto"]["cases_a_second"] / rows["fp32"]["cases_a_second"], 2)
    speed = {**call.results.get("speed", {}), name: {**settings, **rows, "validation_s": round(look_s, 1)}}
    call.told(speed=speed)
    return Measured(settings, settings["budget.batch"] / rows["auto"]["cases_a_second"], look_s)


def planned(call: common.Call, name: str, found: Measured, sources: Sources, time_s: float) -> Recipe:
    """The recipe with the length that the time allows; R0's is never longer than its own."""
    lengths = measuring.planned(found.step_s, found.look_s, time_s)
    epoch_steps = math.ceil(len(sources.train) / found.settings["budget.batch"])
    if name == R0 and not call.small:
        steps = min(lengths["budget.steps"], R0_EPOCHS * epoch_steps)
        lengths = {"budget.steps": steps, "budget.epoch_steps": math.ceil(steps / R0_LOOKS)}
    call.keep(planned={**call.results.get("planned", {}), name: lengths | {"steps_of_an_epoch": epoch_steps}})
    return make(call, name, {**found.settings, **lengths})


if __name__ == "__main__":
    main()
