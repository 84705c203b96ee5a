"""What several rooms' tests share."""

from __future__ import annotations

import numpy as np
import pytest

from brainseg_utils.datasets.export import write_slices
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.seeds import stream

LGG_IDS = [f"PH_{n:04d}_20000101" for n in range(6)]


def made_up_patient(number: int, size: int = 64, slices: int = 7):
    """Channels (X, Y, Z) by modality and a mask: a bright disc of a head with a lesion that FLAIR shows."""
    rng = stream(number, "lgg-test")
    y, x = np.mgrid[:size, :size] - size / 2
    head = np.hypot(x, y) < 0.45 * size
    centre = rng.uniform(-0.15, 0.15, 2) * size
    mask = np.zeros((size, size, slices), bool)
    for k in range(2, 5):
        mask[..., k] = np.hypot(x - centre[0], y - centre[1]) < 0.11 * size
    images = {}
    for modality, lesion in (("t1n", -10), ("t2f", 90), ("t1c", 10)):
        values = head[..., None] * (90 + 8 * rng.standard_normal(mask.shape)) + lesion * mask
        images[modality] = values.clip(0, 255).astype(np.uint8)
    return images, mask


@pytest.fixture(scope="session")
def lgg_root(tmp_path_factory):
    """A folder of six made-up LGG patients of seven slices, 64 pixels; no test changes it."""
    root = tmp_path_factory.mktemp("lgg") / "kaggle_3m"
    for number, case_id in enumerate(LGG_IDS):
        write_slices(root, case_id, *made_up_patient(number))
    return root


@pytest.fixture(scope="session")
def lgg_cases(lgg_root):
    """The cases of `lgg_root`."""
    return find_cases(lgg_root)
