"""Whether an answer follows from the reasoning before it, as far as a rule can tell."""

from __future__ import annotations

import re

from easyvideor1.data.formats import split_option
from easyvideor1.records.trajectories import SampleRecord
from easyvideor1.rewards.tags import last_tag, split_thinking
from easyvideor1.types import Sample

_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?!\w)")
#: A capital letter by itself, unless it is the word "A" or "I" before another word.
_LETTER = re.compile(r"(?<![\w'])(?![AI] [a-z])[A-Z](?![\w'])")
_BOOLEAN = re.compile(r"\b(yes|no|true|false)\b", re.IGNORECASE)


def thinking_of(response: str) -> str:
    """The reasoning of a response: what its tags of thinking hold, else what stands before its answer tag."""
    thinking = split_thinking(response).thinking
    return thinking if thinking else response.partition("<answer>")[0]


def follows_from_trace(record: SampleRecord | Sample, response: str) -> bool | None:
    """Whether the reasoning of a response comes to the answer that it gives.

    Of a choice, the last option that the reasoning names, by letter or by its text, is the one that is answered; of yes
    and no the same. Every number of an answer with numbers is in the reasoning, and any other answer is in it as it
    stands. ``None`` for a response without an answer tag. The rule reads words, and not whether they are true.
    """
    answer = last_tag(response)
    if answer is None:
        return None
    answer, trace = answer.strip(), thinking_of(response)
    if record.options:
        answered = _named_option(record.options, answer)
        return answered is not None and _named_option(record.options, trace) == answered
    if answers := _BOOLEAN.findall(answer):
        said = _BOOLEAN.findall(trace)
        return bool(said) and said[-1].lower() == answers[-1].lower()
    if numbers := _NUMBER.findall(answer):
        said_numbers = {float(number) for number in _NUMBER.findall(trace)}
        return all(float(number) in said_numbers for number in numbers)
    return bool(answer) and answer.casefold() in trace.casefold()


def _named_option(options: tuple[str, ...], text: str) -> str | None:
    """The letter of the option that a text names last; ``None`` if it names none."""
    pairs = [split_option(option) for option in options]
    known = {letter for letter, _ in pairs}
    named = [(found.start(), found[0]) for found in _LETTER.finditer(text) if found[0] in known]
    for letter, words in pairs:
        pattern = rf"(?<!\w){re.escape(words)}(?!\w)"
        named += [(found.start(), letter) for found in re.finditer(pattern, text, re.IGNORECASE) if words]
    return max(named)[1] if named else None
