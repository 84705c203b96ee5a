"""Masked reconstruction: a network learns anatomy and contrast by filling in what was hidden, without any label.

Cubes of a patch are set to 0 in all modalities, and the network returns the modalities there. Its weights are then
where a segmentation begins (`engine.start`). Source: simple masked image modelling, Xie et al. 2022 (arXiv 2111.09886);
for Swin-UNETR with more tasks beside it, Tang et al. 2022 (arXiv 2111.14791).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from brainseg_utils.errors import SettingError
from brainseg_utils.seeds import stream
from brainseg_utils.training.data import Batch, Samples


class Masked:
    """Samples whose images have holes and whose labels are what was there.

    Args:
        samples: of images (N, C, X, Y, Z), 0 outside the head.
        side: of a cube in voxels.
        share: of the cubes that are hidden.
        seed: of which.

    Raises:
        SettingError: a side below 1, or a share that hides nothing or everything.
    """

    def __init__(self, samples: Samples, side: int, share: float, seed: int) -> None:
        if side < 1:
            raise SettingError(f"data.side = {side}", expected="voxels, 1 or more")
        if not 0 < share < 1:
            raise SettingError(f"data.share = {share}", expected="a share between 0 and 1")
        self.samples, self.side, self.share, self.seed = samples, side, share, seed

    def __len__(self) -> int:
        """Samples of one pass."""
        return len(self.samples)

    def batch(self, numbers: Sequence[int], channels_last: bool = False) -> Batch:
        """ "image" with holes, "label" (N, C, X, Y, Z) float32: the head in the holes, NaN elsewhere; and "case"."""
        whole = self.samples.batch(numbers, channels_last)
        image = whole["image"]
        holes = torch.stack([self._holes(number, image.shape[2:]) for number in numbers])[:, None]
        head = (image != 0).any(dim=1, keepdim=True)
        label = torch.where(holes & head, image, torch.nan)
        return {"image": image.masked_fill(holes, 0), "label": label, "case": whole["case"]}

    def _holes(self, number: int, shape: Sequence[int]) -> torch.Tensor:
        rng = stream(self.seed, "holes of a patch", number)
        cubes = np.zeros([-(-n // self.side) for n in shape], bool)
        hidden = rng.choice(cubes.size, max(round(self.share * cubes.size), 1), replace=False)
        cubes.reshape(-1)[hidden] = True
        for axis in range(cubes.ndim):
            cubes = cubes.repeat(self.side, axis)
        return torch.from_numpy(cubes[tuple(slice(n) for n in shape)].copy())
