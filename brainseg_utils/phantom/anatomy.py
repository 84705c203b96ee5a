"""One subject's head: a new size, pose, shape, ventricles and atrophy, and the push of a tumour.

The map from the subject's grid back to the template is a sum of smooth displacements, so that tissue fractions are
sampled once. Everything is a function of head coordinates (mm), never of voxels. Ventricles are widened by letting
the template flow out of them, which cannot fold; a tumour pushes radially and keeps the volume of what it pushes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from brainseg_utils.phantom.fields import Array, Axes, Field, random_field, smooth_interpolation
from brainseg_utils.phantom.parameters import Parameters
from brainseg_utils.phantom.settings import Frame
from brainseg_utils.phantom.streams import Step, normal, stream, uniform
from brainseg_utils.phantom.template import DISTANCE_STEP, FULL, ORIGIN, SHADING_STEP, Template

FLOW_STEPS = 4
OUTSIDE = -30.0
"""Signed distance (mm) given to points beyond the template's array."""


@dataclass(frozen=True)
class Subject:
    """What was drawn for one head.

    Attributes:
        flip: 1, or -1 for a head that is mirrored as a whole.
        matrix: (3, 3), head mm to template mm.
        shift: (3,), mm, subtracted before `matrix`.
        anchor: MNI mm of the head's origin.
        warp: three displacement components, each a list of (amplitude in mm, field).
        ventricle: width by which the ventricles grow (mm, negative: shrink), and over which distance it fades.
        csf_gain: factor on the fluid of the sulci.
        mask_margin, mask_field: how far beyond the brain (mm) the skull stripping reached.
        shell_field: roughness of the bone and dura left over.
        folds: field whose zero set the sulci follow.
        age: 0 young to 1 old; sets white-matter lesions.
    """

    flip: int
    matrix: np.ndarray
    shift: np.ndarray
    anchor: np.ndarray
    warp: tuple[tuple[tuple[float, Field], ...], ...]
    ventricle: float
    ventricle_decay: float
    csf_gain: float
    mask_margin: float
    mask_field: Field
    shell_field: Field
    folds: Field
    age: float


@dataclass(frozen=True)
class Push:
    """Mass effect of one focus: centre (head mm), radius (mm) and strength k (negative: a cavity pulls)."""

    centre: tuple[float, float, float]
    radius: float
    strength: float


@dataclass(frozen=True)
class Tissues:
    """Tissue fractions on a grid, all (X, Y, Z) float32 unless said.

    Attributes:
        gm, wm, csf: fractions, summing to 1 (fluid outside the brain).
        ventricle: fraction of ventricle (a part of `csf`).
        surface, ventricle_distance: signed distances in the template (mm, inside positive).
        shading: template residual on T1.
        mask: boolean, what skull stripping left.
        shell: fraction of bone and dura left over.
        place: (3, X, Y, Z), MNI mm.
    """

    gm: Array
    wm: Array
    csf: Array
    ventricle: Array
    surface: Array
    ventricle_distance: Array
    shading: Array
    mask: np.ndarray
    shell: Array
    place: Array


def draw_subject(parameters: Parameters, frame: Frame, seed: int, index: int) -> Subject:
    """Draws one head; every number comes from the stream of the anatomy."""
    s = parameters.subject
    rng = stream(seed, index, Step.ANATOMY)
    size = frame.head_scale * (1 + rng.normal(0, s.scale_sd)) * np.exp(rng.normal(0, s.axis_scale_sd, 3))
    angles = np.deg2rad(rng.normal(0, s.rotation_sd))
    shift = rng.normal(0, s.shift_sd)
    flip = -1 if rng.random() < s.flip_probability else 1
    amplitudes = (uniform(rng, s.warp_coarse), uniform(rng, s.warp_middle), uniform(rng, s.warp_fine))
    warp = tuple(
        tuple((a, random_field(rng, h)) for a, h in zip(amplitudes, s.warp_knots, strict=True)) for _ in range(3)
    )
    ventricle, decay, gain = uniform(rng, s.ventricle), s.ventricle_decay, float(np.exp(normal(rng, s.csf_gain)))
    if rng.random() < s.large_ventricle_probability:
        ventricle = uniform(rng, s.large_ventricle)
        decay = max(decay, s.large_ventricle_decay_factor * ventricle)
        gain *= uniform(rng, s.large_ventricle_csf_gain)
    return Subject(
        flip=flip,
        matrix=np.diag(1 / size) @ _rotation(angles),
        shift=shift,
        anchor=np.asarray(s.anchor),
        warp=warp,
        ventricle=ventricle,
        ventricle_decay=decay,
        csf_gain=gain,
        mask_margin=uniform(rng, s.mask_margin),
        mask_field=random_field(rng, s.mask_knots),
        shell_field=random_field(rng, s.shell_knots),
        folds=random_field(rng, s.fold_knots),
        age=float(rng.beta(*s.age)),
    )


def neutral_subject(parameters: Parameters, frame: Frame) -> Subject:
    """The template itself in a frame: every random amplitude at 0 (a symmetric head)."""
    rng = np.random.default_rng(0)
    still = Field(np.zeros_like(random_field(rng, 40.0).knots), 40.0)
    matrix = np.eye(3) / frame.head_scale
    anchor = np.asarray(parameters.subject.anchor)
    return Subject(1, matrix, np.zeros(3), anchor, ((), (), ()), 0.0, 9.0, 1.0, 1.5, still, still, still, 0.0)


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Rotations about x, then y, then z (radians)."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def place(subject: Subject, parameters: Parameters, axes: Axes, pushes: Sequence[Push] = ()) -> Array:
    """Where each grid point lies in the template before its ventricles are changed, (3, X, Y, Z) MNI mm."""
    points = mass_effect(parameters, axes, pushes)
    for component, terms in enumerate(subject.warp):
        for amplitude, field in terms:
            points[component] += np.float32(amplitude) * field(axes)
    points -= subject.shift.astype(np.float32)[:, None, None, None]
    flat = subject.matrix.astype(np.float32) @ points.reshape(3, -1)
    return flat.reshape(points.shape) + subject.anchor.astype(np.float32)[:, None, None, None]


def mass_effect(parameters: Parameters, axes: Axes, pushes: Sequence[Push]) -> Array:
    """Grid points moved to where their tissue was before the tumour, (3, X, Y, Z) head mm.

    Around a focus of radius R the source radius is cbrt(r^3 - k R^3): the volume between two shells is kept. The
    push fades with exp(-(max(r - R, 0) / reach)^2).
    """
    t = parameters.tumour
    grid = [axis.reshape([-1 if a == n else 1 for n in range(3)]) for a, axis in enumerate(axes)]
    points = np.stack(np.broadcast_arrays(*grid)).astype(np.float32)
    total = np.zeros_like(points)
    for push in pushes:
        offset = points - np.asarray(push.centre, np.float32)[:, None, None, None]
        r = np.sqrt((offset**2).sum(axis=0)) + np.float32(1e-3)
        if push.strength >= 0:
            cubed = np.maximum(r**3 - push.strength * push.radius**3, (t.mass_squeeze * r) ** 3)
            fade = np.exp(-((np.maximum(r - push.radius, 0) / t.mass_reach) ** 2))
        else:
            cubed = r**3 - push.strength * push.radius**3 * np.minimum(r / push.radius, 1) ** 3
            fade = np.exp(-((r / (2 * push.radius)) ** 2))
        total += offset * ((np.cbrt(cubed) / r - 1) * fade).astype(np.float32)
    return points + total


def widen_ventricles(subject: Subject, template: Template, source: Array) -> Array:
    """Displacement (3, X, Y, Z), MNI mm, that lets the ventricles grow by `subject.ventricle` mm.

    Points flow along the inward direction in small steps; a flow along a smooth direction cannot fold.
    """
    moved = source.copy()
    for _ in range(FLOW_STEPS):
        distance = sample(template.ventricle_distance, moved, OUTSIDE / DISTANCE_STEP) * np.float32(DISTANCE_STEP)
        outside = np.maximum(-distance, 0)
        speed = np.float32(subject.ventricle / FLOW_STEPS) * np.exp(-((outside / subject.ventricle_decay) ** 2))
        for component, step in enumerate(template.inward):
            moved[component] += speed * sample(step, moved, 0.0, 2.0)
    return moved - source


def sample(volume: np.ndarray, points: Array, outside: float, voxel: float = 1.0) -> Array:
    """Linear interpolation of a template array at MNI points (3, X, Y, Z); `outside` beyond its border."""
    index = [(points[a] - np.float32(ORIGIN[a])) / np.float32(voxel) for a in range(3)]
    return ndimage.map_coordinates(volume, index, np.float32, order=1, mode="constant", cval=outside)


def fold_cortex(
    subject: Subject, parameters: Parameters, grey: Array, white: Array, surface: Array, height: Array, axes: Axes
) -> tuple[Array, Array, Array]:
    """Fractions of grey matter, white matter and fluid with sulci of the subject's own.

    The template is an average of many people, so its gyri are blurred. The zero set of a random field is a set of
    folded sheets, as sulci are: near a sheet the odds of fluid and then of cortex are raised, between sheets those of
    white matter. Where the template is certain, the odds hardly matter, so its own anatomy stays.
    """
    s = parameters.subject
    fluid = np.clip(1 - grey - white, 0, 1)
    if not s.fold_strength:
        return grey, white, fluid
    sheet = subject.folds(axes)
    slope = np.full_like(sheet, 1e-4)
    for axis in range(3):
        slope += np.gradient(sheet, axes[axis], axis=axis) ** 2
    distance = np.abs(sheet) / np.sqrt(slope)
    reach = np.exp(-((np.maximum(surface - s.fold_depth, 0) / s.fold_fade) ** 2)) * (height > s.fold_floor)
    strength = np.float32(s.fold_strength) * reach
    cortex = np.clip(s.fold_cortex - distance, -1.5, 1.5) * strength
    sulcus = np.clip((s.fold_sulcus - distance) * 1.5, -1.5, 1.5) * strength
    parts = [(grey + 1e-3) * np.exp(cortex), (white + 1e-3) * np.exp(-cortex), (fluid + 1e-3) * np.exp(sulcus)]
    parts = [part ** np.float32(s.fold_sharpen) for part in parts]
    total = parts[0] + parts[1] + parts[2]
    return parts[0] / total, parts[1] / total, parts[2] / total


def tissues(
    subject: Subject,
    template: Template,
    parameters: Parameters,
    axes: Axes,
    coarse: Axes | None = None,
    pushes: Sequence[Push] = (),
) -> Tissues:
    """The subject's tissues on a grid.

    Args:
        subject: the head.
        template: what it is deformed from.
        parameters: all settings.
        axes: grid to sample (head mm).
        coarse: a 4 mm grid around it, on which the ventricles' flow is computed; None leaves them as they are.
        pushes: mass effect.
    """
    s = parameters.subject
    points = place(subject, parameters, axes, pushes)
    if coarse is not None:
        flow = widen_ventricles(subject, template, place(subject, parameters, coarse, pushes))
        for component in range(3):
            points[component] += smooth_interpolation(flow[component], coarse, axes)
    grey = sample(template.gm, points, 0.0) / np.float32(FULL)
    white = sample(template.wm, points, 0.0) / np.float32(FULL)
    ventricle = sample(template.ventricle, points, 0.0) / np.float32(FULL)
    surface = sample(template.surface, points, OUTSIDE / DISTANCE_STEP) * np.float32(DISTANCE_STEP)
    distance = sample(template.ventricle_distance, points, OUTSIDE / DISTANCE_STEP) * np.float32(DISTANCE_STEP)
    grey, white, fluid = fold_cortex(subject, parameters, grey, white, surface, points[2], axes)
    fluid = np.clip(fluid * (ventricle + (1 - ventricle) * np.float32(subject.csf_gain)), 0, 1)
    solid = (1 - fluid) / np.maximum(grey + white, 1e-6)
    margin = subject.mask_margin + subject.mask_field(axes)
    mask = surface > -np.clip(margin, None, s.mask_limit)
    shell = np.clip(-surface - s.shell_depth - s.shell_roughness * subject.shell_field(axes), 0, 1)
    return Tissues(
        gm=grey * solid,
        wm=white * solid,
        csf=fluid,
        ventricle=ventricle,
        surface=surface,
        ventricle_distance=distance,
        shading=sample(template.shading, points, 0.0) * np.float32(SHADING_STEP),
        mask=mask,
        shell=shell.astype(np.float32),
        place=points,
    )
