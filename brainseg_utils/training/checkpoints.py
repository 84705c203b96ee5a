"""Weights and states on disk: safetensors for tensors, JSON for the rest, nothing that is unpickled.

`weights.safetensors` carries its recipe, so that one file is enough to predict. `last.ckpt` holds what a run needs to
go on: one folder a checkpoint, written under another name and renamed when it is whole; the one before is removed only
then. A kill or a full disk at any moment leaves the last good one.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from brainseg_utils.errors import BrainsegError, DataError
from brainseg_utils.files import atomic, write_json
from brainseg_utils.models import registry
from brainseg_utils.training.recipe import Recipe, parse

FORMAT = "brainseg 1"
ABOUT = "brainseg"  # the metadata entry
PREFIX = "step-"
STATE = "state.json"


@dataclass(frozen=True)
class Trained:
    """A network with its weights, and what it was trained as.

    Attributes:
        network: on the CPU, in evaluation mode.
        recipe: of its run.
        in_channels: of its images.
        classes: of its output channels.
        exclusive: whether the classes exclude each other (softmax, channel 0 the background).
    """

    network: nn.Module
    recipe: Recipe
    in_channels: int
    classes: tuple[str, ...]
    exclusive: bool


def save_weights(
    path: Path,
    weights: Mapping[str, Tensor],
    recipe: Recipe,
    in_channels: int,
    classes: Sequence[str],
    exclusive: bool = False,
) -> Path:
    """Writes weights and the recipe that they belong to, atomically.

    Raises:
        BrainsegError: the disk is full.
    """
    about = {"format": FORMAT, "recipe": recipe.toml(), "in_channels": in_channels}
    about |= {"classes": list(classes), "exclusive": exclusive}
    return write_weights(path, about, weights)


def write_weights(path: Path, about: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Path:
    """Writes tensors and what the file says of itself, atomically.

    Raises:
        BrainsegError: the disk is full.
    """
    metadata = {ABOUT: json.dumps(about)}  # one entry: several would be written in a random order
    with _told(path, "the weights"), atomic(path) as temporary:
        save_file(_plain(weights), temporary, metadata)
    return path


def load_weights(path: str | Path) -> Trained:
    """A network from one weights file.

    Raises:
        DataError: no such file, or not a weights file of this package.
    """
    about, weights = read_weights(path)
    if about.get("format") != FORMAT:
        raise DataError(f"format {about['format']!r}", where=path, expected="one network, as a run writes it")
    return assemble(about, weights, path)


def read_weights(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a weights file says of itself, and its tensors; fractions in float32, whatever they are stored in.

    Raises:
        DataError: no such file, or not a weights file of this package.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("no such file", where=path, expected="weights.safetensors of a run")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(metadata.get(ABOUT, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"not a safetensors file ({error})", where=path) from None
    if "format" not in about:
        raise DataError("weights of another program", where=path, expected="weights.safetensors of a run")
    return about, {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}


def assemble(about: Mapping[str, Any], weights: Mapping[str, Tensor], where: str | Path) -> Trained:
    """A network from what `save_weights` wrote of it, and its weights.

    Raises:
        DataError: they do not belong together.
        SettingError: a recipe that this version of the package does not know.
    """
    recipe = parse(tomllib.loads(about["recipe"]), where=str(where))
    channels, classes, exclusive = about["in_channels"], tuple(about["classes"]), about["exclusive"]
    network = build_network(recipe, channels, len(classes) + exclusive)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(f"weights that do not fit their recipe ({error})", where=where) from None
    return Trained(network.eval(), recipe, channels, classes, exclusive)


def start_from(path: str | Path, network: nn.Module, classes: Sequence[str], exclusive: bool = False) -> None:
    """Gives a network the weights of a file, in place.

    Where the file's network was trained for other classes than these, its heads, of which there are other numbers of
    channels, stay as they are.

    Raises:
        DataError: no such file, not a weights file of this package, or of another network.
    """
    trained = load_weights(path)
    weights, own = trained.network.state_dict(), network.state_dict()
    if trained.classes != tuple(classes):
        before, now = len(trained.classes) + trained.exclusive, len(classes) + exclusive
        for name in weights.keys() & own.keys():
            old, new = weights[name].shape, own[name].shape
            if old != new and old[1:] == new[1:] and old[0] * now == new[0] * before:
                weights[name] = own[name]
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(f"weights of another network ({error})", where=path, expected="the recipe's network") from None


def build_network(recipe: Recipe, in_channels: int, out_channels: int) -> nn.Module:
    """The recipe's network with random weights."""
    options = dict(recipe.network.options)
    return registry.build(recipe.network.name, in_channels=in_channels, out_channels=out_channels, **options)


def save(folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> Path:
    """Writes a checkpoint and removes the older ones.

    Args:
        folder: `last.ckpt` of a run.
        step: steps done.
        tensors: file stem to tensors by name ("network", "optimiser", "ema").
        state: everything else, as JSON.

    Returns:
        The checkpoint's folder.

    Raises:
        BrainsegError: the disk is full; the checkpoint before is untouched.
    """
    target = folder / f"{PREFIX}{step:09d}"
    if target.is_dir():  # whole, since it has its name; a run that is repeated from an older step writes the same
        return target
    temporary = folder / f".tmp-{secrets.token_hex(4)}"
    with _told(folder, "a checkpoint", last(folder)):
        try:
            temporary.mkdir(parents=True)
            for stem, named in tensors.items():
                save_file(_plain(named), temporary / f"{stem}.safetensors")
            write_json(temporary / STATE, dict(state))
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    for other in folder.iterdir():
        if other != target:
            shutil.rmtree(other, ignore_errors=True)
    return target


def last(folder: Path) -> Path | None:
    """The newest whole checkpoint of a `last.ckpt`, None if there is none."""
    found = sorted(folder.glob(f"{PREFIX}*")) if folder.is_dir() else []
    return found[-1] if found else None


def load(checkpoint: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The tensors by file stem and the state of a checkpoint.

    Raises:
        DataError: damaged.
    """
    try:
        tensors = {path.stem: load_file(path) for path in sorted(checkpoint.glob("*.safetensors"))}
        return tensors, json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(
            f"damaged checkpoint ({error})", where=checkpoint, remedy="remove the run and train again"
        ) from None


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimiser remembers of each parameter, as tensors named "0.exp_avg"."""
    state = optimiser.state_dict()["state"]
    return {f"{i}.{key}": torch.as_tensor(value) for i, kept in state.items() for key, value in kept.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Gives an optimiser its memory back, in the memory order of its parameters, so that it goes on to the bit."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        like = parameters[int(index)]
        kept = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape and tensor.ndim else tensor.clone()
        state.setdefault(int(index), {})[key] = kept
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


@contextlib.contextmanager
def _told(where: Path, what: str, kept: Path | None = None):
    """Turns a failed writing into an error that says what is still there."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        good = f"the checkpoint of step {int(kept.name.removeprefix(PREFIX))} is whole; " if kept else ""
        raise BrainsegError(
            f"could not write {what} ({error})", where=where, remedy=f"{good}free some space and resume"
        ) from None


def save_batch(folder: Path, batch: Mapping[str, Any], step: int) -> Path:
    """Keeps the batch of a step, tensors and the rest apart, and returns its folder."""
    tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
    folder.mkdir(parents=True, exist_ok=True)
    with _told(folder, "the batch"):
        save_file(_plain(tensors), folder / "batch.safetensors")
        rest = {name: value for name, value in batch.items() if name not in tensors}
        write_json(folder / "batch.json", {"step": step, **rest})
    return folder
