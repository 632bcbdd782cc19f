"""Score samples as a configuration says: built-in rules, custom rewards, further parts; count what is masked."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from easyvideor1.config.rewards import RewardConfig
from easyvideor1.registry import code_excerpt, error_words
from easyvideor1.rewards.concurrency import (
    MOST_HANGING,
    ActiveWork,
    Comparisons,
    EarlyScoring,
    TimeLimit,
    default_workers,
)
from easyvideor1.rewards.custom import (
    BuiltInRules,
    CustomReward,
    checked_score,
    load_reward,
    takes_trajectory,
    task_key,
)
from easyvideor1.rewards.extraction import parse
from easyvideor1.rewards.parts import BUILT_IN, Part, Values, combined, load_parts, part_values, with_part
from easyvideor1.rewards.references import one_answer
from easyvideor1.rewards.review import Reviewer
from easyvideor1.rewards.score import format_of, read_settings, score_response
from easyvideor1.rewards.tag_contents import example_words
from easyvideor1.rewards.tags import full_response
from easyvideor1.rewards.types import RewardError, masked
from easyvideor1.spans import SpanRecorder
from easyvideor1.tasks import canonical_task
from easyvideor1.types import Completion, ConfigError, Sample, Score

#: Types whose comparison waits for another process.
_WAITING = frozenset({"code", "math"})


class Scorer:
    """Scores samples as a configuration says, and counts what could not be scored.

    ``counts`` maps ``(task type, reason)`` to a number of responses. Thread-safe if the custom rewards are.

    Args:
        config: how responses are scored.
        most_hanging: calls of custom rewards that were given up (``rewards.timeout``) and still run; at so many,
            scoring raises.
    """

    def __init__(self, config: RewardConfig, *, most_hanging: int = MOST_HANGING) -> None:
        self.config = config
        self.settings = read_settings(config)
        self.parts = load_parts(config.parts)
        self._alone = [part for part in self.parts if not part.group]
        self.reviewer = Reviewer(config)
        self._time_limit = TimeLimit(config.timeout, most_hanging)
        self._active = ActiveWork()
        #: Scoring of groups, and comparisons that run in threads.
        self.spans = SpanRecorder()
        self._workers = config.workers or default_workers()
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="score")
        self._custom = {task_key(name): (target, load_reward(target)) for name, target in config.custom.items()}
        if len(self._custom) != len(config.custom):
            raise ConfigError(f"rewards.custom names one task type twice: {', '.join(config.custom)}")
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """How many responses could not be scored so far, and how many parts did not apply, by task type and reason."""
        with self._lock:
            return dict(self._counts)

    @property
    def at_once(self) -> int:
        """Calls of ``score_groups`` that may run side by side although custom rewards are not thread-safe."""
        return 1

    @property
    def reads_trajectories(self) -> bool:
        """Whether a custom reward is given whole trajectories."""
        return any(takes_trajectory(target) for target in self.config.custom.values())

    def reward_name(self, sample: Sample) -> str:
        """What scores a sample, in words: its custom reward, or the rule of its type."""
        return self._reward_of(canonical_task(sample.task))[0]

    @property
    def hangs(self) -> bool:
        """Whether a call of a reward that was given up goes on."""
        return self._time_limit.hangs

    def __call__(self, sample: Sample, response: str | Completion) -> Score:
        """Score one response by itself, as evaluation does.

        Parts that compare the responses of a group are left out of its total. An answer counts without the tag that the
        prompt asks for, unless ``require_tag`` is on.

        Raises:
            RewardError: a reward raised and ``on_error`` is ``stop``, or a custom reward returned something invalid.
        """
        return self._scored(sample, [response], self._alone, training=False)[0]

    def score_group(self, sample: Sample, responses: Sequence[str | Completion]) -> tuple[Score, ...]:
        """Score all responses to one sample, as training does: with the parts that compare them.

        Where the prompt asks for the answer tag, only an answer in it counts, unless ``require_tag`` is off.

        Raises:
            RewardError: as for one response.
        """
        return tuple(self._scored(sample, responses, self.parts, training=True))

    def comparisons(self, seconds: float | None = None) -> EarlyScoring:
        """For ``score_groups``: what may begin while other responses of the step are still generated.

        ``seconds`` goes before ``rewards.step_seconds``.
        """
        limit = self.config.step_seconds if seconds is None else seconds
        return Comparisons(self._pool, partial(self._compare, training=True), limit)

    def score_groups(
        self, groups: Sequence[tuple[Sample, Sequence[Completion]]], begun: EarlyScoring | None = None
    ) -> list[tuple[Score, ...]]:
        """``score_group`` of every group of a step; comparisons that wait for a process run side by side.

        Comparisons that have not begun ``rewards.step_seconds`` after this call are masked: programs that only sleep
        must not stall a run.

        Args:
            groups: samples with all responses to each.
            begun: what ``comparisons`` returned, if some began before, by the position of their group.

        Raises:
            RewardError: as for one response.
        """
        with self._waiting(self.comparisons() if begun is None else begun, groups) as ahead:
            return [
                tuple(self._scored(sample, given, self.parts, training=True, begun=scores))
                for (sample, given), scores in zip(groups, ahead, strict=True)
            ]

    def score_each(self, pairs: Sequence[tuple[Sample, Completion]]) -> list[Score]:
        """The score of each response by itself; comparisons that wait for a process run side by side.

        Raises:
            RewardError: as for one response.
        """
        groups = [(sample, [one]) for sample, one in pairs]
        comparisons = Comparisons(self._pool, partial(self._compare, training=False), None)
        with self._waiting(comparisons, groups) as ahead:
            return [
                self._scored(sample, given, self._alone, training=False, begun=scores)[0]
                for (sample, given), scores in zip(groups, ahead, strict=True)
            ]

    @contextmanager
    def _waiting(
        self, comparisons: EarlyScoring, groups: Sequence[tuple[Sample, Sequence[Completion]]]
    ) -> Iterator[list[Sequence[Future[Score]]]]:
        """The running comparisons of each group; those that the block does not wait for are cancelled."""
        comparisons.limit()
        try:
            yield [comparisons.begin(number, sample, given) for number, (sample, given) in enumerate(groups)]
        finally:
            comparisons.cancel()

    def _compare(
        self, sample: Sample, completions: Sequence[Completion], *, training: bool
    ) -> list[Callable[[], Score]]:
        """Comparisons worth a thread: rules that wait for a process. Custom rewards need not be thread-safe."""
        task = canonical_task(sample.task)
        if task not in _WAITING or task in self._custom or "*" in self._custom:
            return []
        return [partial(self._compared, task, sample, one, training=training) for one in completions]

    def _compared(self, task: str, sample: Sample, completion: Completion, *, training: bool) -> Score:
        """``_one`` in a thread of the pool."""
        with self.spans(f"compare {task}", sample=sample.id):
            return self._one(task, sample, completion, training=training)

    def check_judge(self, samples: Iterable[Sample]) -> None:
        """Make sure that the judge answers, if the score of any sample needs it.

        Raises:
            ConfigError: it does not, or its address, key or model are wrong.
        """
        tasks = {canonical_task(sample.task) for sample in samples}
        self.reviewer.check_judge({task for task in tasks if task not in self._custom and "*" not in self._custom})

    def waiting(self) -> str:
        """What scoring waits for at the moment, in words; empty if for nothing."""
        return self._active.words()

    def try_out(self, samples: Iterable[Sample]) -> None:
        """Call every custom reward once, on a sample that it applies to, with the reference as the response.

        No judge and no browser is used. A reward that applies to none of the samples is not called.

        Raises:
            ConfigError: one raises (unless ``on_error`` is ``mask``) or returns something invalid; the message names
                the reward, the sample and the exception, with lines of the user's code.
        """
        first: dict[str, Sample] = {}
        for sample in samples:
            first.setdefault(canonical_task(sample.task), sample)
        rules = partial(self._by_rule, training=False)
        for key, (target, reward) in self._custom.items():
            tasks = [task for task in first if task == key or (key == "*" and task not in self._custom)]
            for sample in [first[task] for task in tasks[:1]]:
                self._tried(target, sample, partial(_own_score, target, reward, sample, rules))
        for part in self.parts:
            for sample in list(first.values())[: int(part.target not in BUILT_IN)]:
                self._tried(part.target, sample, partial(_own_part, part, sample))

    def close(self) -> None:
        """End processes that score, if there are any; what is used again starts again."""

    def _tried(self, target: str, sample: Sample, call: Callable[[str], object]) -> None:
        try:
            words = example_words(self.config.tags)
            response = full_response(one_answer(canonical_task(sample.task), sample.answer), self.config.grammar, words)
            self._time_limit.call(target, lambda: call(response))
        except Exception as error:
            if self.config.on_error == "mask" and not isinstance(error, RewardError):
                return
            what = str(error) if isinstance(error, RewardError) else f"reward {target!r} raised {error_words(error)}"
            where = f"sample {sample.id!r} ({sample.where or 'no file'})"
            raise ConfigError(
                f"{what}. It was tried on {where} with the reference as the response, before anything is built"
                f"{code_excerpt(error)}"
            ) from error

    def _scored(
        self,
        sample: Sample,
        given: Sequence[str | Completion],
        parts: Sequence[Part],
        *,
        training: bool,
        begun: Sequence[Future[Score]] = (),
    ) -> list[Score]:
        if not given:  # no reward is asked about a group that failed as a whole
            return []
        with self.spans(f"score {sample.task}", sample=sample.id):
            return self._scored_now(sample, given, parts, training=training, begun=begun)

    def _scored_now(
        self,
        sample: Sample,
        given: Sequence[str | Completion],
        parts: Sequence[Part],
        *,
        training: bool,
        begun: Sequence[Future[Score]],
    ) -> list[Score]:
        task = canonical_task(sample.task)
        completions = [one if isinstance(one, Completion) else Completion(one) for one in given]
        responses = [one.text for one in completions]
        scores = self._base(task, sample, completions, training=training, begun=begun)
        for score in scores:
            if not score.applicable:
                self._count(task, score.reason)
        for part in parts:
            values = self._values(task, part, sample, responses, scores)
            scores = [with_part(part, score, value) for score, value in zip(scores, values, strict=True)]
        return [combined(score, parts) for score in scores] if parts else scores

    def _base(
        self,
        task: str,
        sample: Sample,
        completions: Sequence[Completion],
        *,
        training: bool,
        begun: Sequence[Future[Score]],
    ) -> list[Score]:
        """Accuracy, format and their total, by the rule of the type or by the custom reward in its place."""
        tags = [self._requires_tag(one, training=training) for one in completions]
        with self._active(f"the {task} of {sample.id!r}"):
            scores = [future.result() for future in begun] or [
                self._one(task, sample, one, training=training) for one in completions
            ]
        if task in self._custom or "*" in self._custom:
            return scores
        try:
            with self._active(f"the judge or renderer of {sample.id!r}"):
                return self.reviewer.review(task, sample, completions, scores, self.settings, tags)
        except Exception as error:
            name = f"judge of {task}"
            if self.config.on_error == "stop":
                raise _stopped(name, sample, error) from error
            return [masked(_failed(name, error))] * len(scores)

    def _requires_tag(self, completion: Completion, *, training: bool) -> bool:
        asked = self.config.require_tag
        return (training and completion.asks_tag) if asked is None else asked

    def _by_rule(
        self,
        task: str,
        completion: Completion,
        answer: str,
        options: tuple[str, ...],
        row: Mapping[str, Any],
        *,
        training: bool,
    ) -> Score:
        """The score by the built-in rule of a type (``BuiltInRules``)."""
        tag = self._requires_tag(completion, training=training)
        return score_response(canonical_task(task), completion, answer, options, row, self.settings, require_tag=tag)

    def _one(self, task: str, sample: Sample, completion: Completion, *, training: bool) -> Score:
        name, custom = self._reward_of(task)
        result: Score | float | None
        try:
            rules = partial(self._by_rule, training=training)
            if custom is None:
                return rules(task, completion, sample.answer, sample.options, sample.extra)
            with self._active(f"the reward {name!r} of {sample.id!r}"):
                result = self._time_limit.call(name, lambda: custom(sample, completion, rules))
        except RewardError:
            raise
        except Exception as error:
            if self.config.on_error == "stop":
                raise _stopped(name, sample, error) from error
            result = masked(_failed(name, error))
        form = 0.0
        if result is not None and not isinstance(result, Score):
            parsed = parse(task, completion, sample.options, self.settings.grammar)
            form = format_of(parsed, completion.text, self.settings, sample.extra)
        turns = None if completion.trajectory is None else len(completion.trajectory.turns)
        return checked_score(name, result, form=form, turns=turns)

    def _reward_of(self, task: str) -> tuple[str, CustomReward | None]:
        """The name of what scores a type, and its custom reward, if it has one."""
        return self._custom.get(task) or self._custom.get("*") or (f"built-in {task}", None)

    def _values(
        self, task: str, part: Part, sample: Sample, responses: Sequence[str], scores: Sequence[Score]
    ) -> Values:
        try:
            with self._active(f"the reward {part.target!r} of {sample.id!r}"):
                values = self._time_limit.call(part.target, lambda: part_values(part, sample, responses, scores))
        except RewardError:
            raise
        except Exception as error:
            if self.config.on_error == "stop":
                raise _stopped(part.target, sample, error) from error
            self._count(task, _failed(part.target, error), len(responses))
            return [None] * len(responses)
        missing = sum(value is None and score.applicable for value, score in zip(values, scores, strict=True))
        if missing:
            self._count(task, f"the part {part.name!r} does not apply", missing)
        return values

    def _count(self, task: str, reason: str, times: int = 1) -> None:
        with self._lock:
            self._counts[task, reason] += times


def _own_score(target: str, reward: CustomReward, sample: Sample, rules: BuiltInRules, response: str) -> Score:
    return checked_score(target, reward(sample, Completion(response), rules))


def _own_part(part: Part, sample: Sample, response: str) -> Values:
    right = Score(1.0, 1.0, 1.0)  # what a part is given beside a response that is right
    return part_values(part, sample, [response], [right])


def _failed(name: str, error: Exception) -> str:
    return f"reward {name!r} raised {type(error).__name__}"


def _stopped(name: str, sample: Sample, error: Exception) -> RewardError:
    return RewardError(
        f"{_failed(name, error)}: {error} for sample {sample.id!r} ({sample.where or 'no file'}). Correct it, or set "
        "rewards.on_error: mask to leave such samples out."
    )
