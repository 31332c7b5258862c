"""Curves: training, and any measure over timestep, strength or guidance."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from thesis_lib.evaluation.statistics import mean_interval
from thesis_lib.figures.style import COLOURS, LINES, localise, panels, series_style, styled
from thesis_lib.figures.words import metric_title, word, wrapped

FEW = 5
"""Up to so many settings have a tick each."""


@styled
def training_curves(histories: Mapping[str, Sequence[pd.DataFrame]], language: str = "en") -> Figure:
    """Loss minus its collapse value over steps, a panel an arm because losses of arms are not comparable.

    Args:
        histories: Arm -> one history a seed, with columns step and excess (nats).
        language: `en` or `de`.

    Returns:
        The figure: every step faintly, a running mean over a twentieth of the steps on top.
    """
    figure, axes = panels(len(histories), 2, 1.7)
    for ax, (arm, runs) in zip(axes, histories.items(), strict=True):
        for index, run in enumerate(runs):
            smooth = run["excess"].rolling(max(1, len(run) // 20), min_periods=1).mean()
            ax.plot(run["step"], run["excess"], color=COLOURS[index % 8], alpha=0.2, linewidth=0.4)
            ax.plot(run["step"], smooth, color=COLOURS[index % 8], linestyle=LINES[index % 8], linewidth=1)
        ax.axhline(0, color="0.4", linewidth=0.7, linestyle=":")
        ax.annotate(word("collapse", language), (1, 0), (-2, 2), xycoords=ax.get_yaxis_transform(),
                    textcoords="offset points", ha="right", va="bottom", fontsize=6.5, color="0.3")  # fmt: skip
        ax.set(title=word(arm, language), xlabel=word("step", language))
        localise(ax, language)
    figure.supylabel(word("excess", language), fontsize=8)
    return figure


@styled
def inversion_curve(history: pd.DataFrame, language: str = "en") -> Figure:
    """The denoising loss of each class's concept over steps, smoothed, and their mean.

    Args:
        history: Columns step, class_name, loss: a row a picture drawn.
        language: `en` or `de`.
    """
    figure, (ax,) = panels(1, 1, 2.2)
    by_step = history.pivot_table(index="step", columns="class_name", values="loss", aggfunc="mean")
    window = max(5, len(by_step) // 5)
    for name in by_step:  # a loss depends far more on the timestep drawn than on the concept: only a wide mean tells
        ax.plot(by_step[name].rolling(window, min_periods=1).mean(), color="0.7", linewidth=0.5)
    ax.plot(by_step.mean(axis=1).rolling(window, min_periods=1).mean(), color=COLOURS[0], linewidth=1.4)
    ax.set(xlabel=word("step", language), ylabel=word("denoising_loss", language))
    localise(ax, language)
    return figure


@styled
def line(values: Sequence[float], x: str, y: str, language: str = "en") -> Figure:
    """One value a step, faintly, and its running mean over a twentieth of the steps."""
    figure, (ax,) = panels(1, 1, 2.0)
    series = pd.Series(values)
    ax.plot(series, color=COLOURS[0], alpha=0.2, linewidth=0.4)
    ax.plot(series.rolling(max(1, len(series) // 20), min_periods=1).mean(), color=COLOURS[0])
    ax.set(xlabel=word(x, language), ylabel=word(y, language))
    localise(ax, language)
    return figure


def _measure(name: str, language: str) -> str:
    return metric_title(name, language) if "/" in name else word(name, language)


@styled
def measure_curves(
    table: pd.DataFrame,
    x: str,
    measures: Sequence[str],
    series: str | None = None,
    marks: Mapping[str, float] | None = None,
    language: str = "en",
) -> Figure:
    """Measures over a setting, a panel a measure: means as lines, 95 % t intervals over rows as bands.

    Args:
        table: One row an observation (a picture, a seed), with the columns named below.
        x: Column of the setting, such as timestep.
        measures: Columns to draw.
        series: Column that divides the rows into lines, such as the mask; none for one line.
        marks: Word -> x of vertical lines, such as the chosen timesteps.
        language: `en` or `de`.

    Returns:
        The figure.
    """
    figure, axes = panels(len(measures), 2 if len(measures) == 4 else 3, 2.1)
    settings = sorted(table[x].unique())
    groups = [("", table)] if series is None else [(str(key), rows) for key, rows in table.groupby(series, sort=True)]
    for ax, measure in zip(axes, measures, strict=True):
        for index, (name, rows) in enumerate(groups):
            points = rows.groupby(x, sort=True)[measure]
            curve = pd.DataFrame({key: mean_interval(values.to_numpy()) for key, values in points}).T
            style = series_style(index)
            ax.plot(curve.index, curve[0], label=word(name, language), markersize=3, **style)
            ax.fill_between(curve.index, curve[1], curve[2], color=style["color"], alpha=0.18, linewidth=0)
        for name, position in (marks or {}).items():
            ax.axvline(position, color="0.35", linewidth=0.7, linestyle=":")
            ax.annotate(word(name, language), (position, 1), (0, 1), xycoords=ax.get_xaxis_transform(),
                        textcoords="offset points", ha="center", va="bottom", fontsize=6.5)  # fmt: skip
        ax.set(xlabel=word(x, language), ylabel=wrapped(_measure(measure, language), 1.8, 8))
        if len(settings) <= FEW:
            ax.set_xticks(settings)
        localise(ax, language)
    if series is not None:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(5, len(groups)))
    return figure
