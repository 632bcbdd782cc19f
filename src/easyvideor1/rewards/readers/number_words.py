"""Numbers in words: English number words, Chinese characters, and the words around a number.

"Two hundred and five" is 205, never the sum of its words. The words around a number tell a sentence that states it from
one that only mentions it or says "none".
"""

from __future__ import annotations

import re

_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_UNITS = {word: float(n) for n, word in enumerate((_ONES + " seventeen eighteen nineteen").split())}
_TENS_IN_ORDER = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_TENS = {word: 10.0 * (n + 2) for n, word in enumerate(_TENS_IN_ORDER)}
SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_PARTS = {"half": 2.0, "halves": 2.0, "third": 3.0, "thirds": 3.0, "quarter": 4.0, "quarters": 4.0}
NUMBER_WORDS = frozenset(_UNITS) | frozenset(_TENS) | frozenset(SCALES) | {"half", "dozen"}
_GLUE = frozenset(("and", "a", "an", "point", "minus", "negative")) | frozenset(_PARTS)


def number_word_runs(words: list[str]) -> list[tuple[int, list[str]]]:
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


def number_in_words(run: list[str]) -> float | None:
    """The number of a run of words; ``None`` if they are not a number ("one two three")."""
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


_DIGITS = {sign: float(n) for n, sign in enumerate("零一二三四五六七八九")}
_DIGITS |= {"\u3007": 0.0, "两": 2.0, "兩": 2.0, "俩": 2.0, "壹": 1.0, "贰": 2.0, "叁": 3.0}
_STEPS = {"十": 10.0, "百": 100.0, "千": 1000.0}
_SCALES = {"万": 1e4, "萬": 1e4, "亿": 1e8, "億": 1e8}
_NUMERALS = "".join((*_DIGITS, *_STEPS, *_SCALES))
#: Korean counting words and Japanese ones that stand alone.
_WHOLE = {
    "하나": 1.0, "한": 1.0, "둘": 2.0, "두": 2.0, "셋": 3.0, "세": 3.0, "넷": 4.0, "네": 4.0, "다섯": 5.0, "여섯": 6.0,
    "일곱": 7.0, "여덟": 8.0, "아홉": 9.0, "열": 10.0, "영": 0.0, "ゼロ": 0.0, "없음": 0.0,
}  # fmt: skip
CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_LETTER = r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7afA-Za-z]"
_NUMBER = (
    rf"(?P<value>-?\d[\d,]*+(?:\.\d++)?|[负負]?[{_NUMERALS}]++(?:点[{_NUMERALS}]++)?+(?P<half>半)?"
    rf"|半|{'|'.join(sorted(_WHOLE, key=len, reverse=True))})"
)
#: What introduces a number: "一共", "答案是", "桌子上有", "図には", "총".
_LEAD = (
    r"(?:[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af、\uff0c,\s]{0,16}?"
    r"(?:是|为|為|有|共|计|計|约|約|大概|到了|\uff1a|:|は|が|총|약|등|는|은|이|가))?\s?(?:[大约約仅只]{1,2}|총|약|모두)?\s?"
)
_TAIL = rf"(?P<percent>\s?[%\uff05])?\s?(?P<tail>(?:{_LETTER}|\s|[²³/]){{0,16}})[。.!\uff01]{{0,2}}"
_STATES = re.compile(_LEAD + _NUMBER + _TAIL)
_PERCENT = re.compile(rf"{_LEAD}百分之(?P<value>[{_NUMERALS}]++(?:点[{_NUMERALS}]++)?+|\d++(?:\.\d++)?)[。.]{{0,2}}")
_NONE_IN_CHARACTERS = re.compile(
    r"(?:[\u3400-\u9fff]{0,10}?(?:没有|沒有|无|無)(?!法|人知|答|办)(?:[\u3400-\u9fff]{0,8})"
    r"|(?:一[个個]也|都)没有|없음|없다|없습니다|ありません|いません|なし)[。.!\uff01]{0,2}"
)
#: Guesses between values, bounds, denials, ordinals and questions.
_REFUSED = re.compile(
    r"[或還还]|至少|最多|不到|超过|超過|以上|以下|大于|小于|多于|少于|不是|第|到底|几|か|吗|嗎|또는|이상|이하|미만|または|また"
)


def states_in_characters(text: str) -> tuple[float, bool] | None:
    """The number that a short text states, and whether it has a percent sign; ``None`` if it states no number.

    "三", "十二", "两百", "三个", "一共有三个杯子。" and "3개" do; "没有" and "没有杯子" are 0. A guess between two
    numbers, a bound or an ordinal states none.
    """
    text = text.strip()
    if len(text) > 60 or _REFUSED.search(text):
        return None
    if match := _PERCENT.fullmatch(text):
        value = value_in_characters(match["value"])
        return None if value is None else (value, True)
    if _NONE_IN_CHARACTERS.fullmatch(text):
        return 0.0, False
    match = _STATES.fullmatch(text)
    if match is None or re.search(rf"[\d{_NUMERALS}]", match["tail"]):
        return None
    value = value_in_characters(match["value"])
    return None if value is None else (value, match["percent"] is not None)


def value_in_characters(text: str) -> float | None:
    """The number in characters, or ``None``: 十二 is 12, 两百零五 is 205, 三点五 is 3.5, 二〇二四 is 2024."""
    if text in _WHOLE:
        return _WHOLE[text]
    if re.fullmatch(r"-?\d[\d,]*+(?:\.\d++)?", text):
        return float(text.replace(",", "")) if len(text) < 300 else None
    if text == "半":
        return 0.5
    if text[0] in "负負":
        value = value_in_characters(text[1:]) if len(text) > 1 else None
        return None if value is None else -value
    if text.endswith("半"):
        value = value_in_characters(text[:-1])
        return None if value is None else value + 0.5
    whole, point, behind = text.partition("点")
    if point:
        value = _whole_in_characters(whole)
        digits = "".join(f"{_DIGITS[sign]:.0f}" for sign in behind if sign in _DIGITS)
        return float(f"{value:.0f}.{digits}") if value is not None and len(digits) == len(behind) > 0 else None
    return _whole_in_characters(text)


def _whole_in_characters(text: str) -> float | None:
    """A whole number; "三四个" (three or four) is not one."""
    if not text or len(text) > 30:
        return None
    if all(sign in _DIGITS for sign in text):
        if len(text) > 1 and (len(text) < 3 or text[0] in "零〇"):
            return None
        return float("".join(f"{_DIGITS[sign]:.0f}" for sign in text))
    total, group, digit, limit, step_limit = 0.0, 0.0, -1.0, float("inf"), float("inf")
    for at, sign in enumerate(text):
        if sign in "零〇":
            if at == 0 or digit >= 0:
                return None
        elif sign in _DIGITS:
            if digit >= 0:
                return None
            digit = _DIGITS[sign]
        elif sign in _STEPS:
            if _STEPS[sign] >= step_limit or (digit < 0 and not (sign == "十" and group == 0)):
                return None
            step_limit = _STEPS[sign]
            group, digit = group + (digit if digit >= 0 else 1.0) * step_limit, -1.0
        else:
            if _SCALES[sign] >= limit or (group == 0 and digit < 0):
                return None
            limit = _SCALES[sign]
            total, group, digit, step_limit = total + (group + max(digit, 0.0)) * limit, 0.0, -1.0, float("inf")
    return total + group + max(digit, 0.0)


#: A text of more words is prose, which has to state its number.
PROSE_WORDS = 12
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
MENTIONED = "the text states no number"

#: Words before a number that do not change it.
_FILLERS = frozenset(
    {
        *("about", "approximately", "roughly", "around", "only", "exactly", "just", "nearly", "almost", "a", "an"),
        *("of", "total", "precisely", "altogether", "overall", "so", "thus", "hence", "therefore", "well", "okay"),
        *("ok", "in", "yes", "circa", "ca", "then", "now", "finally", "all", "maybe", "perhaps", "probably"),
        *("likely", "up", "my", "answer", "final", "estimate", "result", "and", "visible", "different", "equal"),
        *("to",),
    }
)
#: The last word before a number that is stated: "there are", "I count", "the distance is".
STATING = frozenset(
    {
        *("is", "are", "was", "were", "be", "equals", "count", "counted", "counts", "see", "saw", "get", "got"),
        *("found", "find", "estimated", "have", "has", "had", "contains", "contain", "shows", "show", "measures"),
        *("totals", "takes", "needs", "weighs", "makes", "say", "guess", "total", "answer", "there's", "it's"),
        *("that's", "they're", "measured", "observe", "observed", "gives", "left", "remain", "comes", "amounts"),
        *("lasts", "costs", "think", "moves", "moved", "travels", "covers", "spans", "speed", "length", "distance"),
    }
)
#: Words that may not stand before or behind a number that is stated.
_HEDGES = frozenset({"or", "either", "unless", "if", "versus", "vs", "whether", "wonder"})
_UNSURE = frozenset(
    {
        *("unclear", "unknown", "cannot", "can't", "unable", "impossible", "don't", "couldn't", "undetermined"),
        *("idea", "unsure", "uncertain", "incorrect", "wrong", "insufficient"),
    }
)
_AFTER = frozenset({"and", "but", "how", "then", "when", "which", "while", "because", "so", "nor"}) | _HEDGES
#: "12 is false" states nothing; "3 false alarms" does.
_UNTRUE = re.compile(r"\b(?:false|untrue|a lie|not (?:true|so|right|correct)|no)\W*\Z")
#: "5 or so" is about 5.
_OR_SO = re.compile(r"\A\s?or so\b")
_NOUN = r"[a-z]+(?:[ -][a-z]+){0,5}"
#: What says where something happened so many times.
_WHERE = frozenset(
    {"in", "during", "over", "throughout", "within", "before", "until", "on", "at", "altogether", "overall"}
)
_NO_ANSWER = frozenset(
    {
        *("answer", "idea", "clue", "number", "result", "information", "way", "need", "doubt", "evidence", "more"),
        *("less", "fewer", "longer", "clear", "matter", "problem", "data", "telling", "change", "difference"),
        *("reason", "one's"),
    }
)
_THERE = r"(?:there(?:'s| is| are| were| was| seem to be| appear to be) |(?:i|we) (?:can )?(?:see|count|find) |it has )"
#: None of what was to be counted.
_SAYS_NONE = re.compile(
    rf"(?:none|nobody|nothing|no one|no-one)(?: of (?:them|these|those|the (?!above|below){_NOUN}))?"
    rf"(?: (?:is|are|was|were|can be|appear|seem) {_NOUN}| in {_NOUN}| at all)?"
    rf"|{_THERE}?(?:no|not any) (?P<noun>[a-z]+)(?: {_NOUN})?"
    rf"|there (?:aren't|isn't|are not|is not) any (?P<other>[a-z]+)(?: {_NOUN})?"
)


def says_none(text: str) -> bool:
    """Whether a text in lower case, without a full stop, says that there are none: "none of them", "no cups"."""
    match = _SAYS_NONE.fullmatch(text)
    return match is not None and (match["noun"] or match["other"]) not in _NO_ANSWER


def why_only_mentioned(before: str, after: str, *, structured: bool) -> str:
    """Why the words around a number do not state it; empty if they do.

    With ``structured`` a sentence has to state it; else any few words that do not take it back are accepted.
    """
    after = _OR_SO.sub(" ", after)
    lead, tail = WORD.findall(before), WORD.findall(after)
    if _UNSURE & {*lead, *tail} or "not sure" in after or _UNTRUE.search(after):
        return MENTIONED
    if _HEDGES & {*lead, *tail}:
        return "the text leaves open which number it means"
    if tail and tail[-1] in _AFTER:
        return MENTIONED  # it breaks off: "I count 3 squares, then"
    if not structured:
        return ""
    tail = WORD.findall(after.partition(":")[0])  # "There are 3 shapes: a circle, a square and a triangle."
    if (
        tail[:1] == ["times"]
        and (len(tail) == 1 or tail[1] in _WHERE)
        and len(lead) <= PROSE_WORDS
        and not _AFTER & set(tail)
    ):
        return ""  # "He opens the door 3 times.", "... 3 times in the video."
    label = before.rstrip().endswith(":") and len(lead) <= 5
    while lead and lead[-1] in _FILLERS:
        lead.pop()
    if lead and not label and (lead[-1] not in STATING or len(lead) > PROSE_WORDS):
        return MENTIONED
    if ":" in before and not label:
        return MENTIONED
    if len(tail) > 8 or _AFTER & set(tail):
        return MENTIONED
    return ""
