"""What turns write into the prompts of later turns: text of the model as plain words, and templates of messages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from easyvideor1.data.rows import PLACEHOLDER
from easyvideor1.rewards.tags import Grammar
from easyvideor1.types import DataError, Sample

if TYPE_CHECKING:
    from easyvideor1.families.family import Family


class PlainWords:
    """Makes what a model wrote fit to stand in a prompt: one paragraph, without tags, placeholders and control tokens.

    A response may spell out ``<video>`` or a control token in ordinary tokens. In a prompt that would ask for a medium,
    or begin a turn; a policy could leave a step by it.

    Args:
        family: whose control tokens and visual tokens are meant.
        grammar: of responses; its tags are left out, and those of thinking and answer in any case.
    """

    def __init__(self, family: Family, grammar: Grammar) -> None:
        from easyvideor1.families.family import control_tokens

        tokenizer: Any = family.tokenizer
        names = {*control_tokens(tokenizer), *tokenizer.convert_ids_to_tokens(list(family.visual_token_ids))}
        tags = "|".join(map(re.escape, dict.fromkeys(("think", "answer", *grammar.names))))
        self._tags = re.compile(rf"<\s*+/?\s*+(?:{tags})\s*+>", re.IGNORECASE)
        # The longest first: one may begin with another.
        longest = sorted({*names, "<image>", "<video>"}, key=lambda name: (-len(name), name))
        self._names = re.compile("|".join(map(re.escape, longest)))

    def __call__(self, text: str) -> str:
        """The words of a response. What is taken out leaves a blank, so that no name can form of what stood around."""
        return " ".join(self._names.sub(" ", self._tags.sub(" ", text)).split())


def without_placeholders(text: str) -> str:
    """A question without the marks of its media, for a prompt that shows other media."""
    return PLACEHOLDER.sub("", text).strip()


def filled(template: str, sample: Sample, **values: str) -> str:
    """A message of a strategy: ``{question}``, given values and names of columns stand for their texts.

    Raises:
        DataError: it names something that the row does not have.
    """
    columns = {name: str(value) for name, value in sample.extra.items() if isinstance(value, str | int | float)}
    try:
        return template.format_map({**columns, "question": without_placeholders(sample.question), **values})
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        known = ", ".join(["question", *values, *columns])
        raise DataError(
            f"the message {template!r} of rollout.strategy cannot be filled in ({error!r}) - it may use {known}"
        ) from None


def seconds_text(times: Iterable[float]) -> str:
    """``1.0, 1.5 and 2.0``."""
    words = [f"{time:.1f}" for time in dict.fromkeys(times)]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
