"""Prompts of conversations: the same token ids as in training and evaluation for the same texts and media."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from easyvideor1.config import RunConfig
from easyvideor1.data import prompt_text
from easyvideor1.data.formats import letter_options
from easyvideor1.data.visual_tokens import tokens_fault
from easyvideor1.families.family import Family, control_tokens
from easyvideor1.tasks import canonical_task
from easyvideor1.types import DataError, MediaPlan, MediaRef, Prompt, Sample


@dataclass(frozen=True, slots=True)
class UserTurn:
    """A message of the user: text with one ``<image>`` or ``<video>`` for each of its media; these, and their plans."""

    text: str
    media: tuple[MediaRef, ...] = ()
    plans: tuple[MediaPlan, ...] = ()


def worded(turn: UserTurn, problem_type: str, config: RunConfig, options: Sequence[str] = ()) -> UserTurn:
    """A message in the words of training prompts: the template of a task type around it, with its options.

    Raises:
        DataError: there is no such task type, or an option cannot be used.
    """
    listed = letter_options([option.strip() for option in options])
    sample = Sample("question", turn.text, canonical_task(problem_type), "", turn.media, listed)
    return replace(turn, text=prompt_text(sample, config.prompts, config.rewards))


def conversation_prompt(
    family: Family, config: RunConfig, system: str | None, turns: Sequence[UserTurn], answers: Sequence[str] = ()
) -> Prompt:
    """The prompt that ends with the last of ``turns``; ``answers`` stand between them.

    The first message is rendered as a sample of a run is. Further ones are appended by ids, as in training with several
    turns: answers stay as they were written, thinking included, also where a chat template would leave it out.

    Args:
        family: one whose tokenizer the calling thread may use.
        config: of the server.
        system: the system message; that of the configuration if None.
        turns: messages of the user, at least one.
        answers: of the assistant, one fewer than ``turns``.

    Raises:
        DataError: texts hold control tokens, or the prompt is longer than ``data.max_prompt_tokens``.
    """
    first, *others = turns
    own_system = config.prompts.system if system is None else system
    prompt = family.render(first.text, first.media, first.plans, system=own_system)
    for answer, turn in zip(answers, others, strict=True):
        asked = prompt.followed_by(np.asarray(_answer_ids(family, answer), dtype=np.int64))
        prompt = family.extend(asked, turn.text, turn.media, turn.plans)
    if (fault := tokens_fault(prompt)) is not None:
        raise DataError(f"{fault} - correct the render of {type(family).__name__}")
    limit = config.data.max_prompt_tokens
    if len(prompt) > limit:
        visual = sum(plan.tokens for plan in prompt.plans)
        raise DataError(
            f"the prompt has {len(prompt)} tokens ({visual} of them visual), data.max_prompt_tokens is {limit} - lower "
            "the number of frames or pixels, or shorten the clip"
        )
    return prompt


def _answer_ids(family: Family, answer: str) -> list[int]:
    """Token ids of an earlier answer, with the stop token that ended it.

    Raises:
        DataError: it holds control tokens.
    """
    tokenizer = family.tokenizer
    ids: list[int] = tokenizer(answer, add_special_tokens=False)["input_ids"]
    control = {*family.visual_token_ids, *family.stop_token_ids, *control_tokens(tokenizer).values()}
    if special := set(ids) & control:
        names = ", ".join(tokenizer.convert_ids_to_tokens(sorted(special)))
        raise DataError(f"an earlier answer contains the control tokens {names} - remove them from its text")
    return [*ids, family.stop_token_ids[0]]
