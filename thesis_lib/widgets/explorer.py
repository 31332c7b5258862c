"""The augmentation explorer: sliders over positions; the source, what is made of it, and where it differs."""

import html
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib import colormaps

from thesis_lib.diffusion.augmentation import schedule
from thesis_lib.errors import ThesisError
from thesis_lib.figures.words import word
from thesis_lib.widgets.controls import control, png, with_class
from thesis_lib.widgets.grid import PictureGrid, Position, entries

SIDE = 256
"""Side of the pictures on the screen, in CSS pixels."""
FULL_DIFFERENCE = 64
"""Mean difference over the channels, in grey levels, at the upper end of the difference map's colours."""
FINE_SCALES = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.5, 9.0, 10.0, 12.0, 15.0)
VARIATIONS = 99
_COLOURS = (colormaps["inferno"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def difference_map(picture: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference over the channels of two pictures uint8 (3, s, s), in colours: uint8 (3, s, s)."""
    difference = (picture.int() - source.int()).abs().float().mean(0)
    level = (difference * (255 / FULL_DIFFERENCE)).clamp(0, 255).round().to(torch.uint8)
    return torch.from_numpy(_COLOURS[level.numpy()]).permute(2, 0, 1)


class AugmentationExplorer(widgets.VBox):
    """Sliders over a grid of pictures; what is not in the grid is made when asked for.

    Every control has a CSS class for tests in a browser: `thesis-class`, `thesis-source`, `thesis-timestep`,
    `thesis-guidance`, `thesis-prompt`, `thesis-region`, `thesis-variation`, `thesis-fine`, `thesis-live`,
    `thesis-progress`, `thesis-readout`; the pictures are `thesis-original`, `thesis-result`, `thesis-difference`.

    Args:
        grid: The sources, and the pictures made from them.
    """

    def __init__(self, grid: PictureGrid) -> None:
        self.grid = grid
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
        self.original, self.result, self.difference = (
            with_class(widgets.Image(format="png", layout=size), name) for name in ("original", "result", "difference")
        )
        self._missing = png(torch.full((3, 8, 8), 232, dtype=torch.uint8))
        self._resetting = False
        self._sliders = (self.source, self.timestep, self.guidance, self.prompt, self.region, self.variation)
        for slider in self._sliders:
            slider.observe(self._show, "value")
        self.class_name.observe(self._change_class, "value")
        self.fine.observe(self._change_steps, "value")
        self.live.on_click(self._make)
        controls = widgets.VBox([self.class_name, *self._sliders, self.fine, widgets.HBox([self.live, self.progress])])
        captions = ("source", "result", f"difference, 0 to {FULL_DIFFERENCE} grey levels")
        panels = [
            widgets.VBox([picture, widgets.Label(caption)])
            for picture, caption in zip((self.original, self.result, self.difference), captions, strict=True)
        ]
        pictures = widgets.HBox(panels, layout={"flex_flow": "row wrap", "grid_gap": "8px"})
        super().__init__([controls, pictures, self.readout])
        self.add_class("thesis-explorer")
        self._show()

    @property
    def position(self) -> Position:
        """Where the sliders stand."""
        row = self.grid.rows(self.class_name.value)[self.source.value - 1]
        return Position(
            row, self.timestep.value, self.guidance.value, self.prompt.value, self.region.value, self.variation.value
        )

    def _change_class(self, _: Any) -> None:
        self._resetting = True
        self.source.max = len(self.grid.rows(self.class_name.value))
        self.source.value = 1
        self._resetting = False
        self._show()

    def _change_steps(self, _: Any) -> None:
        """Offer every step on the sliders, or only the precomputed ones, and go to the nearest one there is."""
        axes, fine = self.grid.axes, self.fine.value
        self._resetting = True
        timesteps = self._schedule if fine else axes.timesteps
        nearest = min(timesteps, key=lambda timestep: abs(timestep - self.timestep.value))
        self.timestep.options, self.timestep.value = timesteps, nearest
        scales = sorted({*axes.guidance_scales, *(FINE_SCALES if fine else ())})
        closest = min(scales, key=lambda scale: abs(scale - self.guidance.value))
        self.guidance.options, self.guidance.value = _scales(scales), closest
        self._resetting = False
        self._show()

    def _show(self, _: Any = None) -> None:
        """Show the position's picture if it is there; else say what to press."""
        if self._resetting:
            return
        position = self.position
        source = self.grid.sources.pictures[position.source]
        picture = self.grid.picture(position)
        steps = self.grid.effective_steps(position)
        snr = self.grid.base.signal_to_noise(position.timestep)
        facts = [
            f"timestep {position.timestep}",
            f"strength {steps / self.grid.p.steps:.2f}",
            f"{steps} of {self.grid.p.steps} steps",
            f"signal-to-noise ratio {snr:.3g} ({10 * np.log10(snr):+.1f} dB)",
            f"prompt “{self.grid.prompt(position)}”",
        ]
        self.original.value = png(source)
        if picture is None:
            self.result.value = self.difference.value = self._missing
            facts.append("<b>not precomputed: press “Make this picture”</b>")
        else:
            may_change = self.grid.may_change(position)[0]
            changes = (picture.int() - source.int()).abs().float().mean(0)[may_change]
            change = changes.sum() / max(1, len(changes))  # an object that fills the picture has no background
            self.result.value, self.difference.value = png(picture), png(difference_map(picture, source))
            facts.append(f"change {change:.1f} grey levels where it may change")
        self.live.disabled = picture is not None
        *plain, last = facts
        self.readout.value = " · ".join([*map(html.escape, plain), last])

    def _make(self, _: Any) -> None:
        """Make the picture at this position now."""
        position = self.position
        self.live.disabled = True
        self.progress.value, self.progress.max = 0, self.grid.effective_steps(position)
        self.progress.layout.visibility = "visible"

        def step() -> None:
            self.progress.value += 1

        try:
            self.grid.make(position, step)
            self._show()
        except ThesisError as error:
            self.readout.value = f"<b>{html.escape(str(error))}</b>"
        finally:
            self.progress.layout.visibility = "hidden"
            self.live.disabled = self.grid.picture(position) is not None


def _scales(scales: list[float]) -> list[tuple[str, float]]:
    return [(f"{scale:g}", scale) for scale in sorted(scales)]
