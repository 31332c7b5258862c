import itertools
import math

import numpy as np
import pytest
from scipy import stats

from thesis_lib.errors import ThesisError
from thesis_lib.evaluation.statistics import holm, mean_interval, paired_difference
from thesis_lib.randomness import numpy_generator


def test_interval_is_student_t() -> None:
    values = numpy_generator(0, "t").normal(size=8)
    low, high = stats.t.interval(0.95, 7, values.mean(), stats.sem(values))
    assert mean_interval(values) == pytest.approx((values.mean(), low, high))


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


def test_holm_by_hand() -> None:
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.9}) == pytest.approx(
        {"a": 0.09, "b": 0.04, "c": 0.09, "d": 0.9}
    )


def test_refusals() -> None:
    with pytest.raises(ThesisError, match="same seeds"):
        paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(ThesisError, match="at least one"):
        mean_interval([])
    with pytest.raises(ThesisError, match="20"):
        paired_difference(np.ones(21), np.zeros(21))
