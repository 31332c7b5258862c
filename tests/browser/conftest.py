"""JupyterLab and Voila on localhost and Debian's Chromium, for tests of notebooks as a reader sees them."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = Path("/usr/bin/chromium")
PATIENCE = float(os.environ.get("THESIS_BROWSER_PATIENCE", 120))
"""Seconds to wait for anything at most; a busy machine may need more."""
# a notice asks about news, and cells outside the window are not drawn by default
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    "@jupyterlab/notebook-extension/tracker": '{"windowingMode": "none"}',
}
NO_NEWS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running Chromium; without one the test is skipped."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test installs it")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=NO_NEWS)
        yield browser
        browser.close()


class Server:
    """A server of notebooks, and the browser that looks at it.

    Args:
        chromium: The browser.
        address: Of the server, with a slash at its end.
        token: What lets in.
    """

    def __init__(self, chromium: Any, address: str, token: str) -> None:
        self.chromium, self.address, self.token = chromium, address, token
        self.errors: list[str] = []
        self.outside: list[str] = []

    def open(self, place: str) -> Any:
        """The page at a place below the address; errors on it and requests of it to elsewhere are noted."""
        from playwright.sync_api import expect

        page = self.chromium.new_context(viewport={"width": 1400, "height": 1300}).new_page()
        page.set_default_timeout(1000 * PATIENCE)
        expect.set_options(timeout=1000 * PATIENCE)
        page.on("pageerror", lambda error: self.errors.append(str(error)[:300]))
        page.on("request", lambda request: self._note(request.url))
        page.goto(f"{self.address}{place}?token={self.token}")
        return page

    def run_all(self, notebook: str) -> Any:
        """Open a notebook of JupyterLab's root folder, run all cells, and wait until they have run: the page."""
        from playwright.sync_api import expect

        page = self.open(f"lab/tree/{notebook}")
        page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for()
        # the toolbar says idle before the kernel is connected, and Run All would be lost
        expect(page.locator("#jp-main-statusbar")).to_contain_text(re.compile(r"\| Idle"))
        page.locator("#jp-MainMenu").get_by_text("Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        expect(page.locator(".jp-CodeCell .jp-InputPrompt").last).to_have_text(re.compile(r"\[\d+\]:"))
        return page

    def _note(self, url: str) -> None:
        if not url.startswith((self.address, self.address.replace("http", "ws"), "data:", "blob:")):
            self.outside.append(url)


@pytest.fixture
def lab(chromium: Any, tmp_path: Path) -> Iterator[Server]:
    """JupyterLab on `tmp_path / "root"`, which the test fills with notebooks; kernels import this checkout."""
    for name, content in SETTINGS.items():
        file = tmp_path / "settings" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    options = [f"--ServerApp.root_dir={tmp_path / 'root'}", "--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0"]
    options += ["--allow-root", "--LabApp.extension_manager=readonly"]
    with _server(tmp_path, "jupyterlab", options, "--ServerApp.port", "--IdentityProvider.token") as (address, token):
        yield Server(chromium, address, token)


@pytest.fixture
def voila(chromium: Any, tmp_path: Path) -> Iterator[Server]:
    """Voila on `tmp_path / "root"`, as `make explorer` starts it; notebooks are pages below `voila/render`."""
    with _server(tmp_path, "voila", ["--Voila.ip=127.0.0.1"], "--port", "--Voila.token") as (address, token):
        yield Server(chromium, address, token)


@contextmanager
def _server(
    folder: Path, module: str, options: list[str], port_option: str, token_option: str
) -> Iterator[tuple[str, str]]:
    """Start a server on a free port; its address and token. It is ended by its own process group."""
    root = folder / "root"
    root.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, log = secrets.token_hex(16), folder / f"{module}.log"
    places = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    places |= {f"JUPYTERLAB_{name}_DIR": str(folder / name.lower()) for name in ("SETTINGS", "WORKSPACES")}
    environment = os.environ | places | {"IPYTHONDIR": str(folder / "ipython"), "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-m",
        module,
        "--no-browser",
        *options,
        f"{port_option}={port}",
        f"{token_option}={token}",
    ]
    with log.open("w") as out:
        server = subprocess.Popen(command, cwd=root, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        _wait_for(port, server, log)
        yield f"http://127.0.0.1:{port}/", token
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # the group of the server and its kernels, made above
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if server.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the server did not start:\n{log.read_text()[-2000:]}")
