"""Claim: patches of 128^3 come from the cache 20 times or more faster than from MONAI's usual uncached `Dataset`.

Beside it, in the same run: MONAI's `PersistentDataset` (ahead of it) and `CacheDataset` (no slower), with what each
adds to the memory of the process. All do the same steps on the same cases: load, orient, space to 1 mm, z-score over
non-zero, random crop of 128^3, random flips of three axes, batches of 2 through a DataLoader without workers, one
thread. The order of the contestants alternates from round to round. The cache's pages are shared and can be given
back by the system, so private memory is printed beside resident memory.

    python benchmarks/pipeline.py [DIR] [--cases 6] [--rounds 6]
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import torch

BATCH = 2
SIZE = (128, 128, 128)
KEYS = ("image", "label")
DEFAULT = Path(os.environ.get("BRAINSEG_REAL_DATA") or Path.home() / ".cache" / "brainseg" / "real") / "brats2021"
NEEDED = {"MONAI Dataset": 20.0, "MONAI PersistentDataset": 1.0, "MONAI CacheDataset": 1.0}


def monai_steps():
    """MONAI's usual transforms for this task."""
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        NormalizeIntensityd,
        Orientationd,
        RandFlipd,
        RandSpatialCropd,
        Spacingd,
    )

    return Compose(
        [
            LoadImaged(KEYS),
            EnsureChannelFirstd(KEYS),
            Orientationd(KEYS, axcodes="RAS"),
            Spacingd(KEYS, pixdim=(1.0, 1.0, 1.0), mode=("bilinear", "nearest")),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
            RandSpatialCropd(KEYS, roi_size=SIZE, random_size=False),
            *[RandFlipd(KEYS, prob=0.5, spatial_axis=axis) for axis in range(3)],
        ]
    )


def contestants(cases: list, folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Name and what makes the batches, in the order in which memory is measured."""
    from monai.data import CacheDataset, DataLoader, Dataset, PersistentDataset

    from brainseg_utils.pipeline.cache import Cache
    from brainseg_utils.pipeline.loaders import Patches, loader

    items = [{"image": [str(case.paths[m]) for m in case.modalities], "label": str(case.label_path)} for case in cases]

    cache = Cache(folder / "ours", "r0")
    cache.build(cases, workers=1)

    def ours():
        return loader(Patches(cache.entries(cases), SIZE, foreground=0.0), BATCH)

    def theirs(dataset):
        return DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=0)

    yield "this cache", ours
    yield "MONAI Dataset", lambda: theirs(Dataset(items, monai_steps()))
    yield "MONAI PersistentDataset", lambda: theirs(PersistentDataset(items, monai_steps(), folder / "persistent"))
    yield "MONAI CacheDataset", lambda: theirs(CacheDataset(items, monai_steps(), progress=False, num_workers=1))
    yield (
        "  the same, copy_cache=False",
        lambda: theirs(CacheDataset(items, monai_steps(), progress=False, num_workers=1, copy_cache=False)),
    )


def epoch(batches) -> float:
    """Seconds a sample, over one pass."""
    start, samples = time.perf_counter(), 0
    for batch in batches:
        samples += len(batch["image"])
        assert tuple(batch["image"].shape[1:]) == (4, *SIZE)
    return (time.perf_counter() - start) / samples


def memory() -> tuple[float, float]:
    """Resident and private memory of this process in MB, what is free given back first where the system allows it."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    info = psutil.Process().memory_full_info()
    return info.rss / 1e6, info.uss / 1e6


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT, help="cases of any BraTS layout")
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if not options.folder.is_dir():
        print(f"{options.folder}: no such folder; nothing measured (give a folder of BraTS cases)")
        return
    from brainseg_utils.datasets.find import find_cases

    cases = find_cases(options.folder)[: options.cases]
    with tempfile.TemporaryDirectory() as folder:
        made: dict[str, Any] = {}
        added: dict[str, list[float]] = {}
        stands = dict(contestants(cases, Path(folder)))
        next(iter(stands["MONAI Dataset"]()))  # so that the first does not pay for what all share
        for name, make in stands.items():
            before = memory()
            made[name] = make()
            epoch(made[name])  # warms up: first touch, files written
            added[name] = [after - was for after, was in zip(memory(), before, strict=True)]
        times: dict[str, list[float]] = {name: [] for name in made}
        for number in range(options.rounds):
            for name in list(made) if number % 2 else reversed(list(made)):
                times[name].append(epoch(made[name]))
        stored = sum(path.stat().st_size for path in Path(folder, "ours").rglob("*.safetensors")) / 1e6
        written = sum(path.stat().st_size for path in Path(folder, "persistent").iterdir()) / 1e6
    report(times, added, len(cases))
    print(f"on disk: this cache {stored:.0f} MB, PersistentDataset {written:.0f} MB")


def report(times: dict[str, list[float]], added: dict[str, list[float]], cases: int) -> None:
    """Prints the table: samples a second (median of rounds), ratio (median of the rounds' ratios), memory."""
    print(f"{cases} cases, {len(times['this cache'])} rounds, batch {BATCH}, no workers, one thread")
    print(f"{'':30s}{'samples/s':>10s}{'this cache is':>15s}{'needed':>8s}{'resident MB':>13s}{'private MB':>12s}")
    for name, rounds in times.items():
        ratio = statistics.median(a / b for a, b in zip(rounds, times["this cache"], strict=True))
        needed = f"{NEEDED[name]:g}x" if name in NEEDED else ""
        verdict = "" if name not in NEEDED else "  ok" if ratio >= NEEDED[name] else "  MISSED"
        print(
            f"{name:30s}{1 / statistics.median(rounds):10.1f}{ratio:14.1f}x{needed:>8s}"
            f"{added[name][0]:13.0f}{added[name][1]:12.0f}{verdict}"
        )


if __name__ == "__main__":
    main()
