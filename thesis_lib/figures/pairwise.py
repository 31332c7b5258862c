"""Figures and tables of the study of pairs and triplets."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from thesis_lib.datasets.labelled import LabelledPictures
from thesis_lib.evaluation.statistics import further_run, missed_by_chance
from thesis_lib.figures.galleries import contact_sheet, with_heat
from thesis_lib.figures.report import Section, captioned_figures, captioned_tables
from thesis_lib.figures.style import COLOURS, localise, panels, series_style, styled
from thesis_lib.figures.words import number, percent, plus_minus, points, word
from thesis_lib.pairwise.pairs import Bank, draw_triplets
from thesis_lib.pairwise.parameters import Method, PairwiseTripletParameters
from thesis_lib.pairwise.study import Item, against, summarised
from thesis_lib.parameter_files import dump_parameters

MEASURES = ("top1", "top3", "knn")


def triplet_sheet(pictures: LabelledPictures, methods: dict[str, Method], seed: int, language: str = "en") -> Figure:
    """Triplets of each method for the same three anchors: anchor, positive, negative, side by side.

    Args:
        pictures: A data set.
        methods: Scenario -> method.
        seed: The seed whose first triplets are shown.
        language: `en` or `de`.
    """
    shown, labels = [], pictures.train_labels
    for method in methods.values():
        triplets = draw_triplets(labels, 1, method, seed)[:3]
        bank = Bank.build(pictures.train, triplets, method)
        bank.draw(triplets, method, seed, epoch=0)
        shown.append(bank.pictures[bank.rows.flatten()])
    roles = [word(role, language) for role in ("anchor", "positive", "negative")]
    sheet = torch.cat(shown).expand(-1, 3, -1, -1)
    names = [word(name, language) for name in methods]
    return contact_sheet(sheet, len(shown[0]), names, roles * (len(shown[0]) // 3))


def activation_sheet(
    pictures: LabelledPictures,
    rows: Sequence[int],
    looks: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    language: str = "en",
) -> Figure:
    """A row a test picture: the picture, then what each scenario's network attends to.

    Args:
        pictures: A data set.
        rows: The n test pictures.
        looks: Scenario -> maps (n, s, s), each drawn relative to its maximum, and probabilities (n,) of the true class,
            as `activation.activations_of` gives them.
        language: `en` or `de`.

    Returns:
        The figure; below each map the probability.
    """
    shown = pictures.test[rows].expand(-1, 3, -1, -1).numpy()
    sheet = np.stack([shown, *(with_heat(shown, maps) for maps, _ in looks.values())], axis=1)
    heads = [word("picture", language), *(word(name, language) for name in looks)]
    captions = []
    for row in torch.stack([found for _, found in looks.values()], dim=1).tolist():
        captions += ["", *(percent(share, language) for share in row)]
    names = [pictures.classes[label] for label in pictures.test_labels[rows].tolist()]
    return contact_sheet(sheet.reshape(-1, *shown.shape[1:]), len(heads), names, heads, captions, 1)


@styled
def loss_curves(items: Sequence[Item], names: Sequence[str], seed: int, language: str = "en") -> Figure:
    """Training loss over steps, a panel a set and loss, since values of two losses are not comparable.

    Args:
        items: Finished scenarios.
        names: The scenarios to draw.
        seed: One of the study's.
        language: `en` or `de`.

    Returns:
        The figure: running means over a twentieth of the steps.
    """
    chosen = [item for item in items if item.scenario.name in set(names) and item.scenario.seed == seed]
    groups = list(dict.fromkeys((item.scenario.data, item.scenario.method.loss) for item in chosen))
    figure, axes = panels(len(groups), 2, 1.9, sharex=True)
    for ax, group in zip(axes, groups, strict=True):
        mine = [item for item in chosen if (item.scenario.data, item.scenario.method.loss) == group]
        for index, item in enumerate(mine):
            losses = pd.Series(item.losses.numpy(), index=range(1, len(item.losses) + 1))
            smooth = losses.rolling(max(1, len(losses) // 20), min_periods=1).mean()
            style = series_style(index) | {"marker": ""}
            ax.plot(smooth, label=word(item.scenario.name, language), linewidth=1, **style)
        ax.set_ylim(bottom=0)
        ax.set_title(word(group[0], language))
        ax.legend()
        localise(ax, language)
    figure.supxlabel(word("step", language), fontsize=8)
    figure.supylabel(word("loss", language), fontsize=8)
    return figure


@styled
def scenario_comparison(summary: pd.DataFrame, scenarios: Sequence[str], language: str = "en") -> Figure:
    """Accuracy of each scenario, a panel a set: crosses are published, dots and bars means and 95 % t intervals.

    Args:
        summary: As `study.summarised` makes it.
        scenarios: The scenarios to draw, in order; those a set has.
        language: `en` or `de`.

    Returns:
        The figure; open squares are the same networks with frozen statistics and standardised features.
    """
    chosen = summary[summary["scenario"].isin(list(scenarios)) & (summary["metric"] == "top1")]
    sets = list(dict.fromkeys(chosen["set"]))
    figure, axes = panels(len(sets), min(2, len(sets)), 0.8 + 0.24 * len(scenarios), sharey=True)
    for ax, data in zip(axes, sets, strict=True):
        for row in chosen[chosen["set"] == data].to_dict("records"):
            published = row["way"] == "published"
            y = list(scenarios).index(row["scenario"]) + (-0.13 if published else 0.17)
            colour, marker, face = (COLOURS[0], "o", COLOURS[0]) if published else (COLOURS[3], "s", "white")
            ax.plot([100 * row["low"], 100 * row["high"]], [y, y], color=colour, linewidth=1.3)
            ax.plot(100 * row["mean"], y, marker=marker, markersize=4, color=colour, markerfacecolor=face)
            if published:
                ax.plot(100 * row["published"], y, marker="x", markersize=5, color="black", markeredgewidth=1.2)
        ax.set_yticks(range(len(scenarios)), [word(name, language) for name in scenarios])
        ax.set_ylim(len(scenarios) - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", color="0.88", linewidth=0.5)
        left, right = ax.get_xlim()
        ax.set_xlim(max(left, -1), min(right, 101))  # of few seeds an interval may leave what an accuracy can be
        ax.set(title=word(data, language), xlabel=word("accuracy_in_percent", language))
        localise(ax, language)
    crosses = [Line2D([], [], color="black", marker="x", linestyle="", label=word("published", language))]
    handles = [
        *(crosses if chosen["published"].notna().any() else []),
        Line2D([], [], color=COLOURS[0], marker="o", label=word("ours", language)),
        Line2D(
            [],
            [],
            color=COLOURS[3],
            marker="s",
            markerfacecolor="white",
            label=f"{word('ours', language)}, {word('frozen', language)}",
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def scenario_table(summary: pd.DataFrame, scenarios: Sequence[str], language: str = "en") -> pd.DataFrame:
    """The source's table with ours beside it, in percent: mean and half the 95 % t interval.

    Args:
        summary: As `study.summarised` makes it.
        scenarios: The rows of each set, in order.
        language: `en` or `de`.

    Returns:
        Columns: data, scenario; accuracy, top-3 and kNN as published and here; accuracy frozen.
    """
    rows = []
    for data in dict.fromkeys(summary["set"]):
        for name in scenarios:
            cells = _cells(summary, data, name, language)
            if cells:
                theirs = [cells[f"published/{metric}/theirs"] for metric in MEASURES]
                ours = [cells[f"published/{metric}"] for metric in MEASURES]
                pairs = [cell for both in zip(theirs, ours, strict=True) for cell in both]
                rows.append([word(data, language), word(name, language), *pairs, cells["frozen/top1"]])
    heads = [
        f"{word(metric, language)}, {word(whose, language)}" for metric in MEASURES for whose in ("published", "ours")
    ]
    last = f"{word('top1', language)}, {word('frozen', language)}"
    return pd.DataFrame(rows, columns=[word("set", language), word("scenario", language), *heads, last])


def shortcut_table(found: pd.DataFrame, language: str = "en") -> pd.DataFrame:
    """Mean cosine similarity of anchors to their partners: the mean of the seeds, the lowest and the highest.

    Args:
        found: As `shortcut.shortcuts` makes it.
        language: `en` or `de`.
    """
    measures, rows = ["positives", "negatives", "alone"], []
    for (data, name), mine in found.groupby(["set", "scenario"], sort=False)[measures]:
        numbers = [
            [number(value, 2, language) for value in values]
            for values in mine.agg(["mean", "min", "max"]).T.itertuples(index=False)
        ]
        cells = [mean if len(mine) == 1 else f"{mean} ({low}–{high})" for mean, low, high in numbers]  # noqa: RUF001
        rows.append([word(str(data), language), word(str(name), language), *cells])
    return pd.DataFrame(rows, columns=[word(head, language) for head in ("set", "scenario", *measures)])


REFERENCES = ("triplet_simclr", "triplet_rate")
"""The source's best scenario, which most methods beyond it change in one respect, and the same at a rate that is tuned,
as those of other losses are."""
ROUNDING = 0.005
"""Half a percent, to which the published numbers are rounded."""


def beyond_table(measured: pd.DataFrame, parameters: PairwiseTripletParameters, language: str = "en") -> pd.DataFrame:
    """What would have been the better choice in 2021: all methods on the sets that go beyond, the best first.

    Args:
        measured: As `study.measurements` makes it.
        parameters: The study's, which name the methods.
        language: `en` or `de`.

    Returns:
        Columns: data, scenario, whether it uses labels, steps, pictures a step, learning rate; accuracy frozen, its
        differences to `REFERENCES` seed by seed with their 95 % t intervals, kNN frozen and accuracy the
        published way, in percent and points.
    """
    methods, rows = parameters.source_methods() | parameters.beyond, []
    summary = summarised(measured)
    differences = {name: found for name in REFERENCES if (found := against(measured, name))}
    frozen = summary[(summary["way"] == "frozen") & (summary["metric"] == "top1")]
    further = set(frozen.loc[~frozen["scenario"].isin(parameters.on_all_sets()), "set"])
    for data, mine in frozen[frozen["set"].isin(further)].groupby("set", sort=False):
        for name in mine.sort_values("mean", ascending=False, kind="stable")["scenario"]:
            method, cells = methods[name], _cells(summary, str(data), name, language)
            budget = [parameters.steps(method, str(data)), method.passes * parameters.batch if method.epochs else 0]
            labelled = word("yes" if uses_labels(method) else "no", language)
            about = [word(str(data), language), word(name, language), labelled, *map(str, budget)]
            rate = number(method.learning_rate if method.epochs else float("nan"), 2, language)
            more = [found.get((str(data), name)) for found in differences.values()]
            gains = ["" if gain is None else points(gain.mean, gain.low, gain.high, language) for gain in more]
            rows.append([*about, rate, cells["frozen/top1"], *gains, cells["frozen/knn"], cells["published/top1"]])
    keys = ("set", "scenario", "labels_used", "steps", "pictures_a_step", "learning_rate")
    accuracy, fixed = word("top1", language), word("frozen", language)
    heads = [
        f"{accuracy}, {fixed}",
        *(f"{word('more_than', language)} {word(name, language)}" for name in differences),
        f"{word('knn', language)}, {fixed}",
        f"{accuracy}, {word('published_way', language)}",
    ]
    return pd.DataFrame(rows, columns=[*(word(key, language) for key in keys), *heads])


def uses_labels(method: Method) -> bool:
    """Whether a method's training uses labels, be it only to know what is a negative."""
    # losses and mining that need labels have, and do not read, the default: negatives of other classes
    return method.epochs > 0 and (method.negative == "other_class" or method.positive == "same_class")


def _cells(summary: pd.DataFrame, data: str, scenario: str, language: str) -> dict[str, str]:
    """``<way>/<metric>`` -> mean and half interval in percent, ``<way>/<metric>/theirs`` -> the published value."""
    cells = {}
    for row in summary[(summary["set"] == data) & (summary["scenario"] == scenario)].to_dict("records"):
        key = f"{row['way']}/{row['metric']}"
        cells[key] = plus_minus(number(100 * row["mean"], 1, language), row["low"], row["high"], language)
        cells[f"{key}/theirs"] = number(100 * row["published"], 0, language)
    return cells


def gaps(summary: pd.DataFrame) -> list[str]:
    """A sentence that counts published numbers outside the intervals, and one for each that another run can't explain.

    A published number is one run. The mean's interval, which does not have one run's spread in it, misses it often;
    the 95 % prediction interval, t s sqrt(1 + 1/n), holds one further run of the same procedure. Both ends are half a
    percent wider here, because the published numbers are rounded.

    Args:
        summary: As `study.summarised` makes it.
    """
    rows = summary[(summary["way"] == "published") & summary["published"].notna()]
    if rows.empty or rows["low"].isna().all():
        return ["There is nothing published for these scenarios, or one seed, which gives no interval."]
    away, half = (rows["published"] - rows["mean"]).abs() - ROUNDING, (rows["high"] - rows["low"]) / 2
    further = further_run(half, rows["seeds"])
    outside, missed = rows[away > further], missed_by_chance(half, rows["seeds"], ROUNDING)
    sentences = [
        f"Of {len(rows)} published numbers {int((away > half).sum())} lie outside the mean's 95 % interval with half a "
        f"percent for their rounding, where of as many runs of ours, rounded, some {number(missed.sum(), 0)} would, "
        f"and {len(outside)} outside that of one further run."
    ]
    for row, reach in zip(outside.to_dict("records"), further[outside.index], strict=True):
        low, high = (number(100 * (row["mean"] + sign * reach)) for sign in (-1, 1))
        sentences.append(
            f"{word(row['set'])}, {word(row['scenario'])}, {word(row['metric'])}: published "
            f"{number(100 * row['published'], 0)}, here {number(100 * row['mean'])} and a further run [{low}, {high}]."
        )
    return sentences


def report_sections(
    folder: Path,
    parameters: PairwiseTripletParameters,
    best: Mapping[str, str],
    scenarios: pd.DataFrame,
    beyond: pd.DataFrame,
    outside: Sequence[str],
    shortcuts: pd.DataFrame,
) -> list[Section]:
    """The report's parts: the table of scenarios, the methods beyond, maps, confusion and activation.

    Args:
        folder: The run's.
        parameters: The study's.
        best: Set -> its best scenario.
        scenarios: As `scenario_table` makes it.
        beyond: As `beyond_table` makes it; left out where it is empty.
        outside: As `gaps` makes it.
        shortcuts: As `shortcut_table` makes it.
    """
    sets, language = parameters.data.sets, parameters.language

    def figures(*names: str) -> list[tuple[Path, str, str]]:
        return captioned_figures(folder, [f"figures/{name}" for name in names], language)

    tables = {"scenarios": scenarios, "beyond": beyond, "shortcuts": shortcuts}
    maps = [*(f"tsne_{name}" for name in sets), *(f"perplexities_{name}" for name in best)]
    maps += [*(f"clouds_{name}" for name in best), *(f"pca_{name}" for name in sets)]
    sections = [
        Section(
            "Scenarios",
            " ".join(outside),
            figures("scenarios", "losses"),
            captioned_tables(tables, ["scenarios", "shortcuts"], language),
        ),
        Section("Triplets", "", figures(*(f"triplets_{name}" for name in sets))),
        Section("Maps", "", figures(*maps)),
        Section("Confusion", "", figures(*(f"confusion_{name}" for name in best))),
        Section("Activation", "", figures(*(f"activation_{name}" for name in sets))),
    ]
    if len(beyond):
        sections.insert(1, Section("Beyond", "", [], captioned_tables(tables, ["beyond"], language)))
    return [*sections, Section("Parameters", settings=dump_parameters(parameters))]
