"""Claim: in the kernel, one move of the metric sliders takes 100 ms or less (median), scores and PNG included.

Measured on lesions of three sizes in a 1 mm volume of BraTS's size (240, 240, 155), for changes of every kind and
all at once, beside scoring the same mask in the whole volume. Run: python benchmarks/metric_sliders.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from brainseg_utils import seeds
from brainseg_utils.evaluation import perturb
from brainseg_utils.evaluation.protocols import score_case
from brainseg_utils.evaluation.sandbox import Change, Sandbox
from brainseg_utils.views.metric_sliders import MetricSliders

SHAPE = (240, 240, 155)
RADII_MM = (15, 30, 45)  # 14, 113 and 382 mL; the largest whole tumours of BraTS have about 370
ROUNDS = 15
WHOLE_ROUNDS = 3
LIMIT_MS = 100
CHANGES = {
    "move": Change(move=6),
    "grow": Change(grow=4),
    "split": Change(split=6),
    "blur": Change(blur=4),
    "all four": Change(blur=4, split=6, grow=4, move=6),
}


def scan(radius: float) -> tuple[np.ndarray, np.ndarray]:
    """A noisy ellipsoid and a lumpy lesion in it, (X, Y, Z) intensities and booleans at 1 mm."""
    rng = seeds.stream(0, "metric sliders")
    x, y, z = np.ogrid[tuple(slice(-n / 2, n / 2, n * 1j) for n in SHAPE)]
    brain = (x / 70) ** 2 + (y / 88) ** 2 + (z / 65) ** 2 < 1
    lumps = 1 + 0.15 * np.sin(x / 5) * np.sin(y / 6) * np.sin(z / 4)
    lesion = np.sqrt((x - 20) ** 2 + y**2 + z**2) < radius * lumps
    return (brain * rng.normal(100, 10, SHAPE)).astype(np.float32), lesion & brain


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """Median over rounds; one round first that does not count."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def main() -> None:
    """Prints the table."""
    slowest = 0.0
    print("median ms in the kernel for one move of a slider: change, scores, drawing, PNG")
    for radius in RADII_MM:
        image, mask = scan(radius)
        widget = MetricSliders(Sandbox.of(image, mask, (1.0, 1.0, 1.0)))
        for name, change in CHANGES.items():
            took = milliseconds(lambda widget=widget, change=change: setattr(widget, "change", change), ROUNDS)
            slowest = max(slowest, took)
            print(f"  lesion of {mask.sum() / 1000:5.0f} mL, {name:9s} {took:6.1f}")
    truth = 2 * mask.astype(np.uint8)
    moved = perturb.shift(truth, (6, 0, 0))
    whole = milliseconds(lambda: score_case(truth, moved, (1.0, 1.0, 1.0), "brats2023"), WHOLE_ROUNDS)
    print(f"  the last lesion moved and scored by all of brats2023 in the whole volume {whole:.0f}")
    verdict = "held" if slowest <= LIMIT_MS else "NOT HELD"
    print(f"slowest {slowest:.1f} ms, limit {LIMIT_MS} ms: {verdict}")


if __name__ == "__main__":
    main()
