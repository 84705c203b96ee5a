"""A second set of weights that follows the first slowly: what is validated, kept and used for prediction.

After each step every weight moves a share 1 - decay of the way to the network's. The noise of single batches averages
out. Source: Polyak and Juditsky 1992 (doi:10.1137/0330046).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

WARM = 10
"""After n steps the decay is (1 + n) / (WARM + n) at most, so that the first random weights are soon forgotten."""


class Ema:
    """The slow weights of a network.

    Args:
        network: whose weights are followed; batch-norm statistics are averages themselves, and are copied.
        decay: share of the old weights that stays, 0 to 1.

    Example:
        >>> network = nn.Linear(1, 1, bias=False)
        >>> ema = Ema(network, decay=0.5)
        >>> before = float(network.weight.detach())
        >>> _ = network.weight.data.fill_(before + 1)
        >>> ema.update(network, step=1000)
        >>> round(float(ema.weights["weight"]) - before, 3)
        0.5
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {name: t.detach().clone() for name, t in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Moves towards the network's weights; `step` counts the steps done, from 0."""
        share = 1 - min(self.decay, (1 + step) / (WARM + step))
        learned = {name for name, _ in network.named_parameters()}
        for name, now in network.state_dict().items():
            if name in learned:
                self.weights[name].lerp_(now, share)
            else:
                self.weights[name].copy_(now)

    @contextmanager
    def inside(self, network: nn.Module) -> Iterator[None]:
        """The network computes with the slow weights, and has its own back afterwards."""
        own = {name: t.detach().clone() for name, t in network.state_dict().items()}
        network.load_state_dict(self.weights)
        try:
            yield
        finally:
            network.load_state_dict(own)

    def restore(self, weights: Mapping[str, Tensor]) -> None:
        """Goes on from weights that a checkpoint held."""
        for name, value in weights.items():
            self.weights[name].copy_(value)
