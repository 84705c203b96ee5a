"""Masks for the slices of LGG patients, of one network or the mean of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from brainseg_utils.datasets.cases import Case, SliceCase
from brainseg_utils.errors import SettingError
from brainseg_utils.files import atomic
from brainseg_utils.inference.ensemble import Settings
from brainseg_utils.inference.postprocess import keep_heavy
from brainseg_utils.models.registry import NETWORKS
from brainseg_utils.pipeline.slices import SliceStream, Stack, read_stack
from brainseg_utils.training import device as devices
from brainseg_utils.training.checkpoints import Trained

BATCH = 16


class SlicePredictor:
    """Networks that were trained on slices, ready to predict.

    Args:
        trained: one or more; their probabilities are averaged.
        flips: also predict the mirrored slice and average, which makes left and right alike.
        zoom: also predict the slice enlarged by this about its centre, and average where it was seen; 1: do not.

    Raises:
        SettingError: none, or one that was not trained on slices.
    """

    def __init__(self, trained: Sequence[Trained], flips: bool = True, zoom: float = 1.0) -> None:
        if not trained:
            raise SettingError("no weights", expected="one file or more")
        for one in trained:
            if one.recipe.data.name != "slices":
                raise SettingError(f"weights of recipe {one.recipe.name}", expected="a network trained on slices")
        self.trained, self.flips, self.zoom = tuple(trained), flips, zoom
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        for one in self.trained:
            devices.layout(one.network, NETWORKS[one.recipe.network.name].dimensions, one.recipe.engine.channels_last)
            one.network.to(self.device).eval()

    def __call__(self, case: Case) -> np.ndarray:
        """Probabilities of a patient's slices, (K, rows, columns) float32 in the files' orientation and order."""
        stacks: dict[tuple[int, str], Stack] = {}
        total: np.ndarray | None = None
        for one in self.trained:
            options = one.recipe.data.options
            key = (options.get("size", 128), options.get("normalisation", "interior"))
            if key not in stacks:
                stacks[key] = read_stack(case, *key, masks=False)
            probability = self._predict(one, stacks[key])
            total = probability if total is None else total + probability
        assert total is not None
        return total / len(self.trained)

    @torch.inference_mode()
    def _predict(self, one: Trained, stack: Stack) -> np.ndarray:
        half = devices.uses_bf16(one.recipe.engine.precision, self.device)
        planes = []
        for batch in SliceStream([stack], one.recipe.data.options.get("context", 0), BATCH):
            image = batch["image"].to(self.device)
            probability = self._probability(one.network, image, half)
            if self.zoom != 1:
                near = self._probability(one.network, enlarged(image, self.zoom, "border"), half)
                seen = enlarged(torch.ones_like(near), 1 / self.zoom, "zeros")
                probability = (probability + enlarged(near, 1 / self.zoom, "zeros")) / (1 + seen)
            planes.append(F.interpolate(probability, size=stack.shape, mode="bilinear", align_corners=False)[:, 0])
        return torch.cat(planes).cpu().numpy()

    def _probability(self, network: nn.Module, image: Tensor, half: bool) -> Tensor:
        """(N, C, S, S) to (N, 1, S, S)."""
        with devices.autocast(half, self.device):
            logits = [network(view) for view in ([image, image.flip(-1)] if self.flips else [image])]
        probability = torch.sigmoid(logits[0].float())
        return (probability + torch.sigmoid(logits[1].float()).flip(-1)) / 2 if self.flips else probability


def enlarged(image: Tensor, factor: float, beyond: str) -> Tensor:
    """Slices (N, C, S, S) seen from nearer by, at the same size; less than 1: from further away.

    Args:
        image: the slices.
        factor: of the enlargement, about the centre.
        beyond: what is outside the slice, "border" or "zeros".
    """
    matrix = torch.tensor([[1 / factor, 0, 0], [0, 1 / factor, 0]], device=image.device).repeat(len(image), 1, 1)
    grid = F.affine_grid(matrix, list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, padding_mode=beyond, align_corners=False)


class SliceWriter:
    """Predicts LGG patients into `<patient>/<slice>_mask.tif`, 0 and 255.

    Args:
        trained: as `SlicePredictor`.
        settings: how masks are made.
    """

    def __init__(self, trained: Sequence[Trained], settings: Settings) -> None:
        self.predictor, self.settings = SlicePredictor(trained, settings.flips, settings.zoom), settings

    def targets(self, case: Case, out: Path, probabilities: bool) -> list[Path]:
        """The files of a patient."""
        assert isinstance(case, SliceCase)
        kinds = ("mask", "probability") if probabilities else ("mask",)
        return [out / case.id / f"{path.stem}_{kind}.tif" for path in case.slice_paths for kind in kinds]

    def write(self, case: Case, out: Path, probabilities: bool) -> tuple[str, ...]:
        """Predicts a patient and writes the files.

        Raises:
            DataError: a damaged slice.
        """
        import tifffile

        probability = self.predictor(case)
        mask = keep_heavy(probability, self.settings.threshold, self.settings.share).astype(np.uint8) * 255
        planes = [p for pair in zip(mask, probability, strict=True) for p in pair] if probabilities else list(mask)
        for path, plane in zip(self.targets(case, out, probabilities), planes, strict=True):
            with atomic(path) as temporary:
                tifffile.imwrite(temporary, plane)
        return ()
