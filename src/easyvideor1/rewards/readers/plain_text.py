"""Unicode forms, the typography around answers, and fenced blocks of Markdown; in linear time."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_BLOCK = 128
#: More combining marks after one letter are not text (Unicode's stream-safe format allows 30).
_MARKS = 30


def piles_marks(text: str) -> bool:
    """Whether a text has so many combining marks in a row that sorting them takes long."""
    run = 0
    for character in "" if text.isascii() else text:
        run = run + 1 if unicodedata.combining(character) else 0
        if run > _MARKS:
            return True
    return False


def nfkc(text: str) -> str:
    """Unicode's NFKC form of a text, taken block by block.

    Sorting the combining marks of one letter takes quadratic time, so nothing is normalised as a whole. A block ends
    before a letter, unless that would take more than ``_MARKS`` marks.
    """
    if text.isascii():
        return text
    pieces, start = [], 0
    while start < len(text):
        end = start + _BLOCK
        furthest = end + _MARKS
        while end < min(furthest, len(text)) and unicodedata.combining(text[end]):
            end += 1
        pieces.append(unicodedata.normalize("NFKC", text[start:end]))
        start = end
    return "".join(pieces)


_QUOTES = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201a": "'",
        "\u2032": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u201e": '"',
        "\u00ab": '"',
        "\u00bb": '"',
    }
)
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|emph)\s*+\{([^{}]*+)\}")
#: Pairs of characters that surround a whole answer and are not part of it.
_PAIRS = {"*": "*", "_": "_", "`": "`", '"': '"', "'": "'", "$": "$", "(": ")", "[": "]", "{": "}", "<": ">"}
_PAIRS |= {"\u3010": "\u3011", "\u300c": "\u300d", "\u300e": "\u300f", "\u300a": "\u300b", "\u3008": "\u3009"}
_DEEPEST = 12


def typed(text: str) -> str:
    """A text with plain characters: compatibility forms, straight quotes, no LaTeX around words."""
    if not text.isascii():
        text = nfkc(text).translate(_QUOTES)
    return _LATEX_TEXT.sub(r"\1", _LATEX_TEXT.sub(r"\1", text)) if "\\" in text else text


def unwrapped(text: str, *, brackets: bool = True) -> str:
    """A text without the emphasis, quotes, code marks and (with ``brackets``) brackets that stand around all of it."""
    text = text.strip()
    if text[:1] not in _PAIRS:
        return text
    for _ in range(_DEEPEST):
        closing = _PAIRS.get(text[:1])
        if closing is None or len(text) < 2 or text[-1] != closing or (not brackets and text[0] not in "*_`\"'$"):
            break
        if text[0] in text[1:-1] and closing != text[0]:
            break  # "(a) or (b)": the first and the last belong to others
        text = text[1:-1].strip()
    return text


#: Every opening matches, up to the same fence again or to the end of the text, and none begins inside a run of marks or
#: reaches over further ones on its line, so that the time is linear.
_FENCE = re.compile(r"((?<!`)`{3,}+|(?<!~)~{3,}+)([^\n`~]*+)\n(.*?)(\1|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: the language that its fence names, its content, and whether it is ``closed``.

    ``start`` and ``end`` are where it begins and ends in the text, its fences included.
    """

    language: str
    content: str
    closed: bool
    start: int
    end: int


def fenced_blocks(text: str) -> list[Block]:
    """The fenced blocks of a text, in order; one that is never closed reaches to its end."""
    return [
        Block(
            (match.group(2).strip().lower().split() or [""])[0],
            match.group(3),
            bool(match.group(4)),
            match.start(),
            match.end(),
        )
        for match in _FENCE.finditer(text)
    ]


def is_displayed(text: str, block: Block) -> bool:
    """Whether a block stands by itself: it begins a line, or follows a short lead-in on its line ("Here it is:")."""
    before = text[: block.start].rpartition("\n")[2].strip()
    return not before or before.endswith(":")


_UNTRUE = r"(?:false|wrong|incorrect|untrue|lies?|a\s++lie|not\s++(?:true|right|correct|so|the\s++case))"
_TAKES_BACK = re.compile(
    rf"[^\n]*\b(?:following|below|next)\b[^\n]*\b{_UNTRUE}\b\W*+"
    rf"|(?:[^\n]*\b{_UNTRUE}|(?:not|never)\b[^\n]*)\s*+:|(?:no|nope|{_UNTRUE})[.!]*+"
    rf"|(?:but\s++|no,?\s++)?+(?:that|this|it|which)(?:\s++is|\s++was|'s)\s++{_UNTRUE}\b\W*+",
    re.IGNORECASE,
)


def takes_back(line: str) -> bool:
    """Whether a line takes back what stands beside it: "The following is false.", "Wrong:", "That is not true."."""
    return len(line) <= 300 and _TAKES_BACK.fullmatch(line.strip(" \t*_")) is not None
