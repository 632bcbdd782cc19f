"""Generate and score responses to every question of a data set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

from easyvideor1.benchmarks import ScoreFunction
from easyvideor1.config.schema import EvaluationConfig
from easyvideor1.evaluation.asking import Asking, ask_twice, choose_samples
from easyvideor1.evaluation.result import Evaluation, summarise
from easyvideor1.evaluation.scoring import Scoring
from easyvideor1.records.trajectories import SampleRecord
from easyvideor1.types import ConfigError, Sample, StoppedError

_NAME = re.compile(r"\w[\w.-]*")


def evaluate(
    name: str,
    samples: Sequence[Sample],
    asking: Asking,
    scorer: ScoreFunction,
    *,
    shown: str = "",
    scoring_threads: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """One greedy and ``asking.config.samples`` sampled responses to every question, scored; nothing is written.

    A question that fails is put once more when all others are done, and is a failure if it fails again. Each request
    has its own seed, made from ``asking.seed`` and the sample's id, so the random numbers of a response do not depend
    on ``asking.window`` or on the batch. The last bits of the logits may, because matrix products of other shapes round
    differently: where two tokens are almost equally likely, another batching can give another response.

    Args:
        name: Name of the evaluation, and of its files: letters, digits, ``.``, ``_`` and ``-``.
        samples: The questions; if there are more than ``max_samples``, a subset drawn by the seed.
        asking: How they are put. A sample for which the strategy raises ``EasyVideoError`` fails and is named in
            ``Evaluation.failures``; so is one that the engine cannot answer, as when its frames cannot be read
            (``MediaError``).
        scorer: Scores a response; what it raises goes to the caller.
        shown: What errors call the evaluation; its name by default.
        scoring_threads: Responses scored at the same time, for scorers that wait for a service, such as an LLM judge;
            with more than one, ``scorer`` must be thread-safe.
        on_progress: Called with (questions done, questions in all); a question that failed is done when it was put
            once more.

    Raises:
        ConfigError: the name cannot be a file name.
        StoppedError: more than ``max_failed`` of the questions failed or could not be scored.
        EasyVideoError: the engine breaks its contract.
    """
    check_name(name)
    config, seed, done = asking.config, asking.seed, 0
    chosen = choose_samples(samples, config.max_samples, seed)
    with Scoring(scorer, threads=scoring_threads) as scoring, closing(ask_twice(chosen, asking)) as answers:
        for place, answer in answers:
            scoring.add(place, answer)
            done += answer.is_final
            if on_progress is not None and answer.is_final:
                on_progress(done, len(chosen))
        found = scoring.finish()
    return evaluation_of(name, found, config=config, seed=seed, shown=shown)


def evaluation_of(
    name: str, records: Mapping[int, SampleRecord], *, config: EvaluationConfig, seed: int, shown: str = ""
) -> Evaluation:
    """The evaluation that records come to, in the order of their places; errors call it ``shown``, else ``name``.

    Raises:
        StoppedError: more than ``config.max_failed`` of the questions failed or could not be scored.
    """
    ordered = [records[place] for place in sorted(records)]
    _check_failed(shown or name, ordered, config.max_failed)
    return summarise(name, ordered, seed=seed, confidence=config.confidence)


def check_name(name: str) -> None:
    """Raises ``ConfigError`` where the name of an evaluation cannot be a file name."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"evaluation name {name!r}: use letters, digits, '.', '_' and '-', because it becomes a file name"
        )


def failed_share(records: Sequence[SampleRecord]) -> float:
    """The share of questions that failed or could not be scored; 0 without questions."""
    return sum(failure[1] for record in records if (failure := _failure(record))) / max(len(records), 1)


def _check_failed(name: str, records: Sequence[SampleRecord], bound: float) -> None:
    """Refuse a mean over only those questions that happened to work."""
    if failed_share(records) <= bound:
        return
    failures = [failure for record in records if (failure := _failure(record))]
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
