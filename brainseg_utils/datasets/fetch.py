"""One file over HTTP: resumed where it was cut, checked before it gets its name.

While a file arrives it is called `NAME.part`; `NAME.part.json` beside it remembers what the server said it is (size,
ETag, date). A later call asks for the missing bytes only, and starts again when the server's file is another one by
then. `NAME` itself appears once size and checksum are right, never before.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import math
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from brainseg_utils.errors import DataError, SettingError
from brainseg_utils.files import write_json
from brainseg_utils.progress import track

MIB = 1024**2
TIMEOUT_S = 30.0  # silence after which a connection counts as lost
ATTEMPTS = 5  # connections in a row that bring nothing before the download gives up
FIRST_PAUSE_S = 1.0  # doubled after each of them
WORTH_RETRYING = {408, 425, 429, 500, 502, 503, 504}
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)$")
_sleep = time.sleep


@dataclass(frozen=True)
class _Remote:
    """What a server says about a file, kept beside the part of it that has arrived."""

    url: str
    total: int | None
    etag: str | None
    date: str | None

    def same_file(self, other: _Remote) -> bool:
        """True if nothing that both sides state differs."""
        pairs = ((self.url, other.url), (self.total, other.total), (self.etag, other.etag), (self.date, other.date))
        return all(mine is None or theirs is None or mine == theirs for mine, theirs in pairs)


class _Changed(Exception):
    """The server's file is not the one whose first part is here."""

    def __init__(self) -> None:
        super().__init__("what the server sends does not continue what is here")


def require_space(folder: str | Path, needed: int, what: str) -> None:
    """Refuses when the disk of a folder (which need not exist yet) has fewer free bytes than needed.

    Raises:
        DataError: with both numbers, in GB.
    """
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise DataError(
            f"{free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed for {what}",
            where=folder,
            remedy="free some space or choose a folder on another disk",
        )


def track_bytes(positions: Iterable[int], description: str, total: int) -> None:
    """Runs through growing byte counts and shows them as progress in MiB."""

    def steps() -> Iterator[None]:
        shown = 0
        for position in positions:
            for _ in range(shown, min(position, total) // MIB):
                yield None
            shown = max(shown, min(position, total) // MIB)
        for _ in range(shown, math.ceil(total / MIB)):
            yield None

    for _ in track(steps(), f"{description} (MiB)", total=math.ceil(total / MIB)):
        pass


def fetch(
    url: str, path: str | Path, *, size: int | None = None, sha256: str | None = None, md5: str | None = None
) -> Path:
    """Downloads a file, or the rest of it, and returns its path.

    Args:
        url: http or https.
        path: where the finished file goes; `.part` and `.part.json` beside it belong to the unfinished one.
        size: bytes it must have, where known.
        sha256: its SHA-256 in hexadecimal digits, where known.
        md5: its MD5, looked at where no SHA-256 is given.

    Raises:
        SettingError: not an http or https address.
        DataError: refused by the server, connection lost for good, disk full, wrong size or wrong checksum.
    """
    path = Path(path)
    if not url.startswith(("https://", "http://")):
        raise SettingError(f"cannot download from {url!r}", expected="an http or https address", remedy="correct it")
    if path.exists():
        return path  # it got this name only after it was checked
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        before = _length(part)
        try:
            _receive(url, part, size)
            break
        except _Changed as error:
            _forget(part)
            failures += 1
            if failures == ATTEMPTS:
                raise _gave_up(error, url, part) from None
            print(f"{path.name}: {error}; starting again", file=sys.stderr)
        except (OSError, http.client.HTTPException) as error:
            _raise_if_final(error, url, part)
            failures = 0 if _length(part) > before else failures + 1
            if failures == ATTEMPTS:
                raise _gave_up(error, url, part) from None
            pause = FIRST_PAUSE_S * 2 ** max(failures - 1, 0)
            print(f"{path.name}: connection lost ({_reason(error)}); again in {pause:.0f} s", file=sys.stderr)
            _sleep(pause)
    _check(part, url, size, sha256, md5)
    os.replace(part, path)
    _state(part).unlink(missing_ok=True)
    return path


def _receive(url: str, part: Path, size: int | None) -> None:
    """One connection: asks for what is missing and appends it to the part."""
    start, known = _length(part), _load(part)
    if known is None or known.url != url:
        _forget(part)
        start, known = 0, None
    headers = {"User-Agent": "brainseg", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and start:  # nothing left to send, or the file is shorter than what is here
                _finished_or_changed(error.headers.get("Content-Range"), start)
                return
        raise
    with response:
        offset, remote = _describe(response, url)
        if start and offset not in (0, start):
            raise _Changed
        if known and offset and not known.same_file(remote):
            raise _Changed
        if size is not None and remote.total not in (None, size):
            raise DataError(
                f"the server's file has {remote.total} bytes", where=url, expected=f"{size}", remedy=_ASK_MAINTAINERS
            )
        write_json(_state(part), asdict(remote))
        total = remote.total if remote.total is not None else size
        with open(part, "ab" if offset else "wb") as stream:  # offset 0: a whole file, whatever was asked for
            positions = _copy(response, stream, offset, total)
            if total:
                track_bytes(positions, part.stem, total)
            else:
                for _ in positions:
                    pass


def _describe(response: http.client.HTTPResponse, url: str) -> tuple[int, _Remote]:
    """Where the answer's bytes begin in the file, and what file that is."""
    headers = response.headers
    offset, total = 0, headers.get("Content-Length")
    if response.status == 206:
        match = _CONTENT_RANGE.match(headers.get("Content-Range", ""))
        if not match or match[1] is None:
            raise _Changed  # a partial answer that does not say which part: not to be trusted
        offset, total = int(match[1]), match[2]
    return offset, _Remote(url, int(total) if total else None, headers.get("ETag"), headers.get("Last-Modified"))


def _copy(response: http.client.HTTPResponse, stream: IO[bytes], position: int, total: int | None) -> Iterator[int]:
    while block := response.read(MIB):
        position += len(block)
        if total is not None and position > total:
            raise _Changed
        stream.write(block)
        yield position
    if total is not None and position < total:
        raise ConnectionError(f"{position} of {total} bytes arrived")


def _finished_or_changed(content_range: str | None, start: int) -> None:
    match = _CONTENT_RANGE.match(content_range or "")
    if not match or int(match[2]) != start:
        raise _Changed


_ASK_MAINTAINERS = "the file was replaced at its source: report it, so that the manifest can be brought up to date"


def _check(part: Path, url: str, size: int | None, sha256: str | None, md5: str | None) -> None:
    if size is not None and _length(part) != size:
        found = _length(part)
        _forget(part)
        raise DataError(f"{found} bytes arrived", where=url, expected=f"{size}", remedy=_ASK_MAINTAINERS)
    name, wanted = ("sha256", sha256) if sha256 else ("md5", md5)
    if not wanted:
        return
    with open(part, "rb") as stream:
        found_digest = hashlib.file_digest(stream, name).hexdigest()
    if found_digest != wanted.lower():
        _forget(part)
        remedy = "run the command again; if it happens twice, " + _ASK_MAINTAINERS
        raise DataError(f"{name} is {found_digest}", where=url, expected=wanted, remedy=remedy)


def _raise_if_final(error: OSError | http.client.HTTPException, url: str, part: Path) -> None:
    """Turns what no retry can mend into an error for the reader."""
    if isinstance(error, urllib.error.HTTPError) and error.code not in WORTH_RETRYING:
        remedy = "look whether the data set moved" if error.code in (404, 410) else "open the address in a browser"
        raise DataError(f"the server answered {error.code} {error.reason}", where=url, remedy=remedy) from None
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise DataError(
            f"the disk is full after {_length(part)} bytes",
            where=part,
            remedy="free some space and run the command again; it continues from there",
        ) from None
    if isinstance(error, PermissionError):
        raise DataError("may not be written", where=part, remedy="choose a folder of your own") from None


def _gave_up(error: Exception, url: str, part: Path) -> DataError:
    return DataError(
        f"{ATTEMPTS} connections in a row brought nothing ({_reason(error)})",
        where=url,
        remedy=f"check the network and run the command again; it continues after {_length(part)} bytes",
    )


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error or type(error).__name__)


def _state(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _load(part: Path) -> _Remote | None:
    try:
        return _Remote(**json.loads(_state(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state(part).unlink(missing_ok=True)
