"""From probabilities to a mask: what is left of a prediction when each component must earn its place."""

from __future__ import annotations

import numpy as np

THRESHOLD = 0.4
SHARE = 0.25


def keep_heavy(probability: np.ndarray, threshold: float = THRESHOLD, share: float = SHARE) -> np.ndarray:
    """The components of a prediction whose summed probability is a good part of the heaviest one's.

    False alarms are small and unsure; a second lesion is neither. Keeping the largest component only was seen to delete
    the true lesion; the sum of probabilities weighs size and certainty together.

    Args:
        probability: (X, Y, Z), 0 to 1.
        threshold: a voxel with this probability or more is tumour.
        share: of the heaviest component's sum, below which a component is dropped; 0 keeps all.

    Returns:
        Boolean (X, Y, Z). Components are 26-connected: voxels that share a corner belong together.

    Example:
        >>> p = np.zeros((9, 1, 1)); p[0:4] = 0.9; p[5] = 0.5; p[7:9] = 0.8
        >>> keep_heavy(p).astype(int).ravel().tolist()
        [1, 1, 1, 1, 0, 0, 0, 1, 1]
    """
    import cc3d

    mask = probability >= threshold
    components = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26)
    weight = np.bincount(components.ravel(), probability.ravel().astype(np.float64))
    weight[0] = 0.0
    kept = weight >= share * weight.max()
    kept[0] = False
    return kept[components]
