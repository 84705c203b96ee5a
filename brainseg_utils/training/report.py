"""What a run says while it trains: lines or a bar for whoever watches, events for TensorBoard."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainseg_utils.progress import tell

if TYPE_CHECKING:
    from brainseg_utils.training.validation import Validation

LINES = 10  # that a run prints when nobody watches
EDGE = (0.902, 0.624, 0.0)  # Okabe-Ito orange: predicted; white: truth


def duration(seconds: float) -> str:
    """A time in words.

    Example:
        >>> duration(8.4), duration(75), duration(4000)
        ('8 s', '1 min 15 s', '1 h 6 min')
    """
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Progress:
    """Where a run is and how long it will still take, on standard error.

    Args:
        name: of the recipe.
        first: steps that an interrupted run had done.
        steps: of the whole run.
        shown: whether to say anything (one process of several does).
    """

    def __init__(self, name: str, first: int, steps: int, shown: bool = True) -> None:
        self.name, self.first, self.steps, self.shown = name, first, steps, shown
        self.start, self.said = time.monotonic(), first * LINES // max(steps, 1)
        self.watched = sys.stderr.isatty()

    def step(self, done: int, loss: float) -> None:
        """After each step."""
        if self.shown and self.watched:
            tell(f"\r{self._where(done)}, loss {loss:.4f}   ")

    def epoch(self, done: int, row: Mapping[str, float]) -> None:
        """After each epoch."""
        due = done * LINES // self.steps > self.said or done >= self.steps
        if not self.shown or not (due or self.watched):
            return
        self.said = done * LINES // self.steps
        told = [f"{name} {row[key]:.4f}" for name, key in TOLD if key in row]
        tell(f"{chr(13) * self.watched}{self._where(done)}: {', '.join(told)}\n")

    def _where(self, done: int) -> str:
        passed = time.monotonic() - self.start
        left = passed / max(done - self.first, 1) * (self.steps - done)
        return f"{self.name} step {done}/{self.steps}, {duration(left)} left"


TOLD = (
    ("loss", "train_loss"),
    ("validation loss", "val_loss"),
    ("Dice", "dice"),
    ("reconstruction", "reconstruction"),  # of a painter
    ("variety", "variety"),
)


class Events:
    """TensorBoard events of a run.

    Args:
        folder: of the events.
        first: steps that an interrupted run had done; later events of it are dropped.
    """

    def __init__(self, folder: Path, first: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=first or None)

    def step(self, step: int, loss: float, rate: float) -> None:
        """The numbers of one step."""
        self.writer.add_scalar("loss/step", loss, step)
        self.writer.add_scalar("rate", rate, step)

    def epoch(self, step: int, row: Mapping[str, float], validation: Validation | None) -> None:
        """The numbers and the picture of one epoch."""
        for name, value in row.items():
            if name not in ("epoch", "step", "rate", "seconds"):
                self.writer.add_scalar(f"epoch/{name}", value, step)
        if validation is not None and validation.example is not None:
            batch, probability = validation.example
            self.writer.add_image("validation", picture(batch, probability), step)

    def close(self) -> None:
        """Writes what is left."""
        self.writer.close()


def picture(batch: Mapping[str, Any], probability: Any, count: int = 4) -> np.ndarray:
    """Images of a batch in a row, truth outlined in white, prediction in orange: (3, H, count W) in 0-1.

    The images with the most truth are shown; volumes by their middle slice.
    """
    image, truth, found = (np.asarray(x.float()) for x in (batch["image"], batch["label"], probability))
    while image.ndim > 4:
        image, truth, found = (x[..., x.shape[-1] // 2] for x in (image, truth, found))
    chosen = np.argsort(-truth[:, 0].sum((1, 2)), kind="stable")[:count]
    tiles = []
    for n in chosen:
        grey = image[n, image.shape[1] // 2]
        low, high = np.percentile(grey, (1, 99))
        tile = np.repeat(np.clip((grey - low) / max(high - low, 1e-6), 0, 1)[None], 3, axis=0)
        for mask, colour in ((truth[n, 0] > 0.5, (1.0, 1.0, 1.0)), (found[n, 0] >= 0.5, EDGE)):
            tile[:, _outline(mask)] = np.array(colour, np.float32)[:, None]
        tiles.append(tile)
    return np.concatenate(tiles, axis=2)


def _outline(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return mask & ~ndimage.binary_erosion(mask)
