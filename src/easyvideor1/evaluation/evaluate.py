"""Generate and score responses to every question of a data set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import islice

from easyvideor1.config.schema import EvaluationConfig
from easyvideor1.engines.engine import Engine, Sampling
from easyvideor1.evaluation.result import Evaluation, summarise
from easyvideor1.records.trajectories import SampleRecord, sample_record, trajectory_record
from easyvideor1.rewards import Scorer
from easyvideor1.rollout.driver import Draw, Job, Outcome, drive
from easyvideor1.rollout.strategies import Strategy
from easyvideor1.seeds import derive_seed
from easyvideor1.types import (
    Completion,
    ConfigError,
    Sample,
    Score,
    StoppedError,
    Trajectory,
)

ScoreFunction = Callable[[Sample, Completion], Score]

_NAME = re.compile(r"\w[\w.-]*")


def evaluate(
    name: str,
    samples: Sequence[Sample],
    *,
    engine: Engine,
    strategy: Strategy,
    scorer: ScoreFunction,
    config: EvaluationConfig,
    sampling: Sampling,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
    batch_size: int = 64,
    scoring_threads: int = 1,
) -> Evaluation:
    """One greedy and ``config.samples`` sampled responses to every question, scored.

    Each request has its own seed, made from ``seed`` and the sample's id, so the random numbers of a response do not
    depend on ``batch_size`` or on the batch. The last bits of the logits may, because matrix products of other shapes
    round differently: where two tokens are almost equally likely, another batching can give another response.

    Args:
        name: Name of the evaluation, and of its files: letters, digits, ``.``, ``_`` and ``-``.
        samples: The questions; if there are more than ``config.max_samples``, a subset drawn by ``seed``.
        engine: Generates the responses.
        strategy: Makes the prompts of a sample, turn by turn. A sample for which it raises ``EasyVideoError`` is
            counted as failed and named in ``Evaluation.failures``; so is one that the engine cannot answer, as when its
            frames cannot be read (``MediaError``).
        scorer: Scores a response; what it raises goes to the caller.
        config: Number of sampled responses and how they are drawn, limit, confidence level.
        sampling: ``max_new_tokens`` is taken from it, and ``top_p`` and ``top_k`` where ``config`` leaves them open.
        seed: Everything random follows from this number.
        on_progress: Called with (questions done, questions in all) after each batch.
        batch_size: Questions handed to the engine together.
        scoring_threads: Responses scored at the same time, for scorers that wait for a service, such as an LLM judge;
            with more than one, ``scorer`` must be thread-safe.

    Raises:
        ConfigError: the name cannot be a file name.
        StoppedError: more than ``config.max_failed`` of the questions failed or could not be scored.
        EasyVideoError: the engine breaks its contract.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"evaluation name {name!r}: use letters, digits, '.', '_' and '-', because it becomes a file name"
        )
    chosen = choose_samples(samples, config.max_samples, seed)
    jobs = (Job(sample, _draws(sample, config, sampling, seed)) for sample in chosen)
    records: list[SampleRecord] = []
    with closing(drive(engine, jobs, strategy, window=batch_size)) as outcomes:
        while batch := list(islice(outcomes, batch_size)):  # those of one window
            records += _records(sorted(batch, key=lambda outcome: outcome.position), scorer, scoring_threads)
            if on_progress is not None:
                on_progress(len(records), len(chosen))
    _check_failed(name, records, config.max_failed)
    return summarise(name, records, seed=seed, confidence=config.confidence)


def _check_failed(name: str, records: Sequence[SampleRecord], bound: float) -> None:
    """Refuse a mean over only those questions that happened to work."""
    failures = [failure for record in records if (failure := _failure(record))]
    if sum(share for _, share in failures) <= bound * len(records):
        return
    causes = Counter(cause for cause, _ in failures)
    failed = causes.total()
    (first, times), *others = causes.most_common()
    more = f", and {failed - times} for {len(others)} other causes" if others else ""
    raise StoppedError(
        f"evaluation {name}: {failed} of {len(records)} questions failed or could not be scored, above "
        f"evaluation.max_failed ({bound:g}), so there is no result: {times} with {first}{more}. Fix the cause and run "
        "the same command again, or raise the limit"
    )


def _failure(record: SampleRecord) -> tuple[str, float] | None:
    """Why a question failed, and which share of it; ``None`` if all responses are scored.

    Without a scored greedy response the whole question failed, otherwise the share of sampled responses that could not
    be scored.
    """
    if record.error is not None:
        return record.error, 1.0
    if record.greedy is not None and not record.greedy.score.applicable:
        return f"{record.task}: {record.greedy.score.reason}", 1.0
    lost = [one.score.reason for one in record.trajectories if not one.score.applicable]
    return (f"{record.task}: {lost[0]}", len(lost) / len(record.trajectories)) if lost else None


def choose_samples(samples: Sequence[Sample], limit: int | None, seed: int) -> list[Sample]:
    """At most ``limit`` samples in their given order.

    Files are often sorted by task, so the first samples would be biased. Each sample gets a number from (seed, id), and
    the lowest are taken: two evaluations of a run get the same subset, and a longer file changes it only a little.
    """
    if limit is None or len(samples) <= limit:
        return list(samples)
    order = sorted(range(len(samples)), key=lambda i: (derive_seed(seed, samples[i].id, "choose"), i))
    return [samples[i] for i in sorted(order[:limit])]


def _draws(sample: Sample, config: EvaluationConfig, sampling: Sampling, seed: int) -> tuple[Draw, ...]:
    """The greedy response to a sample, and the sampled ones if there are any."""
    greedy = Draw(1, replace(sampling, greedy=True), derive_seed(seed, sample.id, "greedy"))
    if config.samples == 0:
        return (greedy,)
    warm = replace(
        sampling,
        greedy=False,
        temperature=config.temperature,
        top_p=sampling.top_p if config.top_p is None else config.top_p,
        top_k=sampling.top_k if config.top_k is None else config.top_k,
        repetition_penalty=config.repetition_penalty,
        presence_penalty=config.presence_penalty,
        frequency_penalty=config.frequency_penalty,
    )
    return greedy, Draw(config.samples, warm, derive_seed(seed, sample.id, "sampled"))


def _records(batch: Sequence[Outcome], scorer: ScoreFunction, threads: int) -> list[SampleRecord]:
    """The records of a window, scored together."""
    answered = [outcome for outcome in batch if outcome.fault is None]
    given = [(outcome.sample, trajectory) for outcome in answered for trajectory in outcome.trajectories]
    scores = iter(_scores(given, scorer, threads))
    records = []
    for outcome in batch:
        if (fault := outcome.fault) is not None:
            records.append(sample_record(outcome.sample, error=f"{type(fault).__name__}: {fault}"))
            continue
        greedy, *sampled = [trajectory_record(each, next(scores)) for each in outcome.trajectories]
        records.append(sample_record(outcome.sample, outcome.prompt, greedy=greedy, trajectories=tuple(sampled)))
    return records


def _scores(given: Sequence[tuple[Sample, Trajectory]], scorer: ScoreFunction, threads: int) -> list[Score]:
    """The score of each response, in their order."""
    if isinstance(scorer, Scorer) and threads == 1:
        return scorer.score_each([(sample, trajectory.completion) for sample, trajectory in given])
    if threads == 1:
        return [scorer(sample, trajectory.completion) for sample, trajectory in given]
    with ThreadPoolExecutor(threads, thread_name_prefix="score") as pool:
        return list(pool.map(lambda one: scorer(one[0], one[1].completion), given))
