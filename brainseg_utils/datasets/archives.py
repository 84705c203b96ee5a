"""Unpacking .zip, .tar and .tar.gz files that may have been made to do harm.

An archive is a list of instructions from a stranger. Nothing in it may write outside the folder that was asked for,
point elsewhere (links), replace a file it wrote before, or fill the disk. Whatever is refused, the message names the
member, and no half of the archive stays behind: everything goes to a hidden folder first, which gets its name last.
Archives inside an archive stay files; nothing here opens them.
"""

from __future__ import annotations

import errno
import gzip
import io
import lzma
import os
import secrets
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from brainseg_utils.datasets.fetch import MIB, require_space, track_bytes
from brainseg_utils.errors import DataError

GIB = 1024**3
_DAMAGE = (  # what the libraries raise on bytes that are no archive
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
REMEDY = "nothing was unpacked; download the archive again, from the source the manifest names"
ENCRYPTED = 0x1  # bit 0 of a zip member's flags (APPNOTE.TXT, 4.4.4)


@dataclass(frozen=True)
class Limits:
    """What an archive may ask for; beyond any of these it is refused.

    Attributes:
        unpacked: bytes of all files together.
        members: files, folders and everything else.
        depth: folders inside folders.
        ratio: unpacked bytes per archive byte, of the whole archive: deflate reaches 1032, brain scans 2 to 10
            (a single mask of zeros reaches hundreds, so members are not judged one by one).
        ratio_from: unpacked bytes from which the ratio counts, so that a small archive of zeros is no bomb.
        header: bytes between two members of a tar, where names of any length are read into memory.
    """

    unpacked: int = 100 * GIB
    members: int = 200_000
    depth: int = 16
    ratio: float = 100.0
    ratio_from: int = 64 * MIB
    header: int = MIB


@dataclass
class _Ledger:
    """Everything accepted from one archive so far."""

    archive: Path
    limits: Limits
    size: int  # bytes of the archive
    members: int = 0
    unpacked: int = 0
    files: set[tuple[str, ...]] = field(default_factory=set)
    folders: set[tuple[str, ...]] = field(default_factory=set)

    def refuse(self, found: str, expected: str | None = None) -> DataError:
        return DataError(found, where=self.archive, expected=expected, remedy=REMEDY)

    def admit(self, name: str, size: int, is_folder: bool) -> Path | None:
        """The place of a member below the target folder (None for the folder itself).

        Raises:
            DataError: a name that escapes or overwrites, or more than the limits allow.
        """
        if size < 0:
            raise self.refuse(f"member {name!r} announces {size} bytes", "a size")
        self.members += 1
        if self.members > self.limits.members:
            raise self.refuse(f"more than {self.limits.members} members", "a data set's number of files")
        parts = self._parts(name)
        if not parts:
            if not is_folder:
                raise self.refuse(f"member {name!r} has no name")
            return None
        key = tuple(unicodedata.normalize("NFC", part).casefold() for part in parts)
        parents = {key[:length] for length in range(1, len(key))}
        if key in self.files or parents & self.files or (not is_folder and key in self.folders):
            raise self.refuse(f"member {name!r} would overwrite an earlier one", "each name once, upper or lower case")
        self.folders |= parents
        (self.folders if is_folder else self.files).add(key)
        self.unpacked += size
        self._check_size(f"member {name!r}")
        return Path(*parts)

    def _parts(self, name: str) -> list[str]:
        bad = None
        if name.startswith(("/", "\\")):
            bad = "an absolute path"
        elif ".." in name.replace("\\", "/").split("/"):
            bad = "a path that leaves the folder"
        elif ":" in name:
            bad = "a drive letter or stream"
        elif "\\" in name or any(ord(letter) < 32 for letter in name):
            bad = "a character no file name should have"
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if len(parts) > self.limits.depth:
            bad = f"more than {self.limits.depth} folders deep"
        if bad:
            raise self.refuse(f"member {name!r}: {bad}", "names below one folder")
        return parts

    def _check_size(self, what: str) -> None:
        if self.unpacked > self.limits.unpacked:
            raise self.refuse(
                f"{what} brings the unpacked size to {self.unpacked} bytes", f"{self.limits.unpacked} at the most"
            )
        if self.unpacked > self.limits.ratio_from and self.unpacked > self.limits.ratio * self.size:
            raise self.refuse(
                f"{what} brings the unpacked size to {self.unpacked / self.size:.0f} times the archive's",
                f"{self.limits.ratio:.0f} times at the most",
            )


def extract(archive: str | Path, out: str | Path, limits: Limits | None = None) -> Path:
    """Unpacks an archive into a new folder and returns the folder.

    The kind is taken from the content, not from the name. Modes, owners and times stored in the archive are ignored.

    Args:
        archive: .zip, .tar or .tar.gz.
        out: a folder that does not exist yet, or is empty.
        limits: what the archive may ask for.

    Raises:
        DataError: not such an archive, damaged or cut, encrypted, with links, devices, escaping or repeated names,
            beyond the limits or the free space, or `out` is not empty. `out` is then as it was before.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as d:
        ...     with zipfile.ZipFile(Path(d) / "a.zip", "w") as z:
        ...         z.writestr("case/t1n.nii", "voxels")
        ...     sorted(p.name for p in extract(Path(d) / "a.zip", Path(d) / "a").rglob("*"))
        ['case', 't1n.nii']
    """
    archive, out = Path(archive), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError("exists already", where=out, expected="a new or an empty folder", remedy="choose another name")
    if not archive.is_file():
        raise DataError("no such file", where=archive, expected="an archive", remedy="check the path")
    ledger = _Ledger(archive, limits or Limits(), max(archive.stat().st_size, 1))
    unpack = _unpack_zip if _kind(archive) == "zip" else _unpack_tar
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".tmp-{os.getpid():x}{secrets.token_hex(3)}.{out.name}")
    temporary.mkdir()
    try:
        track_bytes(unpack(ledger, temporary), f"unpack {archive.name}", ledger.size)
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise DataError("the disk is full", where=out, remedy="free some space; nothing was unpacked") from None
        raise ledger.refuse(f"damaged, cut or not readable ({error})", "a whole archive") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def _kind(archive: Path) -> str:
    with open(archive, "rb") as stream:
        start = stream.read(512)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if start.startswith(b"\x1f\x8b") or start[257:262] == b"ustar":
        return "tar"
    raise DataError(
        f"not an archive: it begins with {start[:16]!r}",
        where=archive,
        expected="a .zip, .tar or .tar.gz file",
        remedy="look at it: a page that asks for a login is often saved under the file's name",
    )


def _unpack_zip(ledger: _Ledger, folder: Path) -> Iterator[int]:  # yields the archive bytes dealt with
    with zipfile.ZipFile(ledger.archive) as pack:
        places = [(info, _admit_zip(ledger, info)) for info in pack.infolist()]  # all names before the first byte
        require_space(folder, ledger.unpacked, f"unpacking {ledger.archive.name}")
        read = 0
        for info, place in places:
            if place is not None and info.is_dir():
                (folder / place).mkdir(parents=True, exist_ok=True)
            elif place is not None:
                with pack.open(info) as source:
                    _write(ledger, source, folder / place, info.filename, info.file_size)
            read += info.compress_size
            yield read


def _admit_zip(ledger: _Ledger, info: zipfile.ZipInfo) -> Path | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise ledger.refuse(f"member {info.filename!r} is a symbolic link", "files and folders")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ledger.refuse(f"member {info.filename!r} is a device, a pipe or a socket", "files and folders")
    if info.flag_bits & ENCRYPTED:
        raise ledger.refuse(f"member {info.filename!r} is encrypted", "an archive without a password")
    return ledger.admit(info.orig_filename, info.file_size, info.is_dir())


def _unpack_tar(ledger: _Ledger, folder: Path) -> Iterator[int]:  # yields the archive bytes dealt with
    with open(ledger.archive, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        plain: IO[bytes] = gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[assignment]
        careful = _Careful(plain, ledger)
        with tarfile.open(fileobj=careful, mode="r:") as pack:  # type: ignore[call-overload]
            for member in pack:
                place = _admit_tar(ledger, member)
                careful.left += member.size
                if place is not None and member.isdir():
                    (folder / place).mkdir(parents=True, exist_ok=True)
                elif place is not None:
                    require_space(folder, member.size, f"unpacking {ledger.archive.name}")
                    source = pack.extractfile(member)
                    assert source is not None  # a regular file
                    _write(ledger, source, folder / place, member.name, member.size)
                careful.left = ledger.limits.header
                yield raw.tell()
        # The library takes a damaged or missing header for the end; the real end is a block of zeros.
        if careful.last != bytes(tarfile.BLOCKSIZE):
            raise ledger.refuse(f"damaged or cut after {ledger.members} members", "an end mark")
        end = plain.tell()
        while packed and plain.read(MIB):  # to the end, where gzip compares its checksum
            if plain.tell() - end > ledger.limits.ratio_from:
                raise ledger.refuse("goes on after its end mark", "nothing there")
        yield raw.tell()


def _admit_tar(ledger: _Ledger, member: tarfile.TarInfo) -> Path | None:
    if member.issym() or member.islnk():
        kind = "symbolic" if member.issym() else "hard"
        raise ledger.refuse(f"member {member.name!r} is a {kind} link", "files and folders")
    if member.issparse() or not (member.isreg() or member.isdir()):
        raise ledger.refuse(f"member {member.name!r} is a device, a pipe or a sparse file", "files and folders")
    return ledger.admit(member.name, member.size, member.isdir())


class _Careful(io.RawIOBase):
    """A tar's bytes, as many as are due: a header may announce a name of gigabytes, to be held in memory."""

    def __init__(self, inner: IO[bytes], ledger: _Ledger) -> None:
        self.inner, self.ledger = inner, ledger
        self.left = ledger.limits.header  # how much may be read before the next member
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.left:
            raise self.ledger.refuse(f"a header too long after {self.ledger.members} members", "short names")
        self.left -= size
        self.last = self.inner.read(size)
        return self.last

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        return self.inner.seek(position, whence)

    def tell(self) -> int:
        return self.inner.tell()


def _write(ledger: _Ledger, source: IO[bytes], place: Path, name: str, size: int) -> None:
    """Copies one member, believing only the bytes that come."""
    place.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with open(place, "xb") as stream:
        while block := source.read(MIB):
            written += len(block)
            if written > size:
                raise ledger.refuse(f"member {name!r} is larger than it announced", f"{size} bytes")
            stream.write(block)
    if written != size:
        raise ledger.refuse(f"member {name!r} ends after {written} bytes", f"{size} bytes")
