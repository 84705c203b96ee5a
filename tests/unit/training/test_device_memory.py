"""Memory that a training keeps, and gives back when told to."""

from __future__ import annotations

import subprocess
import sys

import pytest

KEPT_THEN_RETURNED = """
import torch
from brainseg_utils.training import device, memory

here = torch.device("cpu")
device.keep_memory()
before = memory.used(here)
blocks = [torch.ones(2**20) for _ in range(64)]  # 256 MiB in blocks of 4
del blocks[::2]
full = memory.used(here)
del blocks[:-1]
kept = memory.used(here)
device.return_memory()
print((full - before) >> 20, (full - kept) >> 20, (memory.used(here) - before) >> 20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="malloc's settings are glibc's")
def test_freed_memory_is_kept_until_it_is_returned():
    command = [sys.executable, "-c", KEPT_THEN_RETURNED]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    full, given_back, left = map(int, printed.split())
    assert full >= 250  # freed blocks too
    assert given_back <= 10
    assert left <= 40  # one block of 4 MiB lives, and what Python took
