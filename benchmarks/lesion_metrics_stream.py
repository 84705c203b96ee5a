"""Claim: `evaluate` holds a constant number of cases in memory, whatever the cohort's size.

Scores 10, 100 and 1,000 cases of 240x240x155 voxels (one truth and one prediction, linked under many names) and prints
time and peak memory of the main process and of its largest worker.

    python benchmarks/lesion_metrics_stream.py [--cases 1000] [--workers 2]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
SHAPE = (240, 240, 155)


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


def score(root: Path, workers: int) -> None:
    """Scores the cohort and prints seconds, peak memory in MB of this process and of its largest child."""
    from brainseg_utils.evaluation.cohort import evaluate

    start = time.perf_counter()
    result = evaluate(root / "truth", root / "prediction", "brats2023", workers)
    seconds = time.perf_counter() - start
    cases = result.rows["case"].nunique()
    own, worker = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(
        f"{cases:5d} cases: {seconds:6.1f} s, {seconds / cases:.2f} s a case, main {own:.0f} MB, worker {worker:.0f} MB"
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
