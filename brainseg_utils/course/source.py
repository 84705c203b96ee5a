"""One jupytext source becomes two notebooks: the student's, with blanks, and the solutions.

In a code cell of the source, a solution stands between two markers:

    # BEGIN SOLUTION: count the voxels above zero
    # BLANK: answer = ...
    answer = (label > 0).mean()
    # END SOLUTION

The student sees the hint and the lines after `# BLANK: `; without such lines, every name that the block assigns is left
open (`answer = ...`), and a block that returns becomes `return ...`. The solution notebook has the block itself.
"""

from __future__ import annotations

import ast
import hashlib
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from brainseg_utils.course import reference
from brainseg_utils.errors import SettingError

BEGIN = re.compile(r"^(?P<indent>\s*)# BEGIN SOLUTION(?::\s*(?P<hint>.*))?$")
END = re.compile(r"^\s*# END SOLUTION\s*$")
BLANK_LINE = "# BLANK: "
TURN = "# your turn"
TIME = re.compile(r"\{\{\s*time (quick|full)\s*\}\}")  # in prose: replaced by the recorded time
FORMAT = {"extension": ".py", "format_name": "percent", "comment_magics": False}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def student_name(source: Path) -> str:
    """File name of the notebook written from a source."""
    return source.stem + ".ipynb"


def read_source(path: str | Path) -> Any:
    """The source as a notebook, solutions and markers inside, each cell with a stable id.

    An id is derived from the cell's text (and a counter among equal cells), so that inserting or moving a cell
    leaves the others' ids alone.
    """
    import jupytext

    path = Path(path)
    notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt=FORMAT)
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:10]
        seen[digest] += 1
        cell["id"] = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        if cell.cell_type == "markdown":
            cell.source = with_times(cell.source, path.stem)
    notebook.metadata = type(notebook.metadata)(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def with_times(text: str, notebook: str) -> str:
    """Prose with `{{time quick}}` and `{{time full}}` replaced by what was recorded."""
    return TIME.sub(lambda match: reference.time_text(notebook, match[1]), text)


def student(notebook: Any, where: str | Path = "source") -> Any:
    """The notebook with blanks.

    Raises:
        SettingError: a marker without its other, or a solution that leaves nothing to ask for.
    """
    return _rewritten(notebook, where, solutions=False)


def solution(notebook: Any, where: str | Path = "source") -> Any:
    """The notebook with its solutions, markers taken out."""
    return _rewritten(notebook, where, solutions=True)


def _rewritten(notebook: Any, where: str | Path, solutions: bool) -> Any:
    import copy

    made = copy.deepcopy(notebook)
    for number, cell in enumerate(made.cells):
        if cell.cell_type == "code":
            cell.source = "\n".join(_rewrite(cell.source.splitlines(), f"{where}, cell {number}", solutions))
    return made


def _rewrite(lines: list[str], where: str, solutions: bool) -> Iterator[str]:
    block: list[str] | None = None
    indent = hint = ""
    for line in lines:
        if match := BEGIN.match(line):
            if block is not None:
                raise SettingError(
                    "BEGIN SOLUTION inside a solution", where=where, remedy="close it with # END SOLUTION"
                )
            block, indent, hint = [], match["indent"], match["hint"] or ""
        elif END.match(line):
            if block is None:
                raise SettingError("END SOLUTION without BEGIN SOLUTION", where=where)
            word = "# solution" if solutions else TURN
            yield indent + word + (f": {hint}" if hint else "")
            yield from _solved(block) if solutions else _open(block, indent, where)
            block = None
        elif block is not None:
            block.append(line)
        else:
            yield line
    if block is not None:
        raise SettingError("BEGIN SOLUTION is never closed", where=where, remedy="add # END SOLUTION")


def _is_blank_line(line: str) -> bool:
    return line.lstrip().startswith(BLANK_LINE.rstrip())


def _solved(block: list[str]) -> list[str]:
    return [line for line in block if not _is_blank_line(line)]


def _open(block: list[str], indent: str, where: str) -> list[str]:
    given = [line for line in block if _is_blank_line(line)]
    if given:
        return [line[: len(line) - len(line.lstrip())] + line.lstrip()[len(BLANK_LINE) :] for line in given]
    body = "\n".join("    " + line for line in textwrap.dedent("\n".join(block)).splitlines())
    blanks = list(dict.fromkeys(_blanks(ast.parse("def block():\n" + (body or "    pass")).body[0])))  # in order, once
    if not blanks:
        raise SettingError(
            "a solution that assigns and returns nothing", where=where, remedy="say what is left with `# BLANK: `"
        )
    return [indent + blank for blank in blanks]


def _blanks(block: Any) -> Iterator[str]:
    for statement in block.body:
        match statement:
            case ast.Assign(targets=targets):
                for target in targets:
                    yield (
                        f"{ast.unparse(target)} = ..."
                        if not isinstance(target, ast.Tuple)
                        else (f"{ast.unparse(target).strip('()')} = {', '.join(['...'] * len(target.elts))}")
                    )
            case ast.Return():
                yield "return ..."


def differences(made: Any, kept: Any) -> list[str]:
    """Where a committed notebook is not what its source makes now: code, text and tags, not outputs.

    Recorded times in the prose may have changed since; they are no difference.
    """
    if len(made.cells) != len(kept.cells):
        return [f"{len(kept.cells)} cells, the source makes {len(made.cells)}"]
    found = []
    for number, (a, b) in enumerate(zip(made.cells, kept.cells, strict=True)):
        for what in ("cell_type", "source", "id"):
            if _comparable(a[what]) != _comparable(b[what]):
                found.append(f"cell {number}: {what} differs")
        if a.metadata.get("tags", []) != b.metadata.get("tags", []):
            found.append(f"cell {number}: tags differ")
    return found


def _comparable(text: str) -> str:
    return reference.TIME_TEXT.sub("(time)", text)
