"""The folder of a GAN's run, and the file in which its generator is kept.

As `run.Run`; `weights.safetensors` holds the generator's slow weights, its recipe, and the contrast codes of the last
patches that it was trained on, from which it paints.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from brainseg_utils.errors import DataError
from brainseg_utils.training import checkpoints, gan_recipe
from brainseg_utils.training.gan_recipe import GanRecipe
from brainseg_utils.training.run import Run

FORMAT = "brainseg generator 1"
PREFIX = "generator."
CODES = "codes"


class GanRun(Run):
    """A run's folder whose recipe is a `GanRecipe`."""

    @property
    def recipe(self) -> GanRecipe:  # type: ignore[override]
        """The recipe, profile applied."""
        return gan_recipe.load(self.path / "recipe.toml")


def write_generator(path: Path, recipe: GanRecipe, weights: Mapping[str, Tensor], codes: Tensor | None) -> Path:
    """Writes a generator.

    Args:
        path: the file.
        recipe: of its run.
        weights: by name.
        codes: (B, T, C) contrast codes, NaN for a tissue that a patch had not; None where the game has none.

    Raises:
        BrainsegError: the disk is full.
    """
    tensors = {PREFIX + name: tensor for name, tensor in weights.items()}
    if codes is not None:
        tensors[CODES] = codes
    return checkpoints.write_weights(path, {"format": FORMAT, "recipe": recipe.toml()}, tensors)


def read_generator(path: str | Path) -> tuple[GanRecipe, dict[str, Tensor], Tensor | None]:
    """What `write_generator` wrote: recipe, weights, codes.

    Args:
        path: the file, or a run's folder.

    Raises:
        DataError: no such file, or not a generator's.
    """
    path = Path(path) / "weights.safetensors" if Path(path).is_dir() else Path(path)
    about, tensors = checkpoints.read_weights(path)
    if about["format"] != FORMAT:
        raise DataError(f"format {about['format']!r}", where=path, expected="weights of a generator")
    weights = {name.removeprefix(PREFIX): t for name, t in tensors.items() if name.startswith(PREFIX)}
    return gan_recipe.parse(tomllib.loads(about["recipe"]), where=str(path)), weights, tensors.get(CODES)
