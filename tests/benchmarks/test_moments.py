"""Average precision of ranked windows, against an independent computation of the authors' definition."""

from __future__ import annotations

import random

import numpy as np
import pytest

from easyvideor1.benchmarks.readers.moments import MOST_WINDOWS, average_precision, moment_parts, rank_moments
from easyvideor1.config.schema import RewardConfig
from easyvideor1.types import Completion, Sample


def voc_2011(predicted, gold, threshold):
    """The area below the envelope of precision over recall, swept by recall: no code is shared with ours."""
    taken = np.zeros(len(gold), dtype=bool)
    right = np.zeros(len(predicted))
    for at, (start, end) in enumerate(predicted):
        common = np.array([max(0.0, min(end, g[1]) - max(start, g[0])) for g in gold])
        ious = common / np.array([max(end, g[1]) - min(start, g[0]) for g in gold])
        for place in np.argsort(ious)[::-1]:
            if ious[place] < threshold:
                break
            if not taken[place]:
                taken[place] = right[at] = True
                break
    recall = np.cumsum(right) / len(gold)
    precision = np.cumsum(right) / np.arange(1, len(predicted) + 1)
    area, before = 0.0, 0.0
    for level in np.unique(recall[recall > 0]):
        area += (level - before) * precision[recall >= level].max()
        before = level
    return area


def windows(draw, count):
    starts = [draw.uniform(0, 140) for _ in range(count)]
    return [(start, start + draw.uniform(0.5, 60)) for start in starts]


def test_average_precision_is_that_of_detection():
    draw = random.Random(3)
    seen = set()
    for _ in range(400):
        gold = windows(draw, draw.randint(1, 6))
        near = [(max(0, start + draw.gauss(0, 2)), end + draw.gauss(2, 2)) for start, end in gold * draw.randint(0, 2)]
        predicted = near + windows(draw, draw.randint(0 if near else 1, 4))
        draw.shuffle(predicted)
        for threshold in (0.5, 0.7, 0.95):
            found = average_precision(predicted, gold, threshold)
            assert found == pytest.approx(voc_2011(predicted, gold, threshold), abs=1e-12)
            seen.add(round(found, 3))
    assert len(seen) > 50, "the windows of the test are too easy"


def test_a_window_takes_one_gold_window_and_only_ten_count():
    gold = [(0.0, 10.0), (20.0, 30.0)]
    assert average_precision([(0, 10), (0, 10), (20, 30)], gold, 0.5) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision([], gold, 0.5) == 0.0
    far = [(100.0 + at, 101.0 + at) for at in range(MOST_WINDOWS)]
    assert moment_parts([*far, *gold], gold)["AP"] == 0.0
    assert moment_parts([*far[1:], *gold], gold)["AP"] == pytest.approx(0.5 / 10)


def test_lengths_count_the_gold_windows_of_their_own():
    parts = moment_parts([(0, 10), (20, 50)], [(0, 10), (20, 50), (60, 150)])
    assert (parts["AP short"], parts["AP middle"], parts["AP long"]) == (1.0, 0.5, 0.0)
    assert set(moment_parts([(0, 10)], [(0, 10)])) == {"AP", "AP 0.5", "AP 0.75", "AP short"}


def test_the_first_window_decides_the_accuracy_and_the_grammar_is_that_of_the_run():
    score = rank_moments(RewardConfig(grammar="think-answer"))
    sample = Sample(
        "1", "A girl cooks.", "temporal_grounding", '{"time": [[0, 10], [50, 100]]}', extra={"duration": 150.0}
    )
    found = score(sample, Completion('<think>Hm.</think><answer>{"time": [[50, 90], [0, 10]]}</answer>', "stop"))
    assert (found.accuracy, found.format) == (0.8, 1.0)
    bare = score(sample, Completion('<answer>{"time": [[0, 10], [50, 100]]}</answer>', "stop"))
    assert (bare.accuracy, bare.parts["AP"], bare.format) == (1.0, 1.0, 0.5)
