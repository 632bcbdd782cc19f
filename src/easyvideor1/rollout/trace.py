"""Whether an answer follows from the reasoning before it, as far as a rule can tell."""

from __future__ import annotations

import re
from typing import Literal

from easyvideor1.data.formats import split_option
from easyvideor1.records.trajectories import SampleRecord
from easyvideor1.rewards.tags import last_tag, split_thinking
from easyvideor1.types import Sample

_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?!\w)")
#: A capital letter by itself.
_LETTER = re.compile(r"(?<![\w'])[A-Z](?![\w'])")
_NEXT_WORD = re.compile(r" ([a-z]+)")
#: What stands before a letter within a sentence, where an article would be small.
_WITHIN_SENTENCE = re.compile(r"[\w,;] *[\"'*(]*$")
#: What stands before an option rather than before the pronoun "I".
_NAMES_OPTION = re.compile(r"\b(?:option|answer|choice|letter|is|be)[ :]*[\"'*(]*$", re.IGNORECASE)
#: Words that follow a name, and neither an article nor "I"; so do third persons of verbs ("shows").
_AFTER_NAME = re.compile(
    "and|are|as|because|but|cannot|does|from|has|if|is|not|of|or|since|so|than|then|was|were|which|while"
)
_BOOLEAN = re.compile(r"\b(yes|no|true|false)\b", re.IGNORECASE)


def thinking_of(response: str) -> str:
    """The reasoning of a response: what its tags of thinking hold, else what stands before its answer tag."""
    thinking = split_thinking(response).thinking
    return thinking if thinking else response.partition("<answer>")[0]


def follows_from_trace(record: SampleRecord | Sample, response: str) -> bool | None:
    """Whether the reasoning of a response comes to the answer that it gives.

    Of a choice, the last option that the reasoning names, by letter or by its text, is the one that is answered; of yes
    and no the same. Every number of an answer with numbers is in the reasoning, and any other answer is in it as it
    stands. ``None`` for a response without an answer tag, and where it depends on whether an "A" that begins a sentence
    is an option or an article. The rule reads words, and not whether they are true.
    """
    answer = last_tag(response)
    if answer is None:
        return None
    answer, trace = answer.strip(), thinking_of(response)
    if record.options:
        answered = _named_options(record.options, answer)[0]
        verdicts = {answered is not None and named == answered for named in _named_options(record.options, trace)}
        return verdicts.pop() if len(verdicts) == 1 else None
    if answers := _BOOLEAN.findall(answer):
        said = _BOOLEAN.findall(trace)
        return bool(said) and said[-1].lower() == answers[-1].lower()
    if numbers := _NUMBER.findall(answer):
        said_numbers = {float(number) for number in _NUMBER.findall(trace)}
        return all(float(number) in said_numbers for number in numbers)
    return bool(answer) and answer.casefold() in trace.casefold()


def _named_options(options: tuple[str, ...], text: str) -> tuple[str | None, str | None]:
    """The letter of the option that a text names last, ``None`` if it names none: with every letter that may be a word
    taken for an option, and with it taken for a word."""
    pairs = [split_option(option) for option in options]
    known = {letter for letter, _ in pairs}
    sure: list[tuple[int, str]] = []
    unsure: list[tuple[int, str]] = []
    for found in _LETTER.finditer(text):
        if found[0] in known and (kind := _reading(text, found)) != "word":
            (sure if kind == "option" else unsure).append((found.start(), found[0]))
    for letter, words in pairs:
        pattern = rf"(?<!\w){re.escape(words)}(?!\w)"
        sure += [(found.start(), letter) for found in re.finditer(pattern, text, re.IGNORECASE) if words]
    named = [max(places, default=(0, None))[1] for places in (sure + unsure, sure)]
    return named[0], named[1]


def _reading(text: str, found: re.Match[str]) -> Literal["option", "word", "unsure"]:
    """What a letter by itself is: an option; the article or the pronoun; or one that may be either."""
    following = _NEXT_WORD.match(text, found.end())
    if found[0] not in "AI" or following is None:
        return "option"
    word, before = following[1], text[: found.start()]
    if _AFTER_NAME.fullmatch(word) or (word.endswith("s") and not word.endswith(("ss", "us"))):
        return "option"
    if found[0] == "I":
        return "option" if _NAMES_OPTION.search(before) else "word"
    return "option" if _WITHIN_SENTENCE.search(before) else "unsure"
