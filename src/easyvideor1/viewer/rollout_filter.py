"""Which rollouts are shown and in which order: a filter as the query of an address, and as SQL."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from easyvideor1.types import DataError
from easyvideor1.viewer.rollout_rows import DISAGREE

#: What may be asked of a group or of its responses: name -> (label, of a response rather than of a group, SQL).
MARKS: Mapping[str, tuple[str, bool, str]] = {
    "flat": ("flat groups", False, "g.flat = 1"),
    "varied": ("groups with a difference", False, "g.responses > 1 AND g.spread >= 1e-9"),
    "unused": ("not trained on", False, "g.used = 0"),
    "turns": ("several turns", False, "g.turns > 1"),
    "cut": ("cut off", True, "m.finish = 'length'"),
    "fault": ("with a fault", True, "m.fault != ''"),
    "unscored": ("not scored", True, "m.applicable = 0"),
    "unread": ("no answer read", True, "(m.applicable = 1 AND m.parsed = '')"),
    "offline": ("offline", True, "m.origin = 'offline'"),
    "disagree": ("judge and rule disagree", True, f"ABS(m.judge - m.rule) >= {DISAGREE}"),
}
#: Orders by name: (label, SQL of groups, SQL of responses).
ORDERS: Mapping[str, tuple[str, str, str]] = {
    "": ("latest step first", "g.seq DESC", "m.seq DESC"),
    "first": ("first step first", "g.stage, g.step, g.seq DESC", "g.stage, g.step, m.seq DESC"),
    "reward": ("highest reward", "g.mean DESC, g.seq DESC", "m.applicable DESC, m.reward DESC, m.seq DESC"),
    "least": (
        "lowest reward",
        "g.mean IS NULL, g.mean, g.seq DESC",
        "m.applicable DESC, m.reward IS NULL, m.reward, m.seq",
    ),
    "spread": ("largest spread of rewards", "g.spread DESC, g.seq DESC", "g.spread DESC, m.seq DESC"),
    "length": ("longest", "g.tokens DESC, g.seq DESC", "m.tokens DESC, m.seq DESC"),
    "short": ("shortest", "g.tokens IS NULL, g.tokens, g.seq DESC", "m.tokens, m.seq"),
}
#: Characters that full-text search would take for one long word: each is a word here.
_LONE = re.compile(r"([\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])")
_PHRASE = re.compile(r'"([^"]*)"|(\S+)')
_WORD = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list shows. An empty or missing value asks for nothing. ``by`` is empty for groups, or ``response``."""

    text: str = ""
    task: str = ""
    source: str = ""
    stage: str = ""
    first: int | None = None
    last: int | None = None
    low: float | None = None
    high: float | None = None
    marks: tuple[str, ...] = ()
    order: str = ""
    by: str = ""

    @classmethod
    def of(cls, query: Any) -> Filter:
        """The filter of a query (``starlette.datastructures.QueryParams``).

        Raises:
            DataError: a value is none that there is.
        """
        marks = tuple(dict.fromkeys(name for name in query.getlist("mark") if name))
        for name, value, known in (
            *(("mark", mark, MARKS) for mark in marks),
            ("order", query.get("order", ""), ORDERS),
            ("by", query.get("by", ""), ("", "response")),
        ):
            if value not in known:
                raise DataError(f"the address has {name}={value[:60]!r}; known: {', '.join(filter(None, known))}")
        return cls(
            **{name: query.get(name, "").strip()[:2000] for name in ("text", "task", "source", "stage")},
            **{name: _number(query, name, int) for name in ("first", "last")},
            **{name: _number(query, name, float) for name in ("low", "high")},
            marks=marks,
            order=query.get("order", ""),
            by=query.get("by", ""),
        )

    def pairs(self) -> list[tuple[str, str]]:
        """The filter as the pairs of a query; ``of`` reads them back."""
        found = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "marks":
                found += [("mark", mark) for mark in value]
            elif value not in ("", None):
                found.append((field.name, _written(value)))
        return found


def _written(value: Any) -> str:
    """A value in the shortest form that reads back as it."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _number(query: Any, name: str, kind: type[int] | type[float]) -> Any:
    given = query.get(name, "").strip()
    if not given:
        return None
    try:
        value = kind(given)
    except (ValueError, OverflowError) as error:
        what = "a whole number" if kind is int else "a number"
        raise DataError(f"the address has {name}={given[:60]!r}; write {what}") from error
    if not abs(value) <= 1e15:  # and where it is none, as nan
        raise DataError(f"the address has {name}={given[:60]!r}; write a smaller number")
    return value


def words_of(text: str) -> str:
    """A text as it is searched through; without halves of surrogate pairs."""
    return _LONE.sub(r" \1 ", text.encode(errors="replace").decode())


def phrases(text: str) -> list[str]:
    """What a search asks for: words, and phrases in quotes; all of them have to be there."""
    return [found for quoted, word in _PHRASE.findall(text) if _WORD.search(found := quoted or word)]


def ordered(by: str, order: str) -> str:
    """The SQL that gives the ids of all groups ``g``, or of all responses ``m``, in an order."""
    if by != "response":
        return f"SELECT g.id FROM groups g ORDER BY {ORDERS[order][1]}"
    both = " JOIN groups g ON g.id = m.grp" if "g." in ORDERS[order][2] else ""
    return f"SELECT m.id FROM members m{both} ORDER BY {ORDERS[order][2]}"


def selected(wanted: Filter, *, full_text: bool) -> tuple[str, list[Any]] | None:
    """The SQL that gives the ids of the groups or responses that a filter leaves, in any order, and its values.

    ``None`` for a filter that asks for nothing.
    """
    of_groups: list[tuple[str, list[Any]]] = []
    of_members: list[tuple[str, list[Any]]] = []
    for name in ("task", "source", "stage"):
        if value := getattr(wanted, name):
            of_groups.append((f"g.{name} = ?", [value]))
    for column, sign, value, there in (
        ("g.step", ">=", wanted.first, of_groups),
        ("g.step", "<=", wanted.last, of_groups),
        ("m.reward", ">=", wanted.low, of_members),
        ("m.reward", "<=", wanted.high, of_members),
    ):
        if value is not None:
            there.append((f"{column} {sign} ?", [value]))
    if wanted.low is not None or wanted.high is not None:
        of_members.append(("m.applicable = 1", []))  # a reward that is masked is not shown
    for name in wanted.marks:
        _, member, condition = MARKS[name]
        (of_members if member else of_groups).append((condition, []))
    if asked := phrases(wanted.text):
        of_members += [_text(one, full_text, _SEARCHED) for one in asked]
    elif wanted.text:
        of_members.append(("0", []))  # punctuation alone is in no index
    by_response = wanted.by == "response"
    conditions = [*of_groups, *(of_members if by_response else [])]
    values = [value for _, some in conditions for value in some]
    if not by_response and of_members:
        # The conditions hold for one and the same response.
        inner = " AND ".join(condition for condition, _ in of_members)
        holds = f"g.id IN (SELECT m.grp FROM members m WHERE {inner})"
        values += [value for _, some in of_members for value in some]
        if (failed := _failed(wanted, asked, full_text, len(of_members))) is not None:
            holds = f"({holds} OR ({failed[0]}))"
            values += failed[1]
        conditions.append((holds, []))
    if not conditions:
        return None
    where = " AND ".join(condition for condition, _ in conditions)
    if not by_response:
        return f"SELECT g.id FROM groups g WHERE {where}", values
    both = " JOIN groups g ON g.id = m.grp" if "g." in where else ""
    return f"SELECT m.id FROM members m{both} WHERE {where}", values


def _failed(wanted: Filter, asked: list[str], full_text: bool, count: int) -> tuple[str, list[Any]] | None:
    """The condition on groups that failed, and so have no responses, where ``count`` conditions on responses ask for
    nothing but a fault or words of the question; else ``None``."""
    parts: list[tuple[str, list[Any]]] = [("g.error != ''", [])] if "fault" in wanted.marks else []
    if len(parts) + len(asked) != count:
        return None
    if asked and not parts:
        parts.append(("g.responses = 0", []))
    parts += [_text(one, full_text, (("g.id", "questions"),)) for one in asked]
    return " AND ".join(condition for condition, _ in parts), [value for _, some in parts for value in some]


def _text(asked: str, full_text: bool, places: Sequence[tuple[str, str]]) -> tuple[str, list[Any]]:
    """What has a phrase in one of some tables of texts, given with the column of their ids."""
    phrase = words_of(asked).strip()
    if full_text:
        # Quoted, so that nothing is taken for an operator; the last letters of a word may be missing.
        value = '"' + phrase.replace('"', '""') + '"*'
        has = "{table} MATCH ?"
    else:
        value, has = f"%{_escaped(phrase)}%", "text LIKE ? ESCAPE '\\'"
    parts = [f"{place} IN (SELECT rowid FROM {table} WHERE {has.format(table=table)})" for place, table in places]
    return f"({' OR '.join(parts)})", [value] * len(parts)


#: Where words are looked for: in a response, and in its question.
_SEARCHED = (("m.id", "texts"), ("m.grp", "questions"))


def _escaped(text: str) -> str:
    return re.sub(r"([%_\\])", r"\\\1", text)
