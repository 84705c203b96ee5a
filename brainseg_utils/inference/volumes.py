"""Labels for 3D cases, of one network or the mean of several, in the geometry and label scheme of the case's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from brainseg_utils.datasets import nifti
from brainseg_utils.datasets.cases import Case, Volume
from brainseg_utils.datasets.layouts import MODALITIES, get_layout
from brainseg_utils.errors import DataError, SettingError
from brainseg_utils.inference import ensemble
from brainseg_utils.inference.regions import Rules, label, region_names, to_regions
from brainseg_utils.inference.weights import find
from brainseg_utils.inference.windows import Runner
from brainseg_utils.pipeline.arrays import Box, brain_mask
from brainseg_utils.pipeline.prepare import Prepared, View, prepare, view
from brainseg_utils.training import device as devices
from brainseg_utils.training.checkpoints import Trained

KINDS: Mapping[str, float] = {"volumes": 0.0, "phantoms": 2.0, "mixed": 2.0}
"""Kinds of data that are volumes, and the voxel size (mm; 0: the scan's own) that each has where a recipe says none."""
FINER = 0.75  # of a scan's least voxel side: a view with smaller voxels would show nothing more
HEAD_ML = 2500.0  # no brain is as large; a scan with more than this has skull and skin


@dataclass(frozen=True)
class Probabilities:
    """What the networks say of a case.

    Attributes:
        regions: names of the channels.
        data: (R, *box.shape) float32, RAS, on the case's own voxels.
        box: where that is in the case's RAS grid; outside it every probability is 0.
        spacing: voxel size in mm.
        notices: what the reader should know, one message each.
    """

    regions: tuple[str, ...]
    data: np.ndarray
    box: Box
    spacing: tuple[float, float, float]
    notices: tuple[str, ...] = ()


class _Network:
    """One trained network: what it sees, and where it runs."""

    def __init__(self, trained: Trained, spacings: Mapping[str, tuple[float, ...]]) -> None:
        recipe = trained.recipe
        if recipe.data.name not in KINDS:
            raise SettingError(f"weights of recipe {recipe.name}", expected="a network trained on volumes")
        options = recipe.data.options
        self.trained = trained
        self.regions = region_names(trained.classes, trained.exclusive)
        self.view = view(**{"spacing": KINDS[recipe.data.name], **options})
        self.spacings = spacings
        if self.view.resize and spacings:
            raise SettingError(
                "a voxel size for each region", where=f"recipe {recipe.name}", expected="none: it resizes every scan"
            )
        self.modalities = tuple(options.get("modalities", MODALITIES))
        self.drops = options.get("dropout", 0.0) > 0
        if len(self.modalities) != trained.in_channels:
            raise SettingError(
                f"weights for {trained.in_channels} images",
                where=f"recipe {recipe.name}",
                expected=", ".join(self.modalities),
                remedy="name the modalities in the recipe's data.modalities",
            )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        half = devices.uses_bf16(recipe.engine.precision, device)
        self._run = Runner(trained.network, device, half)

    def looks(self, spacing: Sequence[float]) -> dict[View, Tensor]:
        """Its views of a scan with voxels of this size (mm), and what each counts for each region, (R, 1, 1, 1)."""
        weights: dict[View, Tensor] = {}
        for number, region in enumerate(self.regions):
            sizes = self.spacings.get(region, (self.view.spacing,))
            fitting = [size for size in sizes if size >= FINER * min(spacing)] or [max(sizes)]
            for size in fitting:
                weight = weights.setdefault(replace(self.view, spacing=size), torch.zeros(len(self.regions), 1, 1, 1))
                weight[number] += 1 / len(fitting)
        return weights

    def __call__(self, image: Tensor, flips: Sequence[int]) -> Tensor:
        """Region probabilities (R, X, Y, Z) of an image (C, X, Y, Z), the mean over its mirror images."""
        turns = [axes for n in range(len(flips) + 1) for axes in combinations([1 + axis for axis in flips], n)]
        total: Tensor | None = None
        for axes in turns:
            logits = self._run(image.flip(axes)).flip(axes) if axes else self._run(image)
            part = torch.softmax(logits, 0)[1:] if self.trained.exclusive else torch.sigmoid(logits)
            total = part if total is None else total.add_(part)
        assert total is not None
        return to_regions(total.div_(len(turns)), self.trained.classes, self.trained.exclusive)


class VolumePredictor:
    """Networks that were trained on volumes, ready to predict.

    Args:
        trained: one or more; their probabilities are averaged.
        rules: how labels are made of them.

    Raises:
        SettingError: none, networks of different regions, or one that was not trained on volumes.
    """

    def __init__(self, trained: Sequence[Trained], rules: Rules | None = None) -> None:
        if not trained:
            raise SettingError("no weights", expected="one file or more")
        devices.keep_memory()
        self.rules = rules or Rules()
        self._networks = [_Network(one, self.rules.spacings) for one in trained]
        kinds = {(one.regions, one.trained.exclusive) for one in self._networks}
        if len(kinds) > 1:
            found = " and ".join(sorted("/".join(regions) for regions, _ in kinds))
            raise SettingError(f"networks of {found}", expected="networks that segment the same, in the same way")
        self.regions, self.exclusive = kinds.pop()

    @classmethod
    def load(cls, weights: str | Path | None = None, layout: str = "brats2023") -> VolumePredictor:
        """The networks of a weights file, with the rules that it carries.

        Args:
            weights: a model's name, a run's folder or a weights file; none: the layout's own.
            layout: of the cases to predict.

        Raises:
            DataError: no weights there.
            SettingError: no such model, none for the layout, or one for slices.
        """
        file = find(weights, layout)
        settings = ensemble.read_settings(file)
        if not isinstance(settings, Rules):
            raise SettingError("weights of slices", where=file, expected="a network trained on volumes")
        return cls(ensemble.read(file), settings)

    def targets(self, case: Case, out: Path, probabilities: bool) -> list[Path]:
        """The files of a case; the mask is the last that is written."""
        layout, folder = get_layout(case.layout), out / case.id
        mask = f"{case.id}.nii.gz" if case.layout == "msd" else layout.file_name(case.id, "seg")
        between = layout.separator or "_"
        regions = [name for name in self.regions if name in case.scheme.regions] if probabilities else []
        return [*(folder / f"{case.id}{between}probability{between}{r}.nii.gz" for r in regions), folder / mask]

    def write(self, case: Case, out: Path, probabilities: bool) -> tuple[str, ...]:
        """Predicts a case, writes its files and returns what the reader should know.

        Raises:
            DataError: damaged, empty or missing files.
            GeometryError: files of different grids.
        """
        labels, made = self.segment(case)
        planes = dict(zip(made.regions, made.data, strict=True))
        affine = nifti.read_affine(next(iter(case.paths.values())))
        there = [name for name in made.regions if name in case.scheme.regions] if probabilities else []
        arrays = [*(made.box.paste(planes[name]) for name in there), labels]
        for path, array in zip(self.targets(case, out, probabilities), arrays, strict=True):
            nifti.write(path, nifti.from_ras(array, affine), affine)
        return made.notices

    def segment(self, case: Case) -> tuple[np.ndarray, Probabilities]:
        """Labels of a case, uint8 (X, Y, Z) on its whole RAS grid in its own scheme, and what they were made of.

        Raises:
            DataError: damaged, empty or missing files.
            GeometryError: files of different grids.
        """
        made = self(case)
        planes = dict(zip(made.regions, made.data, strict=True))
        seen = self.rules if "t1c" in case.paths else replace(self.rules, rim=0.0)  # no rim without that picture
        labels = label(planes, case.scheme, made.spacing, seen, self.exclusive)
        return made.box.paste(labels), made

    def __call__(self, case: Case) -> Probabilities:
        """Probabilities of a case.

        Raises:
            DataError: damaged, empty or missing files.
            GeometryError: files of different grids.
        """
        scan, channels, notices = self._read(case)
        prepared: dict[tuple[View, tuple[str, ...]], Prepared] = {}
        sums: dict[Box, np.ndarray] = {}
        for one in self._networks:
            for how, weight in one.looks(scan.spacing).items():
                key = (how, one.modalities)
                if key not in prepared:
                    same = one.modalities == channels
                    image = scan.data if same else scan.data[[channels.index(m) for m in one.modalities]]
                    prepared[key] = prepare(image, scan.spacing, how, f"case {case.id}")
                seen = prepared[key]
                said = seen.back(one(seen.image, self.rules.flips))
                probability = said.mul_(weight.to(said.device) / len(self._networks)).cpu().numpy()
                sums[seen.box] = sums[seen.box] + probability if seen.box in sums else probability
        box, data = _together(sums)
        return Probabilities(self.regions, data, box, scan.spacing, notices)

    def _read(self, case: Case) -> tuple[Volume, tuple[str, ...], tuple[str, ...]]:
        """The modalities that some network sees, in canonical order; those that the case has not are 0."""
        wanted = [m for m in MODALITIES if any(m in one.modalities for one in self._networks)]
        there = [m for m in wanted if m in case.paths]
        missing = [m for m in wanted if m not in there]
        if missing and (not there or not all(one.drops for one in self._networks)):
            raise DataError(
                f"no file for modality {', '.join(missing)}",
                where=f"case {case.id}",
                expected=", ".join(wanted),
                remedy="use weights of a network that was trained to do without a modality",
            )
        scan = case.images(there)
        notices = [f"case {case.id}: {m} is missing, the prediction does without it" for m in missing]
        if not np.isfinite(scan.data).all():
            raise DataError("intensities that are not finite", where=f"case {case.id}", remedy="mend the file")
        head = float(np.count_nonzero(brain_mask(scan.data)) * scan.voxel_ml)
        if head > HEAD_ML:
            notices.append(f"case {case.id}: {head / 1000:.1f} l are not background, more than a brain: skull-strip it")
        if missing:
            whole = np.zeros((len(wanted), *scan.data.shape[1:]), np.float32)
            whole[[wanted.index(m) for m in there]] = scan.data
            scan = Volume(whole, scan.affine)
        return scan, tuple(wanted), tuple(notices)


def _together(parts: Mapping[Box, np.ndarray]) -> tuple[Box, np.ndarray]:
    """The sum of (R, *box.shape) arrays of one grid in the smallest box around theirs; outside its own each is 0."""
    if len(parts) == 1:
        ((box, data),) = parts.items()
        return box, data
    start = tuple(map(min, zip(*(box.start for box in parts), strict=True)))
    stop = tuple(map(max, zip(*(box.stop for box in parts), strict=True)))
    shape = tuple(b - a for a, b in zip(start, stop, strict=True))
    placed = (
        Box(tuple(a - b for a, b in zip(box.start, start, strict=True)), box.shape, shape).paste(data)
        for box, data in parts.items()
    )
    return Box(start, shape, next(iter(parts)).full), np.sum(list(placed), axis=0)
