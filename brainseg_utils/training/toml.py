"""Tables to TOML text; the standard library only reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def to_toml(tables: Mapping[str, Any]) -> str:
    """Writes one level of tables.

    Args:
        tables: text, numbers, booleans and lists of them, or tables of these and of inline tables.

    Example:
        >>> print(to_toml({"seed": 1, "loss": {"name": "combo", "alpha": {"value": 0.5, "unstated": True}}}))
        seed = 1
        <BLANKLINE>
        [loss]
        name = "combo"
        alpha = { value = 0.5, unstated = true }
        <BLANKLINE>
    """
    lines = [f"{key} = {_value(value)}" for key, value in tables.items() if not isinstance(value, Mapping)]
    for name, table in tables.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{name}]", *(f"{key} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
