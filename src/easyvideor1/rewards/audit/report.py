"""The audit of rows before training: what references score against themselves, and what constant, long or empty answers
earn.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from easyvideor1.config.rewards import JudgeConfig, RewardConfig
from easyvideor1.rewards.audit.constant_baselines import ConstantBaseline, ScoreOne, best_constant
from easyvideor1.rewards.audit.length_bias import LengthBias, length_bias
from easyvideor1.rewards.readers.geometry import declared_scale
from easyvideor1.rewards.references import one_answer, plain_reference, read_reference
from easyvideor1.rewards.rules import RULES
from easyvideor1.rewards.scorer import Scorer
from easyvideor1.rewards.tags import full_response
from easyvideor1.rewards.tasks.code import empty_program
from easyvideor1.rewards.tasks.preference import is_label
from easyvideor1.types import Sample, Score

#: An accuracy from here on is 1: means of IoUs have rounding errors.
FULL = 1 - 1e-9


@dataclass(frozen=True, slots=True)
class Imperfect:
    """A reference that scores less than 1.0 against itself: where the row is, its accuracy and the reason."""

    where: str
    id: str
    accuracy: float
    reason: str

    def __str__(self) -> str:
        return f"{self.where or self.id}: the reference scores {self.accuracy:.3f} against itself: {self.reason}"


@dataclass(frozen=True, slots=True)
class Vacuous:
    """A row whose tests all pass for a program that answers every call with an empty list."""

    where: str
    id: str

    def __str__(self) -> str:
        return f"{self.where or self.id}: its tests are passed by functions that return []; compare lengths, too"


@dataclass(frozen=True, slots=True)
class Scales:
    """Coordinates of one task type: how many rows declare which scale, and how far the references reach.

    ``reach`` counts the rows whose largest coordinate is at most 1 (``0-1``), at most 1000 (``0-1000``) or larger.
    """

    declared: Mapping[str, int]
    reach: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TaskAudit:
    """The audit of one task type.

    ``imperfect`` holds the references that score less than 1.0 against themselves. ``checked`` of ``rows`` were scored;
    ``unchecked`` counts, by reason, those whose reference is not an answer (tests without a program). ``vacuous`` holds
    the rows of programs whose tests check nothing.
    """

    task: str
    rows: int
    checked: int
    unchecked: Mapping[str, int]
    imperfect: tuple[Imperfect, ...]
    constant: ConstantBaseline | None
    length: LengthBias
    scales: Scales | None
    vacuous: tuple[Vacuous, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def audit(
    samples: Sequence[Sample],
    score: ScoreOne,
    *,
    coordinates: str | None = None,
    form: Callable[[str], str] = full_response,
    seed: int = 0,
    on_task: Callable[[str, int, int], None] | None = None,
) -> tuple[TaskAudit, ...]:
    """Audit samples whose references are usable, task type by task type in order of their names.

    Args:
        samples: the rows.
        score: scores one response to one sample, such as a ``Scorer`` or ``reference_scorer(config)``.
        coordinates: the scale that the configuration declares for rows that declare none.
        form: puts an answer into a whole response; for scorers that need more than an answer tag.
        seed: of the rows that are drawn where there are more than are scored.
        on_task: called with (task type, done, total) before each task type, and with ("", total, total) at the end.
    """
    by_task: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_task[sample.task].append(sample)
    audits = []
    for done, (task, rows) in enumerate(sorted(by_task.items())):
        if on_task is not None:
            on_task(task, done, len(by_task))
        audits.append(_audit_task(task, rows, score, coordinates, form, seed))
    if on_task is not None and audits:
        on_task("", len(audits), len(audits))
    return tuple(audits)


def reference_scorer(config: RewardConfig) -> ScoreOne:
    """A scorer for answers made of references: on the scale of each row's own reference, without judge or rendering.

    In training a row may declare another scale than the prompt asks for, and answers are converted. Here they are on
    the scale of the reference already.
    """
    offline = config.model_copy(update={"judge": JudgeConfig(), "render": "off"})
    asked, own = Scorer(offline), Scorer(offline.model_copy(update={"coordinates": None}))
    return lambda sample, response: (asked if sample.extra.get("coordinates") is None else own)(sample, response)


def _audit_task(
    task: str,
    samples: Sequence[Sample],
    score: ScoreOne,
    coordinates: str | None,
    form: Callable[[str], str],
    seed: int,
) -> TaskAudit:
    def answered(sample: Sample, answer: str) -> Score:
        return score(sample, form(answer))

    unchecked: Counter[str] = Counter()
    askable: list[Sample] = []
    for sample in samples:
        reason = unanswerable(task, sample)
        if reason:
            unchecked[reason] += 1
        else:
            askable.append(sample)
    imperfect = []
    for sample in askable:
        said = answered(sample, one_answer(task, sample.answer))
        if not said.applicable or said.accuracy < FULL:
            reason = said.reason or f"it was read as {said.parsed!r}"
            imperfect.append(Imperfect(sample.where, sample.id, said.accuracy, reason))
    return TaskAudit(
        task=task,
        rows=len(samples),
        checked=len(askable),
        unchecked=dict(unchecked),
        imperfect=tuple(imperfect),
        constant=best_constant(task, samples, answered, seed=seed),
        length=length_bias(task, samples, answered, seed=seed),
        scales=_scales(task, samples, coordinates),
        vacuous=tuple(_vacuous(samples, answered)) if task == "code" else (),
    )


def _vacuous(samples: Sequence[Sample], answered: ScoreOne) -> Iterator[Vacuous]:
    for sample in samples:
        program = empty_program(read_reference("code", sample.answer, sample.options), sample.extra)
        if program is not None and answered(sample, program).accuracy >= FULL:
            yield Vacuous(sample.where, sample.id)


def unanswerable(task: str, sample: Sample) -> str:
    """Why a usable reference cannot be given as an answer; empty if it can."""
    if task == "code" and plain_reference(sample.answer).startswith("{"):
        return "the reference is tests without a program"
    if task == "preference" and not is_label(plain_reference(sample.answer)):
        return "the reference is a response for a judge to compare with"
    return ""


def _scales(task: str, samples: Sequence[Sample], coordinates: str | None) -> Scales | None:
    places = RULES[task].places
    if places is None:
        return None
    declared: Counter[str] = Counter()
    reach: Counter[str] = Counter()
    for sample in samples:
        own = declared_scale(sample.extra)
        declared[
            f"{own} (row)" if own else f"{coordinates} (rewards.coordinates)" if coordinates else "undeclared"
        ] += 1
        points = places.points(read_reference(task, sample.answer, sample.options))
        largest = max((abs(side) for point in points for side in point), default=math.nan)
        if not math.isnan(largest):
            reach["0-1" if largest <= 1 else "0-1000" if largest <= 1000 else "above 1000"] += 1
    return Scales(dict(declared), dict(reach))
