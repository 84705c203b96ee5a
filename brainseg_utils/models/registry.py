"""Networks by name: what a recipe's `[network]` table asks for."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brainseg_utils.errors import unknown

if TYPE_CHECKING:
    from torch import nn


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
}


def check(name: str, options: Mapping[str, Any] | None = None) -> Entry:
    """Refuses a network or an option that does not exist, before anything heavy is imported or built.

    Raises:
        SettingError: unknown, with the nearest name.

    Example:
        >>> check("unet")
        Traceback (most recent call last):
        ...
        brainseg_utils.errors.SettingError: unknown network 'unet'; expected one of resunet2d, setr, unet2d; did you mean 'unet2d'?
    """  # noqa: E501
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


def count_parameters(network: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def kind(entry: Entry) -> type[nn.Module]:
    """The class of an entry."""
    return getattr(importlib.import_module(entry.module), entry.class_name)
