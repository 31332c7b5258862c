"""The arms against each other: every seed, the mean and its interval."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from thesis_lib.evaluation.statistics import mean_interval
from thesis_lib.figures.style import localise, panels, series_style, styled
from thesis_lib.figures.words import metric_label, metric_scale, word, wrapped


@styled
def arm_comparison(table: pd.DataFrame, metrics: Sequence[str], language: str = "en") -> Figure:
    """Dots and intervals, a panel a metric, a line an arm.

    Args:
        table: Columns arm, seed, metric, value, as `tables.tidy_metrics` makes it; arms in the order to draw.
        metrics: The metrics to draw, those in the table.
        language: `en` or `de`.

    Returns:
        The figure: small open dots are seeds, large ones means, bars 95 % t intervals (none with one seed).
    """
    arms = list(dict.fromkeys(table["arm"]))
    figure, axes = panels(len(metrics), 3, 0.85 + 0.24 * len(arms), sharey=True)
    for number, (ax, metric) in enumerate(zip(axes, metrics, strict=True)):
        for index, arm in enumerate(arms):
            values = table.loc[(table["arm"] == arm) & (table["metric"] == metric), "value"] * metric_scale(metric)
            if values.empty:
                continue
            mean, low, high = mean_interval(values.to_numpy())
            style = series_style(index)
            ax.plot([low, high], [index, index], color=style["color"], linewidth=1.5)
            if len(values) > 1:
                ax.plot(values, [index + 0.25] * len(values), "o", markersize=2.5, fillstyle="none", color="0.35",
                        markeredgewidth=0.5)  # fmt: skip
            ax.plot(mean, index, color=style["color"], marker=style["marker"], markersize=5)
        ax.set_yticks(range(len(arms)), [wrapped(word(arm, language), 1.1, 7) for arm in arms])
        ax.tick_params(axis="y", length=0, labelleft=number % 3 == 0)
        ax.grid(axis="x", color="0.88", linewidth=0.5)
        ax.set_title(wrapped(metric_label(metric, language), 1.6, 8))
        ax.margins(x=0.12)
        ax.set_ylim(len(arms) - 0.4, -0.5)
        localise(ax, language)
    return figure
