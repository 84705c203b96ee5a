"""How much of a scan an output voxel depends on: from the layers on paper, and measured.

Two rules give the receptive field of a chain of layers. A kernel of k adds k - 1 steps on the grid that it works on; a
stride makes the steps of all later layers longer, an enlargement shorter. For R1's FCNN: a convolution of 3 (field 3),
a pooling of 2 (field 4, steps of 2), a transposed convolution of 2 (field 4, steps of 1): 4 voxels a side.

In a U-Net the chain is the deepest way through it, down to the bottom and up again; the skips are shorter ways, with
smaller fields inside. What comes out is the mean over output voxels, since a voxel at a cell's edge sees less to one
side.

The field is what *can* matter. How much each voxel of it does is another thing: in trained networks the middle counts
most and the field that matters is far smaller (Luo et al., NeurIPS 2016, arXiv 1701.04128).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from brainseg_utils.errors import SettingError
from brainseg_utils.models.resunet3d import Shuffle, Unshuffle

Step = tuple[int, float]  # kernel; how many voxels of its grid a step of it is: 2 down, 0.5 up, 1 neither

SPATIAL_NORMS = (nn.InstanceNorm3d, nn.GroupNorm, nn.BatchNorm3d)


@dataclass(frozen=True)
class Field:
    """A layer and how much an output of it sees.

    Attributes:
        layer: its name in the network.
        kernel: in voxels of its grid.
        jump: distance of two neighbouring outputs in voxels of the scan.
        size: of the receptive field in voxels of the scan.
    """

    layer: str
    kernel: int
    jump: float
    size: float


def receptive_field(chain: Sequence[Step]) -> float:
    """The receptive field of a chain of layers, in voxels a side.

    Example:
        >>> receptive_field([(3, 1), (2, 2), (1, 0.5)])  # R1's FCNN
        4.0
        >>> receptive_field([(3, 1)] * 10)  # ten convolutions without pooling
        21.0
    """
    size, jump = 1.0, 1.0
    for kernel, stride in chain:
        size += (kernel - 1) * jump
        jump *= stride
    return size


def fields(network: nn.Module, shape: Sequence[int]) -> list[Field]:
    """The receptive field layer by layer along the deepest way through a network.

    The way is found by running the network once, on the meta device: each layer that looks at neighbours or changes
    the grid counts in the order in which it works. That is right for chains and U-Nets whose side branches are
    convolutions of 1x1x1, as those of the ladder are; MONAI's networks have others, and are measured instead.

    Args:
        network: of the ladder; it is not changed.
        shape: of a batch, (N, C, X, Y, Z).

    Returns:
        One record a layer; the last one's size is the network's.

    Example:
        >>> from brainseg_utils.models.registry import build
        >>> [(f.layer, f.size) for f in fields(build("fcnn3d"), (1, 4, 16, 16, 16))]
        [('conv', 3.0), ('pool', 4.0), ('up', 4.0)]
    """
    twin = copy.deepcopy(network).to("meta").eval()
    met: list[tuple[str, Step]] = []
    for name, module in twin.named_modules():
        step = _step(module)
        if step is not None:
            module.register_forward_hook(lambda *_, name=name, step=step: met.append((name, step)))
    with torch.no_grad():
        twin(torch.zeros(*shape, device="meta"))
    found, size, jump = [], 1.0, 1.0
    for name, (kernel, stride) in met:
        size += (kernel - 1) * jump
        jump *= stride
        found.append(Field(name, kernel, jump, size))
    return found


def _step(module: nn.Module) -> Step | None:
    """Kernel and stride of a layer; None for what neither looks at neighbours nor changes the grid."""
    if isinstance(module, nn.ConvTranspose3d):
        if module.kernel_size != module.stride:
            raise SettingError(
                f"a transposed convolution of {module.kernel_size} with stride {module.stride}",
                expected="kernel and stride alike: each output voxel then has one parent",
                remedy="measure the field with receptive.measured",
            )
        return (1, 1 / module.stride[0])
    if isinstance(module, nn.Conv3d):
        # A 1x1x1 convolution sees one voxel; with a stride it is a shortcut beside a layer that counts already.
        return (module.kernel_size[0], module.stride[0]) if module.kernel_size[0] > 1 else None
    if isinstance(module, nn.MaxPool3d):
        return (int(module.kernel_size), int(module.stride))  # type: ignore[arg-type]
    if isinstance(module, nn.Upsample):
        return (1, 1 / float(module.scale_factor))  # type: ignore[arg-type]
    if isinstance(module, Unshuffle):
        return (2, 2)
    return (1, 0.5) if isinstance(module, Shuffle) else None


def measured(network: nn.Module, size: int, channels: int = 4, period: int = 1, across: int = 8) -> float:
    """The receptive field as gradients show it: which input voxels change an output voxel at all.

    Measured on a copy in which nothing hides a dependence: convolutions that only add, means in place of maxima, no
    norms over the image, no dropout.

    Args:
        network: that gives logits in evaluation mode; it is not changed.
        size: of the input along X, larger than the field.
        channels: of the input.
        period: average over so many neighbouring output voxels along X, since a voxel at a cell's edge sees less to
            one side: 2 to the number of halvings for the mean over all of them.
        across: of the input along Y and Z, which do not matter and are kept short to be quick.

    Returns:
        Voxels along X.
    """
    twin = _transparent(network)
    image = torch.full((1, channels, size, across, across), 0.5, requires_grad=True)
    output: Tensor = twin(image)
    extents = []
    for place in range(size // 2, size // 2 + period):
        (gradient,) = torch.autograd.grad(output[0, :, place, across // 2, across // 2].sum(), image, retain_graph=True)
        reached = (gradient[0].abs().sum(dim=(0, 2, 3)) > 0).nonzero()[:, 0]
        extents.append(int(reached[-1] - reached[0]) + 1)
    return sum(extents) / period


def _transparent(network: nn.Module) -> nn.Module:
    twin = copy.deepcopy(network).eval()
    for name, module in list(twin.named_modules()):
        replacement: nn.Module | None = None
        if isinstance(module, nn.MaxPool3d):
            replacement = nn.AvgPool3d(module.kernel_size, module.stride)  # type: ignore[arg-type]
        elif isinstance(module, SPATIAL_NORMS):
            replacement = nn.Identity()
        elif isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            with torch.no_grad():
                module.weight.fill_(1 / module.weight[0].numel())
                if module.bias is not None:
                    module.bias.zero_()
        if replacement is not None:
            parent, _, last = name.rpartition(".")
            setattr(twin.get_submodule(parent), last, replacement)
    return twin
