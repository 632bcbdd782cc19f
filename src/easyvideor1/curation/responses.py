"""Several scored responses to every sample of a data set: what ``evr1 filter`` and ``evr1 trajectories`` work with.

Responses are appended to a ledger beside the output, sample by sample, so that a command that was killed resumes where
it was. What a checkpoint answers follows from the seed and the sample.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from easyvideor1.components import Components
from easyvideor1.curation.ledger import ResponseLedger
from easyvideor1.engines.endpoint import ReplyError
from easyvideor1.engines.engine import Engine
from easyvideor1.families.family import Family
from easyvideor1.records.trajectories import TrajectoryRecord, prompt_digest, sample_record, trajectory_record
from easyvideor1.rewards import Scorer
from easyvideor1.rewards.concurrency import EarlyScoring
from easyvideor1.rollout.driver import Draw, Job, Outcome, drive
from easyvideor1.rollout.requests import offline_ids
from easyvideor1.seeds import derive_seed
from easyvideor1.types import (
    ConfigError,
    DataError,
    MediaError,
    OfflineTrajectory,
    RequestFailed,
    Sample,
    Score,
    Trajectory,
    TurnError,
)

#: Samples that a local engine generates for together.
WINDOW = 16

#: ``(samples, known) -> outcomes`` of all samples whose identifiers are not in ``known``, in any order.
Generate = Callable[[Sequence[Sample], Collection[str]], Generator[Outcome, None, None]]


@dataclass(frozen=True, slots=True)
class CollectedResponses:
    """Samples with their responses, in order; those whose media could not be read, and those that had no prompt of a
    further turn or were not answered by the engine."""

    answered: tuple[tuple[Sample, tuple[TrajectoryRecord, ...]], ...]
    unreadable: tuple[tuple[Sample, MediaError], ...] = ()
    unfinished: tuple[tuple[Sample, TurnError | RequestFailed], ...] = ()

    @property
    def unjudged(self) -> list[Sample]:
        """Samples to which there are responses, none of which could be judged."""
        return [sample for sample, responses in self.answered if not any(one.score.applicable for one in responses)]

    @property
    def lost(self) -> float:
        """How much is missing or could not be judged, in samples: one with half of its responses lost counts a half."""
        shares = (sum(not one.score.applicable for one in found) / len(found) for _, found in self.answered)
        return len(self.unreadable) + len(self.unfinished) + sum(shares)

    def faults(self, kind: str) -> list[TrajectoryRecord]:
        """The responses that are missing for one reason, or, for ``""``, those that came."""
        return [each for _, responses in self.answered for each in responses if each.fault == kind]


def from_engine(components: Components, engine: Engine, k: int) -> Generate:
    """Generates ``k`` responses to each sample with an engine whose responses depend on the seed.

    Windows are cut from all samples, and generated whole even if some of their samples are known: logits differ in the
    last bits with the batch, and an interrupted command has to give what an uninterrupted one gives.
    """
    seed, sampling = components.config.seed, components.sampling()

    def generate(samples: Sequence[Sample], known: Collection[str]) -> Generator[Outcome, None, None]:
        for start in range(0, len(samples), WINDOW):
            window = samples[start : start + WINDOW]
            missing = [sample for sample in window if sample.id not in known]
            if 0 < len(missing) < len(window):  # those that an earlier start could not read: can they be read now?
                faults = [(sample, _media_fault(sample, components)) for sample in missing]
                if all(fault is not None for _, fault in faults):
                    yield from (Outcome(0, sample, None, (fault,)) for sample, fault in faults if fault is not None)
                    continue
            if not missing:
                continue
            jobs = [Job(each, (Draw(k, sampling, derive_seed(seed, "survey", each.id)),)) for each in window]
            with closing(drive(engine, jobs, components.strategy)) as outcomes:
                yield from (outcome for outcome in outcomes if outcome.sample.id not in known)

    return generate


def from_endpoint(components: Components, engine: Engine, k: int, concurrency: int) -> Generate:
    """Generates ``k`` responses to each sample with a server, each a request of its own that may fail alone.

    Raises:
        ConfigError: the strategy may ask for further turns; a server is sent the first turn of a conversation only.
    """
    if (strategy := components.config.rollout.strategy.name) != "single_turn":
        raise ConfigError(
            f"rollout.strategy: {strategy} may take several turns, and an endpoint is asked for the first one only; "
            "set rollout.strategy=single_turn, or use a checkpoint in place of --endpoint"
        )
    draws = (Draw(1, components.sampling(), 0),) * k

    def generate(samples: Sequence[Sample], known: Collection[str]) -> Generator[Outcome, None, None]:
        jobs = (Job(sample, draws) for sample in samples if sample.id not in known)
        # Twice as many requests as are sent at the same time: some wait while the pictures of the next are made.
        windows = 2 * concurrency // k + 1
        return drive(engine, jobs, components.strategy, window=1, windows=windows)

    return generate


def _media_fault(sample: Sample, components: Components) -> MediaError | None:
    try:
        for ref in sample.media:
            components.load(ref, components.plan(ref))
    except MediaError as error:
        return error
    return None


def collect_responses(
    samples: Sequence[Sample],
    generate: Generate,
    components: Components,
    ledger: ResponseLedger,
    on_progress: Callable[[int, int], None],
) -> CollectedResponses:
    """Every sample with its scored responses.

    Some samples are generated for again: those whose response an earlier start did not get, those whose media could not
    be read or whose further turn had no prompt, and those of whose responses some could not be judged, because the
    judged ones are no fair choice of them.

    Args:
        samples: whose identifiers differ.
        generate: their responses.
        components: score, and record in the health ledger which media cannot be read.
        ledger: what is known already; it grows with every sample.
        on_progress: is told of samples done and their number.

    Raises:
        ConfigError: a sample that is known had another prompt then.
        DataError: two samples have the same identifier, or a prompt cannot be made.
        EasyVideoError: as the engine and the scorer say.
    """
    _check_identifiers(samples)
    known = _known(samples, components, ledger)
    unreadable: dict[str, MediaError] = {}
    unfinished: dict[str, TurnError | RequestFailed] = {}
    on_progress(len(known), len(samples))
    with closing(generate(samples, frozenset(known))) as outcomes:
        for outcome, begun in _scored_ahead(outcomes, components.scorer):
            sample = outcome.sample
            fault = _sample_fault(outcome)
            if isinstance(fault, TurnError | RequestFailed):
                unfinished[sample.id] = fault
            elif fault is not None:
                components.ledger.record(fault.path, fault.reason, str(fault), "left out of the collected responses")
                unreadable[sample.id] = fault
            else:
                assert outcome.prompt is not None
                known[sample.id] = _scored(outcome, components, begun)
                record = sample_record(sample, outcome.prompt, trajectories=known[sample.id])
                ledger.append(prompt_digest(outcome.prompt), record)
            on_progress(len(known) + len(unreadable) + len(unfinished), len(samples))
    return CollectedResponses(
        tuple((sample, known[sample.id]) for sample in samples if sample.id in known),
        tuple((sample, unreadable[sample.id]) for sample in samples if sample.id in unreadable),
        tuple((sample, unfinished[sample.id]) for sample in samples if sample.id in unfinished),
    )


def _check_identifiers(samples: Sequence[Sample]) -> None:
    first: dict[str, Sample] = {}
    for sample in samples:
        other = first.setdefault(sample.id, sample)
        if other is not sample:
            raise DataError(
                f"{sample.where}: the problem_id {sample.id!r} is also that of {other.where}, so that their responses "
                "cannot be told apart; give each its own"
            )


def _known(
    samples: Sequence[Sample], components: Components, ledger: ResponseLedger
) -> dict[str, tuple[TrajectoryRecord, ...]]:
    """The responses of the samples for which the ledger holds all of them, judged."""
    responses = {}
    for sample in samples:
        entry = ledger.known.get(sample.id)
        if entry is None:
            continue
        try:
            digest = prompt_digest(components.strategy.start(sample))
        except MediaError:
            continue  # gone since the rows were checked: found again when its responses are generated
        if digest != entry.prompt_digest:
            raise ConfigError(
                f"{ledger.path} holds responses to another prompt of {sample.where or sample.id}: its template, the "
                "tokenizer or its media changed since. Restore them to go on, remove the file to start over, or "
                "choose another --out."
            )
        if all(response.score.applicable and not response.fault for response in entry.record.trajectories):
            responses[sample.id] = entry.record.trajectories
    return responses


def _sample_fault(outcome: Outcome) -> MediaError | TurnError | RequestFailed | None:
    """Why a sample has no responses: its media cannot be read, it has no prompt of a further turn, or the engine did
    not answer.

    Raises:
        EasyVideoError: a fault of another kind that is no missing reply of an endpoint.
    """
    for draw in outcome.draws:
        if isinstance(draw, MediaError | TurnError | RequestFailed):
            return draw
        if isinstance(draw, Exception) and not isinstance(draw, ReplyError):
            raise draw
    return None


def _scored_ahead(
    outcomes: Iterable[Outcome], scorer: Scorer
) -> Generator[tuple[Outcome, EarlyScoring | None], None, None]:
    """Outcomes in their order, each with what scores it already: as many at the same time as there are processes.

    Where no more outcomes come because of an error, those that came before it are not lost.
    """
    waiting: deque[tuple[Outcome, EarlyScoring | None]] = deque()
    try:
        for outcome in outcomes:
            begun = None
            if scorer.at_once > 1 and outcome.trajectories and _sample_fault(outcome) is None:
                begun = scorer.comparisons()
                begun.begin(0, outcome.sample, [each.completion for each in outcome.trajectories])
            waiting.append((outcome, begun))
            if len(waiting) >= scorer.at_once:
                yield waiting.popleft()
    except Exception:
        yield from waiting
        raise
    yield from waiting


def _scored(outcome: Outcome, components: Components, begun: EarlyScoring | None) -> tuple[TrajectoryRecord, ...]:
    """The responses of all draws, scored; what did not come is not: there is nothing to judge, and judges may be
    paid."""
    came = [trajectory.completion for trajectory in outcome.trajectories]
    scores = iter(components.scorer.score_groups([(outcome.sample, came)], begun)[0] if came else ())
    found: list[TrajectoryRecord] = []
    for draw in outcome.draws:
        if isinstance(draw, ReplyError):
            score = Score(0.0, 0.0, 0.0, applicable=False, reason=str(draw))
            found.append(TrajectoryRecord("", 0, "length", score, fault="refused" if draw.refused else "failed"))
        elif isinstance(draw, tuple):
            found += [
                replace(trajectory_record(each, next(scores)), logprobs=_text_logprobs(components.family, each))
                for each in draw
            ]
    return tuple(found)


def _text_logprobs(family: Family, trajectory: Trajectory) -> tuple[float, ...] | None:
    """The log-probs of a trajectory of one turn whose text alone gives the same tokens again; else ``None``."""
    turn = trajectory.last
    if turn.logprobs is None or turn.finish != "stop" or len(trajectory.turns) > 1:
        return None
    try:
        same = offline_ids(family, OfflineTrajectory(turn.text), None) == turn.response_ids.tolist()
    except DataError:
        return None  # empty, or with special tokens: whoever reads the row will say so
    return tuple(round(float(value), 6) for value in turn.logprobs) if same else None
