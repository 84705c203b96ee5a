"""The slice viewer and the 3D view in JupyterLab, in a real browser, moved by mouse and by keyboard."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import nbformat
import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-swiftshader",  # WebGL without a graphics card, for the 3D view
]
SETTINGS = '{"fetchNews": "false", "checkForUpdates": false}'
NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "00_first_look.ipynb"
START = 180  # seconds for the server, a kernel or a first picture, on a machine that is busy with other things
ANSWER = 20  # seconds for one change of the picture
CELLS = [
    """
import numpy as np
from brainseg_utils.views.state import Scene, ViewState
from brainseg_utils.views.widget import SliceWidget
shape = np.array((60, 72, 48))
place = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
brain = (place**2).sum(0) < 0.8
rng = np.random.default_rng(0)
images = np.stack([brain * (100 + 40 * place[i % 3] + rng.normal(0, 5, shape)) for i in range(4)]).astype(np.float32)
radius = ((place - np.array([0.3, 0.2, 0.1])[:, None, None, None]) ** 2).sum(0) ** 0.5
truth = np.select([radius < 0.15, radius < 0.25, radius < 0.4], [1, 3, 2], 0).astype(np.uint8)
scene = Scene(images, ("t1n", "t1c", "t2w", "t2f"), (2.0, 2.0, 3.0), truth, np.roll(truth, 3, 0),
              {1: "NETC", 2: "SNFH", 3: "ET"}, "synthetic")
""",
    "SliceWidget(ViewState(scene, point=(39, 43, 26)))",
    "from brainseg_utils.views.volumes import VolumeView\nVolumeView(ViewState(scene, point=(39, 43, 26)))",
]


@pytest.fixture(scope="module")
def chromium() -> str:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        reason = f"Chromium not found (looked for {', '.join(NAMES)} on the path)"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(f"{reason}, and CI=true does not allow the browser tests to be skipped")
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def lab(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A JupyterLab on the loopback interface with one notebook; yields the notebook's address."""
    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code.strip()) for code in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "viewer.ipynb")
    shutil.copy(NOTEBOOK, folder)
    (folder / "overrides.json").write_text(f'{{"@jupyterlab/apputils-extension:notification": {SETTINGS}}}')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    home = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    home |= {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "spaces")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}"]
    command += [f"--LabApp.app_settings_dir={folder}", "--LabApp.extension_manager=readonly", "--allow-root"]
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(command, cwd=folder, env={**os.environ, **home}, stdout=log, stderr=log)
        try:
            _until(lambda: _answers(f"http://127.0.0.1:{port}/api?token={token}"), START, folder / "server.log")
            yield f"http://127.0.0.1:{port}/lab/tree/viewer.ipynb?token={token}"
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


@pytest.fixture(scope="module")
def page(chromium: str, lab: str) -> Iterator:
    """The notebook in the browser with all cells run; `page.elsewhere` lists requests to other machines."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.elsewhere = []  # type: ignore[attr-defined]

        def guard(route):
            address = urlsplit(route.request.url)
            if address.scheme in ("data", "blob") or address.hostname in ("127.0.0.1", "localhost"):
                route.continue_()
            else:
                page.elsewhere.append(route.request.url)  # type: ignore[attr-defined]
                route.abort()

        page.route("**/*", guard)
        page.goto(lab, timeout=START * 1000)
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=START * 1000)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.locator("img.brainseg-picture[src]").wait_for(timeout=START * 1000)
        yield page
        browser.close()


def test_in_a_long_notebook_the_viewer_is_drawn_while_it_is_out_of_sight(page, lab):
    other = page.context.browser.new_page(viewport=page.viewport_size)
    # A workspace of its own: else JupyterLab may restore the first page's tab in front of this notebook.
    address = lab.replace("/lab/tree/viewer.ipynb", f"/lab/workspaces/long/tree/{NOTEBOOK.name}")
    other.goto(address, timeout=START * 1000)
    other.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=START * 1000)
    other.get_by_role("menuitem", name="Run", exact=True).click()
    other.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    other.locator("img.brainseg-picture[src]").wait_for(timeout=START * 1000, state="attached")
    other.locator(".jp-Cell:has(img.brainseg-picture)").scroll_into_view_if_needed()
    picture = other.locator("img.brainseg-picture")
    picture.wait_for(timeout=ANSWER * 1000)
    box = picture.bounding_box()
    other.close()
    assert box is not None and box["height"] > 100 and box["width"] > 400


ACTIVE = """[...document.querySelectorAll(".jp-Notebook .jp-Cell")].map(c => c.classList.contains("jp-mod-active"))"""
PIXELS = """picture => {
  const canvas = document.createElement("canvas");
  canvas.width = picture.naturalWidth; canvas.height = picture.naturalHeight;
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const bytes = context.getImageData(0, 0, canvas.width, canvas.height).data;
  let sum = 17;
  for (const byte of bytes) sum = (sum * 31 + byte) | 0;
  return sum;
}"""


def test_the_picture_stands_alone_without_its_static_twin(page):
    assert page.locator("img.brainseg-picture").count() == 1
    assert page.locator(".jp-RenderedImage").count() == 0
    assert "axial slice z = 26" in page.locator("img.brainseg-picture").get_attribute("alt")


def test_the_slider_moves_the_picture_by_mouse(page):
    handle = page.locator(".brainseg-slices .noUi-handle").first
    before = _pixels(page)
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 30, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    _changed(page, before)
    assert "axial slice z = 26" not in page.locator("img.brainseg-picture").get_attribute("alt")


def test_the_slider_moves_the_picture_by_keyboard(page):
    before = _pixels(page)
    page.locator(".brainseg-slices .noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    _changed(page, before)


@pytest.mark.parametrize("keys", [["ArrowUp"], ["PageDown"], ["c", "3", "a"], ["o", "o"], ["b", "b"], ["x", "x"]])
def test_keys_on_the_picture_change_it(page, keys):
    page.locator("img.brainseg-picture").focus()
    active = page.evaluate(ACTIVE)
    for key in keys:
        before = _pixels(page)
        page.keyboard.press(key)
        _changed(page, before)
    assert page.evaluate(ACTIVE) == active  # JupyterLab's own shortcuts did not act on the cells
    assert page.locator(".jp-Notebook .jp-Cell").count() == len(CELLS)


def test_a_click_moves_the_crosshair(page):
    before = _pixels(page)
    picture = page.locator("img.brainseg-picture")
    box = picture.bounding_box()
    picture.click(position={"x": box["width"] * 0.1, "y": box["height"] * 0.4})
    _changed(page, before)


def test_buttons_choose_plane_modality_and_labels(page):
    for name in ("Sagittal", "T2"):
        before = _pixels(page)
        page.locator(".brainseg-slices button", has_text=name).first.click()
        _changed(page, before)
    before = _pixels(page)
    page.locator(".brainseg-slices select").select_option("differences")
    _changed(page, before)


def test_the_3d_view_draws(page):
    canvas = page.locator(".jp-OutputArea canvas").first
    canvas.wait_for(timeout=START * 1000)
    canvas.scroll_into_view_if_needed()
    size = canvas.bounding_box()
    assert size["width"] > 300 and size["height"] > 200
    _until(lambda: _colours(canvas.screenshot()) > 50, START)


def test_nothing_was_fetched_from_elsewhere(page):
    assert page.elsewhere == []


def _pixels(page) -> int:
    return page.locator("img.brainseg-picture").evaluate(PIXELS)


def _changed(page, before: int) -> None:
    _until(lambda: _pixels(page) != before, ANSWER)


def _colours(png: bytes) -> int:
    pixels = np.asarray(Image.open(BytesIO(png)).convert("RGB"))
    return len(np.unique(pixels.reshape(-1, 3), axis=0))


def _answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False


def _until(true: Callable[[], bool], seconds: float, log: Path | None = None) -> None:
    """Asks until the answer is yes; the pause only keeps the asking cheap."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds} s; {log.read_text()[-2000:] if log else ''}")
        time.sleep(0.05)
