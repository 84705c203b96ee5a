"""The two sizes in which every notebook runs, and how many processes the machine allows."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from brainseg_utils.errors import unknown
from brainseg_utils.parallel import default_workers

WORKER_BYTES = 1.5 * 2**30  # one worker that makes phantoms or loads 1 mm cases, with its share of the kernel
LIMIT_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Profile:
    """What `profile` decides: the size of what is computed, not what is computed.

    Args:
        name: quick or full.
        spacing_mm: voxel size of the phantoms.
        about: one clause for tables and help.
    """

    name: str
    spacing_mm: int
    about: str

    @property
    def quick(self) -> bool:
        """Whether this is the quick profile."""
        return self.name == "quick"


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("quick", 2, "a CPU with two cores, no network, 2 mm phantoms made on the spot"),
        Profile("full", 1, "a GPU, real scans or 1 mm phantoms, the reports' stated sizes"),
    )
}


def resolve(name: str) -> Profile:
    """The profile of a name.

    Raises:
        SettingError: there is no profile of this name.
    """
    if name not in PROFILES:
        raise unknown("profile", name, PROFILES)
    return PROFILES[name]


def memory_limit() -> int:
    """Bytes of memory that this process may use: the machine's, or the container's or server's where less."""
    import psutil

    limits = [psutil.virtual_memory().total]
    texts = [os.environ.get("MEM_LIMIT", "")]  # set by JupyterHub, and so by Binder
    texts += [Path(name).read_text() for name in LIMIT_FILES if Path(name).is_file()]
    limits += [int(text) for text in texts if text.strip().isdigit()]
    return min(limits)


def processor() -> str:
    """The processor's name, for records: "AMD EPYC"."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="ignore").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def workers(memory: int | None = None, cpus: int | None = None) -> int:
    """Processes to use: one a core, and no more than the memory carries; on Binder (1-2 GB) one.

    Example:
        >>> workers(memory=2 * 2**30, cpus=2), workers(memory=8 * 2**30, cpus=2)
        (1, 2)
    """
    memory = memory_limit() if memory is None else memory
    cpus = default_workers() if cpus is None else cpus
    return max(1, min(cpus, int(memory // WORKER_BYTES)))
