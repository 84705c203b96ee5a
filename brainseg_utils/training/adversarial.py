"""The loop that trains a generator against a discriminator: two optimisers take turns on the same batch.

    for every step up to the budget:
        for every part of the step's batch: the generator makes, the discriminator judges the real and the made
            discriminator: gradient of its loss          (nothing of it reaches the generator)
            generator: gradient of its losses            (the discriminator's weights stand still)
        both step; the generator's slow weights follow

The engine's loop (`loop`) has one network, one loss and one optimiser, and everything in it says so; two of each, whose
order matters, are easier to read in a loop of their own. What can be shared is: samples by number, steps, slow weights,
checkpoints, the run's folder. As there, nothing in a step depends on how the run came to it, so a run that was stopped
and resumed ends with the same weights. One device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from brainseg_utils.errors import BrainsegError
from brainseg_utils.seeds import stream
from brainseg_utils.training import batches, checkpoints, device, games, gan_recipe, memory
from brainseg_utils.training.data import Batch, Samples
from brainseg_utils.training.ema import Ema
from brainseg_utils.training.gan_recipe import GanRecipe, Loss
from brainseg_utils.training.gan_run import read_generator, write_generator
from brainseg_utils.training.report import Progress
from brainseg_utils.training.run import Run, environment

CODES = 256  # contrast codes that are kept of the last patches
RUNNING = 0.9  # share of the old value that stays in the running accuracy
WARM = 20  # steps over which the rates rise
MEMORY = 0.99  # of Adam's mean square: with .999, one large gradient after many small ones is a leap
Row = dict[str, float]
AfterEpoch = Callable[[Row, nn.Module, games.Turn], None]


@dataclass
class Standing:
    """Where a run is: what a checkpoint holds beside the tensors.

    Attributes:
        step: steps done.
        accuracy: the discriminator's, running.
        codes: contrast codes seen so far.
        rows: of the history.
    """

    step: int = 0
    accuracy: float = 0.5
    codes: int = 0
    rows: list[Row] = field(default_factory=list)


def fit(recipe: GanRecipe, samples: Samples, run: Run, after_epoch: AfterEpoch | None = None) -> Run:
    """Trains a recipe's generator; goes on where `run` stopped, if it did.

    Args:
        recipe: what to do.
        samples: images and class numbers of all tissues (`gan_samples.samples`).
        run: its folder, of `gan_run.GanRun.begin`.
        after_epoch: called with the row of the history, the generator (evaluation mode, slow weights), the last turn.

    Returns:
        The run, finished. Its history: losses, `accuracy` of the discriminator, `rested` (share of the steps in which
        it did not learn), `variety` (how far two paintings of one hole lie apart, in sd of the real tissue), seconds.

    Raises:
        BrainsegError: a loss that is not finite, or no disk.
    """
    if run.finished:
        return run
    with torch.random.fork_rng(devices=[]):
        GanLoop(recipe, samples, run).train(after_epoch)
    return run


def play(
    generator: nn.Module,
    discriminator: nn.Module,
    game: games.Game,
    loss: Loss,
    turn: games.Turn,
    parts: int,
    half: bool,
) -> dict[str, Tensor]:
    """Gradients of both players for one part of a batch, added to those that are there.

    Args:
        generator, discriminator: in training mode.
        game: whose rules hold.
        loss: of the recipe.
        turn: of `game.turn`.
        parts: of the batch.
        half: compute in bf16.

    Returns:
        `d_loss`, `accuracy`, `g_loss`, `reconstruction` and `features`, without gradients.
    """
    place = turn.real.device
    with device.autocast(half, place):
        made = generator(*turn.given)
        real_logits, real_features = game.judge(discriminator, turn, turn.real)
        made_logits, _ = game.judge(discriminator, turn, made.detach())
    weights = games.focus(turn.hole, real_logits.shape[2:])
    judged = games.discriminator_loss(loss.adversarial, real_logits, made_logits, weights)
    right = games.accuracy(real_logits.detach(), made_logits.detach(), weights)
    known = [feature.detach() for feature in real_features]
    (judged / parts).backward()
    judged = judged.detach()
    del real_logits, made_logits, real_features  # what the discriminator kept for its backward pass goes with them
    discriminator.requires_grad_(False)
    with device.autocast(half, place):
        logits, features = game.judge(discriminator, turn, made)
    fooled = games.generator_loss(loss.adversarial, logits, weights)
    distance = games.reconstruction(made.float(), turn.real, turn.hole)
    matched = games.feature_distance(features, known, turn.hole)
    total = loss.weight * fooled + loss.reconstruction * distance + loss.features * matched
    (total / parts).backward()
    discriminator.requires_grad_(True)
    terms = {"g_loss": fooled, "reconstruction": distance, "features": matched}
    return {"d_loss": judged, "accuracy": right, **{name: value.detach() for name, value in terms.items()}}


class GanLoop:
    """One run under way."""

    def __init__(self, recipe: GanRecipe, samples: Samples, run: Run) -> None:
        self.recipe, self.samples, self.run = recipe, samples, run
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.half = device.uses_bf16(recipe.engine.precision, self.device)
        if self.device.type == "cpu":
            device.keep_memory()
        torch.manual_seed(int(stream(recipe.seed, "weights").integers(2**63)))
        # Channels last: quicker, and convolutions need fewer copies. There are no norms that would lose by it.
        self.generator, self.discriminator = (
            device.layout(gan_recipe.build(choice), 3, True).to(self.device).train()
            for choice in (recipe.generator, recipe.discriminator)
        )
        if recipe.engine.start:
            self.generator.load_state_dict(read_generator(recipe.engine.start)[1])
        self.game: games.Game = games.GAMES[recipe.generator.name]()
        rates = recipe.rates
        self.optimisers = {
            "generator": torch.optim.Adam(self.generator.parameters(), rates.generator, (rates.beta, MEMORY)),
            "discriminator": torch.optim.Adam(
                self.discriminator.parameters(), rates.discriminator, (rates.beta, MEMORY)
            ),
        }
        self.ema = Ema(self.generator, recipe.engine.ema)
        self.codes: Tensor | None = None
        self.standing = Standing()

    def train(self, after_epoch: AfterEpoch | None = None) -> None:
        """From the last checkpoint, or the beginning, to the end of the budget."""
        self._restore()
        standing, length, engine = self.standing, self.recipe.budget, self.recipe.engine
        began = time.monotonic() - (standing.rows[-1]["seconds"] if standing.rows else 0.0)
        progress = Progress(self.recipe.name, standing.step, length.steps)
        seen: list[Row] = []
        for parts in batches.steps(
            self.samples, standing.step, length.steps, length.batch, engine.accumulate, channels_last=True
        ):
            losses, turn = self.step(parts)
            seen.append(losses)
            progress.step(standing.step, losses["reconstruction"])
            if standing.step % length.epoch_steps == 0 or standing.step == length.steps:
                row: Row = {"epoch": math.ceil(standing.step / length.epoch_steps), "step": standing.step}
                row |= {name: sum(one[name] for one in seen) / len(seen) for name in seen[0]}
                with self.ema.inside(self.generator):
                    self.generator.eval()
                    row["variety"] = self._variety(turn)
                    row["seconds"] = round(time.monotonic() - began, 3)
                    if after_epoch:
                        after_epoch(row, self.generator, turn)
                    self.generator.train()
                standing.rows.append(row)
                self.run.write_history(standing.rows)
                progress.epoch(standing.step, row)
                self._save()
                seen = []
        self._finish()

    def step(self, parts: list[Batch]) -> tuple[Row, games.Turn]:
        """One step of both optimisers; returns its losses, the mean over its parts, and the last part."""
        standing = self.standing
        left = 1 - standing.step / self.recipe.budget.steps
        factor = min(left, (standing.step + 1) / WARM)
        for name, optimiser in self.optimisers.items():
            optimiser.zero_grad()
            for group in optimiser.param_groups:
                group["lr"] = getattr(self.recipe.rates, name) * factor
        # The noise of step n is the same in every run, resumed or not.
        torch.manual_seed(int(stream(self.recipe.seed, "step", standing.step).integers(2**63)))
        rests = standing.accuracy > self.recipe.engine.ceiling
        losses: Row = {}
        for batch in parts:
            turn = self.game.turn(batch, self.device)
            self._remember(turn)
            played = play(self.generator, self.discriminator, self.game, self.recipe.loss, turn, len(parts), self.half)
            for name, value in played.items():
                losses[name] = losses.get(name, 0.0) + float(value) / len(parts)
                self._must_be_finite(float(value), name, batch)
        for name, network in (("generator", self.generator), ("discriminator", self.discriminator)):
            if self.recipe.engine.clip:
                nn.utils.clip_grad_norm_(network.parameters(), self.recipe.engine.clip)
            if name == "generator" or not rests:
                self.optimisers[name].step()
        self.ema.update(self.generator, standing.step)
        standing.step += 1
        standing.accuracy = RUNNING * standing.accuracy + (1 - RUNNING) * losses["accuracy"]
        return {**losses, "rested": float(rests)}, turn

    @torch.no_grad()
    def _variety(self, turn: games.Turn) -> float:
        """Mean distance of two paintings of the same holes, with each other's contrast and new noise."""
        given = list(turn.given)
        torch.manual_seed(0)
        one = self.generator(*given)
        if turn.code is not None:
            given[3] = given[3].roll(1, dims=0)
        other = self.generator(*given)
        inside = turn.hole.expand_as(one)
        return float((one - other)[inside].abs().mean() / turn.real[inside].std().clamp(min=1e-6))

    def _remember(self, turn: games.Turn) -> None:
        """Keeps the turn's contrast codes, the newest in place of the oldest."""
        if turn.code is None:
            return
        if self.codes is None:
            self.codes = torch.full((CODES, *turn.code.shape[1:]), torch.nan)
        for code in turn.code.cpu():
            self.codes[self.standing.codes % CODES] = code
            self.standing.codes += 1

    def _must_be_finite(self, value: float, name: str, batch: Batch) -> None:
        if math.isfinite(value):
            return
        kept = checkpoints.save_batch(self.run.nonfinite, batch, self.standing.step + 1)
        raise BrainsegError(
            f"{name} is {value} at step {self.standing.step + 1}",
            where="batch of " + ", ".join(dict.fromkeys(batch["case"])),
            expected="a finite number",
            remedy=f"look at the batch, kept in {kept}; or lower both rates, or set engine.clip = 1",
        )

    def _save(self) -> None:
        tensors: dict[str, Any] = {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "ema": self.ema.weights,
            **{f"optimiser_{name}": checkpoints.optimiser_tensors(o) for name, o in self.optimisers.items()},
        }
        if self.codes is not None:
            tensors["codes"] = {"codes": self.codes}
        checkpoints.save(self.run.checkpoints, self.standing.step, tensors, vars(self.standing))

    def _restore(self) -> None:
        found = checkpoints.last(self.run.checkpoints)
        if found is None:
            self.run.note(**environment(), device=str(self.device), bf16=self.half)
            return
        tensors, state = checkpoints.load(found)
        self.standing = Standing(**state)
        self.generator.load_state_dict(tensors["generator"])
        self.discriminator.load_state_dict(tensors["discriminator"])
        self.ema.restore(tensors["ema"])
        for name, optimiser in self.optimisers.items():
            checkpoints.restore_optimiser(optimiser, tensors[f"optimiser_{name}"])
        self.codes = tensors["codes"]["codes"] if "codes" in tensors else None
        self.run.write_history(self.standing.rows)

    def _finish(self) -> None:
        """Writes the generator's slow weights with the codes, and the outcome."""
        codes = None if self.codes is None else self.codes[: self.standing.codes]
        write_generator(self.run.weights, self.recipe, self.ema.weights, codes)
        last = {k: v for k, v in self.standing.rows[-1].items() if k not in ("epoch", "step")}
        peak = round(memory.peak(self.device) / memory.MIB)
        self.run.write_metrics({"steps": self.standing.step, **last, "peak_mib": peak})
