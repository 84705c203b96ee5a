"""Watching a process and everything it starts: peak memory, time limit, and ending all of it."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

INTERVAL_S = 0.2  # between two looks: shorter peaks than this can be missed
GRACE_S = 5.0  # between asking a process to end and ending it


@dataclass(frozen=True)
class Measured:
    """What one command cost.

    Args:
        code: its exit status.
        seconds: wall time.
        peak_bytes: most memory that the processes it started (not itself) held together.
        timed_out: whether it was ended because its time was over.
    """

    code: int
    seconds: float
    peak_bytes: int
    timed_out: bool


def watch(
    command: Sequence[str], log: Path, limit_s: float | None = None, tick: Callable[[float, int], None] | None = None
) -> Measured:
    """Runs a command to its end and measures the processes below it.

    Memory is the proportional share (a page shared by n processes counts 1/n for each) where the system tells it,
    else the resident size; sampled every 0.2 s.

    Args:
        command: program and arguments.
        log: file for its standard output and error.
        limit_s: seconds after which the whole tree is ended; None for no limit.
        tick: called at every look with the seconds passed and the peak so far.
    """
    start = time.monotonic()
    peak, timed_out = 0, False
    with open(log, "wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            while process.poll() is None:
                passed = time.monotonic() - start
                if limit_s is not None and passed > limit_s:
                    timed_out = True
                    break
                peak = max(peak, sum(map(memory, children(process.pid))))
                if tick:
                    tick(passed, peak)
                _wait(process)
        finally:  # also on Ctrl-C
            end_tree(process.pid)
            process.wait()
    return Measured(process.returncode, time.monotonic() - start, peak, timed_out)


def _wait(process: subprocess.Popen) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(INTERVAL_S)


def children(pid: int) -> list[psutil.Process]:
    """The processes that a process started, and those which they started."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def memory(process: psutil.Process) -> int:
    """Bytes that a process holds; 0 where it has just ended."""
    try:
        full = process.memory_full_info()
        return getattr(full, "pss", 0) or full.rss
    except psutil.AccessDenied:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def end_tree(pid: int) -> None:
    """Ends a process and all below it: asks first, ends them after five seconds."""
    try:
        tree = [psutil.Process(pid), *children(pid)]
    except psutil.NoSuchProcess:
        return
    for process in tree:
        _quietly(process.terminate)
    for process in psutil.wait_procs(tree, timeout=GRACE_S)[1]:
        _quietly(process.kill)


def _quietly(action: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        action()
