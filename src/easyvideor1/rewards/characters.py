"""Compatibility forms of characters, in linear time."""

from __future__ import annotations

import unicodedata

_BLOCK = 128
#: More combining marks than this after one letter are no writing (Unicode's stream-safe format allows 30).
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
