"""One cohort of geometries and renderings for all tests of the room."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from brainseg_utils.phantom.geometry import Geometry, geometry
from brainseg_utils.phantom.scanner import render

SEED = 7
CASES = 16
POST = 4


@dataclass(frozen=True)
class Member:
    case: Geometry
    images: np.ndarray

    @property
    def z(self) -> np.ndarray:
        """(4, X, Y, Z), z-scores over the brain."""
        values = self.images.astype(np.float32)
        inside = values[:, self.case.mask]
        return (values - inside.mean(1)[:, None, None, None]) / inside.std(1)[:, None, None, None]


def _member(index: int, **settings) -> Member:
    case = geometry(SEED, index, **settings)
    return Member(case, render(case, SEED))


@pytest.fixture(scope="session")
def pre() -> list[Member]:
    """Cases before treatment, each with a tumour, 2 mm."""
    return [_member(index, healthy=0.0) for index in range(CASES)]


@pytest.fixture(scope="session")
def post() -> list[Member]:
    """Cases after treatment on the MNI grid, all with a cavity, 2 mm."""
    kinds = ("cavity", "cavity_et")
    return [_member(i, treatment="post", frame="mni", kind=kinds[i % 2]) for i in range(POST)]
