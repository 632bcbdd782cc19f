from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from tests.evaluation.test_metric_intervals import items, record

from easyvideor1.benchmarks import Benchmark
from easyvideor1.benchmarks.metrics import Metric, greedy_answers
from easyvideor1.evaluation.comparison import (
    Pairs,
    detectable_difference,
    difference,
    differences_of,
    flips,
    make_pairs,
    mcnemar_test,
    sign_flip_test,
)
from easyvideor1.evaluation.corrections import benjamini_hochberg, holm
from easyvideor1.evaluation.statistics import Interval

ACCURACY = Metric("accuracy")


def paired(before: list[float], after: list[float], videos: list[str] | None = None, **facets: list[str]) -> Pairs:
    """Two results whose files lie in different directories."""
    names = videos or [str(number) for number in range(len(before))]
    told = [{name: values[i] for name, values in facets.items()} for i in range(len(before))]
    sides = [
        greedy_answers([record(i, right, f"{side}/{names[i]}", **told[i]) for i, right in enumerate(values)])
        for side, values in (("first", before), ("second", after))
    ]
    return make_pairs(*sides)


def test_mcnemar_by_hand() -> None:
    assert mcnemar_test(0, 0) == 1.0
    assert mcnemar_test(5, 0) == pytest.approx(2 / 32)
    assert mcnemar_test(1, 9) == pytest.approx(2 * 11 / 1024)
    assert mcnemar_test(6, 6) == 1.0


def test_sign_flips_of_single_questions_are_mcnemar() -> None:
    for up, down in ((3, 1), (7, 2), (5, 5), (8, 0)):
        change = items([1.0] * up + [-1.0] * down + [0.0] * 30, range(up + down + 30))
        assert sign_flip_test(change)[1] == pytest.approx(mcnemar_test(up, down))
    drawn = sign_flip_test(items([1.0] * 30 + [-1.0] * 12, range(42)))
    assert drawn == (drawn[0], pytest.approx(mcnemar_test(30, 12), abs=0.004))


def test_sign_flips_of_clusters_by_enumeration() -> None:
    change = items([0.5, 0.2, -0.1, 0.4, 0.4, 0.0], ["a", "a", "b", "c", "d", "e"])
    sums = (0.7, -0.1, 0.4, 0.4)
    all_sums = [abs(sum(s * x for s, x in zip(signs, sums, strict=True))) for signs in product((1, -1), repeat=4)]
    expected = sum(total >= 1.4 - 1e-9 for total in all_sums) / 16
    assert sign_flip_test(change)[1] == pytest.approx(expected)


def test_level_of_the_tests_without_a_difference() -> None:
    """Both results answer alike on average: a p-value below 0.05 comes up in at most about 5% of the cases."""
    rng = np.random.default_rng(0)
    videos = [str(each) for each in np.repeat(range(30), 4)]
    found = 0
    for _ in range(200):
        easy = np.repeat(rng.random(30), 4)
        lean = np.repeat(rng.normal(0, 0.25, 30), 4)
        before, after = rng.random(120) < easy, rng.random(120) < np.clip(easy + lean, 0, 1)
        # Swapped by video, so that nothing but chance tells them apart.
        swap = np.repeat(rng.random(30) < 0.5, 4)
        first, second = np.where(swap, after, before), np.where(swap, before, after)
        found += sign_flip_test(items(second.astype(float) - first, videos))[1] < 0.05
    assert found / 200 <= 0.09


def test_difference_of_binary_questions() -> None:
    before = [0.0] * 30 + [1.0] * 10 + [1.0] * 100 + [0.0] * 60
    after = [1.0] * 30 + [0.0] * 10 + [1.0] * 100 + [0.0] * 60
    found = difference(ACCURACY, paired(before, after))
    assert found is not None
    assert (found.before, found.after, found.gained, found.lost) == (0.55, 0.65, 30, 10)
    assert (found.test, found.p) == ("McNemar, exact", mcnemar_test(30, 10))
    error = math.sqrt((40 / 200 - 0.1**2) / 200)
    assert found.interval.mean == pytest.approx(0.1)
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (0.1 - 1.96 * error, 0.1 + 1.96 * error), abs=0.01
    )
    assert found.detectable == pytest.approx((1.959964 + 0.841621) * error, rel=0.05)


def test_questions_of_a_video_count_as_one_wherever_its_files_lie() -> None:
    rng = np.random.default_rng(1)
    videos = [str(each) for each in np.repeat(range(20), 5)]
    shift = np.repeat(rng.choice([-1.0, 0.0, 1.0], 20), 5)
    before = np.where(shift > 0, 0.0, 1.0)
    found = difference(ACCURACY, paired(list(before), list(before + shift), videos))
    alone = difference(ACCURACY, paired(list(before), list(before + shift)))
    assert found is not None and alone is not None
    assert (found.clusters, alone.clusters) == (20, 100)
    assert found.test.startswith("sign flips")
    assert found.interval.high - found.interval.low > 2 * (alone.interval.high - alone.interval.low)


def test_no_question_moved_is_no_certainty_but_close() -> None:
    found = difference(ACCURACY, paired([1.0, 0.0] * 500, [1.0, 0.0] * 500))
    assert found is not None and found.p == 1.0
    z2 = 1.959964**2
    assert found.interval.high == pytest.approx(z2 / (1000 + z2), rel=1e-4)
    assert found.interval.low == pytest.approx(-found.interval.high)
    every = difference(ACCURACY, paired([0.0] * 5, [1.0] * 5))
    assert every is not None and every.interval.mean == every.interval.high == 1.0
    assert 0.0 < every.interval.low < 0.7


def test_coverage_of_a_clustered_macro_difference() -> None:
    """The second model is 0.1 better in one stratum and 0.05 worse in the other: 0.025 in the macro average."""
    rng = np.random.default_rng(2)
    videos = np.repeat(range(40), 5)
    strata = rng.integers(2, size=200)
    kind = [str(each) for each in strata]
    metric = Metric("macro", macro=("kind",))
    held, trials = 0, 200
    for trial in range(trials):
        easy = rng.uniform(0.2, 0.8, 40)[videos] + rng.uniform(-0.1, 0.1, 40)[videos]
        before = (rng.random(200) < easy).astype(float)
        after = (rng.random(200) < easy + np.where(strata == 0, 0.1, -0.05)).astype(float)
        found = difference(metric, paired(list(before), list(after), list(map(str, videos)), kind=kind), seed=trial)
        assert found is not None
        held += found.interval.low <= 0.025 <= found.interval.high
    assert 0.92 <= held / trials <= 0.98


def test_the_detectable_difference_is_detected_in_four_of_five_cases() -> None:
    count, moved = 120, 0.2
    error = math.sqrt(moved / count)
    smallest = detectable_difference(Interval(0.0, -1.959964 * error, 1.959964 * error), 1e6)
    assert smallest == pytest.approx(2.801585 * error, rel=1e-4)
    rng = np.random.default_rng(3)
    chances = ((moved - smallest) / 2, 1 - moved, (moved + smallest) / 2)
    trials, seen = 250, 0
    for trial in range(trials):
        change = rng.choice([-1.0, 0.0, 1.0], size=count, p=chances)
        before = np.where(change > 0, 0.0, 1.0)
        found = difference(ACCURACY, paired(list(before), list(before + change)), seed=trial)
        assert found is not None
        seen += found.interval.low > 0
    assert 0.74 <= seen / trials <= 0.86


def test_pairs_know_what_they_leave_out() -> None:
    one = greedy_answers([record(i, 1.0, f"v{i}") for i in (0, 1, 2, 2)])
    two = greedy_answers([record(i, 0.0, f"v{i}") for i in (2, 0, 2, 3)])
    pairs = make_pairs(one, two)
    assert [each.record.sample for each in pairs.before] == ["q0", "q2", "q2"]
    assert (pairs.only_before, pairs.only_after, pairs.same_questions) == (("q1",), ("q3",), False)
    other = greedy_answers([record(0, 0.0, "v0")])
    object.__setattr__(other[0].record, "answer", "B")
    assert make_pairs(one[:1], other).changed == ("q0",)
    assert len(make_pairs(one[:1], other)) == 0
    assert len(make_pairs(one[:1], other, changed=True)) == 1


def test_a_failed_question_is_a_wrong_one_and_flips() -> None:
    first = greedy_answers([record(0, 1.0, "a/v"), record(1, 0.0, "a/w"), record(2, 1.0, "a/w")])
    second = greedy_answers([record(0, None, "b/v"), record(1, 1.0, "b/w"), record(2, 1.0, "b/w")])
    pairs = make_pairs(first, second)
    found = difference(ACCURACY, pairs)
    assert found is not None and (found.clusters, found.gained, found.lost) == (2, 1, 1)
    assert [(flip.before.record.sample, flip.change) for flip in flips(ACCURACY, pairs)] == [("q0", -1.0), ("q1", 1.0)]


def test_corrections_by_hand() -> None:
    values = [0.01, 0.04, 0.03, 0.005]
    assert holm(values) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert benjamini_hochberg(values) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert benjamini_hochberg([0.5, 0.9]) == [0.9, 0.9]
    assert holm([]) == benjamini_hochberg([]) == []


def test_breakdown_is_a_family_of_its_own() -> None:
    before, after = [0.0] * 12 + [1.0] * 12, [1.0] * 12 + [1.0] * 11 + [0.0]
    pairs = paired(before, after, length=["short"] * 12 + ["long"] * 12)
    found = differences_of(Benchmark("small", "1", breakdown=("length",)), pairs)
    assert [(each.facet, each.value) for each in found] == [
        ("", ""),
        ("length", "short"),
        ("length", "long"),
        ("task", "choice"),
    ]
    assert found[0].adjusted == found[0].p == mcnemar_test(12, 1)
    short, long, task = (mcnemar_test(12, 0), mcnemar_test(0, 1), mcnemar_test(12, 1))
    assert [each.adjusted for each in found[1:]] == pytest.approx([3 * short, long, 2 * task])
