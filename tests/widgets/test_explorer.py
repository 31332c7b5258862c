import io
import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from ipywidgets import Widget
from matplotlib.figure import Figure
from PIL import Image

from thesis_lib.contrastive.encoders import Classifier, Encoder
from thesis_lib.datasets.crops import PreparedSet
from thesis_lib.diffusion import augmentation
from thesis_lib.diffusion.concepts import Concepts
from thesis_lib.diffusion.hardness import Hardness
from thesis_lib.errors import ThesisError
from thesis_lib.figures.style import TEXT_WIDTH
from thesis_lib.sections import EncoderParameters, GenerationParameters, HardnessParameters, SetParameters
from thesis_lib.widgets.controls import LARGEST_SENT, png
from thesis_lib.widgets.explorer import AugmentationExplorer, difference_map
from thesis_lib.widgets.grid import PictureGrid
from thesis_lib.widgets.judgements import Judgements
from thesis_lib.widgets.reading import Reader
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
def reader(shots) -> Reader:
    """A hardness space and a classifier, with random weights."""
    table, pictures, masks = shots
    torch.manual_seed(0)
    settings = EncoderParameters(width=8, size=32)
    encoder = Encoder(settings, torch.full((3,), 0.5), torch.full((3,), 0.25)).eval()
    real = PreparedSet(table, pictures, masks)
    space = Hardness(encoder, real, real, neighbours=2)
    network = ("real", encoder, Classifier(encoder.num_features, 3).eval())
    return Reader(["bolt", "gear", "Brake Disc"], space, HardnessParameters(), network, 32)


@pytest.fixture
def explorer(grid: PictureGrid, reader: Reader, tmp_path: Path) -> AugmentationExplorer:
    return AugmentationExplorer(grid, reader, tmp_path / "explorer")


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
    explorer.wait()
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
    explorer.wait()
    assert explorer.live.disabled
    explorer.fine.value = False
    assert explorer.guidance.value == max(grid.axes.guidance_scales) and explorer.timestep.value == 601


def test_a_picture_being_made_can_be_stopped(explorer, grid, monkeypatch):
    explorer.variation.value = 3
    going, stopped = threading.Event(), threading.Event()

    def slowly(position, on_step):
        on_step()
        going.set()
        stopped.wait(10)
        on_step()
        raise AssertionError("it went on")

    monkeypatch.setattr(grid, "make", slowly)
    explorer.live.click()
    assert going.wait(10) and explorer.live.description == "Stop" and not explorer.live.disabled
    explorer.live.click()
    stopped.set()
    explorer.wait()
    assert explorer.readout.value == "<b>stopped</b>" and explorer.live.description == "Make this picture"
    assert not explorer.live.disabled and explorer.progress.layout.visibility == "hidden"


def test_what_goes_wrong_in_the_background_is_said(explorer, grid, monkeypatch):
    explorer.variation.value = 4

    def fails(position, on_step):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(grid, "make", fails)
    explorer.live.click()
    explorer.wait()
    assert explorer.readout.value == "<b>RuntimeError: CUDA out of memory</b>"
    assert not explorer.live.disabled and explorer.live.description == "Make this picture"


def test_the_noised_latent_shown_is_the_one_that_denoising_starts_from(explorer, grid, monkeypatch):
    explorer.variation.value = 5
    seen = []
    denoise = augmentation.denoise
    monkeypatch.setattr(augmentation, "denoise", lambda base, x, *rest: seen.append(x) or denoise(base, x, *rest))
    explorer.live.click()
    explorer.wait()
    assert torch.equal(pixels(explorer.noised.value), grid.base.decode(seen[0])[0])


def test_distance_and_classifier_are_told_in_words_too(explorer, grid, reader):
    row = grid.sources.table.iloc[explorer.position.source]
    assert row["class_name"] == "Brake Disc"
    said = reader.read("again", grid.picture(explorer.position), grid.sources.masks[0], 2, row["capture_group"])
    assert f"distance to its class {said.distance:.2f}" in explorer.readout.value
    assert f"the classifier of real says {said.answers[0][0]} {said.answers[0][1]:.0%}" in explorer.readout.value
    assert sum(share for _, share in said.answers) == pytest.approx(1)
    assert (np.array(Image.open(io.BytesIO(explorer.reading.value)).convert("L")) < 100).any()


def test_without_a_space_and_a_classifier_the_explorer_says_so(grid, tmp_path):
    notes = ["no classifier's answers: <not> trained"]
    explorer = AugmentationExplorer(grid, Reader(grid.classes, None, HardnessParameters(), None, 32, notes), tmp_path)
    assert "distance to its class" not in explorer.readout.value
    assert any("&lt;not&gt; trained" in getattr(widget, "value", "") for widget in explorer.children)


def test_the_view_is_saved_for_print(explorer, tmp_path):
    explorer.class_name.value = "Brake Disc"
    explorer.save.click()
    written = sorted(path.name for path in (tmp_path / "explorer").glob("*"))
    assert len(written) == 2 and all(re.fullmatch(r"Brake-Disc_t201_[0-9a-f]{8}\.(pdf|png)", name) for name in written)
    assert written[1] in explorer.saved.value


def test_judging_blind_leads_through_all_pictures_and_agreement_is_measured(explorer, grid, tmp_path):
    panel = explorer.judging
    explorer.timestep.value = grid.axes.timesteps[-1]
    panel.keep["bad"].click()
    assert not panel.blind.value and list(panel._record.table["verdict"]) == ["bad"]
    shown = {}
    for number in (1, 2):
        panel.number.value = number
        panel.blind.value = True
        assert explorer.readout.layout.display == explorer._controls.layout.display == "none"
        shown[number] = []
        while panel._left():
            shown[number].append(grid.key(explorer.position))
            panel.keep["id" if explorer.position.timestep < 500 else "near_ood"].click()
        panel.keep["bad"].click()  # all are seen, and the picture's making is shown again
        panel.blind.value = False
    assert explorer.readout.layout.display is None
    count = len({grid.key(at) for at in {*grid.around(), *grid.across()}})
    assert len(shown[1]) == len(shown[2]) == count and set(shown[1]) == set(shown[2]) and shown[1] != shown[2]
    record = Judgements(tmp_path / "explorer" / "judgements.csv")
    blind = record.table[record.table["blind"]]
    assert len(blind) == 2 * count and "bad" not in set(blind["verdict"])  # verdicts with open eyes stay beside
    found = record.agreement()
    assert found == {"pictures": count, "agreement": 1.0, "kappa": 1.0}
    assert "agree on" in panel.said.value and f"{found['kappa']:.2f}" in panel.said.value


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
    explorer.wait()
    assert explorer.readout.value == "<b>a &lt;sentence&gt;</b>" and explorer.progress.layout.visibility == "hidden"
    assert not explorer.live.disabled


def test_controls_are_labelled_and_found_by_class_and_the_state_is_small(explorer):
    controls = [explorer.class_name, *explorer._sliders, explorer.fine, explorer.live, explorer.progress]
    controls += [*explorer.judging.keep.values(), explorer.judging.number, explorer.judging.blind, explorer.save]
    assert all(control.description for control in controls)
    # the front end of ipywidgets 8.1 fails to draw a widget that has a tooltip but no description
    with_tooltip = [widget for widget in _all(explorer) if getattr(widget, "tooltip", None)]
    assert with_tooltip == controls
    state = Widget.get_manager_state(widgets=_all(explorer), drop_defaults=True)["state"]
    text = json.dumps(state)
    names = (
        "class source timestep guidance prompt region variation fine live progress readout original noised result "
        "difference reading save saved keep-id keep-near_ood keep-bad pass blind judged"
    )
    assert set(names.split()) <= set(re.findall(r'"thesis-([a-z_-]+)"', text))
    assert len(text) < 80_000


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
