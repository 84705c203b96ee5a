"""Claim: `evaluate` holds a constant number of cases in memory, whatever the cohort's size.

Scores 10, 100 and 1,000 cases (one truth and one prediction, linked under many names) and prints time and peak memory.
The cases are smaller than a challenge's, so that a thousand take minutes: what a case needs is the same for each.

    python benchmarks/lesion_metrics_stream.py [--cases 1000] [--workers 2]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

os.environ["OMP_NUM_THREADS"] = "1"
SHAPE = (120, 120, 78)
INTERVAL_S = 0.02


def make_cohort(root: Path, cases: int) -> None:
    """Writes one case and links it `cases` times."""
    import nibabel as nib
    import numpy as np
    from lesion_metrics import make_case

    for side, labels in zip(("truth", "prediction"), make_case(SHAPE, cavity=False), strict=True):
        (root / side).mkdir()
        original = root / f"{side}.nii.gz"
        nib.save(nib.Nifti1Image(labels, np.diag([-1.0, -1.0, 1.0, 1.0])), original)
        for number in range(cases):
            os.link(original, root / side / f"BraTS-GLI-{number:05d}-000-seg.nii.gz")


class PeakMemory(threading.Thread):
    """Samples the memory of this process and all below it, in MB; pages that they share count for each."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0
        self.finished = threading.Event()

    def run(self) -> None:
        """Samples until `finished` is set."""
        own = psutil.Process()
        while not self.finished.wait(INTERVAL_S):
            total = 0
            for process in (own, *own.children(recursive=True)):
                with contextlib.suppress(psutil.Error):  # it may have ended just now
                    total += process.memory_info().rss
            self.peak = max(self.peak, total / 2**20)


def score(root: Path, workers: int) -> None:
    """Scores the cohort and prints time and peak memory."""
    from brainseg_utils.evaluation.cohort import evaluate

    memory = PeakMemory()
    memory.start()
    start = time.perf_counter()
    result = evaluate(root / "truth", root / "prediction", "brats2023", workers)
    seconds = time.perf_counter() - start
    memory.finished.set()
    memory.join()
    cases = result.rows["case"].nunique()
    print(
        f"{cases:5d} cases, {workers} workers: {seconds:6.1f} s, peak of all processes {memory.peak:.0f} MB", flush=True
    )


def main() -> None:
    """Scores three cohorts, each in a process of its own, so that peaks do not add up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--score", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.score:
        score(arguments.score, arguments.workers)
        return
    for cases in sorted({max(1, arguments.cases // 100), max(1, arguments.cases // 10), arguments.cases}):
        with tempfile.TemporaryDirectory() as folder:
            make_cohort(Path(folder), cases)
            command = [sys.executable, __file__, "--score", folder, "--workers", str(arguments.workers)]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
