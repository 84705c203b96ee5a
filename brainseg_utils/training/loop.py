"""The training loop: one for every recipe, on a CPU, a GPU, or several.

    for every step up to the budget:
        set the rate, clear the gradients
        for every part of the step's batch: predict, compare, go backward
        clip, step, let the slow weights follow
        at the end of an epoch: validate, note, keep the best, write a checkpoint

Nothing in a step depends on how the run came there: samples, dropout and rate are functions of the step's number, and
the rest is in the checkpoint. So a run that was killed and resumed ends with the same weights, on a CPU to the bit.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from brainseg_utils.models.registry import NETWORKS, count_parameters, penalty
from brainseg_utils.seeds import stream
from brainseg_utils.training import batches, budget, checkpoints, device, losses, memory, schedules
from brainseg_utils.training.data import Batch, Sources
from brainseg_utils.training.ema import Ema
from brainseg_utils.training.fitting import check_fit, make_optimiser, must_be_finite
from brainseg_utils.training.keeping import State, judge
from brainseg_utils.training.recipe import Recipe
from brainseg_utils.training.report import Events, Progress
from brainseg_utils.training.run import Run, environment
from brainseg_utils.training.validation import Validation, validate

CHECKPOINT_SHARE = 0.05  # of the time that checkpoints may take; the first epoch and the end have one in any case
Row = dict[str, float]
AfterEpoch = Callable[[Row, nn.Module, Validation | None], None]


def fit(recipe: Recipe, sources: Sources, run: Run, after_epoch: AfterEpoch | None = None) -> Run:
    """Trains a recipe's network; goes on where `run` stopped, if it did.

    Args:
        recipe: what to do.
        sources: what to train and validate on.
        run: its folder, of `Run.begin`.
        after_epoch: called with the row of the history, the network as it is validated (evaluation mode, slow weights),
            and the validation.

    Returns:
        The run, finished.

    Raises:
        SettingError: network, loss and data do not fit together, or not into the memory.
        BrainsegError: a loss that is not finite, no memory left, or no disk.
    """
    if run.finished:
        return run
    with torch.random.fork_rng(devices=[]):
        loop = Loop(recipe, sources, run)
        with memory.explained(loop.device, recipe.budget.batch, recipe.engine.accumulate):
            loop.train(after_epoch)
    return run


class Loop:
    """One run under way: the network, what changes it, and where it is."""

    def __init__(self, recipe: Recipe, sources: Sources, run: Run) -> None:
        self.recipe, self.sources, self.run, self.engine = recipe, sources, run, recipe.engine
        self.accelerator = Accelerator(mixed_precision="no")  # autocast is entered below: a process may train twice
        self.device, self.main = self.accelerator.device, self.accelerator.is_main_process
        self.loss = losses.build(recipe.loss.name, **recipe.loss.options)
        self.schedule = schedules.build(recipe.schedule.name, **recipe.schedule.options)
        self.epoch_steps = recipe.budget.epoch_steps or math.ceil(len(sources.train) / recipe.budget.batch)
        torch.manual_seed(int(stream(recipe.seed, "weights").integers(2**63)))
        network = checkpoints.build_network(recipe, sources.in_channels, len(sources.classes) + sources.exclusive)
        processes = self.accelerator.num_processes
        self.forecast, self.half = check_fit(recipe, network, sources, processes, self.device)
        self.before = memory.used(self.device)
        memory.check(self.forecast, self.device, recipe.budget.batch, self.engine.accumulate)
        if self.engine.start:
            checkpoints.start_from(self.engine.start, network, sources.classes, sources.exclusive)
        if self.device.type == "cpu":
            device.keep_memory()
        device.layout(network, NETWORKS[recipe.network.name].dimensions, self.engine.channels_last)
        self.network, self.optimiser = self.accelerator.prepare(network, make_optimiser(recipe, network))
        self.plain = self.accelerator.unwrap_model(self.network)  # without the wrapper for several devices
        self.ema = Ema(self.plain, self.engine.ema) if self.engine.ema else None
        self.state = State()
        self.steps = self.epoch_steps

    def train(self, after_epoch: AfterEpoch | None) -> None:
        """From the last checkpoint, or the beginning, to the end of the budget."""
        self._restore()
        self.steps = self._length()
        state, first = self.state, self.state.step
        before = state.rows[-1]["seconds"] if state.rows else 0.0
        self.began = time.monotonic() - before
        self.saved, self.save_seconds = time.monotonic(), 0.0
        progress = Progress(self.recipe.name, first, self.steps, self.main)
        events = Events(self.run.events, first) if self.main else None
        total, counted = 0.0, 0
        for parts in self._batches(first, 0 if state.stopped else self.steps):
            rate, loss = self._step(parts)
            total, counted = total + loss, counted + 1
            progress.step(state.step, loss)
            if events:
                events.step(state.step, loss, rate)
            if state.step % self.epoch_steps == 0 or state.step == self.steps:
                row, validation = self._epoch(rate, total / counted, after_epoch)
                progress.epoch(state.step, row)
                if events:
                    events.epoch(state.step, row, validation)
                total, counted = 0.0, 0
                if state.stopped:
                    break
        if events:
            events.close()
        self._finish()

    def _step(self, parts: list[Batch]) -> tuple[float, float]:
        """One optimiser step; returns its rate and its loss, the mean over its parts."""
        state = self.state
        rate = self.recipe.optimiser.options["rate"] * self.schedule.factor(state.step, self.steps, self.epoch_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        # Dropout of step n is the same in every run, resumed or not.
        rng = stream(self.recipe.seed, "step", state.step, self.accelerator.process_index)
        torch.manual_seed(int(rng.integers(2**63)))
        self.network.train()
        self.optimiser.zero_grad()
        total = 0.0
        for number, batch in enumerate(parts):
            last = number == len(parts) - 1  # several devices exchange their gradients once a step
            with nullcontext() if last else self.accelerator.no_sync(self.network):
                image = batch["image"].to(self.device, non_blocking=True)
                truth = batch["label"].to(self.device, non_blocking=True)
                with device.autocast(self.half, self.device):
                    outputs = self.network(image)
                loss = (losses.deep(self.loss, outputs, truth) + penalty(self.plain)) / len(parts)
                value = float(loss.detach())
                must_be_finite(value, "loss", batch, state.step + 1, self.run)
                self.accelerator.backward(loss)
                total += value
        if self.engine.clip:
            norm = self.accelerator.clip_grad_norm_(self.network.parameters(), self.engine.clip)
            must_be_finite(float(norm), "gradient", parts[-1], state.step + 1, self.run)
        self.optimiser.step()
        if self.ema:
            self.ema.update(self.plain, state.step)
        state.step += 1
        return rate, total

    def _epoch(self, rate: float, loss: float, after_epoch: AfterEpoch | None) -> tuple[Row, Validation | None]:
        """Validates the weights that would be kept, and writes down everything that there is to say."""
        state, validation = self.state, None
        epoch = math.ceil(state.step / self.epoch_steps)
        row: Row = {"epoch": epoch, "step": state.step, "rate": rate, "train_loss": loss}
        with self.ema.inside(self.plain) if self.ema else nullcontext():
            if self.sources.validation is not None:
                validation = self._validate()
                row |= {"val_loss": validation.loss, "dice": validation.mean_dice}
                row |= {f"dice_{name}": value for name, value in validation.dice.items()}
                self.schedule.observe(validation.loss)
            row["seconds"] = round(time.monotonic() - self.began, 3)
            dice, val_loss = row.get("dice"), row.get("val_loss")
            for name in judge(state, self.engine, epoch, dice, val_loss):
                self._write(name)
            if after_epoch:
                after_epoch(row, self.plain.eval(), validation)
        state.rows.append(row)
        if self.main:
            self.run.write_history(state.rows)
        self._save()
        return row, validation

    def _validate(self) -> Validation:
        return validate(self.plain, self.sources, self.loss, self.accelerator, self._predict)

    def _predict(self, network: nn.Module, image: Tensor) -> Tensor:
        with device.autocast(self.half, self.device):
            return self.sources.predict(network, image) if self.sources.predict else network(image)

    def _write(self, policy: str) -> None:
        """Writes the network's weights of the moment; the first policy's are the run's `weights.safetensors`."""
        if self.main:
            name = "weights" if policy == self.engine.keep[0] else policy
            s = self.sources
            path = self.run.path / f"{name}.safetensors"
            checkpoints.save_weights(path, self.plain.state_dict(), self.recipe, s.in_channels, s.classes, s.exclusive)

    def _save(self) -> None:
        """Writes a checkpoint, unless the last one was written a moment ago."""
        over = self.state.step >= self.steps or self.state.stopped
        due = time.monotonic() - self.saved >= self.save_seconds / CHECKPOINT_SHARE
        if not self.main or not (due or over):
            return
        start = time.monotonic()
        tensors = {"network": self.plain.state_dict(), "optimiser": checkpoints.optimiser_tensors(self.inner)}
        if self.ema:
            tensors["ema"] = self.ema.weights
        state = {**asdict(self.state), "schedule": self.schedule.state()}
        checkpoints.save(self.run.checkpoints, self.state.step, tensors, state)
        self.saved, self.save_seconds = time.monotonic(), time.monotonic() - start

    @property
    def inner(self) -> torch.optim.Optimizer:
        """The optimiser without Accelerate's wrapper."""
        return self.optimiser.optimizer

    def _restore(self) -> None:
        checkpoint = checkpoints.last(self.run.checkpoints)
        if checkpoint is not None:
            tensors, state = checkpoints.load(checkpoint)
            self.state = State(**state)
            self.schedule.restore(self.state.schedule) if self.state.schedule else None
            self.plain.load_state_dict(tensors["network"])
            checkpoints.restore_optimiser(self.inner, tensors["optimiser"])
            if self.ema:
                self.ema.restore(tensors["ema"])
            if self.main:
                self.run.write_history(self.state.rows)
        elif self.main:
            facts = {"device": str(self.device), "devices": self.accelerator.num_processes, "bf16": self.half}
            self.run.note(**environment(), **facts, forecast_mib=round(self.forecast.total / memory.MIB))

    def _length(self) -> int:
        """Steps of the whole run."""
        given = self.recipe.budget
        if not given.seconds:
            return given.steps or math.ceil(given.epochs * self.epoch_steps)
        if "budget" not in self.run.environment:
            measured = [asdict(self._measure(given.seconds))]
            broadcast_object_list(measured)  # the main process decides for all
            if self.main:
                self.run.note(budget=measured[0])
            self.accelerator.wait_for_everyone()
        return int(self.run.environment["budget"]["steps"])

    def _measure(self, seconds: float) -> budget.Measured:
        """Times a few real steps and a validation, and puts everything back as it was."""
        slow = self.ema.weights if self.ema else {}
        kept = copy.deepcopy((self.plain.state_dict(), self.inner.state_dict(), slow))
        trial = self._batches(0, budget.WARM + budget.TIMED)
        look = self._validate if self.sources.validation is not None else None
        measured = budget.measure(seconds, lambda: self._step(next(trial)), look, self.epoch_steps)
        self.plain.load_state_dict(kept[0])
        self.inner.load_state_dict(kept[1])
        if self.ema:
            self.ema.restore(kept[2])
        self.state = State()
        return measured

    def _batches(self, first: int, last: int) -> Iterator[list[Batch]]:
        return batches.steps(
            self.sources.train,
            first,
            last,
            self.recipe.budget.batch,
            self.engine.accumulate,
            device=self.accelerator.process_index,
            devices=self.accelerator.num_processes,
            channels_last=self.engine.channels_last,
            workers=self.engine.workers,
        )

    def _finish(self) -> None:
        """Writes the weights that are kept from the end, and the outcome."""
        if "last" in self.engine.keep:
            with self.ema.inside(self.plain) if self.ema else nullcontext():
                self._write("last")
        if self.main:
            row, state = self.state.rows[-1], self.state
            best = {"best_dice": state.best_dice, "best_loss": state.best_loss} if "dice" in row else {}
            self.run.write_metrics(
                {
                    "steps": state.step,
                    "stopped_early": state.stopped,
                    **{k: v for k, v in row.items() if k not in ("epoch", "step")},
                    **best,
                    "parameters": count_parameters(self.plain),
                    "forecast_mib": round(self.forecast.total / memory.MIB),
                    "grown_mib": round((memory.peak(self.device) - self.before) / memory.MIB),
                }
            )
        self.accelerator.wait_for_everyone()
