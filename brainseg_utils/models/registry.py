"""Networks by name: what a recipe's `[network]` table asks for."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brainseg_utils.errors import unknown

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Entry:
    """Where a network is.

    Attributes:
        module: of the package.
        class_name: in it.
        title: for headings.
        dimensions: 2 or 3, of its images.
        parameters: at its stated size, None where it is no report's.
    """

    module: str
    class_name: str
    title: str
    dimensions: int
    parameters: int | None = None


NETWORKS: Mapping[str, Entry] = {
    "unet2d": Entry("brainseg_utils.models.unet2d", "UNet2D", "R2 U-Net", 2, 1_862_849),
    "setr": Entry("brainseg_utils.models.setr", "SETR", "R2 SETR", 2),
    "resunet2d": Entry("brainseg_utils.models.resunet2d", "ResUNet2D", "Residual U-Net, 2D", 2),
    "fcnn3d": Entry("brainseg_utils.models.fcnn3d", "FCNN3D", "R1 FCNN", 3, 9_541),
    "unet3d_r1": Entry("brainseg_utils.models.unet3d_r1", "UNet3DR1", "R1 U-Net without skips", 3, 901_477),
    "residual_unet3d": Entry("brainseg_utils.models.residual_unet3d", "ResidualUNet3D", "R1 Residual U-Net", 3),
    "unet3d": Entry("brainseg_utils.models.unet3d", "UNet3D", "R3 U-Net", 3),
    "monai_unet": Entry("brainseg_utils.models.monai_unet", "MonaiUNet", "R4 MONAI UNet", 3, 4_812_512),
    "segresnet": Entry("brainseg_utils.models.segresnet", "SegResNet3D", "SegResNet with VAE branch", 3),
    "swin_unetr": Entry("brainseg_utils.models.swin_unetr", "SwinUNETR3D", "R0 Swin-UNETR", 3, 62_191_941),
    "resunet3d": Entry("brainseg_utils.models.resunet3d", "ResUNet3D", "Residual U-Net, 3D", 3),
}


def check(name: str, options: Mapping[str, Any] | None = None) -> Entry:
    """Refuses a network or an option that does not exist, before anything heavy is imported or built.

    Raises:
        SettingError: unknown, with the nearest name.

    Example:
        >>> check("unet2")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        brainseg_utils.errors.SettingError: unknown network 'unet2'; expected one of ...; did you mean 'unet2d'?
    """
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    entry = NETWORKS[name]
    known = inspect.signature(kind(entry)).parameters
    for option in options or {}:
        if option not in known:
            raise unknown("option", option, known, where=f"network {name}")
    return entry


def build(name: str, **options: Any) -> nn.Module:
    """A network by name.

    Args:
        name: key of `NETWORKS`.
        **options: of its class, such as `width`.

    Raises:
        SettingError: unknown network or option.

    Example:
        >>> count_parameters(build("unet2d", width=4))
        7469
    """
    entry = check(name, options)
    return kind(entry)(**options)


def on_paper(name: str, **options: Any) -> nn.Module:
    """The same on PyTorch's meta device: shapes without content, so that a network of any size takes a moment.

    Example:
        >>> f"{count_parameters(on_paper('swin_unetr')):,}"
        '62,191,941'
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class KeepNumbers(TorchFunctionMode):
        """MONAI draws its dropout rates with `linspace` and reads them: these few must have content."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = {**(kwargs or {}), **({"device": "cpu"} if func is torch.linspace else {})}
            return func(*args, **kwargs)

    with torch.device("meta"), KeepNumbers():
        return build(name, **options)


def count_parameters(network: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def count_by_part(network: nn.Module, depth: int = 1) -> dict[str, int]:
    """The same, part by part.

    Args:
        network: any.
        depth: how far to follow the names: 1 for `down`, 2 for `down.0`.

    Returns:
        Name of the part to parameters, in the order of the network; they add up to `count_parameters`.

    Example:
        >>> count_by_part(build("fcnn3d"))
        {'conv': 6976, 'up': 2565}
    """
    counts: dict[str, int] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            part = ".".join(name.split(".")[:-1][:depth])
            counts[part] = counts.get(part, 0) + parameter.numel()
    return counts


def penalty(network: nn.Module) -> Tensor | float:
    """What a network adds to the loss of the last batch: the autoencoder branch of `segresnet`; 0 for the others."""
    take = getattr(network, "take_penalty", None)
    found = take() if take else None
    return 0.0 if found is None else found


def kind(entry: Entry) -> type[nn.Module]:
    """The class of an entry."""
    return getattr(importlib.import_module(entry.module), entry.class_name)
