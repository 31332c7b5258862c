import asyncio
import io
import json
import re

import numpy as np
import pytest
from ipywidgets import Widget
from matplotlib.backend_bases import MouseEvent
from PIL import Image

from tests.widgets.made_up import ARMS, INSIDE, grey, made_up_explorer
from thesis_lib.evaluation.embeddings import coordinates, place
from thesis_lib.widgets.embeddings import REACH, TOOLBAR, EmbeddingExplorer


@pytest.fixture
def explorer() -> EmbeddingExplorer:
    made = made_up_explorer()
    made.canvas.draw()  # as when a browser asks for it
    return made


def shown(explorer: EmbeddingExplorer) -> int:
    """The number of the picture that is on the screen, counted from 0, told by its grey."""
    (low, high), *_ = Image.open(io.BytesIO(explorer.picture.value)).convert("RGB").getextrema()
    assert low == high
    return next(index for index in range(36) if grey(index) == low)


def mouse(explorer: EmbeddingExplorer, kind: str, panel: int, index: int, beside: float = 0.0) -> None:
    """Move or press the mouse on a picture's place in a panel, or so many CSS pixels right of it."""
    ax = explorer.canvas.figure.axes[panel]
    x, y = ax.transData.transform(explorer._positions[panel][index])
    MouseEvent(kind, explorer.canvas, x + beside * explorer.canvas.device_pixel_ratio, y, button=1)._process()


def test_pointing_at_a_point_of_any_panel_shows_its_picture(explorer):
    for panel, index in ((0, 3), (1, 30), (2, 11), (3, 35)):
        mouse(explorer, "motion_notify_event", panel, index, beside=2)
        assert shown(explorer) == index and explorer.number.value == index + 1
    before = explorer.picture.value
    mouse(explorer, "motion_notify_event", 0, 5, beside=REACH + 3)
    assert explorer.picture.value is before, "no point is so near"


def test_a_click_holds_the_picture_until_a_click_beside_the_points(explorer):
    mouse(explorer, "button_press_event", 1, 7)
    mouse(explorer, "motion_notify_event", 1, 20)
    assert shown(explorer) == 7 and "Held" in explorer.facts.value
    mouse(explorer, "button_press_event", 1, 9)
    assert shown(explorer) == 9
    mouse(explorer, "button_press_event", 1, 9, beside=REACH + 3)
    assert shown(explorer) == 9 and "Held" not in explorer.facts.value
    mouse(explorer, "motion_notify_event", 1, 20)
    assert shown(explorer) == 20


def test_a_click_that_zooms_selects_nothing(explorer):
    explorer.canvas.toolbar.zoom()
    before = explorer.number.value
    mouse(explorer, "button_press_event", 0, 20)
    assert explorer.number.value == before and not explorer.held


def test_the_picture_is_marked_in_every_map_without_drawing_the_maps_again(explorer):
    frames = []
    explorer.canvas.mpl_connect("draw_event", frames.append)
    clean = np.asarray(explorer._background).copy()
    for index in (4, 33):
        mouse(explorer, "motion_notify_event", 2, index)
        at = [ring.get_xydata()[0] for ring in explorer._rings]
        assert np.allclose(at, [positions[index] for positions in explorer._positions]) and len(at) == 4
        pixels = np.asarray(explorer.canvas.buffer_rgba())
        changed = np.argwhere((pixels != clean).any(-1))
        for ax, place_ in zip(explorer._panels, at, strict=True):
            x, y = ax.transData.transform(place_)
            distances = np.hypot(changed[:, 1] - x, pixels.shape[0] - changed[:, 0] - y)
            assert (distances < 25).sum() > 50
        assert len(changed) < 8000, "only the rings are new, and the old ones are gone"
    assert not frames


def test_the_slider_does_what_the_mouse_does(explorer):
    for index in (0, INSIDE, 35):
        explorer.number.value = index + 1
        assert shown(explorer) == index
        assert np.allclose(explorer._rings[0].get_xydata()[0], explorer._positions[0][index])


def test_the_facts_name_class_set_arms_answers_and_confidence_and_are_escaped(explorer):
    frame = explorer._frames["real_id"]
    mouse(explorer, "motion_notify_event", 1, 2)
    text, row = explorer.facts.value, frame.iloc[2]
    assert "<b>Brake &lt;Disc&gt;</b> (ID)" in text and "<Disc>" not in text
    mark = "✓" if row["predicted"] == "Brake <Disc>" else "✗"
    assert f"{row['confidence']:.0%} {mark}" in text
    assert text.count("<u>real + ID:") == 1 and "real: " in text and "cross entropy" not in text
    explorer.number.value = INSIDE + 1
    assert "<b>near part</b> (near-OOD)" in explorer.facts.value and "✗" not in explorer.facts.value


def test_arms_and_colours_are_drawn_as_printed(explorer):
    def titles() -> list[str]:
        return [ax.get_title() for ax in explorer._panels]

    assert titles() == ["real", "real + ID", "", ""]
    explorer.arms.value = ("real_id",)
    assert titles() == ["t-SNE", "UMAP"]
    for colouring in ("kind", "confidence"):
        explorer.colouring.value = colouring
    assert len(explorer._panels) == 2 and len(explorer.canvas.figure.axes) == 3
    explorer.arms.value = ARMS
    assert titles()[:3] == ["real", "real + ID", "cross entropy, real + ID"] and len(explorer._panels) == 6
    explorer.arms.value = ()
    assert "at least one arm" in explorer.status.value and len(explorer._panels) == 6


def test_nothing_is_drawn_where_the_toolbar_lies(explorer):
    for arms in [ARMS[0]], ARMS[:2]:
        explorer.arms.value = arms
        figure = explorer.canvas.figure
        figure.draw_without_rendering()
        assert figure.get_tightbbox().y0 >= TOOLBAR - 0.01
        (legend,) = figure.legends
        legend_top = legend.get_window_extent().y1
        assert all(ax.get_tightbbox().y0 >= legend_top for ax in explorer._panels)


def test_other_settings_are_computed_on_demand_once_and_aligned(explorer):
    explorer.arms.value = ("real_id",)
    before, seen = explorer._positions[0], []
    explorer.perplexity.value = 8.0
    assert not explorer.compute.disabled and "Compute these maps" in explorer.status.value
    assert explorer._positions[0] is before, "the last maps stay"
    explorer.status.observe(lambda change: seen.append(change["new"]), "value")

    async def press() -> None:
        explorer.compute.click()
        task = explorer._task
        assert task is not None
        await asyncio.sleep(0)
        assert explorer.compute.disabled and explorer.progress.layout.visibility == "visible"
        await task

    asyncio.run(press())
    assert [text[:18] for text in seen] == ["Computing t-SNE of", "Computing t-SNE of", ""]
    assert explorer.compute.disabled and explorer.progress.layout.visibility == "hidden"
    reference = place("tsne", explorer._features["real"], 8.0, 0, None)
    expected = place("tsne", explorer._features["real_id"], 8.0, 0, reference)
    assert np.array_equal(explorer._positions[0], expected)
    assert not np.array_equal(expected, place("tsne", explorer._features["real_id"], 8.0, 0, None))
    explorer.perplexity.value = 5.0
    assert explorer.compute.disabled and np.array_equal(
        explorer._positions[0], coordinates(explorer._frames["real_id"], "tsne")
    )
    explorer.perplexity.value = 8.0
    assert explorer.compute.disabled and np.array_equal(explorer._positions[0], expected)


def test_an_error_is_shown_and_the_button_comes_back(explorer, monkeypatch):
    def broken(*_):
        raise MemoryError("no <memory>")

    monkeypatch.setattr("thesis_lib.widgets.embeddings.place", broken)
    explorer.neighbours.value = 9
    with pytest.raises(MemoryError):
        asyncio.run(explorer.recompute())
    assert "no &lt;memory&gt;" in explorer.status.value and not explorer.compute.disabled


def test_controls_are_labelled_and_found_by_class_and_the_state_is_small(explorer):
    controls = [explorer.arms, explorer.colouring, explorer.perplexity, explorer.neighbours, explorer.number]
    controls += [explorer.compute, explorer.progress]
    assert all(control.description and control.tooltip for control in controls)
    text = json.dumps(Widget.get_manager_state(widgets=_all(explorer), drop_defaults=True)["state"])
    names = "arms colouring perplexity neighbours compute progress status number maps picture facts embeddings"
    assert set(names.split()) <= set(re.findall(r'"thesis-([a-z]+)"', text))
    made = made_up_explorer()  # not drawn, as under papermill
    assert len(json.dumps(Widget.get_manager_state(widgets=_all(made), drop_defaults=True)["state"])) < 40_000


def _all(widget):
    found = [widget, *(getattr(widget, name) for name in ("layout", "style") if hasattr(widget, name))]
    return found + [below for child in getattr(widget, "children", ()) for below in _all(child)]
