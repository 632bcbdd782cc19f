"""Transforms of samples before they enter a batch, by registered name or from the user's own package.

A transform is a function ``(sample, step, rng) -> list[Sample]``. It returns one sample to change it, none to drop it,
several for variants. All its randomness comes from ``rng``, which depends only on the seed, the sample and the step.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from easyvideor1.data.formats import split_option
from easyvideor1.registry import Registry
from easyvideor1.types import ConfigError, OfflineTrajectory, Sample

Transform = Callable[[Sample, int, np.random.Generator], list[Sample]]

TRANSFORMS: Registry[Transform] = Registry("transform")

# Where a response states its choice: "<answer>B", "the answer is B", "option (B)".
_STATEMENT = r"(<answer>\s*\(?|\b(?i:answer is|answer:|option|choice)\s+\(?)"
_STATED = re.compile(_STATEMENT + r"([A-Z])(?![\w'])")
# The same with a letter that may be the word "A" or "I": "the answer is A because", "the answer is A man".
_DOUBTFUL = re.compile(_STATEMENT + r"[AI] [a-z]")
# A capital letter on its own, unless it is the word "A" or "I" before another word.
_LONE = re.compile(r"(?<![\w'])(?![AI] [a-z])[A-Z](?![\w'])")
# Words that depend on the order of options: "both A and B", "option C", "all of the above".
_TIED = re.compile(
    r"\b(?i:above|below|preceding|previous|former|latter)\b"
    r"|\b(?i:options?|choices?|answers?|both|and|or|either)\s+\(?[A-Z]\b(?!')"
    r"|\([A-Z]\)"
)


def resolve_transforms(names: Sequence[str]) -> tuple[Transform, ...]:
    """The transforms that ``data.transforms`` names, in order.

    Raises:
        ConfigError: a name is unknown, or not a function.
    """
    found = tuple(TRANSFORMS.resolve(name) for name in names)
    for name, transform in zip(names, found, strict=True):
        if not callable(transform):
            raise ConfigError(f"transform {name!r} is {type(transform).__name__}, not a function (sample, step, rng)")
    return found


@TRANSFORMS.register("shuffle_options")
def shuffle_options(sample: Sample, step: int, rng: np.random.Generator) -> list[Sample]:
    """Shuffle the options of a multiple-choice sample and update the letter of the answer.

    Stated letters in offline responses ("the answer is B", ``<answer>B``) are updated too. Samples stay unchanged if
    their wording depends on the order ("both A and B", "all of the above", an offline response that mentions letters in
    other ways), or if their offline responses have log-probs, which belong to the exact tokens.
    """
    if sample.task != "multiple_choice" or len(sample.options) < 2 or depends_on_order(sample):
        return [sample]
    pairs = sorted(split_option(option) for option in sample.options)
    order = rng.permutation(len(pairs))
    new_letter = {pairs[old][0]: string.ascii_uppercase[place] for place, old in enumerate(order)}
    options = tuple(f"{string.ascii_uppercase[place]}. {pairs[old][1]}" for place, old in enumerate(order))
    offline = tuple(_reletter(trajectory, new_letter) for trajectory in sample.offline)
    # An answer that is the text of an option needs no change.
    return [replace(sample, options=options, answer=_new_answer(sample.answer, new_letter), offline=offline)]


def depends_on_order(sample: Sample) -> bool:
    texts = [split_option(option)[1] for option in sample.options]
    if any(_TIED.search(text) for text in (sample.question, *texts)):
        return True
    letters = set(string.ascii_uppercase[: len(texts)])
    return any(
        item.logprobs is not None
        or _DOUBTFUL.search(item.text)
        or not letters.isdisjoint(_LONE.findall(_STATED.sub("", item.text)))
        for item in sample.offline
    )


def _new_answer(answer: str, new_letter: dict[str, str]) -> str:
    letter, text = split_option(answer)
    if answer in new_letter:
        return new_letter[answer]
    return f"{new_letter[letter]}. {text}" if letter in new_letter else answer


def _reletter(trajectory: OfflineTrajectory, new_letter: dict[str, str]) -> OfflineTrajectory:
    return OfflineTrajectory(
        _STATED.sub(lambda match: match[1] + new_letter.get(match[2], match[2]), trajectory.text), trajectory.logprobs
    )
