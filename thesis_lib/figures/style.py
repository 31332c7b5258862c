"""The look of all figures: sizes of an A4 thesis, colours for colour-blind readers, shapes for readers in grey."""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from thesis_lib.figures.words import LANGUAGES
from thesis_lib.storage import atomic

P = ParamSpec("P")

TEXT_WIDTH = 5.9
"""Width of the text on the page, in inches (15 cm); figures are drawn at this size and not scaled."""
TEXT_HEIGHT = 9.0
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
"""Okabe and Ito's colours; yellow last, it is weak on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "figure.dpi": 110,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    "axes.unicode_minus": True,
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function draw in the thesis's style, whatever style the caller has set."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def panels(
    count: int, columns: int, height: float, width: float = TEXT_WIDTH, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels.

    It does not belong to pyplot: nothing has to be closed, and a notebook shows it once, as a cell's last value.

    Args:
        count: Panels.
        columns: Panels a row.
        height: Of a row, in inches.
        width: Of the figure, in inches.
        options: For `Figure.subplots`.

    Returns:
        The figure and its `count` axes, row by row.
    """
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


class LanguageFormatter(ScalarFormatter):
    """Tick labels with the decimal sign of a language and no offset.

    Args:
        language: `en` or `de`.
    """

    def __init__(self, language: str) -> None:
        super().__init__(useOffset=False)
        self.language = language

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The label of a tick."""
        text = super().__call__(x, pos)
        return text.replace(".", ",") if self.language == "de" else text


def localise(axes: Axes, language: str) -> None:
    """Write the numbers on both axes as the language does; axes with text for ticks stay."""
    for axis in (axes.xaxis, axes.yaxis):
        if isinstance(axis.get_major_formatter(), ScalarFormatter):
            axis.set_major_formatter(LanguageFormatter(language))


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Lines of a figure from the top down: their names on the left, a faint grid."""
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="both", color="0.9", linewidth=0.5)


def series_style(index: int) -> dict[str, Any]:
    """Colour, marker and line of the series number `index`; no two of the first eight share one."""
    return {"color": COLOURS[index % 8], "marker": MARKERS[index % 8], "linestyle": LINES[index % 8]}


def to_image(picture: np.ndarray) -> np.ndarray:
    """A picture (3, h, w) uint8 as (h, w, 3)."""
    return np.moveaxis(np.asarray(picture), 0, -1)


def save_figure(figure: Figure, stem: Path) -> Path:
    """Write a figure as `stem`.pdf (fonts embedded) and `stem`.png (200 dpi), atomically, the same bytes every time.

    Args:
        figure: The figure.
        stem: The path without the ending.

    Returns:
        The path of the PNG.
    """
    stem = Path(stem)
    with mpl.rc_context(STYLE):
        for ending, stamp in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
            with atomic(stem.with_name(f"{stem.name}.{ending}")) as temporary:
                figure.savefig(temporary, format=ending, dpi=STYLE["savefig.dpi"], metadata=stamp)
    return stem.with_name(f"{stem.name}.png")


def in_language(stem: Path, language: str, own: str) -> Path:
    """Where something in `language` lies that lies at `stem` in the experiment's `own` language."""
    return stem if language == own else stem.with_name(f"{stem.name}.{language}")


def keep_figure(stem: Path, language: str, make: Callable[..., Figure], *content: Any, **options: Any) -> Figure:
    """Draw a figure in every language and write each as PDF and PNG, so that a thesis in either can have it.

    Args:
        stem: The path without the ending; a figure in another than the experiment's language is at `stem`.<language>.
        language: The experiment's, `en` or `de`.
        make: Draws it; it takes a keyword `language`.
        *content: What it draws.
        **options: Settings of the drawing.

    Returns:
        The figure in the experiment's language.
    """
    figures = {each: make(*content, language=each, **options) for each in LANGUAGES}
    for each, figure in figures.items():
        save_figure(figure, in_language(Path(stem), each, language))
    return figures[language]
