"""Tables of the comparison: as data, as text for the report, as LaTeX for the thesis."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from thesis_lib.evaluation.statistics import mean_interval, paired_difference
from thesis_lib.figures.words import metric_label, metric_scale, number, word
from thesis_lib.storage import write_text


def tidy_metrics(results: Mapping[str, Mapping[Any, Mapping[str, Any]]]) -> pd.DataFrame:
    """All numbers of all arms and seeds, one a row.

    Args:
        results: Arm -> seed -> what `evaluate_arm` returns.

    Returns:
        Columns arm, seed, metric (a path such as ``auroc/near/knn``), value; arms and seeds in the order given.
        Lists, and values of single parts, stay out.
    """
    rows = [
        (arm, seed, metric, value)
        for arm, seeds in results.items()
        for seed, result in seeds.items()
        for metric, value in _numbers(result)
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "metric", "value"])


def _numbers(content: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and key != "parts":
            yield from _numbers(value, f"{path}{key}/")
        elif isinstance(value, int | float):
            yield f"{path}{key}", float(value)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and 95 % t interval over seeds: columns arm, metric, mean, low, high (both nan with one seed), seeds."""
    rows = [
        (arm, metric, *mean_interval(values.to_numpy()), len(values))
        for (arm, metric), values in table.groupby(["arm", "metric"], sort=False)["value"]
    ]
    return pd.DataFrame(rows, columns=["arm", "metric", "mean", "low", "high", "seeds"])


def differences(table: pd.DataFrame, baseline: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Every arm minus the baseline, paired by seed: columns arm, metric, mean, low, high, p, pairs.

    Arms without a seed in common with the baseline are left out.
    """
    rows = []
    for metric in metrics:
        wide = table[table["metric"] == metric].pivot(index="seed", columns="arm", values="value")
        for arm in dict.fromkeys(table["arm"]):
            if arm != baseline and {arm, baseline} <= set(wide):
                pairs = wide[[arm, baseline]].dropna()
                if len(pairs):
                    rows.append((arm, metric, *paired_difference(pairs[arm].to_numpy(), pairs[baseline].to_numpy())))
    return pd.DataFrame(rows, columns=["arm", "metric", "mean", "low", "high", "p", "pairs"])


def readable(table: pd.DataFrame, metrics: Sequence[str], language: str = "en") -> pd.DataFrame:
    """The comparison as text: a row an arm, a column a metric, cells such as ``71.4 [68.2, 74.6]``.

    Args:
        table: As `tidy_metrics` makes it.
        metrics: The columns; one that an arm lacks shows an en dash.
        language: `en` or `de`.

    Returns:
        The table; its first column names the arms. One seed: the value alone.
    """
    cells = summary(table).set_index(["arm", "metric"])
    rows = []
    for arm in dict.fromkeys(table["arm"]):
        row = {word("arm", language): word(arm, language)}
        for metric in metrics:
            there = (arm, metric) in cells.index
            row[metric_label(metric, language)] = (
                _cell(cells.loc[(arm, metric)], metric, language) if there else number(float("nan"))
            )
        rows.append(row)
    return pd.DataFrame(rows)


def readable_differences(table: pd.DataFrame, language: str = "en") -> pd.DataFrame:
    """What `differences` returns as text: a row a comparison; shares in percentage points."""
    rows = [
        {
            word("arm", language): word(row["arm"], language),
            word("measure", language): metric_label(row["metric"], language),
            word("difference", language): _cell(row, row["metric"], language),
            word("p", language): number(row["p"], 4, language),
            word("seeds", language): row["pairs"],
        }
        for _, row in table.iterrows()
    ]
    return pd.DataFrame(rows)


def _cell(values: pd.Series, metric: str, language: str) -> str:
    scale = metric_scale(metric)
    digits = 1 if scale == 100 else 3
    mean, low, high = (number(scale * values[key], digits, language) for key in ("mean", "low", "high"))
    between = "; " if language == "de" else ", "
    return mean if math.isnan(values["low"]) else f"{mean} [{low}{between}{high}]"


def latex(table: pd.DataFrame, caption: str, label: str) -> str:
    r"""A table of text as LaTeX with booktabs; the first column is set left, the others right.

    Args:
        table: Such as `readable` makes it.
        caption: Plain text.
        label: For ``\ref``.
    """
    rows = [" & ".join(map(_escaped, row)) + r" \\" for row in [list(table.columns), *table.to_numpy().tolist()]]
    lines = [
        r"\begin{table}", r"\centering", rf"\caption{{{_escaped(caption)}}}", rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}", r"\toprule", rows[0], r"\midrule", *rows[1:],
        r"\bottomrule", r"\end{tabular}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _escaped(text: Any) -> str:
    escapes = {"\\": r"\textbackslash{}", "\u2212": "$-$", "\u2013": "--", "~": r"\textasciitilde{}", "^": r"\^{}"}
    return "".join(escapes.get(sign, f"\\{sign}" if sign in "&%$#_{}" else sign) for sign in str(text))


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, atomically."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))
