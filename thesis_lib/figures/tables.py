"""Tables of the comparison: as data, as text for the report, as LaTeX for the thesis."""

import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from thesis_lib.errors import ThesisError
from thesis_lib.evaluation.hypotheses import Results
from thesis_lib.evaluation.statistics import mean_interval, paired_difference
from thesis_lib.figures.words import interval, metric_title, number, plus_minus, signed, word
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
CAPTIONS = {
    "hypotheses": "The hypotheses named before the run: paired differences in points, 95 % intervals over seeds (t) "
    "and over seeds crossed with clusters (capture groups or OOD parts); p by exact sign flips, one-sided for "
    "H3. Shown: the p value after Holm is at most 0.05 and the interval over seeds agrees.",
    "arms": "Mean over seeds and half the 95 % t interval, in percent. AUROC and FPR at 95 % TPR (FPR95, lower is "
    "better) of the kNN detector: ID is the positive class, averaged over OOD parts; ID pictures are those of test, or "
    "of field where it says so. Exploratory arms have fewer seeds.",
    "differences": "Paired differences in points and half their 95 % t interval, on the seeds both arms have; not "
    "corrected for their number.",
    "scenarios": "The source's scenarios, in percent: published (one run each) and here, mean over seeds and half the "
    "95 % t interval. Frozen: fixed statistics of batch normalisation and standardised features.",
    "beyond": "Every method at the same number of steps on the same network, in percent, mean over seeds and half the "
    "95 % t interval, the best first. Frozen: fixed statistics of batch normalisation and standardised features.",
}
"""What is said above the tables of the report."""
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
            reference = references.get(arm)
            if {arm, reference} <= set(wide):
                pairs = wide[[arm, reference]].dropna()
                if len(pairs):
                    test = paired_difference(pairs[arm].to_numpy(), pairs[reference].to_numpy())
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
            interval(row["low"], row["high"], language),
            interval(row["cluster_low"], row["cluster_high"], language),
            number(row["p"], 4, language),
            number(row["holm"], 4, language),
            word(row["verdict"], language),
        )
        for row in hypotheses.to_dict("records")
    ]
    return pd.DataFrame(rows, columns=[word(head, language) for head in heads])


def latex(table: pd.DataFrame, caption: str, label: str) -> str:
    r"""A table of text as LaTeX with booktabs; the first column is set left, the others right, long text in lines.

    Args:
        table: Such as `comparison_text` makes it; a row with nothing but its first cell becomes a heading.
        caption: Plain text.
        label: For ``\ref``.
    """
    long = [table[column].astype(str).str.len().max() > LONG_CELL for column in table]
    columns = "".join(r"p{3.3cm}" if is_long else "r" for is_long in long)
    lines = [
        r"\begin{table}", r"\centering", r"\scriptsize" if len(long) > 8 else r"\footnotesize",
        rf"\setlength{{\tabcolsep}}{{{2 if len(long) > 8 else 3}pt}}",
        rf"\caption{{{_escaped(caption)}}}", rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{{columns if long[0] else 'l' + columns[1:]}}}", r"\toprule",
        " & ".join(map(_head, table.columns)) + r" \\", r"\midrule",
        *(_row(row) for row in table.to_numpy().tolist()),
        r"\bottomrule", r"\end{tabular}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _row(cells: list[Any]) -> str:
    if any(cell != "" for cell in cells[1:]):
        return " & ".join(map(_escaped, cells)) + r" \\"
    return rf"\midrule \multicolumn{{{len(cells)}}}{{l}}{{\emph{{{_escaped(cells[0])}}}}} \\"


def _head(text: str) -> str:
    lines = [_escaped(line) for line in textwrap.wrap(text, 9, break_long_words=False)]
    return lines[0] if len(lines) == 1 else r"\shortstack[r]{" + r"\\".join(lines) + "}"


def _escaped(text: Any) -> str:
    escapes = {
        "\\": r"\textbackslash{}", "\u2212": "$-$", "\u2013": "--", "~": r"\textasciitilde{}", "^": r"\^{}",
        "\u00b1": r"$\pm$", "<": "$<$", ">": "$>$",
    }  # fmt: skip
    return "".join(escapes.get(sign, f"\\{sign}" if sign in "&%$#_{}" else sign) for sign in str(text))


def keep_table(folder: Path, name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Write a table named in `CAPTIONS` as `name`.csv and `name`.tex, labelled ``tab:name``; returns the table."""
    write_table(folder / f"{name}.csv", table)
    write_text(folder / f"{name}.tex", latex(table, CAPTIONS[name], f"tab:{name}"))
    return table


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, atomically."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))
