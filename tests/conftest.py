"""What every test shares: no network, the real scans where there are some."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from brainseg_utils.course import offline

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("BRAINSEG_SHARED", ROOT.parent / "shared"))


offline.block()  # sockets other than loopback raise


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The root of the unpacked real scans; skips where there are none to unpack."""
    unpack = SHARED / "data" / "unpack.py"
    target = Path(os.environ.get("BRAINSEG_REAL_DATA") or Path.home() / ".cache" / "brainseg" / "real")
    if not unpack.is_file() and not (target / "brats2021").is_dir():
        pytest.skip(f"no real scans: they are not part of the project, and BRAINSEG_SHARED ({SHARED}) has none")
    if unpack.is_file():
        subprocess.run([sys.executable, str(unpack), str(target)], check=True, stdout=subprocess.DEVNULL)
    return target
