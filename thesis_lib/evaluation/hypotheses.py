"""The four hypotheses of the main experiment, named before it ran: which they are, and what a run says to each."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from thesis_lib.evaluation.statistics import (
    can_reach,
    crossed_interval,
    holm,
    non_inferiority,
    paired_difference,
)

LEVEL = 0.05
FEWEST_SEEDS = 6
"""With five, not even differences of one sign reach p = 0.05; with six they reach 0.031."""
Results = Mapping[str, Mapping[Any, Mapping[str, Any]]]
"""Arm -> seed -> what `evaluate_arm` returns."""


class Hypothesis(NamedTuple):
    """That `arm` is better than `reference` in `metric`; with a margin, that it is not worse by more than that."""

    name: str
    arm: str
    reference: str
    metric: str
    margin: float = 0.0


HYPOTHESES = (
    Hypothesis("H1", "real_id", "real", "top1/field"),
    Hypothesis("H2", "real_id_nearood", "real_id", "auroc/near/knn"),
    Hypothesis("H3", "real_id_nearood", "real_id", "top1/test", margin=0.02),
    Hypothesis("H4", "real_id_nearood", "nearood_random", "auroc/near/knn"),
)
COLUMNS = [
    *Hypothesis._fields, "mean", "low", "high", "bound", "cluster_low", "cluster_high", "clusters", "p", "holm",
    "pairs", "verdict",
]  # fmt: skip


def hypothesis_table(results: Results) -> pd.DataFrame:
    """What a run says to those of the four hypotheses whose arms and metric it has.

    A test is confirmatory when its arms have all seeds of the run, and enough of them that its p value, Holm-corrected
    over the hypotheses in the table, could be at most 0.05: of all four that takes seven seeds. Then it has shown
    something when that p value is at most 0.05 and its t interval agrees.

    Args:
        results: The content of metrics.json: arm -> seed -> what `evaluate_arm` returns, with ``clusters``: split ->
            capture group -> [correct, pictures] for accuracies.

    Returns:
        A row a hypothesis, shares in [0, 1]: name, arm, reference, metric, margin; mean, low, high (paired difference
        and 95 % t interval over seeds); bound (with a margin: one-sided 95 %, else nan); cluster_low, cluster_high
        (95 %, seeds crossed with capture groups or OOD parts, see `crossed_interval`; nan without clusters), clusters
        (their number); p (exact sign flip, two-sided; one-sided with a margin), holm, pairs; verdict: `shown`;
        `shown_here`, when the interval with clusters disagrees, so for these pictures or parts only; `opposite`;
        `nothing`; `descriptive`, when it is not confirmatory.
    """
    rows = [row for hypothesis in HYPOTHESES if (row := _tested(results, hypothesis))]
    corrected = holm({row["name"]: row["p"] for row in rows})
    seeds = len({seed for by_seed in results.values() for seed in by_seed})
    reached = can_reach({row["name"]: (1 if row["margin"] else 2) / 2 ** row["pairs"] for row in rows}, LEVEL)
    for row in rows:
        row["holm"] = corrected[row["name"]]
        confirmatory = row["pairs"] >= max(seeds, FEWEST_SEEDS) and reached[row["name"]]
        row["verdict"] = _verdict(row, len(rows)) if confirmatory else "descriptive"
    return pd.DataFrame(rows, columns=COLUMNS)


def _tested(results: Results, hypothesis: Hypothesis) -> dict[str, Any] | None:
    """The numbers of one hypothesis; none where its arms or its metric are absent."""
    arm, reference = results.get(hypothesis.arm, {}), results.get(hypothesis.reference, {})
    pairs = [(arm[seed], reference[seed]) for seed in arm if seed in reference]
    values = np.array([[_value(result, hypothesis.metric) for result in pair] for pair in pairs])
    if not pairs or np.isnan(values).any():
        return None
    first, second = values.T
    row = hypothesis._asdict() | paired_difference(first, second)._asdict() | {"bound": math.nan}
    if hypothesis.margin:
        test = non_inferiority(first, second, hypothesis.margin)
        row |= {"p": test.p, "bound": test.bound}
        row["p_worse"] = non_inferiority(second, first, -hypothesis.margin).p
    differences, weights = _by_cluster(pairs, hypothesis.metric)
    low, high = crossed_interval(differences, weights)[1:] if len(weights) else (math.nan, math.nan)
    return row | {"cluster_low": low, "cluster_high": high, "clusters": len(weights)}


def _verdict(row: Mapping[str, Any], tests: int) -> str:
    if row["margin"]:
        shown, here = row["bound"] > -row["margin"], row["cluster_low"] > -row["margin"]
        # Bonferroni: the other direction was not named, so it has no place in Holm's order.
        opposite = row["high"] < -row["margin"] and tests * row["p_worse"] <= LEVEL
    else:
        shown, here = row["low"] > 0, row["cluster_low"] > 0
        opposite = row["high"] < 0 and row["holm"] <= LEVEL
    if shown and row["holm"] <= LEVEL:
        return "shown" if here else "shown_here"
    return "opposite" if opposite else "nothing"


def _value(result: Mapping[str, Any], metric: str) -> float:
    """The number at a path such as ``auroc/near/knn``; nan where there is none."""
    value: Any = result
    for key in metric.split("/"):
        value = value.get(key, {})
    return float(value) if isinstance(value, int | float) else math.nan


def _by_cluster(pairs: list[tuple[Mapping[str, Any], Mapping[str, Any]]], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Differences (seeds, clusters) whose mean over seeds and, weighted, over clusters is the metric's; the weights."""
    sides = [[_clusters(pair[side], metric) for pair in pairs] for side in (0, 1)]
    first, second = (pd.DataFrame([{name: cell[0] for name, cell in row.items()} for row in side]) for side in sides)
    return (first - second).to_numpy(float), np.array([weight for _, weight in sides[0][0].values()])


def _clusters(result: Mapping[str, Any], metric: str) -> dict[str, tuple[float, float]]:
    """Cluster -> its value and weight: accuracy and pictures of a capture group, or a part's AUROC and 1."""
    measure, *where = metric.split("/")
    if measure == "top1":
        groups = result.get("clusters", {}).get(where[0], {})
        return {group: (correct / pictures, pictures) for group, (correct, pictures) in groups.items()}
    group, detector = where
    parts = result["ood"]["field" if measure == "auroc_field" else "test"][group][detector]["parts"]
    return {part: (auroc, 1.0) for part, auroc in parts.items()}
