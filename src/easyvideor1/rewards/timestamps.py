"""Times in words: "83 seconds", "1:23", "00:01:23.5", "1 minute 23 seconds", "1分23秒"; total and linear."""

from __future__ import annotations

import re
from dataclasses import dataclass

from easyvideor1.rewards.characters import nfkc

#: Beyond this length a text of words is no answer.
LONGEST = 2000

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
    """A time and where it stands; ``seconds`` is ``None`` for a number that is none ("40%", "0:75").

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
    """The time that a whole text is, in seconds; ``bare``: also of a number without a colon or a unit."""
    if len(text) > 60:
        return None
    text = plain(text)
    times = find_times(text)
    if len(times) != 1 or (times[0].start, times[0].end) != (0, len(text)):
        return None
    return times[0].seconds if bare or times[0].unit is not None else None
