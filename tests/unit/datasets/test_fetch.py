"""Downloads from a server on this machine that cuts, changes, refuses and lies."""

from __future__ import annotations

import errno
import hashlib
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from brainseg_utils.datasets import fetch as module
from brainseg_utils.datasets.fetch import ATTEMPTS, fetch, require_space, track_bytes
from brainseg_utils.errors import DataError, SettingError

BODY = random.Random(0).randbytes(3_000_000)


@dataclass
class Site:
    """One file, and how the server misbehaves about it."""

    body: bytes = BODY
    etag: str | None = '"one"'
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    codes: list[int] = field(default_factory=list)  # what the next answers say instead
    length: bool = True
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            if state.codes:
                self.send_error(state.codes.pop(0))
                return
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and state.ranges else 0
            if start and start >= len(state.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(state.body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = state.body[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.body) - 1}/{len(state.body)}")
            if state.length:
                self.send_header("Content-Length", str(len(data)))
            if state.etag:
                self.send_header("ETag", state.etag)
            self.end_headers()
            self.wfile.write(data[: state.cuts.pop(0)] if state.cuts else data)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/file.bin"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "_sleep", lambda _: None)
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_file_checked_and_alone(site: Site, tmp_path: Path) -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    path = fetch(site.url, tmp_path / "sub" / "file.bin", size=len(BODY), sha256=digest)
    assert path.read_bytes() == BODY and left(path.parent) == ["file.bin"]
    fetch(site.url, path)
    assert site.asked == [None]  # there already: not asked again


def test_cut_connections_are_resumed_within_one_call(site: Site, tmp_path: Path) -> None:
    site.cuts = [1_000_000, 500_000]
    path = fetch(site.url, tmp_path / "f", md5=hashlib.md5(BODY).hexdigest())
    assert path.read_bytes() == BODY
    assert site.asked == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_second_call_continues_what_the_first_left(site: Site, tmp_path: Path) -> None:
    site.cuts = [1_000_000, *[0] * ATTEMPTS]
    with pytest.raises(DataError, match="continues after 1000000 bytes"):
        fetch(site.url, tmp_path / "f")
    assert left(tmp_path) == ["f.part", "f.part.json"]
    site.cuts, site.asked = [], []
    assert fetch(site.url, tmp_path / "f").read_bytes() == BODY
    assert site.asked == ["bytes=1000000-"] and left(tmp_path) == ["f"]


def test_an_interrupted_process_continues_too(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(positions: Iterator[int], *_: object) -> None:
        next(positions)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "track_bytes", stop)
        fetch(site.url, tmp_path / "f")
    assert fetch(site.url, tmp_path / "f").read_bytes() == BODY
    assert site.asked == [None, f"bytes={module.MIB}-"]


def partial(site: Site, folder: Path, arrived: int = 1_000_000) -> Path:
    site.cuts = [arrived, *[0] * ATTEMPTS]
    with pytest.raises(DataError):
        fetch(site.url, folder / "f")
    site.cuts, site.asked = [], []
    return folder / "f"


@pytest.mark.parametrize(("etag", "growth"), [('"two"', 0), ('"one"', 5), (None, 5)])
def test_a_file_that_changed_starts_again(site: Site, tmp_path: Path, etag: str | None, growth: int) -> None:
    path = partial(site, tmp_path)
    site.body, site.etag = random.Random(1).randbytes(len(BODY) + growth), etag
    assert fetch(site.url, path).read_bytes() == site.body
    assert site.asked == ["bytes=1000000-", None]


def test_a_file_that_became_shorter_starts_again(site: Site, tmp_path: Path) -> None:
    path = partial(site, tmp_path)
    site.body = BODY[:999]
    assert fetch(site.url, path).read_bytes() == BODY[:999]


def test_a_silent_change_is_caught_by_the_checksum(site: Site, tmp_path: Path) -> None:
    path = partial(site, tmp_path)
    site.body = random.Random(1).randbytes(len(BODY))
    with pytest.raises(DataError, match="sha256 is"):
        fetch(site.url, path, sha256=hashlib.sha256(site.body).hexdigest())
    assert left(tmp_path) == []  # the mixture is gone: the next call starts clean
    fetch(site.url, path, sha256=hashlib.sha256(site.body).hexdigest())


def test_a_server_without_ranges_sends_everything_again(site: Site, tmp_path: Path) -> None:
    site.ranges, site.cuts = False, [1_000_000]
    assert fetch(site.url, tmp_path / "f").read_bytes() == BODY


def test_all_bytes_had_arrived_before_the_interruption(site: Site, tmp_path: Path) -> None:
    path = partial(site, tmp_path)
    (tmp_path / "f.part").write_bytes(BODY)
    assert fetch(site.url, path).read_bytes() == BODY
    assert site.asked == [f"bytes={len(BODY)}-"]


def test_a_part_of_unknown_origin_is_not_continued(site: Site, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(b"something else")
    assert fetch(site.url, tmp_path / "f").read_bytes() == BODY
    assert site.asked == [None]


def test_a_wrong_checksum_leaves_no_file(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        fetch(site.url, tmp_path / "f", sha256="0" * 64)
    assert hashlib.sha256(BODY).hexdigest() in str(caught.value) and "0" * 64 in str(caught.value)
    assert left(tmp_path) == []


def test_another_size_than_the_manifest_says_stops_before_the_transfer(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 3000000 bytes; expected 42"):
        fetch(site.url, tmp_path / "f", size=42)
    assert left(tmp_path) == []


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_refusals_are_final(site: Site, tmp_path: Path, code: int) -> None:
    site.codes = [code]
    with pytest.raises(DataError, match=f"answered {code}") as caught:
        fetch(site.url, tmp_path / "f")
    assert site.url in str(caught.value) and len(site.asked) == 1 and left(tmp_path) == []


def test_a_busy_server_is_asked_again_with_growing_pauses(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(module, "_sleep", pauses.append)
    site.codes = [503, 429, 500]
    assert fetch(site.url, tmp_path / "f").read_bytes() == BODY
    assert pauses == [1, 2, 4] and "again in 4 s" in capsys.readouterr().err


def test_nobody_answers(site: Site, tmp_path: Path) -> None:
    site.codes = [503] * ATTEMPTS
    with pytest.raises(DataError, match="brought nothing"):
        fetch(site.url, tmp_path / "f")
    assert len(site.asked) == ATTEMPTS


def test_no_length_announced(site: Site, tmp_path: Path) -> None:
    site.length = False
    assert fetch(site.url, tmp_path / "f", size=len(BODY)).read_bytes() == BODY
    site.body = BODY[:100]
    with pytest.raises(DataError):
        fetch(site.url, tmp_path / "g", size=len(BODY))
    assert not (tmp_path / "g").exists()


def test_more_bytes_than_expected_never_fill_the_disk(site: Site, tmp_path: Path) -> None:
    site.length = False
    with pytest.raises(DataError, match="does not continue"):
        fetch(site.url, tmp_path / "f", size=1000)
    assert left(tmp_path) == []


def test_a_full_disk_keeps_the_part(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(positions: Iterator[int], *_: object) -> None:
        next(positions)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "track_bytes", full)
    with pytest.raises(DataError, match="disk is full after 1048576 bytes"):
        fetch(site.url, tmp_path / "f")
    assert left(tmp_path) == ["f.part", "f.part.json"]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "data.zip"])
def test_only_http(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="http or https"):
        fetch(url, tmp_path / "f")


def test_progress_is_told_in_mib(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(site.url, tmp_path / "file.bin")
    assert "file.bin (MiB): 3/3" in capsys.readouterr().err


def test_progress_never_passes_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    track_bytes([1, 2 * module.MIB, 99 * module.MIB], "x", 2 * module.MIB + 1)
    assert capsys.readouterr().err.splitlines()[-1].startswith("x (MiB): 3/3")


def test_space_is_asked_of_the_nearest_folder_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    usage = module.shutil.disk_usage(tmp_path)._replace(free=3_000_000_000)

    def disk_usage(path: Path) -> object:
        asked.append(path)
        return usage

    monkeypatch.setattr(module.shutil, "disk_usage", disk_usage)
    require_space(tmp_path / "not" / "yet", 2_000_000_000, "lgg")
    with pytest.raises(DataError, match=r"3\.0 GB free, 5\.0 GB needed for lgg"):
        require_space(tmp_path / "not" / "yet", 5_000_000_000, "lgg")
    assert asked == [tmp_path, tmp_path]
