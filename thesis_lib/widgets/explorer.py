"""The augmentation explorer: sliders over positions; what a source becomes there, and what is said of it."""

import asyncio
import html
import io
import re
import threading
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure

from thesis_lib.diffusion.augmentation import schedule
from thesis_lib.errors import ThesisError
from thesis_lib.figures.style import save_figure
from thesis_lib.figures.view import Reading, augmentation_view, reading_strip
from thesis_lib.figures.words import number, word
from thesis_lib.widgets.controls import control, png, with_class
from thesis_lib.widgets.grid import PictureGrid, Position, entries
from thesis_lib.widgets.judgements import Judgements, JudgingPanel
from thesis_lib.widgets.reading import Reader

SIDE = 200
"""Side of the pictures on the screen, in CSS pixels."""
FULL_DIFFERENCE = 64
"""Mean difference over the channels, in grey levels, at the upper end of the difference map's colours."""
FINE_SCALES = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.5, 9.0, 10.0, 12.0, 15.0)
VARIATIONS = 99
_COLOURS = (colormaps["inferno"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


class _Stopped(Exception):
    """The user has pressed stop."""


def difference_map(picture: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference over the channels of two pictures uint8 (3, s, s), in colours: uint8 (3, s, s)."""
    difference = (picture.int() - source.int()).abs().float().mean(0)
    level = (difference * (255 / FULL_DIFFERENCE)).clamp(0, 255).round().to(torch.uint8)
    return torch.from_numpy(_COLOURS[level.numpy()]).permute(2, 0, 1)


class AugmentationExplorer(widgets.VBox):
    """Sliders over a grid of pictures; what is not in the grid is made when asked for, and can be stopped.

    Every control has a CSS class for tests in a browser: `thesis-class`, `thesis-source`, `thesis-timestep`,
    `thesis-guidance`, `thesis-prompt`, `thesis-region`, `thesis-variation`, `thesis-fine`, `thesis-live`,
    `thesis-progress`, `thesis-readout`, `thesis-save`, `thesis-saved`; the pictures are `thesis-original`,
    `thesis-noised`, `thesis-result`, `thesis-difference`, and what is said of the result is `thesis-reading`.

    Args:
        grid: The sources, and the pictures made from them.
        reader: Measures them.
        folder: Where judgements and saved figures go.
        language: Of saved figures, `en` or `de`.
    """

    def __init__(self, grid: PictureGrid, reader: Reader, folder: Path, language: str = "en") -> None:
        self.grid, self.reader, self.folder, self.language = grid, reader, Path(folder), language
        axes = grid.axes
        self._schedule = sorted(schedule(grid.base, grid.p.steps))
        first = entries(grid.base, grid.p, "id")[0]
        start = grid.default(0, min(axes.timesteps, key=lambda timestep: abs(timestep - first)))
        self.class_name = control(widgets.Dropdown, "class", "Class", options=grid.classes)
        self.source = control(widgets.IntSlider, "source", "Source picture", min=1)
        self.source.max = len(grid.rows(self.class_name.value))
        self.timestep = control(
            widgets.SelectionSlider, "timestep", "Insertion timestep", options=axes.timesteps, value=start.timestep
        )
        self.guidance = control(
            widgets.SelectionSlider, "guidance", "Guidance scale",
            options=_scales(axes.guidance_scales), value=start.guidance_scale,
        )  # fmt: skip
        self.prompt = control(
            widgets.Dropdown, "prompt", "Prompt", options=[(p.replace("{}", "…"), p) for p in axes.prompts]
        )
        self.region = control(
            widgets.Dropdown, "region", "May change", options=[(word(region), region) for region in axes.regions]
        )
        self.variation = control(widgets.IntSlider, "variation", "Noise (seed)", min=0, max=VARIATIONS)
        self.fine = control(widgets.Checkbox, "fine", "all steps of the schedule (made live)", indent=True)
        self.live = control(widgets.Button, "live", "Make this picture", icon="play")
        self.progress = control(widgets.IntProgress, "progress", "Denoising", min=0)
        self.progress.layout.width, self.progress.layout.visibility = "20em", "hidden"
        self.readout = with_class(widgets.HTML(), "readout")
        size = {"width": f"{SIDE}px", "max_width": "100%", "height": "auto"}
        self.original, self.noised, self.result, self.difference = (
            with_class(widgets.Image(format="png", layout=size), name)
            for name in ("original", "noised", "result", "difference")
        )
        self.reading = with_class(widgets.Image(format="png", layout={"max_width": "100%", "width": "40em"}), "reading")
        self.save = control(widgets.Button, "save", "Save figure", icon="download")
        self.saved = with_class(widgets.HTML(), "saved")
        self._missing = png(torch.full((3, 8, 8), 232, dtype=torch.uint8))
        self._setting = self._busy = False
        self._worker = threading.Thread()
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:  # no kernel, as in a test
            self._loop = None
        self._stop = threading.Event()
        positions = list(dict.fromkeys([*grid.around(), *grid.across()]))
        self.judging = JudgingPanel(
            grid, Judgements(self.folder / "judgements.csv"), positions, lambda: self.position, self.go
        )
        self._sliders = (self.source, self.timestep, self.guidance, self.prompt, self.region, self.variation)
        for slider in self._sliders:
            slider.observe(self._show, "value")
        self.class_name.observe(self._change_class, "value")
        self.fine.observe(self._change_steps, "value")
        self.live.on_click(self._make_or_stop)
        self.save.on_click(self._save)
        making = widgets.HBox([self.live, self.progress])
        self._controls = widgets.VBox([self.class_name, *self._sliders, self.fine, making])
        captions = ("source", "noised", "result", f"difference, 0 to {FULL_DIFFERENCE} grey levels")
        self._panels = [
            widgets.VBox([picture, widgets.Label(caption)])
            for picture, caption in zip(
                (self.original, self.noised, self.result, self.difference), captions, strict=True
            )
        ]
        pictures = widgets.HBox(self._panels, layout={"flex_flow": "row wrap", "grid_gap": "8px"})
        notes = [widgets.HTML("<br>".join(map(html.escape, reader.notes)))] if reader.notes else []
        saving = widgets.HBox([self.save, self.saved], layout={"flex_flow": "row wrap"})
        super().__init__([self._controls, pictures, self.readout, self.reading, *notes, self.judging, saving])
        self.add_class("thesis-explorer")
        self._show()

    @property
    def position(self) -> Position:
        """Where the sliders stand."""
        row = self.grid.rows(self.class_name.value)[self.source.value - 1]
        return Position(
            row, self.timestep.value, self.guidance.value, self.prompt.value, self.region.value, self.variation.value
        )

    def go(self, position: Position, blind: bool = False) -> None:
        """Put the sliders at a position of the grid; blind hides everything that tells how the picture was made."""
        self._setting = True
        if blind:
            self.fine.value = False
        self.class_name.value = self.grid.class_name(position)
        self.source.max = len(self.grid.rows(self.class_name.value))
        self.source.value = self.grid.rows(self.class_name.value).index(position.source) + 1
        for slider, value in (
            (self.timestep, position.timestep), (self.guidance, position.guidance_scale),
            (self.prompt, position.prompt), (self.region, position.region), (self.variation, position.variation),
        ):  # fmt: skip
            slider.value = value
        for widget in (self._controls, self._panels[1], self._panels[3], self.readout, self.reading, self.save):
            widget.layout.display = "none" if blind else None
        self._setting = False
        self._show()

    def wait(self) -> None:
        """Wait until the picture that is being made is there, or is stopped."""
        if self._worker.ident:
            self._worker.join()

    def _change_class(self, _: Any) -> None:
        if self._setting:
            return
        self._setting = True
        self.source.max = len(self.grid.rows(self.class_name.value))
        self.source.value = 1
        self._setting = False
        self._show()

    def _change_steps(self, _: Any) -> None:
        """Offer every step on the sliders, or only the precomputed ones, and go to the nearest one there is."""
        axes, fine, was_setting = self.grid.axes, self.fine.value, self._setting
        self._setting = True
        timesteps = self._schedule if fine else axes.timesteps
        nearest = min(timesteps, key=lambda timestep: abs(timestep - self.timestep.value))
        self.timestep.options, self.timestep.value = timesteps, nearest
        scales = sorted({*axes.guidance_scales, *(FINE_SCALES if fine else ())})
        closest = min(scales, key=lambda scale: abs(scale - self.guidance.value))
        self.guidance.options, self.guidance.value = _scales(scales), closest
        self._setting = was_setting
        self._show()

    def _pictures(self, position: Position) -> dict[str, torch.Tensor]:
        """Source, noised latent, result and difference at a position; the last two where the picture is made."""
        source, result = self.grid.sources.pictures[position.source], self.grid.picture(position)
        shown = {"source": source, "noised": self.grid.noised(position)}
        return shown if result is None else shown | {"result": result, "difference": difference_map(result, source)}

    def _read(self, position: Position) -> Reading:
        """What is said of the picture at a position, which must be there."""
        picture, row = self.grid.picture(position), self.grid.sources.table.iloc[position.source]
        assert picture is not None
        mask = self.grid.sources.masks[position.source]
        return self.reader.read(self.grid.key(position), picture, mask, int(row["label"]), str(row["capture_group"]))

    def _facts(self, position: Position) -> list[str]:
        """How the picture at a position is made."""
        steps, snr = self.grid.effective_steps(position), self.grid.base.signal_to_noise(position.timestep)
        return [
            f"timestep {position.timestep}",
            f"strength {steps / self.grid.p.steps:.2f}",
            f"{steps} of {self.grid.p.steps} steps",
            f"signal-to-noise ratio {snr:.3g} ({10 * np.log10(snr):+.1f} dB)",
            f"prompt “{self.grid.prompt(position)}”",
        ]

    def _show(self, _: Any = None) -> None:
        """Show the position's picture if it is there; else say what to press."""
        if self._setting:
            return
        position = self.position
        pictures, facts = self._pictures(position), [html.escape(fact) for fact in self._facts(position)]
        self.original.value, self.noised.value = png(pictures["source"]), png(pictures["noised"])
        there = "result" in pictures
        if there:
            may_change = self.grid.may_change(position)[0]
            changes = (pictures["result"].int() - pictures["source"].int()).abs().float().mean(0)[may_change]
            change = changes.sum() / max(1, len(changes))  # an object that fills the picture has no background
            self.result.value, self.difference.value = png(pictures["result"]), png(pictures["difference"])
            said = self._read(position)
            self.reading.value = _figure_png(reading_strip(said))
            facts += [f"change {change:.1f} grey levels where it may change", *map(html.escape, _in_words(said))]
        else:
            self.result.value = self.difference.value = self.reading.value = self._missing
            facts.append("<b>not precomputed: press “Make this picture”</b>")
        if not self._busy:
            self.live.disabled = there
        self.save.disabled = not there
        self.readout.value = " · ".join(facts)
        self.judging.refresh()

    def _make_or_stop(self, _: Any) -> None:
        """Make the picture at this position in the background, or stop doing so."""
        if self._busy:
            self._stop.set()
            return
        position, self._busy = self.position, True
        self._stop.clear()
        self.live.description, self.live.icon = "Stop", "stop"
        self.progress.value, self.progress.max = 0, self.grid.effective_steps(position)
        self.progress.layout.visibility = "visible"
        self._worker = threading.Thread(target=self._make, args=(position,), daemon=True)
        self._worker.start()

    def _make(self, position: Position) -> None:
        def step() -> None:
            if self._stop.is_set():
                raise _Stopped
            self.progress.value += 1

        try:
            self.grid.make(position, step)
            problem = ""
        except _Stopped:
            problem = "stopped"
        except Exception as error:  # nobody sees what a thread raises, such as a GPU's want of memory
            problem = str(error) if isinstance(error, ThesisError) else f"{type(error).__name__}: {error}"
        if self._loop is None:
            self._made(problem)
        else:  # the page is drawn by one thread
            self._loop.call_soon_threadsafe(self._made, problem)

    def _made(self, problem: str) -> None:
        """Show what has been made, or why it has not."""
        self.live.description, self.live.icon = "Make this picture", "play"
        self.live.disabled = self.grid.picture(self.position) is not None
        self.progress.layout.visibility = "hidden"
        self._busy = False
        self._show()
        if problem:
            self.readout.value = f"<b>{html.escape(problem)}</b>"

    def _save(self, _: Any) -> None:
        """Write the current view as PDF and PNG."""
        position = self.position
        said, row = self._read(position), self.grid.sources.table.iloc[position.source]
        names = {name: word(name, self.language) for name in ("source", "noised", "result", "difference")}
        pictures = {names[name]: picture for name, picture in self._pictures(position).items()}
        label = re.sub(r"[^A-Za-z0-9]+", "-", str(row["class_name"])).strip("-")
        stem = f"{label}_t{position.timestep}_{self.grid.key(position)[:8]}"
        try:
            figure = augmentation_view(pictures, self._settings(position), said, self.language)
            path = save_figure(figure, self.folder / stem)
            self.saved.value = f"written: {html.escape(str(path))} and .pdf"
        except ThesisError as error:
            self.saved.value = f"<b>{html.escape(str(error))}</b>"

    def _settings(self, at: Position) -> str:
        """How a picture was made, in the language of the figures."""
        strength = self.grid.effective_steps(at) / self.grid.p.steps
        return ", ".join(
            [
                self.grid.class_name(at).replace("_", " "),
                f"{word('timestep', self.language)} {at.timestep}",
                f"{word('strength', self.language)} {number(strength, 2, self.language)}",
                f"{word('guidance_scale', self.language)} {number(at.guidance_scale, 1, self.language)}",
                f"{word('may_change', self.language)}: {word(at.region, self.language)}",
                f"“{at.prompt.replace('{}', '…')}”",
            ]
        )


def _in_words(said: Reading) -> list[str]:
    """A reading as text, for those who cannot see the strip."""
    words = []
    if said.distance is not None:
        band = {"id": "in the ID band", "near_ood": "in the near-OOD band"}.get(said.band, "in neither band")
        words.append(
            f"distance to its class {said.distance:.2f} (p = {said.p_own:.2f}), nearest {said.nearest}, {band}"
        )
    if said.answers:
        answers = ", ".join(f"{name} {share:.0%}" for name, share in said.answers)
        words.append(f"the classifier of {said.classifier} says {answers}")
    return words


def _figure_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _scales(scales: list[float]) -> list[tuple[str, float]]:
    return [(f"{scale:g}", scale) for scale in sorted(scales)]
