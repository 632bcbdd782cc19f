"""Normalised expressions: from the many ways to write one to the LaTeX that the helper process reads as a whole.

Everything here works on text: wrappers, units and words around an expression are removed, signs and plain notation
(``sqrt(3)``, ``11 5/6``) become LaTeX. A text that still holds words is not an expression. Linear in the text.
"""

from __future__ import annotations

import re
from functools import lru_cache

from easyvideor1.rewards.readers.plain_text import nfkc

_BOX = re.compile(r"\\(?:boxed|fbox)\s*+\{")
_SIGNS = {
    0x00D7: "\\times ", 0x00F7: "\\div ", 0x00B7: "\\cdot ", 0x22C5: "\\cdot ", 0x2264: "\\le ", 0x2265: "\\ge ",
    0x2260: "\\ne ", 0x2248: "\\approx ", 0x221E: "\\infty ", 0x03C0: "\\pi ", 0x222A: "\\cup ", 0x2229: "\\cap ",
    0x2208: "\\in ", 0x2205: "\\emptyset ", 0x00B1: "\\pm ", 0x03B8: "\\theta ", 0x2212: "-", 0x2013: "-",
    0x2044: "/", 0x00B0: "^\\circ", 0x2032: "'",
}  # fmt: skip
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_VULGAR = re.compile(r"(?<![\d.])(\d*+)\s?+([¼-¾⅐-⅞])")
_MARKUP = re.compile(
    r"\\(?:left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle|limits|mathstrut|rm|bf|it)(?![a-zA-Z])"
)
_BLANK = re.compile(r"\\[,;:!> ]|\\q?quad(?![a-zA-Z])|(?<!\\)[$~]|\s")
_FRACTION = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_SHORT_FRACTION = re.compile(r"\\frac\s*+(\d)\s*+(?:(\d)|(?=\{))")
_SHORT_BELOW = re.compile(r"(\\frac\s*+\{[^{}]*+\})\s*+(\d)")
_SHORT_ROOT = re.compile(r"\\sqrt\s*+(\d|[a-zA-Z](?![a-zA-Z]))")
_UPRIGHT = re.compile(
    r"\\(?:(?:mathrm|text|textrm)\s*+\{\s*+([eiA-Z]|\d++(?:\.\d++)?)\s*+\}"
    r"|(?:mathit|mathbf|mathsf|boldsymbol|bm|textbf)\s*+\{\s*+([a-zA-Z]|-?\d++(?:\.\d++)?)\s*+\})"
)
#: "1e5" and "1.5e-3" are powers of ten, "2e-3" is twice Euler's number less three.
_SCIENTIFIC = re.compile(r"(?<![\w.])(\d++)(\.\d++)?e(\d{1,4}|[-+]\d{1,4})(?![\w.])")
_NAMES = "sqrt|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|log|ln|exp|pi|theta|alpha|beta|infty"
_NAME = re.compile(rf"(?<![a-zA-Z\\])(?:{_NAMES})(?![a-zA-Z])")
_ROOT = re.compile(r"\\sqrt\s*+\(")
_MIXED = re.compile(r"(?<![\w.^}])(\d++)\s++(\d++)\s?+/\s?+(\d++)(?![\w.])")
_GROUPED = re.compile(r"([^\d.,]*+)(\d{1,3}(?:(?:,|\{,\})\d{3})++|\d{1,3}(?: \d{3})++)((?:\.\d++)?)(\s*+\\?%)?")
_DOT_FIRST = re.compile(r"(?<![\d}])\.(?=\d)")
_OR = re.compile(
    r"\s*+(?:,\s*+)?(?:\\(?:text|mathrm|quad)\s*+\{\s*+(?:or|and)\s*+\}|(?<![a-zA-Z\\])(?:or|and)(?![a-zA-Z]))\s*+"
)
_PERCENT = re.compile(
    r"\s*+(?:\\text\s*+\{\s*+percent\s*+\}|(?<![a-zA-Z])(?:percent|per cent)(?![a-zA-Z])|(?<!\\)%|\\%)"
)
#: What stands before the last equals sign: the name of what is equal.
_LABEL = re.compile(
    r"(?:\\(?:text|mathrm|angle|overline|triangle|vec)\b|[a-zA-Z_{} ']"
    r"|\([^()=<>]*+(?:=[^()=<>]*+)?\)|_\d|\|[A-Z]{2}\|)++"
)

#: Runs of letters that are variables side by side.
_PRODUCTS = r"(?:[xyz]{2,3}|[abc]{2,3}|[A-Z]{2,4}|[a-z]{2})(?![a-zA-Z])"
_PRODUCT = re.compile(_PRODUCTS)
_SHORT_UNITS = (
    "m|g|s|h|l|L|A|V|W|J|N|K|C|F|cm|mm|km|dm|nm|kg|mg|ml|mL|ft|in|yd|mi|lb|lbs|oz|ms|hr|hrs|min|sec|Hz|kHz|Pa|kPa|kJ"
    "|kW|eV|mol|rad|deg|mph|kmh|sq|cu|am|pm|cc|dB|USD|EUR|px|fps|st|nd|rd|th"
)
_POWER = r"(?:\s?\^\s?(?:\{-?\d\}|-?\d)|(?<=m)[23](?!\d))?+"
_UNIT = (
    rf"(?:(?:{_SHORT_UNITS})(?![a-zA-Z])"
    rf"|(?!{_PRODUCTS})(?:(?<=\s)[a-zA-Z]{{3}}|[a-zA-Z]{{4,20}})(?![a-zA-Z]))\.?+{_POWER}"
)
_FRACTION_OF_DIGITS = r"\\frac\{\d++\}\{\d++\}"
_VALUE = (
    rf"[-+]?\s?+(?:\d[\d.,]*+(?:\s?/\s?\d++)?+(?:\s?{_FRACTION_OF_DIGITS})?+|{_FRACTION_OF_DIGITS}"
    rf"|\(\d++ \+ {_FRACTION_OF_DIGITS}\))(?:\s?\\(?:times|cdot)\s?10\s?\^\s?(?:\{{-?\d++\}}|\d))?+"
    r"(?:\s?\\sqrt\{\d++\})?+(?:\s?\\pi(?![a-zA-Z]))?+"
)
#: A number, plain or a fraction, and the plain words of its unit.
_WITH_UNIT = re.compile(rf"({_VALUE})\s?({_UNIT}(?:\s?(?:/|\\cdot|\*|\s)\s?{_UNIT}){{0,4}})")
_TEXT_UNIT = re.compile(
    r"(?:\\(?:text|mathrm|mbox|textrm|textbf|textit|mathit|operatorname)\s*+\{([^{}]*+)\}|(\^\s?\{?-?\d\}?)|[/.]|\\cdot)"
)
_DEGREES = re.compile(r"\s*+\^\s*+\{?\s*+\\circ\s*+\}?\s*+(?:[CF](?![a-zA-Z]))?")
#: Words that no unit and no name holds: what they join or limit is no single value.
STOP = frozenset(
    {
        *("or", "and", "to", "not", "than", "least", "most", "more", "less", "fewer", "between", "from", "if"),
        *("when", "then", "but", "so", "maybe", "perhaps", "either", "is", "are", "was", "were", "be", "the", "of"),
        *("with", "for", "because", "which", "that", "this", "there", "we", "it", "i", "you", "at", "over"),
        *("under", "about", "exactly", "else", "mod"),
    }
)
_OPEN_END = re.compile(r"(?:[-+*/^_=<>({\[]|\\(?:cdot|times|pm|div|le|ge|lt|gt|in|mod|frac|sqrt|ne|approx))\s*+\Z")
_COMMAND = re.compile(r"\\[a-zA-Z]++")
_TEXT = re.compile(
    r"\\(?:text|mathrm|mbox|operatorname|textrm|textbf|begin|end|mathbb|mathcal|overline|vec|bar)\s*+\*?\{[^{}]*+\}"
)
_WORDING = re.compile(r"\\(?:text|mathrm|mbox|textbf|textit|textrm|mathbf)\s*+\{([^{}]*+)\}")
_WORD = re.compile(r"[^\W\d_]{2,}")


#: More brackets are not an answer, and slow for the grammar.
_BRACKETS_AT_MOST = 100
_BRACKETS = {pair: re.compile(rf"[{re.escape(pair)}]") for pair in ("{}", "()")}


def closing(text: str, start: int, pair: str = "{}") -> int:
    """Where the bracket that is open before ``start`` closes; -1 if it never does."""
    depth = 1
    for bracket in _BRACKETS[pair].finditer(text, start):
        depth += 1 if bracket.group() == pair[0] else -1
        if depth == 0:
            return bracket.start()
    return -1


def unboxed(text: str) -> str:
    """The contents of the boxes of a text, separated by commas if they differ; the text itself without a closed box."""
    contents: dict[str, None] = {}
    at = 0
    while match := _BOX.search(text, at):
        end = closing(text, match.end())
        if end < 0:
            break
        inner = text[match.end() : end]
        contents[(unboxed(inner) if len(inner) < 500 else inner).strip()] = None
        at = end
    return ", ".join(contents) if contents else text


def unwrapped_math(text: str) -> str:
    """A text without what only marks it as an answer: boxes, emphasis, code marks, quotes, a final stop."""
    text = text.strip()
    if "\\boxed" in text or "\\fbox" in text:
        text = unboxed(text).strip()
    for _ in range(4):
        before = text
        for mark in ("**", "__", "*", "`", '"', "\u201c", "$$", "$"):
            end = "\u201d" if mark == "\u201c" else mark
            if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(end):
                inner = text[len(mark) : -len(end)]
                if end not in inner:
                    text = inner.strip()
        text = text.removesuffix(".").strip() if not text.endswith("..") else text
        text = text.removeprefix("\\(").removesuffix("\\)").strip()
        if text.startswith("\\[") and text.endswith("\\]"):
            text = text[2:-2].strip()
        if text == before:
            break
    return text


def wording(text: str) -> str:
    """A text as words: case, spacing, LaTeX text commands and a final stop aside; empty where other commands stand."""
    plain = _WORDING.sub(r" \1 ", unwrapped_math(text)).replace("$", " ")
    return "" if "\\" in plain else " ".join(plain.casefold().split()).rstrip(". ")


@lru_cache(maxsize=4096)
def formula(text: str) -> str | None:
    """The whole text as one expression, in LaTeX; ``None`` for words and for what cannot be an expression."""
    text = _signs(unwrapped_math(text))
    text = _latex(text)
    text = _without_unit(text).strip()
    if "=" in text:
        name, _, value = text.rpartition("=")
        if _LABEL.fullmatch(name.strip()) and not STOP & set(_words(name)):
            text = _without_unit(value.strip()) if len(name.strip()) > 1 else f"{name.strip()}={_without_unit(value)}"
    if grouped := _GROUPED.fullmatch(text):
        digits = re.sub(r"[ ,{}]", "", grouped[2])
        text = f"{grouped[1]}{digits}{grouped[3]}{grouped[4] or ''}"
    return text if text and _is_formula(text) else None


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _signs(text: str) -> str:
    """Signs of Unicode, dollars and sizes of brackets as plain LaTeX."""
    text = " ".join(text.split())
    text = re.sub(r"\u221a\s?(\d+|[a-z]\b)", r"\\sqrt{\1}", text).replace("\u221a", "\\sqrt")
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]++", lambda run: f"^{{{run.group().translate(_RAISED)}}}", text)
    text = re.sub(r"[₀₁₂₃₄₅₆₇₈₉]++", lambda run: f"_{{{run.group().translate(_LOWERED)}}}", text)
    text = _VULGAR.sub(lambda match: _vulgar(match[1], match[2]), text)
    text = nfkc(text.translate(_SIGNS))
    text = text.replace("\\$", " ").replace("\\%", "%").translate({0x20AC: " ", 0xA3: " ", 0xA5: " "})
    text = " ".join(_BLANK.sub(" ", _MARKUP.sub("", text)).split())
    return text.replace("**", "^").replace("{,}", ",")


def _vulgar(whole: str, sign: str) -> str:
    top, _, below = nfkc(sign).partition("\u2044")
    fraction = f"\\frac{{{top}}}{{{below}}}"
    return f"{whole}{fraction}"


def _latex(text: str) -> str:
    """Plain and short notation in full: ``sqrt(3)``, ``\\frac12``, ``11 5/6``, "3 or 5", "x in"."""
    text = _UPRIGHT.sub(lambda letter: f" {letter[1] or letter[2]}", text)
    text = _SCIENTIFIC.sub(_power_of_ten, text)
    text = re.sub(r"\\[ij]math(?![a-zA-Z])", "i", text)
    text = _NAME.sub(lambda name: f"\\{name.group()}", text)
    text = _FRACTION.sub(r"\\frac", text)
    text = _SHORT_FRACTION.sub(lambda match: f"\\frac{{{match[1]}}}" + (f"{{{match[2]}}}" if match[2] else ""), text)
    text = _SHORT_BELOW.sub(r"\1{\2}", text)
    text = _SHORT_ROOT.sub(r"\\sqrt{\1}", text)
    at = 0
    while (match := _ROOT.search(text, at)) and at < 1000:
        end = closing(text, match.end(), "()")
        if end < 0:
            break
        text = f"{text[: match.start()]}\\sqrt{{{text[match.end() : end]}}}{text[end + 1 :]}"
        at = match.start() + 5
    text = _MIXED.sub(r"(\1 + \\frac{\2}{\3})", text)
    text = re.sub(r"\A\s*+(?:\\approx|\\sim|=)\s*+", "", text)
    text = re.sub(r"(?<![a-zA-Z\\])in(?= *\[)", r"\\in", text)
    text = _PERCENT.sub(r"\\%", text)
    text = _DOT_FIRST.sub("0.", text)
    return _OR.sub(", ", text) if _OR.search(text) else text


def _power_of_ten(match: re.Match[str]) -> str:
    signed = not match[3][0].isdigit()
    if signed and match[2] is None and len(match[3]) < 3:
        return match.group()
    return f"{match[1]}{match[2] or ''}E{match[3]}"


def _without_unit(text: str) -> str:
    """A text without the unit after its value; unchanged if the rest could not be a value."""
    text = text.strip()
    if (degrees := _DEGREES.search(text)) and degrees.end() == len(text):
        return text[: degrees.start()].strip()
    if text.endswith("}") or re.search(r"\}\s?\^\s?\{?-?\d\}?\Z", text):
        # The run of text commands, powers and strokes at the end.
        start, at = -1, 0
        for piece in _TEXT_UNIT.finditer(text):
            if piece.start() != at or start < 0:
                start = piece.start() if piece[1] is not None else -1
            at = piece.end() + (text[piece.end() : piece.end() + 1] == " ")
            if piece[1] is not None and _says_more(piece[1]):
                return text
        if start > 0 and at >= len(text) and not _OPEN_END.search(text[:start]):
            return text[:start].strip()
        return text
    if (match := _WITH_UNIT.fullmatch(text)) and not STOP & set(_words(match[2])):
        return match[1].strip()
    return text


def _is_formula(text: str) -> bool:
    """Whether braces close and no words are left: runs of letters are products of variables, and only short ones."""
    braces = text.replace("\\\\", "")
    if len(re.findall(r"[(\[{]", braces)) > _BRACKETS_AT_MOST or not _closes(braces):
        return False
    if any(_says_more(wording[1]) for wording in _WORDING.finditer(text)):
        return False
    if "\\equiv" in text and "mod" not in text:
        return False
    bare = _COMMAND.sub(" ", _TEXT.sub(" ", text))
    words = _WORD.findall(bare)
    if not words:
        return True
    return len(words) <= 20 and all(_PRODUCT.fullmatch(word) and word.lower() not in STOP for word in words)


def _says_more(words: str) -> bool:
    """Whether words inside a formula are more than a unit or a name: "or 43", "43 apples"."""
    return bool(STOP & set(_words(words))) or re.search(r"(?<![a-zA-Z])\d", words) is not None


def _closes(text: str) -> bool:
    """Whether every brace that opens is closed in its order."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0
