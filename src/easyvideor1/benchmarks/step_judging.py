"""Reasoning that a language model judges step by step.

Recall is the share of the steps of a reference that a response has; precision is the share of its own steps that are
right.

Source: VCR-Bench (arXiv 2504.07956; ``eval_code`` of zhishuifeiqian/VCR-Bench, docs/benchmark_facts.md). The words of
the criteria are ours (``rubrics/step_*.j2``). The judge tells three kinds of steps apart; those of background count
nowhere, and a redundant step counts for no precision. Where a response or a reference has no step of a kind, there is
no such value, and the question is left out of its mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from easyvideor1.benchmarks.benchmark import ScoreFunction
from easyvideor1.benchmarks.metrics import Metric, f1, has_part, part
from easyvideor1.benchmarks.rubric_prompts import request
from easyvideor1.config.rewards import RewardConfig
from easyvideor1.data.rows import PLACEHOLDER
from easyvideor1.rewards import Scorer
from easyvideor1.rewards.judge.asking import Asker, NoVerdict
from easyvideor1.rewards.judge.prompts import Ask, UnreadableVerdictError, verdict_fields
from easyvideor1.types import Completion, Sample, Score

#: The column of a row that has its reference steps, a list of texts.
STEPS = "reference_steps"
#: The kinds of steps that a number counts.
COUNTED: Mapping[str, tuple[str, ...]] = {"": ("video", "logic"), "video ": ("video",), "logic ": ("logic",)}
#: The part of a score that says that its steps were judged.
JUDGED = "steps_judged"

_KINDS = ("video", "logic", "background")
_MATCHED = "matched"
_MOST_STEPS = 200
#: A list of steps is longer than the verdicts for which ``rewards.judge.reply_tokens`` is set.
_LEAST_REPLY = 2048


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the judge is asked of steps: its criteria and the verdicts on a step, of which ``against`` count as not
    matched and all others count nowhere."""

    template: str
    against: str
    verdicts: tuple[str, ...]

    def form(self, wanted_id: str) -> str:
        """The verdict that is asked for, as the judge is shown it."""
        kinds, verdicts = ("|".join(each) for each in (_KINDS, self.verdicts))
        step = f'{{"step": "<the step in a few words>", "kind": "{kinds}", "verdict": "{verdicts}"}}'
        return f'{{"id": "{wanted_id}", "steps": [{step}, ...]}}'


RECALL = Judgement("step_recall", "missing", (_MATCHED, "missing"))
PRECISION = Judgement("step_precision", "wrong", (_MATCHED, "wrong", "redundant"))

#: A kind of step and the verdict on it.
Step = tuple[str, str]


def read_steps(reply: str, wanted_id: str, judgement: Judgement, count: int | None = None) -> list[Step]:
    """The steps of a verdict.

    Args:
        reply: of the judge.
        wanted_id: of the request.
        judgement: what was asked.
        count: how many steps there must be; at least one if None.

    Raises:
        UnreadableVerdictError: it is none.
    """
    listed = verdict_fields(reply, wanted_id, ("steps",))["steps"]
    if not isinstance(listed, list) or not 0 < len(listed) <= _MOST_STEPS:
        raise UnreadableVerdictError(f'"steps" must be a list of 1 to {_MOST_STEPS} steps')
    if count is not None and len(listed) != count:
        raise UnreadableVerdictError(f'"steps" has {len(listed)} steps; there are {count} reference steps')
    return [_step(each, judgement) for each in listed]


def _step(value: Any, judgement: Judgement) -> Step:
    kind, verdict = (value.get(name) if isinstance(value, Mapping) else None for name in ("kind", "verdict"))
    if kind not in _KINDS or verdict not in judgement.verdicts:
        allowed = f'a "kind" of {", ".join(_KINDS)} and a "verdict" of {", ".join(judgement.verdicts)}'
        raise UnreadableVerdictError(f"a step must have {allowed}")
    return str(kind), str(verdict)


def step_parts(recalled: Sequence[Step], given: Sequence[Step]) -> dict[str, float]:
    """The recall of the reference steps and the precision of the response's, of all kinds together and of each, where
    there are such steps.

    Args:
        recalled: the verdicts of ``RECALL`` on the reference steps.
        given: the verdicts of ``PRECISION`` on the steps of the response.
    """
    parts = {}
    for name, steps, judgement in (("recall", recalled, RECALL), ("precision", given, PRECISION)):
        for prefix, kinds in COUNTED.items():
            own = [verdict for kind, verdict in steps if kind in kinds]
            matched, against = own.count(_MATCHED), own.count(judgement.against)
            if matched or against:
                parts[f"{prefix}step {name}"] = matched / (matched + against)
    return parts


def step_metrics() -> tuple[Metric, ...]:
    """F1, recall and precision of all steps, then of those of each kind; F1 is that of the means, as the authors'."""
    found: list[Metric] = []
    for prefix in COUNTED:
        precision, recall = (_mean(f"{prefix}step {name}") for name in ("precision", "recall"))
        found += [Metric(f"{prefix}step F1", of=(precision, recall), formula=f1), recall, precision]
    return tuple(found)


def _mean(name: str) -> Metric:
    return Metric(name, part(name), weight=has_part(name), needs=JUDGED)


def with_steps(config: RewardConfig) -> ScoreFunction:
    """The rewards of the run, and with a judge the steps of the responses beside them."""
    answers = Scorer(config)
    return StepScorer(answers, config) if config.judge.url and config.profile == "strict" else answers


class StepScorer:
    """Scores responses by the rewards of the run, and judges their steps. Thread-safe.

    Samples without reference steps keep the score of the rewards. A response without text has 0 in every part and asks
    nobody. If a verdict is missing, the score is not applicable, with the reason.
    """

    def __init__(self, answers: Scorer, config: RewardConfig) -> None:
        self._answers = answers
        longest = max(_LEAST_REPLY, config.judge.reply_tokens)
        self._judge = config.judge.model_copy(update={"reply_tokens": longest})
        self._asker = Asker(self._judge)
        texts = dict.fromkeys(("question", "reference", "steps", "answer"), "?")
        for judgement in (RECALL, PRECISION):
            request(judgement.template, "_steps", texts, (), judgement.form, config.judge)

    def __call__(self, sample: Sample, response: Completion) -> Score:
        """The score of a response.

        Raises:
            RewardError: the configuration of the judge cannot work.
        """
        score = self._answers(sample, response)
        steps = sample.extra.get(STEPS)
        if not steps or not score.applicable:
            return score
        if not response.text.strip():
            nothing = [(kind, each.against) for kind in _KINDS for each in (RECALL, PRECISION)]
            return _with(score, step_parts(nothing, nothing))
        asks = [self._ask(judgement, sample, steps, response.text) for judgement in (RECALL, PRECISION)]
        counts = {asks[0].id: len(steps)}

        def read(asked: Ask, reply: str) -> list[Step]:
            judgement = RECALL if asked.id in counts else PRECISION
            return read_steps(reply, asked.id, judgement, counts.get(asked.id))

        recalled, given = self._asker.ask_many(asks, read)
        if isinstance(recalled, NoVerdict):
            return replace(score, applicable=False, reason=recalled.reason)
        if isinstance(given, NoVerdict):
            return replace(score, applicable=False, reason=given.reason)
        return _with(score, step_parts(recalled, given))

    def check_judge(self) -> None:
        """Raises ``ConfigError`` if the judge does not answer."""
        self._asker.check()

    def close(self) -> None:
        """End threads and close connections; the next request starts others."""
        self._asker.close()
        self._answers.reviewer.close()

    def _ask(self, judgement: Judgement, sample: Sample, steps: Sequence[str], response: str) -> Ask:
        question = PLACEHOLDER.sub("", sample.question).strip()
        texts = {
            "question": "\n".join((question, *sample.options)),
            "reference": sample.answer,
            "steps": "\n".join(steps),
            "answer": response,
        }
        return request(judgement.template, "_steps", texts, (), judgement.form, self._judge)


def _with(score: Score, parts: Mapping[str, float]) -> Score:
    return replace(score, parts={**score.parts, **parts, JUDGED: 1.0})
