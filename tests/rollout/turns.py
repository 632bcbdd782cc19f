"""Prompts of strategies from plans alone, and trajectories with responses that a test writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from easyvideor1.config.strategies import STRATEGY_OPTIONS
from easyvideor1.rollout.strategies import PromptBuilder, open_strategy
from easyvideor1.types import Frames, MediaPlan, MediaRef, Prompt, Sample, Trajectory, Turn
from easyvideor1.video.part import taken
from tiny import load_frames


def prompt_builder(family, plans: Mapping[str, MediaPlan], text=lambda sample: sample.question) -> PromptBuilder:
    """Prompts of samples whose media have these plans by path."""

    def render(sample: Sample) -> Prompt:
        return family.render(text(sample), sample.media, [plans[ref.path] for ref in sample.media])

    return PromptBuilder(render, family, lambda ref: plans[ref.path], text=text)


def opened(prompts: PromptBuilder, name: str, limit: int = 10_000, **options):
    """A strategy as a run opens it."""
    return open_strategy(STRATEGY_OPTIONS[name](name=name, **options), prompts, limit)


def asked(question: str, *plans: MediaPlan, **columns) -> tuple[Sample, dict[str, MediaPlan]]:
    """A sample about media with these plans, and the plans by path."""
    refs = tuple(MediaRef(plan.kind, f"/media/{n}") for n, plan in enumerate(plans))
    sample = Sample("a", question, columns.pop("task", "open_ended"), "x", refs, extra=columns)
    return sample, {ref.path: plan for ref, plan in zip(refs, plans, strict=True)}


def run(strategy, sample: Sample, responses: Sequence[str]) -> Trajectory:
    """The trajectory of given responses; stops where the strategy does, and must not ask for more of them."""
    prompt, turns = strategy.start(sample), []
    for response in responses:
        assert prompt is not None, "the trajectory had ended"
        ids = np.asarray([40, 41], dtype=np.int64)
        turns.append(Turn(prompt, ids, np.ones(2, dtype=bool), None, "stop", response))
        prompt = strategy.next(sample, Trajectory(tuple(turns)))
    assert prompt is None, "one more response is asked for"
    return Trajectory(tuple(turns))


def load_parts(ref: MediaRef, plan: MediaPlan) -> Frames:
    """Noise of a plan, and of a part what it shows of the whole's."""
    return load_frames(ref, plan) if plan.part is None else taken(load_frames(ref, plan.part.whole), plan)
