"""References: read once, strictly, and named when they cannot be used."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from easyvideor1.rewards.regions import last_tag
from easyvideor1.rewards.rules import RULES
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
    """The content of a JSON string; text that only looks like one stays as it is."""
    try:
        return str(json.loads(text))
    except ValueError:
        return text


@lru_cache(maxsize=8192)
def read_reference(task: str, answer: str, options: tuple[str, ...]) -> Any:
    """The typed value of a reference, plain or wrapped in ``<answer>`` tags.

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
        return rule.reference(text, options)
    except ValueError as error:
        shown = answer if len(answer) <= _SHOWN else answer[:_SHOWN] + "..."
        raise DataError(f"reference {shown!r} cannot be used for {task}: {error}; expected {rule.expected}") from error


def check_answer(
    task: str, answer: object, options: Sequence[str] = (), *, row: Mapping[str, Any] | None = None
) -> None:
    """Check when data is loaded that a row can be used to score its task type.

    Args:
        task: task type or an alias of one.
        answer: the reference, as text or as the JSON value it stands for.
        options: options of a choice question.
        row: further columns of the row; those that decide the score (``tests``, ``mask``) are checked.

    Raises:
        DataError: the task type is unknown, or the reference is unusable: what is wrong and what form is expected.
        ColumnError: a ``DataError`` for a further column, which it names.
    """
    task = canonical_task(task)
    read_reference(task, as_text(answer), tuple(options))
    RULES[task].columns(row or {})
