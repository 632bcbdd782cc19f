"""The nouns of rewards: what was read, what it is worth, and the rule of one task type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from easyvideor1.types import DataError, EasyVideoError, Score

#: Where an answer was found: in a closed answer tag; in one that was open when the model stopped by itself; in a box;
#: behind "the answer is"; in a reply that is the answer as a whole; or nowhere.
Found = Literal["tag", "open_tag", "boxed", "phrase", "reply", "nothing"]

#: Where a rule looks when there is no tag. ``scalar``: a box, a statement ("the answer is"), the whole reply or its
#: last line. ``prose``: a box, "final answer is", the whole reply. ``block``: the whole reply.
Fallback = Literal["scalar", "prose", "block"]


class RewardError(EasyVideoError):
    """A reward raised or returned something invalid; the message names the reward, the sample and the remedy."""


class ColumnError(DataError):
    """A further column of a row, such as ``tests`` or ``mask``, cannot be used; ``column`` is its name."""

    def __init__(self, column: str, problem: str) -> None:
        #: Without the contents of the column, so that the same cause is counted under the same reason.
        self.cause = f"the column {column!r} of the row cannot be used"
        super().__init__(f"{self.cause}: {problem}")
        self.column = column
        self.problem = problem

    def __reduce__(self) -> tuple[Any, ...]:
        return (ColumnError, (self.column, self.problem))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a response says.

    ``value`` is the typed reading (``None``: nothing readable), ``text`` the words it was read from, ``found`` the kind
    of place and ``start`` where in the response those words begin. ``canonical`` is false when the meaning is clear but
    the form is not the one asked for. ``reason`` says why there is no value.
    """

    value: Any
    text: str
    found: Found
    canonical: bool = True
    start: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """A typed value read from a piece of text; see ``Answer.canonical``.

    ``value`` is ``None`` for a text that commits to no answer, or to several; ``reason`` says which, in the same words
    for the same cause. A reader may also return ``None``: then the parser gives the reason.
    """

    value: Any
    canonical: bool = True
    reason: str = ""


def unread(reason: str) -> Reading:
    """The reading of a text without an answer; ``reason`` is short and the same for the same cause."""
    return Reading(None, canonical=False, reason=reason)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Accuracy in [0, 1] and its parts, or why the answer could not be judged.

    ``applicable=False`` is for faults outside the response: a reference or a column that cannot be used. A fault of the
    response is an accuracy with a ``reason``: otherwise a policy could learn to avoid being scored.
    """

    accuracy: float
    parts: Mapping[str, float] = field(default_factory=dict)
    applicable: bool = True
    reason: str = ""


def cannot_judge(reason: str) -> Verdict:
    """The verdict of a rule that cannot tell right from wrong; ``reason`` is short and the same for the same cause."""
    return Verdict(0.0, applicable=False, reason=reason)


#: ``(predicted, reference, row) -> Verdict``; ``row`` holds the further columns of the sample.
Compare = Callable[[Any, Any, Mapping[str, Any]], Verdict]
Coordinate = tuple[float, float]


def _no_columns(row: Mapping[str, Any]) -> None:
    """Checks nothing: most rules read no further column."""


@dataclass(frozen=True, slots=True)
class Places:
    """How to get, and how to scale, the points and boxes of a value.

    Attributes:
        points: ``value -> [(x, y), ...]``, the corners of boxes included.
        scaled: ``(value, x_factor, y_factor) -> value`` with every coordinate multiplied.
    """

    points: Callable[[Any], Sequence[Coordinate]]
    scaled: Callable[[Any, float, float], Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """How one task type is read and scored.

    Attributes:
        read: ``(text, options) -> Reading | None`` of a text that is presented as the answer (the content of a tag or
            a box, what follows "the answer is"); total and linear in the text.
        read_reply: the same for a reply without a tag, a box or a statement. It counts only if it is the answer as a
            whole ("B", "There are three cups.", JSON at the end of a reply), never because it mentions one. Default:
            ``read``.
        reference: ``(text, options) -> value``; raises ``ValueError`` with what is wrong when unusable.
        compare: the accuracy and its parts.
        expected: the form of a usable reference, in words, for error messages.
        fallback: where to look in a response without a tag.
        columns: checks the further columns of a row that ``compare`` reads; raises ``ColumnError``.
        form: the name of ``compare`` among the forms of the accuracy.
        forms: other forms of the accuracy by name.
        places: boxes and points of a value, if it has any; their scales are converted before ``compare``.
        fits: ``(reference, row)``; raises ``ValueError`` when the reference contradicts the row.
        lists: whether a reference may be a JSON list of accepted answers, any of which is right.
    """

    read: Callable[[str, tuple[str, ...]], Reading | None]
    reference: Callable[[str, tuple[str, ...]], Any]
    compare: Compare
    expected: str
    fallback: Fallback = "scalar"
    columns: Callable[[Mapping[str, Any]], None] = _no_columns
    form: str = "default"
    forms: Mapping[str, Compare] = field(default_factory=dict)
    places: Places | None = None
    fits: Callable[[Any, Mapping[str, Any]], None] | None = None
    read_reply: Callable[[str, tuple[str, ...]], Reading | None] | None = None
    lists: bool = False

    def comparison(self, form: object) -> Compare | None:
        """The comparison that a form names; ``None`` if there is none of that name."""
        return self.compare if form == self.form else self.forms.get(form) if isinstance(form, str) else None


def masked(reason: str) -> Score:
    """A score that is left out; ``reason`` says why, in the same words for the same cause."""
    return Score(0.0, 0.0, 0.0, applicable=False, reason=reason)
