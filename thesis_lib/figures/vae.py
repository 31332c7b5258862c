"""Figures of companion study 2: gains of generated examples, latent spaces, the harness, blur."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from torch import Tensor

from thesis_lib.errors import ThesisError
from thesis_lib.evaluation.statistics import mean_interval
from thesis_lib.figures.embeddings import class_look
from thesis_lib.figures.galleries import contact_sheet
from thesis_lib.figures.report import Section, captioned_figures, captioned_tables
from thesis_lib.figures.style import COLOURS, MARKERS, localise, name_rows, panels, series_style, styled
from thesis_lib.figures.vae_tables import harness_heads, harness_methods, in_beta, study_word
from thesis_lib.figures.words import number, wrapped
from thesis_lib.parameter_files import dump_parameters
from thesis_lib.vae.methods import ALONE, VIEWS
from thesis_lib.vae.parameters import VaeParameters
from thesis_lib.vae.tabulate import summarised

PARTS = (
    ("Tables: PROBEN1", ("proben1", "few_shot_table")),
    ("Digits: MNIST", ("latent_spaces", "lines", "generated_digits", "few_shot", "only_generated", "many_generated")),
    ("Faces", ("faces",)),
    ("One harness", ("harness_pictures", "harness", "comparisons")),
    ("Blur", ("blur",)),
)
"""The report's parts after the findings: heading, names of tables and figures."""
DISC: Any = {"fc": "white", "ec": "0.4", "lw": 0.4}
PUBLISHED_LOOK: Any = {"color": "0.25", "marker": "D", "markerfacecolor": "white", "linestyle": "--", "linewidth": 0.8}


def paired_gains(results: pd.DataFrame, section: str) -> pd.DataFrame:
    """Weighted F1 of the small network with generated examples minus without, in points, seed by seed.

    Args:
        results: Rows of `vae.work.COLUMNS`.
        section: One of them.

    Returns:
        Columns data, shots, method, beta, seed, gain.

    Raises:
        ThesisError: The section has no results of the small network.
    """
    rows = results[(results["section"] == section) & (results["metric"] == "f1")]
    rows = rows[rows["classifier"] == "network"]
    if rows.empty:
        raise ThesisError(f"{section} has no results of the small network: add it to the classifiers")
    at = ["data", "shots", "seed"]
    without = rows[rows["method"] == "none"].set_index(at)["value"]
    others = rows[rows["method"] != "none"]
    base = without.reindex(pd.MultiIndex.from_frame(others[at])).to_numpy()
    return others.assign(gain=100 * (others["value"] - base))[["data", "shots", "method", "beta", "seed", "gain"]]


@styled
def gains_by_shots(results: pd.DataFrame, section: str, language: str = "en") -> Figure:
    """The gain over the number of real examples a class, a panel a method, published gains beside.

    Args:
        results: Rows of `vae.work.COLUMNS`.
        section: `few_shot`, `many_generated` or `few_shot_table`.
        language: `en` or `de`.

    Returns:
        The figure: filled circles are means over seeds of paired differences, the band their 95 % t interval (none
        with one seed; with few it may run over the edge, which is drawn around the seeds); open diamonds the source's.
    """
    gains, summary = paired_gains(results, section), summarised(results, section)
    known = summary.pivot_table(index="at", columns="method", values="published", aggfunc="first")
    methods = list(dict.fromkeys(gains["method"]))
    columns = 4 if len(methods) > 9 else 3
    figure, axes = panels(len(methods), columns, 1.75, sharex=True, sharey=True)
    reach = [0.0, *gains["gain"]]
    for index, (ax, method) in enumerate(zip(axes, methods, strict=True)):
        ax.tick_params(labelbottom=index >= len(methods) - columns)  # those with no panel below
        groups = gains[gains["method"] == method].groupby("shots")["gain"]
        curve = pd.DataFrame({shots: mean_interval(values.to_numpy()) for shots, values in groups}).T
        ax.axhline(0, color="0.5", linewidth=0.7)
        ax.plot(curve.index, curve[0], color=COLOURS[0], marker="o", markersize=3, label=study_word("ours", language))
        ax.fill_between(curve.index, curve[1], curve[2], color=COLOURS[0], alpha=0.2, linewidth=0)
        if method in known and "none" in known:
            published = 100 * (known[method] - known["none"]).dropna()
            reach += published.tolist()
            ax.plot(published.index, published, markersize=3, label=study_word("published", language), **PUBLISHED_LOOK)
        ax.set_title(wrapped(study_word(method, language), 4.8 / columns, 8))
        _shots_axis(ax, sorted(gains["shots"].unique()))
        localise(ax, language)
    axes[0].set_ylim(_around(reach))
    shown = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown, loc="outside upper center", ncols=2)
    figure.supxlabel(study_word("shots", language), fontsize=8)
    figure.supylabel(study_word("gain", language), fontsize=8)
    return figure


def _around(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis that holds the values with some room."""
    room = max(0.5, 0.06 * (max(values) - min(values)))
    return min(values) - room, max(values) + room


def _seed_dots(ax: Axes, values: np.ndarray, y: float) -> None:
    """Several seeds as small open dots in a line."""
    if len(values) > 1:
        ax.plot(values, [y] * len(values), "o", markersize=2, fillstyle="none", color="0.35", markeredgewidth=0.4)


def _shots_axis(ax: Axes, values: Sequence[int]) -> None:
    """A logarithmic axis that names at most five of the numbers measured."""
    ax.set_xscale("log")
    step = -(-len(values) // 5)
    ax.set_xticks(values[::step], [str(value) for value in values[::step]])
    ax.xaxis.set_minor_locator(NullLocator())


@styled
def only_generated(results: pd.DataFrame, language: str = "en") -> Figure:
    """Weighted F1 of a network that sees generated pictures alone, over their number: ours, and as published.

    Args:
        results: Rows of `vae.work.COLUMNS`.
        language: `en` or `de`.

    Returns:
        The figure: a line a method, means over seeds; the dotted line is the network trained on the originals alone
        for as many steps.
    """
    summary = summarised(results, "only_generated")
    figure, axes = panels(2, 2, 2.6, sharey=True, sharex=True)
    for ax, column, title in zip(axes, ("mean", "published"), ("ours", "published"), strict=True):
        for index, method in enumerate(dict.fromkeys(summary["method"])):
            rows = summary[(summary["method"] == method) & summary[column].notna()].sort_values("at")
            if method == "none":
                dotted: Any = {"color": "0.2", "linewidth": 0.9, "linestyle": ":"}
                if len(rows) == 1:
                    ax.axhline(100 * rows[column].iloc[0], **dotted)
                ax.plot(rows["at"], 100 * rows[column], **dotted)
                continue
            style = series_style(index)
            at = rows["at"] * (1.03 ** (index - 2.5) if len(rows) == 1 else 1)  # side by side where there is one number
            ax.plot(at, 100 * rows[column], markersize=3, label=study_word(method, language), **style)
            if column == "mean" and len(rows) == 1:
                ax.vlines(at, 100 * rows["low"], 100 * rows["high"], color=style["color"])
            elif column == "mean":
                ax.fill_between(rows["at"], 100 * rows["low"], 100 * rows["high"], color=style["color"], alpha=0.15,
                                linewidth=0)  # fmt: skip
        ax.set(title=study_word(title, language), xlabel=study_word("generated", language))
        _shots_axis(ax, sorted(summary["at"].unique()))
        localise(ax, language)
    axes[0].set_ylabel(f"{study_word('f1', language)} in %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


@styled
def set_gains(results: pd.DataFrame, language: str = "en") -> Figure:
    """PROBEN1: the gain for each set and beta, with and without the generative classifier, published gains beside.

    Of the small network. Beside them what as many real examples, repeated, give: with a set's first beta.

    Args:
        results: Rows of `vae.work.COLUMNS`.
        language: `en` or `de`.

    Returns:
        The figure: circles and bars are means over seeds of paired differences and 95 % t intervals, which may run over
        the edge with few seeds; open diamonds the source's; crosses the mean with real examples repeated.
    """
    everything, summary = paired_gains(results, "proben1"), summarised(results, "proben1")
    repeated = everything[everything["method"] == "repeated"].groupby("data")["gain"].mean()
    gains = everything[everything["method"] != "repeated"]
    lines = list(dict.fromkeys(zip(gains["data"], gains["beta"], strict=True)))
    reach = [0.0, *gains["gain"]]
    figure, axes = panels(2, 2, 0.7 + 0.17 * len(lines), sharey=True, sharex=True)
    for ax, method in zip(axes, ("vae", "vae_gc"), strict=True):
        ax.axvline(0, color="0.5", linewidth=0.7)
        for y, (data, beta) in enumerate(lines):
            chosen = gains[(gains["data"] == data) & (gains["beta"] == beta) & (gains["method"] == method)]["gain"]
            mean, low, high = mean_interval(chosen.to_numpy())
            ax.plot([low, high], [y, y], color=COLOURS[0], linewidth=1.2)
            ax.plot(mean, y, "o", color=COLOURS[0], markersize=4, label=study_word("ours", language))
            if data in repeated and (y == 0 or lines[y - 1][0] != data):
                reach.append(repeated[data])
                ax.plot(reach[-1], y, "x", color="0.25", markersize=4.5, label=study_word("repeated", language))
            at = summary[summary["data"] == data]
            theirs = at[(at["method"] == method) & (at["beta"] == beta)]["published"].dropna()
            base = at[at["method"] == "none"]["published"].dropna()
            if len(theirs) and len(base):
                look = PUBLISHED_LOOK | {"linestyle": "none", "label": study_word("published", language)}
                reach.append(100 * (theirs.iloc[0] - base.iloc[0]))
                ax.plot(reach[-1], y, markersize=3.5, **look)
        ax.set_title(study_word(method, language))
        name_rows(ax, [f"{data}, {in_beta(beta, language)}" for data, beta in lines])
        localise(ax, language)
    axes[0].set_xlim(_around(reach))
    shown = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(shown.values(), shown, loc="outside upper center", ncols=3)
    figure.supxlabel(study_word("gain", language), fontsize=8)
    return figure


@styled
def latent_spaces(maps: Mapping[float, np.ndarray], labels: np.ndarray, language: str = "en") -> Figure:
    """Two-dimensional codes for several betas, a panel a beta; a colour and a shape a class, its number at its median.

    Medians of classes that lie over each other do, too; the legend names all.

    Args:
        maps: beta -> (n, 2).
        labels: (n,).
        language: `en` or `de`.
    """
    figure, axes = panels(len(maps), 2, 2.9)
    for ax, (beta, points) in zip(axes, maps.items(), strict=True):
        for index, label in enumerate(np.unique(labels)):
            x, y = np.asarray(points)[labels == label].T
            ax.scatter(x, y, s=3, alpha=0.6, label=str(label), **class_look(index) | {"linewidths": 0})
            middle, disc = (float(np.median(x)), float(np.median(y))), {"boxstyle": "circle,pad=0.15", **DISC}
            ax.annotate(str(label), middle, fontsize=8, weight="bold", ha="center", va="center", bbox=disc)
        ax.set_title(in_beta(beta, language))
        ax.set_aspect("equal", adjustable="datalim")
        localise(ax, language)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=10, markerscale=3)
    return figure


@styled
def harness_comparison(results: pd.DataFrame, language: str = "en") -> Figure:
    """The harness: weighted F1 of every kind of augmentation, a panel a data set and split.

    Args:
        results: Rows of `vae.work.COLUMNS`.
        language: `en` or `de`.

    Returns:
        The figure: small open dots are seeds, large ones means, bars 95 % t intervals (none with one seed); the dotted
        line is the mean without augmentation. Groups: views alone, generated pictures alone, both. Where methods or
        data sets have not equally many seeds, each is named with their number n.
    """
    rows = results[(results["section"] == "harness") & results["metric"].str.startswith("f1/")]
    names = harness_methods(rows, language)
    heads = harness_heads(rows, language)
    figure, axes = panels(len(heads), 3, 0.8 + 0.22 * len(names), sharey=True)
    for ax, ((data, metric), head) in zip(axes, heads.items(), strict=True):
        here = rows[(rows["data"] == data) & (rows["metric"] == metric)]
        for y, method in enumerate(names):
            values = 100 * here[here["method"] == method]["value"].to_numpy()
            if not len(values):
                continue
            group = 0 if method in VIEWS else 1 if method in ALONE else 2
            colour = COLOURS[(0, 3, 2)[group]]
            mean, low, high = mean_interval(values)
            _seed_dots(ax, values, y + 0.28)
            ax.plot([low, high], [y, y], color=colour, linewidth=1.4)
            ax.plot(mean, y, MARKERS[group], color=colour, markersize=4.5)
            if method == "none":
                ax.axvline(mean, color="0.5", linewidth=0.7, linestyle=":")
        ax.set_title(head)
        name_rows(ax, list(names.values()))
        localise(ax, language)
    figure.supxlabel(f"{study_word('f1', language)} in %", fontsize=8)
    return figure


@styled
def blur_figure(results: pd.DataFrame, language: str = "en") -> Figure:
    """How sharp pictures are against their originals: edge energy, 1 for the originals, on a logarithmic axis."""
    rows = results[results["section"] == "blur"]
    lines = list(dict.fromkeys(zip(rows["data"], rows["method"], rows["beta"], strict=True)))
    figure, (ax,) = panels(1, 1, 0.7 + 0.22 * len(lines))
    for y, (data, method, beta) in enumerate(lines):
        values = rows[(rows["data"] == data) & (rows["method"] == method) & (rows["beta"] == beta)]["value"].to_numpy()
        _seed_dots(ax, values, y + 0.25)
        index = list(dict.fromkeys(rows["data"])).index(data)
        ax.plot(values.mean(), y, MARKERS[index], color=COLOURS[index], markersize=4.5)
    ax.axvline(1, color="0.5", linewidth=0.7, linestyle=":")
    labels = [
        f"{study_word(data, language)}, {study_word(method, language)}"
        + (f", {in_beta(beta, language)}" if beta else "")
        for data, method, beta in lines
    ]
    name_rows(ax, labels)
    ax.set_xscale("log")
    least, most = 0.5 * rows["value"].min(), max(1.0, rows["value"].max())
    ticks = [tick for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0) if least <= tick <= most]
    ax.set_xticks(ticks, [number(tick, 2 if tick < 1 else 0, language) for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(study_word("sharpness", language))
    return figure


def method_sheet(rows: Mapping[str, Tensor], language: str = "en") -> Figure:
    """A row a method: its name, its pictures (n, 3, s, s) uint8, as many in each row."""
    pictures = list(rows.values())
    return contact_sheet(torch.cat(pictures), len(pictures[0]), [study_word(name, language) for name in rows])


def sweep_sheet(sweeps: Mapping[tuple[float, int, float], Tensor], language: str = "en") -> Figure:
    """A row a swept dimension: beta, the dimension and its nats, pictures (n, 3, s, s) uint8 from low to high."""
    pictures = list(sweeps.values())
    names = [f"{in_beta(beta, language)}, z{i}: {number(nats, 1, language)}\u00a0nat" for beta, i, nats in sweeps]
    return contact_sheet(torch.cat(pictures), len(pictures[0]), names)


def report_sections(
    folder: Path, parameters: VaeParameters, tables: Mapping[str, pd.DataFrame], missing: Sequence[str]
) -> list[Section]:
    """The report's parts: the findings, then the tables and figures that there are, part by part.

    Args:
        folder: The run's.
        parameters: The study's.
        tables: Tables of text by their names in `captions.TABLES`.
        missing: Sentences about what is left out.
    """
    language = parameters.language
    text = "\n\n".join([parameters.description, *missing])
    sections = [Section("Findings", text, [], captioned_tables(tables, ("findings", "gaps"), language))]
    for heading, names in PARTS:
        drawn = captioned_figures(folder, [f"figures/{name}" for name in names], language)
        told = captioned_tables(tables, names, language)
        if drawn or told:
            sections.append(Section(heading, "", drawn, told))
    return [*sections, Section("Parameters", settings=dump_parameters(parameters))]
