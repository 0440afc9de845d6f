"""A notebook in JupyterLab in a real browser: run all cells, turn the widget's knobs by keyboard, see the change."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest

from difcore.files import PROJECT_DIR

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TINY = '\nsize, steps, kept, output_dir = 32, 20, [1, 5, 20], "out"'
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
def lab(tmp_path: Path) -> Iterator[str]:
    """The address of a JupyterLab of this test's own that shows a small copy of the gray-image notebook."""
    home, work, runtime = (tmp_path / name for name in ("home", "work", "runtime"))
    for folder in (home, work, runtime):
        folder.mkdir()
    notebook = nbformat.read(PROJECT_DIR / "notebooks" / "01_gray_image.ipynb", as_version=4)
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source += TINY
    nbformat.write(notebook, work / "gray.ipynb")
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
        yield f"{server_address(runtime, server, tmp_path / 'lab.log')}lab/tree/gray.ipynb?token={token}"
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


def test_the_widget_answers_the_keyboard(lab: str, tmp_path: Path) -> None:
    elsewhere: list[str] = []
    with sync_api.sync_playwright() as playwright:
        environment = os.environ | {"HOME": str(tmp_path / "home")}
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, env=environment)
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.set_default_timeout(20_000)
        page.on("request", lambda r: elsewhere.append(r.url) if not is_local(r.url) else None)
        page.goto(lab)
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
        page.get_by_text("| Idle").wait_for()  # in the status bar: a kernel has been started and answers
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        widget = page.locator(".jp-CodeCell").last.locator(".widget-vbox").first
        widget.wait_for(timeout=60_000)
        figure = widget.locator("img").first
        figure.wait_for()

        def shown() -> str:
            return figure.get_attribute("src") or ""

        def changed(before: str) -> str:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                if (now := shown()) and now != before:
                    return now
                page.wait_for_timeout(100)
            raise AssertionError("the figure stayed the same")

        def chosen(k: int) -> str:
            text = widget.locator("select").nth(k).evaluate("e => e.options[e.selectedIndex].text")
            return text.replace("\N{NO-BREAK SPACE}", " ")

        first = shown()
        assert first.startswith("data:image/png;base64,")

        def choose_next() -> None:
            """The next entry of the focused list: a closed list's arrow keys JupyterLab takes for itself."""
            for key in ("Space", "ArrowDown", "Enter"):
                page.keyboard.press(key)

        widget.locator("select").first.focus()
        assert chosen(0) == "step 1"
        choose_next()
        second = changed(first)
        assert chosen(0) == "step 5"
        page.keyboard.press("Tab")  # on to the channel
        choose_next()
        third = changed(second)
        assert chosen(1) == "R"
        page.keyboard.press("Tab")  # on to the spectrum's power
        page.keyboard.press("ArrowLeft")
        fourth = changed(third)
        assert widget.locator(".widget-readout").first.inner_text() == "3.50"
        assert len({first, second, third, fourth}) == 4

        widget.scroll_into_view_if_needed()
        page.screenshot(path=tmp_path / "lab.png")
        assert page.locator(".jp-RenderedImage img").count() >= 2  # the static figure is there, too
        assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
        assert page.locator('[data-mime-type="application/vnd.jupyter.error"]').count() == 0
        assert "Traceback" not in page.locator(".jp-Notebook").inner_text()
        browser.close()
    assert elsewhere == []
    assert (tmp_path / "work" / "out" / "gray_image.png").is_file()


def is_local(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob", "about") or parts.hostname == "127.0.0.1"
