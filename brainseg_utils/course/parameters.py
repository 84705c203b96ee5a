"""A notebook's parameters: the cell tagged `parameters`, which papermill overrides.

Papermill ignores what it cannot use: a name that the notebook never reads, a value that is bound again later. Here
that is an error before anything runs.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from brainseg_utils.errors import SettingError

TAG = "parameters"
REMEDY = "write one `name = literal` a line in the cell tagged parameters"


def tags(cell: Any) -> list[str]:
    """A cell's tags."""
    return list(cell.get("metadata", {}).get("tags", []))


def defaults(notebook: Any, where: str | Path | None = None) -> dict[str, Any]:
    """The parameters of a notebook and their default values.

    Raises:
        SettingError: no cell or several cells tagged so, or a line that is no un-annotated `name = literal`.
    """
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and TAG in tags(cell)]
    if len(cells) != 1:
        raise SettingError(f"{len(cells)} cells tagged parameters", where=where, expected="one", remedy=REMEDY)
    found: dict[str, Any] = {}
    for statement in ast.parse(cells[0]["source"]).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                try:
                    found[name] = ast.literal_eval(value)
                except ValueError:
                    raise SettingError(f"parameter {name!r} is no literal", where=where, remedy=REMEDY) from None
            case _:
                raise SettingError(f"{ast.unparse(statement)!r} in the parameters cell", where=where, remedy=REMEDY)
    return found


def read_notebook(path: str | Path) -> Any:
    """A notebook file as nbformat 4.

    Raises:
        SettingError: the file is no notebook.
    """
    import nbformat

    try:
        return nbformat.read(str(path), as_version=4)
    except Exception as error:
        raise SettingError(f"not a notebook ({error})", where=path, expected="nbformat 4 JSON") from error


def code(notebook: Any) -> list[str]:
    """The notebook's code cells but the one tagged parameters."""
    return [c["source"] for c in notebook["cells"] if c["cell_type"] == "code" and TAG not in tags(c)]


def faults(notebook: Any) -> list[str]:
    """What papermill would silently pass over: parameters that are never read, and those bound again."""
    names = set(defaults(notebook))
    read: set[str] = set()
    bound: set[str] = set()
    for source in code(notebook):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Name):
                (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
            elif isinstance(node, ast.alias):
                bound.add(node.asname or node.name.split(".")[0])
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                bound.add(node.name)
    unread = [f"parameter {name!r} is never read" for name in sorted(names - read)]
    return unread + [f"parameter {name!r} is bound again" for name in sorted(names & bound)]


def coerce(name: str, value: Any, default: Any) -> Any:
    """A value, as the command line gives it, in the type of the notebook's default.

    Example:
        >>> coerce("seed", "3", 0), coerce("data_dir", "scans", ""), coerce("slices", "[1, 2]", [])
        (3, 'scans', [1, 2])

    Raises:
        SettingError: it cannot be read as that type.
    """
    kind = type(default)
    if isinstance(default, str):
        return str(value)
    if isinstance(value, str):
        try:
            value = ast.literal_eval({"true": "True", "false": "False"}.get(value.lower(), value))
        except (ValueError, SyntaxError):
            value = value.strip()
    if kind is float and type(value) is int:
        return float(value)
    if default is not None and type(value) is not kind:
        raise SettingError(
            f"{value!r} for parameter {name!r}", expected=f"a value of type {kind.__name__}, as {default!r}"
        )
    return value
