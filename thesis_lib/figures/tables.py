"""Tables of the comparison: as data, as text for the report, as LaTeX for the thesis."""

import math
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from thesis_lib.errors import ThesisError
from thesis_lib.evaluation.hypotheses import Results
from thesis_lib.evaluation.statistics import difference_to, mean_interval
from thesis_lib.figures.captions import caption
from thesis_lib.figures.style import in_language
from thesis_lib.figures.words import LANGUAGES, interval, metric_title, number, p_value, plus_minus, signed, word
from thesis_lib.storage import write_text

MAIN = (
    "top1/test", "top1/field", "auroc/near/knn", "auroc_field/near/knn", "auroc/far/knn",
    "ood/test/near/knn/fpr95_id_positive", "ood/field/near/knn/fpr95_id_positive", "ood/test/far/knn/fpr95_id_positive",
)  # fmt: skip
"""The metrics of the comparison: accuracy; AUROC and FPR at 95 % TPR of kNN, ID positive, averaged over OOD parts."""
HIGHER_IS_BETTER = MAIN[:5]
"""Those of which differences are shown."""
EXPLORATORY = "exploratory"
"""The heading between the confirmatory arms and the others."""
OWN_REFERENCES = {
    **{"real_id": "real", "oracle_id": "real", "oracle_nearood": "oracle_id"},
    **{"nearood_head": "real_id_head", "oracle_id_head": "oracle_id", "oracle_nearood_head": "oracle_id_head"},
}
LONG_CELL = 30  # characters; columns with longer ones are broken into lines


def tidy_metrics(results: Results) -> pd.DataFrame:
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


def main_metrics(table: pd.DataFrame) -> list[str]:
    """The metrics of `MAIN` that there are.

    Raises:
        ThesisError: None of them is there.
    """
    there = [metric for metric in MAIN if metric in set(table["metric"])]
    if not there:
        raise ThesisError(
            "no arm has a test or field accuracy: the data set has neither split, so nothing can be compared"
        )
    return there


def grouped(arms: Collection[str], confirmatory: Collection[str]) -> list[str]:
    """Confirmatory arms in their order, then, where there are others, `EXPLORATORY` and the others in theirs."""
    others = [arm for arm in arms if arm not in confirmatory]
    return [arm for arm in arms if arm in confirmatory] + ([EXPLORATORY, *others] if others else [])


def references(synthetic: Mapping[str, bool]) -> dict[str, str]:
    """What each arm is compared with: what it adds to or changes.

    Args:
        synthetic: Arm -> whether it trains on synthetic pictures, for all arms of the experiment.

    Returns:
        Arm -> reference: `real_id` for arms with synthetic pictures, `real` for the others and where the experiment
        has no `real_id`; some have their own, such as `real` for `oracle_id`, see `OWN_REFERENCES`. `real`, and arms
        whose reference is not in the experiment, are left out.
    """
    found = {}
    for arm, has in synthetic.items():
        reference = OWN_REFERENCES.get(arm, "real_id" if has and "real_id" in synthetic else "real")
        if reference in synthetic and reference != arm:
            found[arm] = reference
    return found


def differences(table: pd.DataFrame, references: Mapping[str, str], metrics: Sequence[str]) -> pd.DataFrame:
    """Arms minus their references on the seeds that both have.

    Args:
        table: As `tidy_metrics` makes it.
        references: Arm -> reference.
        metrics: The metrics to compare; those that an arm or its reference lacks are left out.

    Returns:
        Columns arm, reference, metric, mean, low, high, p, pairs, see `paired_difference`; arms in the table's order.
    """
    rows = []
    for metric in metrics:
        wide = table[table["metric"] == metric].pivot(index="seed", columns="arm", values="value")
        for arm in dict.fromkeys(table["arm"]):
            reference = references.get(arm, "")
            test = difference_to(wide, arm, reference)
            if test is not None:
                rows.append((arm, reference, metric, *test))
    return pd.DataFrame(rows, columns=["arm", "reference", "metric", "mean", "low", "high", "p", "pairs"])


def comparison_text(table: pd.DataFrame, confirmatory: Collection[str], language: str = "en") -> pd.DataFrame:
    """The main table as text: a row an arm, cells such as ``71.4 ± 3.2``, mean and half the 95 % t interval in percent.

    Args:
        table: As `tidy_metrics` makes it.
        confirmatory: The arms that run with all seeds; the others follow below a line that says so.
        language: `en` or `de`.

    Returns:
        Columns: arm, seeds, the metrics of `MAIN` that there are; what an arm lacks shows an en dash.
    """
    metrics = main_metrics(table)
    found = summary(table[table["metric"].isin(metrics)])
    about = {arm: [str(seeds)] for arm, seeds in found.groupby("arm", sort=False)["seeds"].max().items()}
    heads = [word("arm", language), word("seeds", language), *(metric_title(metric, language) for metric in metrics)]
    return _text_table(found, number, about, metrics, heads, confirmatory, language)


def differences_text(paired: pd.DataFrame, confirmatory: Collection[str], language: str = "en") -> pd.DataFrame:
    """What `differences` returns as text: a row an arm, cells such as ``+2.3 ± 1.9`` in points.

    There are no p values: only the four named hypotheses are tested.

    Args:
        paired: As `differences` makes it.
        confirmatory: The arms that run with all seeds.
        language: `en` or `de`.

    Returns:
        Columns: arm, against (its reference), seeds both have, the metrics.
    """
    metrics = list(dict.fromkeys(paired["metric"]))
    about = {row["arm"]: [word(row["reference"], language), str(row["pairs"])] for row in paired.to_dict("records")}
    heads = [word(key, language) for key in ("arm", "reference", "seeds", *metrics)]
    return _text_table(paired, signed, about, metrics, heads, confirmatory, language)


def _text_table(
    values: pd.DataFrame,
    write: Callable[[float, int, str], str],
    about: Mapping[Any, list[str]],
    metrics: Sequence[str],
    heads: Sequence[str],
    confirmatory: Collection[str],
    language: str,
) -> pd.DataFrame:
    """A row an arm: its name, what is to say `about` it, and for each metric the mean and half its interval."""
    cells = {
        (row["arm"], row["metric"]): plus_minus(
            write(100 * row["mean"], 1, language), row["low"], row["high"], language
        )
        for row in values.to_dict("records")
    }
    absent, rows = number(float("nan")), []
    for arm in grouped(about, confirmatory):
        texts = [*about[arm], *(cells.get((arm, metric), absent) for metric in metrics)] if arm in about else []
        rows.append([word(arm, language), *texts, *[""] * (len(heads) - 1 - len(texts))])
    return pd.DataFrame(rows, columns=list(heads))


def hypotheses_text(hypotheses: pd.DataFrame, language: str = "en") -> pd.DataFrame:
    """The four hypotheses as text, differences and intervals in points.

    Args:
        hypotheses: As `hypothesis_table` makes it.
        language: `en` or `de`.
    """
    heads = ("hypothesis", "points", "over_seeds", "with_clusters", "p", "holm", "verdict")
    rows = [
        (
            word(row["name"], language),
            signed(100 * row["mean"], 1, language),
            interval(row["low"], row["high"], language)
            if math.isnan(row["bound"])
            else f"> {signed(100 * row['bound'], 1, language)}",
            interval(row["cluster_low"], row["cluster_high"], language),
            p_value(row["p"], language),
            p_value(row["holm"], language),
            word(row["verdict"], language),
        )
        for row in hypotheses.to_dict("records")
    ]
    return pd.DataFrame(rows, columns=[word(head, language) for head in heads])


def latex(table: pd.DataFrame, caption: str, label: str) -> str:
    r"""A table of text as LaTeX with booktabs and tabularx; the first column and long text are set left, others right.

    Args:
        table: Such as `comparison_text` makes it; a row with nothing but its first cell becomes a heading.
        caption: Plain text.
        label: For ``\ref``.
    """
    long = [table[column].astype(str).str.len().max() > LONG_CELL for column in table]
    columns = "".join(r">{\raggedright\arraybackslash}X" if is_long else "r" for is_long in long)
    columns = columns if long[0] else "l" + columns[1:]
    begin, end = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{\begin{tabular}", r"\end{tabular}}"
    if any(long):  # the table has the page's width, of which long text takes what is left
        begin, end = r"\begin{tabularx}{\linewidth}", r"\end{tabularx}"
    lines = [
        r"\begin{table}", r"\centering", r"\scriptsize" if len(long) > 8 else r"\footnotesize",
        rf"\setlength{{\tabcolsep}}{{{2 if len(long) > 8 else 3}pt}}",
        rf"\caption{{{escaped(caption)}}}", rf"\label{{{label}}}",
        rf"{begin}{{@{{}}{columns}@{{}}}}", r"\toprule",
        " & ".join(map(_head, table.columns, long)) + r" \\", r"\midrule",
        *(_row(row) for row in table.to_numpy().tolist()),
        r"\bottomrule", end, r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _row(cells: list[Any]) -> str:
    if any(cell != "" for cell in cells[1:]):
        return " & ".join(map(escaped, cells)) + r" \\"
    return rf"\midrule \multicolumn{{{len(cells)}}}{{l}}{{\emph{{{escaped(cells[0])}}}}} \\"


def _head(text: str, is_long: bool) -> str:
    lines = [escaped(line) for line in textwrap.wrap(text, LONG_CELL if is_long else 9, break_long_words=False)]
    return lines[0] if len(lines) == 1 else r"\shortstack[r]{" + r"\\".join(lines) + "}"


def escaped(text: Any) -> str:
    """Plain text for LaTeX."""
    escapes = {
        "\\": r"\textbackslash{}", "\u2212": "$-$", "\u2013": "--", "~": r"\textasciitilde{}", "^": r"\^{}",
        "\u00b1": r"$\pm$", "\u03b2": r"$\beta$", "<": "$<$", ">": "$>$",
    }  # fmt: skip
    return "".join(escapes.get(sign, f"\\{sign}" if sign in "&%$#_{}" else sign) for sign in str(text))


def keep_table(stem: Path, language: str, make: Callable[..., pd.DataFrame], *content: Any) -> pd.DataFrame:
    """Write a table of text in every language as CSV and LaTeX; see `style.keep_figure`, which does so with figures.

    Args:
        stem: The path without the ending; its last two parts are its place in `captions.TABLES` and its label.
        language: The experiment's, `en` or `de`.
        make: Makes the table; it takes a keyword `language`.
        *content: What it makes it of.

    Returns:
        The table in the experiment's language.
    """
    place = f"{stem.parent.name}/{stem.name}"
    tables = {each: make(*content, language=each) for each in LANGUAGES}
    for each, table in tables.items():
        path = in_language(stem, each, language)
        write_table(path.with_name(f"{path.name}.csv"), table)
        text = latex(table, caption(place, each), f"tab:{place.replace('/', '-')}")
        write_text(path.with_name(f"{path.name}.tex"), text)
    return tables[language]


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, atomically."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))
