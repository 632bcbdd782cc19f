"""The driver: windows, faults, turns and broken engines, with an engine that answers in the worst order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from answering import AnsweringEngine
from easyvideor1.engines.engine import Request, Result, Sampling, finished
from easyvideor1.rollout.driver import Draw, Job, Outcome, drive
from easyvideor1.types import DataError, EasyVideoError, MediaError, Prompt, Sample, Trajectory, Turn


class Backwards(AnsweringEngine):
    """Answers what was submitted last first; a response repeats its seed as ``n`` numbers. Seed 13 is unreadable."""

    def __init__(self) -> None:
        super().__init__()
        self.submitted: list[list[Request]] = []

    def submit(self, requests: Sequence[Request]) -> list[int]:
        self.submitted.append(list(requests))
        return super().submit(requests)

    def results(self) -> Iterator[Result]:
        while self._pending:
            self._pending = dict(reversed(self._pending.items()))
            yield next(super().results())

    def answer(self, request: Request) -> list[Trajectory]:
        if request.seed == 13:
            raise MediaError("gone", path="a.mp4", reason="missing")
        return [Trajectory((turn(request.prompt, request.seed % 1000 + n),)) for n in range(request.n)]


def turn(prompt: Prompt, number: int) -> Turn:
    ids = np.array([number, 2], dtype=np.int64)
    return Turn(prompt, ids, np.ones(2, dtype=bool), None, "stop", str(number))


class Turns:
    """``question`` turns for each sample; a sample ``bad`` cannot be asked, one ``odd`` fails after its first turn."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def start(self, sample: Sample) -> Prompt:
        self.started.append(sample.id)
        if sample.id == "bad":
            raise DataError("too long")
        return Prompt(np.array([1]))

    def next(self, sample: Sample, trajectory: Trajectory) -> Prompt | None:
        if sample.id == "odd":
            raise DataError("no second turn")
        if len(trajectory.turns) >= int(sample.question):
            return None
        return Prompt(np.concatenate([trajectory.last.prompt.token_ids, trajectory.last.response_ids]))


def job(name: str, *seeds: int, turns: int = 1, n: int = 2) -> Job:
    draws = tuple(Draw(n, Sampling(max_new_tokens=4), seed) for seed in seeds)
    return Job(Sample(name, str(turns), "math", "1"), draws)


def by_position(outcomes: Iterator[Outcome]) -> list[Outcome]:
    return sorted(outcomes, key=lambda outcome: outcome.position)


def texts(outcome: Outcome) -> list[list[str]]:
    return [[each.text for each in draw] for draw in outcome.draws if not isinstance(draw, EasyVideoError)]


def test_every_job_comes_back_with_its_draws_in_order() -> None:
    engine = Backwards()
    seen = list(drive(engine, [job("a", 10, 20), job("b", 30)], Turns()))
    assert [outcome.sample.id for outcome in seen] == ["b", "a"], "as soon as each is there"
    assert [texts(outcome) for outcome in by_position(iter(seen))] == [[["10", "11"], ["20", "21"]], [["30", "31"]]]
    assert all(outcome.fault is None and outcome.prompt is not None for outcome in seen)
    assert [[request.seed for request in window] for window in engine.submitted] == [[10, 20, 30]]


def test_faults_are_of_one_sample_alone() -> None:
    outcomes = by_position(drive(Backwards(), [job("a", 10), job("bad", 1), job("b", 13, 20), job("odd", 5)], Turns()))
    assert [type(outcome.fault) for outcome in outcomes] == [type(None), DataError, MediaError, DataError]
    assert outcomes[1].prompt is None and outcomes[1].trajectories == ()
    assert texts(outcomes[2]) == [["20", "21"]], "the other draw of the sample is kept"
    assert isinstance(outcomes[2].draws[0], MediaError)


def test_windows_begin_when_there_is_room() -> None:
    engine, strategy = Backwards(), Turns()
    outcomes = drive(engine, (job(name, ord(name)) for name in "abcde"), strategy, window=2)
    assert next(outcomes).sample.id == "b" and strategy.started == ["a", "b"], "prompts are made window by window"
    assert [outcome.sample.id for outcome in outcomes] == ["a", "d", "c", "e"]
    assert [len(window) for window in engine.submitted] == [2, 2, 1]
    engine = Backwards()
    list(drive(engine, [job(name, ord(name)) for name in "abcde"], Turns(), window=1, windows=3))
    assert [window[0].id for window in engine.submitted] == list("abcde")


def test_further_turns_of_a_window_are_submitted_together() -> None:
    engine = Backwards()
    jobs = [job("a", 10, turns=3), job("b", 20, turns=1), job("c", 30, turns=2, n=1)]
    outcomes = by_position(drive(engine, jobs, Turns(), window=3))
    assert [[len(each.turns) for each in outcome.trajectories] for outcome in outcomes] == [[3, 3], [1, 1], [2]]
    assert [[(request.id, request.n) for request in window] for window in engine.submitted] == [
        [("a", 2), ("b", 2), ("c", 1)],
        [("a", 1), ("a", 1), ("c", 1)],
        [("a", 1), ("a", 1)],
    ], "in the order of samples and trajectories, whichever ended first"
    seeds = [request.seed for window in engine.submitted for request in window]
    assert len(set(seeds)) == len(seeds)
    first = outcomes[0].trajectories[0]
    for before, after in zip(first.turns, first.turns[1:], strict=False):
        whole = [*before.prompt.token_ids.tolist(), *before.response_ids.tolist()]
        assert after.prompt.token_ids.tolist() == whole
    again = by_position(drive(Backwards(), [job("x", 99), jobs[0]], Turns(), window=1))
    assert texts(again[1]) == texts(outcomes[0]), "turns do not depend on what else is asked"


def test_who_stops_listening_leaves_nothing_pending() -> None:
    engine = Backwards()
    outcomes = drive(engine, [job("a", 1), job("b", 2)], Turns())
    next(outcomes)
    outcomes.close()
    assert list(finished(engine)) == []


@pytest.mark.parametrize("fault", ["forgets", "repeats", "too few", "tickets"])
def test_an_engine_that_breaks_its_contract_is_named(fault: str) -> None:
    class Broken(Backwards):
        def submit(self, requests: Sequence[Request]) -> list[int]:
            return super().submit(requests)[: 1 if fault == "tickets" else None]

        def results(self) -> Iterator[Result]:
            for result in super().results():
                if fault == "too few":
                    yield Result(result.ticket, result.request, result.trajectories[:1])
                elif fault == "repeats":
                    yield from (result, result)
                elif result.ticket:
                    yield result

    with pytest.raises(EasyVideoError, match=r"engine Broken .*one result for each request"):
        list(drive(Broken(), [job("a", 1), job("b", 2)], Turns()))


def test_nothing_asked_is_nothing_answered() -> None:
    assert list(drive(Backwards(), [], Turns())) == []
    (outcome,) = drive(Backwards(), [job("a")], Turns())
    assert outcome.draws == () and outcome.fault is None
