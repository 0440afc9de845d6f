"""Notebooks in JupyterLab, and the app, in a real browser: run all cells, turn knobs by keyboard, choose files."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import nbformat
import pytest
from PIL import Image

from difcore.experiments.showroom import demo_pictures
from difcore.files import PROJECT_DIR

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TINY = '\nsize, steps, kept, output_dir = 32, 20, [1, 5, 20], "out"'
INSPECTED = '\nfingerprints, demo_images, most, output_dir = ["demo"], 1, 1, "out"'
DROPPED = '\ndemo_images, output_dir = 1, "out"'
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-default-apps", "--disable-extensions", "--disable-sync", "--no-first-run",
]  # fmt: skip
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},  # all cells are in the page, seen or not
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]


@pytest.fixture
def lab(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a JupyterLab of this test's own that shows a small copy of a notebook: (name, parameters)."""
    name, tiny = request.param
    home, work, runtime = (tmp_path / name for name in ("home", "work", "runtime"))
    for folder in (home, work, runtime):
        folder.mkdir()
    notebook = nbformat.read(PROJECT_DIR / "notebooks" / f"{name}.ipynb", as_version=4)
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source += tiny
    nbformat.write(notebook, work / "tiny.ipynb")
    for plugin, values in SETTINGS.items():
        path = home / "settings" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    environment = os.environ | {
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYTHONPATH": str(PROJECT_DIR),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("MPLBACKEND", None)
    token = secrets.token_hex(16)
    options = ["--no-browser", "--ip=127.0.0.1", "--port=0", f"--ServerApp.root_dir={work}", "--allow-root"]
    options += [f"--IdentityProvider.token={token}", "--LabApp.extension_manager=readonly", "--LabApp.news_url=None"]
    with open(tmp_path / "lab.log", "wb") as log:
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, cwd=work, env=environment, stdout=log, stderr=log)
    try:
        yield f"{server_address(runtime, server, tmp_path / 'lab.log')}lab/tree/tiny.ipynb?token={token}"
    finally:
        server.terminate()
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def server_address(runtime: Path, server: subprocess.Popen[bytes], log: Path) -> str:
    """What the server says it listens on, as soon as it does."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline and server.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            if (text := path.read_text(encoding="utf-8")).rstrip().endswith("}"):
                return json.loads(text)["url"]
        time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text(encoding='utf-8', errors='replace')[-2000:]}")


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A page of a browser of this test's own that asks no other host for anything and logs no error."""
    (tmp_path / "home").mkdir(exist_ok=True)
    elsewhere: list[str] = []
    errors: list[str] = []
    with sync_api.sync_playwright() as playwright:
        environment = os.environ | {"HOME": str(tmp_path / "home")}
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, env=environment)
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.set_default_timeout(20_000)
        page.on("request", lambda r: elsewhere.append(r.url) if not is_local(r.url) else None)
        page.on("console", lambda m: errors.append(f"{m.text} {m.location}") if m.type == "error" else None)
        page.on("pageerror", lambda e: errors.append(str(e)))
        yield page
        page.screenshot(path=tmp_path / "page.png")
        browser.close()
    assert elsewhere == []
    assert errors == []


def run_all(page: Page, address: str) -> Locator:
    """Open a notebook and run all its cells; its widget."""
    page.goto(address)
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    page.get_by_text("| Idle").wait_for()  # in the status bar: a kernel has been started and answers
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    widget = page.locator(".jp-CodeCell").last.locator(".widget-vbox").first
    widget.wait_for(timeout=150_000)
    return widget


def changed(page: Page, figure: Locator, before: str) -> str:
    """What ``figure`` shows as soon as it is something else."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if (now := figure.get_attribute("src") or "") and now != before:
            return now
        page.wait_for_timeout(100)
    raise AssertionError("the figure stayed the same")


def choose_next(page: Page) -> None:
    """The next entry of the focused list: a closed list's arrow keys JupyterLab takes for itself."""
    for key in ("Space", "ArrowDown", "Enter"):
        page.keyboard.press(key)


def tab_to(page: Page, place: Locator) -> None:
    for _ in range(12):
        if place.evaluate("e => e === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError("Tab does not lead there")


def chosen(widget: Locator, k: int) -> str:
    text = widget.locator("select").nth(k).evaluate("e => e.options[e.selectedIndex].text")
    return text.replace("\N{NO-BREAK SPACE}", " ")


def assert_no_error(page: Page) -> None:
    assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    assert page.locator('[data-mime-type="application/vnd.jupyter.error"]').count() == 0
    assert "Traceback" not in page.locator(".jp-Notebook").inner_text()


@pytest.mark.parametrize("lab", [("01_gray_image", TINY)], indirect=True)
def test_the_widget_answers_the_keyboard(lab: str, page: Page, tmp_path: Path) -> None:
    widget = run_all(page, lab)
    figure = widget.locator("img").first
    figure.wait_for()
    first = figure.get_attribute("src") or ""
    assert first.startswith("data:image/png;base64,")
    widget.locator("select").first.focus()
    assert chosen(widget, 0) == "step 1"
    choose_next(page)
    second = changed(page, figure, first)
    assert chosen(widget, 0) == "step 5"
    page.keyboard.press("Tab")  # on to the channel
    choose_next(page)
    third = changed(page, figure, second)
    assert chosen(widget, 1) == "R"
    page.keyboard.press("Tab")  # on to the spectrum's power
    page.keyboard.press("ArrowLeft")
    fourth = changed(page, figure, third)
    assert widget.locator(".widget-readout").first.inner_text() == "3.50"
    assert len({first, second, third, fourth}) == 4
    widget.scroll_into_view_if_needed()
    assert page.locator(".jp-RenderedImage img").count() >= 2  # the static figure is there, too
    assert_no_error(page)
    assert (tmp_path / "work" / "out" / "gray_image.png").is_file()


@pytest.mark.parametrize("lab", [("30_inspector", INSPECTED)], indirect=True)
def test_the_inspector_by_keyboard(lab: str, page: Page, tmp_path: Path) -> None:
    widget = run_all(page, lab)
    figure = widget.locator("img").first
    figure.wait_for()
    shown = [figure.get_attribute("src") or ""]
    widget.locator("select").first.focus()
    for k in range(3):  # fingerprint, image, channel
        before = chosen(widget, k)
        choose_next(page)
        shown.append(changed(page, figure, shown[-1]))
        assert chosen(widget, k) != before
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")  # gain
    shown.append(changed(page, figure, shown[-1]))
    tab_to(page, widget.locator("select").nth(4))  # past colours and power to the zoom
    choose_next(page)
    shown.append(changed(page, figure, shown[-1]))
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")  # the cursor's row
    shown.append(changed(page, figure, shown[-1]))
    assert len(set(shown)) == len(shown)
    assert "zoom=2" in widget.inner_text() and "Row 65" in widget.inner_text()
    widget.get_by_role("button", name="Save PNG and SVG").press("Enter")
    widget.get_by_text("Saved:").wait_for()
    assert (tmp_path / "work" / "out" / "inspector.svg").is_file()
    assert widget.locator("img").count() == 2
    figure.scroll_into_view_if_needed()
    assert_no_error(page)


@pytest.mark.parametrize("lab", [("31_detect_by_drop", DROPPED)], indirect=True)
def test_an_image_is_chosen_and_its_verdict_read(lab: str, page: Page, tmp_path: Path) -> None:
    widget = run_all(page, lab)
    read_verdict(page, widget, tmp_path)
    assert_no_error(page)


def read_verdict(page: Page, widget: Locator, tmp_path: Path) -> None:
    """Give the widget a fake that it knows and a text; read the verdict and the reason, save the report."""
    name, pixels = next((n, p) for n, p in demo_pictures(1, 128).items() if n.startswith("demo-nearest"))
    Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    with page.expect_file_chooser() as chooser:
        widget.get_by_role("button", name="Choose images").press("Enter")
    chooser.value.set_files([tmp_path / name, tmp_path / "notes.txt"])
    widget.get_by_text(name).first.wait_for(timeout=60_000)
    text = widget.inner_text()
    assert name in text and any(word in text for word in ("generated", "no match", "undecided"))
    assert "notes.txt: not an image" in text
    widget.locator("img").first.wait_for()
    with page.expect_download() as saved:
        widget.get_by_text("Save the examiner's report").press("Enter")
    assert name in saved.value.path().read_text(encoding="utf-8")
    widget.scroll_into_view_if_needed()


def asked_without_token(address: str) -> str:
    """Where the server sends whoever has no token, as soon as it answers; "login" where it refuses outright."""
    for _ in range(80):
        try:
            with urlopen(address) as answer:
                return str(answer.url)
        except HTTPError as error:
            return "login" if error.code in (401, 403) else str(error)
        except OSError:
            time.sleep(0.5)
    return "no answer"


def test_the_app(page: Page, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "difcore.cli", "app", "demo", "--no-browser"]
    environment = os.environ | {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(PROJECT_DIR), "OMP_NUM_THREADS": "1"}
    with open(tmp_path / "app.log", "w+", encoding="utf-8") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        try:
            deadline, address = time.monotonic() + 40, None
            while time.monotonic() < deadline and address is None:
                address = re.search(r"http://127\.0\.0\.1:\d+/\?token=\w+", (tmp_path / "app.log").read_text("utf-8"))
                time.sleep(0.3)
            assert address is not None, (tmp_path / "app.log").read_text("utf-8")
            assert "login" in asked_without_token(address[0].partition("?")[0])
            page.goto(address[0])
            widget = page.locator(".widget-vbox").first
            widget.wait_for(timeout=90_000)
            read_verdict(page, widget, tmp_path)
            assert "import" not in page.locator("body").inner_text()  # no code
            page.screenshot(path=tmp_path / "app.png")
            page.goto("about:blank")  # the page would tell of the connection that is cut
        finally:
            server.terminate()
            server.wait(timeout=20)


def is_local(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob", "about") or parts.hostname == "127.0.0.1"
