"""References: read once, strictly, and reported when they cannot be used."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from easyvideor1.rewards.readers.geometry import Scale, check_scale
from easyvideor1.rewards.readers.json_answers import load_json
from easyvideor1.rewards.rules import RULES
from easyvideor1.rewards.tags import last_tag
from easyvideor1.rewards.types import ColumnError
from easyvideor1.tasks import canonical_task
from easyvideor1.types import DataError

_ANY_TAG = re.compile(r"<\s*+/?+\s*+(?:think|answer)\s*+>", re.IGNORECASE)
_SHOWN = 120


def as_text(answer: object) -> str:
    """A reference as text: text stays, booleans become yes or no, null is empty, other JSON values are written out."""
    if isinstance(answer, str):
        return answer
    if answer is None:
        return ""
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return json.dumps(answer, ensure_ascii=False)


def _unquoted(text: str) -> str:
    """The content of a JSON string; other text stays as it is."""
    try:
        return str(json.loads(text))
    except ValueError:
        return text


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Accepted answers of one question, as typed values: any of them is right."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return " | ".join(map(str, self.values))


def accepted_answers(task: str, text: str) -> tuple[str, ...]:
    """The answers that a reference accepts: the strings of a JSON list where the type allows one, else the text alone.

    A list that holds anything but strings stays as it is: ``[0, 1]`` is an interval to mathematics.
    """
    if not RULES[task].lists or not text.startswith("["):
        return (text,)
    listed = load_json(text)
    if not isinstance(listed, list) or not listed or not all(isinstance(entry, str) for entry in listed):
        return (text,)
    return tuple(dict.fromkeys(listed))


def plain_reference(answer: str) -> str:
    """The text of a reference, without the tag or the JSON quotes that may surround it."""
    tagged = last_tag(answer)
    text = (answer if tagged is None else tagged).strip()
    if text.startswith('"') and text.endswith('"'):
        quoted = load_json(text)
        return quoted if isinstance(quoted, str) else text
    return text


def one_answer(task: str, answer: str) -> str:
    """The first of the answers that a reference accepts, as a response would give it."""
    return accepted_answers(task, plain_reference(answer))[0]


@lru_cache(maxsize=8192)
def read_reference(task: str, answer: str, options: tuple[str, ...]) -> Any:
    """The typed value of a reference, plain or wrapped in ``<answer>`` tags; ``AnyOf`` of a list of accepted answers.

    Args:
        task: canonical task type.
        answer: the reference as text.
        options: options of a choice question.

    Raises:
        DataError: it cannot be used for its type; the message shows it, says why and what form is expected.
    """
    rule = RULES[task]
    tagged = last_tag(answer)
    text = (answer if tagged is None else tagged).strip()
    try:
        if tagged is None and (tag := _ANY_TAG.search(answer)):
            raise ValueError(f"it holds {tag.group()} but no <answer>...</answer>")
        if not text:
            raise ValueError("it is empty")
        if text.startswith('"') and text.endswith('"'):
            text = _unquoted(text)
        accepted = accepted_answers(task, text)
        if len(accepted) > 1:
            return AnyOf(tuple(rule.reference(one.strip(), options) for one in accepted))
        return rule.reference(accepted[0].strip(), options)
    except ValueError as error:
        raise DataError(_unusable(task, answer, error)) from error


def check_answer(
    task: str,
    answer: object,
    options: Sequence[str] = (),
    *,
    row: Mapping[str, Any] | None = None,
    coordinates: Scale | None = None,
) -> None:
    """Check when data is loaded that a row can be used to score its task type.

    Args:
        task: task type or an alias of one.
        answer: the reference, as text or as the JSON value it stands for.
        options: options of a choice question.
        row: further columns of the row; those that decide the score (``tests``, ``mask``, ``tolerance``,
            ``coordinates``, ``duration``, ``reward_form``) are checked.
        coordinates: the scale that the prompt asks for (``rewards.coordinates``).

    Raises:
        DataError: the task type is unknown, or the reference is unusable, plainly on another scale than declared, or
            outside the video: what is wrong and what form is expected.
        ColumnError: a ``DataError`` for a further column, which it names.
    """
    task = canonical_task(task)
    text, row = as_text(answer), row or {}
    reference = read_reference(task, text, tuple(options))
    rule = RULES[task]
    rule.columns(row)
    form = row.get("reward_form")
    if form is not None and rule.comparison(form) is None:
        raise ColumnError("reward_form", f"it is {form!r}; known for {task}: {', '.join((rule.form, *rule.forms))}")
    try:
        if rule.fits is not None:
            rule.fits(reference, row)
        if rule.places is not None:
            check_scale(row, rule.places.points(reference), coordinates)
    except ValueError as error:
        raise DataError(_unusable(task, text, error)) from error


def _unusable(task: str, answer: str, error: ValueError) -> str:
    shown = answer if len(answer) <= _SHOWN else answer[:_SHOWN] + "..."
    return f"reference {shown!r} cannot be used for {task}: {error}; expected {RULES[task].expected}"
