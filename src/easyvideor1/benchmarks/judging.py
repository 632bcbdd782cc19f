"""Answers that a language model judges by a benchmark's own rubric, and how far it agrees with exact match.

The model, its cache, retries and budget are those of ``rewards.judge``. A rubric is a text of criteria (a Jinja
template of ``rubrics``) and the grades that it asks for. A verdict that cannot be read, or does not come, makes the
score not applicable, with the reason: never 0, and never left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from easyvideor1.benchmarks.benchmark import ScoreFunction, Scoring
from easyvideor1.benchmarks.rubric_prompts import request
from easyvideor1.config.rewards import JudgeConfig, RewardConfig
from easyvideor1.data.rows import PLACEHOLDER
from easyvideor1.rewards import Scorer
from easyvideor1.rewards.judge.asking import Asker, NoVerdict
from easyvideor1.rewards.judge.prompts import Ask, UnreadableVerdictError, verdict_fields
from easyvideor1.rewards.references import accepted_answers, plain_reference
from easyvideor1.rewards.review import plain_words
from easyvideor1.rewards.score import counted_answer, read_settings, score_response, scored
from easyvideor1.rewards.types import Verdict, cannot_judge
from easyvideor1.types import Completion, ConfigError, Sample, Score

#: The scale of a grade that is true or false.
YES_NO = (0, 1)
#: Parts of a judged score: the shares of its verdicts that are right by the judge, by exact match, and by both.
BY_JUDGE, BY_WORDS, BY_BOTH = "judge_right", "exact", "judge_and_exact_right"
#: A verdict whose accuracy is at least this much says that the answer is right.
_RIGHT = 0.5
_TEXTS = ("question", "reference", "answer")


@dataclass(frozen=True, slots=True)
class Rubric:
    """How a judge grades the answers of a benchmark.

    ``template`` names the criteria, a file of ``rubrics`` without its ``.j2`` (one in ``rewards.judge.templates``
    replaces it), or is the path of a file. It may use ``question``, ``reference``, ``answer``, ``options`` and ``id``.
    ``grades`` are the grades that are asked for by name, each with its lowest and highest value; ``YES_NO`` is true or
    false. The accuracy is the mean of the grades in ``decides`` (all, if empty), each scaled to [0, 1]; each grade is a
    part of the score, on its own scale.

    ``tasks`` and ``where`` (values of facets) say which samples are judged; the others keep the rewards of the run.
    ``pairs`` gives several questions to put to one response, each with its reference, such as the facts that a caption
    must hold; the score is the mean over them. With ``reader``, the name of another template, the judge first answers
    the question from the response, and this answer is graded. Without ``needed`` a run that has no judge is scored by
    its rewards.
    """

    template: str
    grades: Mapping[str, tuple[int, int]]
    decides: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    where: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    pairs: Callable[[Sample], Sequence[tuple[str, str]]] | None = None
    reader: str = ""
    needed: bool = True

    def __post_init__(self) -> None:
        wrong = [name for name, (lowest, highest) in self.grades.items() if lowest >= highest]
        wrong += [name for name in self.grades if name in {"id", "reason", BY_JUDGE, BY_WORDS, BY_BOTH}]
        wrong += [name for name in self.decides if name not in self.grades]
        if wrong or not self.grades:
            raise ConfigError(f"rubric {self.template}: its grades {wrong or '(none)'} cannot be used")

    def applies(self, sample: Sample) -> bool:
        """Whether the judge grades the responses to this sample."""
        facets = sample.extra.get("facets") or {}
        values = {name: (allowed,) if isinstance(allowed, str) else allowed for name, allowed in self.where.items()}
        return (not self.tasks or sample.task in self.tasks) and all(
            facets.get(name) in allowed for name, allowed in values.items()
        )

    def accuracy(self, grades: Mapping[str, float]) -> float:
        """The accuracy of one verdict, in [0, 1]."""
        scaled = []
        for name in self.decides or self.grades:
            lowest, highest = self.grades[name]
            scaled.append((grades[name] - lowest) / (highest - lowest))
        return fmean(scaled)

    def read(self, reply: str, wanted_id: str) -> dict[str, float]:
        """The grades of a verdict.

        Raises:
            UnreadableVerdictError: it is none.
        """
        fields = verdict_fields(reply, wanted_id, tuple(self.grades))
        return {name: _grade(name, fields[name], scale) for name, scale in self.grades.items()}

    def form(self, wanted_id: str) -> str:
        """The verdict that is asked for, as the judge is shown it."""
        wanted = [f'"id": "{wanted_id}"', '"reason": "<one sentence>"']
        for name, scale in self.grades.items():
            value = "true or false" if scale == YES_NO else f"whole number from {scale[0]} to {scale[1]}"
            wanted.append(f'"{name}": <{value}>')
        return "{" + ", ".join(wanted) + "}"


def _grade(name: str, value: Any, scale: tuple[int, int]) -> float:
    if scale == YES_NO:
        if isinstance(value, bool):
            return float(value)
        raise UnreadableVerdictError(f'"{name}" must be true or false')
    lowest, highest = scale
    if type(value) in (int, float) and math.isfinite(value) and lowest <= value <= highest:
        return float(value)
    raise UnreadableVerdictError(f'"{name}" must be a number from {lowest} to {highest}')


def judged(*rubrics: Rubric) -> Scoring:
    """The scoring of a benchmark whose answers are judged; the first rubric that applies to a sample grades it."""

    def scoring(config: RewardConfig) -> ScoreFunction:
        if not config.judge.url and not any(rubric.needed for rubric in rubrics):
            return Scorer(config)
        return RubricScorer(rubrics, config)

    return scoring


class RubricScorer:
    """Scores responses by rubrics, one at a time for each caller. Thread-safe.

    Raises:
        ConfigError: there is no judge, or a template is missing or wrong.
    """

    def __init__(self, rubrics: Sequence[Rubric], config: RewardConfig) -> None:
        if not config.judge.url:
            raise ConfigError(
                "its answers are graded by a language model: set rewards.judge.url and rewards.judge.model"
            )
        if config.profile != "strict":
            raise ConfigError(f"rewards.judge: the profile {config.profile!r} has no judge; take the profile 'strict'")
        self.rubrics = tuple(rubrics)
        self._judge = config.judge
        self._settings = read_settings(config)
        self._rewards = Scorer(config)
        self._asker = Asker(config.judge)
        for rubric in self.rubrics:
            for template, kind in ((rubric.template, "_rubric"), (rubric.reader, "_reader")):
                if template:
                    _ask(rubric, template, kind, dict.fromkeys(_TEXTS, "?"), (), config.judge)

    def __call__(self, sample: Sample, response: Completion) -> Score:
        """The score of a response; not applicable, with the reason, where a verdict is missing.

        Raises:
            RewardError: the configuration of the judge cannot work.
        """
        rubric = next((rubric for rubric in self.rubrics if rubric.applies(sample)), None)
        if rubric is None:
            return self._rewards(sample, response)
        settings = self._settings
        score = score_response(sample.task, response, sample.answer, sample.options, sample.extra, settings)
        answer = counted_answer(sample.task, response, sample.options, settings, require_tag=False)
        if answer.value is None or not answer.text.strip():
            lowest = {name: float(scale[0]) for name, scale in rubric.grades.items()}
            return scored(score, Verdict(0.0, lowest, reason=answer.reason), settings)
        return scored(score, self._verdict(rubric, sample, answer.text, score.accuracy >= 1.0), settings)

    def check_judge(self) -> None:
        """Raises ``ConfigError`` if the judge does not answer."""
        self._asker.check()

    def close(self) -> None:
        """End threads and close connections; the next request starts others."""
        self._asker.close()
        self._rewards.reviewer.close()

    def _verdict(self, rubric: Rubric, sample: Sample, answer: str, exact: bool) -> Verdict:
        if rubric.pairs is None:
            question = PLACEHOLDER.sub("", sample.question).strip()
            accepted = accepted_answers(sample.task, plain_reference(sample.answer))
            items = [(question, "\nor: ".join(accepted))]
            sames = [tuple(accepted)]
        else:
            items = list(rubric.pairs(sample))
            sames, exact = [(reference,) for _, reference in items], False
        given: Sequence[str | NoVerdict] = [answer] * len(items)
        if rubric.reader:
            reads = [self._ask(rubric, rubric.reader, "_reader", sample, (each, "", answer)) for each, _ in items]
            given = self._asker.ask_many(reads, lambda _, reply: _said(reply), "Reply with the answer alone.")
        if missing := _reasons(given):
            return cannot_judge(missing)
        said = [each for each in given if isinstance(each, str)]
        asks = [
            self._ask(rubric, rubric.template, "_rubric", sample, (question, reference, each))
            for (question, reference), each in zip(items, said, strict=True)
        ]
        found = self._asker.ask_many(asks, lambda request, reply: rubric.read(reply, request.id))
        if missing := _reasons(found):
            return cannot_judge(missing)
        grades = [each for each in found if not isinstance(each, NoVerdict)]
        accuracies = [rubric.accuracy(each) for each in grades]
        right = [accuracy >= _RIGHT for accuracy in accuracies]
        same = [
            exact or plain_words(each) in map(plain_words, accepted) for each, accepted in zip(said, sames, strict=True)
        ]
        parts = {name: fmean(each[name] for each in grades) for name in rubric.grades}
        parts |= {BY_JUDGE: fmean(right), BY_WORDS: fmean(same)}
        parts[BY_BOTH] = fmean(a and b for a, b in zip(right, same, strict=True))
        return Verdict(fmean(accuracies), parts)

    def _ask(self, rubric: Rubric, template: str, kind: str, sample: Sample, texts: tuple[str, str, str]) -> Ask:
        named = dict(zip(_TEXTS, texts, strict=True))
        return _ask(rubric, template, kind, named, sample.options, self._judge)


def _said(reply: str) -> str:
    said = reply.rpartition("</think>")[2].strip()
    if not said:
        raise UnreadableVerdictError("it is empty")
    return said


def _reasons(found: Sequence[Any]) -> str:
    """Why verdicts are missing; empty if none is."""
    return "; ".join(sorted({each.reason for each in found if isinstance(each, NoVerdict)}))


def _ask(
    rubric: Rubric, template: str, kind: str, texts: Mapping[str, str], options: tuple[str, ...], config: JudgeConfig
) -> Ask:
    return request(template, kind, texts, options, rubric.form, config)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a judge and exact match agree on the answers that both scored.

    Each answer counts once; one of several verdicts counts in shares. ``judge_only`` were right by the judge alone,
    ``exact_only`` by exact match alone.
    """

    both_right: float = 0.0
    both_wrong: float = 0.0
    judge_only: float = 0.0
    exact_only: float = 0.0

    @property
    def count(self) -> float:
        """Answers that were judged."""
        return self.both_right + self.both_wrong + self.judge_only + self.exact_only

    @property
    def share(self) -> float | None:
        """The share of answers on which both say the same; ``None`` if none was judged."""
        return (self.both_right + self.both_wrong) / self.count if self.count else None

    def __str__(self) -> str:
        if self.share is None:
            return "no answer was judged"
        return (
            f"judge and exact match agree on {100 * self.share:.1f}% of {self.count:g} judged answers: "
            f"right by the judge alone {self.judge_only:g}, by exact match alone {self.exact_only:g}"
        )


def agreement(scores: Iterable[Score]) -> Agreement:
    """The agreement over scores; those without a verdict, as of responses without an answer, are not in it.

    The judge of the rewards is asked only about answers that are not the reference word by word, so these are never
    right by exact match.
    """
    found = [shares for score in scores if score.applicable and (shares := _shares(score.parts))]
    by_judge, by_words, both = (math.fsum(shares[at] for shares in found) for at in range(3))
    return Agreement(both, len(found) - by_judge - by_words + both, by_judge - both, by_words - both)


def _shares(parts: Mapping[str, float]) -> tuple[float, float, float] | None:
    """How much of an answer is right by the judge, by exact match, and by both; ``None`` if it was not judged."""
    if BY_BOTH in parts:
        return parts[BY_JUDGE], parts[BY_WORDS], parts[BY_BOTH]
    return (float(parts["judge"] >= _RIGHT), 0.0, 0.0) if "judge" in parts else None
