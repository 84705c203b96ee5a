"""Typed, frozen records of the `[contrast]` tables of `parameters.toml`."""

from __future__ import annotations

from dataclasses import dataclass

from brainseg_utils.phantom.settings import Four, Pair, Triple


@dataclass(frozen=True)
class DrawSettings:
    """How a case's contrast is drawn from the tables."""

    wide_probability: float
    wide_factor: Pair
    et_t1c: Pair
    cystic_probability: float
    cystic_share: Pair
    cystic: Four
    mismatch_factor: float


@dataclass(frozen=True)
class GuardSettings:
    """Orders of brightness that no draw may break."""

    gm_t1_wm: float
    csf_dark_wm: float
    csf_t2w_gm: float
    t1n_wm: float
    et_t1c_wm: float
    et_t1c_ncr: float
    net_t1c_wm: float
    oedema_t2f: Pair
    oedema_t2w_gm: float
    ncr_t2w_gm: float
    net_t2w_gm: float
    net_t2f_gm: float


@dataclass(frozen=True)
class TextureSettings:
    """Inhomogeneity within tissues."""

    brain: float
    brain_knots: Pair
    brain_weights: Pair
    oedema: Pair
    oedema_knots: Pair
    oedema_weights: Pair
    core: Pair
    core_knots: Triple
    core_weights: Triple
    et: Pair
    et_lowest: float
    by_modality: Four
    shading: Four
    oedema_edge: Pair
    oedema_strength: Pair
    gradient_t1n: Pair
    gradient_t1c: Pair
    gradient_t2w: Pair
    gradient_t2f: Pair
    blood_t1n: float


@dataclass(frozen=True)
class ContrastSettings:
    """Mean intensities by tissue and modality, and everything that varies them."""

    physical: dict[str, Four]
    clinical: dict[str, Four]
    both: dict[str, Four]
    jitter: dict[str, float]
    draw: DrawSettings
    guard: GuardSettings
    texture: TextureSettings
