"""Collecting ahead, with an engine that answers in any order, draws with the weights that a test says, and dies."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from answering import AnsweringEngine
from easyvideor1.config import StageConfig
from easyvideor1.engines.engine import Request, Result, Sampling, finished, generate
from easyvideor1.rollout.ahead import AheadCollector, AheadOptions
from easyvideor1.rollout.collector import Collected, StepCollector
from easyvideor1.rollout.driver import Draw, Job, Windows
from easyvideor1.rollout.samples import StageMedia
from easyvideor1.rollout.sharing import SharedEngine
from easyvideor1.rollout.staleness import ExpectedLengths
from easyvideor1.training.timings import Timings
from easyvideor1.types import (
    Completion,
    DataError,
    EasyVideoError,
    MediaError,
    Prompt,
    Sample,
    Score,
    Trajectory,
    Turn,
)

STEPS, PROMPTS = 6, 3


class Running(AnsweringEngine):
    """Runs ahead: ``work(n)`` is what happens in the background, ``n`` tokens of every pending request.

    A response has ``length(id)`` tokens, each of the version that drew it, and says its seed.
    """

    runs_ahead = True

    def __init__(self, length: Callable[[str], int] = lambda id: 4, order: random.Random | None = None) -> None:
        super().__init__()
        self.length, self.order = length, order
        self.drawn: dict[int, list[int]] = {}
        self.submitted: list[list[str]] = []
        self.cancelled: list[str] = []
        self.dies_at: int | None = None
        self.known = True

    def submit(self, requests: Sequence[Request]) -> list[int]:
        self.submitted.append([request.id for request in requests])
        return super().submit(requests)

    def cancel(self, tickets: Any) -> None:
        self.cancelled += [self._pending[ticket].id for ticket in tickets if ticket in self._pending]
        super().cancel(tickets)

    def work(self, tokens: int) -> None:
        for ticket, request in self._pending.items():
            drawn = self.drawn.setdefault(ticket, [])
            drawn += [self.version] * min(tokens, self.length(request.id) - len(drawn))

    def results(self) -> Iterator[Result | None]:
        while self._pending:
            if self.dies_at is not None and self.version >= self.dies_at:
                self._pending.clear()
                raise EasyVideoError("the worker was killed")
            done = [t for t, r in self._pending.items() if len(self.drawn.get(t, ())) == self.length(r.id)]
            if not done:
                self.work(1)
                yield None
                continue
            ticket = self.order.choice(done) if self.order else done[0]
            request = self._pending.pop(ticket)
            if request.id.endswith("gone"):
                yield Result(ticket, request, fault=MediaError("gone", path="a.mp4", reason="missing"))
            else:
                yield Result(ticket, request, tuple(self.response(request, ticket, n) for n in range(request.n)))

    def response(self, request: Request, ticket: int, number: int) -> Trajectory:
        versions = np.array(self.drawn[ticket], dtype=np.int64)
        ids = np.arange(len(versions), dtype=np.int64)
        known = self.known and not request.sampling.greedy
        logprobs = np.zeros(len(ids), np.float32) if known else None
        text = f"{request.seed} {number}"
        return Trajectory((Turn(request.prompt, ids, ids >= 0, logprobs, "stop", text, versions),))


class Asking:
    def start(self, sample: Sample) -> Prompt:
        if sample.id.endswith("bad"):
            raise DataError("too long")
        return Prompt(np.array([1]))

    def next(self, sample: Sample, trajectory: Trajectory) -> Prompt | None:
        if len(trajectory.turns) >= int(sample.question):
            return None
        return Prompt(np.concatenate([trajectory.last.prompt.token_ids, trajectory.last.response_ids]))


class Scoring:
    """Scores a response by its number, or all the same for samples whose id ends with ``flat``."""

    at_once = 1

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.scored: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def score_groups(
        self, groups: Sequence[tuple[Sample, Sequence[Completion]]], begun: object = None
    ) -> list[tuple[Score, ...]]:
        self.gate.wait(20)
        self.threads.add(threading.current_thread().name)
        self.scored += [sample.id for sample, _ in groups]
        found = []
        for sample, given in groups:
            if sample.id.endswith("stops"):
                raise KeyboardInterrupt
            if sample.id.endswith("raises"):
                raise DataError(f"no score for {sample.id}")
            values = [0.0 if sample.id.endswith("flat") else float(one.text.split()[-1]) / 10 for one in given]
            found.append(tuple(Score(value, 0.0, value) for value in values))
        return found


class Stage:
    """A stage of ``STEPS`` steps over an engine; ``names(step, round)`` are its samples."""

    def __init__(
        self,
        engine: Running,
        staleness: int = 1,
        *,
        names: Callable[[int, int], Sequence[str]] = lambda step, round_: [f"{step}{c}" for c in "abc"],
        at_update: str = "continue",
        over_sample: bool = False,
        turns: int = 1,
        background: int = 2,
        first: int = 10,
        **options: Any,
    ) -> None:
        self.engine, self.first, self.background = engine, first, background
        self.shared = SharedEngine(engine)
        self.scoring = Scoring()
        self.drawn: list[tuple[int, int]] = []

        def draw(step: int, round_: int) -> list[Sample]:
            self.drawn.append((step, round_))
            return [Sample(name, str(turns), "math", "1") for name in names(step, round_)]

        class Ledger:
            def record(self, *what: str) -> None: ...

        self.collector = AheadCollector(
            StageConfig.model_validate(
                {"name": "rl", "steps": STEPS, "prompts_per_step": PROMPTS, "group_size": 2, **options}
            ),
            Sampling(max_new_tokens=16),
            7,
            family=None,
            engine=self.shared.share(),
            draw=draw,
            strategy=Asking(),
            media=StageMedia("rl", None, Ledger()),  # type: ignore[arg-type]
            scorer=self.scoring,
            overlap=False,
            ahead=AheadOptions(STEPS, first, staleness, at_update, over_sample, corrected=True),
        )
        engine.update_weights(first, ())

    def step(self, step: int) -> Collected:
        """Collect, and update while the engine works."""
        collected = self.collector.collect(step, Timings())
        self.engine.work(self.background)
        with self.collector.updating(Timings()):
            self.engine.update_weights(self.first + step, ())
        return collected

    def run(self, start: int = 1) -> list[Collected]:
        return [self.step(step) for step in range(start, STEPS + 1)]


def ids(collected: Collected) -> list[str]:
    return [group.sample.id for group in collected.groups]


def ages(collected: Collected, version: int) -> list[int]:
    turns = [turn for group in collected.used for each in group.trajectories for turn in each.turns]
    return [version - int(v) for turn in turns for v in turn.versions]  # type: ignore[union-attr]


@pytest.mark.parametrize("staleness", [1, 2, 4])
@pytest.mark.parametrize("at_update", ["finish", "continue", "redraw"])
def test_every_step_trains_on_its_own_samples_within_the_bound(staleness: int, at_update: str) -> None:
    engine = Running(lambda id: 3 + 4 * ("b" in id), random.Random(staleness))
    stage = Stage(engine, staleness, at_update=at_update)
    seen = []
    for step in range(1, STEPS + 1):
        collected = stage.step(step)
        assert ids(collected) == [f"{step}{c}" for c in "abc"], "in the order of steps and of samples"
        found = ages(collected, stage.first + step - 1)
        assert min(found) >= 0 and max(found) <= staleness
        assert collected.metrics["staleness/max"] == max(found)
        assert collected.metrics["staleness/mean"] == pytest.approx(np.mean(found))
        assert collected.metrics["staleness/older_tokens"] == pytest.approx(np.mean(np.array(found) > 0))
        seen += found
    assert max(seen) == staleness
    assert max(Counter(stage.drawn).values()) == 1 and len(stage.drawn) == STEPS, "nothing beyond the last step"
    assert not engine._pending


def test_seeds_are_those_of_synchronous_collecting() -> None:
    ahead = Stage(Running(order=random.Random(0)), 2)
    sync = Stage(Running())
    plain = StepCollector(
        *(ahead.collector.options, ahead.collector.sampling, 7),
        family=None,  # type: ignore[arg-type]
        engine=sync.engine,
        draw=sync.collector.draw,
        strategy=Asking(),
        media=ahead.collector.media,
        scorer=sync.scoring,  # type: ignore[arg-type]
        overlap=False,
    )
    for step, found in enumerate(ahead.run(), 1):
        wanted = plain.collect(step, Timings())
        assert [[one.text for one in group.trajectories] for group in found.used] == [
            [one.text for one in group.trajectories] for group in wanted.used
        ]
        assert found.metrics["groups/rounds"] == wanted.metrics["groups/rounds"] == 1


def test_responses_go_on_with_new_weights_or_are_drawn_again() -> None:
    for at_update in ("finish", "continue", "redraw"):
        engine = Running(lambda id: 9 if id == "2b" else 2)
        stage = Stage(engine, 1, at_update=at_update, background=3)
        stage.step(1)
        second = stage.step(2)
        long = {g.sample.id: g.trajectories[0].last.versions.tolist() for g in second.groups}["2b"]  # type: ignore[union-attr]
        if at_update == "finish":
            assert set(long) == {10} and second.metrics["staleness/straddling"] == 0
        elif at_update == "continue":
            assert set(long) == {10, 11} and second.metrics["staleness/straddling"] == pytest.approx(1 / 3)
        else:
            assert set(long) == {11} and second.metrics["staleness/straddling"] == 0
            assert "2b" in engine.cancelled and "2a" not in engine.cancelled, "what has ended is kept"


def test_a_response_that_is_too_old_is_drawn_again_and_an_engine_that_stays_old_is_named() -> None:
    engine = Running(lambda id: 3 if id[0] == "1" else 9)
    stage = Stage(engine, 1, background=0)
    stage.collector.collect(1, Timings())
    engine.version = 5  # as of a worker that was started again with old weights
    engine.work(2)
    engine.version = 11
    collected = stage.step(2)
    assert collected.metrics["staleness/redrawn"] == 3 and collected.metrics["staleness/max"] == 0
    engine.version = 5
    with pytest.raises(EasyVideoError, match="does not take the weights"):
        for step in (3, 4):
            stage.collector.collect(step, Timings())


@pytest.mark.parametrize(("version", "redrawn"), [(10, 0), (9, 3)])
def test_the_bound_is_exact(version: int, redrawn: int) -> None:
    """Step 2 trains version 11, and its tokens may be one step old."""
    engine = Running(lambda id: 3 if id[0] == "1" else 9)
    stage = Stage(engine, 1, background=0)
    stage.collector.collect(1, Timings())
    engine.version = version
    engine.work(2)
    engine.version = 11
    metrics = stage.collector.collect(2, Timings()).metrics
    assert metrics.get("staleness/redrawn", 0) == redrawn and metrics["staleness/max"] == (0 if redrawn else 1)


def test_what_cannot_be_corrected_or_bounded_is_refused() -> None:
    engine = Running()
    engine.known = False
    with pytest.raises(EasyVideoError, match=r"Running returns no log-probs.*correction: none"):
        Stage(engine).step(1)


def test_further_rounds_are_begun_as_soon_as_they_are_known_to_be_needed() -> None:
    def names(step: int, round_: int) -> list[str]:
        return [f"{step}{round_}{c}{' flat' if round_ == 0 and c != 'a' else ''}" for c in "abc"]

    stage = Stage(Running(), 2, names=names, selection={"generation_rounds": 3}, background=9)
    for step, collected in enumerate(stage.run(), 1):
        assert [group.sample.id for group in collected.used] == [f"{step}0a", f"{step}1a", f"{step}1b"]
        assert collected.metrics["groups/rounds"] == 2 and collected.metrics["groups/surplus"] == 1
    assert Counter(stage.drawn) == {(step, round_): 1 for step in range(1, STEPS + 1) for round_ in (0, 1)}
    early = Stage(Running(), 2, names=names, selection={"generation_rounds": 3}, background=9)
    early.step(1)
    early.collector.settle()
    early.collector.collect(2, Timings())
    assert (3, 1) in early.drawn, "before step 3 is asked for"


def test_strategies_of_several_turns_and_greedy_baselines() -> None:
    stage = Stage(Running(order=random.Random(3)), 2, turns=3, advantage="remax")
    for step, collected in enumerate(stage.run(), 1):
        assert ids(collected) == [f"{step}{c}" for c in "abc"]
        assert all(len(one.turns) == 3 for group in collected.groups for one in group.trajectories)
        assert all(group.baseline == 0.0 for group in collected.groups)


def test_faults_stay_with_their_step() -> None:
    def names(step: int, round_: int) -> list[str]:
        return {2: ["2a", "2gone", "2c"], 4: ["4a", "4raises", "4c"]}.get(step, [f"{step}{c}" for c in "abc"])

    stage = Stage(Running(), 2, names=names)
    stage.step(1)
    second = stage.step(2)
    assert ids(second) == ["2a", "2gone", "2c"] and second.groups[1].trajectories == ()
    stage.step(3)
    with pytest.raises(DataError, match="no score for 4raises"):
        stage.step(4)
    stage.collector.settle()
    assert max(Counter(stage.scoring.scored).values()) == 1, "a reward may cost money"
    stopped = Stage(Running(), 0, over_sample=True, names=lambda step, _: ["a", "b stops", "c"])
    with pytest.raises(KeyboardInterrupt):
        stopped.step(1)
    stopped.collector.settle()
    assert max(Counter(stopped.scoring.scored).values()) == 1
    early = Stage(Running(), 4, names=lambda step, round_: ["x bad"] if step == 3 else ["a", "b", "c"])
    early.step(1)
    early.step(2)
    with pytest.raises(DataError, match="too long"):
        early.step(3)


def test_an_evaluation_on_the_same_engine_gets_its_own_results_and_loses_none() -> None:
    engine = Running(order=random.Random(5))
    stage = Stage(engine, 2)
    sampling = Sampling(max_new_tokens=4)
    for step in range(1, STEPS + 1):
        assert ids(stage.step(step)) == [f"{step}{c}" for c in "abc"]
        other = stage.shared.share()
        found = generate(other, [Request(f"q{n}", Prompt(np.array([1])), 1, sampling, n) for n in range(4)])
        assert [one.text for (one,) in found] == ["0 0", "1 0", "2 0", "3 0"]
        assert list(finished(other)) == [] and other.version == engine.version
    assert not engine._pending


def test_an_engine_that_dies_is_told_to_all_that_wait_for_it() -> None:
    stage = Stage(Running(lambda id: 3 if id[0] == "1" else 9), 1, background=0)
    stage.step(1)
    stage.engine.dies_at = 11
    with pytest.raises(EasyVideoError, match="was killed"):
        generate(stage.shared.share(), [Request("q", Prompt(np.array([1])), 1, Sampling(), 0)])
    stage.engine.dies_at = None
    with pytest.raises(EasyVideoError, match="was killed"):
        stage.step(2)


def test_an_engine_that_takes_no_requests_is_told_at_once() -> None:
    class Gone(Running):
        def submit(self, requests: Sequence[Request]) -> list[int]:
            if requests[0].id.startswith("3"):
                raise EasyVideoError("the worker is gone")
            return super().submit(requests)

    with pytest.raises(EasyVideoError, match="is gone"):
        Stage(Gone(), 2).step(1)


def test_scoring_goes_on_while_the_engine_works_and_can_be_waited_for() -> None:
    stage = Stage(Running(lambda id: 2 if id[0] == "1" else 9), 1)
    stage.collector.collect(1, Timings())
    stage.scoring.gate.clear()
    stage.engine.work(20)
    with stage.collector.updating(Timings()):
        stage.engine.update_weights(stage.first + 1, ())
    assert stage.engine._pending == {}, "what has ended is taken before the update, and scored meanwhile"
    done: list[Collected] = []
    thread = threading.Thread(target=lambda: done.append(stage.step(2)))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive() and not done
    stage.scoring.gate.set()
    thread.join(20)
    assert ids(done[0]) == ["2a", "2b", "2c"]
    stage.collector.settle()
    assert stage.scoring.threads == {"score ahead"}


@pytest.mark.parametrize("staleness", [0, 1])
def test_over_sampling_trains_on_the_first_complete_groups_and_cancels_the_rest(staleness: int) -> None:
    engine = Running(lambda id: 8 if id[-1] == "b" else 3)
    stage = Stage(engine, staleness, over_sample=True, names=lambda step, _: [f"{step}{c}" for c in "abcd"])
    for step, collected in enumerate(stage.run(), 1):
        assert [group.sample.id for group in collected.used] == [f"{step}{c}" for c in "acd"]
        assert collected.groups == collected.used and collected.metrics["groups/cut"] == 1
        assert ("staleness/max" in collected.metrics) == (staleness > 0)
    assert engine.cancelled == [f"{step}b" for step in range(1, STEPS + 1)] and not engine._pending


def test_over_sampling_counts_groups_that_can_be_trained_on() -> None:
    names = ["a flat", "b", "c", "d", "e"]
    stage = Stage(Running(), 0, over_sample=True, names=lambda step, _: names)
    collected = stage.step(1)
    assert ids(collected) == ["a flat", "b", "c", "d"] and [g.sample.id for g in collected.used] == ["b", "c", "d"]
    few = Stage(Running(), 0, over_sample=True, names=lambda step, _: ["a flat", "b flat", "c", "d"]).step(1)
    assert len(few.used) == 2 and few.metrics["groups/cut"] == 0


def test_over_sampling_leaves_out_what_is_complete_and_came_later() -> None:
    stage = Stage(Running(), 1, over_sample=True, names=lambda step, _: [f"{step}{c}" for c in "abcde"], background=9)
    for step, collected in enumerate(stage.run(), 1):
        assert ids(collected) == [f"{step}{c}" for c in "abc"] and collected.metrics["groups/cut"] == 2


def test_a_window_goes_on_without_jobs_that_are_cancelled() -> None:
    engine = Running(lambda id: 9 if id == "c" else 2)
    windows = Windows(engine, Asking())
    jobs = [Job(Sample(name, "2", "math", "1"), (Draw(1, Sampling(max_new_tokens=16), 0),)) for name in "abc"]
    assert list(windows.begin(enumerate(jobs))) == []
    first = [result for _, result in zip("ab", finished(engine), strict=False)]
    assert [result.request.id for result in first] == ["a", "b"]
    assert [outcome for result in first for outcome in windows.take(result)] == [], "their next turns wait for c"
    windows.cancel([0, 2])
    assert engine.submitted[1:] == [["b"]] and engine.cancelled == ["c"] and windows.count == 1
    outcomes = [outcome for result in finished(engine) for outcome in windows.take(result)]
    assert [outcome.position for outcome in outcomes] == [1] and windows.count == 0


def test_what_has_arrived_at_a_share_is_dropped_when_it_is_cancelled() -> None:
    shared = SharedEngine(Running())
    one, other = shared.share(), shared.share()
    request = Request("q", Prompt(np.array([1])), 1, Sampling(), 0)
    tickets = one.submit([request, request])
    generate(other, [request])
    one.cancel(tickets[:1])
    assert [result.ticket for result in finished(one)] == tickets[1:]


def test_the_longest_response_of_a_request_counts() -> None:
    lengths, sample = ExpectedLengths(), Sample("a", "1", "math", "1")
    ids_of = [np.arange(count) for count in (2, 9, 4)]
    turns = [Turn(Prompt(np.array([1])), each, each >= 0, None, "stop", "x") for each in ids_of]
    lengths.note(sample, [Trajectory((turn,)) for turn in turns])
    assert lengths.expected(sample) == 9


def test_what_took_long_before_is_submitted_first() -> None:
    engine = Running(lambda id: {"a": 2, "b": 5, "c": 9}[id])
    stage = Stage(engine, 1, names=lambda step, round_: "abc")
    stage.run()
    assert engine.submitted[0] == ["a", "b", "c"] and engine.submitted[-1] == ["c", "b", "a"]
