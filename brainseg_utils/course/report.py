"""The runner's words while it works: a live line where somebody watches a terminal, plain lines where nobody does."""

from __future__ import annotations

import sys
from typing import Any

MIB = 2**20
COLOURS = {"passed": "green", "failed": "red", "timed out": "red"}


class Reporter:
    """One line a notebook on standard error; on a terminal also a bar with cells done, time and memory."""

    def __init__(self, total: int) -> None:
        self.total, self.number, self.name = total, 0, ""
        self.bar: Any = None

    def __enter__(self) -> Reporter:
        if sys.stderr.isatty():
            self.bar = _bar()
            self.bar.start()
            self.task = self.bar.add_task("", total=None, detail="")
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar:
            self.bar.stop()

    def begin(self, name: str) -> None:
        """A notebook begins."""
        self.number += 1
        self.name = name
        if self.bar:
            self.bar.reset(self.task, description=f"{self.number}/{self.total} {name}", total=None, detail="starts")
        else:
            print(f"{self.number}/{self.total} {name}: starts", file=sys.stderr, flush=True)

    def tick(self, cells: tuple[int, int], seconds: float, peak: int) -> None:
        """It is under way: code cells done and in all, seconds, peak memory in bytes."""
        if self.bar:
            done, total = cells
            detail = f"{f'cell {done}/{total}  ' if total else ''}{seconds:.0f} s  {peak / MIB:.0f} MiB"
            self.bar.update(self.task, completed=done, total=total or None, detail=detail)

    def end(self, name: str, status: str, seconds: float, peak: int, error: str) -> None:
        """It has ended."""
        line = f"{self.number}/{self.total} {name}: {status}, {seconds:.0f} s"
        line += f", peak {peak / MIB:.0f} MiB" if peak else ""
        line += f": {error}" if error else ""
        if self.bar:
            from rich.text import Text

            self.bar.console.print(Text(line, style=COLOURS.get(status, "")))
        else:
            print(line, file=sys.stderr, flush=True)


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[detail]}"))
    return Progress(*columns, console=Console(stderr=True), transient=True)
