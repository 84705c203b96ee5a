"""Public data sets: what `data/manifest.toml` says of them, and getting one.

A data set ends as one folder below the output folder. Everything on the way (parts of a download, archives, Kaggle's
cache) lives in a hidden folder beside it, `.download-NAME`, from which the same command continues after an
interruption; the data set gets its own name only when it is whole.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tarfile
import time
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from textwrap import shorten

from brainseg_utils.datasets.archives import Limits, extract
from brainseg_utils.datasets.fetch import ATTEMPTS, FIRST_PAUSE_S, fetch, require_space
from brainseg_utils.errors import DataError, SettingError, unknown

UNKNOWN = "unknown"
SLACK = 1.5  # how much larger than the manifest's size an archive may unpack before it counts as a bomb
DEBRIS = ("._*", ".DS_Store", "__MACOSX")  # what macOS leaves in archives; the Decathlon's has it
REASON = 160  # letters of a library's message that are worth showing
_INSTALLED = "share/brainseg/manifest.toml"
_sleep = time.sleep


class RegistrationNeeded(SettingError):
    """A data set that every reader must ask for; `steps` says how."""

    def __init__(self, source: Source) -> None:
        self.steps = source.steps
        super().__init__(
            f"{source.name} is given only to people who registered and accepted its terms; nothing was downloaded",
            remedy="; ".join(f"({number}) {step}" for number, step in enumerate(source.steps, 1)),
        )

    def __reduce__(self) -> tuple[type[SettingError], tuple[str]]:
        return SettingError, (str(self),)


@dataclass(frozen=True)
class Source:
    """One data set of the manifest; the fields are explained at its top."""

    name: str
    title: str
    layout: str
    cases: int
    source: str
    access: str
    licence: str
    citation: tuple[str, ...]
    download_bytes: int
    unpacked_bytes: int
    sizes: str
    sha256: str
    md5: str
    checked: str
    handle: str = ""
    archive: str = ""
    keep: str = "."
    folder: str = ""
    steps: tuple[str, ...] = ()


def manifest_path() -> Path:
    """The manifest: in the checkout, or where an installation that is not editable puts it.

    Raises:
        DataError: in neither place.
    """
    in_checkout = Path(__file__).parents[2] / "data" / "manifest.toml"
    if in_checkout.is_file():
        return in_checkout
    try:
        installed = metadata.files("brainseg-utils") or []
    except metadata.PackageNotFoundError:
        installed = []
    for entry in installed:
        if entry.as_posix().endswith(_INSTALLED):
            return Path(str(entry.locate())).resolve()
    raise DataError("no such file", where=in_checkout, expected="the list of data sets", remedy="install again")


def read_manifest(path: str | Path | None = None) -> dict[str, Source]:
    """All data sets by name.

    Raises:
        DataError: an entry with a missing, unknown or ill-typed field.

    Example:
        >>> read_manifest()["msd"].md5
        '240a19d752f0d9e9101544901065d872'
    """
    path = Path(path) if path else manifest_path()
    entries = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: _source(name, entry, path) for name, entry in entries.items()}


def _source(name: str, entry: Mapping[str, object], path: Path) -> Source:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    needed = {"kaggle": ("handle", "folder"), "http": ("archive", "folder"), "registration": ("steps",)}
    known = {field.name for field in fields(Source)}
    try:
        source = Source(name=name, **values)  # type: ignore[arg-type]
        missing = [key for key in needed[source.access] if not getattr(source, key)]
    except (TypeError, KeyError):
        odd = sorted(set(values) - known) or [f"access {values.get('access')!r}, or a missing field"]
        raise DataError(f"[{name}] has {', '.join(odd)}", where=path, expected=", ".join(sorted(known))) from None
    if missing:
        raise DataError(f"[{name}] lacks {', '.join(missing)}", where=path, remedy="add it to the manifest")
    return source


def download(name: str, out: str | Path, manifest: str | Path | None = None) -> Path:
    """Gets a public data set and returns its folder; run again, it continues or finds it there already.

    Args:
        name: a data set of the manifest ("lgg", "msd", "brats2020", …).
        out: the folder in which the data set's own folder appears.
        manifest: another manifest than the project's.

    Raises:
        SettingError: no such data set.
        RegistrationNeeded: the reader must ask for it; the message has the steps, nothing was written.
        DataError: too little space, refused, connection lost for good, not the expected file, a hostile archive.
    """
    sources = read_manifest(manifest)
    if name not in sources:
        raise unknown("data set", name, sources)
    source, out = sources[name], Path(out)
    if source.access == "registration":
        raise RegistrationNeeded(source)
    target, staging = out / source.folder, out / f".download-{name}"
    if target.exists():
        print(f"{name}: {target} is there already", file=sys.stderr)
        shutil.rmtree(staging, ignore_errors=True)
        return target
    print(f"{name}: {source.title}. Licence: {source.licence}. Cite: {'; '.join(source.citation)}", file=sys.stderr)
    here = sum(file.stat().st_size for file in staging.rglob("*") if file.is_file())
    require_space(out, source.download_bytes + source.unpacked_bytes - here, f"{name} (download and unpacked)")
    try:
        unpacked = _from_kaggle(source, staging) if source.access == "kaggle" else _from_http(source, staging)
    finally:
        if not any(file.is_file() for file in staging.rglob("*")):
            shutil.rmtree(staging, ignore_errors=True)  # nothing has arrived: leave nothing behind
    kept = unpacked / source.keep
    if not kept.is_dir():
        found = ", ".join(sorted(path.name for path in unpacked.iterdir())[:5])
        raise DataError(
            f"no {source.keep} in what arrived ({found}, …)",
            where=unpacked,
            remedy="the source was rearranged: look at the folder and report it",
        )
    _sweep(kept)
    kept.rename(target)
    shutil.rmtree(staging)
    return target


def _from_http(source: Source, staging: Path) -> Path:
    """The unpacked archive, in the staging folder."""
    unpacked = staging / "unpacked"
    if not unpacked.exists():
        archive = fetch(
            source.archive,
            staging / source.archive.rsplit("/", 1)[-1],
            size=source.download_bytes,
            sha256=None if source.sha256 == UNKNOWN else source.sha256,
            md5=None if source.md5 == UNKNOWN else source.md5,
        )
        extract(archive, unpacked, _limits(source))
    return unpacked


def _from_kaggle(source: Source, staging: Path) -> Path:
    """The folder that kagglehub filled (it unpacks by itself), or the unpacked archive that lay in it."""
    with _kaggle_cache(staging / "kaggle"):
        arrived = _ask_kaggle(source)
    for path in arrived.rglob("*"):
        if path.is_symlink():
            raise DataError("a symbolic link in downloaded data", where=path, remedy=f"delete {staging} and report it")
    if source.archive:
        inner, unpacked = arrived / source.archive, staging / "unpacked"
        return unpacked if unpacked.exists() else extract(inner, unpacked, _limits(source))
    if staging.resolve() in arrived.resolve().parents:
        return arrived
    # Inside Kaggle's and Colab's own notebooks the data set is mounted read-only: it is copied, not taken.
    copy = staging / "unpacked"
    shutil.rmtree(copy, ignore_errors=True)
    return Path(shutil.copytree(arrived, copy))


def _limits(source: Source) -> Limits:
    return Limits(unpacked=int(SLACK * source.unpacked_bytes))


@contextmanager
def _kaggle_cache(folder: Path) -> Iterator[None]:
    """Points kagglehub at a cache beside the data set: same disk, and found again by the next attempt."""
    before = os.environ.get("KAGGLEHUB_CACHE")
    os.environ["KAGGLEHUB_CACHE"] = str(folder.absolute())
    try:
        yield
    finally:
        os.environ.pop("KAGGLEHUB_CACHE")
        if before is not None:
            os.environ["KAGGLEHUB_CACHE"] = before


def _ask_kaggle(source: Source) -> Path:
    """Runs kagglehub, which resumes from its cache, until it succeeds or there is no point in going on."""
    import kagglehub
    from kagglehub.exceptions import CredentialError, DataCorruptionError, UnauthenticatedError

    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            pause = FIRST_PAUSE_S * 2 ** (attempt - 1)
            print(f"{source.name}: {reason}; again in {pause:.0f} s", file=sys.stderr)
            _sleep(pause)
        try:
            return Path(kagglehub.dataset_download(source.handle))
        except (CredentialError, UnauthenticatedError) as error:
            raise _refused(source, str(error)) from None
        except (zipfile.BadZipFile, tarfile.TarError) as error:
            remedy = f"delete {os.environ['KAGGLEHUB_CACHE']} and run the command again"
            raise DataError(f"kagglehub could not unpack it ({error})", where=source.source, remedy=remedy) from None
        except DataCorruptionError as error:  # kagglehub has deleted the file
            reason = shorten(str(error), REASON)
        except OSError as error:  # every exception of requests is one
            status = getattr(getattr(error, "response", None), "status_code", None)
            reason = shorten(str(error), REASON) or type(error).__name__
            if status in (401, 403):
                raise _refused(source, f"answer {status}") from None
            if status == 404:
                raise DataError(
                    "Kaggle has no such data set any more", where=source.source, remedy="report it"
                ) from None
            if error.errno == errno.ENOSPC:
                raise DataError(
                    "the disk is full", where=source.handle, remedy="free some space and run the command again"
                ) from None
        except ValueError as error:  # a token file it cannot read
            raise _refused(source, str(error)) from None
    raise DataError(
        f"{ATTEMPTS} attempts failed, the last with: {reason}",
        where=source.source,
        remedy="check the network and run the command again; it continues with what has arrived",
    )


def _refused(source: Source, reason: str) -> DataError:
    return DataError(
        f"Kaggle did not let us in ({reason})",
        where=source.source,
        expected="a public data set, or your Kaggle token",
        remedy="open the address, accept its terms if it asks, make a token at https://www.kaggle.com/settings, "
        "save it as ~/.kaggle/kaggle.json (or set KAGGLE_USERNAME and KAGGLE_KEY), and run the command again",
    )


def _sweep(folder: Path) -> None:
    """Deletes what macOS left in the archive, which would look like damaged scans."""
    for pattern in DEBRIS:
        for path in list(folder.rglob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
