from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from easyvideor1.benchmarks.metrics import Items, Metric, greedy_answers, joined
from easyvideor1.evaluation.metric_intervals import (
    degrees_of_freedom,
    effective_clusters,
    items_interval,
    mean_interval,
    metric_interval,
    resampled_limits,
)
from easyvideor1.evaluation.statistics import Interval, wilson_interval
from easyvideor1.records.trajectories import MediaRecord, SampleRecord, TrajectoryRecord
from easyvideor1.types import Score


def items(values: ArrayLike, clusters: ArrayLike, strata: Sequence[object] | None = None) -> Items:
    names = tuple((str(each),) for each in strata) if strata is not None else ((),) * np.size(values)
    return Items(np.asarray(values, float), tuple(map(str, np.asarray(clusters))), names)


def record(number: int, accuracy: float | None, video: str, **facets: str) -> SampleRecord:
    response = None if accuracy is None else TrajectoryRecord("", 1, "stop", Score(accuracy, 1.0, accuracy))
    media = (MediaRecord("video", video, "", (), (), 1, 1),)
    return SampleRecord(
        f"q{number}",
        "choice",
        "?",
        "A",
        (),
        media=media,
        greedy=response,
        facets=facets,
        error=None if response else "!",
    )


@pytest.fixture(params=[100, pytest.param(400, marks=pytest.mark.slow)])
def trials(request: pytest.FixtureRequest) -> int:
    """Simulations for a coverage: enough for a coarse check, and enough to tell 93% from 95%."""
    return int(request.param)


def coverage(make: Callable[[np.random.Generator], Items], truth: float, trials: int) -> float:
    rng = np.random.default_rng(0)
    found = [items_interval(make(rng), seed=trial) for trial in range(trials)]
    return sum(each.low <= truth <= each.high for each in found) / trials


def is_95_percent(share: float, trials: int) -> bool:
    return abs(share - 0.95) <= 0.4 / math.sqrt(trials)  # 1.8 standard errors of the simulation


def test_plain_numbers_have_the_intervals_of_plain_means() -> None:
    right = [1.0, 0.0, 1.0, 1.0]
    assert items_interval(items(right, range(4))) == wilson_interval(3, 4)
    # Two videos have most of the questions, so that fewer than ten decide the mean.
    values, videos = np.random.default_rng(1).random(100), np.repeat(range(10), [50, 34, *[2] * 8])
    ours, plain = items_interval(items(values, videos)), mean_interval(list(values), list(videos))
    assert ours == plain and plain.mean == pytest.approx(values.mean())
    assert degrees_of_freedom(items(values, videos)) < 2 and plain.low >= values.min() and plain.high <= values.max()


def test_macro_average_agrees_with_normal_theory() -> None:
    """Strata of 50, 100 and 450: the variance of the mean of three means is the sum of theirs over nine."""
    rng = np.random.default_rng(2)
    strata = np.repeat(["a", "b", "c"], [50, 100, 450])
    values = rng.beta(2, 3, size=600)
    found = items_interval(items(values, range(600), list(strata)))
    parts = [values[strata == name] for name in "abc"]
    mean = sum(part.mean() for part in parts) / 3
    reach = 1.96 * math.sqrt(sum(part.var(ddof=1) / len(part) for part in parts)) / 3
    assert found.mean == pytest.approx(mean)
    assert (found.low, found.high) == pytest.approx((mean - reach, mean + reach), abs=0.1 * reach)


def test_coverage_of_binary_values(trials: int) -> None:
    assert is_95_percent(coverage(lambda rng: items(rng.random(100) < 0.3, range(100)), 0.3, trials), trials)


def test_coverage_of_fractions(trials: int) -> None:
    assert is_95_percent(coverage(lambda rng: items(rng.beta(0.5, 1, 100), range(100)), 1 / 3, trials), trials)


def test_coverage_of_clustered_values(trials: int) -> None:
    """Videos of 1 to 29 questions that differ in difficulty."""

    def make(rng: np.random.Generator) -> Items:
        videos = np.repeat(range(40), rng.integers(1, 30, size=40))
        return items(rng.random(len(videos)) < rng.beta(2, 1, 40)[videos], videos)

    assert is_95_percent(coverage(make, 2 / 3, trials), trials)


@pytest.mark.parametrize("sizes", [(20,) * 8, (5,) * 8, (5, 8, 13, 20, 40, 80)])
def test_coverage_of_macro_averages(sizes: tuple[int, ...], trials: int) -> None:
    strata = np.repeat(range(len(sizes)), sizes)
    chances = np.linspace(0.3, 0.8, len(sizes))

    def make(rng: np.random.Generator) -> Items:
        return items(rng.random(len(strata)) < chances[strata], range(len(strata)), list(strata))

    assert is_95_percent(coverage(make, float(chances.mean()), trials), trials)


def test_a_stratum_of_two_questions_that_drops_out_of_resamples_does_not_narrow(trials: int) -> None:
    """One in seven resamples has none of it, and leans to the easier strata; the interval is wider for it."""
    strata = [0] * 2 + [1] * 40 + [2] * 40
    chances = np.array([0.1, 0.5, 0.9])

    def make(rng: np.random.Generator) -> Items:
        return items(rng.random(82) < chances[strata], range(82), strata)

    assert coverage(make, 0.5, trials) >= 0.93


def test_few_clusters_that_decide_a_number_widen_it() -> None:
    values = np.concatenate([np.tile([0.4, 0.6], 500), [0.0, 0.2, 0.5, 0.8, 1.0]])
    strata = ["many"] * 1000 + ["few"] * 5
    shares = np.array([1 / 2000] * 1000 + [1 / 10] * 5)
    mixed = items(values, range(1005), strata)
    assert mixed.shares == pytest.approx(shares)
    assert effective_clusters(mixed) == pytest.approx(1 / (shares**2).sum())
    assert degrees_of_freedom(mixed) == pytest.approx(4, abs=0.1)
    found = items_interval(mixed)
    normal = 1.96 * math.sqrt(values[1000:].var(ddof=1) / 5) / 2
    assert found.high - found.low > 2 * normal


def test_values_of_another_range_and_of_no_variation_keep_a_width() -> None:
    stars = np.random.default_rng(4).choice([1.0, 2.0, 3.0, 4.0, 5.0], size=200)
    found = items_interval(items(stars, range(200)))
    assert found.high - found.mean == pytest.approx(1.96 * stars.std() / math.sqrt(200), rel=0.15)
    assert items_interval(items([5.0] * 8, range(8))) == Interval(5.0, 5 * wilson_interval(8, 8).low, 5.0)
    alone = items_interval(items([0.5, 0.7], ["a", "a"]))
    assert alone.high - alone.low > 0.5
    macro = items_interval(items([1.0] * 6, range(6), ["a", "b", "b", "b", "b", "b"]))
    count = 1 / (1 / 4 + 5 / 100)
    assert macro.low == pytest.approx(wilson_interval(count, count).low)


def test_groups_that_span_videos_join_them() -> None:
    assert joined([{"a"}, {"b", "c"}, {"c", "d"}, {"e"}]) == ("a", "b", "b", "e")
    records = [record(i, float(i % 3 > 0), f"v{i}", set=f"{i // 2}") for i in range(8)]
    records.append(record(8, None, "v0", set="4"))
    strict = Metric("all of a set", group="set")
    found = strict.items(greedy_answers(records))
    assert found.clusters == ("v0", "v2", "v4", "v6", "v0")
    assert list(found.values) == [0.0, 0.0, 1.0, 0.0, 0.0]
    assert metric_interval(Metric("none", where={"set": "9"}), greedy_answers(records)) is None


def test_items_that_count_by_a_weight_are_resampled_with_it() -> None:
    values, sizes = np.array([1.0, 0.0, 1.0, 0.0]), np.array([1.0, 2.0, 3.0, 4.0])
    weighted = Items(values, ("a", "b", "c", "d"), (("x",), ("x",), ("y",), ("y",)), sizes)
    assert weighted.shares == pytest.approx([1 / 6, 2 / 6, 3 / 14, 4 / 14])
    assert weighted.shares @ values == pytest.approx(float(weighted.mean()[0]))
    nothing = Metric("weighted", weight="weight")
    assert metric_interval(nothing, greedy_answers([record(0, 1.0, "v", weight="0")])) is None
    once = Items(np.repeat(values, [1, 2, 3, 4]), tuple("abbcccdddd"), tuple((s,) for s in "xxxyyyyyyy"))
    assert items_interval(weighted, seed=3) == items_interval(once, seed=3)


def test_limits_are_those_of_another_bootstrap() -> None:
    """scipy resamples whole videos; the macro average of weighted items is taken of each resample, item by item."""
    rng = np.random.default_rng(6)
    videos, strata = rng.integers(25, size=120), rng.integers(3, size=120)
    values, sizes = rng.random(120) * (1 + strata), rng.integers(1, 5, size=120).astype(float)
    ours = Items(values, tuple(map(str, videos)), tuple((str(each),) for each in strata), sizes)

    def macro(drawn: NDArray[np.int64]) -> float:
        rows = np.concatenate([np.flatnonzero(videos == video) for video in drawn])
        return float(
            np.mean([np.average(values[r], weights=sizes[r]) for r in (rows[strata[rows] == s] for s in range(3))])
        )

    low, high = resampled_limits(ours, 0.95, seed=0) or (0.0, 0.0)
    reach = math.sqrt(25 / 24) * stats.t.ppf(0.975, degrees_of_freedom(ours))
    level = 1 - 2 * stats.norm.sf(reach)
    theirs = stats.bootstrap(
        (np.arange(25),), macro, vectorized=False, method="percentile", n_resamples=3000, confidence_level=level, rng=1
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.08 * (theirs.high - theirs.low))


def test_time_does_not_grow_with_the_strata() -> None:
    rng = np.random.default_rng(5)
    many = items(rng.random(6000), range(6000), list(rng.integers(60, size=6000)))
    start = time.process_time()
    items_interval(many)
    assert time.process_time() - start < 6.0
