"""From a response to a typed answer: one parser for training, evaluation and checks."""

from __future__ import annotations

from collections.abc import Sequence

from easyvideor1.rewards.answer import Answer
from easyvideor1.rewards.grammar import ANSWER, Grammar
from easyvideor1.rewards.regions import Region, find_regions
from easyvideor1.rewards.rules import RULES
from easyvideor1.tasks import canonical_task


def parse(task: str, text: str, options: Sequence[str] = (), grammar: Grammar = ANSWER) -> Answer:
    """Read the answer of a response.

    Total: no ``text`` makes it raise, and its time is linear in the length of the text.

    Args:
        task: task type or an alias of one.
        text: the whole response.
        options: options of a choice question; with them an option's own words are understood.
        grammar: the tags of a well-formed response; what stands in those before the answer is thinking.

    Raises:
        DataError: ``task`` is no known task type.
    """
    rule = RULES[canonical_task(task)]
    first: Region | None = None
    for region in find_regions(text, rule.fallback, grammar):
        first = first or region
        reading = rule.read(region.text, tuple(options)) if region.text else None
        if reading is not None:
            # A tag whose content had to be searched for the answer still holds it, but not as it was asked for.
            canonical = reading.canonical and (region is first or region.found != "tag")
            return Answer(reading.value, region.text, region.found, canonical, region.start)
    if first is None:
        return Answer(None, "", "nothing")
    return Answer(None, first.text, first.found, start=first.start)
