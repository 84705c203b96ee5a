"""A lesion grows: a core by one front, its oedema by a second, and what enhances is laid into them.

Growth runs on a 2 mm grid whatever the output's spacing. Its results are continuous fields in (about) millimetres,
positive inside; labels and pictures are made from the same fields on the output's grid, so they always agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from brainseg_utils.phantom.anatomy import Tissues
from brainseg_utils.phantom.eikonal import arrival
from brainseg_utils.phantom.fields import Array, Axes, mixture, random_field, resample
from brainseg_utils.phantom.parameters import Parameters
from brainseg_utils.phantom.plan import MM3, Plan
from brainseg_utils.phantom.streams import Step, stream, uniform
from brainseg_utils.phantom.template import signed_distance

NETC, SNFH, ET, RC = 1, 2, 3, 4
"""Label integers, those of BraTS 2024."""

STEP = 2.0
"""Voxel size of the growth grid (mm)."""
LIMIT = 8.0
"""Fields are clipped to this many mm."""
MIN_SPEED = 0.05
FLOOR = -1e3


@dataclass(frozen=True)
class Growth:
    """A grown lesion on the 2 mm grid; all (X, Y, Z).

    Attributes:
        core, oedema: signed pseudo-distances (mm), positive inside; the oedema's field includes the core.
        depth: signed distance to the core's border (mm).
        toward: 0 at the oedema's outer border, 1 at the core.
    """

    core: Array
    oedema: Array
    depth: Array
    toward: Array


@dataclass(frozen=True)
class Lesion:
    """A lesion on the output's grid; all (X, Y, Z).

    Attributes:
        core: field of tumour core and cavity together (mm, positive inside).
        oedema: field of everything abnormal.
        enhancing: field of enhancement, to be taken within `core`.
        fluid: field of a resection cavity.
        toward: 0 at the oedema's border to 1 at the core.
        blood: fraction of blood products (cavities).
        label: uint8, 0 to 4.
    """

    core: Array
    oedema: Array
    enhancing: Array
    fluid: Array
    toward: Array
    blood: Array
    label: np.ndarray


def grow(plan: Plan, parameters: Parameters, found: Tissues, axes: Axes, seed: int, index: int) -> Growth:
    """Grows a planned lesion in a head's tissues on the 2 mm grid."""
    g = parameters.growth
    rng = stream(seed, index, Step.GROWTH)
    open_tissue = (found.surface > 0) & found.mask & (found.ventricle < 0.5)
    rough = mixture(rng, g.core_knots, g.core_weights, axes)
    speed = g.core_white * found.wm + g.core_grey * found.gm + g.core_csf * found.csf
    speed = (speed * np.exp(np.float32(uniform(rng, g.core_rough)) * rough) * open_tissue).astype(np.float32)
    start = np.full(speed.shape, np.inf, np.float32)
    for source in plan.seeds:
        voxel = _nearest(source.place, axes, (found.wm + found.gm > 0.6) & open_tissue)
        start[voxel] = min(start[voxel], np.float32(source.delay + 1e-3))
    times, when = arrival(speed, start, STEP, _voxels(plan.core_volume), g.sweeps)
    core = _field(times, when, speed)
    inside = core > 0
    depth = ndimage.gaussian_filter(signed_distance(inside, STEP), 0.5)
    sources = inside
    if plan.cavity:
        sources = inside | ((wall_field(plan, parameters, depth, axes, seed, index) > 0) & open_tissue)
    rough = mixture(rng, g.oedema_knots, g.oedema_weights, axes)
    grey = np.float32(uniform(rng, g.oedema_grey))
    speed = found.wm**g.oedema_power + grey * found.gm + g.oedema_csf * found.csf
    speed = speed * np.exp(np.float32(uniform(rng, g.oedema_rough)) * rough) * open_tissue
    speed = np.where(found.csf > g.csf_limit, 0, speed).astype(np.float32)
    start = np.where(sources, np.float32(0), np.float32(np.inf))
    times, when = arrival(speed, start, STEP, _voxels(plan.oedema_volume), g.sweeps)
    oedema = np.where(sources, LIMIT, _field(times, when, speed)).astype(np.float32)
    toward = np.clip(1 - np.where(np.isfinite(times), times, 1e6) / max(when, 1e-3), 0, 1)
    return Growth(core, oedema, depth, toward.astype(np.float32))


def wall_field(plan: Plan, parameters: Parameters, depth: Array, axes: Axes, seed: int, index: int) -> Array:
    """The tissue that grows in the wall of a resection cavity: mm inside, one-sided, nowhere for kind `cavity`."""
    if plan.kind != "cavity_et":
        return np.full(depth.shape, -LIMIT, np.float32)
    r = parameters.rim
    rng = stream(seed, index, Step.SURFACE, 1)
    thickness = uniform(rng, r.wall_thickness) * plan.wall
    side = mixture(rng, r.wall_knots, (1.0, 0.6), axes) - np.float32(uniform(rng, r.wall_level))
    return (thickness * np.clip(side, -2, 1.5) + np.minimum(depth, 0)).astype(np.float32)


def shape(
    plan: Plan, parameters: Parameters, grown: Growth, source: Axes, found: Tissues, axes: Axes, seed: int, index: int
) -> Lesion:
    """The grown lesion on the output's grid, with its labels.

    Args:
        plan: the lesion.
        parameters: all settings.
        grown: its fields at 2 mm.
        source: the 2 mm grid.
        found: tissues on the output's grid.
        axes: the output's grid.
        seed: of the cohort.
        index: of the case.
    """
    g = parameters.growth
    rng = stream(seed, index, Step.SURFACE)
    core_edge, oedema_edge, rim_edge = (
        np.float32(g.edge_noise) * random_field(rng, g.edge_knots)(axes) for _ in range(3)
    )
    depth = resample(grown.depth, source, axes)
    barrier = (np.float32(0.5) - found.ventricle) * LIMIT  # nothing grows into a ventricle
    core = np.minimum(resample(grown.core, source, axes) + core_edge, barrier)
    fluid = np.full_like(core, -LIMIT)
    blood = np.zeros_like(core)
    if plan.cavity:
        fluid = core
        wall = wall_field(plan, parameters, depth, axes, seed, index) + rim_edge
        wall = np.minimum(np.minimum(wall, barrier), (np.float32(0.5) - found.csf) * LIMIT)
        core = np.maximum(core, wall)
        middle = np.minimum(wall, -depth)
        enhancing = np.minimum(wall, parameters.rim.wall_core - middle)
        spots = np.clip(random_field(rng, parameters.rim.blood_knots)(axes), 0, 1)
        blood = np.float32(0.6) * np.exp(-((depth / 1.5) ** 2)) * spots
    else:
        enhancing = rim_field(plan, parameters, depth, axes, seed, index) + rim_edge
    patches = np.maximum(random_field(rng, g.stray_knots)(axes) - np.float32(g.stray_level), 0)
    oedema = resample(grown.oedema, source, axes) + oedema_edge + np.float32(uniform(rng, g.stray)) * patches
    oedema = np.maximum(np.where(found.surface > 0, oedema, -LIMIT), core)
    label = np.zeros(core.shape, np.uint8)
    label[(oedema > 0) & (found.csf <= g.csf_limit) & (found.ventricle < 0.5)] = SNFH
    label[core > 0] = NETC
    label[(core > 0) & (enhancing > 0)] = ET
    label[fluid > 0] = RC
    label[~found.mask] = 0
    toward = np.clip(resample(grown.toward, source, axes), 0, 1)
    return Lesion(core, oedema, np.minimum(enhancing, core), fluid, toward, blood.astype(np.float32), label)


def rim_field(plan: Plan, parameters: Parameters, depth: Array, axes: Axes, seed: int, index: int) -> Array:
    """Where the core enhances: positive inside the enhancing tissue (mm).

    A ring is thick - depth > 0 with gaps and islands, a solid tumour a thick ring with holes, an lgg has patches.
    """
    r = parameters.rim
    rng = stream(seed, index, Step.SURFACE, 2)
    if plan.kind == "lgg":
        if not plan.enhancing:
            return np.full(depth.shape, -LIMIT, np.float32)
        return (random_field(rng, r.patch_knots)(axes) - np.float32(r.patch_level)) * 5
    if plan.kind == "solid":
        thick = np.float32(uniform(rng, r.solid_thickness))
        holes = (np.float32(r.hole_level) - random_field(rng, r.hole_knots)(axes)) * 4
        return np.minimum(thick - depth, holes)
    knots = uniform(rng, r.knots)
    base, spread = uniform(rng, r.thickness), np.float32(uniform(rng, r.roughness))
    thick = base * np.exp(spread * random_field(rng, knots)(axes))
    gaps = np.clip(random_field(rng, r.gap_knots)(axes) - np.float32(r.gap_level), 0, 2)
    thick = thick * np.clip(1.6 - 0.9 * gaps, 0.05, 1)
    islands = (random_field(rng, r.island_knots)(axes) - np.float32(r.island_level)) * 4
    return np.maximum(thick - depth, islands).astype(np.float32)


def _voxels(volume: float) -> int:
    """Voxels of the growth grid in a volume (cm3)."""
    return max(round(volume * MM3 / STEP**3), 1)


def _field(times: Array, when: float, speed: Array) -> Array:
    """Signed pseudo-distance (mm) from arrival times: (when - T) x speed, as |grad T| is 1/speed."""
    late = np.where(np.isfinite(times), when - times, FLOOR)
    return np.clip(late * np.maximum(speed, MIN_SPEED), -LIMIT, LIMIT).astype(np.float32)


def _nearest(point: tuple[float, float, float], axes: Axes, allowed: np.ndarray) -> tuple[int, int, int]:
    """The allowed voxel nearest to a point (mm)."""
    squared = [(axis - p) ** 2 for axis, p in zip(axes, point, strict=True)]
    distance = squared[0][:, None, None] + squared[1][None, :, None] + squared[2][None, None, :]
    flat = int(np.argmin(np.where(allowed, distance, np.inf)))
    x, y, z = np.unravel_index(flat, allowed.shape)
    return int(x), int(y), int(z)
