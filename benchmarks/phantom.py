"""What a phantom costs: CPU seconds a case at 2 mm and 1 mm, wall clock of a cohort, memory of a process.

    python benchmarks/phantom.py [--cases 24] [--workers 2]

The template is prepared first and reported apart. CPU seconds are those of one process on one thread; wall clock
depends on what else the machine does, so the cohort's CPU seconds are printed beside it.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from brainseg_utils.parallel import imap, one_thread
from brainseg_utils.phantom.parameters import default

SEED = 100
ONE_MM_CASES = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--part", choices=("template", "2", "1", "lgg"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.part:
        one_part(chosen.part)
        return
    for part in ("template", "2", "1", "lgg"):
        subprocess.run([sys.executable, __file__, "--part", part], check=True)
    start = time.monotonic()
    spent = list(imap(_timed_2mm, range(chosen.cases), chosen.workers))
    wall = time.monotonic() - start
    print(
        f"cohort of {chosen.cases} at 2 mm, {chosen.workers} workers: {wall:.1f} s wall clock, process start "
        f"included; {sum(spent):.1f} s CPU in the workers, so {sum(spent) / chosen.workers:.1f} s on idle cores"
    )


def one_part(part: str) -> None:
    """Measures one thing in a process of its own, so that its peak memory is its own."""
    one_thread()
    from brainseg_utils.phantom import template

    if part == "template":
        maps = [template._read(template._installed(template.FILES[name])) for name in ("t1", "gm", "wm")]
        start = time.process_time()
        template.prepare(*maps)
        print(f"template preparation: {time.process_time() - start:.1f} s CPU, {_memory():.2f} GB")
        return
    template.load()
    if part == "lgg":
        costs = [_timed_case(("lgg", 2, i)) for i in range(ONE_MM_CASES)]
        print(f"lgg patient from 2 mm, files written: {_mean(costs):.2f} s CPU, {_memory():.2f} GB")
        return
    count = ONE_MM_CASES if part == "1" else 8
    geometries, renders = zip(*(_geometry_and_render(int(part), i) for i in range(count)), strict=True)
    print(
        f"case at {part} mm: geometry {_mean(geometries):.2f} s CPU (longest {max(geometries):.2f}), "
        f"rendering {_mean(renders):.2f}, {_memory():.2f} GB"
    )
    if part == "1":
        costs = [_timed_case(("brats2023", 1, i)) for i in range(ONE_MM_CASES)]
        print(f"case at 1 mm, files written: {_mean(costs):.2f} s CPU (longest {max(costs):.2f}), {_memory():.2f} GB")


def _geometry_and_render(spacing: int, index: int) -> tuple[float, float]:
    from brainseg_utils.phantom.geometry import geometry
    from brainseg_utils.phantom.scanner import render

    start = time.process_time()
    case = geometry(SEED, index, healthy=0.0, spacing=spacing)
    middle = time.process_time()
    render(case, SEED)
    return middle - start, time.process_time() - middle


def _timed_case(job: tuple[str, int, int]) -> float:
    """CPU seconds of one case with its files."""
    from brainseg_utils.phantom import cohort

    layout, spacing, index = job
    with tempfile.TemporaryDirectory() as folder:
        settings = {"layout": layout, "spacing": spacing, "difficulty": "normal", "treatment": "pre", "healthy": 0.0}
        case_id = cohort.case_list(index + 1, layout, SEED)[-1][0]
        work = cohort.Job(Path(folder), case_id, index, 0, {**settings, "seed": SEED}, default(), None)
        start = time.process_time()
        cohort.make_case(work)
        return time.process_time() - start


def _timed_2mm(index: int) -> float:
    return _timed_case(("brats2023", 2, index))


def _memory() -> float:
    """Peak resident memory of this process (GB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _mean(values) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
