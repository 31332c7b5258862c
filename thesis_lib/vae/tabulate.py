"""The source's tables anew: ours with intervals, the published number beside."""

from collections.abc import Mapping, Sequence
from typing import cast

import pandas as pd

from thesis_lib.evaluation.statistics import further_run, mean_interval
from thesis_lib.vae.published import (
    DIGIT_METHODS,
    DIGITS,
    FEW_SHOT_TABLE,
    FEWER_METHODS,
    MANY_GENERATED,
    ONLY_GENERATED,
    PUBLISHED_BETAS,
    PUBLISHED_SETS,
)

SECTIONS = ("proben1", "few_shot_table", "few_shot", "only_generated", "many_generated")
"""The source's tables."""
REPEATED = ("only_generated", "many_generated")
"""Those whose published baseline is that of `few_shot` again."""
ONLY_SHOTS, MANY = 5, 2000
"""The source's originals a class behind the generated pictures alone, and its many generated pictures a class."""
ROUNDING = 0.0005
"""Of the published numbers."""
SUMMARY = ["data", "at", "method", "beta", "classifier", "mean", "low", "high", "seeds", "published"]
"""Columns of `summarised`: `at` is the number of shots, in the table of generated pictures alone that of generated."""


def summarised(results: pd.DataFrame, section: str) -> pd.DataFrame:
    """Mean and 95 % t interval of weighted F1 over seeds, and what the source reports, in the order of the results.

    Args:
        results: Rows of `work.COLUMNS`.
        section: One of them.

    Returns:
        Columns `SUMMARY`; `published` is nan where the source has no number. Published numbers stand beside the first
        classifier only: the source does not name its own.
    """
    rows = results[(results["section"] == section) & (results["metric"] == "f1")]
    alone, many = section == "only_generated", section == "many_generated"
    rows = rows.assign(at=rows["generated" if alone else "shots"])
    first = rows["classifier"].iloc[0] if len(rows) else ""
    if (alone and (rows["shots"] != ONLY_SHOTS).any()) or (many and (rows["generated"].max() != MANY)):
        first = ""  # the source's numbers are of other training sets
    found = []
    keys = ["data", "at", "method", "beta", "classifier"]
    for names, group in rows.groupby(keys, sort=False):
        data, at, method, beta, classifier = cast(tuple[str, int, str, str, str], names)
        known = _published(section, data, at, method, beta) if classifier == first else None
        interval = mean_interval(group["value"].to_numpy())
        found.append(
            (data, at, method, beta, classifier, *interval, len(group), float("nan") if known is None else known)
        )
    return pd.DataFrame(found, columns=SUMMARY)


def _published(section: str, data: str, at: int, method: str, beta: str) -> float | None:
    if section == "proben1":
        entry = PUBLISHED_SETS[data]
        if method == "none":
            return entry.baseline
        scores = {str(known): pair for known, pair in zip(PUBLISHED_BETAS, entry.scores, strict=True)}
        return scores[beta][method == "vae_gc"] if beta in scores else None
    tables: Mapping[str, tuple[Sequence[str], Mapping[int, tuple[float, ...]]]] = {
        "few_shot_table": (("none", "vae", "vae_gc"), FEW_SHOT_TABLE),
        "few_shot": (DIGIT_METHODS, DIGITS),
        "only_generated": (FEWER_METHODS, ONLY_GENERATED),
        "many_generated": (FEWER_METHODS, MANY_GENERATED),
    }
    methods, numbers = tables.get(section, ((), {}))
    return numbers[at][methods.index(method)] if at in numbers and method in methods else None


def outside(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows whose published number, taken for one run's, lies where one further run of ours would not."""
    reach = further_run((summary["high"] - summary["low"]) / 2, summary["seeds"]) + ROUNDING
    return summary[(summary["published"] - summary["mean"]).abs() > reach]
