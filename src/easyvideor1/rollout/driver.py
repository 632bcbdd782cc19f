"""The one driver of requests: training, evaluation and curation ask engines through it.

``Windows`` submits the first turns of some samples as one window, hands every result to the strategy, and submits the
next turns of that window together once its present turns are done. So what an engine batches together depends on the
samples alone, never on which response ended first. ``drive`` does so for a list of jobs, from begin to end; whoever has
windows under way while other things happen (``rollout/ahead.py``) uses ``Windows`` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from easyvideor1.engines.engine import Engine, Request, Result, Sampling, contract_error
from easyvideor1.rollout.strategies import Strategy, turn_limit
from easyvideor1.seeds import derive_seed
from easyvideor1.types import EasyVideoError, Prompt, Sample, Trajectory


@dataclass(frozen=True, slots=True)
class Draw:
    """``n`` trajectories drawn in one way. ``seed`` is that of the first turn; further turns derive theirs from it."""

    n: int
    sampling: Sampling
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A sample and the draws that are wanted of it.

    Without a ``prompt`` the strategy starts the sample when its window begins, so that a long list of jobs, or a
    generator of them, holds the prompts of the windows under way only.
    """

    sample: Sample
    draws: tuple[Draw, ...]
    prompt: Prompt | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of a job: for each draw its ``n`` trajectories or its fault.

    ``position`` is the job's place among all. ``prompt`` is the first turn's; ``None`` if the strategy raised.
    """

    position: int
    sample: Sample
    prompt: Prompt | None
    draws: tuple[tuple[Trajectory, ...] | EasyVideoError, ...]

    @property
    def fault(self) -> EasyVideoError | None:
        """The first fault among the draws."""
        return next((draw for draw in self.draws if isinstance(draw, EasyVideoError)), None)

    @property
    def trajectories(self) -> tuple[Trajectory, ...]:
        """The trajectories of all draws that have no fault, in order."""
        return tuple(chain.from_iterable(draw for draw in self.draws if not isinstance(draw, EasyVideoError)))


def drive(
    engine: Engine,
    jobs: Iterable[Job],
    strategy: Strategy,
    *,
    window: int | None = None,
    windows: int = 1,
    ready: Callable[[], bool] = lambda: True,
) -> Generator[Outcome, None, None]:
    """Generate what jobs ask for; yields the outcome of each job as soon as it is there, in any order.

    Whoever leaves the iterator early closes it, which cancels what is pending (``contextlib.closing``).

    Args:
        engine: has nothing else pending.
        jobs: read window by window.
        strategy: makes the prompts of all turns.
        window: jobs that are submitted together; all of them if None.
        windows: how many windows may be under way; an engine that works on many requests at a time wants several.
        ready: whether the next window of jobs can be read without a wait. Unless it is, the window begins when no other
            is under way, so that an engine never waits for jobs while it has work.

    Raises:
        EasyVideoError: the engine fails, or breaks its contract.
    """
    waiting = enumerate(jobs)
    under_way = Windows(engine, strategy)

    def fill() -> Iterator[Outcome]:
        while (
            under_way.count < windows and (under_way.count == 0 or ready()) and (begun := list(islice(waiting, window)))
        ):
            yield from under_way.begin(begun)

    try:
        while True:
            yield from fill()
            if not under_way.tickets:
                return
            for result in engine.results():
                if result is not None:  # else the engine pauses
                    yield from under_way.take(result)
                yield from fill()
            if under_way.tickets:
                raise contract_error(engine, f"left {len(under_way.tickets)} requests without a result")
    finally:
        engine.cancel(list(under_way.tickets))


@dataclass(slots=True, eq=False)
class _Window:
    """Jobs whose turns are submitted together."""

    pending: int = 0
    following: list[_Turn] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _OpenJob:
    """A job under way; ``open`` counts the trajectories that are not finished."""

    position: int
    job: Job
    prompt: Prompt
    window: _Window
    found: list[dict[int, Trajectory] | EasyVideoError]
    open: int


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """A ``request`` under way: the first turn of all trajectories of a draw, or a further one of the trajectory
    ``before``, which is number ``index`` of its draw."""

    job: _OpenJob
    draw: int
    request: Request
    index: int = 0
    before: Trajectory | None = None


class Windows:
    """The windows under way on an engine, and the turn that each pending ticket stands for.

    Attributes:
        count: windows under way.
        tickets: what is pending.
    """

    def __init__(self, engine: Engine, strategy: Strategy) -> None:
        self._engine = engine
        self._strategy = strategy
        self.count = 0
        self.tickets: dict[int, _Turn] = {}

    def begin(self, jobs: Iterable[tuple[int, Job]]) -> Iterator[Outcome]:
        """Submit a window of jobs, each with its position, in the order of positions; yields those that end at once.

        The window is submitted when the iterator is exhausted.
        """
        window = _Window()
        for position, job in jobs:
            try:
                prompt = self._strategy.start(job.sample) if job.prompt is None else job.prompt
            except EasyVideoError as error:
                yield Outcome(position, job.sample, None, tuple(error for _ in job.draws))
                continue
            if not job.draws:
                yield Outcome(position, job.sample, prompt, ())
                continue
            opened = _OpenJob(position, job, prompt, window, [{} for _ in job.draws], sum(draw.n for draw in job.draws))
            for number, draw in enumerate(job.draws):
                sampling = self._sampling(draw, job.sample, None)
                request = Request(job.sample.id, prompt, draw.n, sampling, draw.seed)
                window.following.append(_Turn(opened, number, request))
        if window.following:
            self.count += 1
            self._submit(window)

    def cancel(self, positions: Collection[int]) -> None:
        """Drop the jobs at some positions; they give no outcome any more."""
        gone = [ticket for ticket, turn in self.tickets.items() if turn.job.position in positions]
        self._engine.cancel(gone)
        windows = {id(turn.job.window): turn.job.window for turn in self.tickets.values()}
        for ticket in gone:
            self.tickets.pop(ticket).job.window.pending -= 1
        for window in windows.values():
            window.following = [turn for turn in window.following if turn.job.position not in positions]
            self._go_on(window)

    def renew(self) -> None:
        """Cancel all pending requests and submit them again, window by window: their responses are drawn anew."""
        windows: dict[int, list[_Turn]] = {}
        for turn in self.tickets.values():
            windows.setdefault(id(turn.job.window), []).append(turn)
        self._engine.cancel(list(self.tickets))
        self.tickets.clear()
        for turns in windows.values():
            self._send(turns)

    def take(self, result: Result) -> Iterator[Outcome]:
        """Hand a result to the strategy; yields its job if that was the last of it."""
        turn = self.tickets.pop(result.ticket, None)
        if turn is None:
            raise contract_error(self._engine, f"returned ticket {result.ticket}, which is not pending")
        opened, window = turn.job, turn.job.window
        window.pending -= 1
        found = opened.found[turn.draw]
        if isinstance(found, dict):  # else another trajectory of the draw has failed
            fault = result.fault or self._advance(turn, result)
            if fault is not None:
                opened.found[turn.draw] = fault
                opened.open -= opened.job.draws[turn.draw].n - len(found)
                window.following = [
                    other for other in window.following if (other.job, other.draw) != (opened, turn.draw)
                ]
            if opened.open == 0:
                yield _outcome(opened)
        self._go_on(window)

    def _go_on(self, window: _Window) -> None:
        """Submit the next turns of a window if its present ones are done."""
        if window.pending == 0:
            if window.following:
                self._submit(window)
            else:
                self.count -= 1

    def _advance(self, turn: _Turn, result: Result) -> EasyVideoError | None:
        """Note the trajectories of a result that are finished, and the next turns of the others."""
        if len(result.trajectories) != result.request.n:
            what = f"answered a request for {result.request.n} responses with {len(result.trajectories)}"
            raise contract_error(self._engine, what)
        opened, draw = turn.job, turn.job.job.draws[turn.draw]
        found = opened.found[turn.draw]
        assert isinstance(found, dict)
        following: list[_Turn] = []
        ended: dict[int, Trajectory] = {}
        for place, new in enumerate(result.trajectories):
            index = place if turn.before is None else turn.index
            trajectory = new if turn.before is None else Trajectory((*turn.before.turns, *new.turns), new.origin)
            try:
                prompt = self._strategy.next(opened.job.sample, trajectory)
            except EasyVideoError as error:
                return error
            if prompt is None:
                ended[index] = trajectory
                continue
            seed = derive_seed(draw.seed, index, len(trajectory.turns))
            sampling = self._sampling(draw, opened.job.sample, trajectory)
            request = Request(opened.job.sample.id, prompt, 1, sampling, seed)
            following.append(_Turn(opened, turn.draw, request, index, trajectory))
        found.update(ended)
        opened.open -= len(ended)
        opened.window.following += following
        return None

    def _sampling(self, draw: Draw, sample: Sample, before: Trajectory | None) -> Sampling:
        """How the next response is drawn: a strategy may ask for short ones."""
        limit = turn_limit(self._strategy, sample, before)
        if limit is None or limit >= draw.sampling.max_new_tokens:
            return draw.sampling
        return replace(draw.sampling, max_new_tokens=limit)

    def _submit(self, window: _Window) -> None:
        # In the order of samples, draws and trajectories, whichever ended first.
        turns = sorted(window.following, key=lambda turn: (turn.job.position, turn.draw, turn.index))
        window.following = []
        window.pending = len(turns)
        self._send(turns)

    def _send(self, turns: list[_Turn]) -> None:
        tickets = self._engine.submit([turn.request for turn in turns])
        if len(tickets) != len(turns):
            raise contract_error(self._engine, f"gave {len(tickets)} tickets for {len(turns)} requests")
        self.tickets.update(zip(tickets, turns, strict=True))


def _outcome(opened: _OpenJob) -> Outcome:
    draws = tuple(
        found if isinstance(found, EasyVideoError) else tuple(found[index] for index in range(len(found)))
        for found in opened.found
    )
    return Outcome(opened.position, opened.job.sample, opened.prompt, draws)
