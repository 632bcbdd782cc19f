from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyvideor1.evaluation.metric_intervals import difference_interval, mean_interval
from easyvideor1.evaluation.statistics import Interval, wilson_interval


def test_wilson_closed_forms() -> None:
    # Newcombe 1998, table I: 81/263, 15/148, 0/20, 1/29.
    assert wilson_interval(81, 263).low == pytest.approx(0.2553, abs=5e-5)
    assert wilson_interval(81, 263).high == pytest.approx(0.3662, abs=5e-5)
    assert wilson_interval(15, 148).low == pytest.approx(0.0624, abs=5e-5)
    assert wilson_interval(15, 148).high == pytest.approx(0.1605, abs=5e-5)
    assert wilson_interval(0, 20).high == pytest.approx(0.1611, abs=5e-5)
    assert wilson_interval(1, 29).low == pytest.approx(0.0061, abs=5e-5)
    z = 1.959963984540054
    assert wilson_interval(10, 10).low == pytest.approx(1 / (1 + z * z / 10))


def test_wilson_is_symmetric_and_keeps_a_width_at_the_ends() -> None:
    for count in (1, 2, 7, 40):
        for right in range(count + 1):
            one, other = wilson_interval(right, count), wilson_interval(count - right, count)
            assert one.low == pytest.approx(1 - other.high)
            assert 0 <= one.low <= one.mean <= one.high <= 1
            assert one.high - one.low > 0.01


def test_binary_values_of_separate_videos_get_wilson() -> None:
    assert mean_interval([1, 0, 1, 1], list("abcd")) == wilson_interval(3, 4)


def test_repeating_each_question_does_not_shrink_the_interval() -> None:
    values = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    names = [str(i) for i in range(10)]
    once = mean_interval(values, names)
    often = mean_interval(values * 20, names * 20)
    assert often.mean == pytest.approx(once.mean)
    assert often.high - often.low > 0.9 * (once.high - once.low)


def test_nothing_to_resample_is_not_certainty() -> None:
    same = mean_interval([1.0, 1.0, 1.0, 1.0], ["a", "a", "b", "b"])
    assert same == wilson_interval(2, 2)
    lonely = mean_interval([0.5, 0.7], ["a", "a"])
    assert lonely.mean == pytest.approx(0.6)
    assert lonely.high - lonely.low > 0.5


def test_bootstrap_agrees_with_the_normal_theory_of_many_fractions() -> None:
    rng = np.random.default_rng(3)
    values = rng.beta(2, 3, size=400)
    found = mean_interval(list(values), list(range(400)), seed=1)
    reach = 1.959964 * values.std(ddof=1) / math.sqrt(400)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - reach, abs=0.1 * reach)
    assert found.high == pytest.approx(values.mean() + reach, abs=0.1 * reach)


def test_same_arguments_same_interval_and_the_seed_matters() -> None:
    values, names = [i % 7 / 7 for i in range(40)], [i // 2 for i in range(40)]
    assert mean_interval(values, names, seed=5) == mean_interval(values, names, seed=5)
    assert mean_interval(values, names, seed=5) != mean_interval(values, names, seed=6)


@pytest.mark.parametrize("clusters", [4, 25])
def test_coverage_of_clustered_accuracies(clusters: int) -> None:
    """Videos differ in difficulty, six questions each: the 95% interval holds the truth about 95% of the time."""
    rng = np.random.default_rng(clusters)
    names = np.repeat(np.arange(clusters), 6)
    trials, held, held_if_independent = 300, 0, 0
    for trial in range(trials):
        difficulty = rng.beta(1.5, 1.5, size=clusters)
        values = (rng.random((clusters, 6)) < difficulty[:, None]).astype(float).ravel()
        found = mean_interval(list(values), list(names), seed=trial)
        naive = wilson_interval(values.sum(), len(values))
        held += found.low <= 0.5 <= found.high
        held_if_independent += naive.low <= 0.5 <= naive.high
    assert 0.91 <= held / trials <= 0.99
    assert held_if_independent / trials < held / trials - 0.05


def test_pairing_sees_what_two_intervals_cannot() -> None:
    before = [0.0] * 10 + [1.0] * 30 + [0.0] * 60
    after = [1.0] * 10 + [1.0] * 30 + [0.0] * 60
    names = list(range(100))
    change = difference_interval(before, after, names, seed=2)
    assert change.mean == pytest.approx(0.1)
    assert change.low > 0.03
    assert mean_interval(before, names).high > mean_interval(after, names).low


def test_difference_without_variation_keeps_a_width() -> None:
    change = difference_interval([0.0] * 5, [1.0] * 5, list("abcde"))
    assert change.mean == 1.0
    assert change.high == 1.0
    assert 0.0 < change.low < 0.7
    # Nothing moved: as many gains as losses may be hidden as Wilson's limit of 0 of 5 says.
    same = difference_interval([0.5] * 5, [0.5] * 5, list("abcde"))
    assert same.mean == 0.0
    assert (same.low, same.high) == pytest.approx((-wilson_interval(0, 5).high, wilson_interval(0, 5).high))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=30),
    st.sampled_from([0.5, 0.8, 0.95, 0.99]),
)
def test_limits_hold_the_mean_and_stay_in_range(pairs: list[tuple[float, int]], confidence: float) -> None:
    values, names = [value for value, _ in pairs], [name for _, name in pairs]
    found = mean_interval(values, names, confidence)
    assert found.mean == pytest.approx(np.mean(values))
    assert 0 <= found.low <= found.mean <= found.high <= 1


@pytest.mark.parametrize(
    ("values", "clusters", "confidence"),
    [([], [], 0.95), ([1.0], [], 0.95), ([1.5], ["a"], 0.95), ([math.nan], ["a"], 0.95), ([1.0], ["a"], 1.0)],
)
def test_nonsense_is_refused(values: list[float], clusters: list[str], confidence: float) -> None:
    with pytest.raises(ValueError):
        mean_interval(values, clusters, confidence)


def test_json_form() -> None:
    assert Interval(0.5, 0.25, 0.75).to_json() == {"mean": 0.5, "low": 0.25, "high": 0.75}
