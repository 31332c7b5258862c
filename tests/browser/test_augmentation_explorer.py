"""Notebook 03 as a reader sees it, in JupyterLab and as a page: sliders, a live picture, saving, judging."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.widgets.toy import NOTEBOOK, inspection_project

pytest.importorskip("playwright", reason="playwright is not installed: make test installs it")
from playwright.sync_api import Page, expect

# what is drawn, not the address, which changes with every update
PIXELS = """name => { const i = document.querySelector('img.thesis-' + name);
  const c = document.createElement('canvas'); c.width = i.naturalWidth; c.height = i.naturalHeight;
  c.getContext('2d').drawImage(i, 0, 0); return c.toDataURL() }"""
WITHIN = float(os.environ.get("THESIS_BROWSER_WITHIN", 1))
"""Seconds in which a slider must change the picture; a busy machine may need more."""


@pytest.fixture
def project(tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    monkeypatch.chdir(root)
    inspection_project(root, tiny_model_folder)
    notebook = root / "notebooks" / NOTEBOOK
    notebook.write_text(notebook.read_text().replace("parameters/quickstart.yaml", "parameters/toy.yaml"))
    return root


def use(page: Page, project: Path) -> None:
    """Do what a reader does with the explorer."""
    result = page.locator("img.thesis-result")
    result.wait_for()
    page.locator(".thesis-explorer").scroll_into_view_if_needed()
    before = page.evaluate(PIXELS, "result")
    noised = page.evaluate(PIXELS, "noised")
    page.locator(".thesis-timestep .noUi-handle").focus()
    started = time.monotonic()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"before => ({PIXELS})('result') !== before", arg=before, polling=20)
    assert time.monotonic() - started < WITHIN
    page.wait_for_function(f"before => ({PIXELS})('noised') !== before", arg=noised)

    page.locator(".thesis-variation .noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".thesis-readout")).to_contain_text("not precomputed")
    grey = page.evaluate(PIXELS, "result")
    page.locator("button.thesis-live").click()
    page.wait_for_function(f"before => ({PIXELS})('result') !== before", arg=grey)
    expect(page.locator("button.thesis-live")).to_be_disabled()

    page.locator("button.thesis-save").click()
    expect(page.locator(".thesis-saved")).to_contain_text("written")
    folder = project / "runs" / "toy" / "explorer"
    assert {path.suffix for path in folder.glob("ball*")} == {".pdf", ".png"}

    page.locator("button.thesis-keep-bad").click()
    expect(page.locator(".thesis-judged")).to_contain_text("pass 1: 1 judged")
    page.locator(".thesis-blind input").check()
    expect(page.locator(".thesis-readout")).to_be_hidden()
    page.locator("button.thesis-keep-id").click()
    expect(page.locator(".thesis-judged")).to_contain_text("pass 1: 1 judged · ")  # blind; the other stays beside
    page.locator(".thesis-blind input").uncheck()
    expect(page.locator(".thesis-readout")).to_be_visible()
    assert (folder / "judgements.csv").read_text().count("\n") == 3


@pytest.mark.slow
def test_in_jupyterlab(project: Path, lab: Any) -> None:
    page = lab.run_all(f"notebooks/{NOTEBOOK}")
    use(page, project)
    assert not lab.errors and not lab.outside


@pytest.mark.slow
def test_as_a_page(project: Path, voila: Any) -> None:
    page = voila.open(f"voila/render/notebooks/{NOTEBOOK}")
    use(page, project)
    # Voila's page asks for its icons; without a network they are missing and nothing else is
    assert not voila.errors and all("fontawesome" in address for address in voila.outside)
    assert page.locator("text=from thesis_lib").count() == 0  # no code
