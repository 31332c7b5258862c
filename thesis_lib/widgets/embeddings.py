"""The embedding explorer: maps that answer. Pointing at a point shows its picture and marks it in every map."""

import asyncio
import html
from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd
import torch
from matplotlib.backend_bases import DrawEvent, LocationEvent, MouseEvent
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from thesis_lib.datasets import PreparedData
from thesis_lib.evaluation.embeddings import METHODS, coordinates, map_points, place
from thesis_lib.figures.embeddings import COLOURINGS, embedding_maps, map_grid
from thesis_lib.figures.words import word
from thesis_lib.sections import EvaluationParameters
from thesis_lib.widgets.controls import control, png, with_class

SCREEN_DPI = 120
"""Of the maps on the screen: 708 pixels for the width of a page."""
TOOLBAR = 0.36
"""Height of the toolbar's buttons on the screen, in inches of the figure."""
REACH = 12
"""The nearest point is meant if it is no more CSS pixels away from the mouse."""
LARGEST_SETTING = 100
"""Upper end of the sliders for perplexity and neighbours, where there are so many pictures."""
Key = tuple[str, float, str]
"""Method, its perplexity or number of neighbours, and arm: all that determines a map of a run's seed."""


class EmbeddingExplorer(widgets.VBox):
    """The printed maps, drawn live. A click holds a picture until the next click, hovering shows one in passing.

    Every control has a CSS class for tests in a browser: `thesis-arms`, `thesis-colouring`, `thesis-perplexity`,
    `thesis-neighbours`, `thesis-compute`, `thesis-progress`, `thesis-status`, `thesis-number`; the maps are
    `thesis-maps`, the picture `thesis-picture`, what is known about it `thesis-facts`.

    Args:
        maps: What `embed_arms` gives, of at least one arm; the first is the one that the others are aligned with.
        features: What it was made from, arm -> features, to make maps with other settings.
        data: The pictures.
        evaluation: The settings that `maps` was made with.
        seed: The experiment's seed.
    """

    def __init__(
        self, maps: pd.DataFrame, features: Mapping[str, Mapping[str, torch.Tensor]], data: PreparedData,
        evaluation: EvaluationParameters, seed: int,
    ) -> None:  # fmt: skip
        self.data, self.seed = data, seed
        ood = data.ood.table if data.ood else None
        self._frames = {str(arm): rows.reset_index(drop=True) for arm, rows in maps.groupby("arm", sort=False)}
        self._first = next(iter(self._frames))
        self._features = {arm: map_points(features[arm], ood) for arm in self._frames}
        count = len(self._frames[self._first])
        settings = dict(zip(METHODS, (evaluation.perplexity, evaluation.neighbours), strict=True))
        self._places: dict[Key, np.ndarray] = {
            (method, setting, arm): coordinates(rows, method)
            for arm, rows in self._frames.items()
            for method, setting in settings.items()
        }
        self.arms = control(
            widgets.SelectMultiple, "arms", "Arms", rows=min(5, len(self._frames)),
            options=[(word(arm), arm) for arm in self._frames], value=list(self._frames)[:2],
        )  # fmt: skip
        self.colouring = control(
            widgets.Dropdown, "colouring", "Colour by", options=[(word(name), name) for name in COLOURINGS]
        )
        most = min(LARGEST_SETTING, count - 1)
        perplexities = sorted({evaluation.perplexity, *map(float, range(2, most + 1))})
        self.perplexity = control(  # by options: a slider of fractions comes back from the browser a little off
            widgets.SelectionSlider, "perplexity", "t-SNE perplexity", value=evaluation.perplexity,
            options=[(f"{value:g}", value) for value in perplexities],
        )  # fmt: skip
        self.neighbours = control(
            widgets.IntSlider, "neighbours", "UMAP neighbours", value=evaluation.neighbours, min=2,
            max=max(evaluation.neighbours, most),
        )  # fmt: skip
        self.compute = control(widgets.Button, "compute", "Compute these maps", icon="play", disabled=True)
        self.progress = control(widgets.IntProgress, "progress", "Computing", min=0)
        self.progress.layout.width, self.progress.layout.visibility = "20em", "hidden"
        self.status = with_class(widgets.HTML(), "status")
        self.number = control(widgets.IntSlider, "number", "Picture number", min=1, max=count)
        self.picture = with_class(widgets.Image(format="png", layout={"width": "192px", "height": "192px"}), "picture")
        self.facts = with_class(widgets.HTML(), "facts")
        self.held = False
        self._at: str | None = None  # the arm whose map the mouse is on
        self._task: asyncio.Task[None] | None = None
        self._background: Any = None  # until the browser asks for a drawing
        self.canvas = self._live_canvas()
        for choice in (self.arms, self.colouring, self.perplexity, self.neighbours):
            choice.observe(self._show_maps, "value")
        self.number.observe(self._show_picture, "value")
        self.compute.on_click(self._start)
        wrap = {"flex_flow": "row wrap", "grid_gap": "8px"}
        shown = widgets.VBox([self.picture, self.facts], layout={"width": "210px"})
        choices = widgets.VBox([self.arms, self.colouring, self.perplexity, self.neighbours])
        computing = widgets.HBox([self.compute, self.progress])
        below = widgets.HBox([self.canvas, shown], layout=wrap)
        super().__init__([choices, computing, self.status, self.number, below])
        self.add_class("thesis-embeddings")
        self._show_maps()

    def _live_canvas(self) -> Any:
        from ipympl.backend_nbagg import Canvas, FigureManager

        canvas = with_class(Canvas(Figure(dpi=SCREEN_DPI)), "maps")
        canvas.header_visible = canvas.footer_visible = canvas.resizable = False
        canvas.toolbar_position = "bottom"  # it lies on the figure, see `_leave_room`
        manager = FigureManager(canvas, 0)
        canvas.mpl_disconnect(manager.key_press_handler_id)  # its keys change the axes: l makes them logarithmic
        for event, answer in (
            ("draw_event", self._keep), ("motion_notify_event", self._hover), ("button_press_event", self._click),
        ):  # fmt: skip
            canvas.mpl_connect(event, answer)
        return canvas

    def _wanted(self) -> list[Key]:
        """The maps that the controls ask for, and those of the first arm, which the others are aligned with."""
        arms = [self._first, *(arm for arm in self.arms.value if arm != self._first)]
        settings = dict(zip(METHODS, (self.perplexity.value, self.neighbours.value), strict=True))
        return [(method, setting, arm) for method, setting in settings.items() for arm in arms]

    def _show_maps(self, _: Any = None) -> None:
        """Draw the maps if they are there; else say what to press."""
        missing = [key for key in self._wanted() if key not in self._places]
        if self.arms.value and not missing:
            self._draw()
        if self._task is not None:
            return  # it says what it does, and comes here when it is done
        self.compute.disabled = not missing
        if not self.arms.value:
            self.status.value = "Choose at least one arm."
        elif missing:
            self.status.value = "<b>Not computed yet: press “Compute these maps”.</b> The maps below are the last ones."
        else:
            self.status.value = ""

    def _draw(self) -> None:
        placed = {(method, arm): self._places[method, setting, arm] for method, setting, arm in self._wanted()}
        frames = []
        for arm in self._frames:  # in the order of the table, whatever the order of the choice
            if arm in self.arms.value:
                columns = {
                    f"{method}_{axis}": placed[method, arm][:, i] for method in METHODS for i, axis in enumerate("xy")
                }
                frames.append(self._frames[arm].assign(**columns))
        self._background = None
        figure = embedding_maps(pd.concat(frames), self.colouring.value, figure=self.canvas.figure)
        _leave_room(figure)
        cells = [cell for row in map_grid([frame["arm"].iloc[0] for frame in frames]) for cell in row]
        self._panels = dict(zip(figure.axes, cells, strict=False))  # the colour bar comes after them
        self._positions = [placed[method, arm] for arm, method in cells]
        halo = [withStroke(linewidth=4, foreground="white")]
        self._rings = [
            ax.plot([], [], "o", ms=11, mew=1.8, mfc="none", mec="black", path_effects=halo, animated=True)[0]
            for ax in self._panels
        ]
        self.canvas.draw_idle()
        self._show_picture()

    def _keep(self, event: DrawEvent) -> None:
        """Keep what was drawn, so that moving the rings draws nothing else again."""
        if not self.canvas.is_saving():
            self._background = self.canvas.copy_from_bbox(self.canvas.figure.bbox)
            self._draw_rings()

    def _draw_rings(self) -> None:
        for ax, ring, positions in zip(self._panels, self._rings, self._positions, strict=True):
            x, y = positions[self.number.value - 1]
            ring.set_data([x], [y])
            ax.draw_artist(ring)

    def _nearest(self, event: LocationEvent) -> int | None:
        """The picture that the mouse points at, counted from 0, and remember on which arm's map it is."""
        if event.inaxes not in self._panels:
            return None
        positions = self._positions[list(self._panels).index(event.inaxes)]
        distances = np.hypot(*(event.inaxes.transData.transform(positions) - (event.x, event.y)).T)
        nearest = int(distances.argmin())
        if distances[nearest] > REACH * self.canvas.device_pixel_ratio:
            return None
        self._at = self._panels[event.inaxes][0]
        return nearest

    def _hover(self, event: MouseEvent) -> None:
        if not self.held:
            self._select(self._nearest(event))

    def _click(self, event: MouseEvent) -> None:
        if not self.canvas.toolbar.mode:  # else the click zooms or moves the map
            found = self._nearest(event)
            self.held = found is not None
            self._select(self.number.value - 1 if found is None else found)

    def _select(self, index: int | None) -> None:
        if index is None:
            return
        if index + 1 == self.number.value:
            self._show_facts()
        else:
            self.number.value = index + 1

    def _show_picture(self, _: Any = None) -> None:
        row = self._frames[self._first].iloc[self.number.value - 1]
        source = self.data.images if row["set"] == "id" or self.data.ood is None else self.data.ood
        self.picture.value = png(source.pictures[row["row"]])
        self._show_facts()
        if self._background is not None:
            self.canvas.restore_region(self._background)
            self._draw_rings()
            self.canvas.blit()

    def _show_facts(self) -> None:
        """What is known about the picture, and what each arm says to it."""
        index = self.number.value - 1
        row = self._frames[self._first].iloc[index]
        lines = [f"<b>{html.escape(_plain(row['class_name']))}</b> ({word(row['set'])})"]
        for arm in self._frames:
            if arm in self.arms.value:
                answer = self._frames[arm].iloc[index]
                right = "" if row["set"] != "id" else " ✓" if answer["predicted"] == row["class_name"] else " ✗"
                said = f"{word(arm)}: {_plain(answer['predicted'])}, {answer['confidence']:.0%}{right}"
                lines.append(f"<u>{html.escape(said)}</u>" if arm == self._at else html.escape(said))
        if self.held:
            lines.append("<i>Held: click beside the points to let go.</i>")
        self.facts.value = "<br>".join(lines)

    def _start(self, _: Any) -> None:
        self._task = asyncio.get_running_loop().create_task(self.recompute())

    async def recompute(self) -> None:
        """Make the maps that the controls ask for, in another thread: the page answers meanwhile."""
        missing = [key for key in self._wanted() if key not in self._places]
        self.compute.disabled = True
        self.progress.value, self.progress.max = 0, len(missing)
        self.progress.layout.visibility = "visible"
        try:
            for key in missing:
                method, setting, arm = key
                note = " (the first UMAP compiles for ten seconds or more)" if method == "umap" else ""
                self.status.value = html.escape(f"Computing {word(method)} of {word(arm)}{note} …")
                reference = None if arm == self._first else self._places[method, setting, self._first]
                self._places[key] = await asyncio.to_thread(
                    place, method, self._features[arm], setting, self.seed, reference
                )
                self.progress.value += 1
        except Exception as error:
            self.status.value = f"<b>{html.escape(str(error))}</b>"
            raise
        finally:
            self._task = None
            self.progress.layout.visibility = "hidden"
            self.compute.disabled = False
        self._show_maps()


def _plain(name: str) -> str:
    """A class name as figures write it; it may also be one of their words."""
    return name.replace("_", " ")


def _leave_room(figure: Figure) -> None:
    """Leave a strip for the toolbar below maps and legend."""
    (width, height), (legend,) = figure.get_size_inches(), figure.legends
    total = height + TOOLBAR
    figure.set_size_inches(width, total)
    figure.set_layout_engine("constrained", rect=(0, TOOLBAR / total, 1, height / total))  # lifts the maps
    legend.borderaxespad = 72 * TOOLBAR / legend.prop.get_size_in_points()  # lifts the legend
