"""The arms against each other: every seed, means and intervals, and paired differences as a forest plot."""

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thesis_lib.evaluation.statistics import mean_interval
from thesis_lib.figures.style import COLOURS, TEXT_HEIGHT, localise, panels, styled
from thesis_lib.figures.tables import EXPLORATORY, grouped
from thesis_lib.figures.words import metric_title, word, wrapped

CONFIRMATORY_LOOK: Any = {"color": COLOURS[0], "marker": "o"}
EXPLORATORY_LOOK: Any = {"color": COLOURS[3], "marker": "s", "markerfacecolor": "white"}


@styled
def arm_comparison(
    table: pd.DataFrame, metrics: Sequence[str], confirmatory: Collection[str], language: str = "en"
) -> Figure:
    """Dots and intervals, a panel a metric, a line an arm.

    Args:
        table: Columns arm, seed, metric, value, as `tables.tidy_metrics` makes it; arms in the order to draw.
        metrics: The metrics to draw, those in the table, in percent.
        confirmatory: The arms that run with all seeds; the others are drawn below, with open squares.
        language: `en` or `de`.

    Returns:
        The figure: small open dots are seeds, large ones means, bars 95 % t intervals (none with one seed); those of
        exploratory arms, several times as wide with few seeds, may run over the edge.
    """
    rows = grouped(list(dict.fromkeys(table["arm"])), confirmatory)
    height = 0.75 + 0.24 * len(rows)
    figure, axes = panels(len(metrics), 3, min(height, TEXT_HEIGHT / -(-len(metrics) // 3)), sharey=True)
    for index, (ax, metric) in enumerate(zip(axes, metrics, strict=True)):
        _lines(ax, rows, language, labelled=index % 3 == 0)
        reach: list[float] = []
        for y, arm in enumerate(rows):
            values = 100 * table.loc[(table["arm"] == arm) & (table["metric"] == metric), "value"].to_numpy()
            if not len(values):
                continue
            if len(values) > 1:
                ax.plot(values, [y + 0.28] * len(values), "o", markersize=2, fillstyle="none", color="0.35",
                        markeredgewidth=0.4)  # fmt: skip
            interval = mean_interval(values)
            _interval(ax, y, *interval, arm in confirmatory)
            reach += [*values, *(interval[1:] if arm in confirmatory and len(values) > 1 else ())]
        margin = max(1.0, 0.08 * (max(reach) - min(reach)))
        ax.set_xlim(min(reach) - margin, max(reach) + margin)
        ax.set_title(wrapped(metric_title(metric, language), 1.6, 8))
        localise(ax, language)
    return figure


@styled
def forest(paired: pd.DataFrame, confirmatory: Collection[str], language: str = "en") -> Figure:
    """Differences of the arms to their references in points, a panel a metric, a line an arm, references on the right.

    Args:
        paired: As `tables.differences` makes it.
        confirmatory: The arms that run with all seeds; the others are drawn below, with open squares.
        language: `en` or `de`.

    Returns:
        The figure: means over seeds of paired differences and 95 % t intervals (none with one seed).
    """
    metrics = list(dict.fromkeys(paired["metric"]))
    rows = grouped(list(dict.fromkeys(paired["arm"])), confirmatory)
    figure, axes = panels(len(metrics), len(metrics), min(0.75 + 0.2 * len(rows), TEXT_HEIGHT), sharey=True)
    against = paired.drop_duplicates("arm").set_index("arm")["reference"]
    for index, (ax, metric) in enumerate(zip(axes, metrics, strict=True)):
        _lines(ax, rows, language, labelled=index == 0)
        ax.axvline(0, color="0.35", linewidth=0.8)
        for row in paired[paired["metric"] == metric].to_dict("records"):
            _interval(
                ax,
                rows.index(row["arm"]),
                100 * row["mean"],
                100 * row["low"],
                100 * row["high"],
                row["arm"] in confirmatory,
            )
        ax.set_title(wrapped(word(metric, language), 0.9, 8))
        ax.locator_params(axis="x", nbins=4)
        localise(ax, language)
    side = axes[-1].secondary_yaxis("right")
    side.set_yticks(range(len(rows)), [word(against[arm], language) if arm in against else "" for arm in rows])
    side.tick_params(length=0, colors="0.35")
    side.spines["right"].set_visible(False)
    axes[-1].annotate(word("reference", language), (1, 1), (4, 3), xycoords="axes fraction",
                      textcoords="offset points", fontsize=7, style="italic", color="0.35")  # fmt: skip
    figure.supxlabel(word("points", language), fontsize=8)
    return figure


def _lines(ax: Axes, rows: Sequence[str], language: str, labelled: bool) -> None:
    """A faint line a row, names on the left, the heading of exploratory arms in italics."""
    ax.set_yticks(range(len(rows)), [word(row, language) for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    if labelled and EXPLORATORY in rows:
        ax.get_yticklabels()[rows.index(EXPLORATORY)].set(style="italic", color="0.35")
    ax.tick_params(axis="y", length=0, labelleft=labelled)
    ax.hlines([y for y, row in enumerate(rows) if row != EXPLORATORY], 0, 1, color="0.9", linewidth=0.5,
              transform=ax.get_yaxis_transform(), zorder=0)  # fmt: skip
    ax.grid(axis="x", color="0.88", linewidth=0.5)
    ax.margins(x=0.12)


def _interval(ax: Axes, y: int, mean: float, low: float, high: float, is_confirmatory: bool) -> None:
    look = CONFIRMATORY_LOOK if is_confirmatory else EXPLORATORY_LOOK
    ax.plot([low, high], [y, y], color=look["color"], linewidth=1.5 if is_confirmatory else 0.8)
    ax.plot(mean, y, markersize=4.5, **look)
