"""Samples of two sources in one training: a few real cases, and phantoms beside them that keep a network from
learning those few by heart.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from brainseg_utils.errors import SettingError
from brainseg_utils.seeds import stream
from brainseg_utils.training.data import Batch, Samples


class Mixed:
    """Sample n comes from the one source or the other, as (seed, n) says.

    Args:
        cases: samples of real cases; one pass is as long as theirs.
        made: samples that never end, of the same size, channels and targets.
        share: of the samples that are from `cases`.
        seed: of which.

    Raises:
        SettingError: a share that leaves one source out.
    """

    def __init__(self, cases: Samples, made: Samples, share: float, seed: int) -> None:
        if not 0 < share < 1:
            raise SettingError(f"data.share = {share}", expected="a share between 0 and 1")
        self.cases, self.made, self.share, self.seed = cases, made, share, seed

    def __len__(self) -> int:
        """Samples of one pass."""
        return len(self.cases)

    def batch(self, numbers: Sequence[int], channels_last: bool = False) -> Batch:
        """ "image", "label" and "case" of these samples, as both sources give them."""
        parts = [self._source(number).batch([number], channels_last) for number in numbers]
        joined: Batch = {key: torch.cat([part[key] for part in parts]) for key in ("image", "label")}
        return {**joined, "case": [case for part in parts for case in part["case"]]}

    def _source(self, number: int) -> Samples:
        return self.cases if stream(self.seed, "source of a sample", number).random() < self.share else self.made
