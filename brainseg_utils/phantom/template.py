"""The average head that every subject is deformed from: the MNI ICBM152 template, made ready once and kept.

The maps are read from the installed nilearn wheel (1 mm, skull-stripped T1 and the probabilities of grey and white
matter); no copy of them is part of this project. What is kept in the user's cache is derived from them.

Sources: Fonov et al., NeuroImage 54 (2011) 313-327; Fonov et al., NeuroImage 47 (2009) S102; Collins et al.,
ANIMAL+INSECT, IPMI (1999), LNCS 1613, 210-223.
"""

from __future__ import annotations

import functools
import hashlib
import os
import zipfile
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from brainseg_utils.errors import DataError
from brainseg_utils.files import atomic, sha256
from brainseg_utils.phantom.fields import Array

VERSION = 1
"""Part of the cache's name; raised when the preparation changes."""

FILES = {name: f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz" for name in ("t1", "gm", "wm")}
ORIGIN = (-98.0, -134.0, -72.0)
"""MNI mm of voxel 0; axes RAS, 1 mm."""

FULL = 255.0
DISTANCE_STEP = 0.25
DISTANCE_LIMIT = 31.0
"""Signed distances are kept as int8 in quarters of a mm, clipped to this many mm."""
SHADING_STEP = 0.001
SHARPEN = 1.6
"""Exponent that undoes the blur of a group average: p^1.6 / sum p^1.6."""
MEANS = {"gm": 0.65, "wm": 0.871, "csf": 0.284}
"""T1 of the pure tissues in the template; what remains is its own shading (thalamus, brain stem)."""
ATRIA, FRONTAL_HORNS = (12, -30, 16), (10, 18, 8)
"""MNI points (right side) inside the lateral ventricles."""


@dataclass(frozen=True)
class Template:
    """The prepared template; all arrays (197, 233, 189) at 1 mm unless said.

    Attributes:
        gm, wm, ventricle: fractions, uint8 0 to 255.
        surface: signed distance to the brain's surface, inside positive, int8 (`DISTANCE_STEP` mm).
        ventricle_distance: the same for the ventricles.
        shading: T1 left over when the tissues are taken away, int8 (`SHADING_STEP`).
        inward: direction into the ventricles, gradient of their smoothed signed distance, (3, 99, 117, 95), 2 mm.
    """

    gm: npt.NDArray[np.uint8]
    wm: npt.NDArray[np.uint8]
    ventricle: npt.NDArray[np.uint8]
    surface: npt.NDArray[np.int8]
    ventricle_distance: npt.NDArray[np.int8]
    shading: npt.NDArray[np.int8]
    inward: Array


@functools.cache
def load() -> Template:
    """The prepared template, from the cache or made now (about 5 s, 1 GB) and put there.

    The cache lies in `$BRAINSEG_CACHE`, by default `~/.cache/brainseg`. Two processes may ask at once: each writes
    a whole file under its own name and renames it.

    Raises:
        DataError: where nilearn does not carry the template files.
    """
    paths = {name: _installed(file) for name, file in FILES.items()}
    digest = hashlib.sha256("".join([str(VERSION), *(sha256(p) for p in paths.values())]).encode()).hexdigest()[:12]
    cached = cache_folder() / f"template-{digest}.npz"
    if cached.exists():
        try:
            with np.load(cached) as arrays:
                return Template(**{f.name: arrays[f.name] for f in fields(Template)})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            pass  # a damaged cache is made again
    template = prepare(*(_read(paths[name]) for name in ("t1", "gm", "wm")))
    with atomic(cached) as temporary:
        np.savez(temporary, **{f.name: getattr(template, f.name) for f in fields(Template)})
    return template


def cache_folder() -> Path:
    """Where the user's caches lie: `$BRAINSEG_CACHE`, else `~/.cache/brainseg`."""
    return Path(os.environ.get("BRAINSEG_CACHE") or Path.home() / ".cache" / "brainseg")


def prepare(t1: np.ndarray, gm: np.ndarray, wm: np.ndarray) -> Template:
    """Tissue fractions, ventricles and distances from the three maps (uint8, (X, Y, Z), RAS, 1 mm)."""
    intensity = t1.astype(np.float32) / np.float32(FULL)
    grey, white = gm.astype(np.float32) / np.float32(FULL), wm.astype(np.float32) / np.float32(FULL)
    brain = _brain(intensity)
    fluid = np.clip(1 - grey - white, 0, 1)
    fluid = np.maximum(fluid, np.clip((0.60 - intensity) / 0.30, 0, 1))
    fluid[~brain] = 1
    ventricle = _ventricles(fluid * brain)
    grey, white, fluid = _sharpen(grey, white, fluid)
    mean = MEANS["gm"] * grey + MEANS["wm"] * white + MEANS["csf"] * fluid
    shading = np.where(brain, np.clip(intensity - mean, -0.1, 0.1), 0)
    surface = ndimage.gaussian_filter(signed_distance(brain), 1.0)
    distance = signed_distance(ventricle)
    inward = np.stack(np.gradient(ndimage.gaussian_filter(distance[::2, ::2, ::2] / 2, 2.0)))
    return Template(
        gm=_bytes(grey),
        wm=_bytes(white),
        ventricle=_bytes(ndimage.gaussian_filter(ventricle.astype(np.float32), 0.7)),
        surface=_distance_bytes(surface),
        ventricle_distance=_distance_bytes(ndimage.gaussian_filter(distance, 1.0)),
        shading=_symmetric(np.round(shading / SHADING_STEP)).astype(np.int8),
        inward=inward.astype(np.float32),
    )


def signed_distance(mask: np.ndarray, spacing: float = 1.0) -> Array:
    """Distance to the mask's border (mm), positive inside; zero lies between the voxels of the two sides.

    Example:
        >>> signed_distance(np.pad(np.ones((3, 3, 3), bool), 1))[2, 2].tolist()
        [-0.5, 0.5, 1.5, 0.5, -0.5]
    """
    import edt

    def inside(region: np.ndarray) -> Array:
        return edt.edt(np.ascontiguousarray(region), anisotropy=(spacing,) * 3, black_border=False, parallel=1)

    half = np.float32(spacing / 2)
    return np.where(mask, inside(mask) - half, half - inside(~mask)).astype(np.float32)


def closing(mask: np.ndarray, radius: float) -> npt.NDArray[np.bool_]:
    """Morphological closing with a ball, through distances: the cost does not grow with the radius (voxels)."""
    grown = signed_distance(mask) > -radius - 0.5
    return signed_distance(grown) > radius


def _installed(file: str) -> Path:
    """Where the wheel keeps a template file, found without importing `nilearn.datasets` (1.5 s)."""
    path = resources.files("nilearn").joinpath("datasets", "data", file)
    if not path.is_file():
        raise DataError(
            "no template file", where=str(path), expected="the file that nilearn carries", remedy="install nilearn anew"
        )
    return Path(str(path))


def _read(path: Path) -> np.ndarray:
    import nibabel

    image = nibabel.nifti1.load(path)
    data = np.asarray(image.dataobj)
    if tuple(image.affine[:3, 3]) != ORIGIN or data.dtype != np.uint8:
        raise DataError("another template", where=path, expected="uint8 at 1 mm", remedy="install the pinned nilearn")
    return data


def _brain(intensity: Array) -> npt.NDArray[np.bool_]:
    """The brain and its sulci, without holes."""
    rough = ndimage.binary_fill_holes(ndimage.binary_opening(intensity > 0.2))
    return ndimage.binary_fill_holes(closing(rough, 6))


def _ventricles(fluid: Array) -> npt.NDArray[np.bool_]:
    """The lateral ventricles with what is joined to them, cut to the middle of the head."""
    x, y, z = (ORIGIN[a] + np.arange(n) for a, n in enumerate(fluid.shape))
    region = fluid > 0.45
    region &= (np.abs(x) < 45)[:, None, None]
    region &= ((y > -70) & (y < 40))[None, :, None]
    region &= ((z > -25) & (z < 35))[None, None, :]
    labelled, _ = ndimage.label(region)
    seeds = set()
    for point in (ATRIA, FRONTAL_HORNS):
        for side in (-1, 1):
            voxel = tuple(round(p - o) for p, o in zip((side * point[0], *point[1:]), ORIGIN, strict=True))
            seeds.add(int(labelled[voxel]))
    seeds.discard(0)
    return closing(np.isin(labelled, list(seeds)), 1)


def _sharpen(grey: Array, white: Array, fluid: Array) -> tuple[Array, Array, Array]:
    """Fractions that sum to 1, fluid first, then sharpened."""
    solid = np.maximum(grey + white, 1e-6)
    parts = [grey / solid * (1 - fluid), white / solid * (1 - fluid), fluid]
    parts = [p**SHARPEN for p in parts]
    total = np.maximum(parts[0] + parts[1] + parts[2], 1e-6)
    return parts[0] / total, parts[1] / total, parts[2] / total


def _symmetric(values: Array) -> Array:
    """The mean with its mirror image, so that rounding leaves the template exactly symmetric."""
    return ((values + values[::-1]) / 2).astype(np.float32)


def _bytes(fraction: Array) -> npt.NDArray[np.uint8]:
    return np.clip(np.round(_symmetric(fraction) * FULL), 0, 255).astype(np.uint8)


def _distance_bytes(distance: Array) -> npt.NDArray[np.int8]:
    limited = np.clip(_symmetric(distance), -DISTANCE_LIMIT, DISTANCE_LIMIT)
    return np.round(limited / DISTANCE_STEP).astype(np.int8)
