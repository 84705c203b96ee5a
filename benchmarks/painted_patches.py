"""Patches painted anew, and in what they differ from the real ones: what `reference_gan.py` judges a painter by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from brainseg_utils.datasets.layouts import MODALITIES
from brainseg_utils.evaluation import realism
from brainseg_utils.models.painter import TISSUES, contrast_code, hole_of, one_hot
from brainseg_utils.training import gan_recipe, gan_samples
from brainseg_utils.training.painting import TumourPainter

SIDE = 48  # voxels
HEALTHY = 0.3  # sd by which a tissue must differ from the healthy one for a gap to be measured


def unseen(seed: int, number: int) -> dict[str, Any]:
    """Patches of phantoms that no painter was trained on."""
    size = [SIDE] * 3
    recipe = gan_recipe.load(
        "course_painter", "quick", {"seed": seed, "data.size": size, "data.pool": 12, "data.uses": 2}
    )
    return gan_samples.samples(recipe).batch(range(number))


@torch.no_grad()
def paint(
    loaded: TumourPainter, batch: dict[str, Any], order: list[int] | None = None, own: bool = False
) -> torch.Tensor:
    """The patches with their tumours painted anew.

    Args:
        loaded: the painter.
        batch: patches.
        order: of the tissues in the label, to shuffle it.
        own: with the contrast of the patch itself, to be compared tissue by tissue; else with a code of the painter's
            own training patches, as in use.
    """
    rng, made = np.random.default_rng(0), []
    torch.manual_seed(0)
    for image, label in zip(batch["image"], batch["label"], strict=True):
        layers, brain = one_hot(label[None]), (image != 0).any(dim=0)[None, None]
        drawn = loaded.draw_code([int(n) for n in label.unique() if n], rng)[None]
        code = contrast_code(image[None], layers) if own else drawn
        shown = layers if order is None else layers[:, order]
        made.append(loaded.network(image[None], hole_of(label[None], brain), shown, code)[0])
    return torch.stack(made)


@torch.no_grad()
def features(network: torch.nn.Module, images: torch.Tensor) -> np.ndarray:
    """Means over space of the segmentation network's coarsest scale but one, (N, F)."""
    kept: list[torch.Tensor] = []
    hook = network.down[-2].register_forward_hook(lambda module, given, found: kept.append(found.mean(dim=(2, 3, 4))))
    for image in images:
        network(image[None])
    hook.remove()
    return torch.cat(kept).float().numpy()


def centre(images: torch.Tensor, side: int) -> torch.Tensor:
    """The middle of cubic patches."""
    first = (images.shape[-1] - side) // 2
    middle = slice(first, first + side)
    return images[..., middle, middle, middle]


def gaps(batch: dict[str, Any], made: torch.Tensor, shuffled: torch.Tensor) -> pd.DataFrame:
    """How much of the gap from healthy to real tissue is closed, a row a tissue and modality that differ by .3 sd."""
    layers = one_hot(batch["label"])
    there = layers.flatten(2).any(dim=2)[..., None]
    image = batch["image"]
    outside = ~hole_of(batch["label"]) & (image != 0).any(dim=1, keepdim=True)
    healthy = [float(image[:, k][outside[:, 0]].mean()) for k in range(4)]
    means = [
        contrast_code(one, layers).masked_fill(~there, torch.nan).nanmean(dim=0) for one in (image, made, shuffled)
    ]
    rows = []
    for t, tissue in enumerate(TISSUES):
        for m, modality in enumerate(MODALITIES):
            real, right, wrong = (float(mean[t, m]) for mean in means)
            if abs(real - healthy[m]) > HEALTHY:
                closed = [realism.closed_gap(real, value, healthy[m]) for value in (right, wrong)]
                rows.append((tissue, modality, healthy[m], real, right, wrong, *closed))
    return pd.DataFrame(rows, columns=["tissue", "modality", "healthy", "real", "made", "wrong", "closed", "shuffled"])


def grain(batch: dict[str, Any], made: torch.Tensor) -> dict[str, float]:
    """Spread and correlation of neighbouring voxels in oedema on FLAIR, real and made, medians over the patches."""
    found: dict[str, list[realism.Texture]] = {"real": [], "made": []}
    for k in range(len(made)):
        mask = batch["label"][k, 0].numpy() == TISSUES.index("SNFH") + 1
        for name, images in (("real", batch["image"]), ("made", made)):
            found[name].append(realism.texture(images[k, 3].numpy(), mask))
    return {
        f"{what}_{name}": float(np.nanmedian([value(t) for t in group]))
        for name, group in found.items()
        for what, value in (("sd", lambda t: t.sd), ("neighbours", lambda t: t.correlation[0]))
    }


def borders(batch: dict[str, Any], made: torch.Tensor) -> pd.DataFrame:
    """Mean step from a voxel in the hole to its neighbour outside, real and made, a row a modality: is an edge seen?"""
    brain = (batch["image"] != 0).any(dim=1, keepdim=True)
    hole = hole_of(batch["label"], brain)
    steps: dict[str, list[torch.Tensor]] = {"real": [], "made": []}
    for axis in (2, 3, 4):
        count = hole.shape[axis] - 1
        across = hole.narrow(axis, 0, count) != hole.narrow(axis, 1, count)
        across &= brain.narrow(axis, 0, count) & brain.narrow(axis, 1, count)
        for name, images in (("real", batch["image"]), ("made", made)):
            steps[name].append(images.diff(dim=axis).abs().movedim(1, 0)[:, across[:, 0]])
    means = {name: torch.cat(parts, dim=1).mean(dim=1).tolist() for name, parts in steps.items()}
    return pd.DataFrame({"modality": MODALITIES, **means})
