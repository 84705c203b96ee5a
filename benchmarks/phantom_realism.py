"""Phantoms beside real scans: intensities by tissue, volumes and shapes, all at 2 mm.

    python benchmarks/phantom_realism.py [--cases 40] [--real FOLDER]

Prints a table with the phantoms' mean and standard deviation over cases, that of the real `develop` cases
(`data/split.json`) when `--real` names the folder that holds them, and the figures of the 26 real cases that the
phantom was designed on. Intensities are z-scores over the brain.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.labels import get_scheme
from brainseg_utils.datasets.layouts import MODALITIES
from brainseg_utils.parallel import imap
from brainseg_utils.phantom.geometry import geometry
from brainseg_utils.phantom.scanner import render

TISSUES = {"NETC": 1, "SNFH": 2, "ET": 3}
FEWEST = 30  # voxels of a tissue below which a case says nothing about it
QUANTILES = (10, 50, 90)
VOLUME_QUANTILES = (5, 25, 50, 75, 95)
DESIGN = {  # means over the 26 real cases that the phantom's draws were first fitted to
    "healthy T1 q10": -1.55, "healthy T1 q50": 0.27, "healthy T1 q90": 0.96,
    "healthy T1C q10": -1.52, "healthy T1C q50": 0.24, "healthy T1C q90": 0.85,
    "healthy T2 q10": -1.11, "healthy T2 q50": -0.19, "healthy T2 q90": 0.92,
    "healthy FLAIR q10": -1.61, "healthy FLAIR q50": 0.12, "healthy FLAIR q90": 0.75,
    "NETC T1": -0.22, "NETC T1C": -0.05, "NETC T2": 1.97, "NETC FLAIR": 1.29,
    "SNFH T1": 0.34, "SNFH T1C": 0.34, "SNFH T2": 0.88, "SNFH FLAIR": 1.46,
    "ET T1": 0.20, "ET T1C": 1.41, "ET T2": 1.14, "ET FLAIR": 1.37,
    "WT sphericity": 0.63, "TC sphericity": 0.80, "WT box fill": 0.26, "TC box fill": 0.32,
}  # fmt: skip
DESIGN_VOLUMES = {"WT": (34, 60, 102, 195, 315), "TC": (1, 15, 27, 59, 136), "ET": (0, 2, 15, 30, 48)}
SHORT = ("T1", "T1C", "T2", "FLAIR")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--real", type=Path, help="folder that holds the real BraTS cases")
    parser.add_argument("--split", type=Path, default=Path("data/split.json"))
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    phantoms = list(imap(phantom_row, [(chosen.seed, i) for i in range(chosen.cases)], chosen.workers))
    real = [describe(*case) for case in develop(chosen.real, chosen.split)] if chosen.real else []
    table(phantoms, real)


def phantom_row(job: tuple[int, int]) -> dict[str, float]:
    """The figures of one phantom before treatment."""
    case = geometry(*job, healthy=0.0)
    return describe(render(case, job[0]).astype(np.float32), case.label, 8 / 1000)


def develop(root: Path, split: Path) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """(images, label, cm3 a voxel) of the real cases that may be tuned on, block-averaged to 2 mm."""
    wanted = set(json.loads(split.read_text())["brats"]["develop"])
    for folder in ("brats2020", "brats2021", "brats2023"):
        for case in find_cases(root / folder, folder):
            if case.id in wanted or f"{case.id}-000" in wanted:
                label = case.scheme.convert(case.label().data.astype(np.uint8), get_scheme("brats2023"))
                data = case.images(MODALITIES).data
                even = tuple(n // 2 * 2 for n in label.shape)
                halves = [v for n in even for v in (n // 2, 2)]
                cut = data[:, : even[0], : even[1], : even[2]].reshape(4, *halves)
                yield cut.mean((2, 4, 6)), label[: even[0] : 2, : even[1] : 2, : even[2] : 2], 8 / 1000


def describe(images: np.ndarray, label: np.ndarray, unit: float) -> dict[str, float]:
    """All figures of one case: images (4, X, Y, Z), label (X, Y, Z) 0 to 3, cm3 a voxel."""
    import cc3d

    brain = (images != 0).any(axis=0)
    healthy = brain & (label == 0)
    row = {"brain": float(brain.sum() * unit)}
    for name, image in zip(SHORT, images, strict=True):
        z = (image - image[brain].mean()) / image[brain].std()
        for q, value in zip(QUANTILES, np.percentile(z[healthy], QUANTILES), strict=True):
            row[f"healthy {name} q{q}"] = float(value)
        for tissue, integer in TISSUES.items():
            if (label == integer).sum() >= FEWEST:
                row[f"{tissue} {name}"] = float(z[label == integer].mean())
                row[f"{tissue} {name} within"] = float(z[label == integer].std())
    regions = {"WT": label > 0, "TC": (label == 1) | (label == 3), "ET": label == 3}
    for name, region in regions.items():
        row[f"volume {name}"] = float(region.sum() * unit)
        if region.sum() >= FEWEST and name != "ET":
            row[f"{name} sphericity"], row[f"{name} box fill"] = _shape(region)
    row["WT components"] = float(cc3d.connected_components(regions["WT"], connectivity=26).max())
    return row


def _shape(region: np.ndarray) -> tuple[float, float]:
    """Sphericity by voxel faces (a voxel ball has 2/3 of the smooth one's, which is divided out), and box fill."""
    where = np.nonzero(region)
    low, high = [w.min() for w in where], [w.max() + 1 for w in where]
    fill = float(region.sum() / np.prod(np.subtract(high, low)))
    padded = np.pad(region, 1)
    faces = sum(int(np.diff(padded.astype(np.int8), axis=a).__abs__().sum()) for a in range(3))
    volume = float(region.sum())
    return float(np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / (faces / 1.5)), fill


def table(phantoms: list[dict[str, float]], real: list[dict[str, float]]) -> None:
    """Prints everything side by side; a star marks a phantom mean outside the real cases' spread (one sd)."""
    names = [n for n in dict.fromkeys(k for row in phantoms for k in row) if not n.startswith("volume")]
    print(f"{'figure':26s}{'phantom':>15s}{'develop':>16s}{'design':>8s}")
    for name in names:
        mine = np.array([row[name] for row in phantoms if name in row])
        line = f"{name:26s}{mine.mean():8.2f} ±{mine.std():5.2f}"
        theirs = np.array([row[name] for row in real if name in row])
        if len(theirs):
            away = abs(mine.mean() - theirs.mean()) > max(theirs.std(), 0.1)
            line += f"{theirs.mean():9.2f} ±{theirs.std():5.2f}{'*' if away else ' '}"
        print(line + (f"{DESIGN[name]:7.2f}" if name in DESIGN else ""))
    print(f"\nvolumes (cm3), quantiles {VOLUME_QUANTILES}")
    for name in ("WT", "TC", "ET"):
        cells = [_quantiles([row[f"volume {name}"] for row in phantoms])]
        cells += [_quantiles([row[f"volume {name}"] for row in real])] if real else []
        print(
            f"{name}: phantom {cells[0]}" + (f" | develop {cells[1]}" if real else ""), "| design", DESIGN_VOLUMES[name]
        )


def _quantiles(values: list[float]) -> str:
    return " ".join(f"{q:.0f}" for q in np.percentile(values, VOLUME_QUANTILES))


if __name__ == "__main__":
    main()
