"""Several trained networks in one file: half the bytes of their runs' files, and nothing else needed to predict.

    "0/stem.weight", "0/…", "1/stem.weight", …     tensors, fractions as float16
    metadata "brainseg"                             what each run's file says of itself, in order, and how to predict

One network alone is written without the numbers: `checkpoints.load_weights` reads that file too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from brainseg_utils.errors import DataError, SettingError, unknown
from brainseg_utils.inference.postprocess import SHARE, THRESHOLD
from brainseg_utils.inference.regions import Rules, rules
from brainseg_utils.training.checkpoints import FORMAT, Trained, assemble, read_weights, write_weights

SEVERAL = "brainseg ensemble 1"
SLICE_CLASS = "tumour"  # what networks of slices segment
MEMBERS, SETTINGS = "members", "predict"  # entries of the metadata

Part = tuple[dict[str, Any], dict[str, Tensor]]


@dataclass(frozen=True)
class Settings:
    """How masks of slices are made with some weights; of volumes: `regions.Rules`.

    Attributes:
        threshold: a pixel with this probability or more is tumour.
        share: of `postprocess.keep_heavy`.
        flips: average with the prediction of the mirrored images.
        zoom: of `slices.SlicePredictor`; 1: predict at one size.
    """

    threshold: float = THRESHOLD
    share: float = SHARE
    flips: bool = True
    zoom: float = 1.0


def join(files: Sequence[str | Path], out: str | Path, settings: Settings | Rules | None = None) -> Path:
    """Writes the networks of some weights files into one, in float16.

    Args:
        files: of runs, or files that this function wrote.
        out: the file; about 2 bytes a parameter.
        settings: to predict with; default: those of the first file.

    Raises:
        DataError: not a weights file, or weights that float16 cannot hold.
        SettingError: no files, or networks of different classes.
        BrainsegError: the disk is full.
    """
    parts = _alike(files, out)
    how = {SETTINGS: asdict(settings or read_settings(files[0]))}
    if len(parts) == 1:
        about, weights = parts[0]
        return write_weights(Path(out), {**about, **how}, _halves(weights, out))
    tensors = {f"{n}/{name}": tensor for n, (_, weights) in enumerate(parts) for name, tensor in weights.items()}
    about = {"format": SEVERAL, MEMBERS: [about for about, _ in parts], **how}
    return write_weights(Path(out), about, _halves(tensors, out))


def average(files: Sequence[str | Path], out: str | Path, settings: Settings | Rules | None = None) -> Path:
    """Writes one network whose weights are the mean of those of several, in float16.

    Of a network and itself taught further, the mean keeps much of what both know, at the cost of one (Wortsman et al.
    2022, "Robust fine-tuning of zero-shot models", arXiv 2109.01903).

    Args:
        files: one network each, of one architecture; the first lends recipe and classes.
        out: the file.
        settings: to predict with; default: those of the first file.

    Raises:
        DataError: not a weights file, several networks in one, or networks of different shapes.
        SettingError: no files, or networks of different classes.
        BrainsegError: the disk is full.
    """
    parts = _alike(files, out)
    if len(parts) > len(files):
        raise DataError(f"{len(parts)} networks in {len(files)} files", where=out, expected="one network a file")
    about, first = parts[0]
    for file, (_, weights) in zip(files, parts, strict=True):
        if {k: t.shape for k, t in weights.items()} != {k: t.shape for k, t in first.items()}:
            raise DataError(f"not the network of {files[0]}", where=file, expected="the same layers and widths")
    mean = {
        name: torch.stack([weights[name] for _, weights in parts]).mean(dim=0) if t.is_floating_point() else t
        for name, t in first.items()
    }
    how = {SETTINGS: asdict(settings or read_settings(files[0]))}
    return write_weights(Path(out), {**about, **how}, _halves(mean, out))


def read(path: str | Path) -> list[Trained]:
    """The networks of a file, float32: of `join`, or of a run.

    Raises:
        DataError: no such file, or not a weights file of this package.
    """
    return [assemble(about, weights, path) for about, weights in _parts(path)]


def read_settings(path: str | Path) -> Settings | Rules:
    """How a file's networks are meant to be used; the defaults where it says nothing: `Rules` where they see volumes.

    Raises:
        DataError: not a weights file of this package.
        SettingError: a setting that this version of the package does not know.
    """
    about = read_weights(path)[0]
    stored = about.get(SETTINGS, {})
    if SLICE_CLASS not in about.get(MEMBERS, [about])[0]["classes"]:
        return rules(stored, str(path))
    known = [field.name for field in fields(Settings)]
    for name in stored:
        if name not in known:
            raise unknown("setting", name, known, where=str(path))
    return Settings(**stored)


def _alike(files: Sequence[str | Path], out: str | Path) -> list[Part]:
    """The networks of some files, which must segment the same."""
    if not files:
        raise SettingError("no weights", expected="one file or more")
    parts = [part for file in files for part in _parts(file)]
    kinds = {(tuple(about["classes"]), about["exclusive"]) for about, _ in parts}
    if len(kinds) > 1:
        found = " and ".join(sorted("/".join(classes) for classes, _ in kinds))
        raise SettingError(f"networks of classes {found}", where=out, expected="networks that segment the same")
    return parts


def _parts(path: str | Path) -> list[Part]:
    """What was written of each network, and its weights."""
    about, tensors = read_weights(path)
    if about["format"] == FORMAT:
        return [({name: value for name, value in about.items() if name != SETTINGS}, tensors)]
    if about["format"] != SEVERAL:
        raise DataError(f"format {about['format']!r}", where=path, expected=f"{FORMAT!r} or {SEVERAL!r}")
    try:
        parts: list[Part] = [(member, {}) for member in about[MEMBERS]]
        for key, tensor in tensors.items():
            number, _, name = key.partition("/")
            parts[int(number)][1][name] = tensor
    except (KeyError, ValueError, IndexError) as error:
        raise DataError(f"tensors of networks that are not listed ({error})", where=path) from None
    return parts


def _halves(weights: Mapping[str, Tensor], where: str | Path) -> dict[str, Tensor]:
    halves = {name: t.half() if t.is_floating_point() else t for name, t in weights.items()}
    for name, tensor in halves.items():
        if not torch.isfinite(tensor).all():
            raise DataError(f"{name} holds numbers that float16 cannot", where=where, expected="65504 at most, finite")
    return halves
