"""How like real tissue a painted one is: brightness, texture, and the two distributions as a whole.

A single picture convinces or does not; these measures say in what respect. Brightness and texture are compared tissue
by tissue in the image's own unit. Distributions are compared on features (N, F): what some network computes from a
patch, so the name of that network belongs beside each such number. All of them need many patches: the Fréchet distance
of two samples of one distribution is far above 0 when N is not much larger than F, so it is only to be read beside the
distance between two halves of the real patches.

Sources: Fréchet distance of two normal distributions, Dowson and Landau 1982 (doi 10.1016/0047-259X(82)90077-X), on
features, Heusel et al. (arXiv 1706.08500); precision and recall, Kynkäänniemi et al. (arXiv 1904.06991).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from brainseg_utils.errors import SettingError

if TYPE_CHECKING:
    import pandas as pd

LAGS = (1, 2, 4)
NEIGHBOURS = 3
LEAST = 8  # voxels of a tissue below which its texture is not measured


def tissue_table(
    real: Sequence[tuple[np.ndarray, np.ndarray]],
    made: Sequence[tuple[np.ndarray, np.ndarray]],
    tissues: Mapping[int, str],
    modalities: Sequence[str],
) -> pd.DataFrame:
    """Brightness of each tissue in each modality, real and made.

    Args:
        real: images (C, X, Y, Z) and their class numbers (X, Y, Z).
        made: likewise.
        tissues: class number to name; 0 may be among them, for the healthy tissue.
        modalities: names of the channels.

    Returns:
        One row a tissue and modality that both have: `tissue, modality, real, made` (means), `real_sd, made_sd`,
        `distance`: mean distance between the two histograms (Wasserstein's), all in the image's unit.

    Example:
        >>> image, label = np.arange(4.0).reshape(1, 4, 1, 1), np.ones((4, 1, 1), int)
        >>> tissue_table([(image, label)], [(image + 2, label)], {1: "NETC"}, ["t1n"]).values.tolist()
        [['NETC', 't1n', 1.5, 3.5, 1.118033988749895, 1.118033988749895, 2.0]]
    """
    import pandas as pd
    from scipy.stats import wasserstein_distance

    rows = []
    for number, tissue in tissues.items():
        inside = [
            np.concatenate([image[:, label == number] for image, label in group], axis=1) for group in (real, made)
        ]
        if min(values.shape[1] for values in inside) == 0:
            continue
        for channel, modality in enumerate(modalities):
            one, other = (values[channel].astype(float) for values in inside)
            far = float(wasserstein_distance(one, other))
            rows.append((tissue, modality, one.mean(), other.mean(), one.std(), other.std(), far))
    columns = ["tissue", "modality", "real", "made", "real_sd", "made_sd", "distance"]
    return pd.DataFrame(rows, columns=columns)


def closed_gap(real: float, made: float, healthy: float) -> float:
    """How much of the way from the healthy mean to the real tissue's the made one has gone: 1 is all of it.

    Example:
        >>> closed_gap(real=2.0, made=1.5, healthy=0.0)
        0.75
    """
    return 1 - abs(made - real) / abs(healthy - real)


@dataclass(frozen=True)
class Texture:
    """Texture of one tissue in one modality.

    Attributes:
        sd: of its voxels, in the image's unit.
        correlation: of voxels that lie 1, 2 and 4 apart (`LAGS`), over the three axes: 1 is smooth, 0 is noise; NaN
            where no two such voxels are in the tissue.
    """

    sd: float
    correlation: tuple[float, ...]


def texture(image: np.ndarray, mask: np.ndarray, lags: Sequence[int] = LAGS) -> Texture:
    """Texture inside a mask.

    Args:
        image: (X, Y, Z), one modality.
        mask: boolean (X, Y, Z).
        lags: distances in voxels.

    Example:
        >>> ramp = np.repeat(np.arange(8.0), 64).reshape(8, 8, 8)
        >>> found = texture(ramp, np.ones((8, 8, 8), bool), lags=(1,))
        >>> round(found.sd, 3), round(found.correlation[0], 3)
        (2.291, 0.905)
    """
    inside = mask.astype(bool)
    if inside.sum() < LEAST:
        return Texture(np.nan, (np.nan,) * len(lags))
    values = np.where(inside, image - image[inside].mean(), 0.0)
    variance = float((values[inside] ** 2).mean())
    found = []
    for lag in lags:
        products, pairs = 0.0, 0
        for axis in range(3):
            if image.shape[axis] <= lag:
                continue
            low, high = ([slice(None)] * 3 for _ in range(2))
            low[axis], high[axis] = slice(None, -lag), slice(lag, None)
            both = inside[tuple(low)] & inside[tuple(high)]
            products += float((values[tuple(low)] * values[tuple(high)])[both].sum())
            pairs += int(both.sum())
        found.append(products / pairs / variance if pairs and variance > 0 else np.nan)
    return Texture(float(np.sqrt(variance)), tuple(found))


def frechet(mean: np.ndarray, covariance: np.ndarray, other_mean: np.ndarray, other_covariance: np.ndarray) -> float:
    """Squared Fréchet distance of two normal distributions.

    |m1 - m2|² + tr(C1 + C2 - 2 (C1^½ C2 C1^½)^½)

    Args:
        mean, other_mean: (F,).
        covariance, other_covariance: (F, F).

    Example:
        >>> frechet(np.zeros(2), np.eye(2), np.array([3.0, 4.0]), 4 * np.eye(2))
        27.0
    """
    root = _root(covariance)
    mixed = np.linalg.eigvalsh(root @ other_covariance @ root)
    spread = np.trace(covariance) + np.trace(other_covariance) - 2 * np.sqrt(np.clip(mixed, 0, None)).sum()
    return float(((mean - other_mean) ** 2).sum() + max(spread, 0.0))


def frechet_distance(real: np.ndarray, made: np.ndarray) -> float:
    """The same between two samples of features (N, F) and (M, F), taken as normal.

    Raises:
        SettingError: one of them has fewer than two rows, or they differ in F.
    """
    _check(real, made, 2)
    return frechet(real.mean(axis=0), np.cov(real, rowvar=False), made.mean(axis=0), np.cov(made, rowvar=False))


def precision_recall(real: np.ndarray, made: np.ndarray, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """Whether what is made is like the real (precision), and all that is real is made (recall).

    Each sample stands for a ball as far as its k-th neighbour in its own set. Precision is the share of the made that
    lie in a ball of the real, recall the share of the real that lie in a ball of the made.

    Args:
        real: features (N, F).
        made: features (M, F).
        neighbours: k.

    Raises:
        SettingError: one of them has k rows or fewer, or they differ in F.

    Example:
        >>> row = np.arange(10.0)[:, None]
        >>> precision_recall(row, row[:5])  # good, but half of it is never made
        (1.0, 0.8)
    """
    _check(real, made, neighbours + 1)
    return _covered(made, real, neighbours), _covered(real, made, neighbours)


@dataclass(frozen=True)
class Nearest:
    """The training patch nearest to each made one.

    Attributes:
        index: (M,) of the training patch.
        distance: (M,) to it.
        usual: (H,) distances of real patches that were not trained on to their nearest training patch.
        copied: share of the made that lie nearer than `usual`'s smallest.
    """

    index: np.ndarray
    distance: np.ndarray
    usual: np.ndarray
    copied: float


def nearest(made: np.ndarray, training: np.ndarray, held_out: np.ndarray) -> Nearest:
    """Looks for copies: a made patch that lies nearer to a training patch than any other real patch does.

    Args:
        made: features or voxels (M, F).
        training: (N, F), what the generator was trained on.
        held_out: (H, F), real patches that it was not.

    Raises:
        SettingError: one is empty, or they differ in F.

    Example:
        >>> training = np.array([[0.0], [10.0]])
        >>> nearest(np.array([[0.01], [5.0]]), training, np.array([[1.0], [8.0]])).copied
        0.5
    """
    _check(made, training, 1)
    _check(made, held_out, 1)
    distances, usual = _distances(made, training), _distances(held_out, training).min(axis=1)
    own = distances.min(axis=1)
    return Nearest(distances.argmin(axis=1), own, usual, float((own < usual.min()).mean()))


def _covered(points: np.ndarray, centres: np.ndarray, neighbours: int) -> float:
    radius = np.sort(_distances(centres, centres), axis=1)[:, neighbours]  # column 0 is the centre itself
    return float((_distances(points, centres) <= radius).any(axis=1).mean())


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    from scipy.spatial.distance import cdist

    return cdist(np.asarray(one, float), np.asarray(other, float))


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def _check(one: np.ndarray, other: np.ndarray, rows: int) -> None:
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1] or min(len(one), len(other)) < rows:
        raise SettingError(
            f"features of shapes {one.shape} and {other.shape}", expected=f"(N, F) and (M, F), {rows} rows or more each"
        )
