"""Claim: lesion-wise scores in about a second of CPU, 12 (2023) and 30 (2024) times ahead of the straightforward way.

Both ways score the same made-up case (one large and six small lesions, twenty false specks) in the same run, on one
thread; the numbers are compared as well as the time.

    python benchmarks/lesion_metrics.py [--quick]

`--quick` leaves out the straightforward 2024 scores, which take minutes.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import TypeVar

os.environ["OMP_NUM_THREADS"] = "1"

import lesion_metrics_naive as naive
import numpy as np

from brainseg_utils.evaluation.lesions import prepare, score
from brainseg_utils.evaluation.protocols import PROTOCOLS, score_case
from brainseg_utils.seeds import stream

R = TypeVar("R")
SPACING = (1.0, 1.0, 1.0)
LARGE = {2: 30.0, 3: 20.0, 1: 12.0}  # label and radius in voxels, outside in
SMALL = {2: 6.0, 3: 4.0, 1: 2.0}
CAVITY_RADIUS = 8.0
SPECKS = 20
SPECK_SIDE = 2
CLEARANCE = 48.0  # voxels from the large lesion's centre to the small ones'


def paint(
    labels: np.ndarray, centre: np.ndarray, radius: float, label: int, roughness: np.ndarray | float = 0.0
) -> None:
    """Paints a ball whose radius varies by `roughness` voxels."""
    offsets = [np.arange(n) - c for n, c in zip(labels.shape, centre, strict=True)]
    squared = sum(o.reshape([-1 if a == axis else 1 for a in range(3)]) ** 2 for axis, o in enumerate(offsets))
    labels[np.sqrt(squared) < radius + roughness] = label


def make_case(shape: tuple[int, int, int], cavity: bool) -> tuple[np.ndarray, np.ndarray]:
    """A truth and a prediction with one large and six small lesions and twenty false specks."""
    from scipy.ndimage import gaussian_filter

    rng = stream(0, "lesion_metrics", *shape)
    truth, prediction = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 4)
    noise *= 3 / noise.std()
    centre = np.array(shape) * (0.4, 0.5, 0.5)
    for label, radius in LARGE.items():
        paint(truth, centre, radius, label, noise)
        paint(prediction, centre + np.array([2, 1, 0]), radius * 1.05, label, noise / 2)
    if cavity:
        paint(truth, centre + np.array([0, 0, 10]), CAVITY_RADIUS, 4)
        paint(prediction, centre + np.array([0, 1, 10]), CAVITY_RADIUS, 4)
    for _ in range(6):
        place = np.array(shape) * rng.uniform(0.2, 0.8, 3)
        distance = np.linalg.norm(place - centre)
        if distance < CLEARANCE:
            place = centre + (place - centre) * CLEARANCE / distance
        for label, radius in SMALL.items():
            paint(truth, place, radius, label)
            paint(prediction, place + np.array([1, 0, 0]), radius, label)
    for _ in range(SPECKS):
        x, y, z = (np.array(shape) * rng.uniform(0.15, 0.85, 3)).astype(int)
        prediction[x : x + SPECK_SIDE, y : y + SPECK_SIDE, z : z + SPECK_SIDE] = rng.integers(1, 4)
    return truth, prediction


def cpu_seconds(function: Callable[..., R], *arguments) -> tuple[float, R]:
    """CPU time of one call and its result."""
    start = time.process_time()
    result = function(*arguments)
    return time.process_time() - start, result


def lesionwise(truth: np.ndarray, prediction: np.ndarray, protocol: str) -> naive.Scores:
    """The lesion-wise scores alone, by the package."""
    rules = PROTOCOLS[protocol]
    scheme = rules.scheme
    sides = []
    for labels, is_truth in ((truth, True), (prediction, False)):
        masks = {region: scheme.region(labels, region) for region in rules.regions}
        sides.append(prepare(masks, rules.lesion_rules, SPACING, truth=is_truth))
    scores = {}
    for region, rule in rules.lesion_rules.items():
        result = score(
            sides[0][region], sides[1][region], rule, rules.penalty_for(truth.shape), rules.lesion_tolerances
        )
        for name in ("dice", "hd95", "tp", "fp", "fn"):
            scores[region, f"lesion_{name}"] = float(getattr(result, name))
        scores.update({(region, f"lesion_nsd_{t:g}mm"): value for t, value in result.nsd.items()})
    return scores


def everything(truth: np.ndarray, prediction: np.ndarray, protocol: str) -> naive.Scores:
    """All scores of a case, by the package."""
    return {(s.region, s.metric): s.value for s in score_case(truth, prediction, SPACING, protocol)}


def compare(protocol: str, shape: tuple[int, int, int], slow: Callable | None, claimed: float) -> None:
    """Prints the time of both ways, their ratio and the largest difference."""
    truth, prediction = make_case(shape, cavity=protocol == "brats2024")
    everything(truth[:64, :64, :64], prediction[:64, :64, :64], protocol)  # imports are not the claim
    lesion_seconds, lesion_scores = cpu_seconds(lesionwise, truth, prediction, protocol)
    all_seconds, all_scores = cpu_seconds(everything, truth, prediction, protocol)
    print(f"{protocol} {shape}: lesion-wise {lesion_seconds:.2f} s of CPU, all scores {all_seconds:.2f} s")
    if slow is None:
        return
    slow_lesions, expected = cpu_seconds(slow, truth, prediction, SPACING)
    slow_rest, rest = cpu_seconds(naive.voxelwise, truth, prediction, SPACING, protocol)
    slow_all = slow_lesions + slow_rest
    print(f"  straightforward: lesion-wise {slow_lesions:.1f} s, all scores {slow_all:.1f} s")
    print(f"  ratio: lesion-wise {slow_lesions / lesion_seconds:.0f}, all scores {slow_all / all_seconds:.0f}", end="")
    print(f" (claimed {claimed:g})")
    worst = max(
        naive.largest_difference(expected, lesion_scores),
        naive.largest_difference({**expected, **rest}, all_scores),
    )
    print(f"  largest difference over {len(expected) + len(rest)} scores: {worst:.1e}")


def main() -> None:
    """Prints both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="leave out the straightforward 2024 scores")
    quick = parser.parse_args().quick
    compare("brats2023", (240, 240, 155), naive.lesionwise_2023, 12)
    compare("brats2024", (182, 218, 182), None if quick else naive.lesionwise_2024, 30)


if __name__ == "__main__":
    main()
