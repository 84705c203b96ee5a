"""What kind of lesion a case has, how large, and where: drawn before anything grows.

Kinds before treatment: `ring` (necrotic core with an enhancing rim), `solid` (enhancing with small holes), `lgg`
(non-enhancing or patchy), `healthy`. After treatment: `cavity` (resection cavity), `cavity_et` (with residual or
recurrent enhancement in its wall), `recur` (a ring tumour, no cavity), `healthy`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brainseg_utils.errors import unknown
from brainseg_utils.phantom.anatomy import Push, Tissues
from brainseg_utils.phantom.fields import Axes
from brainseg_utils.phantom.parameters import Parameters
from brainseg_utils.phantom.streams import Step, choose, lognormal, stream, uniform

KINDS = ("ring", "solid", "lgg", "cavity", "cavity_et", "recur", "healthy")
CAVITIES = ("cavity", "cavity_et")
SPHERE = 4 / 3 * np.pi
MM3 = 1000.0
"""mm3 in a cm3."""


@dataclass(frozen=True)
class Seed:
    """A source of the core's front: place (head mm) and how much later than the first it starts (mm of front)."""

    place: tuple[float, float, float]
    delay: float


@dataclass(frozen=True)
class Plan:
    """A lesion before it grows.

    Attributes:
        kind: one of `KINDS`.
        core_volume, oedema_volume: wanted volumes (cm3).
        radius: of the sphere with the first focus's volume (mm).
        seeds: sources of the front, over all foci and satellites.
        foci, satellites: how many of each.
        pushes: mass effect, one a focus.
        enhancing: whether any tissue enhances.
        mismatch: an lgg whose core is dark on FLAIR (T2-FLAIR mismatch).
        wall: factor on the thickness of an enhancing resection wall.
    """

    kind: str
    core_volume: float = 0.0
    oedema_volume: float = 0.0
    radius: float = 0.0
    seeds: tuple[Seed, ...] = ()
    foci: int = 0
    satellites: int = 0
    pushes: tuple[Push, ...] = ()
    enhancing: bool = False
    mismatch: bool = False
    wall: float = 1.0

    @property
    def cavity(self) -> bool:
        """Whether tissue was taken out."""
        return self.kind in CAVITIES


def draw_plan(
    parameters: Parameters,
    coarse: Tissues,
    axes: Axes,
    seed: int,
    index: int,
    *,
    kind: str,
    volume: float = 1.0,
    visit: int = 0,
) -> Plan:
    """Draws a lesion of a kind into a head.

    Args:
        parameters: all settings.
        coarse: the head's tissues at 4 mm without mass effect.
        axes: their grid.
        seed: of the cohort.
        index: of the case (of the patient, where there are several visits).
        kind: one of `KINDS`.
        volume: factor on the volumes.
        visit: 0, or 1 and more for later scans of the same lesion.
    """
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    if kind == "healthy":
        return Plan(kind)
    rng = stream(seed, index, Step.PLAN, 1)
    core, oedema = draw_volumes(parameters, rng, kind, volume)
    core, oedema, wall = _later(parameters, seed, index, visit, kind, core, oedema)
    return _place(parameters, coarse, axes, rng, kind, core, oedema, wall)


def draw_kind(parameters: Parameters, weights: dict[str, float], healthy: float, seed: int, index: int) -> str:
    """The kind of a case: healthy with a probability, else by weight.

    Example:
        >>> from brainseg_utils.phantom.parameters import default
        >>> draw_kind(default(), {"ring": 1.0}, 0.0, seed=0, index=3)
        'ring'
    """
    rng = stream(seed, index, Step.PLAN)
    if rng.random() < healthy:
        return "healthy"
    return choose(rng, weights)


def draw_volumes(parameters: Parameters, rng: np.random.Generator, kind: str, factor: float) -> tuple[float, float]:
    """Volumes of core and oedema (cm3), so drawn that a factor does not change the other draws."""
    t = parameters.tumour
    spec = {"lgg": t.core_lgg, "cavity": t.core_cavity, "cavity_et": t.core_cavity}.get(kind, t.core)
    core = float(np.clip(lognormal(rng, spec) * factor, spec.low, spec.high))
    if kind == "lgg":
        oedema = core * lognormal(rng, t.oedema_lgg)
    elif kind in CAVITIES:
        oedema = core * lognormal(rng, t.oedema_cavity)
    else:
        oedema = lognormal(rng, t.oedema) * factor * (core / t.core.median) ** t.oedema_power
    return core, min(oedema, t.lesion_limit - core)


def _later(
    parameters: Parameters, seed: int, index: int, visit: int, kind: str, core: float, oedema: float
) -> tuple[float, float, float]:
    """Volumes and wall at a later scan: tumours change, cavities shrink."""
    t, wall = parameters.tumour, 1.0
    for number in range(1, visit + 1):
        rng = stream(seed, index, Step.VISIT + number)
        core *= uniform(rng, t.follow_cavity if kind in CAVITIES else t.follow_core)
        oedema *= uniform(rng, t.follow_oedema)
        wall *= uniform(rng, t.follow_wall)
    core = float(np.clip(core, t.core.low, t.core.high))
    return core, min(oedema, t.lesion_limit - core), wall


def _place(
    parameters: Parameters,
    coarse: Tissues,
    axes: Axes,
    rng: np.random.Generator,
    kind: str,
    core: float,
    oedema: float,
    wall: float,
) -> Plan:
    t = parameters.tumour
    count = 1 if kind in CAVITIES else 1 + int(np.searchsorted(np.cumsum(t.foci), rng.random()))
    count = min(count, len(t.foci))
    shares = np.array([1.0, *(uniform(rng, t.focus_radius) for _ in range(len(t.foci) - 1))])[:count]
    radius = float((core * MM3 / (SPHERE * (shares**3).sum())) ** (1 / 3))
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    weights = seed_weights(coarse, kind in CAVITIES)
    mass = uniform(rng, t.mass_lgg if kind == "lgg" else t.mass_gbm)
    if kind in CAVITIES:
        mass = -uniform(rng, t.mass_cavity)
    seeds: list[Seed] = []
    pushes: list[Push] = []
    for share in shares:
        own = radius * float(share)
        centre = _pick(rng, weights, grid)
        pushes.append(Push(tuple(centre.tolist()), own, mass))
        delay = radius - own
        seeds.append(Seed(tuple(centre.tolist()), delay))
        for _ in range(int(rng.integers(t.lobes[0], t.lobes[1], endpoint=True)) - 1):
            lobe = centre + t.lobe_offset * own * rng.standard_normal(3)
            seeds.append(Seed(tuple(lobe.tolist()), delay + uniform(rng, (0, t.lobe_delay)) * own))
        away = np.sqrt(((grid - centre[:, None, None, None]) ** 2).sum(axis=0))
        weights = weights * (away > 1.3 * own + radius) * np.exp(-away / 40)
    satellites = 0 if kind in CAVITIES else int(np.searchsorted(np.cumsum(t.satellites), rng.random()))
    satellites = min(satellites, len(t.satellites) - 1)
    for _ in range(satellites):
        own = min(uniform(rng, t.satellite_radius), 0.6 * radius)
        direction = rng.standard_normal(3)
        reach = uniform(rng, t.satellite_distance) * radius + 4
        spot = np.asarray(pushes[0].centre) + direction / np.linalg.norm(direction) * reach
        seeds.append(Seed(tuple(spot.tolist()), radius - own))
    patchy, mismatch = rng.random() < t.enhancing_lgg, rng.random() < t.mismatch_lgg
    return Plan(
        kind=kind,
        core_volume=core,
        oedema_volume=oedema,
        radius=radius,
        seeds=tuple(seeds),
        foci=count,
        satellites=satellites,
        pushes=tuple(pushes),
        enhancing=kind in ("ring", "solid", "recur", "cavity_et") or (kind == "lgg" and patchy),
        mismatch=kind == "lgg" and mismatch,
        wall=wall,
    )


def seed_weights(coarse: Tissues, cavity: bool) -> np.ndarray:
    """How likely a tumour begins at each point of a 4 mm grid: cerebral white matter, more often near a ventricle."""
    x, y, z = coarse.place
    weights = np.clip(coarse.wm - 0.3, 0, None) * (coarse.surface > 9) * coarse.mask
    cerebellum = (z < -6) & (y < -42)
    stem = (z < -2) & (np.abs(x) < 16) & (y < -5)
    weights = weights * (z > -30) * ~cerebellum * ~stem * (np.abs(x) > 7)
    weights = weights * (0.35 + np.exp(-(((coarse.ventricle_distance + 14) / 12) ** 2)))
    if cavity:
        weights = weights * np.exp(-np.clip(coarse.surface - 12, 0, None) / 8)
    return weights


def _pick(rng: np.random.Generator, weights: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """One point (3,), anywhere within its 4 mm block."""
    summed = np.cumsum(weights.ravel().astype(np.float64))
    if summed[-1] <= 0:
        summed = np.cumsum(np.ones(weights.size))
    voxel = int(np.searchsorted(summed, rng.random() * summed[-1], side="right"))
    return grid.reshape(3, -1)[:, min(voxel, weights.size - 1)] + rng.uniform(-2, 2, 3)
