"""Several responses to every sample of a data set, scored: what filters rows and collects trajectories.

What is known is appended to a ledger beside the output, sample by sample, so that a survey that was killed goes on
where it was. What a checkpoint says follows from the seed and the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from easyvideor1.components import Components
from easyvideor1.curation.identity import prompt_digest
from easyvideor1.curation.ledger import Fault, Response, SurveyLedger
from easyvideor1.engines.engine import Engine, Request, generate
from easyvideor1.families.family import Family
from easyvideor1.rollout.requests import offline_ids
from easyvideor1.seeds import derive_seed
from easyvideor1.types import (
    Completion,
    ConfigError,
    DataError,
    MediaError,
    OfflineTrajectory,
    Sample,
    Trajectory,
    Turn,
)

#: Samples that an engine is asked together.
AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request: a text, or a fault with what was said of it (see ``Response``)."""

    text: str
    complete: bool
    logprobs: tuple[float, ...] | None = None
    opens_thinking: bool = False
    fault: Fault = ""
    detail: str = ""


#: What is known of samples as it comes, in any order: k answers to one, or why its media cannot be read.
Answers = Generator[tuple[Sample, list[Answer] | MediaError], None, None]
#: ``(samples, known) -> answers`` to all of ``samples`` whose identifiers are not in ``known``.
Ask = Callable[[Sequence[Sample], Collection[str]], Answers]


@dataclass(frozen=True, slots=True)
class Surveyed:
    """Samples with their responses, in order, and those whose media could not be read."""

    answered: tuple[tuple[Sample, tuple[Response, ...]], ...]
    unreadable: tuple[tuple[Sample, MediaError], ...] = ()

    @property
    def unjudged(self) -> list[Sample]:
        """Samples to which there are responses, none of which could be judged."""
        return [sample for sample, responses in self.answered if not any(one.applicable for one in responses)]

    @property
    def lost(self) -> float:
        """How much could not be had or judged, in samples: one with half of its responses lost counts a half."""
        shares = (sum(not one.applicable for one in responses) / len(responses) for _, responses in self.answered)
        return len(self.unreadable) + sum(shares)

    def faults(self, kind: Fault) -> list[Response]:
        """The responses that are missing for one reason, or, for ``""``, those that came."""
        return [each for _, responses in self.answered for each in responses if each.fault == kind]


def engine_ask(components: Components, engine: Engine, k: int) -> Ask:
    """Responses of an engine, with log-probs where the text alone gives the same tokens again."""

    def ask(samples: Sequence[Sample], known: Collection[str]) -> Answers:
        # Batches are cut from all samples and asked whole even if some of one are known: logits differ in the last
        # bits with the batch, and a survey that was interrupted shall say what an uninterrupted one says.
        for start in range(0, len(samples), AT_ONCE):
            batch = samples[start : start + AT_ONCE]
            missing = {sample.id for sample in batch} - set(known)
            if 0 < len(missing) < len(batch):  # those that an earlier start could not read: have they come back?
                faults = [(sample, _fault(sample, components)) for sample in batch if sample.id in missing]
                if all(error is not None for _, error in faults):
                    yield from ((sample, error) for sample, error in faults if error is not None)
                    continue
            if not missing:
                continue
            readable, unreadable, found = _generated(batch, components, engine, k)
            yield from ((sample, error) for sample, error in unreadable if sample.id in missing)
            for sample, group in zip(readable, found, strict=True):
                if sample.id in missing:
                    yield sample, [_answer(trajectory.last, components) for trajectory in group]

    return ask


def _answer(turn: Turn, components: Components) -> Answer:
    return Answer(turn.text, turn.finish == "stop", _logprobs(components.family, turn), turn.prompt.opens_thinking)


_Unreadable = list[tuple[Sample, MediaError]]


def _generated(
    samples: Sequence[Sample], components: Components, engine: Engine, k: int
) -> tuple[list[Sample], _Unreadable, list[tuple[Trajectory, ...]]]:
    """The samples that can be asked, those that cannot, and k responses to each of the first.

    Media are looked at before only once one has failed: the engine reads them anyway.
    """
    left: list[Sample] = list(samples)
    unreadable: _Unreadable = []
    while True:
        try:
            requests = [
                Request(
                    sample.id,
                    components.render(sample),
                    k,
                    components.sampling(),
                    derive_seed(components.config.seed, "survey", sample.id),
                )
                for sample in left
            ]
            return left, unreadable, generate(engine, requests)
        except MediaError:
            faults = {sample.id: fault for sample in left if (fault := _fault(sample, components)) is not None}
            if not faults:
                raise  # it can be read again: there is nobody to leave out
            unreadable += [(sample, faults[sample.id]) for sample in left if sample.id in faults]
            left = [sample for sample in left if sample.id not in faults]


def _fault(sample: Sample, components: Components) -> MediaError | None:
    try:
        for ref in sample.media:
            components.load(ref, components.plan(ref))
    except MediaError as error:
        return error
    return None


def _logprobs(family: Family, turn: Turn) -> tuple[float, ...] | None:
    if turn.logprobs is None or turn.finish != "stop":
        return None
    try:
        same = offline_ids(family, OfflineTrajectory(turn.text), None) == turn.response_ids.tolist()
    except DataError:
        return None  # empty, or with special tokens: whoever reads the row will say so
    return tuple(round(float(value), 6) for value in turn.logprobs) if same else None


def survey(
    samples: Sequence[Sample],
    ask: Ask,
    components: Components,
    ledger: SurveyLedger,
    on_progress: Callable[[int, int], None],
) -> Surveyed:
    """Every sample with its scored responses.

    What was refused or failed in an earlier start is asked again, and so is a sample whose media could not be read, or
    of whose responses some could not be judged: those that could are no fair choice of them.

    Args:
        samples: whose identifiers differ.
        ask: for their responses.
        bench: scores, and records in its health ledger what cannot be read.
        ledger: what is known already; it grows with every sample.
        on_progress: is told of samples done and their number.

    Raises:
        ConfigError: a sample that is known was asked something else then.
        DataError: two samples have the same identifier.
        EasyVideoError: as ``ask`` and the scorer say.
    """
    _check_identifiers(samples)
    prompts, known = _known(samples, components, ledger)
    unreadable: dict[str, MediaError] = {}
    on_progress(len(known), len(samples))
    with closing(ask(samples, frozenset(known))) as answers:  # ends what is under way before an error goes on
        for sample, found in answers:
            if isinstance(found, MediaError):
                components.ledger.record(found.path, found.reason, str(found), "left out of a survey")
                unreadable[sample.id] = found
            else:
                prompt = prompts.get(sample.id) or prompt_digest(components.render(sample))
                known[sample.id] = _scored(sample, found, components)
                ledger.append(sample.id, prompt, known[sample.id])
            on_progress(len(known) + len(unreadable), len(samples))
    return Surveyed(
        tuple((sample, known[sample.id]) for sample in samples if sample.id in known),
        tuple((sample, unreadable[sample.id]) for sample in samples if sample.id in unreadable),
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
    samples: Sequence[Sample], components: Components, ledger: SurveyLedger
) -> tuple[dict[str, str], dict[str, tuple[Response, ...]]]:
    """Digests of the prompts of samples in the ledger, and the responses of those that have them all."""
    prompts, responses = {}, {}
    for sample in samples:
        entry = ledger.known.get(sample.id)
        if entry is None:
            continue
        try:
            prompts[sample.id] = prompt_digest(components.render(sample))
        except MediaError:
            continue  # gone since the rows were checked: found again when it is asked
        if prompts[sample.id] != entry.prompt:
            raise ConfigError(
                f"{ledger.path} holds responses to another prompt of {sample.where or sample.id}: its template, the "
                "tokenizer or its media changed since. Restore them to go on, remove the file to start over, or "
                "choose another --out."
            )
        if all(response.applicable and not response.fault for response in entry.responses):
            responses[sample.id] = entry.responses
    return prompts, responses


def _scored(sample: Sample, answers: Sequence[Answer], components: Components) -> tuple[Response, ...]:
    """What did not come is not scored: there is nothing to judge, and judges may be paid."""
    asks_tag = "<answer>" in components.render(sample).text
    came = [
        Completion(answer.text, "stop" if answer.complete else "length", answer.opens_thinking, asks_tag)
        for answer in answers
        if not answer.fault
    ]
    scores = iter(components.scorer.score_groups([(sample, came)])[0] if came else ())
    found = []
    for answer in answers:
        accuracy, total, applicable = 0.0, 0.0, False
        if not answer.fault:
            score = next(scores)
            accuracy, total, applicable = score.accuracy, score.total, score.applicable
        found.append(
            Response(
                answer.text,
                answer.complete,
                accuracy,
                total,
                applicable,
                answer.logprobs,
                answer.fault,
                answer.detail,
            )
        )
    return tuple(found)
