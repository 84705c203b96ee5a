"""Writing files so that an interruption leaves either the old file or the new one, never half of one."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; on a clean exit it is renamed to `path`, else it is removed.

    The temporary name keeps the whole file name at its end (`.tmp-1f2e.scan.nii.gz`), so that writers which look
    at the suffix, as nibabel does, see the right one.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as d:
        ...     with atomic(Path(d) / "a.txt") as tmp:
        ...         _ = tmp.write_text("whole")
        ...     (Path(d) / "a.txt").read_text()
        'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{os.getpid():x}{secrets.token_hex(3)}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Writes text atomically, UTF-8, and returns the path."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """Writes JSON atomically, sorted keys left as given, one trailing newline; returns the path."""
    return write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, read in pieces, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
