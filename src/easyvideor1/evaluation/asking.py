"""Put questions to an engine: in windows, questions about one video together, frames ahead of the engine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from easyvideor1.config.schema import EvaluationConfig
from easyvideor1.engines.engine import Engine, Sampling
from easyvideor1.evaluation.answers import TRIES, Answer
from easyvideor1.evaluation.frames_ahead import FramesAhead, WithFrames
from easyvideor1.records.trajectories import prompt_fields
from easyvideor1.rollout.driver import Draw, Job, drive
from easyvideor1.rollout.strategies import Strategy
from easyvideor1.seeds import derive_seed
from easyvideor1.spans import SpanRecorder
from easyvideor1.types import EasyVideoError, MediaPlan, MediaRef, Sample

if TYPE_CHECKING:
    from easyvideor1.components import Components

#: Questions handed to an engine together; two such windows are under way at a time.
WINDOW = 64


@dataclass(frozen=True, slots=True)
class Asking:
    """How questions are put: everything that decides the responses, beside the questions.

    ``sampling`` gives ``max_new_tokens``, and ``top_p`` and ``top_k`` of sampled responses where ``config`` leaves them
    open. Every request has its own seed, made from ``seed`` and the sample's id. With ``load`` the frames of coming
    windows are made ready by it in ``threads`` threads (``FramesAhead``); without, they are there already.
    ``try_again`` is called before questions that failed are put once more, so that files that failed are read again.
    """

    engine: Engine
    strategy: Strategy
    config: EvaluationConfig
    sampling: Sampling
    seed: int
    window: int = WINDOW
    load: Callable[[MediaRef, MediaPlan], object] | None = None
    threads: int = 1
    spans: SpanRecorder | None = None
    try_again: Callable[[], object] = lambda: None

    @classmethod
    def of(cls, components: Components, engine: Engine, spans: SpanRecorder | None = None) -> Self:
        """How a configuration asks: the same for ``evr1 eval run`` and between the steps of a run."""
        config, frames = components.config, components.frames
        return cls(
            engine,
            components.strategy,
            config.evaluation,
            components.sampling(),
            config.seed,
            # With ``decode_only`` the engine decodes: there is no store to decode into.
            load=None if config.cache.mode == "decode_only" else frames.load,
            threads=config.cache.workers,
            spans=spans,
            try_again=frames.try_again,
        )

    def draws(self, sample: Sample) -> tuple[Draw, ...]:
        """The greedy response to a sample, and the sampled ones if there are any."""
        greedy = Draw(1, replace(self.sampling, greedy=True), derive_seed(self.seed, sample.id, "greedy"))
        config = self.config
        if config.samples == 0:
            return (greedy,)
        warm = replace(
            self.sampling,
            greedy=False,
            temperature=config.temperature,
            top_p=self.sampling.top_p if config.top_p is None else config.top_p,
            top_k=self.sampling.top_k if config.top_k is None else config.top_k,
            repetition_penalty=config.repetition_penalty,
            presence_penalty=config.presence_penalty,
            frequency_penalty=config.frequency_penalty,
        )
        return greedy, Draw(config.samples, warm, derive_seed(self.seed, sample.id, "sampled"))


def choose_samples(samples: Sequence[Sample], limit: int | None, seed: int) -> list[Sample]:
    """At most ``limit`` samples in their given order.

    Files are often sorted by task, so the first samples would be biased. Each sample gets a number from (seed, id), and
    the lowest are taken: two evaluations of a run get the same subset, and a longer file changes it only a little.
    """
    if limit is None or len(samples) <= limit:
        return list(samples)
    order = sorted(range(len(samples)), key=lambda i: (derive_seed(seed, samples[i].id, "choose"), i))
    return [samples[i] for i in sorted(order[:limit])]


def by_video(samples: Sequence[Sample]) -> list[int]:
    """The places of samples so that those about the same media come together, media in the order of their first
    question: an engine computes what prompts begin with once, and frames are read once."""
    groups: dict[object, list[int]] = {}
    for place, sample in enumerate(samples):
        media = tuple(ref.path for ref in sample.media)
        groups.setdefault(media or place, []).append(place)
    return [place for group in groups.values() for place in group]


def ask(
    samples: Sequence[Sample],
    asking: Asking,
    *,
    wanted: Collection[int] | None = None,
    failed: Collection[int] = (),
    tries: int = 1,
) -> Generator[tuple[int, Answer], None, None]:
    """Put questions; yields the place of each with its answer, as soon as it is there, in any order.

    What an engine batches together can change the last bits of its logits. So that an interrupted evaluation gives what
    an uninterrupted one gives, windows are cut from all samples, and one that lacks an answer is put whole again. An
    engine that batches requests as they come (``joins_running``) is asked for what is missing only.
    Whoever leaves the iterator early closes it.

    Args:
        samples: all questions.
        asking: how.
        wanted: places of the questions whose answers are wanted; all if None.
        failed: places of questions that could not be answered when their window was put; they keep their place in it
            and are not put.
        tries: how often these questions have been put with this time.

    Raises:
        EasyVideoError: the engine fails or breaks its contract.
    """
    missing = set(range(len(samples))) if wanted is None else set(wanted)
    order = by_video(samples)
    if getattr(asking.engine, "joins_running", False):
        order = [place for place in order if place in missing]
    cut = [order[start : start + asking.window] for start in range(0, len(order), asking.window)]
    windows = [window for window in cut if not missing.isdisjoint(window)]
    places = [place for window in windows for place in window]
    begun = 0

    with ExitStack() as stack:
        frames = None
        strategy = asking.strategy
        if asking.load is not None:
            shown = [[samples[place] for place in window] for window in windows]
            ahead = FramesAhead(shown, strategy, asking.load, asking.threads, asking.spans)
            frames = stack.enter_context(ahead)
            strategy = WithFrames(strategy, frames)

        def jobs() -> Iterator[Job]:
            nonlocal begun
            for number, window in enumerate(windows):
                if frames is not None:
                    frames.wait(number)
                begun = number + 1
                for place in window:
                    yield Job(samples[place], () if place in failed else asking.draws(samples[place]))

        def ready() -> bool:
            return frames is None or begun == len(windows) or frames.ready(begun)

        driven = drive(asking.engine, jobs(), strategy, window=asking.window, windows=2, ready=ready)
        for outcome in stack.enter_context(closing(driven)):
            place = places[outcome.position]
            if place in missing and outcome.draws:
                yield place, Answer.of(outcome, tries)


def ask_twice(
    samples: Sequence[Sample],
    asking: Asking,
    *,
    wanted: Collection[int] | None = None,
    failed: Collection[int] = (),
) -> Generator[tuple[int, Answer], None, None]:
    """Put questions, and those that failed once more when all others are done; yields every answer with its place.

    The answer to a question that failed comes twice, and ``Answer.is_final`` says which one counts. It has the prompt
    that was to be put, if it can be made.

    Args:
        samples: all questions.
        asking: how.
        wanted: places of the questions whose answers are wanted; all if None.
        failed: places of questions that failed at an earlier start, and are only put once more.

    Raises:
        EasyVideoError: as ``ask``.
    """
    missing = set(range(len(samples))) if wanted is None else set(wanted)
    again = set(failed)
    if missing:
        with closing(ask(samples, asking, wanted=missing, failed=frozenset(failed))) as answers:
            for place, answer in answers:
                if not answer.is_final:
                    again.add(place)
                yield place, _with_prompt(answer, asking.strategy)
    if again:
        asking.try_again()
        places = sorted(again)
        with closing(ask([samples[place] for place in places], asking, tries=TRIES)) as answers:
            for index, answer in answers:
                yield places[index], _with_prompt(answer, asking.strategy)


def _with_prompt(answer: Answer, strategy: Strategy) -> Answer:
    """A failure with the prompt that was to be put, if it can be made."""
    if answer.error and not answer.asked:
        with suppress(EasyVideoError):
            return replace(answer, asked=prompt_fields(strategy.start(answer.sample)))
    return answer
