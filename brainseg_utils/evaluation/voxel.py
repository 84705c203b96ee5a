"""Voxel-wise metrics: how many voxels two masks share, with every empty case defined.

An empty mask is no exception but an answer ("there is no enhancing tumour here"), so each metric has a value for it: 1
where both sides are empty, and where only one is, 0 or what the formula gives. NaN never appears.

Sources: evaluation contract, section 4. Dice, sensitivity and specificity are those of the BraTS 2023 scripts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Counts:
    """The four cells of a confusion matrix, in voxels.

    Example:
        >>> c = Counts(tp=3, fp=1, fn=2, tn=10)
        >>> round(c.dice, 3), c.iou, c.sensitivity, c.precision
        (0.667, 0.5, 0.6, 0.75)
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def both_empty(self) -> bool:
        """Whether neither mask has a voxel."""
        return not (self.tp or self.fp or self.fn)

    @property
    def dice(self) -> float:
        """2TP / (2TP + FP + FN); 1 if both are empty."""
        return 1.0 if self.both_empty else 2 * self.tp / (2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN), the Jaccard index; 1 if both are empty."""
        return 1.0 if self.both_empty else self.tp / (self.tp + self.fp + self.fn)

    @property
    def sensitivity(self) -> float:
        """TP / (TP + FN); 1 if both are empty, 0 if only the truth is."""
        return 1.0 if self.both_empty else _ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float:
        """TN / (TN + FP) over the whole volume, air included; 0 if nothing is background in the truth."""
        return _ratio(self.tn, self.tn + self.fp)

    @property
    def precision(self) -> float:
        """TP / (TP + FP); 1 if both are empty, 0 if only the prediction is."""
        return 1.0 if self.both_empty else _ratio(self.tp, self.tp + self.fp)

    @property
    def accuracy(self) -> float:
        """(TP + TN) / all voxels, air included."""
        return (self.tp + self.tn) / (self.tp + self.fp + self.fn + self.tn)

    @property
    def mean_accuracy(self) -> float:
        """Mean recall of the two classes: (sensitivity + specificity) / 2."""
        return (self.sensitivity + self.specificity) / 2

    @property
    def truth(self) -> int:
        """Voxels of the truth."""
        return self.tp + self.fn

    @property
    def prediction(self) -> int:
        """Voxels of the prediction."""
        return self.tp + self.fp


VOXELWISE = ("dice", "iou", "sensitivity", "specificity", "precision", "accuracy")


def count(truth: np.ndarray, prediction: np.ndarray) -> Counts:
    """Counts the voxels of two masks.

    Args:
        truth: booleans of any shape.
        prediction: booleans of the same shape.

    Example:
        >>> import numpy as np
        >>> count(np.array([True, True, False]), np.array([True, False, False]))
        Counts(tp=1, fp=0, fn=1, tn=1)
    """
    tp = int(np.count_nonzero(truth & prediction))
    fn = int(np.count_nonzero(truth)) - tp
    fp = int(np.count_nonzero(prediction)) - tp
    return Counts(tp, fp, fn, truth.size - tp - fp - fn)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
