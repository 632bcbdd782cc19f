"""Transforms of samples before they enter a batch, by registered name or from the user's own package.

A transform is a function ``(sample, step, rng) -> list[Sample]``, or ``(sample, step, rng, context)``. It returns one
sample to change it, none to drop it, several for variants. All its randomness comes from ``rng``, which depends only on
the seed, the sample and the step (counted from 0).
"""

from __future__ import annotations

import inspect
import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from easyvideor1.config.base import CUSTOM
from easyvideor1.config.transforms import TRANSFORM_OPTIONS, TransformOptions
from easyvideor1.data.formats import split_option
from easyvideor1.options import own_options
from easyvideor1.registry import Registry
from easyvideor1.types import ConfigError, MediaInfo, OfflineTrajectory, Sample

#: ``(sample, step, rng) -> samples``, or the same with a ``TransformContext`` as the fourth argument.
Transform = Callable[..., list[Sample]]

TRANSFORMS: Registry[Transform] = Registry("transform")

F = TypeVar("F", bound=Transform)


@dataclass(frozen=True, slots=True)
class TransformContext:
    """What a transform may need beyond the sample.

    ``options`` are its own: its section of the configuration, or an instance of the model that it declares
    (``easyvideor1.options.with_options``). ``steps`` is the length of the stage; 0 while rows are prepared.
    ``curriculum`` is that of the stage (``data/curricula.py``), which is only read; ``None`` without one. ``probe``
    describes a media file; ``None`` but while rows are prepared.
    """

    options: Any
    steps: int = 0
    curriculum: Any = None
    probe: Callable[[str], MediaInfo] | None = None


@dataclass(frozen=True, slots=True)
class BoundTransform:
    """A transform with its options. ``section`` is that of the configuration."""

    function: Transform
    section: TransformOptions
    options: Any = field(default=None, compare=False)

    @property
    def reads(self) -> tuple[str, ...]:
        """What it reads of the stage's curriculum; empty if it needs none."""
        return tuple(getattr(self.function, "reads_curriculum", ()))

    def __call__(self, sample: Sample, step: int, rng: np.random.Generator, context: TransformContext) -> list[Sample]:
        """The transformed samples; ``context`` goes to a function of four arguments, with its own options."""
        if not _wants_context(self.function):
            return self.function(sample, step, rng)
        return self.function(sample, step, rng, replace(context, options=self.options))


def reads_curriculum(*names: str) -> Callable[[F], F]:
    """Decorator that declares which attributes of the stage's curriculum a transform reads."""

    def declare(function: F) -> F:
        function.reads_curriculum = names  # type: ignore[attr-defined]
        return function

    return declare


def _wants_context(function: Transform) -> bool:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) < 4:
        return False
    return positional[3].name == "context" or positional[3].default is inspect.Parameter.empty


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


def resolve_transforms(
    chosen: Sequence[TransformOptions | str], place: str = "transforms"
) -> tuple[BoundTransform, ...]:
    """The transforms of a list of a configuration, in order. A text is a name without options.

    Raises:
        ConfigError: a name is unknown or not a function, or options of the user's own function are wrong; ``place`` is
            what messages call the list.
    """
    found = []
    for number, item in enumerate(chosen):
        section = _section(item) if isinstance(item, str) else item
        function = TRANSFORMS.resolve(section.name)
        if not callable(function):
            raise ConfigError(
                f"transform {section.name!r} is {type(function).__name__}, not a function (sample, step, rng)"
            )
        found.append(BoundTransform(function, section, own_options(function, section, f"{place}.{number}")))
    return tuple(found)


def _section(name: str) -> TransformOptions:
    return TRANSFORM_OPTIONS.get(CUSTOM if ":" in name else name, TransformOptions)(name=name)


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
    turns = (text for item in sample.offline for text in (*item.before, item.text))
    return any(item.logprobs is not None for item in sample.offline) or any(
        _DOUBTFUL.search(text) or not letters.isdisjoint(_LONE.findall(_STATED.sub("", text))) for text in turns
    )


def _new_answer(answer: str, new_letter: dict[str, str]) -> str:
    letter, text = split_option(answer)
    if answer in new_letter:
        return new_letter[answer]
    return f"{new_letter[letter]}. {text}" if letter in new_letter else answer


def _reletter(trajectory: OfflineTrajectory, new_letter: dict[str, str]) -> OfflineTrajectory:
    def follow(text: str) -> str:
        return _STATED.sub(lambda match: match[1] + new_letter.get(match[2], match[2]), text)

    return replace(trajectory, text=follow(trajectory.text), before=tuple(map(follow, trajectory.before)))
