import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from thesis_lib.errors import ThesisError
from thesis_lib.evaluation.statistics import (
    crossed_interval,
    difference_to,
    further_run,
    holm,
    mean_interval,
    missed_by_chance,
    non_inferiority,
    paired_difference,
)
from thesis_lib.randomness import numpy_generator


def test_interval_is_student_t() -> None:
    values = numpy_generator(0, "t").normal(size=8)
    low, high = stats.t.interval(0.95, 7, values.mean(), stats.sem(values))
    assert mean_interval(values) == pytest.approx((values.mean(), low, high))


def test_columns_are_compared_where_both_have_a_value() -> None:
    wide = pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [0.5, math.nan, 1.0], "c": [math.nan, 1.0, math.nan]})
    assert difference_to(wide, "a", "b") == paired_difference([1.0, 4.0], [0.5, 1.0])
    assert [difference_to(wide, *names) for names in (("a", "a"), ("a", "d"), ("d", "a"), ("b", "c"))] == [None] * 4


def test_a_further_run_lies_in_its_interval_as_often_as_said() -> None:
    draws = np.random.default_rng(0).normal(size=(4000, 4))
    halves = [(found.high - found.low) / 2 for found in (mean_interval(values) for values in draws[:, :3])]
    reach = further_run(pd.Series(halves), pd.Series([3] * len(halves)))
    by_hand = stats.t.ppf(0.975, 2) * draws[0, :3].std(ddof=1) * math.sqrt(1 + 1 / 3)
    assert reach[0] == pytest.approx(by_hand)
    inside = np.abs(draws[:, 3] - draws[:, :3].mean(1)) <= reach
    assert inside.mean() == pytest.approx(0.95, abs=0.01)
    missed = np.abs(draws[:, 3] - draws[:, :3].mean(1)) > halves
    half, seeds = pd.Series([1.0, 0.2]), pd.Series([3, 3])
    assert missed_by_chance(half, seeds).tolist() == pytest.approx([missed.mean()] * 2, abs=0.015)
    distance = stats.t.rvs(2, size=200_000, random_state=1) / stats.t.ppf(0.975, 2) * 2  # times the half interval
    error = np.random.default_rng(2).uniform(-0.5, 0.5, distance.size)
    rounded = [float((np.abs(h * distance + error) > h + 0.5).mean()) for h in half]
    assert missed_by_chance(half, seeds, 0.5).tolist() == pytest.approx(rounded, abs=0.003)


def test_one_value_has_no_interval() -> None:
    mean, low, high = mean_interval([0.5])
    assert mean == 0.5
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize(("pairs", "smallest"), [(5, 0.0625), (8, 0.0078125)])
def test_smallest_p(pairs: int, smallest: float) -> None:
    assert paired_difference(np.arange(pairs) + 1.0, np.zeros(pairs)).p == smallest


def test_sign_flip_by_hand() -> None:
    generator = numpy_generator(1, "flip")
    first, second = generator.normal(size=(2, 6))
    differences = first - second
    means = [np.mean(differences * signs) for signs in itertools.product((1, -1), repeat=6)]
    slow = np.mean([abs(mean) >= abs(differences.mean()) - 1e-12 for mean in means])
    got = paired_difference(first, second)
    assert got.p == slow
    assert got.mean == pytest.approx(differences.mean())
    assert got.p == pytest.approx(
        stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    )


def test_equal_arms_are_not_different() -> None:
    assert paired_difference([0.7, 0.8, 0.9], [0.7, 0.8, 0.9]).p == 1.0


def test_non_inferiority_is_a_shifted_one_sided_test() -> None:
    generator = numpy_generator(2, "margin")
    first, second = generator.normal(size=(2, 7))
    differences = first - second
    got = non_inferiority(first, second, margin=0.6)
    theirs = stats.permutation_test(
        (differences + 0.6,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert got.p == pytest.approx(theirs.pvalue)
    test = stats.ttest_1samp(differences, 0, alternative="greater")
    assert got.bound == pytest.approx(test.confidence_interval(0.95).low)
    assert (got.mean, got.pairs) == (pytest.approx(differences.mean()), 7)


def test_non_inferiority_at_its_limits() -> None:
    eight = np.zeros(8)
    assert non_inferiority(eight, eight, 0.02).p == 1 / 256
    assert non_inferiority(eight - 0.02, eight, 0.02).p == 1.0  # worse by the margin itself: every pattern ties
    assert non_inferiority(eight - 0.1, eight, 0.02).p == 1.0
    one = non_inferiority([0.5], [0.4], 0.02)
    assert one.p == 0.5
    assert math.isnan(one.bound)


def test_crossed_interval_of_equal_clusters_is_the_bootstrap_of_seeds() -> None:
    seeds = np.array([0.3, -0.1, 0.25, 0.6])
    means = np.sort([np.mean(drawn) for drawn in itertools.product(seeds, repeat=4)])  # all 256 samples
    tail = stats.norm.cdf(-math.sqrt(4 / 3) * stats.t.ppf(0.975, 3))
    got = crossed_interval(np.repeat(seeds[:, None], 6, axis=1), weights=[1, 5, 2, 2, 9, 1], draws=40_000)
    assert got.mean == pytest.approx(seeds.mean())
    below, above = (np.mean(means < got.low), np.mean(means > got.high))
    assert below <= tail + 1e-3
    assert above <= tail + 1e-3
    assert np.mean(means <= got.low) >= tail - 1e-3
    assert np.mean(means >= got.high) >= tail - 1e-3


def test_crossed_interval_has_both_variances() -> None:
    """Owen 2007: with main effects only, the bootstrap's variance is the sum of the seeds' and the clusters'."""
    generator = numpy_generator(3, "crossed")
    rows, columns = generator.normal(size=(30, 1)), 0.5 * generator.normal(size=(1, 40))
    got = crossed_interval(rows + columns, draws=40_000)
    variance = rows.var() / 30 + columns.var() / 40
    tail = math.sqrt(30 / 29) * stats.t.ppf(0.975, 29)
    assert got.high - got.low == pytest.approx(2 * tail * math.sqrt(variance), rel=0.03)
    assert got == crossed_interval(rows + columns, draws=40_000)


def test_crossed_interval_weighs_pictures() -> None:
    correct, pictures = np.array([[3, 10], [1, 14]]), np.array([5, 20])
    got = crossed_interval(correct / pictures, pictures)
    assert got.mean == pytest.approx(correct.sum() / (2 * 25))


def test_crossed_interval_covers() -> None:
    """Eight seeds, twelve parts, all three sources of spread: at least 93 of 100 intervals hold the truth."""
    generator = numpy_generator(4, "coverage")
    held = 0
    for _ in range(200):
        spread = generator.normal(size=(8, 1)) + 0.5 * generator.normal(size=(1, 12)) + generator.normal(size=(8, 12))
        interval = crossed_interval(spread, draws=500)
        held += interval.low <= 0 <= interval.high
    assert 186 <= held <= 200


def test_one_seed_or_cluster_has_no_crossed_interval() -> None:
    for shape in ((1, 5), (5, 1)):
        assert math.isnan(crossed_interval(np.ones(shape)).low)


def test_holm_by_hand() -> None:
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.9}) == pytest.approx(
        {"a": 0.09, "b": 0.04, "c": 0.09, "d": 0.9}
    )


def test_more_seeds_than_can_be_enumerated_take_a_sample_of_the_patterns() -> None:
    values = numpy_generator(0, "many seeds").normal(0.5, 1.0, 24)
    found = paired_difference(values, np.zeros(24))
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)
    assert paired_difference(np.ones(30), np.zeros(30)).p <= 3 / 2**20  # the observed pattern always counts


def test_refusals() -> None:
    with pytest.raises(ThesisError, match="same seeds"):
        paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(ThesisError, match="at least one"):
        mean_interval([])
    with pytest.raises(ThesisError, match="every seed and cluster"):
        crossed_interval(np.array([[1.0, np.nan]]))
