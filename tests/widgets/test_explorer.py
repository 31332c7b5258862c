import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ipywidgets import Widget
from matplotlib.figure import Figure
from PIL import Image

from thesis_lib.datasets.crops import PreparedSet
from thesis_lib.diffusion.concepts import Concepts
from thesis_lib.errors import ThesisError
from thesis_lib.figures.style import TEXT_WIDTH
from thesis_lib.parameters import GenerationParameters, SetParameters
from thesis_lib.widgets.controls import LARGEST_SENT, png
from thesis_lib.widgets.explorer import AugmentationExplorer, difference_map
from thesis_lib.widgets.grid import PictureGrid
from thesis_lib.widgets.sheets import guidance_sheet, prompt_sheet, region_sheet, timestep_sheet

P = GenerationParameters(
    steps=5, sources=2, per_source=1, batch=32,
    id=SetParameters(timesteps=[201], guidance_scales=[2.5]), near_ood=SetParameters(timesteps=[601]),
)  # fmt: skip


@pytest.fixture
def grid(tiny_base, shots, tmp_path: Path) -> PictureGrid:
    table, pictures, masks = shots
    names = list(table["class_name"].unique())
    concepts = Concepts(tiny_base, {name: torch.randn(2, 32) for name in names}, names)
    made = PictureGrid(tiny_base, concepts, PreparedSet(table, pictures, masks), P, 0, tmp_path)
    made.precompute([*made.around(), *made.across()])
    return made


@pytest.fixture
def explorer(grid: PictureGrid) -> AugmentationExplorer:
    return AugmentationExplorer(grid)


def pixels(value: bytes) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(value)).convert("RGB"))).permute(2, 0, 1)


def test_the_sliders_show_the_grids_pictures(explorer, grid):
    assert torch.equal(pixels(explorer.original.value), grid.sources.pictures[0])
    for timestep in grid.axes.timesteps:
        explorer.timestep.value = timestep
        picture = grid.picture(grid.default(0, timestep))
        assert torch.equal(pixels(explorer.result.value), picture)
        assert torch.equal(pixels(explorer.difference.value), difference_map(picture, grid.sources.pictures[0]))
        assert explorer.live.disabled
    explorer.timestep.value = 201
    before = explorer.result.value
    for control in (explorer.guidance, explorer.prompt, explorer.region):
        default = control.value
        control.index = (control.index + 1) % len(control.options)
        assert explorer.live.disabled and explorer.result.value != before
        control.value = default
        assert explorer.result.value == before


def test_the_readout_names_every_unit_and_is_escaped(explorer, grid):
    explorer.timestep.value = 601
    text = explorer.readout.value
    for part in ("timestep 601", "strength 0.80", "4 of 5 steps", "signal-to-noise ratio", "dB", "grey levels"):
        assert part in text
    assert "&lt;brake-disc&gt;" in text and "<brake" not in text


def test_a_position_off_the_grid_is_made_on_request_with_progress(explorer, grid):
    explorer.variation.value = 7
    assert not explorer.live.disabled and "press “Make this picture”" in explorer.readout.value
    assert (pixels(explorer.result.value) == 232).all()
    seen = []
    explorer.progress.observe(lambda change: seen.append(change["new"]), "value")
    explorer.live.click()
    assert seen[-1] == explorer.progress.max == grid.effective_steps(explorer.position)
    assert explorer.progress.layout.visibility == "hidden" and explorer.live.disabled
    assert torch.equal(pixels(explorer.result.value), grid.picture(explorer.position))


def test_fine_sliders_reach_the_whole_schedule_and_come_back(explorer, grid):
    explorer.timestep.value = 601
    explorer.fine.value = True
    assert explorer.timestep.value == 601 and explorer.guidance.value == 2.5
    assert [value for value in explorer.timestep.options] == [1, 201, 401, 601, 801]
    explorer.guidance.value = 15.0
    explorer.live.click()
    assert explorer.live.disabled
    explorer.fine.value = False
    assert explorer.guidance.value == max(grid.axes.guidance_scales) and explorer.timestep.value == 601


def test_another_class_starts_at_its_first_source(explorer, grid):
    explorer.source.value = 2
    assert explorer.position.source == 1
    explorer.class_name.value = "gear"
    assert explorer.position.source == grid.rows("gear")[0] and explorer.source.value == 1
    assert torch.equal(pixels(explorer.original.value), grid.sources.pictures[explorer.position.source])
    assert explorer.live.disabled, "the default positions of the sheet's classes are precomputed"


def test_an_error_is_shown_as_a_sentence(explorer, grid, monkeypatch):
    explorer.variation.value = 1

    def full(*_):
        raise ThesisError("a <sentence>")

    monkeypatch.setattr(grid, "make", full)
    explorer.live.click()
    assert explorer.readout.value == "<b>a &lt;sentence&gt;</b>" and explorer.progress.layout.visibility == "hidden"
    assert not explorer.live.disabled


def test_controls_are_labelled_and_found_by_class_and_the_state_is_small(explorer):
    controls = [explorer.class_name, *explorer._sliders, explorer.fine, explorer.live, explorer.progress]
    assert all(control.description for control in controls)
    # the front end of ipywidgets 8.1 fails to draw a widget that has a tooltip but no description
    with_tooltip = [widget for widget in _all(explorer) if getattr(widget, "tooltip", None)]
    assert with_tooltip == controls
    state = Widget.get_manager_state(widgets=_all(explorer), drop_defaults=True)["state"]
    text = json.dumps(state)
    names = (
        "class source timestep guidance prompt region variation fine live progress readout original result difference"
    )
    assert set(names.split()) <= set(re.findall(r'"thesis-([a-z]+)"', text))
    assert len(text) < 40_000


def _all(widget):
    found = [widget, *(getattr(widget, name) for name in ("layout", "style") if hasattr(widget, name))]
    return found + [below for child in getattr(widget, "children", ()) for below in _all(child)]


def test_large_pictures_are_sent_smaller():
    assert pixels(png(torch.zeros(3, 512, 512, dtype=torch.uint8))).shape == (3, LARGEST_SENT, LARGEST_SENT)


def test_the_difference_map_is_black_where_nothing_changed():
    source = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    changed = source.clone()
    changed[:, 0, 0] = 200
    shown = difference_map(changed, source)
    assert shown[:, 0, 0].sum() > 500 and shown[:, 1:].max() <= 4


@pytest.mark.parametrize("language", ["en", "de"])
def test_sheets_fit_the_page(grid, language):
    for draw in (timestep_sheet, guidance_sheet, prompt_sheet, region_sheet):
        figure = draw(grid, language)
        assert isinstance(figure, Figure) and figure.get_figwidth() <= TEXT_WIDTH + 0.1
        figure.draw_without_rendering()
        box = figure.get_tightbbox()
        assert box.x0 > -0.02 and box.y0 > -0.02 and box.x1 < figure.get_figwidth() + 0.02, draw.__name__
    texts = [text.get_text().replace("\n", " ") for text in timestep_sheet(grid, language).axes[0].texts]
    strength = {"en": "t = 201, strength 0.40 (ID)", "de": "t = 201, Stärke 0,40 (ID)"}[language]
    assert strength in texts and {"en": "source", "de": "Quelle"}[language] in texts
