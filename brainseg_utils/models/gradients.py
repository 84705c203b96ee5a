"""How much of the loss's gradient arrives at each layer: the measure of what R1 called "vanishing gradient"."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


def gradient_norms(network: nn.Module, image: Tensor, loss: Callable[[Any], Tensor]) -> dict[str, float]:
    """The length of the gradient at each layer's weights, divided by the length of the weights.

    A step of gradient descent changes a layer by its gradient: the quotient says by which share. It can be compared
    between layers of different size and between networks with and without a softmax inside. The network runs once
    forward and once back; its weights, gradients and mode are as before.

    Args:
        network: in the mode in which it is to be measured.
        image: (N, C, ...).
        loss: what the network returns to a scalar.

    Returns:
        Layer to quotient, in the order in which the layers work; layers with weights of two axes or more count, norms
        do not.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
        >>> list(gradient_norms(network, torch.ones(1, 2), lambda out: out.sum()))
        ['0', '1']
    """
    order: dict[str, Tensor] = {}
    hooks = []
    for name, module in network.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.ndim > 1:
            hooks.append(module.register_forward_hook(partial(_note, order, name, weight)))
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        with torch.enable_grad():
            value = loss(network(image))
        gradients = torch.autograd.grad(value, list(order.values()), allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
        with torch.no_grad():  # batch norm learns from each pass in training mode
            for name, buffer in network.named_buffers():
                buffer.copy_(buffers[name])
    return {
        name: 0.0 if gradient is None else float(gradient.norm() / weight.detach().norm())
        for (name, weight), gradient in zip(order.items(), gradients, strict=True)
    }


def _note(order: dict[str, Tensor], name: str, weight: Tensor, *_: Any) -> None:
    """A hook: this layer works now."""
    order.setdefault(name, weight)
