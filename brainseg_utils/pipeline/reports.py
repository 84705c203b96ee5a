"""The pipelines of reports R0 to R4 as each report states them, its mistakes kept and named.

What a report does not state (patch position, most strengths and probabilities) is the course's choice, and its step
says `unstated`. Sizes are arguments, so that the quick profile can run the same steps on 2 mm phantoms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.transforms import (
    CastToTyped,
    Compose,
    DivisiblePadd,
    Orientationd,
    Rand3DElasticd,
    RandBiasFieldd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandRotate90d,
    RandRotated,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSpatialCropd,
    Resized,
    ScaleIntensityRanged,
    Spacingd,
    SpatialPadd,
    Transform,
)

from brainseg_utils.pipeline import arrays
from brainseg_utils.pipeline.transforms import KEYS, BorderBox, CropBoxd, Imaged, Step, ToRegionsd, TumourBox

IMAGE_AND_LABEL = ("bilinear", "nearest")
R0_REGIONS = ("ET", "TC", "WT")
R4_REGIONS = ("TC", "WT", "ET")  # the order of MONAI's BraTS conversion
R1_PERCENTILES, R1_MARGIN = (2.5, 97.5), 20
R4_START, R4_END = 5, 6
LGG_SIDE = 128
DEGREES = 15  # rotation; R1 and R3 do not state it
ELASTIC_SIGMA, ELASTIC_MAGNITUDE = (5, 7), (50, 150)  # displacements of about a voxel
_LABEL_MAY_LACK: dict[str, Any] = {"allow_missing_keys": True}


def _flip(axis: int, probability: float = 0.5, kind: str = "flip") -> Step:
    flip = RandFlipd(KEYS, prob=probability, spatial_axis=axis, **_LABEL_MAY_LACK)
    return Step(f"flip {'XYZ'[axis]}, p {probability:g}", kind, flip)


def _interpolated(transform: Transform) -> Compose:
    """MONAI gives labels back as float32 after an interpolation; they stay uint8 here."""
    return Compose([transform, CastToTyped("label", np.uint8, **_LABEL_MAY_LACK)])


def _by(size: Sequence[int]) -> str:
    return "x".join(map(str, size))


def _resize(*shape: int) -> Compose:
    # PyTorch's "nearest" rounds down, which shifts a label by up to half a voxel against its image
    mode = ("trilinear" if len(shape) == 3 else "bilinear", "nearest-exact")
    return _interpolated(Resized(KEYS, shape, mode=mode, **_LABEL_MAY_LACK))


def _rotate() -> Compose:
    angle = math.radians(DEGREES)
    ranges: dict[str, Any] = {"range_x": angle, "range_y": angle, "range_z": angle}
    return _interpolated(RandRotated(KEYS, **ranges, prob=0.5, mode=IMAGE_AND_LABEL, **_LABEL_MAY_LACK))


def _elastic() -> Compose:
    options: dict[str, Any] = {"prob": 0.5, "mode": IMAGE_AND_LABEL, "padding_mode": "border", **_LABEL_MAY_LACK}
    return _interpolated(Rand3DElasticd(KEYS, ELASTIC_SIGMA, ELASTIC_MAGNITUDE, **options))


def _space(spacing: float) -> Step:
    change = _interpolated(Spacingd(KEYS, (spacing,) * 3, mode=IMAGE_AND_LABEL, **_LABEL_MAY_LACK))
    return Step(f"spacing {spacing:g} mm", "fixed", change)


def r0(size: Sequence[int] = (128, 128, 128), spacing: float = 0.0) -> tuple[Step, ...]:
    """R0, Swin-UNETR: z-score of each modality over its non-zero voxels, random patches, flips, shift and scale.

    Args:
        size: of the patch; 128^3 stated.
        spacing: mm that scans are brought to first; 0: their own, as R0 has it.
    """
    pad = SpatialPadd(KEYS, size, **_LABEL_MAY_LACK)
    patch = RandSpatialCropd(KEYS, size, random_size=False, **_LABEL_MAY_LACK)
    return (
        *([_space(spacing)] if spacing else []),
        Step("z-score over non-zero", "fixed", Imaged(arrays.zscore_nonzero)),
        Step("regions ET, TC, WT", "fixed", ToRegionsd(R0_REGIONS)),
        Step(f"pad to at least {_by(size)}", "fixed", pad, unstated=True),
        Step(f"random patch {_by(size)}", "patch", patch),
        *(_flip(axis) for axis in range(3)),
        Step("shift by up to .1", "random", RandShiftIntensityd("image", 0.1, prob=1.0), unstated=True),
        Step("scale by up to .1", "random", RandScaleIntensityd("image", 0.1, prob=1.0), unstated=True),
    )


def _clip_r1(image: np.ndarray) -> np.ndarray:
    return arrays.clip_percentiles(image, *R1_PERCENTILES, np.any(image > 0, axis=0))


def _zscore_everything(image: np.ndarray) -> np.ndarray:
    return arrays.zscore(image, np.ones(image.shape[1:], bool))


def r1(size: Sequence[int] = (128, 128, 128)) -> tuple[Step, ...]:
    """R1, 3D U-Net and others on BraTS 2024: clip, z-score over the whole volume, crop to the tumour + 20, resize.

    Args:
        size: of the network's grid; not stated.
    """
    leak = "the box is that of the truth: at test time there is none, and the scores come from easier images"
    zscore = "background is most of the volume: mean and sd say how large the head is, not how bright the tissue"
    geometry = "each case is stretched by other factors along each axis: a millimetre is not a millimetre any more"
    smaller = [max(1, round(0.9 * n)) for n in size]
    crop = RandSpatialCropd(KEYS, smaller, random_size=False, **_LABEL_MAY_LACK)
    return (
        Step("clip to percentiles 2.5-97.5 of the brain (> 0)", "fixed", Imaged(_clip_r1)),
        Step("z-score over the whole volume", "fixed", Imaged(_zscore_everything), mistake=zscore),
        Step(f"crop to the tumour's box + {R1_MARGIN}", "fixed", CropBoxd(TumourBox(R1_MARGIN)), mistake=leak),
        Step(f"resize to {_by(size)}", "fixed", _resize(*size), mistake=geometry, unstated=True),
        Step("rotation up to 15 degrees", "random", _rotate(), unstated=True),
        Step("elastic deformation", "random", _elastic(), unstated=True),
        Step("Gaussian filter", "random", RandGaussianSmoothd("image", prob=0.5), unstated=True),
        *(_flip(axis, kind="random") for axis in range(3)),
        Step("random crop of nine tenths", "random", crop, unstated=True),
        Step("resize back", "random", _resize(*size), unstated=True),
    )


def r2(side: int = LGG_SIDE) -> tuple[Step, ...]:
    """R2, 2D LGG slices: 256x256 8 bit colours resized to 128. No augmentation is stated. Items of `load_slice`.

    Args:
        side: rows and columns of the result; 128 stated.
    """
    resize = _resize(side, side)
    unit = ScaleIntensityRanged("image", 0, 255, 0, 1)
    return (
        Step("0-255 to 0-1", "fixed", unit, unstated=True),
        Step(f"resize to {side}x{side}", "fixed", resize),
    )


def r3(size: Sequence[int] = (128, 128, 128)) -> tuple[Step, ...]:
    """R3, 3D U-Net with Dice + Focal: each modality min-max to 0-1, the whole scan resized to 128^3.

    Class numbers 0 to 3 (4 becomes 3) are what `load_case` gives.

    Args:
        size: of the network's grid; 128^3 stated.
    """
    outliers = "one bright voxel sets the maximum: the tissue is squeezed into a part of 0-1 that differs between cases"
    geometry = "240x240x155 becomes a cube: voxels of 1.875x1.875x1.21 mm, and shapes are stretched along Z"
    return (
        Step("min-max to 0-1", "fixed", Imaged(arrays.min_max), mistake=outliers),
        Step(f"resize to {_by(size)}", "fixed", _resize(*size), mistake=geometry),
        Step("rotation up to 15 degrees", "random", _rotate(), unstated=True),
        *(_flip(axis, kind="random") for axis in range(3)),
        Step("elastic deformation", "random", _elastic(), unstated=True),
        Step("scale by up to .1", "random", RandScaleIntensityd("image", 0.1, prob=0.5), unstated=True),
        Step("shift by up to .1", "random", RandShiftIntensityd("image", 0.1, prob=0.5), unstated=True),
    )


def r4(multiple: int | None = None, spacing: float = 1.0) -> tuple[Step, ...]:
    """R4, MONAI UNet: its pipeline in its stated order, random transforms before the normalisation.

    "Axes 1 and 2" are MONAI's `spatial_axis`, Y and Z. `load_case` has turned the scan to RAS already, so that step
    changes nothing here; it stays because the report names it.

    Args:
        multiple: pad the end result to a multiple of this. None is the report's own pipeline, whose 229x229x144
            MONAI's UNet with four strides of 2 refuses; the runnable recipe uses 16.
        spacing: mm; 1 stated.
    """
    order = (
        "the z-score that follows undoes scale and shift of the brain; and where the shift has lifted the air off 0, "
        "it is taken over the whole grid"
    )
    borders = "240x240x155 leaves 229x229x144, and 229 is not divisible by 16: the network refuses it"
    bias = RandBiasFieldd("image", degree=2, prob=0.5)
    crop = CropBoxd(BorderBox(R4_START, R4_END))
    steps = (
        Step("regions TC, WT, ET", "fixed", ToRegionsd(R4_REGIONS)),
        Step("orientation RAS", "fixed", Orientationd(KEYS, axcodes="RAS", labels=None, **_LABEL_MAY_LACK)),
        _space(spacing),
        Step("rotate by 90 degrees, p .5", "random", RandRotate90d(KEYS, prob=0.5, **_LABEL_MAY_LACK)),
        _flip(1, kind="random"),
        _flip(2, kind="random"),
        Step("scale by up to .1, p .25", "random", RandScaleIntensityd("image", 0.1, prob=0.25), mistake=order),
        Step("shift by up to .1, p .25", "random", RandShiftIntensityd("image", 0.1, prob=0.25), mistake=order),
        Step("Gaussian noise, p .25", "random", RandGaussianNoised("image", prob=0.25), mistake=order),
        Step("bias field of degree 2, p .5", "random", bias),
        Step("z-score over non-zero", "fixed", Imaged(arrays.zscore_nonzero)),
        Step(f"crop {R4_START} from the start, {R4_END} from the end", "fixed", crop, mistake=borders),
    )
    if multiple is None:
        return steps
    pad = DivisiblePadd(KEYS, multiple, **_LABEL_MAY_LACK)
    return (*steps, Step(f"pad to a multiple of {multiple}", "fixed", pad))
