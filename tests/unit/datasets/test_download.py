"""The manifest, and getting a data set: from a server here, from a stand-in for Kaggle, or as steps for the reader."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import pickle
import re
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import kagglehub
import pytest
import requests
from kagglehub.exceptions import DataCorruptionError, KaggleApiHTTPError, UnauthenticatedError

from brainseg_utils.datasets import download as module
from brainseg_utils.datasets import fetch as fetching
from brainseg_utils.datasets.download import RegistrationNeeded, download, manifest_path, read_manifest
from brainseg_utils.datasets.layouts import LAYOUTS
from brainseg_utils.errors import DataError, SettingError

ROOT = Path(__file__).resolve().parents[3]
NAMES = ["lgg", "msd", "brats2020", "brats2021", "brats2023", "brats2024"]


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture(autouse=True)
def quick_and_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "_sleep", lambda _: None)
    monkeypatch.setattr(fetching, "_sleep", lambda _: None)

    def unexpected(handle: str) -> str:
        raise AssertionError(f"kagglehub was asked for {handle}")

    monkeypatch.setattr(kagglehub, "dataset_download", unexpected)


# The manifest


def test_every_data_set_is_described_in_full() -> None:
    sources = read_manifest()
    assert list(sources) == NAMES
    for source in sources.values():
        assert source.layout in LAYOUTS and source.cases > 0
        assert source.source.startswith("http") and source.citation and source.licence and source.checked
        assert 0 < source.download_bytes <= 2 * source.unpacked_bytes and source.sizes
        assert source.sha256 == "unknown" or re.fullmatch("[0-9a-f]{64}", source.sha256)
        assert source.md5 == "unknown" or re.fullmatch("[0-9a-f]{32}", source.md5)
        assert (source.access == "registration") == bool(source.steps)


def test_the_decathlon_entry_is_what_monai_downloads() -> None:
    msd, monai = read_manifest()["msd"], importlib.util.find_spec("monai")
    assert monai and monai.origin
    text = (
        Path(monai.origin).with_name("apps").joinpath("datasets.py").read_text(encoding="utf-8")
    )  # quicker than import
    assert f'"Task01_BrainTumour": "{msd.archive}"' in text and f'"Task01_BrainTumour": "{msd.md5}"' in text


def test_the_page_about_the_data_names_them_all() -> None:
    page = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    for name, source in read_manifest().items():
        assert f"`{name}`" in page and source.source in page and source.licence.split(":")[0] in page


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('title = "x"', "missing field"),
        ('access = "magic"', "magic"),
        ("colour = 3", "colour"),
    ],
)
def test_a_faulty_manifest_says_where(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "m.toml").write_text(f"[mine]\n{text}\n")
    with pytest.raises(DataError, match=rf"m\.toml: \[mine\] .*{word}"):
        read_manifest(tmp_path / "m.toml")


def test_an_installed_package_finds_its_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "share" / "brainseg" / "manifest.toml"
    place.parent.mkdir(parents=True)
    place.write_text("")

    class Entry(type(Path("a"))):  # type: ignore[misc]
        def locate(self) -> Path:
            return tmp_path / "lib" / self

    (tmp_path / "lib").mkdir()
    monkeypatch.setattr(module, "__file__", str(tmp_path / "lib" / "brainseg_utils" / "datasets" / "download.py"))
    monkeypatch.setattr(module.metadata, "files", lambda _: [Entry("a.py"), Entry("../share/brainseg/manifest.toml")])
    assert manifest_path() == place.resolve()
    monkeypatch.setattr(module.metadata, "files", lambda _: None)
    with pytest.raises(DataError, match="list of data sets"):
        manifest_path()


# Registration


@pytest.mark.parametrize("name", ["brats2023", "brats2024"])
def test_registered_data_give_steps_and_touch_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(RegistrationNeeded) as caught:
        download(name, tmp_path / "data")
    text = str(caught.value)
    assert "synapse.org" in text and "(1)" in text and "\n" not in text and len(caught.value.steps) == 5
    assert tree(tmp_path) == []
    assert str(pickle.loads(pickle.dumps(caught.value))) == text


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="did you mean 'brats2021'"):
        download("brats-2021", tmp_path)


# HTTP


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}", folder
    http.shutdown()
    http.server_close()
    thread.join()


def make_tar(path: Path, members: dict[str, bytes], link: str | None = None) -> Path:
    with tarfile.open(path, "w") as pack:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            pack.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            pack.addfile(info)
    return path


SCANS = {
    "Task01/dataset.json": b"{}",
    "Task01/imagesTr/._BRATS_001.nii.gz": b"?",
    "Task01/imagesTr/BRATS_001.nii.gz": b"v",
}


def manifest(tmp_path: Path, **changes: object) -> Path:
    entry: dict[str, object] = {
        "title": "a test",
        "layout": "msd",
        "cases": 1,
        "source": "https://example.org/mine",
        "licence": "none",
        "citation": ["nobody"],
        "sizes": "exact",
        "checked": "yes",
        "sha256": "unknown",
        "md5": "unknown",
        "download_bytes": 10_240,
        "unpacked_bytes": 10_240,
    } | changes
    path = tmp_path / "manifest.toml"
    path.write_text("[mine]\n" + "".join(f"{key} = {value!r}\n" for key, value in entry.items()))
    return path


def http_manifest(tmp_path: Path, url: str, served: Path, **changes: object) -> Path:
    data = served.read_bytes()
    standard = {
        "access": "http",
        "archive": f"{url}/{served.name}",
        "keep": "Task01",
        "folder": "Task01_BrainTumour",
        "download_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return manifest(tmp_path, **(standard | changes))


def test_from_a_server_to_a_clean_folder(
    server: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, served = server
    listed = http_manifest(tmp_path, url, make_tar(served / "a.tar", SCANS))
    folder = download("mine", tmp_path / "data", listed)
    assert folder == tmp_path / "data" / "Task01_BrainTumour"
    assert tree(tmp_path / "data") == [
        "Task01_BrainTumour",
        "Task01_BrainTumour/dataset.json",
        "Task01_BrainTumour/imagesTr",
        "Task01_BrainTumour/imagesTr/BRATS_001.nii.gz",
    ]
    shown = capsys.readouterr().err
    assert "Licence: none. Cite: nobody" in shown and "a.tar (MiB): 1/1" in shown
    (served / "a.tar").unlink()
    assert download("mine", tmp_path / "data", listed) == folder  # there already: the server is not asked


def test_a_hostile_archive_ends_nowhere(server: tuple[str, Path], tmp_path: Path) -> None:
    url, served = server
    listed = http_manifest(tmp_path, url, make_tar(served / "a.tar", SCANS, link="Task01/passwd"))
    with pytest.raises(DataError, match="'Task01/passwd' is a symbolic link"):
        download("mine", tmp_path / "data", listed)
    assert tree(tmp_path / "data") == [".download-mine", ".download-mine/a.tar"]


def test_an_archive_that_outgrows_the_manifest(server: tuple[str, Path], tmp_path: Path) -> None:
    url, served = server
    archive = make_tar(served / "a.tar", {"Task01/x": bytes(20_000)})
    with pytest.raises(DataError, match="15360 at the most"):
        download("mine", tmp_path / "data", http_manifest(tmp_path, url, archive))


def test_a_wrong_checksum_and_a_missing_file_leave_nothing(server: tuple[str, Path], tmp_path: Path) -> None:
    url, served = server
    archive = make_tar(served / "a.tar", SCANS)
    with pytest.raises(DataError, match="sha256 is"):
        download("mine", tmp_path / "data", http_manifest(tmp_path, url, archive, sha256="0" * 64))
    with pytest.raises(DataError, match="answered 404"):
        download("mine", tmp_path / "data", http_manifest(tmp_path, url, archive, archive=f"{url}/gone.tar"))
    assert tree(tmp_path / "data") == []


def test_a_rearranged_archive_says_what_it_has(server: tuple[str, Path], tmp_path: Path) -> None:
    url, served = server
    archive = make_tar(served / "a.tar", SCANS)
    with pytest.raises(DataError, match=r"no Task99 in what arrived \(Task01"):
        download("mine", tmp_path / "data", http_manifest(tmp_path, url, archive, keep="Task99"))
    assert not (tmp_path / "data" / "Task01_BrainTumour").exists()


def test_space_is_asked_for_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = fetching.shutil.disk_usage(tmp_path)._replace(free=10**9)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"1\.0 GB free, 15\.2 GB needed for msd"):
        download("msd", tmp_path / "data")
    assert tree(tmp_path) == []


# Kaggle


def kaggle(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], failures: list[Exception] | None = None
) -> list[str]:
    """A stand-in for kagglehub: fills its cache folder after the given failures; returns what it was asked."""
    asked: list[str] = []
    failures = list(failures or [])

    def dataset_download(handle: str) -> str:
        asked.append(handle)
        if failures:
            raise failures.pop(0)
        folder = Path(os.environ["KAGGLEHUB_CACHE"]) / "datasets" / handle / "versions" / "1"
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return str(folder)

    monkeypatch.setattr(kagglehub, "dataset_download", dataset_download)
    return asked


def answer(status: int) -> KaggleApiHTTPError:
    response = requests.Response()
    response.status_code = status
    return KaggleApiHTTPError(f"{status} Client Error.\n\nsome page", response=response)


LGG = {
    "kaggle_3m/TCGA_A/TCGA_A_1.tif": b"1",
    "kaggle_3m/data.csv": b"2",
    "lgg-mri-segmentation/kaggle_3m/TCGA_A/TCGA_A_1.tif": b"1",
}


def test_lgg_comes_without_its_second_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLEHUB_CACHE", "somewhere")
    asked = kaggle(monkeypatch, LGG)
    assert download("lgg", tmp_path) == tmp_path / "kaggle_3m"
    assert tree(tmp_path) == ["kaggle_3m", "kaggle_3m/TCGA_A", "kaggle_3m/TCGA_A/TCGA_A_1.tif", "kaggle_3m/data.csv"]
    assert asked == ["mateuszbuda/lgg-mri-segmentation"] and os.environ["KAGGLEHUB_CACHE"] == "somewhere"


def test_brats2020_is_the_training_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = "MICCAI_BraTS2020_TrainingData/BraTS20_Training_001/BraTS20_Training_001_t1.nii"
    other = "MICCAI_BraTS2020_ValidationData/BraTS20_Validation_001/BraTS20_Validation_001_t1.nii"
    kaggle(monkeypatch, {f"BraTS2020_TrainingData/{case}": b"v", f"BraTS2020_ValidationData/{other}": b"v"})
    monkeypatch.setattr(module, "require_space", lambda *_: None)
    assert download("brats2020", tmp_path) == tmp_path / "MICCAI_BraTS2020_TrainingData"
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.nii")] == [case]


def test_brats2021_unpacks_the_tar_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = "BraTS2021_00000/BraTS2021_00000_t1.nii.gz"
    inner = make_tar(tmp_path / "inner.tar", {scan: b"v"}).read_bytes()
    kaggle(monkeypatch, {"BraTS2021_Training_Data.tar": inner, "BraTS2021_00495.tar": b"not wanted"})
    monkeypatch.setattr(module, "require_space", lambda *_: None)
    folder = download("brats2021", tmp_path / "data")
    assert (folder / scan).read_bytes() == b"v" and os.listdir(tmp_path / "data") == ["BraTS2021_Training_Data"]


@pytest.mark.parametrize("error", [UnauthenticatedError(), answer(401), answer(403), ValueError("kaggle.json is odd")])
def test_without_credentials_that_kaggle_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    asked = kaggle(monkeypatch, LGG, [error])
    with pytest.raises(DataError) as caught:
        download("lgg", tmp_path / "data")
    text = str(caught.value)
    assert "kaggle.com/datasets/mateuszbuda" in text and "~/.kaggle/kaggle.json" in text and "\n" not in text
    assert len(asked) == 1 and tree(tmp_path) in ([], ["data"])
    kaggle(monkeypatch, LGG)
    assert download("lgg", tmp_path / "data").is_dir()


def test_kaggle_is_asked_again_after_a_drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drops = [requests.ConnectionError("reset"), DataCorruptionError("checksum"), answer(503)]
    asked = kaggle(monkeypatch, LGG, drops)
    assert download("lgg", tmp_path).is_dir() and len(asked) == 4


def test_kaggle_out_of_reach_or_empty_handed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = kaggle(monkeypatch, LGG, [requests.ConnectionError("name not known")] * 9)
    with pytest.raises(DataError, match="5 attempts failed, the last with: name not known"):
        download("lgg", tmp_path)
    assert len(asked) == 5
    kaggle(monkeypatch, LGG, [answer(404)])
    with pytest.raises(DataError, match="no such data set any more"):
        download("lgg", tmp_path)


def test_a_mounted_data_set_is_copied_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = tmp_path / "mount"
    (mount / "kaggle_3m").mkdir(parents=True)
    (mount / "kaggle_3m" / "data.csv").write_text("x")
    monkeypatch.setattr(kagglehub, "dataset_download", lambda _: str(mount))
    download("lgg", tmp_path / "data")
    assert (
        tree(tmp_path / "data") == ["kaggle_3m", "kaggle_3m/data.csv"] and (mount / "kaggle_3m" / "data.csv").exists()
    )


def test_links_among_downloaded_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = tmp_path / "mount"
    (mount / "kaggle_3m").mkdir(parents=True)
    (mount / "kaggle_3m" / "link").symlink_to("/etc")
    monkeypatch.setattr(kagglehub, "dataset_download", lambda _: str(mount))
    with pytest.raises(DataError, match="symbolic link"):
        download("lgg", tmp_path / "data")
    assert not (tmp_path / "data" / "kaggle_3m").exists()


def test_real_kagglehub_resumes_from_the_cache_beside_the_data(tmp_path: Path) -> None:
    """The promise rests on where kagglehub keeps what has arrived: below KAGGLEHUB_CACHE, by version."""
    from kagglehub.cache import get_cached_archive_path
    from kagglehub.handle import parse_dataset_handle

    with module._kaggle_cache(tmp_path / "cache"):
        handle = parse_dataset_handle("mateuszbuda/lgg-mri-segmentation/versions/2")
        assert (tmp_path / "cache") in Path(get_cached_archive_path(handle)).parents
    assert "KAGGLEHUB_CACHE" not in os.environ or os.environ["KAGGLEHUB_CACHE"] != str(tmp_path / "cache")
