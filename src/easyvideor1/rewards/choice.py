"""Multiple choice: letters A-Z, several letters, or the words of an option when they fit exactly one."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from easyvideor1.rewards.answer import Reading, Rule, Verdict
from easyvideor1.rewards.characters import nfkc
from easyvideor1.rewards.geometry import load_json

_LABEL = re.compile(r"\s*+[(\[]?+\s*+([A-Z])\s*+[.:)\]\uff1a\u3001]\s*+(.*)", re.DOTALL)
_WHOLE = re.compile(r"[(\[{\"']*([A-Za-z])[)\]}\"'.,:;!?]*")
_LEADING = re.compile(
    r"(?:[(\[]\s*+([A-Za-z])\s*+[)\]]|([A-Za-z])\s*+[.:)\uff1a\u3001])"
    r"(?=[A-Z]|\W|$)(?!\s*+[A-Za-z]\s*+[.)])"
)
_LETTER = r"[(\[\"]?\b[A-Za-z]\b[)\]\"]?"
_SEPARATED = re.compile(rf"(?:both\s++)?+\[?{_LETTER}(?:(?:,|;|/|&|\band\b|\s)+{_LETTER})+\]?\.?", re.IGNORECASE)
_NAMED = re.compile(
    r"\b(?:(?:options?|choices?|choose|select|pick)\s*+(?:is\b|are\b|:)?+|answers?\s*+(?:is\b|are\b|:))"
    r"\s*+(?:options?\s*+)?+[(\[*]*+([A-Z])(?![\w'])",
    re.IGNORECASE,
)
#: More letters after a named one: ", C and D". "or" makes the statement none.
_MORE = re.compile(r"(?:[)\]*]*\s*+(?:,|;|/|&|\band\b)\s*+(?:and\s++)?+[(\[*]*[A-Z](?![\w']))+")
_OR = re.compile(r"[)\]*]*\s*+,?+\s*+or\s++(?:option\s++)?+[(\[*]*[A-Z](?![\w'])", re.IGNORECASE)
#: A second label after a leading one, as an alternative: "B. blue or C. green".
_UNDECIDED = re.compile(r"\b(?:or|maybe|perhaps)\s++(?:option\s++)?+[(\[*]*[A-Z][)\]*]*(?:[.:]|\W*$)")
_OPTION_ALONE = re.compile(r"(?:option|choice|answer)\s*+:?+\s*+[(\[*]*([a-z])[)\]*]*\.?", re.IGNORECASE)
_IS_RIGHT = re.compile(
    r"(?:so\s++|i\s++think\s++)?+(?:option\s++)?+[(\[*]*([A-Z])[)\]*]*\s++is\s++(?:the\s++)?+"
    r"(?:correct|right|best)(?:\s++(?:answer|option|choice|one))?+[.!]?+",
    re.IGNORECASE,
)
_NEGATION = re.compile(r"\b(?:not|no|never|neither|nor|except|cannot|without|rather|instead)\b|n't\b", re.IGNORECASE)
_LATEX_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*+\{([^{}]*+)\}")
_CONTAINED_LIMIT = 300


@lru_cache(maxsize=4096)
def lettered(options: tuple[str, ...]) -> Mapping[str, str]:
    """Letter -> words of each option.

    The options' own labels count when they are exactly the first letters of the alphabet, in any order; else the
    position gives the letter and the option is all words.
    """
    labels = [_LABEL.fullmatch(option) for option in options]
    named = {label.group(1): label.group(2) for label in labels if label is not None}
    if options and set(named) == set(string.ascii_uppercase[: len(options)]) and len(named) == len(options):
        return {letter: _words(text) for letter, text in named.items()}
    return {letter: _words(option) for letter, option in zip(string.ascii_uppercase, options, strict=False)}


def _words(text: str) -> str:
    """Lower-case words with single spaces, without a leading article, outer quotes or closing punctuation."""
    words = " ".join(nfkc(text).casefold().split()).strip(" .,;:!?\"'`*")
    return re.sub(r"^(?:an?|the) (?=.)", "", words)


def read_choice(text: str, options: tuple[str, ...]) -> Reading | None:
    """Read option letters as a sorted tuple.

    A letter alone may have any case and brackets. "B. words" is B, whatever the words. Inside a sentence only an
    upper-case letter after "option", "answer is" and the like counts, the last such mention wins ("A and C" is both, "A
    or C" is none), and an "A" or "I" that goes on as a sentence is an article or a pronoun. An option's own words count
    when they are the whole text, or when it is the only option that a short text mentions and nothing is negated; they
    are not the form asked for. A letter that is no option's is no answer.
    """
    known = lettered(options)
    text = _LATEX_TEXT.sub(r"\1", nfkc(text)).strip().strip("*_$` \t\n").strip()
    if whole := _WHOLE.fullmatch(text):
        return _letters(whole.group(1), known)
    words = _words(text)
    equal = [letter for letter, option in known.items() if option and option == words]
    if len(equal) == 1:
        return Reading((equal[0],), canonical=False)
    if len(text) <= _CONTAINED_LIMIT and _SEPARATED.fullmatch(text):
        return _letters("".join(re.findall(r"\b[A-Za-z]\b", text)), known)
    if re.fullmatch(r"[A-Z]{2,26}", text) and list(text) == sorted(set(text)):
        return _letters(text, known)
    if alone := _OPTION_ALONE.fullmatch(text) or _IS_RIGHT.fullmatch(text):
        return _letters(alone.group(1), known)
    if listed := _lines(text, known):
        return listed
    if leading := _LEADING.match(text):
        letter = leading.group(1) or leading.group(2)
        written = _words(text[leading.end() :]) == known.get(letter.upper())
        if not written and _UNDECIDED.search(text[:_CONTAINED_LIMIT], leading.end()):
            return None
        return _letters(letter, known)
    for letter, option in known.items():
        if option and text[:2] == f"{letter} " and _words(text[2:]) == option:
            return Reading((letter,))
    return _named(text, known) or _contained(text, words, known)


def _letters(letters: str, known: Mapping[str, str]) -> Reading | None:
    found = tuple(sorted(set(letters.upper())))
    if known and not set(found) <= set(known):
        return None
    return Reading(found)


def _lines(text: str, known: Mapping[str, str]) -> Reading | None:
    """Several options written out, label and words, one on each line."""
    if not known or "\n" not in text or len(text) > 100 * _CONTAINED_LIMIT:
        return None
    labels = [_LABEL.fullmatch(line) for line in text.splitlines() if line.strip()]
    whole = [label for label in labels if label is not None and known.get(label.group(1)) == _words(label.group(2))]
    if len(whole) < len(labels) or len(whole) < 2:
        return None
    return _letters("".join(label.group(1) for label in whole), known)


def _named(text: str, known: Mapping[str, str]) -> Reading | None:
    last = None
    for match in _NAMED.finditer(text):
        letter = match.group(1)
        if letter.isupper() and _OR.match(text, match.end()):
            last = None
            continue
        if letter.isupper() and (more := _MORE.match(text, match.end())):
            last = letter + "".join(re.findall(r"\b[A-Z]\b", more.group()))
            continue
        noun = match.group().lower().startswith(("option", "choice")) or "option" in match.group().lower()
        follows = text[match.end() : match.end() + 12]
        goes_on = re.match(r"\s+[A-Za-z]", follows) and not re.match(r"\s+(?:because|since|but)\b", follows)
        if letter.isupper() and not (letter in "AI" and goes_on and not noun):
            last = letter
    return None if last is None else _letters(last, known)


def _contained(text: str, words: str, known: Mapping[str, str]) -> Reading | None:
    if len(text) > _CONTAINED_LIMIT or _NEGATION.search(text):
        return None
    held = [
        letter
        for letter, option in known.items()
        if len(option) > 1 and re.search(rf"(?<!\w){re.escape(option)}(?!\w)", words)
    ]
    return Reading((held[0],), canonical=False) if len(held) == 1 else None


def _reference(text: str, options: tuple[str, ...]) -> tuple[str, ...]:
    if len(options) > len(string.ascii_uppercase):
        raise ValueError(f"{len(options)} options are more than there are letters")
    readings = [read_choice(part, options) for part in _listed(text)]
    letters = {letter for reading in readings if reading is not None for letter in reading.value}
    if None in readings or not letters:
        raise ValueError(f"it is no letter or text of the {len(options)} options" if options else "it is no letter")
    return tuple(sorted(letters))


def _listed(text: str) -> list[str]:
    """The entries of a reference that is a JSON list of letters or of options' texts; else the text alone."""
    listed = load_json(text) if text.startswith("[") else None
    if isinstance(listed, list) and listed and all(isinstance(entry, str) for entry in listed):
        return listed
    return [text]


def compare_subset(predicted: tuple[str, ...], reference: tuple[str, ...], row: Mapping[str, Any]) -> Verdict:
    """1 for the same set; a part of a several-letter reference earns its share; any wrong letter makes it 0.

    The soft reward for multi-answer questions of TW-GRPO (Dang et al. 2025): ``|S| / |Y|`` if S is a part of Y, else 0.
    """
    right = set(predicted)
    if not right <= set(reference):
        return Verdict(0.0)
    return Verdict(len(right) / len(reference))


def compare_exact(predicted: tuple[str, ...], reference: tuple[str, ...], row: Mapping[str, Any]) -> Verdict:
    """1 for exactly the letters of the reference, else 0."""
    return Verdict(float(set(predicted) == set(reference)))


CHOICE = Rule(
    read_choice,
    _reference,
    compare_subset,
    "the letter of an option ('B'), several letters ('A, C') or its text",
    form="subset",
    forms={"exact": compare_exact},
)
