"""The embedding explorer in JupyterLab: what the mouse and the keyboard do to the picture and the maps."""

import json
from typing import Any

import nbformat
import pytest

from tests.widgets.made_up import ARMS, grey

pytest.importorskip("playwright", reason="playwright is not installed: make test installs it")
from playwright.sync_api import Page, expect

SHOW = "from tests.widgets.made_up import made_up_explorer\n\nexplorer = made_up_explorer()\nexplorer"
# places of all pictures in all panels, as shares of the canvas's width and height from the top left
PLACES = """import json
figure = explorer.canvas.figure
figure.draw_without_rendering()
size = figure.bbox.size
places = [ax.transData.transform(at) / size for ax, at in zip(explorer._panels, explorer._positions)]
print(json.dumps([[(x, 1 - y) for x, y in panel] for panel in places]))"""
# what is drawn, not the address, which changes with every update
GREY = """image => { const c = document.createElement('canvas'); c.width = c.height = 1;
  const x = c.getContext('2d'); x.drawImage(image, 0, 0, 1, 1); return x.getImageData(0, 0, 1, 1).data[0] }"""
PIXELS = "canvas => canvas.toDataURL()"


def notebook() -> nbformat.NotebookNode:
    made = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    made.cells = [nbformat.v4.new_code_cell(source) for source in (SHOW, PLACES)]
    return made


def wait_for_picture(page: Page, index: int) -> None:
    """Wait until the picture number `index`, counted from 0, is on the screen."""
    page.wait_for_function(f"grey => ({GREY})(document.querySelector('img.thesis-picture')) === grey", arg=grey(index))


@pytest.mark.slow
def test_pointing_shows_pictures_and_marks_them_and_the_keyboard_reaches_all(lab: Any, tmp_path: Any) -> None:
    nbformat.write(notebook(), tmp_path / "root" / "maps.ipynb")
    page = lab.run_all("maps.ipynb")
    places = json.loads(page.locator(".jp-OutputArea-output pre").last.inner_text())
    assert len(places) == 4
    maps, facts = page.locator(".thesis-maps canvas").first, page.locator(".thesis-facts")
    maps.wait_for()
    wait_for_picture(page, 0)
    page.wait_for_function("() => document.querySelector('.thesis-maps canvas').width > 600")
    maps.scroll_into_view_if_needed()
    box = maps.bounding_box()
    assert box is not None

    def mouse_to(panel: int, index: int) -> None:
        x, y = places[panel][index]
        page.mouse.move(box["x"] + x * box["width"] + 2, box["y"] + y * box["height"] - 2)

    mouse_to(0, 11)
    wait_for_picture(page, 11)
    hovered = maps.evaluate(PIXELS)
    mouse_to(3, 30)
    wait_for_picture(page, 30)
    expect(facts).to_contain_text("near part (near-OOD)")
    page.wait_for_function(
        f"before => ({PIXELS})(document.querySelector('.thesis-maps canvas')) !== before", arg=hovered
    )
    page.mouse.down()
    page.mouse.up()
    expect(facts).to_contain_text("Held")
    mouse_to(0, 2)
    page.wait_for_timeout(500)
    wait_for_picture(page, 30)

    handle = page.locator(".thesis-number .noUi-handle").first
    handle.focus()
    page.keyboard.press("ArrowRight")
    wait_for_picture(page, 31)
    page.keyboard.press("Home")
    wait_for_picture(page, 0)

    page.locator(".thesis-arms select").select_option(index=len(ARMS) - 1)
    expect(facts).to_contain_text("cross entropy")
    page.wait_for_function("() => document.querySelector('.thesis-maps canvas').height < 500")
    assert page.locator(".thesis-maps").count() == 1
    page.locator(".thesis-perplexity .noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".thesis-status")).to_contain_text("Not computed yet")
    page.locator("button.thesis-compute").click()
    expect(page.locator(".thesis-status")).to_have_text("")
    expect(page.locator("button.thesis-compute")).to_be_disabled()
    assert page.locator(".thesis-maps canvas").first.is_visible()
    stderr = page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']")
    assert stderr.count() == 0 and not lab.errors and not lab.outside
