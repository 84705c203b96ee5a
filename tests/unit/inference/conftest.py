"""A made-up scan whose modalities each show one region, and networks that read it off."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from brainseg_utils.datasets.export import write_case
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.labels import get_scheme
from brainseg_utils.datasets.layouts import get_layout
from brainseg_utils.seeds import stream
from brainseg_utils.training.checkpoints import Trained
from brainseg_utils.training.recipe import parse

SHAPE = (50, 46, 40)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SHOWS = {"t1n": "RC", "t1c": "ET", "t2w": "TC", "t2f": "WT"}


def scan(rc=True, shape=SHAPE):
    """Images by modality, background 0, and a label of brats2024."""
    rng = stream(0, "volume-test")
    axes = [np.arange(n) - 0.5 * n for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    brain = (x / shape[0]) ** 2 + (y / shape[1]) ** 2 + (z / shape[2]) ** 2 < 0.4**2
    label = np.zeros(shape, np.uint8)
    distance = np.sqrt((x - 5) ** 2 + (y + 4) ** 2 + (z - 2) ** 2)
    for value, radius in ((2, 10), (1, 8), (3, 6)):
        label[distance < radius] = value
    if rc:
        label[(np.abs(x + 11) < 4) & (np.abs(y) < 6) & (np.abs(z) < 6)] = 4
    label[~brain] = 0
    scheme, images = get_scheme("brats2024"), {}
    for modality, region in SHOWS.items():
        values = 300 + 5 * rng.standard_normal(shape) + 400 * scheme.region(label, region)
        images[modality] = np.where(brain, values, 0).astype(np.int16)
    return images, label


class Reader(nn.Module):
    """Says RC, ET, TC and WT where the modality of each is brighter than `level` sd."""

    def __init__(self, order=("RC", "ET", "TC", "WT"), level=0.5, channels=tuple(SHOWS)):
        super().__init__()
        self.channels = [channels.index(m) for r in order for m, shown in SHOWS.items() if shown == r]
        self.level = level
        self.steepness = nn.Parameter(torch.tensor(20.0))

    def forward(self, image):
        return self.steepness * (image[:, self.channels] - self.level)


@pytest.fixture(scope="session")
def make_trained():
    """Wraps a network as if it had been trained on volumes."""

    def make(network, classes=("RC", "ET", "TC", "WT"), exclusive=False, channels=4, **options):
        return Trained(network, volume_recipe(options), channels, classes, exclusive)

    return make


def volume_recipe(options, network=None):
    return parse(
        {
            "name": "test",
            "title": "test",
            "data": {"name": "volumes", **options},
            "network": network or {"name": "unet2d"},
            "loss": {"name": "dice"},
            "optimiser": {"name": "adam", "rate": 1e-3},
            "schedule": {"name": "constant"},
            "budget": {"batch": 1, "steps": 1},
            "split": {"folds": 5},
            "engine": {"precision": "fp32"},
        },
        where="test",
    )


@pytest.fixture(scope="session")
def make_recipe():
    """A recipe on volumes: options of `[data]`, and the `[network]` table."""
    return volume_recipe


@pytest.fixture(scope="session")
def made_up():
    """Images by modality and a brats2024 label of `scan`."""
    return scan


@pytest.fixture(scope="session")
def reader():
    """The network that reads regions off."""
    return Reader


@pytest.fixture(scope="session")
def write_scan():
    """Writes the made-up scan as a case of a layout and finds it again."""

    def write(root, layout="brats2024", affine=LPS, number=3, **options):
        images, label = scan(rc=layout == "brats2024", **options)
        case_id = get_layout(layout).example_id.format(number)
        write_case(root, layout, case_id, images, label, affine)
        if layout == "msd":
            from brainseg_utils.datasets.export import write_decathlon_index

            write_decathlon_index(root, [case_id])
        return next(case for case in find_cases(root) if case.id == case_id)

    return write


@pytest.fixture(scope="session")
def odd_network():
    """A small convolution with random weights: it tells left from right and front from back."""

    def make(in_channels=4, out_channels=4):
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv3d(in_channels, 6, 5, padding=2), nn.Tanh(), nn.Conv3d(6, out_channels, 1))

    return make
