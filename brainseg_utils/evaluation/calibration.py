"""Whether a model knows when it is wrong: calibration, uncertainty, and what rejecting the doubtful part gains.

Sources: Naeini 2015 (expected calibration error), Guo 2017 (arXiv 1706.04599, reliability diagrams), Wang 2019 (doi
10.1016/j.neucom.2019.01.103, uncertainty from test-time augmentation).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

BINS = 10
KEPT_SHARES = tuple(float(share) for share in np.linspace(1.0, 0.5, 11))


def reliability(probability: np.ndarray, truth: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """Predicted probability against observed frequency, in classes of equal width.

    Args:
        probability: any shape, 0 to 1.
        truth: booleans of the same shape.
        bins: number of classes.

    Returns:
        One row a class that holds voxels: `low, high, voxels, confidence, frequency`, where `confidence` is the mean
        probability and `frequency` the share of true voxels.

    Example:
        >>> import numpy as np
        >>> table = reliability(np.array([0.1, 0.1, 0.9, 0.9]), np.array([False, False, True, False]), bins=2)
        >>> table["frequency"].tolist()
        [0.0, 0.5]
    """
    import pandas as pd

    flat, hits = np.ravel(probability).astype(float), np.ravel(truth).astype(float)
    index = np.minimum((flat * bins).astype(int), bins - 1)
    voxels = np.bincount(index, minlength=bins)
    used = np.flatnonzero(voxels)
    confidence = np.bincount(index, flat, bins)[used] / voxels[used]
    frequency = np.bincount(index, hits, bins)[used] / voxels[used]
    limits = {"low": used / bins, "high": (used + 1) / bins}
    return pd.DataFrame({**limits, "voxels": voxels[used], "confidence": confidence, "frequency": frequency})


def calibration_error(table: pd.DataFrame) -> float:
    """Expected calibration error: the mean gap between confidence and frequency, weighted by voxels; 0 is perfect.

    Args:
        table: from `reliability`.
    """
    gap = (table["confidence"] - table["frequency"]).abs()
    return float((gap * table["voxels"]).sum() / table["voxels"].sum())


def entropy(probability: np.ndarray) -> np.ndarray:
    """Uncertainty of a binary probability in bits: 0 where it is 0 or 1, 1 where it is a half.

    Example:
        >>> import numpy as np
        >>> entropy(np.array([0.0, 0.5, 1.0])).tolist()
        [0.0, 1.0, 0.0]
    """
    p = np.asarray(probability, float)
    inside = (p > 0) & (p < 1)
    q = np.where(inside, p, 0.5)
    return np.where(inside, -(q * np.log2(q) + (1 - q) * np.log2(1 - q)), 0.0)


def disagreement(probabilities: np.ndarray) -> np.ndarray:
    """Uncertainty from several predictions of one scan (augmentations, members): their standard deviation.

    Args:
        probabilities: (N, ...) with one prediction along the first axis each, turned back to one orientation.

    Returns:
        (...) standard deviation over N.
    """
    return np.asarray(probabilities, float).std(axis=0)


def rejection_curve(uncertainty: np.ndarray, error: np.ndarray, kept: Sequence[float] = KEPT_SHARES) -> pd.DataFrame:
    """The error of what remains when the most uncertain share is handed to a human.

    The same for voxels (error: wrong or not) and for cases (error: 1 - Dice). An ideal order rejects the worst first; a
    useless one leaves the error as it is.

    Args:
        uncertainty: any shape.
        error: the same shape, higher is worse.
        kept: shares that remain, 0 to 1.

    Returns:
        One row a share: `kept, error, ideal, random`: mean error of the remaining part, in the order of uncertainty, in
        the best order there is, and in an order without information.
    """
    import pandas as pd

    doubt, wrong = np.ravel(uncertainty).astype(float), np.ravel(error).astype(float)
    by_doubt = np.cumsum(wrong[np.argsort(doubt, kind="stable")])
    by_error = np.cumsum(np.sort(wrong))
    rows = []
    for share in kept:
        n = max(1, round(share * len(wrong)))
        rows.append((share, by_doubt[n - 1] / n, by_error[n - 1] / n, by_error[-1] / len(wrong)))
    return pd.DataFrame(rows, columns=["kept", "error", "ideal", "random"])


def ranking_quality(uncertainty: np.ndarray, error: np.ndarray) -> float:
    """Probability that a wrong voxel is more uncertain than a right one (area under the ROC curve); 0.5 says nothing.

    Args:
        uncertainty: any shape.
        error: booleans of the same shape, with right and wrong ones among them; 0.5 if there is only one kind.
    """
    from scipy.stats import rankdata

    doubt, wrong = np.ravel(uncertainty), np.ravel(error).astype(bool)
    positives, negatives = int(wrong.sum()), int((~wrong).sum())
    if not positives or not negatives:
        return 0.5
    ranks = rankdata(doubt)[wrong].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))
