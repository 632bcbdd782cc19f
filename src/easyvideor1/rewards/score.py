"""Score one response against its reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from easyvideor1.config.rewards import RewardConfig, TagContent
from easyvideor1.rewards.extraction import parse
from easyvideor1.rewards.profiles import published_score
from easyvideor1.rewards.readers.geometry import (
    Scale,
    declared_scale,
    factors,
    mismatch,
    off_scale,
    picture_size,
    undeclared_differ,
)
from easyvideor1.rewards.references import AnyOf, as_text, read_reference
from easyvideor1.rewards.rules import RULES
from easyvideor1.rewards.tag_contents import check_tag_names, contents_hold
from easyvideor1.rewards.tags import ANSWER, Grammar, grammar_of, is_well_formed
from easyvideor1.rewards.tasks.grounding import duration_of
from easyvideor1.rewards.types import Answer, ColumnError, Rule, Verdict, cannot_judge
from easyvideor1.tasks import canonical_task
from easyvideor1.types import Completion, ConfigError, DataError, FinishReason, Score


@dataclass(frozen=True, slots=True)
class ScoringSettings:
    """See ``RewardConfig``. ``forms`` is by canonical task type."""

    accuracy_weight: float = 0.9
    format_weight: float = 0.1
    profile: str = "strict"
    grammar: Grammar = ANSWER
    coordinates: Scale | None = None
    scale_mismatch: Literal["mask", "zero"] = "mask"
    forms: Mapping[str, str] = field(default_factory=dict)
    reading: Literal["any", "asked"] = "any"
    tags: Mapping[str, TagContent] = field(default_factory=dict)


def read_settings(config: RewardConfig) -> ScoringSettings:
    """The settings of a configuration.

    Raises:
        ConfigError: the grammar, or a task type or form of ``rewards.forms``, is unknown; ``rewards.tags`` names what
            the grammar has not.
    """
    grammar = grammar_of(config.grammar)
    check_tag_names(config.tags, config.grammar)
    forms: dict[str, str] = {}
    for name, form in config.forms.items():
        try:
            task = canonical_task(name)
        except DataError as error:
            raise ConfigError(f"rewards.forms: {error}") from error
        if task in forms:
            raise ConfigError(f"rewards.forms names one task type twice: {', '.join(config.forms)}")
        rule = RULES[task]
        if rule.comparison(form) is None:
            known = ", ".join((rule.form, *rule.forms))
            raise ConfigError(f"rewards.forms: {task} has no form {form!r}; known: {known}")
        forms[task] = form
    return ScoringSettings(
        config.accuracy_weight,
        config.format_weight,
        config.profile,
        grammar,
        config.coordinates,
        config.scale_mismatch,
        forms,
        config.reading,
        config.tags,
    )


#: Why an answer that can be read does not count.
NO_TAG = "the answer is not in the answer tag that the prompt asks for"
NOT_AS_ASKED = "the answer is not in the form that the prompt asks for"
_SIZE_REASON = "the row does not say the size of its picture, which converting to or from pixels takes"


def score(
    problem_type: str,
    response: str,
    answer: object,
    *,
    options: Sequence[str] | None = None,
    question: str = "",
    accuracy_weight: float = 0.9,
    format_weight: float = 0.1,
    profile: str = "strict",
    grammar: str | tuple[str | tuple[str, ...], ...] = "answer",
    asked_coordinates: Scale | None = None,
    scale_mismatch: Literal["mask", "zero"] = "mask",
    finish: FinishReason | None = None,
    opens_thinking: bool = False,
    require_tag: bool = False,
    reading: Literal["any", "asked"] = "any",
    **row: Any,
) -> Score:
    """Score one response against its reference.

    ``total = accuracy_weight * accuracy + format_weight * format``. Accuracy is that of the answer that the response
    commits to (``parse``), or 0 with the reason if it commits to none. Format is 1 for an ``<answer>`` tag outside the
    thinking whose content is of the type, in the form asked for, in a response whose tags are those of the grammar; 0.5
    if the tag holds something else or the grammar is broken; 0 without a tag or with an empty one. An unusable
    reference or column, and boxes on another scale, give ``applicable=False`` with the reason. Any other fault of the
    response (such as an endless comparison) is accuracy 0 with the reason.

    Args:
        problem_type: task type or an alias of one.
        response: the whole response.
        answer: the reference; text, or the JSON value it stands for.
        options: options of a choice question.
        question: the question; built-in rules do not use it.
        accuracy_weight: weight of accuracy in the total.
        format_weight: weight of format in the total.
        profile: ``strict``, or a published package to compare with; see ``RewardConfig.profile``.
        grammar: the tags of a well-formed response; see ``RewardConfig.grammar``.
        asked_coordinates: the scale of boxes that the prompt asks for; see ``RewardConfig.coordinates``.
        scale_mismatch: how an answer on another scale is scored; see ``RewardConfig.scale_mismatch``.
        finish: how the response ended. One that was cut at the limit (``"length"``) has no answer unless its answer
            tag had closed. ``None``: unknown.
        opens_thinking: whether the prompt ended inside an open ``<think>``.
        require_tag: whether only an answer in a closed tag counts; see ``RewardConfig.require_tag``.
        reading: whether an answer in another form than the prompt asks for counts; see ``RewardConfig.reading``.
        row: further columns of the sample: ``tests`` for code, ``mask`` for segmentation, ``tolerance`` for numbers,
            ``coordinates`` and ``image_size`` for boxes, ``duration`` for spans, ``reward_form`` for any.

    Raises:
        DataError: the task type is unknown.
        ConfigError: the grammar or the profile is unknown.
    """
    settings = ScoringSettings(
        accuracy_weight,
        format_weight,
        profile,
        grammar_of(grammar),
        asked_coordinates,
        scale_mismatch,
        reading=reading,
    )
    completion = Completion(response, finish, opens_thinking)
    task = canonical_task(problem_type)
    return score_response(
        task, completion, as_text(answer), tuple(options or ()), row, settings, require_tag=require_tag
    )


def score_response(
    task: str,
    completion: Completion,
    answer: str,
    options: tuple[str, ...],
    row: Mapping[str, Any],
    settings: ScoringSettings,
    *,
    require_tag: bool = False,
) -> Score:
    """``score`` for a canonical task type, a reference as text, and settings read before."""
    if settings.profile != "strict":
        weights = (settings.accuracy_weight, settings.format_weight)
        return published_score(settings.profile, task, completion.text, answer, weights)
    parsed = counted_answer(task, completion, options, settings, require_tag=require_tag)
    form = format_of(parsed, completion.text, settings, row)
    try:
        reference = read_reference(task, answer, options)
    except DataError as error:
        # Without the text of the reference, so that the same cause is counted under the same reason.
        reason = f"the reference cannot be used: {error.__cause__}"
        return Score(0.0, form, 0.0, parsed=shown(parsed), applicable=False, reason=reason, found=parsed.found)
    value = parsed.value
    verdict = Verdict(0.0, reason=parsed.reason) if value is None else _verdict(task, value, reference, row, settings)
    return _weighed(verdict, verdict.parts, form, shown(parsed), parsed.found, settings)


def scored(score: Score, verdict: Verdict, settings: ScoringSettings) -> Score:
    """A score with the accuracy of a verdict and the new total; it keeps its own parts beside those of the verdict."""
    parts = {**score.parts, **verdict.parts}
    return _weighed(verdict, parts, score.format, score.parsed, score.found, settings)


def _weighed(
    verdict: Verdict, parts: Mapping[str, float], form: float, parsed: str, found: str, settings: ScoringSettings
) -> Score:
    if not verdict.applicable:
        return Score(0.0, form, 0.0, parts, parsed, applicable=False, reason=verdict.reason, found=found)
    accuracy = min(1.0, max(0.0, verdict.accuracy))
    total = min(1.0, settings.accuracy_weight * accuracy + settings.format_weight * form)
    return Score(accuracy, form, total, parts, parsed, True, verdict.reason, found)


def counted_answer(
    task: str, completion: Completion, options: tuple[str, ...], settings: ScoringSettings, *, require_tag: bool
) -> Answer:
    """The answer of a response; without its value, and with the reason, where its form does not count."""
    answer = parse(task, completion, options, settings.grammar)
    if answer.value is None:
        return answer
    if require_tag and answer.found != "tag":
        return replace(answer, value=None, reason=NO_TAG)
    if settings.reading == "asked" and not answer.canonical:
        return replace(answer, value=None, reason=NOT_AS_ASKED)
    return answer


def _verdict(task: str, predicted: Any, reference: Any, row: Mapping[str, Any], settings: ScoringSettings) -> Verdict:
    if isinstance(reference, AnyOf):
        verdicts = [_verdict(task, predicted, one, row, settings) for one in reference.values]
        return max(verdicts, key=lambda verdict: (verdict.applicable, verdict.accuracy))
    rule = RULES[task]
    form = row.get("reward_form")
    if form is None:
        form = settings.forms.get(task, rule.form)
    compare = rule.comparison(form)
    if compare is None:
        return cannot_judge("the column 'reward_form' of the row names no form of this task type")
    if rule.places is None:
        return compare(predicted, reference, row)
    try:
        moved = on_scale_of_reference(rule, predicted, reference, row, settings)
    except ColumnError as error:
        return cannot_judge(error.cause)
    if isinstance(moved, Verdict):
        return moved
    stated = declared_scale(row) or settings.coordinates
    return compare(moved, reference, row if stated is None else {**row, "coordinates": stated})


def on_scale_of_reference(
    rule: Rule, predicted: Any, reference: Any, row: Mapping[str, Any], settings: ScoringSettings
) -> Any:
    """The answer with its boxes and points on the scale of the reference, or a ``Verdict`` where that is impossible.

    Raises:
        ColumnError: the row says its scale or size in a way that is not understood.
    """
    assert rule.places is not None
    points = rule.places.points
    stated = declared_scale(row) or settings.coordinates
    if stated is None:
        differ = undeclared_differ(points(predicted), points(reference))
        return _mismatched(mismatch("answer", None), settings) if differ else predicted
    asked = settings.coordinates or stated
    size = picture_size(row) if "pixel" in (stated, asked) else None
    if off_scale(points(reference), stated, size):
        return cannot_judge(mismatch("reference", stated))
    if off_scale(points(predicted), asked, size):
        return _mismatched(mismatch("answer", asked), settings)
    if asked == stated:
        return predicted
    by = factors(asked, stated, size)
    return cannot_judge(_SIZE_REASON) if by is None else rule.places.scaled(predicted, *by)


def _mismatched(reason: str, settings: ScoringSettings) -> Verdict:
    return Verdict(0.0, {"scale_mismatch": 1.0}, applicable=settings.scale_mismatch == "zero", reason=reason)


def format_of(answer: Answer, response: str, settings: ScoringSettings, row: Mapping[str, Any]) -> float:
    """The format reward: 1, 0.5 or 0; see ``score``."""
    grammar = settings.grammar
    if answer.found != "tag" or not answer.text:
        return 0.0
    right = answer.value is not None and answer.canonical
    if right and (grammar.tag is not None or response.count("<answer>") > 1):
        right = is_well_formed(response, grammar)
    if right and settings.tags:
        right = contents_hold(response, settings.tags, duration_of(row))
    return 1.0 if right else 0.5


def shown(answer: Answer) -> str:
    """The value of an answer as text for records."""
    value = answer.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple) and all(isinstance(entry, str) for entry in value):
        return ", ".join(value)
    return str(value)
