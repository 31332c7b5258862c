"""Intervals and tests over seeds: t intervals, exact sign-flip tests, Holm's correction."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from thesis_lib.errors import ThesisError

MOST_PAIRS = 20


class Interval(NamedTuple):
    """A mean and its confidence interval."""

    mean: float
    low: float
    high: float


class PairedDifference(NamedTuple):
    """The mean difference of pairs, its confidence interval, and the two-sided exact sign-flip p value."""

    mean: float
    low: float
    high: float
    p: float
    pairs: int


def mean_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Interval:
    """The mean and Student's t interval of independent values, one a seed.

    Args:
        values: (n,) values.
        confidence: Coverage, in (0, 1).

    Returns:
        The interval; its ends are nan for a single value, because one seed says nothing about spread.

    Raises:
        ThesisError: There are no values.
    """
    values = np.asarray(values, dtype=float)
    if not len(values):
        raise ThesisError("an interval needs at least one value and there is none: run at least one seed")
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, float("nan"), float("nan"))
    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2) * values.std(ddof=1) / np.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)


def paired_difference(
    first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray, confidence: float = 0.95
) -> PairedDifference:
    """Compare two arms seed by seed.

    The p value is the share of all 2**n sign patterns of the differences whose mean is at least as far from zero as
    the one observed; with 5 seeds it can't go below 0.0625, with 8 not below 0.0078.

    Args:
        first: (n,) values of one arm, n at most 20.
        second: (n,) values of the other arm, same seeds in the same order.
        confidence: Coverage of the t interval, in (0, 1).

    Returns:
        The difference first - second.

    Raises:
        ThesisError: The lengths differ, there are no pairs, or more than 20.
    """
    if len(first) != len(second):
        raise ThesisError(f"a paired comparison needs the same seeds in both arms, got {len(first)} and {len(second)}")
    if len(first) > MOST_PAIRS:
        raise ThesisError(f"the exact sign-flip test takes at most {MOST_PAIRS} seeds, got {len(first)}: compare fewer")
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    interval = mean_interval(differences, confidence)
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(differences))))
    # The tolerance counts patterns that tie with the observed one in spite of rounding.
    extreme = np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12 * np.abs(differences).sum()
    return PairedDifference(*interval, p=float(extreme.mean()), pairs=len(differences))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction of the p values of several hypotheses named beforehand.

    Args:
        p_values: Hypothesis -> p.

    Returns:
        Hypothesis -> corrected p, at most 1, in the order given.
    """
    corrected: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = highest
    return {name: corrected[name] for name in p_values}
