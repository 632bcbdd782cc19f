"""From a response to a typed answer: one parser for training, evaluation and checks."""

from __future__ import annotations

import re
from collections.abc import Sequence

from easyvideor1.rewards.answer import Answer, Rule
from easyvideor1.rewards.grammar import ANSWER, Grammar
from easyvideor1.rewards.regions import UNSTATED, find_regions, split_thinking
from easyvideor1.rewards.rules import RULES
from easyvideor1.tasks import canonical_task
from easyvideor1.types import Completion

#: Where a rule says no more than that it cannot read a text.
NO_ANSWER = "no answer of this task type is stated"
EMPTY_PLACE = "the place of the answer is empty"
CONTRADICTED = "two different answers are stated"
#: A line beyond this length is no answer by itself.
_LINE = 300


def parse(task: str, response: str | Completion, options: Sequence[str] = (), grammar: Grammar = ANSWER) -> Answer:
    """Read the answer that a response commits to.

    Total: no ``response`` makes it raise, and its time is linear in the length of the text. An answer without a
    ``value`` has a ``reason``.

    Args:
        task: task type or an alias of one.
        response: the whole response; as a ``Completion`` it also says how it ended, and whether the prompt had opened
            the thinking.
        options: options of a choice question; with them an option's own words are understood.
        grammar: the tags of a well-formed response; what stands in those before the answer is thinking.

    Raises:
        DataError: ``task`` is no known task type.
    """
    rule = RULES[canonical_task(task)]
    given = response if isinstance(response, Completion) else Completion(response)
    layout = split_thinking(given.text, grammar, opened=given.opens_thinking)
    regions = find_regions(given.text, rule.fallback, layout, given.finish)
    if isinstance(regions, str):
        return Answer(None, "", "nothing", reason=regions)
    reason, first = "", None
    for region in regions:
        first = first or region
        read = rule.read if region.found != "reply" or rule.read_reply is None else rule.read_reply
        reading = read(region.text, tuple(options)) if region.text else None
        if reading is not None and reading.value is not None:
            # A tag whose content had to be searched for the answer still holds it, but not as it was asked for.
            canonical = reading.canonical and (region is first or region.found != "tag")
            if 0 < len(region.beside) <= _LINE and _says_another(rule, region.beside, tuple(options), reading.value):
                return Answer(None, region.text, region.found, start=region.start, reason=CONTRADICTED)
            return Answer(reading.value, region.text, region.found, canonical, region.start)
        reason = reason or (reading.reason if reading is not None else "" if region.text else EMPTY_PLACE)
    if first is None:
        return Answer(None, "", "nothing", reason=UNSTATED)
    return Answer(None, first.text, first.found, start=first.start, reason=reason or NO_ANSWER)


#: What may stand before a second answer on a line of its own: "Or 13."
_JOINER = re.compile(
    r"(?:(?:or|else|alternatively|otherwise|maybe|perhaps|possibly|also|and|if\s++not)\b[\s,:]*+)++", re.IGNORECASE
)


def _says_another(rule: Rule, line: str, options: tuple[str, ...], value: object) -> bool:
    """Whether a line is an answer as a whole, and another one."""
    if (joiner := _JOINER.match(line)) is not None and joiner.end() < len(line):
        line = line[joiner.end() :]
    reading = (rule.read_reply or rule.read)(line, options)
    return reading is not None and reading.value is not None and reading.value != value
