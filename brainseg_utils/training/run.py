"""The folder of a run: what was asked, on what machine, what happened, and the weights.

recipe.toml          the recipe in full, profile applied
split.json           which cases trained and validated
environment.json     versions, device, precision, how the budget became steps, memory forecast
history.csv          one row an epoch
events/              the same and pictures for TensorBoard
weights.safetensors  what to predict with; best_dice, best_loss, last, epoch-… beside it as the recipe keeps them
last.ckpt/           what `resume` goes on from
nonfinite/           the batch at which the loss was not finite, if there was one
metrics.json         the outcome; there when the run is finished
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainseg_utils.errors import DataError, SettingError
from brainseg_utils.files import write_json, write_text
from brainseg_utils.training import recipe as recipes
from brainseg_utils.training.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

    from brainseg_utils.training.checkpoints import Trained


class Run:
    """A run's folder.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.weights, self.checkpoints = self.path / "weights.safetensors", self.path / "last.ckpt"
        self.events, self.nonfinite = self.path / "events", self.path / "nonfinite"

    @classmethod
    def begin(cls, path: str | Path, recipe: Recipe, resume: bool = False) -> Run:
        """Makes the folder, or goes on in one that is there.

        Raises:
            SettingError: the folder is taken and `resume` was not asked for, or it belongs to another recipe.
        """
        run = cls(path)
        text = recipe.toml()
        if (run.path / "recipe.toml").is_file():
            if not resume:
                raise SettingError(
                    "there is a run already", where=run.path, remedy="resume it, or choose another folder"
                )
            _compare(run.recipe.toml(), text, run.path)
        elif run.path.exists() and any(run.path.iterdir()):
            raise SettingError("the folder is not empty", where=run.path, expected="a new folder, or a run to resume")
        write_text(run.path / "recipe.toml", text)
        return run

    @property
    def recipe(self) -> Recipe:
        """The recipe, profile applied."""
        return recipes.load(self.path / "recipe.toml")

    @property
    def environment(self) -> dict[str, Any]:
        """What `note` wrote; empty before."""
        return self._json("environment.json")

    @property
    def metrics(self) -> dict[str, Any]:
        """The outcome; empty while the run is not finished."""
        return self._json("metrics.json")

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return bool(self.metrics)

    def history(self) -> pd.DataFrame:
        """One row an epoch: epoch, step, rate, train_loss, val_loss, dice, dice of each class, seconds.

        Raises:
            DataError: there is none yet.
        """
        import pandas as pd

        if not (self.path / "history.csv").is_file():
            raise DataError("no history", where=self.path, expected="a run with an epoch done")
        return pd.read_csv(self.path / "history.csv", float_precision="round_trip")

    def load(self) -> Trained:
        """The trained network (`checkpoints.load_weights`)."""
        from brainseg_utils.training.checkpoints import load_weights

        return load_weights(self.weights)

    def note(self, **facts: Any) -> None:
        """Adds facts to `environment.json`."""
        write_json(self.path / "environment.json", {**self.environment, **facts})

    def write_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Writes all rows; a number keeps all its digits."""
        lines = [",".join(rows[0])] + [",".join(repr(value) for value in row.values()) for row in rows]
        write_text(self.path / "history.csv", "\n".join(lines) + "\n")

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Writes the outcome, which marks the run as finished."""
        write_json(self.path / "metrics.json", dict(metrics))

    def _json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _compare(old: str, new: str, where: Path) -> None:
    """Refuses to resume with another recipe, and names the first setting that differs."""
    for before, after in zip(old.splitlines(), new.splitlines(), strict=False):
        if before != after:
            raise SettingError(
                f"the run was begun with {before!r}, not {after!r}", where=where, remedy="resume as it was"
            )
    if len(old.splitlines()) != len(new.splitlines()):
        raise SettingError("the run was begun with another recipe", where=where, remedy="resume as it was")


def environment() -> dict[str, Any]:
    """Versions and machine, for the record."""
    import platform
    from importlib.metadata import version

    import torch

    from brainseg_utils.parallel import default_workers

    packages = ("torch", "monai", "numpy", "accelerate", "safetensors")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: version(name) for name in packages},
        "cores": default_workers(),
        "threads": torch.get_num_threads(),
    }
