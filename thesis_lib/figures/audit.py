"""The reproduction audit: what each erratum of the published code does to the arms and to their differences."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from thesis_lib.figures.galleries import contact_sheet
from thesis_lib.figures.style import COLOURS, localise, name_rows, panels, styled
from thesis_lib.figures.words import metric_label, metric_scale, number, word, wrapped
from thesis_lib.sections import Kind

ERRATA = {
    0: ("correct", "korrekt"),
    1: ("labels shuffled", "Labels durchmischt"),
    2: ("hard-negative mask on anchor rows", "Hard-Negative-Maske auf Ankerzeilen"),
    3: ("other view of the picture deleted", "andere Ansicht des Bilds gelöscht"),
    4: ("anchors without positives count as 0", "Anker ohne Positive zählen als 0"),
    5: ("near-OOD of class 0 as positives", "Nah-OOD der Klasse 0 als Positive"),
    6: ("concepts not used", "Konzepte nicht benutzt"),
    7: ("only the first vector learned", "nur der erste Vektor gelernt"),
    8: ("unequal steps", "ungleiche Schritte"),
    9: ("evaluation as published", "Auswertung wie veröffentlicht"),
}
WORDS = {
    "erratum": ("erratum", "Erratum"),
    "minus": ("{} minus {}", "{} minus {}"),
    "points": ("percentage points", "Prozentpunkte"),
    "run": ("as made", "wie erzeugt"),
    "shift": ("change against the correct version", "Änderung gegen die korrekte Fassung"),
}
CONTRASTS = (("real_id", "real"), ("real_id_nearood", "real_id"))
"""The differences that the thesis compared."""
SPLITS = ("top1/test", "top1/field")
AUROC = "auroc/near/knn"


def _word(key: str, language: str) -> str:
    return WORDS[key][language == "de"]


def erratum_label(erratum: int, language: str = "en") -> str:
    """An erratum's number and words; the correct version has no number."""
    text = ERRATA[erratum][language == "de"]
    return f"{erratum} {text}" if erratum else text


def completed(table: pd.DataFrame) -> pd.DataFrame:
    """The table with an arm that an erratum does not concern filled in from the correct version.

    Args:
        table: Columns erratum, arm, seed, metric, value; erratum 0 is the correct version, with all arms and seeds.

    Returns:
        The same columns and `own`, false for what was filled in.
    """
    correct = table[table["erratum"] == 0]
    parts = [table.assign(own=True)]
    for erratum, rows in table.groupby("erratum"):
        missing = ~correct["arm"].isin(rows["arm"]) & correct["seed"].isin(rows["seed"])
        parts.append(correct[missing].assign(erratum=erratum, own=False))
    return pd.concat(parts, ignore_index=True)


def contrasts(table: pd.DataFrame) -> pd.DataFrame:
    """The differences that the thesis compared, seed by seed, and how far they are from the correct version's.

    Args:
        table: As for `completed`.

    Returns:
        Columns erratum, seed, first, second (arms), metric, value (first minus second), shift (value minus the correct
        version's; nan where that has none), own (false where the erratum concerns neither arm).
    """
    keys = ["erratum", "seed", "metric"]
    rows = completed(table)
    found = []
    for first, second in CONTRASTS:
        both = rows[rows["arm"] == first].merge(rows[rows["arm"] == second], on=keys, suffixes=("", "_second"))
        value, own = both["value"] - both["value_second"], both["own"] | both["own_second"]
        found.append(both[keys].assign(first=first, second=second, value=value, own=own))
    result = pd.concat(found, ignore_index=True)
    at = ["seed", "metric", "first"]
    correct = result[result["erratum"] == 0].set_index(at)["value"]
    result["shift"] = result["value"] - correct.reindex(pd.MultiIndex.from_frame(result[at])).to_numpy()
    return result


def turned_signs(table: pd.DataFrame) -> pd.DataFrame:
    """Which errata turn the sign of a difference of accuracies, in the mean over seeds.

    Args:
        table: As for `completed`.

    Returns:
        Columns difference, metric, correct (percentage points), turned (the errata's numbers, or none).
    """
    rows = []
    for (first, second, metric), found in contrasts(table).groupby(["first", "second", "metric"]):
        if metric in SPLITS:
            means = found.groupby("erratum")["value"].mean()
            turned = ", ".join(map(str, means.index[means * means[0] < 0])) or "none"
            rows.append((f"{first} minus {second}", metric, 100 * means[0], turned))
    return pd.DataFrame(rows, columns=["difference", "metric", "correct", "turned"])


def in_standard_errors(table: pd.DataFrame, pictures: int) -> pd.DataFrame:
    """What the correct version's differences on the test split look like to someone with one seed.

    Args:
        table: As for `completed`.
        pictures: Test pictures; a proportion's standard error takes them as independent.

    Returns:
        A row a seed; for each of `CONTRASTS` the difference in percentage points, and in standard errors (z).
    """
    correct = table[(table["erratum"] == 0) & (table["metric"] == "top1/test")]
    wide = correct.pivot(index="seed", columns="arm", values="value")
    error = (wide * (1 - wide) / pictures) ** 0.5
    columns = {}
    for first, second in CONTRASTS:
        apart = wide[first] - wide[second]
        columns[f"{first} minus {second}", "points"] = 100 * apart
        columns[f"{first} minus {second}", "z"] = apart / (error[first] ** 2 + error[second] ** 2) ** 0.5
    return pd.DataFrame(columns)


def readable_audit(table: pd.DataFrame, language: str = "en") -> pd.DataFrame:
    """The audit as text: a row an erratum, accuracies in percent and the third arm's AUROC.

    Args:
        table: As for `completed`.
        language: `en` or `de`.

    Returns:
        Cells are means over seeds with, for several seeds, the lowest and the highest; `=` where the erratum does not
        concern the arm, an en dash where a measure is lacking.
    """
    rows, columns = completed(table), [(arm, split) for split in SPLITS for arm in ("real", *dict(CONTRASTS))]
    columns.append((CONTRASTS[-1][0], AUROC))
    lines = []
    for erratum in sorted(rows["erratum"].unique()):
        line = {_word("erratum", language): erratum_label(erratum, language)}
        for arm, metric in columns:
            here = rows[(rows["erratum"] == erratum) & (rows["arm"] == arm) & (rows["metric"] == metric)]
            measure = metric_label(AUROC, language) if metric == AUROC else f"{word(metric[5:], language)} in %"
            line[f"{word(arm, language)}: {measure}"] = _cell(here, metric, language)
        lines.append(line)
    return pd.DataFrame(lines)


def readable_contrasts(table: pd.DataFrame, language: str = "en") -> pd.DataFrame:
    """The differences that the thesis compared as text, a row an erratum, in percentage points; as `readable_audit`."""
    rows, lines = contrasts(table), []
    for erratum in sorted(rows["erratum"].unique()):
        line = {_word("erratum", language): erratum_label(erratum, language)}
        for first, second in CONTRASTS:
            for metric in SPLITS:
                here = rows[(rows["erratum"] == erratum) & (rows["first"] == first) & (rows["metric"] == metric)]
                name = f"{_minus(first, second, language)}: {word(metric.rpartition('/')[2], language)}"
                line[name] = _cell(here, metric, language)
        lines.append(line)
    return pd.DataFrame(lines)


def _minus(first: str, second: str, language: str) -> str:
    return _word("minus", language).format(word(first, language), word(second, language))


def _cell(rows: pd.DataFrame, metric: str, language: str) -> str:
    values, digits = rows["value"] * metric_scale(metric), 1 if metric_scale(metric) == 100 else 3
    if len(rows) and not rows["own"].any():
        return "="
    mean, low, high = (number(at, digits, language) for at in (values.mean(), values.min(), values.max()))
    return f"{mean} [{low}{'; ' if language == 'de' else ', '}{high}]" if len(rows) > 1 else mean


def audit_pictures(
    manifest: pd.DataFrame, sets: Mapping[int, Tensor], classes: Sequence[str], language: str = "en"
) -> Figure:
    """The first ID and the first near-OOD picture of each class, as made and as with errata 6 and 7.

    Args:
        manifest: The run's; the remade pictures are in its order.
        sets: Erratum (0 for the run) -> uint8 pictures (n, 3, s, s).
        classes: Their names by label.
        language: `en` or `de`.

    Returns:
        The figure, a row a class.
    """
    firsts = manifest.groupby(["kind", "label"]).head(1)
    columns, names = [], []
    for kind in (str(Kind.ID), str(Kind.NEAR_OOD)):
        rows = firsts.loc[firsts["kind"] == kind].sort_values("label").index.tolist()
        columns += [pictures[rows] for pictures in sets.values()]
        made = [f"{_word('erratum', language)} {erratum}" if erratum else _word("run", language) for erratum in sets]
        names += [f"{word(kind, language)}, {each}" for each in made]
    pictures = torch.stack(columns, dim=1).flatten(0, 1)
    return contact_sheet(pictures, len(columns), classes, names, rule_after=len(sets), language=language)


@styled
def audit_shifts(table: pd.DataFrame, language: str = "en") -> Figure:
    """How far each erratum moves the differences of the arms, and the third arm's AUROC, from the correct version's.

    Args:
        table: As for `completed`.
        language: `en` or `de`.

    Returns:
        The figure: a line an erratum, the correct version at zero; small marks are seeds, large ones means; filled
        circles test, open squares field. A line without a mark is not concerned.
    """
    differences = contrasts(table)
    detection = completed(table).query("metric == @AUROC and arm == @CONTRASTS[-1][0]")
    correct = detection[detection["erratum"] == 0].set_index("seed")["value"]
    detection = detection.assign(shift=detection["value"] - detection["seed"].map(correct))
    errata = [erratum for erratum in sorted(table["erratum"].unique()) if erratum]
    figure, axes = panels(3, 3, 0.95 + 0.33 * len(errata), sharey=True)
    for number_, ax in enumerate(axes):
        if number_ < 2:
            first, second = CONTRASTS[number_]
            shown = [(split, differences[differences["first"] == first], 100) for split in SPLITS]
            title, unit = _minus(first, second, language), _word("points", language)
        else:
            shown = [(AUROC, detection, 1)]
            title, unit = f"{word(CONTRASTS[-1][0], language)}: {metric_label(AUROC, language)}", "AUROC"
        for metric, rows, scale in shown:
            field = metric.endswith("field")
            look: Any = {
                "marker": "s" if field else "o",
                "color": COLOURS[3] if field else COLOURS[0],
                "linestyle": "none",
            }
            for line, erratum in enumerate(errata):
                chosen = rows[(rows["erratum"] == erratum) & (rows["metric"] == metric) & rows["own"]]
                values = chosen["shift"].dropna().to_numpy() * scale
                y = line + (0.17 if field else -0.17 if len(shown) > 1 else 0)
                if len(values) > 1:
                    ax.plot(values, [y] * len(values), markersize=2.2, alpha=0.6, **look, fillstyle="none")
                if len(values):
                    ax.plot(values.mean(), y, markersize=5, **look, fillstyle="none" if field else "full",
                            label=word(metric.rpartition("/")[2], language))  # fmt: skip
        ax.axvline(0, color="0.5", linewidth=0.8)
        name_rows(ax, [wrapped(erratum_label(e, language), 1.5, 7) for e in errata])
        ax.set_title(wrapped(title, 1.5, 8))
        ax.set_xlabel(unit)
        ax.margins(x=0.12)
        ax.locator_params(axis="x", nbins=4)
        localise(ax, language)
    handles = {label: handle for handle, label in zip(*axes[0].get_legend_handles_labels(), strict=True)}
    if len(handles) > 1:
        figure.legend(handles.values(), handles, loc="outside upper center", ncols=2)
    figure.supxlabel(_word("shift", language), fontsize=8)
    return figure
