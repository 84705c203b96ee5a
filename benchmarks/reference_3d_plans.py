"""The runs that `reference_3d.py` makes: names, recipes with changes, and seconds of one CPU core."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from brainseg_utils.datasets.layouts import MODALITIES

LADDER_SECONDS, RECIPE_SECONDS, AFTER_SECONDS, MODALITY_SECONDS, FOLD_SECONDS = 40.0, 240.0, 240.0, 30.0, 25.0
SWIN_SECONDS = 900.0
FOLDS, SEEDS = 5, 3
WIDTH = 8
BASE = {"width": WIDTH, "norm": "instance"}
SIDE = [48, 48, 48]
SEGRESNET = {"width": WIDTH, "size": SIDE}
LADDER: Mapping[str, tuple[str, Mapping[str, Any]]] = {  # as in notebook 04
    "fcnn": ("fcnn3d", {"width": 8 * WIDTH}),
    "no_skips": ("residual_unet3d", {**BASE, "block": "plain", "skip": "none"}),
    "skips": ("residual_unet3d", {**BASE, "block": "plain"}),
    "residual": ("residual_unet3d", BASE),
    "attention_gate": ("residual_unet3d", {**BASE, "skip": "attention"}),
    "dense": ("residual_unet3d", {**BASE, "block": "dense"}),
    "deep_supervision": ("residual_unet3d", {**BASE, "deep_supervision": True}),
    "segresnet": ("segresnet", {**SEGRESNET, "vae": False}),
    "vae_branch": ("segresnet", {**SEGRESNET, "vae": True}),
}
THREE_SEEDS = ("fcnn", "no_skips", "skips", "residual")
CUBE = {"data.size": [64, 64, 64]}
REPORTS: Mapping[str, Mapping[str, Any]] = {"r1_resunet": CUBE, "r3_unet": CUBE, "r4_unet": {"data.spacing": 2.0}}
TONE = {"data.tone": 0.7}  # the course's, on its way to real scans: `develop` +.08 with seed 0, with seed 1 then -.04
SWIN = {**CUBE, "data.spacing": 2.0, "network.feature_size": 12}
SWINS: Mapping[str, tuple[str, Mapping[str, Any]]] = {  # recipe's profile and changes; as in notebook 05, longer
    "course_swin": ("full", {**SWIN, "optimiser.rate": 2e-3, "data.dropout": 0.0, "engine.ema": 0.99}),
    "r0_swin": ("full", SWIN),
    "course_resunet3d": ("quick", {"engine.ema": 0.99}),
}
MASKED = {  # no case of the cohort: phantoms made while it trains
    "data.name": "masked",
    "data.size": [64, 64, 64],
    "loss.name": "filled",
    "split.fractions": [],
    "split.validation": "all",
}
SUBSETS = {"t1": ["t1n"], "t1t2flair": ["t1n", "t2w", "t2f"], "all": list(MODALITIES)}
SMALL = {"data.size": SIDE, "network.widths": [16, 32, 48]}
DROPOUT = 0.5


@dataclass(frozen=True)
class Plan:
    """One run: its record's name, a recipe with changes, seconds of CPU, and on what it is scored."""

    name: str
    recipe: str
    seconds: float
    changes: Mapping[str, Any] = field(default_factory=dict)
    profile: str = "full"
    cohort: str = "before"
    fold: int | None = None
    looks: int = 1
    real: bool = False
    masked: float = 0.0  # share of the seconds for masked reconstruction, before any label
    lost: tuple[str, ...] = ()


def plans() -> Iterator[Plan]:
    """All runs, the most wanted first."""
    for seed in range(SEEDS):
        yield from (rung(name, seed) for name in THREE_SEEDS)
    yield from (against(name) for name in ("course_resunet3d", "r1_resunet", "r4_unet"))
    for name, channels in SUBSETS.items():
        report = "r4_unet" if name == "all" else f"r4_unet_{name}"
        yield Plan(f"modalities_{report}", report, MODALITY_SECONDS, profile="quick", looks=10)
        lost = MODALITIES if name == "all" else ()
        changes: dict[str, Any] = {"data.modalities": channels}
        yield Plan(f"modalities_course_{name}", "course_resunet3d", MODALITY_SECONDS, changes, "quick", lost=lost)
    changes = {"data.dropout": DROPOUT}
    yield Plan("modalities_course_dropout", "course_resunet3d", MODALITY_SECONDS, changes, "quick", lost=MODALITIES)
    for fold in range(FOLDS):
        yield Plan(f"folds_fold{fold}", "course_resunet3d", FOLD_SECONDS, SMALL, "quick", fold=fold)
    for seed in range(1, SEEDS):
        changes = {**SMALL, "seed": seed}
        yield Plan(f"folds_fold0_seed{seed}", "course_resunet3d", FOLD_SECONDS, changes, "quick", fold=0)
    yield against("r3_unet")
    cavity = {"data.regions": ["ET", "TC", "WT", "RC"]}
    yield Plan("after_course_resunet3d", "course_resunet3d", AFTER_SECONDS, cavity, "quick", "after", looks=10)
    yield Plan("after_r1_resunet", "r1_resunet", AFTER_SECONDS, CUBE, "full", "after", looks=10)
    yield from (rung(name, 0) for name in LADDER if name not in THREE_SEEDS)
    for name, (profile, altered) in SWINS.items():
        yield Plan(f"swin_{name}", name, SWIN_SECONDS, altered, profile, looks=10, real=True)
    profile, altered = SWINS["course_swin"]
    halves: dict[str, Any] = {"looks": 10, "real": True, "masked": 0.5}
    yield Plan("swin_course_swin_masked", "course_swin", SWIN_SECONDS, altered, profile, **halves)


def against(name: str) -> Plan:
    """A report's recipe, or the course's, whose quick profile is its own fitting to 2 mm."""
    profile = "quick" if name.startswith("course") else "full"
    return Plan(f"phantoms_{name}", name, RECIPE_SECONDS, REPORTS.get(name, TONE), profile, looks=10, real=True)


def rung(name: str, seed: int) -> Plan:
    """One rung of the ladder: the course's recipe with another network."""
    key, options = LADDER[name]
    network = {"network.name": key, **{f"network.{option}": value for option, value in options.items()}}
    changes = {"data.size": SIDE, "engine.ema": 0.0, "seed": seed, **network}
    return Plan(f"ladder_{name}_seed{seed}", "course_resunet3d", LADDER_SECONDS, changes, "quick")
