"""Answer options: lettered, or given letters, or refused; never guessed."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping
from typing import Any

from easyvideor1.data.problems import RowError

#: ``A. text``, ``A) text``, ``A: text`` or ``(A) text``.
_LETTERED = re.compile(r"\s*(?:\((?P<round>[A-Z])\)|(?P<plain>[A-Z])\s*[.):\uff1a])\s*(?P<text>.*?)\s*", re.DOTALL)
_KEY = re.compile(r"\(?(?P<letter>[A-Za-z])[.):]?")
_REMEDY = "letter all options in the form 'A. text' with the first letters of the alphabet, or none of them"


def split_option(option: str) -> tuple[str, str]:
    """The letter and the text of an option; the letter is empty when there is none."""
    match = _LETTERED.fullmatch(option)
    if match is None:
        return "", option.strip()
    return match["round"] or match["plain"], match["text"]


def listed_options(value: Any) -> list[Any]:
    """The options of a row as a list: of a list, of a mapping from letters to texts, or of either as JSON text.

    A mapping gives ``A. text`` for each of its letters; those whose text is null are no options.

    Raises:
        RowError: it is none of these, or a key of the mapping is no letter.
    """
    remedy = 'write them as ["A. red", "B. blue"], or null for none'
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise RowError("options", f"is no JSON: {error}", remedy) from None
    if value is None or value == "":
        return []
    if isinstance(value, Mapping):
        return [_of_letter(str(key), text) for key, text in value.items() if text is not None]
    if not isinstance(value, list):
        raise RowError("options", f"is {value!r}, not a list", remedy)
    return value


def _of_letter(key: str, text: Any) -> str:
    found = _KEY.fullmatch(key.strip())
    if found is None:
        what = f"is a mapping with the key {key!r}, which is no letter"
        raise RowError("options", what, 'write it as {"A": "red", "B": "blue"}, or as a list')
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise RowError("options", f"option {key!r} is {text!r}, not text", "write its text or remove it")
    letter = found["letter"].upper()
    own, rest = split_option(str(text))
    return f"{letter}. {rest if own == letter else text}"


def letter_options(texts: list[str]) -> tuple[str, ...]:
    """The options in the form ``A. text``, in their given order.

    Options that bear letters keep them (a row may list ``B`` before ``A``); options without letters get ``A``, ``B``,
    ... in order; bare letters (``["A", "B"]``, where the texts are in the picture) become ``A. A``.

    Raises:
        RowError: an option is blank, some bear letters and some do not, the letters are not the first ones of the
            alphabet, or there are more than 26.
    """
    if not texts:
        return ()
    alphabet = string.ascii_uppercase[: len(texts)]
    if len(texts) > len(string.ascii_uppercase):
        raise RowError("options", f"{len(texts)} options, but there are only 26 letters", "split the question")
    for number, text in enumerate(texts, start=1):
        if not split_option(text)[1]:
            raise RowError("options", f"option {number} is blank ({text!r})", "write its text or remove it")
    if sorted(text.strip() for text in texts) == list(alphabet):
        return tuple(f"{text.strip()}. {text.strip()}" for text in texts)
    pairs = [split_option(text) for text in texts]
    letters = [letter for letter, _ in pairs if letter]
    if not letters:
        return tuple(f"{letter}. {text}" for letter, (_, text) in zip(alphabet, pairs, strict=True))
    if len(letters) < len(texts):
        raise RowError("options", f"only {len(letters)} of {len(texts)} options bear a letter", _REMEDY)
    if sorted(letters) != list(alphabet):
        raise RowError("options", f"the options are lettered {', '.join(letters)}", _REMEDY)
    return tuple(f"{letter}. {text}" for letter, text in pairs)
