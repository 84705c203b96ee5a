"""`brainseg doctor`: is this machine ready for the course, and if not, what to do about it."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from brainseg_utils.course.checkout import find_root
from brainseg_utils.errors import BrainsegError

MINIMUM_PYTHON = (3, 11)
RAM_GB = 8  # peak of the quick profile, with the reader's browser beside it
DISK_GB = 5  # environment and runs
LAB_EXTENSIONS = ("@jupyter-widgets/jupyterlab-manager", "anywidget")  # the scripts that draw widgets in a browser
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;#]+)")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: the thing ("torch").
        found: its state ("2.13.0").
        status: "ok", "note" (works, but know it) or "wrong".
        remedy: what to do; empty where nothing is to be done.
    """

    what: str
    found: str
    status: Literal["ok", "note", "wrong"]
    remedy: str = ""


def diagnose() -> list[Finding]:
    """Everything that `brainseg doctor` looks at, in the order in which it is shown."""
    return [_python(), *_packages(), *_device(), _memory(), _disk(), *_widgets(), _browser()]


def read_pins(text: str) -> dict[str, str]:
    """Package name (lower case, dashes) to version, from the text of a constraints file.

    Example:
        >>> read_pins("# why\\ntorch==2.13.0  # CPU build\\n")
        {'torch': '2.13.0'}
    """
    pins = (_PIN.match(line.strip()) for line in text.splitlines())
    return {normal_name(pin[1]): pin[2] for pin in pins if pin}


def normal_name(name: str) -> str:
    """A package's name as PyPI compares it: lower case, runs of ``-_.`` as one dash."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < MINIMUM_PYTHON:
        return Finding("Python", found, "wrong", "install Python 3.11 or newer and make the environment anew")
    return Finding("Python", found, "ok")


def _packages() -> list[Finding]:
    try:
        pins = read_pins((find_root() / "constraints.txt").read_text(encoding="utf-8"))
    except BrainsegError:
        remedy = "run `brainseg doctor` inside the checkout to compare with constraints.txt"
        return [Finding("packages", "no constraints.txt at hand", "note", remedy)]
    wrong = []
    for name in direct_requirements():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            remedy = f"pip install -c constraints.txt {name}"
            wrong.append(Finding(name, "not installed", "wrong", remedy))
            continue
        pin = pins.get(name)
        if pin and version.split("+")[0] != pin:
            remedy = f"tested with {pin}: pip install -c constraints.txt {name}=={pin}"
            wrong.append(Finding(name, version, "note", remedy))
    count = len(direct_requirements()) - len(wrong)
    return [Finding("packages", f"{count} as in constraints.txt", "ok"), *wrong]


def direct_requirements() -> list[str]:
    """The packages that the project asks for itself, without the extras, by their PyPI names."""
    try:
        lines = importlib.metadata.requires("brainseg-utils") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    names = (re.match(r"[A-Za-z0-9._-]+", line) for line in lines if "extra ==" not in line)
    return [normal_name(name[0]) for name in names if name]


def _device() -> list[Finding]:
    try:
        import torch
    except Exception as error:  # a broken installation raises more than ImportError
        return [Finding("device", f"torch does not import ({error})", "wrong", "pip install -c constraints.txt torch")]
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return [Finding("device", f"{properties.name}, {properties.total_memory / 1e9:.0f} GB: full profile", "ok")]
    if torch.backends.mps.is_available():
        return [Finding("device", "Apple GPU (mps)", "ok")]
    fast = "bf16" if "bf16" in _cpu_flags() else "no fast bf16"
    found = f"CPU, {torch.get_num_threads()} threads, {fast}"
    return [Finding("device", found, "note", "enough for the quick profile; the full profile wants a GPU")]


def _cpu_flags() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.read_text(errors="ignore") if cpuinfo.is_file() else ""


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    found = f"{memory.total / 1e9:.0f} GB, {memory.available / 1e9:.0f} GB free"
    if memory.available / 1e9 < RAM_GB:
        return Finding("RAM", found, "note", f"the quick profile peaks below {RAM_GB} GB: close other programs")
    return Finding("RAM", found, "ok")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free < DISK_GB:
        return Finding("disk", f"{free:.1f} GB free here", "wrong", f"make room for {DISK_GB} GB")
    return Finding("disk", f"{free:.0f} GB free here", "ok")


def _widgets() -> list[Finding]:
    folders = [
        Path(sys.prefix) / "share" / "jupyter" / "labextensions",
        Path.home() / ".local/share/jupyter/labextensions",
    ]
    missing = [name for name in LAB_EXTENSIONS if not any((folder / name).is_dir() for folder in folders)]
    if missing:
        remedy = "pip install --force-reinstall -c constraints.txt jupyterlab_widgets anywidget, then reload the page"
        return [Finding("widgets", f"no script for {', '.join(missing)} in JupyterLab", "wrong", remedy)]
    return [Finding("widgets", "the slice viewer and the 3D view have their scripts", "ok")]


def find_browser() -> str | None:
    """The system's Chromium or Chrome, which the browser tests drive; None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def _browser() -> Finding:
    path = find_browser()
    if path is None:
        remedy = "only `make test` needs it: install chromium to run the browser tests"
        return Finding("Chromium", "not found", "note", remedy)
    return Finding("Chromium", path, "ok")
