"""Small cohorts in every layout, made once and copied for each test that damages one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from brainseg_utils.datasets import export
from brainseg_utils.datasets.layouts import LAYOUTS, MODALITIES
from brainseg_utils.seeds import stream

SHAPE = (24, 26, 16)
AFFINE = np.array([[1.0, 0, 0, -12], [0, 1, 0, 239], [0, 0, 2, -7], [0, 0, 0, 1]])
CASES = 3


def anatomy(number: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Four noisy ellipsoids with a tumour of all tissues: int16 (X, Y, Z) images and a brats2023 label."""
    generator = stream(0, "cohort", number)
    grid = np.meshgrid(*[np.linspace(-1, 1, side) for side in SHAPE], indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in grid))
    brain = radius < 0.85
    images = {m: (brain * generator.integers(100, 200, SHAPE)).astype(np.int16) for m in MODALITIES}
    label = np.select([radius < 0.2, radius < 0.35, radius < 0.5], [1, 3, 2], 0).astype(np.uint8)
    return images, label


def write_cohort(root: Path, layout: str) -> Path:
    """Writes `CASES` cases of a layout below `root` and returns `root`."""
    ids = [LAYOUTS[layout].example_id.format(number + 1) for number in range(CASES)]
    for number, case_id in enumerate(ids):
        images, label = anatomy(number)
        if layout == "lgg":
            colour = {m: image.astype(np.uint8) for m, image in images.items()}
            export.write_slices(root, case_id, colour, label > 0)
        else:
            export.write_case(root, layout, case_id, images, label, AFFINE, scheme="brats2023")
    if layout == "msd":
        export.write_decathlon_index(root, ids)
    return root


@pytest.fixture(scope="session")
def good_cohorts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A cohort without fault in every layout. Not to be written to."""
    return {layout: write_cohort(tmp_path_factory.mktemp("good") / layout, layout) for layout in LAYOUTS}


@pytest.fixture
def cohort(good_cohorts: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A function that gives a copy of a layout's cohort, to be damaged."""

    def copy(layout: str) -> Path:
        return Path(shutil.copytree(good_cohorts[layout], tmp_path / layout))

    return copy
