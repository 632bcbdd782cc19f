"""English number words: "two hundred and five" is 205, never the sum of its words."""

from __future__ import annotations

_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_UNITS = {word: float(n) for n, word in enumerate((_ONES + " seventeen eighteen nineteen").split())}
_TENS_IN_ORDER = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_TENS = {word: 10.0 * (n + 2) for n, word in enumerate(_TENS_IN_ORDER)}
SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_PARTS = {"half": 2.0, "halves": 2.0, "third": 3.0, "thirds": 3.0, "quarter": 4.0, "quarters": 4.0}
NUMBER_WORDS = frozenset(_UNITS) | frozenset(_TENS) | frozenset(SCALES) | {"half", "dozen"}
_GLUE = frozenset(("and", "a", "an", "point", "minus", "negative")) | frozenset(_PARTS)


def runs(words: list[str]) -> list[tuple[int, list[str]]]:
    """Maximal stretches of number words, with the "and", "a", "point", "minus" that belong to them, and their start."""
    found: list[tuple[int, list[str]]] = []
    current: list[str] = []
    for at, word in enumerate([*words, ""]):
        if word in NUMBER_WORDS or word in _GLUE:
            current.append(word)
            continue
        start = at - len(current)
        while current and current[-1] in {"and", "a", "an", "point", "minus", "negative"}:
            current.pop()
        while current and current[0] == "and":
            current.pop(0)
            start += 1
        if any(word in NUMBER_WORDS or word in _PARTS for word in current):
            found.append((start, current))
        current = []
    return found


def value_of(run: list[str]) -> float | None:
    """The number that a run of words says, or ``None`` if the words are no number ("one two three")."""
    words = [word for word in run if word not in {"a", "an"}]
    sign = 1.0
    if words and words[0] in {"minus", "negative"}:
        sign, words = -1.0, words[1:]
    if words in (["half"], ["quarter"], ["third"]):
        # "the third" is an ordinal; only "half" and "a quarter" are amounts by themselves.
        return None if words == ["third"] else sign / _PARTS[words[0]]
    if len(words) == 3 and words[1:] == ["and", "half"]:
        whole = _whole(words[:1])
        return None if whole is None else sign * (whole + 0.5)
    if len(words) > 1 and words[-1] in _PARTS:
        top = _whole(words[:-1])
        return None if top is None else sign * top / _PARTS[words[-1]]
    if "point" in words:
        cut = words.index("point")
        whole, digits = _whole(words[:cut]), words[cut + 1 :]
        if whole is None or not digits or any(_UNITS.get(word, 10.0) > 9 for word in digits) or len(digits) > 15:
            return None
        return sign * float(f"{whole:.0f}." + "".join(f"{_UNITS[word]:.0f}" for word in digits))
    whole = _whole(words)
    return None if whole is None else sign * whole


def _whole(words: list[str]) -> float | None:
    """A whole number by the grammar of English: each word must fit into the place that the words before it left."""
    if not words or len(words) > 40:
        return None
    if words[-1] == "dozen":
        count = 1.0 if len(words) == 1 else _whole(words[:-1])
        return None if count is None else 12.0 * count
    total, group, room, scale_limit = 0.0, 0.0, 1000.0, float("inf")
    started = False
    for at, word in enumerate(words):
        if word == "and":
            if at == 0 or at + 1 == len(words) or words[at - 1] not in SCALES:
                return None
        elif word in _UNITS or word in _TENS:
            amount = _UNITS.get(word, _TENS.get(word, 0.0))
            if amount >= room or (amount == 0.0 and len(words) > 1):
                return None
            group, started = group + amount, True
            room = 10.0 if word in _TENS else 0.0
        elif word == "hundred":
            if group >= 100 or (started and group == 0):
                return None
            group, started, room = (group or 1.0) * 100, True, 100.0
        elif word in SCALES:
            if SCALES[word] >= scale_limit:
                return None
            scale_limit = SCALES[word]
            total, group, started, room = total + (group or 1.0) * scale_limit, 0.0, False, 1000.0
        else:
            return None
    return total + group
