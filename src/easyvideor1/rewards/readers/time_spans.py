"""Times and time spans, in JSON and in words.

Times: "83 seconds", "1:23", "00:01:23.5", "1 minute 23 seconds", "1分23秒". Spans: JSON of several kinds, and words
("from 1:23 to 1:45", "10-20, 30-40", "从83秒到105秒"). Total and linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from easyvideor1.rewards.readers import geometry
from easyvideor1.rewards.readers.geometry import Span
from easyvideor1.rewards.readers.json_answers import (
    DENIED,
    LENIENT_LIMIT,
    SEVERAL,
    NoAnswerError,
    find_json_values,
    read_json_answer,
    read_json_reply,
)
from easyvideor1.rewards.readers.plain_text import nfkc
from easyvideor1.rewards.types import Reading, unread

#: A longer text of words is not an answer.
LONGEST_WORDS = 2000

_UNITS = {
    3600.0: r"hours?|hrs?|h|\u5c0f\u65f6|\u5c0f\u6642|\u65f6",
    60.0: r"minutes?|mins?|m|\u5206\u949f|\u5206\u9418|\u5206",
    1.0: r"seconds?|secs?|s|\u79d2\u949f|\u79d2\u9418|\u79d2",
}
_UNIT = "|".join(f"(?P<u{at}>(?:{words})(?![a-z]))" for at, words in enumerate(_UNITS.values()))
_CLOCK = r"(?:(?P<hours>\d{1,3}):)?(?P<minutes>\d{1,3}):(?P<seconds>\d{2}(?:\.\d{1,6}|,\d{3})?)(?![\d:]|[.,]\d)"
_AMOUNT = r"(?P<amount>(?:\d{1,9}(?:\.\d{1,18})?|\.\d{1,18})(?![\d:]|\.\d))"
_TIME = re.compile(
    rf"(?:(?<![a-z\d_])|(?<=\d[hm]))(?<!\d[.:,])(?:{_CLOCK}(?:\s?(?:hours?|hrs?|minutes?|mins?|seconds?|secs?|[hms])(?![a-z]))?(?![a-z_])"
    rf"|{_AMOUNT}(?P<other>\s?(?:%|fps\b|frames?\b))?(?:[\s-]?(?:{_UNIT})|(?![a-z\d_])))"
)
_JOINT = re.compile(r"\s?(?:and\s|,\s?)?")
#: Every dash is "-", an arrow is "to", and signs of emphasis are blanks.
_SIGNS = {
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u301c~\uff5e"), "-"),
    **dict.fromkeys(map(ord, "\u2192\u21d2"), " to "),
    **dict.fromkeys(map(ord, "*`\"'\u201c\u201d\u2018\u2019"), " "),
}


@dataclass(frozen=True, slots=True)
class Time:
    """A time and where it stands; ``seconds`` is ``None`` for a number that is not a time ("40%", "0:75").

    ``unit`` is the length of its unit in seconds; 0 for a clock and ``None`` for a bare number.
    """

    seconds: float | None
    unit: float | None
    start: int
    end: int


def plain(text: str) -> str:
    """A text with one spelling of digits, dashes and blanks, in small letters."""
    return re.sub(r"[^\S\n]+", " ", nfkc(text).translate(_SIGNS).casefold()).strip()


def find_times(text: str) -> list[Time]:
    """The times of a ``plain`` text from left to right; "1 minute 23 seconds" is one."""
    times: list[Time] = []
    for match in _TIME.finditer(text):
        time = _time(match)
        last = times[-1] if times else None
        if last is not None and _goes_on(last, time, text):
            total = (last.seconds or 0.0) + (time.seconds or 0.0)
            times[-1] = Time(total, time.unit, last.start, time.end)
        else:
            times.append(time)
    return times


def _goes_on(last: Time, time: Time, text: str) -> bool:
    """Whether a time is the smaller part of the one before: the seconds after the minutes."""
    if not last.unit or not time.unit or time.unit >= last.unit or time.seconds is None or last.seconds is None:
        return False
    return time.seconds < last.unit and _JOINT.fullmatch(text, last.end, time.start) is not None


def _time(match: re.Match[str]) -> Time:
    start, end = match.span()
    if match["minutes"] is not None:
        hours, minutes = match["hours"], float(match["minutes"])
        seconds = float(match["seconds"].replace(",", "."))
        if seconds >= 60 or (hours is not None and minutes >= 60):
            return Time(None, 0.0, start, end)
        return Time(float(hours or 0) * 3600 + minutes * 60 + seconds, 0.0, start, end)
    if match["other"] is not None:
        return Time(None, None, start, end)
    unit = next((length for at, length in enumerate(_UNITS) if match[f"u{at}"] is not None), None)
    return Time(float(match["amount"]) * (unit or 1.0), unit, start, end)


def seconds_of(text: str, *, bare: bool = True) -> float | None:
    """The time of a whole text, in seconds; with ``bare`` also a number without a colon or a unit."""
    if len(text) > 60:
        return None
    text = plain(text)
    times = find_times(text)
    if len(times) != 1 or (times[0].start, times[0].end) != (0, len(text)):
        return None
    return times[0].seconds if bare or times[0].unit is not None else None


NO_SPAN = "no time span was found"
REVERSED = "a time span ends before it begins"
ONE_TIME = "a single time is no time span"
TOO_MANY = "too many time spans are given"
QUOTED = "a number in quotes is no time"
NO_SECONDS = "frames are no seconds"

#: Keys that hold the two ends of a span, and keys that hold spans.
ENDS = (
    ("start", "end"),
    ("start_time", "end_time"),
    ("begin", "end"),
    ("begin_time", "end_time"),
    ("start_sec", "end_sec"),
    ("start_seconds", "end_seconds"),
    ("start_timestamp", "end_timestamp"),
    ("from", "to"),
)
HOLDERS = {
    *("time", "times", "timestamp", "timestamps", "time_span", "time_spans", "time_range", "time_ranges"),
    *("time_interval", "span", "spans", "segment", "segments", "interval", "intervals", "moment", "moments", "range"),
    *("event", "events", "clip", "clips", "window", "windows", "answer", "result"),
}
_DEEPEST = 6

_WORDS = (
    r"(?:about|around|approximately|roughly|the|a|second|seconds|minute|time|timestamp|mark|at|is|\u7b2c|\u7ea6)"
    r"(?![a-z])"
)
_RANGE = re.compile(
    r"[\s)\]]*+(?:marks?|points?)?\s?(?:,\s)?"
    r"(?:-{1,3}>?|>\s?-\s?<|to|until|till|through|thru|up to|\.{2,3}|\u5230|\u81f3|\u76f4\u5230)(?![a-z])"
    rf"[\s(\[]*+(?:{_WORDS}\s?)*+"
)
_AND = re.compile(rf"[\s)\]]*+(?:marks?\s)?(?:and|&|\u548c|\u4e0e|\u53ca)\s?(?:{_WORDS}\s?)*+")
_BETWEEN = re.compile(rf"\bbetween\s(?:{_WORDS}\s)*+\Z")
_END = re.compile(
    r"[\s,;.)\]|/]*+(?:marks?)?[\s,;.]*+(?:(?:and|then|it|the event)\s)*+"
    r"(?:end(?:s|ed|ing)?|finish(?:es|ed|ing)?|stop(?:s|ped|ping)?|conclud(?:es|ed|ing)|\u7ed3\u675f)(?:_time)?"
    rf"(?:[\s:=]|\u4e8e|\u65f6\u95f4|\u5728|by|on|{_WORDS})*+"
)
_START = re.compile(r"\b(?:start|begin|began|onset|from)|\u5f00\u59cb|\u4ece")
_NEXT = re.compile(
    rf"[\s,;\u3001.|/)(\]\[&+]*+(?:(?:and|then|also|from|between|\u548c|\u53ca|\u4ece)\s?)*+(?:{_WORDS}\s?)*+[\s(\[]*+"
)
_OR = re.compile(r"\b(?:or|either|maybe|perhaps|possibly)\b|\u6216")
_NOT = re.compile(r"(?:\bnot|\bnever|n t|\u4e0d\u662f)\s(?:at\s|from\s|between\s|in\s)?(?:the\s)?\Z")
_LASTS = re.compile(r"\b(?:last|duration|length|total|long|within|out of)")
_LONG = re.compile(r"\s?(?:long|in total|in length)")
_FRAMES = re.compile(r"\bframes?\b")
_COUNTS = re.compile(
    r"(?:\A|(?<=\n))\s?(?:-\s|\u2022\s?|\d{1,2}[.)]\s)"
    r"|\b(?:event|segment|span|clip|interval|scene|part|moment)\s?#?\d{1,2}\s?[:.)-]\s"
)
#: A thing that a number counts: "2 people", and "event 2 happens".
_COUNTED = re.compile(r"\s(?!(?:and|to|or|but|until|then)\b)[a-z]")
#: A reply in words is one sentence of at most as many characters.
_SENTENCE = 300
_MORE = re.compile(r"[!?\u3002]\s?\S|(?<!\d)\.\s\S|\.\s[a-z]|\n\s?\n")
_HEDGES = re.compile(
    r"\b(?:but|however|although|unless|wait|if|whether|would|instead|cannot|don t|unsure|not sure)\b|\?"
)
#: Words beside bare numbers that state nothing else. No word may begin a later one, as nothing is tried again.
_BARE = re.compile(
    r"(?:timestamps?|times?|range|window|seconds?|spans?|answer|final|segments?|events?|starts?|ends?|from|between|and|to"
    r"|at|is|the|interval|it|[\W\d_])*+"
)
_WORDLESS = re.compile(r"[\s,;\[\]():.-]*+")


def read_spans(text: str, options: tuple[str, ...]) -> Reading | None:
    """``{"time": [start, end]}`` in seconds or a list of such pairs; the form that is asked for.

    Understood as well: bare lists; objects and lists of objects with the keys of ``ENDS`` or ``HOLDERS``; clocks and
    units ("0:12", "12 s") for numbers; and words that name both ends of a span. A number in quotes is a time only
    under a key for one end. A single time, a reversed span and a text with two different answers are not read.
    """
    if text.startswith("<") and text.endswith(">") and "<" not in text[1:]:
        text = text[1:-1]
    return read_json_answer(text, spans_of, NO_SPAN, _asked, spans_in_words)


def read_spans_reply(text: str, options: tuple[str, ...]) -> Reading | None:
    """A reply without a tag: JSON at its end, or one sentence that states spans and does not take them back."""
    if len(text) <= LENIENT_LIMIT and find_json_values(text):
        reading = read_json_reply(text, lambda whole: read_json_answer(whole, spans_of, NO_SPAN, _asked), NO_SPAN)
        if reading.value is not None or reading.reason != NO_SPAN:
            return reading
    if len(text) > _SENTENCE:
        return unread(NO_SPAN)
    words = plain(text)
    if _MORE.search(words) or _HEDGES.search(words) or words.endswith((",", ":", "...")):
        return unread("the reply is more than a statement of a time span")
    if all(time.unit is None for time in find_times(words)) and not _BARE.fullmatch(words):
        return unread(NO_SPAN)
    return read_spans(text, options)


def _asked(data: Any) -> tuple[Span, ...] | None:
    return geometry.one_or_more(data.get("time"), geometry.span) if isinstance(data, dict) else None


def spans_of(data: Any) -> tuple[Span, ...]:
    """The spans that JSON holds.

    Raises:
        NoAnswerError: there are none or too many, or one of them cannot be read.
    """
    return _spans(data, _DEEPEST)


def _spans(data: Any, depth: int) -> tuple[Span, ...]:
    if depth == 0:
        raise NoAnswerError(NO_SPAN)
    if isinstance(data, str):
        return spans_in_words(data)
    if isinstance(data, Mapping):
        return _spans_of_object(data, depth)
    if not isinstance(data, list) or not data:
        raise NoAnswerError(NO_SPAN)
    if len(data) == 2 and (ends := [_end(entry) for entry in data]) and None not in ends:
        return (_span(*ends),)
    if len(data) > geometry.MOST_ITEMS:
        raise NoAnswerError(TOO_MANY)
    if any(geometry.number(entry) is not None for entry in data):
        raise NoAnswerError(ONE_TIME if len(data) == 1 else NO_SPAN)
    if all(isinstance(entry, str) and seconds_of(entry) is not None for entry in data):
        raise NoAnswerError(QUOTED if len(data) == 2 else NO_SPAN)
    found = [_spans(entry, depth - 1) for entry in data]
    if any(len(spans) != 1 for spans in found):
        raise NoAnswerError(NO_SPAN)
    return tuple(spans[0] for spans in found)


def _spans_of_object(data: Mapping[Any, Any], depth: int) -> tuple[Span, ...]:
    keyed = {key.strip().lower().replace(" ", "_").replace("-", "_"): key for key in data if isinstance(key, str)}
    for first, last in ENDS:
        if first in keyed and last in keyed:
            ends = [_end(data[keyed[name]], bare=True) for name in (first, last)]
            if None in ends:
                raise NoAnswerError(NO_SPAN)
            return (_span(*ends),)
    found: list[tuple[Span, ...]] = []
    reason = NO_SPAN
    for name, key in keyed.items():
        if name not in HOLDERS:
            continue
        try:
            spans = _spans(data[key], depth - 1)
        except NoAnswerError as error:
            reason = str(error) if reason == NO_SPAN else reason
            continue
        if spans not in found:
            found.append(spans)
    if len(found) > 1:
        raise NoAnswerError(SEVERAL)
    if not found:
        single = any(_end(data[key], bare=True) is not None for name, key in keyed.items() if name in HOLDERS)
        raise NoAnswerError(ONE_TIME if single else reason)
    return found[0]


def _end(value: Any, *, bare: bool = False) -> float | None:
    return seconds_of(value, bare=bare) if isinstance(value, str) else geometry.number(value)


def _span(start: float | None, end: float | None) -> Span:
    if start is None or end is None:
        raise NoAnswerError(NO_SPAN)
    if end < start:
        raise NoAnswerError(REVERSED)
    return (start, end)


def spans_in_words(text: str) -> tuple[Span, ...]:
    """The spans that words state.

    Times are joined in pairs by what stands between them ("to", a dash, "between ... and", "starts ... ends"). Pairs
    with no more than a comma or "and" between them are several spans; with other words between they must be the same.

    Raises:
        NoAnswerError: there are none, or the meaning is open: "or", a further time, pairs that overlap.
    """
    if len(text) > LONGEST_WORDS:
        raise NoAnswerError(NO_SPAN)
    text = _COUNTS.sub(" ; ", plain(text)).strip()
    times = find_times(text)
    if not times:
        raise NoAnswerError(NO_SPAN)
    if _FRAMES.search(text) and all(time.unit is None for time in times):
        raise NoAnswerError(NO_SECONDS)
    gaps = _gaps(text, times)
    pairs, lone = _paired(times, gaps)
    if not pairs:
        return _without_words(text, times)
    if any(_OR.search(gap) for gap in gaps[1:-1]):
        raise NoAnswerError(SEVERAL)
    pairs = [at for at in pairs if not _NOT.search(gaps[at])]
    if not pairs:
        raise NoAnswerError(DENIED)
    if any(_matters(at, times, gaps) for at in lone):
        raise NoAnswerError("a time stands beside the time span")
    groups: list[list[Span]] = []
    for at in pairs:
        if at > 1 and at - 2 in pairs and _NEXT.fullmatch(gaps[at]) and gaps[at].strip() != "(":
            groups[-1].append(_pair(times[at], times[at + 1]))
        else:
            groups.append([_pair(times[at], times[at + 1])])
    if any(group != groups[0] for group in groups):
        raise NoAnswerError(SEVERAL)
    if len(groups[0]) > geometry.MOST_ITEMS:
        raise NoAnswerError(TOO_MANY)
    return tuple(groups[0])


def _gaps(text: str, times: list[Time]) -> list[str]:
    """What stands before, between and after the times."""
    edges = [0, *(time.end for time in times)]
    starts = [*(time.start for time in times), len(text)]
    return [text[edge:start] for edge, start in zip(edges, starts, strict=True)]


def _paired(times: list[Time], gaps: list[str]) -> tuple[list[int], list[int]]:
    """The places of the first times of pairs, and of the times that are in no pair."""
    pairs, lone, at = [], [], 0
    while at < len(times):
        if at + 1 < len(times) and _joined(gaps[at], gaps[at + 1], gaps[at + 2]):
            if at + 2 < len(times) and _RANGE.fullmatch(gaps[at + 2]):
                raise NoAnswerError(SEVERAL)
            pairs.append(at)
            at += 2
        else:
            lone.append(at)
            at += 1
    return pairs, lone


def _joined(before: str, between: str, after: str) -> bool:
    if len(between) > 60:
        return False
    if _RANGE.fullmatch(between):
        return True
    if _AND.fullmatch(between):
        return bool(_BETWEEN.search(before[-40:])) or after.lstrip().startswith("\u4e4b\u95f4")
    return bool(_END.fullmatch(between)) and bool(_START.search(before[-60:]))


def _pair(first: Time, last: Time) -> Span:
    start = first.seconds
    if start is not None and first.unit is None and last.unit in (60.0, 3600.0):
        start *= last.unit  # "from 1 to 2 minutes"
    return _span(start, last.seconds)


def _matters(at: int, times: list[Time], gaps: list[str]) -> bool:
    """Whether a time outside the pairs could be the answer: not a count of things, and not a length."""
    before, after = gaps[at], gaps[at + 1]
    if _LASTS.search(before[-30:]) or _LONG.match(after):
        return False
    return times[at].unit is not None or not _COUNTED.match(after)


def _without_words(text: str, times: list[Time]) -> tuple[Span, ...]:
    """Two times with a comma between and no words around are a span."""
    if len(times) == 1:
        raise NoAnswerError(ONE_TIME)
    outside = text[: times[0].start] + text[times[0].end : times[1].start] + text[times[1].end :]
    if len(times) == 2 and _WORDLESS.fullmatch(outside):
        return (_pair(times[0], times[1]),)
    raise NoAnswerError(NO_SPAN)
