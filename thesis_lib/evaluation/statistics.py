"""Intervals and tests over seeds, and over seeds crossed with clusters of pictures."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtr, stdtr, stdtrit

from thesis_lib.errors import ThesisError
from thesis_lib.randomness import numpy_generator

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


class NonInferiority(NamedTuple):
    """The mean difference of pairs, its one-sided 95 % bound from below, and the one-sided exact sign-flip p value."""

    mean: float
    bound: float
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


def further_run(half: pd.Series, seeds: pd.Series) -> pd.Series:
    """How far from the mean one further run may lie: half the 95 % prediction interval, t s sqrt(1 + 1/n).

    Args:
        half: Half of the t interval of each mean, t s / sqrt(n).
        seeds: n of each.
    """
    return half * (seeds + 1) ** 0.5


def missed_by_chance(half: pd.Series, seeds: pd.Series, rounding: float = 0.0) -> pd.Series:
    """Probability that one further run, rounded, lies outside the mean's 95 % t interval with its rounding.

    Without rounding it is 0.16 with 3 seeds, whatever the interval.

    Args:
        half: Half of the t interval of each mean, t s / sqrt(n).
        seeds: n of each.
        rounding: Half of the step to which the further run is rounded; the interval is wider by it at both ends.
    """
    quantile = stdtrit(seeds - 1, 0.975)
    spread = half / quantile * (seeds + 1) ** 0.5  # of a further run's distance from the mean, s sqrt(1 + 1/n)
    errors = rounding * np.linspace(-1, 1, 41)
    beyond = [stdtr(seeds - 1, -(half + rounding + error) / spread) for error in errors]  # by symmetry at either end
    return 2 * sum(beyond) / len(errors)


def paired_difference(
    first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray, confidence: float = 0.95
) -> PairedDifference:
    """Compare two arms seed by seed.

    The p value is the share of all 2**n sign patterns of the differences whose mean is at least as far from zero as
    the one observed; with 5 seeds it can't go below 0.0625, with 8 not below 0.0078.

    Args:
        first: (n,) values of one arm; with n above 20 a random million of the patterns is taken.
        second: (n,) values of the other arm, same seeds in the same order.
        confidence: Coverage of the t interval, in (0, 1).

    Returns:
        The difference first - second.

    Raises:
        ThesisError: The lengths differ, or there are no pairs.
    """
    differences = _pairs(first, second)
    sums, tolerance = _sign_flips(differences)
    return PairedDifference(
        *mean_interval(differences, confidence),
        p=float((np.abs(sums) >= abs(sums[0]) - tolerance).mean()),
        pairs=len(differences),
    )


def difference_to(wide: pd.DataFrame, name: str, reference: str) -> PairedDifference | None:
    """The paired difference of two columns, or none where they are one, one is lacking, or no line has both.

    Args:
        wide: A line a seed.
        name: The column compared.
        reference: The column it is compared with.
    """
    if name == reference or not {name, reference} <= set(wide):
        return None
    both = wide[[name, reference]].dropna()
    return paired_difference(both[name].to_numpy(), both[reference].to_numpy()) if len(both) else None


def non_inferiority(
    first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray, margin: float
) -> NonInferiority:
    """Test that one arm is not worse than another by more than a margin: first - second > -margin.

    The p value is the share of all 2**n sign patterns of difference + margin whose mean is at least the one observed.

    Args:
        first: (n,) values of the arm under test; with n above 20 a random million of the patterns is taken.
        second: (n,) values of its reference, same seeds in the same order.
        margin: The loss that is tolerated, in the values' unit; negative, the gain that is demanded.

    Returns:
        The difference first - second; `bound` is the end of Student's one-sided 95 % interval, nan with one pair.

    Raises:
        ThesisError: As `paired_difference`.
    """
    differences = _pairs(first, second)
    sums, tolerance = _sign_flips(differences + margin)
    return NonInferiority(
        mean=float(differences.mean()),
        bound=mean_interval(differences, confidence=0.9).low,
        p=float((sums >= sums[0] - tolerance).mean()),
        pairs=len(differences),
    )


def _pairs(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> np.ndarray:
    if len(first) != len(second):
        raise ThesisError(f"a paired comparison needs the same seeds in both arms, got {len(first)} and {len(second)}")
    return np.asarray(first, dtype=float) - np.asarray(second, dtype=float)


def _sign_flips(values: np.ndarray) -> tuple[np.ndarray, float]:
    """The sums of (n,) values under all (2**n,) sign patterns, the observed one first, and a tolerance.

    With more than `MOST_PAIRS` values as many patterns as these have, at random. The tolerance counts patterns that tie
    with the observed one in spite of rounding.
    """
    if len(values) <= MOST_PAIRS:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(values))))
    else:
        drawn = numpy_generator(0, "sign flips").integers(2, size=(2**MOST_PAIRS, len(values)), dtype=np.int8)
        signs = (1 - 2 * drawn).astype(np.float32)
        signs[0] = 1
    return signs @ values, float(1e-12 * np.abs(values).sum())


def crossed_interval(
    differences: np.ndarray, weights: Sequence[float] | np.ndarray | None = None, draws: int = 10_000, seed: int = 0
) -> Interval:
    """A 95 % interval for a mean over seeds and clusters, both drawn from larger populations.

    The pigeonhole bootstrap (Owen 2007, Annals of Applied Statistics 1, arXiv 0712.1111): seeds and clusters are
    resampled apart, and a cell counts as often as its seed times as often as its cluster. It is conservative where
    cells are noise. The percentiles are the expanded ones of Hesterberg 2015 (The American Statistician 69) for small
    samples, Phi(-sqrt(n / (n - 1)) t) with t of n - 1 degrees of freedom and n the smaller count: the plain 2.5 and
    97.5 of 8 seeds cover 88 % where only seeds differ, these 93 %.

    Args:
        differences: (seeds, clusters) paired differences.
        weights: (clusters,) positive weights, such as pictures; none weights all alike.
        draws: Bootstrap samples.
        seed: Seeds the resampling.

    Returns:
        The weighted mean and its interval; the ends are nan with a single seed or cluster, which says nothing about
        how others would differ.

    Raises:
        ThesisError: The matrix is empty or holds a value that is not finite.
    """
    differences = np.asarray(differences, dtype=float)
    if not differences.size or not np.isfinite(differences).all():
        raise ThesisError(
            "a crossed interval needs a value for every seed and cluster: evaluate all seeds on one data set"
        )
    seeds, clusters = differences.shape
    share = np.ones(clusters) if weights is None else np.asarray(weights, dtype=float)
    mean = float(np.average(differences.mean(0), weights=share))
    if min(seeds, clusters) == 1:
        return Interval(mean, float("nan"), float("nan"))
    generator = numpy_generator(seed, "pigeonhole")
    by_seed = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds
    by_cluster = generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=draws) * share
    means = ((by_seed @ differences) * by_cluster).sum(1) / by_cluster.sum(1)
    n = min(seeds, clusters)
    tail = float(ndtr(-np.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.975)))
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean, float(low), float(high))


def can_reach(smallest: Mapping[str, float], level: float) -> dict[str, bool]:
    """Whether tests can reach a level at all after Holm's correction, were each p value the smallest it can be.

    Args:
        smallest: The smallest p value that each test can have: of exact sign flips of n pairs 2 / 2^n, one-sided half.
        level: The level.
    """
    return {name: p <= level for name, p in holm(smallest).items()}


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
