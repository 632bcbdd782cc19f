"""Collecting ahead: groups of later steps are generated while the policy is updated.

The samples of step ``k + 1 .. k + max_staleness`` are submitted before step ``k`` is updated. The engine generates them
in the background, and takes new weights in the middle of their responses. Steps are trained in their order, each once,
on the same samples as without this, so that a run is complete.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from easyvideor1.algorithms.selection import needs_more
from easyvideor1.engines.engine import Result, class_name, contract_error
from easyvideor1.rollout.background_scoring import BackgroundScoring
from easyvideor1.rollout.collector import Collected, StepCollector, Timed
from easyvideor1.rollout.driver import Job, Outcome, Windows
from easyvideor1.rollout.requests import OnlineRound
from easyvideor1.rollout.staleness import Ages, ExpectedLengths
from easyvideor1.types import EasyVideoError, Group


@dataclass(frozen=True, slots=True)
class AheadOptions:
    """How far ahead, and what becomes of responses under way; as in ``config.RolloutConfig``.

    ``steps`` are those of the stage, and ``first`` those of the run before it: weights after step ``s`` of the stage
    have the version ``first + s``, and step ``s`` updates the version ``first + s - 1``. With ``corrected``, every
    token of the policy needs the engine's log-prob.
    """

    steps: int
    first: int
    max_staleness: int
    at_update: Literal["finish", "continue", "redraw"]
    over_sample: bool
    corrected: bool


@dataclass(slots=True, eq=False)
class _Round:
    """A round under way. ``open`` are the jobs without an outcome, ``done`` the others in the order they came."""

    number: int
    asked: OnlineRound
    open: set[int]
    done: list[int] = field(default_factory=list)
    scores: dict[int, Future[Group]] = field(default_factory=dict)
    redrawn: set[int] = field(default_factory=set)

    @property
    def size(self) -> int:
        return len(self.asked.samples)

    def complete(self) -> list[int]:
        """The samples whose group, and greedy response if there is to be one, are there, in the order they came."""
        if not self.asked.baselines:
            return self.done
        seen: set[int] = set()
        places = []
        for index in self.done:
            place = index % self.size
            other = index + self.size if index == place else place
            if other in seen:
                places.append(place)
            seen.add(index)
        return places


@dataclass(slots=True, eq=False)
class _Step:
    """A step under way: its rounds, the last of which may be unfinished, and what the finished ones gave."""

    number: int
    counts: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    rounds: int = 0
    current: _Round | None = None
    groups: list[Group] = field(default_factory=list)
    used: list[Group] = field(default_factory=list)
    error: Exception | None = None


class AheadCollector(StepCollector):
    """Generates up to ``max_staleness`` steps ahead of training, and scores groups as they come.

    The engine must have weights of its own. It may be shared with others (``rollout.sharing``); nothing else uses it
    through the same share.

    - **Bound.** A token is ``v - w`` steps old if weights of version ``w`` drew it and its step updates version ``v``.
      Nothing is submitted that could become older than ``max_staleness``. A response that has an older token even so is
      drawn again; if the engine still draws with old weights, that is an error.
    - **Updates.** ``updating`` surrounds an update. Under ``finish`` it waits for the responses of the next step, which
      are wanted next in any case. Other responses under way go on with the new weights, or under ``redraw`` their
      requests are submitted again, and what was drawn of them is lost.
    - **Over-sampling.** With ``over_sample`` a round ends when the first groups to be complete suffice; what is not
      complete then is cancelled, and what is complete but comes after them is left out.
    - **Order.** Requests of one window are submitted by the length that is expected of their responses, long ones
      first, if later steps are submitted ahead.
    - Errors in a later step's samples, prompts or scores are raised when that step comes.
    """

    def __init__(self, *args: Any, ahead: AheadOptions, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ahead = ahead
        self.runs_ahead = ahead.max_staleness > 0
        self.lengths = ExpectedLengths()
        self._windows = Windows(self.engine, self.strategy)
        self._scoring = BackgroundScoring(self.scorer.score_groups, self.scorer.at_once)
        self._steps: dict[int, _Step] = {}
        self._places: dict[int, tuple[_Step, _Round, int]] = {}
        self._positions = 0

    def collect(self, step: int, timings: Timed) -> Collected:
        """See ``Collector``; steps come in ascending order.

        Raises:
            EasyVideoError: the engine fails, breaks its contract, or gives no log-probs or versions where they are
                needed.
        """
        for number in range(step, min(step + self.ahead.max_staleness, self.ahead.steps) + 1):
            if number not in self._steps:
                self._steps[number] = _Step(number)
                self._begin(self._steps[number], timings)
        wanted = self._steps[step]
        while not self._advance(wanted, timings):
            assert wanted.current is not None
            if self._needs_responses(wanted, wanted.current):
                with timings("rollout"):
                    self._take_results(wanted, wanted.current)
            else:  # nothing but scores is missing; the engine goes on by itself
                with timings("score"):
                    _wait(wanted.current)
        if wanted.error is not None:
            raise wanted.error
        del self._steps[step]
        if self._steps:
            with timings("rollout"):
                self._drain()
            for later in self._steps.values():
                self._advance(later, timings)
        else:
            self.settle()  # what over-sampling left out may still be scored
        collected = self._collected(wanted.groups, wanted.used, wanted.rounds, wanted.counts)
        if self.runs_ahead:
            collected.metrics.update(Ages.of(collected.used, self._trained_version(step)).metrics())
        return collected

    @contextmanager
    def updating(self, timings: Timed) -> Iterator[None]:
        """See ``Collector``. Under ``redraw``, what has arrived already is kept."""
        with timings("rollout"):
            self._drain()
            if self.ahead.at_update == "finish" and self._steps:
                following = self._steps[min(self._steps)]
                while following.current is not None and self._needs_responses(following, following.current):
                    self._take_results(following, following.current)
        yield
        if self.ahead.at_update == "redraw":
            self._windows.renew()

    def settle(self) -> None:
        """See ``Collector``."""
        self._scoring.wait()

    def close(self) -> None:
        """See ``Collector``: what waits for its scores is left, for scoring it may cost money, or start processes."""
        self._scoring.close()

    def _trained_version(self, step: int) -> int:
        """The version of the weights that a step updates."""
        return self.ahead.first + step - 1

    def _begin(self, step: _Step, timings: Timed) -> None:
        """Submit the next round of a step.

        An error in its samples or prompts is kept for when the step is collected; one of the engine is raised now.
        """
        number = step.rounds
        step.rounds += 1
        jobs: dict[int, Job] = {}
        with _kept_for(step):
            with timings("sample"):
                samples = self.draw(step.number, number)
            with timings("rollout"):
                prompts = self._prompts(samples)
                asked = OnlineRound.of(
                    *(samples, prompts),
                    sampling=self.sampling,
                    group_size=self.options.group_size,
                    seed=self._seeds(step.number, number),
                    offline=self._placed(samples, prompts, step.number, number, step.counts),
                    baselines=self.baselines,
                )
                count = len(samples) * (2 if asked.baselines else 1)
                step.current = _Round(number, asked, set(asked.jobs))
                for index in range(count):
                    if index not in asked.jobs:
                        self._done(step, step.current, index)
                order = list(asked.jobs)
                if self.runs_ahead:
                    order = self.lengths.long_first(order, lambda index: asked.jobs[index].sample)
                jobs = {index: asked.jobs[index] for index in order}
        step.counts["groups/visual_mismatch"] += self._mismatches()
        if step.current is not None and jobs:
            with timings("rollout"):
                self._submit(step, step.current, jobs)

    def _submit(self, step: _Step, round_: _Round, jobs: dict[int, Job]) -> None:
        window = []
        for index, job in jobs.items():
            self._places[self._positions] = (step, round_, index)
            window.append((self._positions, job))
            self._positions += 1
        for outcome in self._windows.begin(window):
            self._arrived(outcome)

    def _take_results(self, step: _Step, round_: _Round) -> None:
        """Take what the engine says, at least once, until a round may have enough."""
        missing = self.options.prompts_per_step - len(step.used)
        for result in self.engine.results():
            if result is not None:
                self._take(result)
            enough = self.ahead.over_sample and len(round_.complete()) >= missing
            if enough or step.error is not None or not round_.open:
                return
        raise contract_error(self.engine, f"left {len(round_.open)} requests without a result")

    def _drain(self) -> None:
        """Take what has finished for later steps, so that it is scored while the policy is updated."""
        if self._windows.tickets:
            for result in self.engine.arrived():  # type: ignore[attr-defined]  # a share has it
                self._take(result)

    def _take(self, result: Result) -> None:
        for outcome in self._windows.take(result):
            self._arrived(outcome)

    def _arrived(self, outcome: Outcome) -> None:
        """Note what has become of a job, and have it scored."""
        step, round_, index = self._places.pop(outcome.position)
        again = False
        with _kept_for(step):
            if round_.asked.take(index, outcome, self.media.failed):
                again = self._too_old(step, round_, index)
                if not again:
                    self.lengths.note(outcome.sample, outcome.trajectories)
        step.counts["groups/visual_mismatch"] += self._mismatches()
        if again:
            self._submit(step, round_, {index: round_.asked.jobs[index]})
        else:
            self._done(step, round_, index)

    def _too_old(self, step: _Step, round_: _Round, index: int) -> bool:
        """Whether trajectories are older than allowed, and must be drawn again; they are dropped then.

        Raises:
            EasyVideoError: versions or log-probs are missing, or the engine draws with old weights.
        """
        if not self.runs_ahead:
            return False
        ages = Ages.of([round_.asked.group(index)], self._trained_version(step.number))
        ages.require(class_name(self.engine), logprobs=self.ahead.corrected and index < round_.size)
        if ages.largest <= self.ahead.max_staleness:
            return False
        if index in round_.redrawn:
            raise EasyVideoError(
                f"step {step.number}: a response was drawn again because it was {ages.largest} steps old, and the "
                f"engine still used weights that are older than rollout.max_staleness "
                f"({self.ahead.max_staleness}) allows; it does not take the weights that it is given"
            )
        round_.redrawn.add(index)
        del round_.asked.found[index]
        step.counts["staleness/redrawn"] += 1
        return True

    def _done(self, step: _Step, round_: _Round, index: int) -> None:
        round_.open.discard(index)
        round_.done.append(index)
        round_.scores[index] = self._scoring.begin(round_.asked.group(index), step.number)

    def _advance(self, step: _Step, timings: Timed) -> bool:
        """Finish the rounds of a step that are complete, and begin the next ones.

        Returns whether the step has all that it gets, or an error.
        """
        options = self.options
        while step.error is None and (round_ := step.current) is not None:
            kept = None
            with _kept_for(step):
                kept = self._enough(step, round_)
            if kept is None:
                break
            self._cancel_rest(step, round_, kept)
            step.current = None
            with _kept_for(step):
                self._finish(step, round_, kept, timings)
            rounds = options.selection.generation_rounds
            if step.error is None and needs_more(len(step.used), options.prompts_per_step, step.rounds, rounds):
                self._begin(step, timings)
        return step.error is not None or step.current is None

    def _needs_responses(self, step: _Step, round_: _Round) -> bool:
        """Whether a round waits for the engine, not only for scores that may turn out to suffice."""
        complete = round_.complete()
        missing = self.options.prompts_per_step - len(step.used)
        scored = all(round_.scores[place].done() for place in complete)
        suffices = self.ahead.over_sample and len(complete) >= missing
        return bool(round_.open) and (scored or not suffices)

    def _enough(self, step: _Step, round_: _Round) -> list[int] | None:
        """The samples whose groups end the round, in the order of samples; ``None`` if more has to come.

        With over-sampling these are the first to be complete that suffice: only the order in which responses end
        matters, not how fast they are scored.
        """
        complete = round_.complete()
        if self.ahead.over_sample:
            missing, found = self.options.prompts_per_step - len(step.used), 0
            for count, place in enumerate(complete, 1):
                if not round_.scores[place].done():
                    return None
                found += len(self.select([round_.scores[place].result()]))
                if found == missing:
                    return sorted(complete[:count])
        if round_.open or not all(future.done() for future in round_.scores.values()):
            return None
        return sorted(complete)

    def _cancel_rest(self, step: _Step, round_: _Round, kept: list[int]) -> None:
        """Cancel what a round does not keep: responses that are under way, and scores that have not begun."""
        cut = [position for position, (_, other, _) in self._places.items() if other is round_]
        if cut:
            self._windows.cancel(cut)
        for position in cut:
            del self._places[position]
        for index, future in round_.scores.items():
            if index % round_.size not in kept:
                future.cancel()
        if self.ahead.over_sample:
            step.counts["groups/cut"] += float(round_.size - len(kept))

    def _finish(self, step: _Step, round_: _Round, kept: list[int], timings: Timed) -> None:
        """Add the scored groups of a round to those of its step."""
        with timings("score"):
            groups = [round_.scores[place].result() for place in kept]
            greedy = [round_.scores[place + round_.size].result() for place in kept] if round_.asked.baselines else []
            scored = self._with_baselines(groups, greedy)
            scored = self._hybrid_below(scored, step.number, round_.number, step.counts)
        step.groups += scored
        step.used += self.select(scored)

    def _score_again(self, groups: list[Group]) -> list[Group]:
        """See ``StepCollector``. The thread scores them, for it may be scoring others."""
        return [future.result() for future in [self._scoring.begin(group) for group in groups]]


@contextmanager
def _kept_for(step: _Step) -> Iterator[None]:
    """An error in the work for a step is raised when the step is collected."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - see above
        step.error = step.error or error


def _wait(round_: _Round) -> None:
    """Wait for one score that is not there yet; its error is raised when it is read."""
    for future in round_.scores.values():
        if not future.done():
            future.exception()
            return
