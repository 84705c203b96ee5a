"""Tumours that are painted into training patches while a segmentation network trains: nothing is stored on disk.

    shape     a label to paint: grown by the phantom's model, or that of another training case, turned, scaled and bent
    place     somewhere in the patch's healthy brain; ventricles and the tumour that is there stay as they are
    contrast  two codes of the painter's training patches, mixed
    paint     the generator fills the hole; the label follows

A painted tumour does not push: the tissue around it stays where it is, which a real one's would not. The shares are of
*extras*: with 1, one painted patch is drawn for every real one, so half of the patches are painted; with .5 a third.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, MapTransform, RandomizableTransform
from torch import Tensor, nn

from brainseg_utils.datasets.layouts import MODALITIES
from brainseg_utils.errors import SettingError, unknown
from brainseg_utils.models.painter import NOISE, contrast_code, hole_of, one_hot
from brainseg_utils.pipeline.arrays import bounding_box
from brainseg_utils.pipeline.entry import Entry
from brainseg_utils.pipeline.transforms import Item
from brainseg_utils.training import gan_recipe
from brainseg_utils.training.gan_recipe import GanRecipe
from brainseg_utils.training.gan_run import read_generator
from brainseg_utils.training.shapes import grown_shapes, healthy_tissue, place, stored_shapes, vary

MARGIN = 16  # voxels around the hole that the generator is shown
SHAPES = ("grown", "warped")
MOST_SHAPES = 24  # grown ones; a second or two of CPU each


@dataclass(frozen=True)
class TumourPainter:
    """A trained generator, ready to paint.

    Attributes:
        network: on the CPU, in evaluation mode.
        codes: (B, T, C) contrast codes, NaN for a tissue that a patch had not.
        recipe: of its run.
    """

    network: nn.Module
    codes: Tensor
    recipe: GanRecipe

    @classmethod
    def load(cls, path: str | Path) -> TumourPainter:
        """From a GAN's run or its weights file.

        Raises:
            DataError: no such file, or not a generator's.
            SettingError: a generator that does not paint.
        """
        recipe, weights, codes = read_generator(path)
        if codes is None:
            raise SettingError(f"generator {recipe.generator.name}", where=str(path), expected="a painter")
        network = gan_recipe.build(recipe.generator)
        network.load_state_dict(weights)
        return cls(network.eval(), codes, recipe)

    def with_codes_of(self, entries: Sequence[Entry]) -> TumourPainter:
        """The same with the contrasts of cached cases; a tissue that none of them has keeps the painter's own mean."""
        found = []
        for entry in entries:
            image, label = torch.from_numpy(entry.image())[None], torch.from_numpy(entry.label())[None]
            layers = one_hot(label, self.codes.shape[1])
            there = layers.flatten(2).any(dim=2)[0, :, None]
            found.append(contrast_code(image, layers)[0].masked_fill(~there, torch.nan))
        codes = torch.stack(found)
        unknown_to_all = codes.isnan().all(dim=0)
        codes[:, unknown_to_all] = torch.nan_to_num(self.codes.nanmean(dim=0))[unknown_to_all]
        return replace(self, codes=codes)

    def draw_code(self, tissues: Sequence[int], rng: np.random.Generator) -> Tensor:
        """A contrast: two codes that have the most of these tissues, mixed; what they lack is the mean of all codes.

        Args:
            tissues: class numbers that will be painted.
            rng: decides.

        Returns:
            (T, C), in the unit of the normalised images.
        """
        there = ~self.codes.isnan().any(dim=2)  # (B, T)
        has = there[:, [number - 1 for number in tissues]].sum(dim=1).numpy()
        best = np.flatnonzero(has == has.max())
        one, other = (self.codes[int(rng.choice(best))] for _ in range(2))
        mixed = torch.lerp(one, other, float(rng.random()))
        mean = torch.nan_to_num(torch.nanmean(self.codes, dim=0))
        return torch.where(mixed.isnan(), mean, mixed)

    @torch.no_grad()
    def paint(self, image: Tensor, label: Tensor, code: Tensor, rng: np.random.Generator) -> Tensor:
        """The image with the tumour in it.

        Args:
            image: (C, X, Y, Z), normalised as in the painter's training, background 0.
            label: (X, Y, Z) class numbers of what is to be painted.
            code: (T, C) of `draw_code`.
            rng: of the texture.

        Returns:
            (C, X, Y, Z); `image` is not changed.
        """
        hole = hole_of(label[None, None], (image != 0).any(dim=0)[None, None])[0, 0]
        if not hole.any():
            return image.clone()
        box = bounding_box(hole.numpy(), MARGIN).slices
        part, room = image[(slice(None), *box)][None], hole[box][None, None]
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        noise = torch.randn(1, NOISE, *part.shape[2:], generator=generator)
        out = image.clone()
        layers = one_hot(label[box][None, None], self.codes.shape[1])
        out[(slice(None), *box)] = self.network(part, room, layers, code[None], noise)[0]
        return out


class PaintTumourd(RandomizableTransform, MapTransform):
    """Paints a tumour into the healthy tissue of an item's "image" (C, X, Y, Z), and its label into "label" (1, …).

    Patches without a tumour, and scans of people without one, are painted like the others. Where no place is found the
    item stays as it is.

    Args:
        painter: the generator.
        shapes: labels to paint, cut to their boxes.
        extras: painted patches for every real one; 0 or more.

    Raises:
        SettingError: a negative share, or no shapes.
    """

    def __init__(self, painter: TumourPainter, shapes: Sequence[np.ndarray], extras: float) -> None:
        if extras < 0 or not shapes:
            raise SettingError(f"{extras} extras, {len(shapes)} shapes", expected="0 extras or more, and a shape")
        MapTransform.__init__(self, ("image", "label"))
        RandomizableTransform.__init__(self, extras / (1 + extras))
        self.painter, self.shapes = painter, list(shapes)

    def __call__(self, data: Mapping[Hashable, Any]) -> Item:
        """The item, painted or as it is."""
        item = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return item
        rng = np.random.default_rng(self.R.randint(2**31))
        image, label = (torch.as_tensor(np.asarray(item[key])) for key in ("image", "label"))
        shape = vary(self.shapes[rng.integers(len(self.shapes))], rng)
        found = place(shape, healthy_tissue(image.numpy(), label[0].numpy()), rng)
        if found is None:
            return item
        new = torch.from_numpy(found)
        code = self.painter.draw_code([int(n) for n in np.unique(found) if n], rng)
        item["image"] = self.painter.paint(image, new, code, rng)
        item["label"] = torch.where(new[None] > 0, new[None].to(label.dtype), label)
        return item


def patch_settings(pipeline: str, spacing: float, normalisation: str, modalities: Sequence[str]) -> dict[str, Any]:
    """The settings of patches that a painter must have been trained with.

    Raises:
        SettingError: patches that no painter knows.
    """
    if pipeline != "course" or tuple(modalities) != MODALITIES:
        raise SettingError(
            f"painted tumours with pipeline {pipeline}, {', '.join(modalities)}",
            expected=f"pipeline course, {', '.join(MODALITIES)}",
        )
    return {"spacing": spacing, "normalisation": normalisation}


def extras(
    share: float,
    painter: str,
    shapes: str,
    seed: int,
    settings: Mapping[str, Any],
    entries: Sequence[Entry],
    after: Compose | None = None,
) -> Compose:
    """What a recipe's `[data]` table asks for: tumours painted into patches, then the augmentation.

    Args:
        share: of extras.
        painter: run folder or weights file.
        shapes: "grown", or "warped": shapes and contrasts are those of the training cases.
        seed: of the run.
        settings: of `patch_settings`.
        entries: the training cases.
        after: the augmentation, which changes painted and other tumours alike.

    Raises:
        SettingError: settings that the painter was not trained with, or no such kind of shapes.
    """
    loaded = TumourPainter.load(painter)
    trained = {"spacing": 2, "normalisation": "zscore", **loaded.recipe.data.options}
    for name, value in settings.items():
        if trained[name] != value:
            raise SettingError(
                f"data.{name} = {value}", where=painter, expected=f"{trained[name]}, which the painter was trained with"
            )
    if shapes not in SHAPES:
        raise unknown("kind of shapes", shapes, SHAPES)
    if shapes == "warped":
        loaded, pool = loaded.with_codes_of(entries), stored_shapes(entries)
    else:
        pool = grown_shapes(MOST_SHAPES, seed, int(settings["spacing"]))
    return Compose([PaintTumourd(loaded, pool, share), *(after.transforms if after else ())])
