"""Little data and a little recipe that train in a second."""

from __future__ import annotations

import pytest
import torch

from brainseg_utils.training.data import Sources
from brainseg_utils.training.recipe import parse

CONTENT = {
    "name": "little",
    "title": "little",
    "data": {"name": "slices", "size": 16},
    "network": {"name": "resunet2d", "widths": [4, 4, 6, 6], "dropout": 0.2},
    "loss": {"name": "slices"},
    "optimiser": {"name": "adamw", "rate": 1e-2, "decay": 0.01},
    "schedule": {"name": "cosine", "warmup": 0.1},
    "budget": {"batch": 4, "steps": 12, "epoch_steps": 3},
    "split": {"folds": 3},
    "engine": {"precision": "fp32", "ema": 0.9, "clip": 1.0, "keep": ["last", "best_dice", "best_loss"]},
}

VOLUMES = {
    "name": "tiny",
    "title": "tiny",
    "network": {"name": "resunet3d", "widths": [4, 6, 8]},
    "loss": {"name": "dice_ce"},
    "optimiser": {"name": "adamw", "rate": 1e-2, "decay": 0.0},
    "schedule": {"name": "constant"},
    "engine": {"precision": "fp32", "channels_last": False, "keep": ["last"]},
}


class Blobs:
    """Samples that a network can learn: what is bright is the object. `fault` is called with each sample's number."""

    def __init__(self, channels=3, size=16, length=40, fault=None):
        self.channels, self.size, self.length, self.fault = channels, size, length, fault
        self.drawn = []

    def __len__(self):
        return self.length

    def one(self, number):
        generator = torch.Generator().manual_seed(number % self.length)
        y, x = torch.randint(0, self.size - 5, (2,), generator=generator).tolist()
        label = torch.zeros(1, self.size, self.size, dtype=torch.uint8)
        label[:, y : y + 5, x : x + 5] = 1
        image = torch.randn(self.channels, self.size, self.size, generator=generator) * 0.3 + label
        return image, label

    def batch(self, numbers, channels_last=False):
        self.drawn.append(list(numbers))
        if self.fault:
            for number in numbers:
                self.fault(number)
        images, labels = zip(*map(self.one, numbers), strict=True)
        image = torch.stack(images)
        if channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        return {"image": image, "label": torch.stack(labels), "case": [f"case{n % self.length}" for n in numbers]}


def held_out(samples, count=6):
    """Validation batches of samples that are not trained on."""
    return [Blobs(samples.channels, samples.size).batch(range(1000 + k, 1000 + k + 2)) for k in range(0, count, 2)]


@pytest.fixture
def blobs():
    """The class of little training samples."""
    return Blobs


@pytest.fixture
def sources():
    """Makes the sources of a run on little samples."""

    def make(samples=None, validation=True):
        samples = samples or Blobs()
        return Sources(samples, held_out(samples) if validation else None, samples.channels, ("object",))

    return make


@pytest.fixture
def little():
    """Makes the little recipe, changed."""

    def make(**changes):
        return parse(CONTENT, changes={place.replace("__", "."): value for place, value in changes.items()})

    return make


@pytest.fixture
def tiny():
    """Makes the little recipe for volumes from its data, budget and split, changed."""

    def make(data, budget, split, **changes):
        content = {**VOLUMES, "data": data, "budget": budget, "split": split}
        return parse(content, changes={place.replace("__", "."): value for place, value in changes.items()})

    return make
