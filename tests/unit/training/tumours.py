"""Little patches with a tumour that a little painter can learn, and its recipe."""

from __future__ import annotations

import torch
from torch.nn.functional import avg_pool3d

from brainseg_utils.training.gan_recipe import GanRecipe, parse

SIZE = 16
CONTRAST = torch.tensor([[-1.0, -1.0, 2.0, 0.5], [0.0, 0.0, 1.0, 2.0], [0.0, 2.0, 1.0, 1.0], [-2.0, -2.0, 3.0, -2.0]])
"""Mean of NETC, SNFH, ET and RC in four modalities; the healthy tissue has 0."""
CONTENT = {
    "name": "little",
    "title": "little",
    "data": {"name": "phantoms", "size": [SIZE] * 3},
    "generator": {"name": "painter", "widths": [8, 16]},
    "discriminator": {"name": "patch_critic", "widths": [8, 16, 16]},
    "loss": {"adversarial": "hinge", "weight": 0.3, "reconstruction": 10.0, "features": 2.0},
    "rates": {"generator": 5e-3, "discriminator": 3e-4},
    "budget": {"batch": 4, "steps": 140, "epoch_steps": 20},
    "engine": {"precision": "fp32", "ema": 0.9, "ceiling": 0.85, "clip": 1.0},
}


def little(**changes) -> GanRecipe:
    """The little recipe, changed."""
    return parse(CONTENT, changes={place.replace("__", "."): value for place, value in changes.items()})


class Tumours:
    """NETC inside ET inside SNFH, in grained tissue; each tumour's contrast is its own, around `CONTRAST`."""

    def __init__(self, size: int = SIZE, jitter: float = 0.3):
        self.size, self.jitter = size, jitter

    def __len__(self) -> int:
        return 64

    def one(self, number: int):
        generator = torch.Generator().manual_seed(number)
        centre = torch.randint(5, self.size - 5, (3,), generator=generator)
        axes = [torch.arange(self.size) - c for c in centre]
        far = (axes[0][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[2][None, None] ** 2).float().sqrt()
        label = torch.zeros_like(far, dtype=torch.uint8)
        for radius, tissue in ((6.2, 2), (4.6, 3), (3.0, 1)):
            label[far < radius] = tissue
        means = torch.zeros(5, 4)
        means[1:] = CONTRAST + self.jitter * torch.randn(4, 4, generator=generator)
        grain = torch.randn(4, *label.shape, generator=generator)
        grain = 0.2 * grain + 0.4 * avg_pool3d(grain[None], 3, stride=1, padding=1)[0]
        return means[label.int()].permute(3, 0, 1, 2) + grain, label[None]

    def batch(self, numbers, channels_last=False):
        """As `training.data.Samples`."""
        images, labels = zip(*map(self.one, numbers), strict=True)
        return {"image": torch.stack(images), "label": torch.stack(labels), "case": [f"tumour{n}" for n in numbers]}
