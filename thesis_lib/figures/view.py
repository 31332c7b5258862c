"""One augmentation for print: source, noised latent, result and difference, and what is said of the result."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from torch import Tensor

from thesis_lib.figures.style import COLOURS, TEXT_WIDTH, localise, styled, to_image
from thesis_lib.figures.words import number, word

BAND_COLOURS = {"id": COLOURS[5], "near_ood": COLOURS[1]}
READING_HEIGHT = 1.05


@dataclass(frozen=True)
class Reading:
    """What is said of a picture; what was not measured is empty."""

    distance: float | None = None
    """To its own class, 1 being the median of validation pictures."""
    p_own: float | None = None
    """Conformal p value for its own class."""
    band: str = ""
    """`id`, `near_ood`, or empty for neither."""
    nearest: str = ""
    """The nearest class."""
    limits: dict[str, tuple[float, float]] = field(default_factory=dict)
    """The bands, lowest and highest distance."""
    answers: tuple[tuple[str, float], ...] = ()
    """A classifier's likeliest classes with their probabilities."""
    classifier: str = ""
    """The arm that the classifier is of."""


@styled
def reading_strip(reading: Reading, language: str = "en") -> Figure:
    """The distance to the class on a scale with both bands, and beside it a classifier's answers, as far as there are.

    Args:
        reading: What is said of a picture.
        language: `en` or `de`.

    Returns:
        The figure, as wide as the page.
    """
    figure = Figure(figsize=(TEXT_WIDTH, READING_HEIGHT), layout="constrained")
    _draw_reading(figure, reading, language)
    return figure


@styled
def augmentation_view(
    pictures: Mapping[str, Tensor | np.ndarray], settings: str, reading: Reading, language: str = "en"
) -> Figure:
    """Pictures in a row with their captions, the settings in words, and the reading.

    Args:
        pictures: Caption -> uint8 (3, s, s).
        settings: How the result was made.
        reading: What is said of the result.
        language: `en` or `de`.

    Returns:
        The figure.
    """
    lines = textwrap.wrap(settings, 105)
    heights = [TEXT_WIDTH / len(pictures) + 0.2 + 0.14 * len(lines)]
    if reading.distance is not None or reading.answers:
        heights.append(READING_HEIGHT)
    figure = Figure(figsize=(TEXT_WIDTH, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    axes = parts[0].subplots(1, len(pictures), squeeze=False)[0]
    for ax, (caption, picture) in zip(axes, pictures.items(), strict=True):
        ax.imshow(to_image(np.asarray(picture)), interpolation="bilinear")
        ax.set(xticks=[], yticks=[], xlabel=caption)
        ax.spines[:].set_visible(False)
    parts[0].supxlabel("\n".join(lines), fontsize=7)
    if len(parts) > 1:
        _draw_reading(parts[1], reading, language)
    return figure


def _draw_reading(figure: FigureBase, reading: Reading, language: str) -> None:
    count = (reading.distance is not None) + bool(reading.answers)
    axes = list(figure.subplots(1, count, squeeze=False)[0]) if count else []
    if reading.distance is not None:
        _draw_scale(axes[0], reading.distance, reading, language)
    if reading.answers:
        _draw_answers(axes[-1], reading, language)


def _draw_scale(ax: Axes, distance: float, reading: Reading, language: str) -> None:
    for name, (low, high) in reading.limits.items():
        ax.axvspan(low, high, color=BAND_COLOURS[name], alpha=0.45, linewidth=0, label=word(name, language))
    ax.plot([distance], [0], marker="v", markersize=8, color="black", clip_on=False)
    where = word(reading.band or "neither", language)
    ax.annotate(f"{number(distance, 2, language)}: {where}", (distance, 0), (0, 7), textcoords="offset points",
                ha="center", fontsize=7)  # fmt: skip
    end = max(1.25 * max(high for _, high in reading.limits.values()), 1.1 * distance)
    ax.set(xlim=(0, end), ylim=(-0.6, 1.4), yticks=[], xlabel=word("d_own", language))
    ax.spines["left"].set_visible(False)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, borderaxespad=0.2)
    localise(ax, language)


def _draw_answers(ax: Axes, reading: Reading, language: str) -> None:
    names = [name.replace("_", " ") for name, _ in reading.answers]
    shares = [100 * share for _, share in reading.answers]
    ax.barh(range(len(names)), shares, color=[COLOURS[0], *["0.7"] * (len(names) - 1)], height=0.6)
    for row, share in enumerate(shares):
        inside = share > 80
        ax.text(share - 2 if inside else share + 2, row, f"{number(share, 0, language)} %", va="center", fontsize=7,
                ha="right" if inside else "left", color="white" if inside else "black")  # fmt: skip
    ax.set(xlim=(0, 100), yticks=range(len(names)), yticklabels=names, xlabel=word("answer", language))
    ax.invert_yaxis()
    localise(ax, language)
