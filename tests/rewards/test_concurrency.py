"""Comparisons of a step that are under way before they are asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from easyvideor1.config import RewardConfig
from easyvideor1.rewards import Scorer
from easyvideor1.rewards.concurrency import OUT_OF_TIME, ActiveWork, Comparisons
from easyvideor1.types import Completion, Sample, Score

SAMPLE = Sample("m", "What is 3 + 4?", "math", "7")
RIGHT, WRONG = Completion("<answer>7</answer>"), Completion("<answer>8</answer>")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def counted(times: list[str]) -> Callable[[Sample, Sequence[Completion]], list[Callable[[], Score]]]:
    def one(completion: Completion) -> Score:
        times.append(completion.text)
        return Score(1.0, 1.0, 1.0, parsed=completion.text)

    return lambda sample, completions: [lambda each=each: one(each) for each in completions]  # type: ignore[misc]


def test_what_began_ahead_is_not_begun_again(pool: ThreadPoolExecutor) -> None:
    times: list[str] = []
    comparisons = Comparisons(pool, counted(times), None)
    comparisons.begin(3, SAMPLE, [RIGHT])
    comparisons.limit()
    found = comparisons.begin(3, SAMPLE, [RIGHT, WRONG])
    assert [future.result().parsed for future in found] == [RIGHT.text, WRONG.text]
    assert sorted(times) == [RIGHT.text, WRONG.text]


def test_what_began_of_other_responses_is_given_up() -> None:
    scorer = Scorer(RewardConfig(workers=2))
    begun = scorer.comparisons()
    begun.begin(0, SAMPLE, [RIGHT, RIGHT])
    assert [score.accuracy for score in scorer.score_groups([(SAMPLE, [WRONG, RIGHT])], begun)[0]] == [0.0, 1.0]


def test_the_limit_runs_from_when_somebody_waits() -> None:
    gate = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(gate.wait)
        times: list[str] = []
        comparisons = Comparisons(pool, counted(times), 0.05)
        (late,) = comparisons.begin(0, SAMPLE, [RIGHT])
        comparisons.limit()
        time.sleep(0.1)
        gate.set()
        assert late.result().reason == OUT_OF_TIME
    assert not times


def test_what_has_not_begun_is_given_up() -> None:
    gate = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(gate.wait)
        comparisons = Comparisons(pool, counted([]), None)
        futures = comparisons.begin(0, SAMPLE, [RIGHT, WRONG])
        comparisons.cancel()
        gate.set()
    assert all(future.cancelled() for future in futures)


def test_scores_are_the_same_whether_they_began_ahead_or_not() -> None:
    groups = [(SAMPLE, [RIGHT, WRONG, RIGHT]), (Sample("b", "Is it?", "boolean", "yes"), [Completion("Yes")])]
    scorer = Scorer(RewardConfig(workers=2))
    begun = scorer.comparisons()
    for position, (sample, given) in enumerate(groups):
        begun.begin(position, sample, given[:2])
    assert scorer.score_groups(groups, begun) == scorer.score_groups(groups)
    assert [score.accuracy for score in scorer.score_groups(groups)[0]] == [1.0, 0.0, 1.0]


def test_what_takes_longest_is_named() -> None:
    doing = ActiveWork()
    assert doing.words() == ""
    with doing("the first"):
        with doing("what is inside"):
            assert doing.words() == "what is inside"
        with ThreadPoolExecutor(1) as pool, doing("again"):
            inside = threading.Event()

            def other() -> None:
                with doing("later"):
                    inside.set()
                    assert doing.words() == "again"

            pool.submit(other).result()
            assert inside.is_set()
        assert doing.words() == "the first"
    assert doing.words() == ""
