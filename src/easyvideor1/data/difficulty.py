"""Transforms that follow the difficulty of a sample: a mask that fades, hints for what is hard, noise for what is easy,
and fewer draws of what is always or never answered.

What they do is a function of the seed, the sample and the step, and of the stage's curriculum where they read one.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from easyvideor1.config.transforms import AdaptDifficulty, DropSettled, FadingMask
from easyvideor1.data.media_transforms import labelled_spans, reference_spans, with_effect
from easyvideor1.data.transforms import TRANSFORMS, TransformContext, reads_curriculum
from easyvideor1.rewards.readers.geometry import number
from easyvideor1.types import ConfigError, DataError, Sample
from easyvideor1.video.effects import make_effect

#: Words before the part of a response that a hint shows.
HINT = "Hint: a good answer may begin like this:"


def fading_share(share: float, step: int, steps: int) -> float:
    """Share of the frames that may be hidden which is hidden at a step, counted from 0: ``share * (1 - step / steps)``,
    and 0 from ``steps`` on."""
    return share * max(0.0, 1.0 - step / steps)


@TRANSFORMS.register("fading_mask")
def fading_mask(sample: Sample, step: int, rng: np.random.Generator, context: TransformContext) -> list[Sample]:
    """Hide frames outside of the reference span of hard samples, fewer with every step (in the spirit of VideoTG-R1).

    The frames of the span, and the one on screen when it begins, always stay visible, and so do all timestamps.

    Raises:
        ConfigError: it is used where there are no steps (``data.prepare``).
        DataError: a sample has no span, or no number in the column of the difficulty.
    """
    options: FadingMask = context.options
    steps = options.steps or context.steps
    if not steps:
        raise ConfigError("the transform fading_mask follows steps: name it in the transforms of a stage, or set steps")
    if options.difficulty:
        score = number(sample.extra.get(options.difficulty))
        if score is None:
            raise DataError(
                f"{sample.where or sample.id}: the column {options.difficulty!r} is "
                f"{sample.extra.get(options.difficulty)!r}, not a number - score the rows first (evr1 filter)"
            )
        if score >= options.below:
            return [sample]
    share = fading_share(options.share, step, steps)
    if share == 0:
        return [sample]
    seed = int(rng.integers(0, 2**53))
    spans = reference_spans(sample)
    return [with_effect(sample, make_effect("mask_frames", outside=spans, share=share, seed=seed, fill=options.fill))]


@TRANSFORMS.register("adapt_difficulty")
@reads_curriculum("difficulty", "success")
def adapt_difficulty(sample: Sample, step: int, rng: np.random.Generator, context: TransformContext) -> list[Sample]:
    """Give hints to hard samples, and noise or masks to easy ones, as strong as they are hard or easy (DeepVideo-R1).

    ``d = reference - mean`` (``curriculum.difficulty``). A sample that was not seen yet stays as it is, and so does a
    hard one without a response that was rewarded. A mask spares the reference spans of a sample that has them: what the
    answer is about stays to be seen.

    Raises:
        DataError: a mask is asked for, and the answer of a sample about time has no span.
    """
    options: AdaptDifficulty = context.options
    difficulty = context.curriculum.difficulty(sample.id)
    if difficulty is None or difficulty == 0:
        return [sample]
    if difficulty > 0:
        words = _thoughts(context.curriculum.success(sample.id))
        count = round(min(options.hints * difficulty, options.most) * len(words))
        if not count:
            return [sample]
        return [replace(sample, question=f"{sample.question}\n{HINT} {' '.join(words[:count])}")]
    seeds = [int(seed) for seed in rng.integers(0, 2**53, 2)]
    strength, share = min(-difficulty * options.noise, 1.0), min(-difficulty * options.mask, 0.5)
    if share > 0:
        spans = labelled_spans(sample)
        may_hide = {"outside": spans} if spans else {"inside": ((0.0, 1e9),)}
        effect = make_effect("mask_frames", share=share, seed=seeds[1], **may_hide)
        sample = with_effect(sample, effect)
    if strength > 0:
        sample = with_effect(sample, make_effect("noise", strength=strength, seed=seeds[0]))
    return [sample]


@TRANSFORMS.register("drop_settled")
@reads_curriculum("pass_rate")
def drop_settled(sample: Sample, step: int, rng: np.random.Generator, context: TransformContext) -> list[Sample]:
    """Drop samples that were always, or never, answered when they were last seen: their groups teach nothing.

    Another sample is drawn in their place. A share ``keep`` of the draws is let through, or what the policy has learnt
    or forgotten since would never be known. A sample that was not seen yet stays.
    """
    options: DropSettled = context.options
    rate = context.curriculum.pass_rate(sample.id)
    if rate is None or options.above < rate < options.below or rng.random() < options.keep:
        return [sample]
    return []


def _thoughts(response: str) -> list[str]:
    """The words before the answer of a response, without tags: a hint shows no answer, and no placeholder of media."""
    return re.sub(r"<[^<>]*>", " ", response.partition("<answer>")[0]).split()
