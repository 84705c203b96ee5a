"""The example notebook's exercises and questions; those of the course are in brainseg_utils/course."""

import sys
from pathlib import Path

import numpy as np

from brainseg_utils.course.checks import Checks, call, exercise, is_number, near
from brainseg_utils.course.quiz import Quiz


def _mask() -> tuple[np.ndarray]:
    mask = np.zeros((10, 10, 10), bool)
    mask[:4, :4, :4] = True
    return (mask,)


@exercise(
    right="Few voxels are inside: that is what class imbalance means.",
    context=_mask,
    solution=lambda mask: float(mask.mean()),
    wrong=lambda mask: [int(mask.sum()), 1 - float(mask.mean()), 100 * float(mask.mean()), "a fifteenth"],
)
def share(answer, mask):
    if not is_number(answer):
        return "a number between 0 and 1 is asked for"
    if near(answer, mask.mean()):
        return None
    if near(answer, 1 - mask.mean()):
        return "this is the share that lies outside"
    if answer > 1:
        return "a share is between 0 and 1: divide by the number of voxels"
    return "compare the voxels inside with all voxels"


@exercise(
    right="The voxel's volume turns a count into a volume, whatever the grid.",
    solution=lambda: lambda mask, voxel: float(mask.sum() * voxel / 1000),
    wrong=lambda: [lambda m, v: m.sum() * v, lambda m, v: m.sum() / 1000, lambda m: m.sum(), 8.0],
)
def millilitres(answer):
    (mask,) = _mask()
    volume = call(answer, mask, 8.0)
    if near(volume, mask.sum() * 8.0):
        return "this is in cubic millimetres"
    if near(volume, mask.sum() * 8.0 / 1000):
        return None
    return "a mask on a grid of 2 mm came out wrong: does the voxel's volume enter?"


CHECK = Checks(sys.modules[__name__])
QUIZ = Quiz("90", Path(__file__).parent)
