"""Typed, frozen records of `parameters.toml`: one record a table. The file itself explains the numbers."""

from __future__ import annotations

from dataclasses import dataclass

Pair = tuple[float, float]
Triple = tuple[float, float, float]
Four = tuple[float, float, float, float]


@dataclass(frozen=True)
class Normal:
    """A normal draw."""

    mean: float
    sd: float


@dataclass(frozen=True)
class LogNormal:
    """A log-normal draw, clipped to [low, high]."""

    median: float
    sigma: float
    low: float
    high: float


@dataclass(frozen=True)
class Frame:
    """A voxel grid of 1 mm and where a head lies in it (world coordinates, mm)."""

    shape: tuple[int, int, int]
    signs: tuple[int, int, int]
    origin: Triple
    brain_centre: Triple
    head_scale: float


@dataclass(frozen=True)
class SubjectSettings:
    """How one head differs from the template."""

    anchor: Triple
    scale_sd: float
    axis_scale_sd: float
    rotation_sd: Triple
    shift_sd: Triple
    flip_probability: float
    warp_knots: Triple
    warp_coarse: Pair
    warp_middle: Pair
    warp_fine: Pair
    ventricle: Pair
    ventricle_decay: float
    large_ventricle_probability: float
    large_ventricle: Pair
    large_ventricle_decay_factor: float
    large_ventricle_csf_gain: Pair
    csf_gain: Normal
    fold_strength: float
    fold_knots: float
    fold_cortex: float
    fold_sulcus: float
    fold_depth: float
    fold_fade: float
    fold_floor: float
    fold_sharpen: float
    mask_margin: Pair
    mask_knots: float
    mask_limit: float
    shell_depth: float
    shell_roughness: float
    shell_knots: float
    age: Pair


@dataclass(frozen=True)
class StructureSettings:
    """Small structures that a network may take for a lesion."""

    vessel_knots: float
    vessel_radius: Pair
    thin_vessel_knots: float
    thin_vessel_radius: Pair
    falx_half_width: float
    sinus_half_width: float
    dura_depth: float
    dura_knots: float
    choroid_radius: float
    lesion_threshold: Pair
    lesion_reach: float
    band: Pair


@dataclass(frozen=True)
class TumourSettings:
    """Which tumour a case has, how large and where."""

    pre: dict[str, float]
    post: dict[str, float]
    healthy: dict[str, float]
    lgg_layout: dict[str, float]
    core: LogNormal
    core_lgg: LogNormal
    core_cavity: LogNormal
    oedema: LogNormal
    oedema_power: float
    oedema_lgg: LogNormal
    oedema_cavity: LogNormal
    lesion_limit: float
    foci: Triple
    focus_radius: Pair
    satellites: Four
    satellite_radius: Pair
    satellite_distance: Pair
    lobes: tuple[int, int]
    lobe_offset: float
    lobe_delay: float
    mass_gbm: Pair
    mass_lgg: Pair
    mass_cavity: Pair
    mass_reach: float
    mass_squeeze: float
    enhancing_lgg: float
    mismatch_lgg: float
    second_scan: float
    follow_core: Pair
    follow_oedema: Pair
    follow_cavity: Pair
    follow_wall: Pair


@dataclass(frozen=True)
class GrowthSettings:
    """Speeds of the two fronts."""

    core_white: float
    core_grey: float
    core_csf: float
    core_rough: Pair
    core_knots: Triple
    core_weights: Triple
    oedema_power: float
    oedema_grey: Pair
    oedema_csf: float
    oedema_rough: Pair
    oedema_knots: Triple
    oedema_weights: Triple
    csf_limit: float
    edge_knots: float
    edge_noise: float
    stray: Pair
    stray_knots: float
    stray_level: float
    sweeps: int


@dataclass(frozen=True)
class RimSettings:
    """Where a tumour enhances."""

    thickness: Pair
    roughness: Pair
    knots: Pair
    gap_knots: float
    gap_level: float
    island_knots: float
    island_level: float
    solid_thickness: Pair
    hole_knots: float
    hole_level: float
    patch_knots: float
    patch_level: float
    wall_thickness: Pair
    wall_knots: Pair
    wall_level: Pair
    wall_core: float
    blood_knots: float


@dataclass(frozen=True)
class ScannerSettings:
    """What the machine does to the picture."""

    bias_probability: float
    bias_sd: Pair
    bias_knots: float
    blur: Pair
    protocol_2d: float
    thick_2d: Four
    thick_3d: Four
    slice_thickness: Pair
    slice_factor: Pair
    sagittal: float
    slice_profile: float
    noise: Pair
    noise_divisor_2mm: float
    gamma_sd: float
    gain: Pair


@dataclass(frozen=True)
class Difficulty:
    """Factors on lesion volume, lesion contrast and the random effects of a rendering."""

    volume: float
    contrast: float
    jitter: float
    noise: float
    bias: float
    thick: float
    traps: float


@dataclass(frozen=True)
class LggSettings:
    """The 2D layout: head, slices and 8-bit files."""

    thickness: dict[str, float]
    profile: float
    field_of_view: Pair
    offset_sd: float
    outline_sd: float
    fluid_gap: float
    skull: Normal
    scalp: Normal
    head_knots: float
    skull_level: Triple
    diploe_level: float
    scalp_level: Triple
    muscle_level: Triple
    air_level: float
    eye_level: Triple
    foreground_mean: float
    ceiling: float
    noise: float
    missing_post: float
    missing_both: float
