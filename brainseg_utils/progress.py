"""Progress: a bar where somebody watches a terminal, a few plain lines where nobody does."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
LINES = 5  # how many plain lines a run prints when nobody watches


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Passes items through and shows how far it is, on standard error.

    Args:
        items: what to iterate over.
        description: what is being done ("verify").
        total: number of items, where `len(items)` is not known.
    """
    if total is None:
        total = len(items)  # type: ignore[arg-type]
    if sys.stderr.isatty():
        yield from _bar(items, description, total)
    else:
        yield from _lines(items, description, total)


def tell(text: str) -> None:
    """Writes to standard error at once and in one piece: lines of several processes do not get into each other."""
    sys.stderr.write(text)  # `print` writes a line and its end apart where the stream is not buffered
    sys.stderr.flush()


def _bar(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total)
        for item in items:
            yield item
            bar.advance(task)


def _lines(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    start = time.monotonic()
    shown = 0
    for done, item in enumerate(items, 1):
        yield item
        if total and done * LINES // total > shown:
            shown = done * LINES // total
            tell(f"{description}: {done}/{total} ({time.monotonic() - start:.0f} s)\n")
