"""Small made-up scans: an ellipsoid of a brain with a tumour of three tissues, each tissue with its own intensity."""

from __future__ import annotations

import numpy as np
import pytest

from brainseg_utils.datasets.export import write_case
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.layouts import MODALITIES
from brainseg_utils.seeds import stream

SHAPE = (48, 52, 44)


def ball(shape, centre, radius):
    offsets = np.meshgrid(*[np.arange(n) - c for n, c in zip(shape, centre, strict=True)], indexing="ij")
    return np.sqrt(sum(o**2 for o in offsets)) < radius


def made_up(number: int, shape=SHAPE):
    """Images by modality and a brats2024-style label (1 NETC, 2 SNFH, 3 ET)."""
    rng = stream(number, "pipeline-test")
    offsets = np.meshgrid(*[(np.arange(n) - n / 2) / (0.4 * n) for n in shape], indexing="ij")
    brain = sum(o**2 for o in offsets) < 1
    centre = np.array(shape) * rng.uniform(0.4, 0.6, 3)
    label = np.zeros(shape, np.uint8)
    for value, radius in ((2, 9), (3, 6), (1, 3)):
        label[ball(shape, centre, radius)] = value
    label[~brain] = 0
    images = {}
    for k, modality in enumerate(MODALITIES):
        image = 300 + 40 * k + 30 * rng.standard_normal(shape) + 100 * (label > 0) + 60 * (label == 3)
        images[modality] = np.where(brain, image.clip(1), 0).astype(np.int16)
    return images, label


@pytest.fixture(scope="session")
def write_cohort():
    """Writes made-up cases into a folder and finds them again."""

    def write(folder, layout="brats2023", count=3, shape=SHAPE):
        for number in range(count):
            images, label = made_up(number, shape)
            affine = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS arrays, as most BraTS releases
            from brainseg_utils.datasets.layouts import get_layout

            case_id = get_layout(layout).example_id.format(number)
            write_case(folder, layout, case_id, images, label, affine)
        return find_cases(folder)

    return write


@pytest.fixture(scope="session")
def cohort(tmp_path_factory, write_cohort):
    """Three cases of layout brats2023 that no test changes."""
    return write_cohort(tmp_path_factory.mktemp("cohort"))
