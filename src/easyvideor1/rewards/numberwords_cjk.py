"""Numbers in Chinese characters, and the short sentences of Chinese, Japanese and Korean that state one."""

from __future__ import annotations

import re

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
_NONE = re.compile(
    r"(?:[\u3400-\u9fff]{0,10}?(?:没有|沒有|无|無)(?!法|人知|答|办)(?:[\u3400-\u9fff]{0,8})"
    r"|(?:一[个個]也|都)没有|없음|없다|없습니다|ありません|いません|なし)[。.!\uff01]{0,2}"
)
#: Guesses between values, bounds, denials, ordinals and questions.
_REFUSED = re.compile(
    r"[或還还]|至少|最多|不到|超过|超過|以上|以下|大于|小于|多于|少于|不是|第|到底|几|か|吗|嗎|또는|이상|이하|미만|または|また"
)


def states_in_characters(text: str) -> tuple[float, bool] | None:
    """The number that a short text states, and whether it has a percent sign; ``None`` if it states none.

    "三", "十二", "两百", "三个", "一共有三个杯子。" and "3개" do; "没有" and "没有杯子" are 0. A guess between two
    numbers, a bound or an ordinal states none.
    """
    text = text.strip()
    if len(text) > 60 or _REFUSED.search(text):
        return None
    if match := _PERCENT.fullmatch(text):
        value = value_in_characters(match["value"])
        return None if value is None else (value, True)
    if _NONE.fullmatch(text):
        return 0.0, False
    match = _STATES.fullmatch(text)
    if match is None or re.search(rf"[\d{_NUMERALS}]", match["tail"]):
        return None
    value = value_in_characters(match["value"])
    return None if value is None else (value, match["percent"] is not None)


def value_in_characters(text: str) -> float | None:
    """The number that characters say, or ``None``: 十二 is 12, 两百零五 is 205, 三点五 is 3.5, 二〇二四 is 2024."""
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
        value = _whole(whole)
        digits = "".join(f"{_DIGITS[sign]:.0f}" for sign in behind if sign in _DIGITS)
        return float(f"{value:.0f}.{digits}") if value is not None and len(digits) == len(behind) > 0 else None
    return _whole(text)


def _whole(text: str) -> float | None:
    """A whole number; "三四个" (three or four) is none."""
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
