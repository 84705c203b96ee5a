"""Named random streams: what a case is made of depends on its seed, its index and the step alone."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from brainseg_utils.phantom.settings import LogNormal, Normal, Pair


class Step(IntEnum):
    """The steps of a case; each has a stream of its own."""

    ANATOMY = 0
    PLAN = 1
    GROWTH = 2
    SURFACE = 3
    STRUCTURES = 4
    RENDER = 9
    MODALITY = 10  # and the three after it
    SLICES = 50
    HEAD = 51
    VISIT = 60  # and those after it


def stream(seed: int, index: int, step: int, *more: int) -> np.random.Generator:
    """The generator of one step of one case (counter-based Philox).

    Example:
        >>> float(stream(0, 7, Step.PLAN).random()) == float(stream(0, 7, Step.PLAN).random())
        True
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, index, int(step), *more])))


def uniform(rng: np.random.Generator, pair: Pair) -> float:
    """One draw from [low, high]."""
    return float(rng.uniform(*pair))


def normal(rng: np.random.Generator, spec: Normal) -> float:
    """One normal draw."""
    return float(rng.normal(spec.mean, spec.sd))


def lognormal(rng: np.random.Generator, spec: LogNormal) -> float:
    """One log-normal draw, clipped."""
    return float(np.clip(spec.median * np.exp(spec.sigma * rng.standard_normal()), spec.low, spec.high))


def choose(rng: np.random.Generator, weights: dict[str, float]) -> str:
    """One key, with probabilities proportional to the values."""
    names, values = list(weights), np.asarray(list(weights.values()), float)
    return names[int(np.searchsorted(np.cumsum(values) / values.sum(), rng.random(), side="right"))]
