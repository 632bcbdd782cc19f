"""The numbers of benchmarks against computations of their own, also with questions drawn several times."""

from itertools import product

import numpy as np
import pytest

from easyvideor1.benchmarks.metrics import Answered, Metric, at_least, f1, has_part, part
from easyvideor1.benchmarks.readers.grouped_scores import group_score, logic_score, relevance_score
from easyvideor1.benchmarks.readers.lectures import AFTER, BEFORE, GAIN_METRICS
from easyvideor1.evaluation.comparison import difference, make_pairs
from easyvideor1.evaluation.metric_intervals import metric_interval
from easyvideor1.records.trajectories import SampleRecord, TrajectoryRecord
from easyvideor1.types import Score


def answer(number, accuracy, *, applicable=True, parts=None, **facets):
    """A question answered with this accuracy; ``None`` is a question without a response."""
    record = SampleRecord(f"q{number}", "multiple_choice", "?", "A", ("A. a", "B. b"), source="src", facets=facets)
    if accuracy is None:
        return Answered(record, None)
    score = Score(accuracy, 0.0, accuracy, parts or {}, applicable=applicable)
    return Answered(record, TrajectoryRecord("A", 1, "stop", score))


@pytest.fixture
def answers():
    """120 questions in 3 domains with 2 to 4 tasks each, of unequal sizes; every ninth failed."""
    rng = np.random.default_rng(5)
    made = []
    for number in range(120):
        domain = rng.choice(["x", "y", "z"], p=[0.6, 0.3, 0.1])
        task = f"{domain}{rng.integers({'x': 4, 'y': 3, 'z': 2}[domain])}"
        accuracy = None if number % 9 == 0 else float(rng.random())
        made.append(answer(number, accuracy, domain=str(domain), task=task, video=str(number // 4)))
    return made


def columns(answers):
    values = np.array([0.0 if one.response is None else one.response.score.accuracy for one in answers])
    facets = {name: np.array([one.record.facets[name] for one in answers]) for name in ("domain", "task", "video")}
    return values, facets


def mean_of_means(values, *labels):
    """Mean over the values of the first label, of the means over those of the second, ..."""
    if not labels:
        return values.mean()
    first, *rest = labels
    inside = [first == name for name in np.unique(first)]
    return np.mean([mean_of_means(values[one], *(label[one] for label in rest)) for one in inside])


@pytest.mark.parametrize("macro", [(), ("domain",), ("task",), ("domain", "task")])
def test_means(answers, macro):
    values, facets = columns(answers)
    found = Metric("m", macro=macro)(answers)
    assert found == pytest.approx(mean_of_means(values, *(facets[name] for name in macro)), abs=1e-12)
    few = {"domain": ("x", "z")}
    kept = np.isin(facets["domain"], few["domain"])
    found = Metric("m", macro=macro, where=few)(answers)
    assert found == pytest.approx(mean_of_means(values[kept], *(facets[name][kept] for name in macro)), abs=1e-12)


@pytest.mark.parametrize("macro", [(), ("domain",), ("domain", "task")])
def test_drawing_items_again_is_repeating_them(answers, macro):
    items = Metric("m", macro=macro).items(answers)
    values, facets = columns(answers)
    weights = np.random.default_rng(1).poisson(0.5, size=(40, len(items))).astype(float)
    weights[0, facets["domain"] == "z"] = 0.0  # a stratum that was not drawn at all
    for drawn, number in zip(weights.astype(int), items.mean(weights), strict=True):
        chosen = np.repeat(np.arange(len(values)), drawn)
        expected = mean_of_means(values[chosen], *(facets[name][chosen] for name in macro))
        assert number == pytest.approx(expected, abs=1e-12)
    assert items.mean()[0] == pytest.approx(items.mean(np.full((1, len(items)), 3.0))[0])
    assert np.isnan(items.mean(np.zeros((1, len(items))))[0])


def test_groups_are_one_item(answers):
    values, facets = columns(answers)
    total = Metric("m", group="video", of_group=lambda group: sum(one.accuracy for one in group), macro=("domain",))
    items = total.items(answers)
    videos = [facets["video"] == str(number) for number in range(30)]
    assert len(items) == 30
    sums = np.array([values[one].sum() for one in videos])
    first = np.array([facets["domain"][one][0] for one in videos])
    assert total(answers) == pytest.approx(mean_of_means(sums, first), abs=1e-12)
    strict = Metric("m", group="video")
    right = [answer(n, accuracy, video=video) for n, (accuracy, video) in enumerate([(1, "a"), (1, "a"), (1, "b")])]
    assert strict(right) == 1.0
    assert strict([*right, answer(4, 0.99, video="b")]) == 0.5
    assert strict([*right, answer(5, None, video="a"), answer(6, 1), answer(7, 0)]) == pytest.approx(2 / 4)


def test_failures_and_zeros_stay_in_the_mean():
    made = [answer(1, 1.0), answer(2, None), answer(3, 0.9, applicable=False), answer(4, 0.0)]
    assert Metric("accuracy")(made) == 0.25
    assert [one.failed for one in made] == [False, True, True, False]


def test_a_threshold_is_reached_by_its_own_value():
    made = [answer(1, 0.5), answer(2, 0.49), answer(3, 0.7), answer(4, None)]
    assert Metric("R@1", at_least(0.5))(made) == 0.5


def test_numbers_that_are_not_there():
    named = [answer(1, 1.0, subject="a"), answer(2, 0.0, subject="b")]
    assert Metric("m", where={"subject": "c"})(named) is None
    assert Metric("m")([]) is None
    assert Metric("m", macro=("subject",))(named) == 0.5
    assert Metric("m", macro=("subject",))([*named, answer(3, 1.0)]) is None, "one question names no subject"
    assert Metric("m", macro=("source",))([*named, answer(3, 1.0)]) == pytest.approx(2 / 3)
    words = {"rouge1": 0.5, "rouge2": 0.1, "rougeL": 0.3}
    judged = [
        answer(1, 0.8, parts={**words, "judge": 0.8}),
        answer(6, 0.45, parts={**words, "judge_right": 0.0}),
        answer(2, 1.0, parts=words),
        answer(3, 0.0),
        answer(4, None),
    ]
    assert Metric("m", judged=True)(judged) == pytest.approx(0.45), "what equals the reference needs no judge"
    assert Metric("m", judged=True)([*judged, answer(5, 0.3, parts=words)]) is None, "nobody judged the fifth"
    assert Metric("m")([*judged, answer(5, 0.3, parts=words)]) == pytest.approx((0.45 * 5 + 0.3) / 6)


def test_a_value_must_be_finite():
    with pytest.raises(ValueError, match="metric m: a value is not finite"):
        Metric("m", lambda one: float("nan"))([answer(1, 1.0)])


#: Points of a hundred by structure and by which of the four questions are right, from the rule of the authors.
POINTS = {
    "[1,2,3,4]": {"0000": 0, "0111": 0, "1011": 6.25, "1101": 25, "1110": 56.25, "1111": 100},
    "[1,[2,3],4]": {"0111": 0, "1000": 100 / 12, "1001": 100 / 12, "1010": 100 / 3, "1011": 100 / 3, "1100": 100 / 3}
    | {"1101": 100 / 3, "1110": 700 / 12, "1111": 100},
    "[[1,2],3,4]": {"0000": 0, "0011": 0, "0100": 10, "0111": 10, "1000": 10, "1011": 10, "1100": 20, "1101": 20}
    | {"1110": 50, "1111": 100},
}


@pytest.mark.parametrize("structure", POINTS)
def test_logic_groups(structure):
    for right, points in POINTS[structure].items():
        flags = [each == "1" for each in right]
        assert 100 * logic_score(flags, structure) == pytest.approx(points), right
        group = [
            answer(at, float(flag), place=str(at + 1), group_type="logic", structure=structure)
            for at, flag in enumerate(flags)
        ]
        assert 100 * group_score(group[::-1]) == pytest.approx(points), "the order of the rows does not matter"
        assert (
            100 * group_score([one for one in group if one.accuracy]) == pytest.approx(points) if any(flags) else True
        )


def test_relevance_groups():
    for right in product([False, True], repeat=4):
        assert 100 * relevance_score(right) == {0: 0, 1: 6.25, 2: 25, 3: 56.25, 4: 100}[sum(right)]
    chance = sum(
        relevance_score(right) * (1 / 8) ** sum(right) * (7 / 8) ** (4 - sum(right))
        for right in product([0, 1], repeat=4)
    )
    assert 100 * chance == pytest.approx(4.3, abs=0.05)


GAIN = GAIN_METRICS[-1]


def lectures(after, before):
    """Questions about lectures, asked after each and alone, with these accuracies."""
    return [
        answer(2 * at + place, value, asked=asked, lecture=str(at))
        for at, pair in enumerate(zip(after, before, strict=True))
        for place, (asked, value) in enumerate(zip((AFTER, BEFORE), pair, strict=True))
    ]


@pytest.mark.parametrize(
    ("after", "before", "gain"),
    [
        ([1, 1, 1, 0], [1, 0, 0, 0], 2 / 3),  # (3/4 - 1/4) / (3/4)
        ([0, 0, 1, None], [1, 1, 0, 0], -0.5),  # (1/4 - 2/4) / (2/4); a failed answer is wrong
        ([1, 1], [1, 1], None),
    ],
)
def test_the_gain_is_the_share_of_what_was_wrong_that_is_mended(after, before, gain):
    found = GAIN(lectures(after, before))
    assert found == (None if gain is None else pytest.approx(gain))
    interval = metric_interval(GAIN, lectures(after, before))
    assert (interval is None) == (gain is None) and (interval is None or interval.low <= gain <= interval.high)


def test_a_lecture_is_resampled_with_both_of_its_answers():
    rng = np.random.default_rng(0)
    before = (rng.random(200) < 0.4).astype(int)
    after = np.where(rng.random(200) < 0.1, 1, before)  # nearly the same questions are right
    made = lectures(after.tolist(), before.tolist())
    together, apart = (
        metric_interval(metric, made) for metric in (GAIN, Metric("g", of=GAIN.of, formula=GAIN.formula))
    )
    assert together.mean == apart.mean and together.high - together.low < 0.5 * (apart.high - apart.low)
    # Another bootstrap, of the pairs, with plain percentiles.
    drawn = rng.integers(200, size=(4000, 200))
    gains = (after[drawn].mean(1) - before[drawn].mean(1)) / (1 - before[drawn].mean(1))
    assert (together.low, together.high) == pytest.approx(np.quantile(gains, (0.025, 0.975)), abs=0.02)
    assert (
        difference(GAIN, make_pairs(made, made)) is None and difference(GAIN.of[0], make_pairs(made, made)) is not None
    )


def test_f1_is_that_of_means_over_the_answers_that_have_a_part():
    precision, recall = (Metric(name, part(name), weight=has_part(name), needs="judged") for name in ("p", "r"))
    metric = Metric("f1", of=(precision, recall), formula=f1)
    made = [{"p": 1.0, "r": 0.5}, {"r": 0.25}, {"p": 0.5, "r": 0.0}]
    answers = [answer(number, 0.0, parts={"judged": 1.0, **parts}) for number, parts in enumerate(made)]
    assert precision(answers) == 0.75 and recall(answers) == 0.25 and metric(answers) == pytest.approx(0.375)
    answers.append(answer(3, None))  # a failed one is 0 in both: precision 1/2, recall 3/16
    assert metric(answers) == pytest.approx(2 * 0.5 * 0.1875 / 0.6875)
    assert metric([*answers, answer(4, 1.0)]) is None, "the steps of this one were not judged"
    assert metric([answer(5, None)]) == 0.0 and metric([]) is None
