"""Work on several processes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil

SCRIPT = """
import os, sys, time
from pathlib import Path
from brainseg_utils.parallel import imap

def work(folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)

if __name__ == "__main__":
    list(imap(work, [sys.argv[1]] * 2, workers=2))
"""
PATIENCE = 60  # seconds


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    started = tmp_path / "started"
    started.mkdir()
    parent = subprocess.Popen([sys.executable, tmp_path / "script.py", started])
    try:
        assert _within(PATIENCE, lambda: len(list(started.iterdir())) == 2)
    finally:
        parent.kill()
        parent.wait()
    workers = [int(path.name) for path in started.iterdir()]
    assert _within(PATIENCE, lambda: not any(_runs(worker) for worker in workers))


def _runs(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _within(seconds: float, true) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
