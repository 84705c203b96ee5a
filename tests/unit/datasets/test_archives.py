"""Archives of every hostile kind, made here: each is refused with the member's name, and nothing stays behind."""

from __future__ import annotations

import gzip
import io
import random
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from brainseg_utils.datasets import archives, fetch
from brainseg_utils.datasets.archives import Limits, extract
from brainseg_utils.errors import DataError

FILES = {"case/a_t1.nii": b"t1" * 5000, "case/a_seg.nii": bytes(3000), "notes.txt": b"read me"}


def write_zip(path: Path, members: list[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, data in members:
            pack.writestr(name, data, compress_type=zipfile.ZIP_DEFLATED)
    return path


def entry(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(data), link
    return info, data


def write_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode, format=tarfile.GNU_FORMAT) as pack:  # type: ignore[call-overload]
        for info, data in members:
            pack.addfile(info, io.BytesIO(data) if data else None)
    return path


def refused(archive: Path, *words: str, limits: Limits | None = None) -> None:
    """Refused with these words, and the folder is as before."""
    out = archive.parent / "out"
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(DataError) as caught:
        extract(archive, out, limits)
    for word in (archive.name, *words):
        assert word in str(caught.value)
    assert sorted(archive.parent.rglob("*")) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "pax.tar"])
def test_ordinary_archives_come_out_whole(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / f"data.{kind}"
    if kind == "zip":
        write_zip(archive, [("case/", b""), *FILES.items()])
    elif kind == "pax.tar":
        with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as pack:
            for name, data in FILES.items():
                info = tarfile.TarInfo(f"./{name}")
                info.size, info.pax_headers = len(data), {"comment": "ö" * 200}
                pack.addfile(info, io.BytesIO(data))
    else:
        members = [entry("./", kind=tarfile.DIRTYPE), entry("case", kind=tarfile.DIRTYPE)]
        write_tar(archive, members + [entry(*item) for item in FILES.items()], "w:gz" if kind == "tar.gz" else "w")
    assert contents(extract(archive, tmp_path / "out")) == FILES
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([archive.name, "out"])


def test_long_names_and_an_empty_target_are_fine(tmp_path: Path) -> None:
    name = "folder/" + "x" * 180 + ".nii"
    (tmp_path / "out").mkdir()
    write_tar(tmp_path / "a.tar", [entry(name, b"v")])
    assert contents(extract(tmp_path / "a.tar", tmp_path / "out")) == {name: b"v"}


ESCAPES = [
    "/etc/passwd",
    "../out.txt",
    "a/../../b",
    "..\\b",
    "a\\..\\..\\b",
    "C:/x",
    "C:\\x",
    "\\\\host\\x",
    "a\nb",
    "f:s",
]


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_leave_the_folder(tmp_path: Path, name: str, kind: str) -> None:
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        write_zip(archive, [("good.txt", b"1"), (name, b"x")])
    else:
        write_tar(archive, [entry("good.txt", b"1"), entry(name, b"x")])
    refused(archive, repr(name))


def test_a_null_in_a_zip_name(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", [("safe_evil.txt", b"x")])
    archive.write_bytes(archive.read_bytes().replace(b"safe_evil.txt", b"safe\0evil.txt"))
    refused(archive, "safe\\x00evil.txt")


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
        (b"Z", "device"),
    ],
)
def test_links_and_devices_in_tar(tmp_path: Path, kind: bytes, word: str) -> None:
    refused(write_tar(tmp_path / "a.tar", [entry("good", b"1"), entry("bad", kind=kind, link="good")]), "'bad'", word)


@pytest.mark.parametrize(("mode", "word"), [(stat.S_IFLNK, "symbolic link"), (stat.S_IFIFO, "pipe")])
def test_links_and_pipes_in_zip(tmp_path: Path, mode: int, word: str) -> None:
    info = zipfile.ZipInfo("bad")
    info.create_system, info.external_attr = 3, (mode | 0o777) << 16
    refused(write_zip(tmp_path / "a.zip", [("good", b"1"), (info, b"/etc/passwd")]), "'bad'", word)


@pytest.mark.parametrize(
    "names", [["a", "a"], ["case/A.nii", "case/a.nii"], ["a", "./a"], ["a", "a/b"], ["a/b", "a"], ["\u00e9", "e\u0301"]]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_overwrite(tmp_path: Path, names: list[str], kind: str) -> None:
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        write_zip(archive, [(name, b"x") for name in names])
    else:
        write_tar(archive, [entry(name, b"x") for name in names])
    refused(archive, repr(names[-1]), "overwrite")


def test_encrypted_zip(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", [("secret.nii", b"x")])
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    archive.write_bytes(data)
    refused(archive, "'secret.nii'", "encrypted")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_by_ratio(tmp_path: Path, kind: str) -> None:
    archive, zeros = tmp_path / f"a.{kind}", bytes(4_000_000)
    if kind == "zip":
        write_zip(archive, [("zeros", zeros)])
    else:
        write_tar(archive, [entry("zeros", zeros)], "w:gz")
    refused(archive, "'zeros'", "times the archive's", limits=Limits(ratio_from=1_000_000))
    extract(archive, tmp_path / "out")  # the same zeros are an honest mask while they are few


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_more_bytes_members_or_depth_than_allowed(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / f"a.{kind}"
    deep = "/".join("abcdefghijklmnopqrst")
    members = [("one", random.Random(1).randbytes(600)), ("two", random.Random(2).randbytes(600)), (deep, b"x")]
    if kind == "zip":
        write_zip(archive, members)  # type: ignore[arg-type]
    else:
        write_tar(archive, [entry(*member) for member in members])
    refused(archive, "'two'", "1200 bytes", "1000 at the most", limits=Limits(unpacked=1000))
    refused(archive, "more than 2 members", limits=Limits(members=2))
    refused(archive, deep, "16 folders deep")


def test_a_tar_that_announces_a_terabyte(tmp_path: Path) -> None:
    info = tarfile.TarInfo("huge.nii")
    info.size = 10**12
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    refused(tmp_path / "a.tar", "'huge.nii'", "1000000000000 bytes")


def test_a_zip_member_larger_than_announced(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", [("scan.nii", b"v" * 9000)])
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        where = data.index(signature) + offset
        data[where : where + 4] = (10).to_bytes(4, "little")
    archive.write_bytes(data)
    refused(archive, "scan.nii")


def test_a_tar_header_of_many_megabytes_is_not_read_into_memory(tmp_path: Path) -> None:
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
        info = tarfile.TarInfo("name")
        info.type, info.size = kind, 50_000_000
        with gzip.open(tmp_path / "a.tar.gz", "wb", 1) as stream:
            stream.write(info.tobuf(tarfile.GNU_FORMAT) + b"n" * 5_000_000)
        refused(tmp_path / "a.tar.gz", "header too long")


def test_an_endless_chain_of_long_names(tmp_path: Path) -> None:
    info = tarfile.TarInfo("name")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1
    block = info.tobuf(tarfile.GNU_FORMAT) + b"n".ljust(512, b"\0")
    (tmp_path / "a.tar").write_bytes(block * 3000)
    refused(tmp_path / "a.tar")


def test_a_negative_size(tmp_path: Path) -> None:
    info = tarfile.TarInfo("minus")
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 12  # base-256 for -1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    (tmp_path / "a.tar").write_bytes(bytes(block) + bytes(1024))
    refused(tmp_path / "a.tar", "'minus'", "-1 bytes")


def test_bytes_after_the_end_of_a_tar_gz(tmp_path: Path) -> None:
    write_tar(tmp_path / "plain.tar", [entry("a", b"x")])
    with gzip.open(tmp_path / "a.tar.gz", "wb") as stream:
        stream.write((tmp_path / "plain.tar").read_bytes() + bytes(5_000_000))
    refused(tmp_path / "a.tar.gz", "after its end mark", limits=Limits(ratio_from=1_000_000))


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_cut_anywhere_is_noticed(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / f"a.{kind}"
    noise = random.Random(0)
    members = [(f"case/{i}.nii", noise.randbytes(700)) for i in range(4)]
    if kind == "zip":
        write_zip(archive, members)  # type: ignore[arg-type]
    else:
        write_tar(archive, [entry(*member) for member in members], "w:gz" if kind == "tar.gz" else "w")
    whole = archive.read_bytes()
    end = 4 * (512 + 1024) if kind == "tar" else len(whole)  # behind it a tar has nothing but zeros
    for length in [1, 600, *range(512, end, 512), end - 1]:
        archive.write_bytes(whole[:length])
        refused(archive)


def test_a_damaged_header_in_the_middle_of_a_tar(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", [entry("one", b"1"), entry("two", b"2")])
    data = bytearray(archive.read_bytes())
    data[1024 + 150] ^= 0xFF  # the second header's own checksum
    archive.write_bytes(data)
    refused(archive, "after 1 members")


def test_wrong_checksums_inside(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as pack:
        pack.writestr("scan.nii", b"voxels voxels")
    archive.write_bytes(archive.read_bytes().replace(b"voxels voxels", b"voxels vowels"))
    refused(archive, "scan.nii")
    packed = write_tar(tmp_path / "a.tar.gz", [entry("a", b"x" * 2000)], "w:gz")
    data = bytearray(packed.read_bytes())
    data[-6] ^= 1  # gzip's CRC
    packed.write_bytes(data)
    refused(packed)


def test_random_damage_never_crashes(tmp_path: Path) -> None:
    noise = random.Random(3)
    for kind, writer in (("zip", write_zip), ("tar", None), ("tar.gz", None)):
        archive = tmp_path / f"a.{kind}"
        if writer:
            writer(archive, list(FILES.items()))  # type: ignore[arg-type]
        else:
            write_tar(archive, [entry(*item) for item in FILES.items()], "w:gz" if kind == "tar.gz" else "w")
        whole = archive.read_bytes()
        for number in range(60):
            data = bytearray(whole)
            for _ in range(4):
                data[noise.randrange(len(data))] = noise.randrange(256)
            archive.write_bytes(data)
            try:
                extract(archive, tmp_path / f"{kind}{number}")
            except DataError:
                assert not (tmp_path / f"{kind}{number}").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".tmp-")]


def test_not_an_archive(tmp_path: Path) -> None:
    page = tmp_path / "data.zip"
    page.write_bytes(b"<!DOCTYPE html><title>Log in</title>")
    refused(page, "<!DOCTYPE", "login")


def test_targets_and_sources_that_will_not_do(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", list(FILES.items()))  # type: ignore[arg-type]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="exists already"):
        extract(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == {"mine.txt": b"keep"}
    with pytest.raises(DataError, match="no such file"):
        extract(tmp_path / "b.zip", tmp_path / "new")


def test_too_little_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_zip(tmp_path / "a.zip", list(FILES.items()))  # type: ignore[arg-type]
    usage = fetch.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="GB needed for unpacking"):
        extract(archive, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_zip(tmp_path / "a.zip", list(FILES.items()))  # type: ignore[arg-type]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(archives, "_write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        extract(archive, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]
