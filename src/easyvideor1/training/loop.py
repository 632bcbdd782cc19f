"""The training loop. One screen; every choice is made before it begins, and lives in a ``Stage``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from easyvideor1.training.clock import Clock
from easyvideor1.types import Group, Sample

Metrics = dict[str, float]


@dataclass(frozen=True, slots=True)
class Stage:
    """The values that make a stage: what to sample, how to respond, score, select, learn, and what to keep."""

    name: str
    steps: int
    sample: Callable[[int], list[Sample]]
    generate: Callable[[list[Sample], int], list[Group]]
    score: Callable[[list[Group]], list[Group]]
    select: Callable[[list[Group]], list[Group]]
    advantages: Callable[[list[Group]], torch.Tensor]
    update: Callable[[list[Group], torch.Tensor, int], Metrics]
    sync: Callable[[int], None]
    evaluate: Callable[[int], Metrics]
    keep: Callable[[int, list[Group], list[Group], torch.Tensor], None]
    log: Callable[[int, list[Group], list[Group], Metrics, Clock], None]
    save: Callable[[int], None]


def train(stage: Stage, done: int = 0) -> None:
    """Run a stage's steps ``done + 1 .. steps``; everything random in a step follows from the seed and its number."""
    for step in range(done + 1, stage.steps + 1):
        clock = Clock()
        with clock("sample"):
            samples = stage.sample(step)
        with clock("rollout"):
            groups = stage.generate(samples, step)
        with clock("score"):
            groups = stage.score(groups)
        used = stage.select(groups)
        advantages_N = stage.advantages(used)
        stage.keep(step, groups, used, advantages_N)
        with clock("update"):
            metrics = stage.update(used, advantages_N, step)
        with clock("sync"):
            stage.sync(step)
        with clock("evaluate"):
            metrics |= stage.evaluate(step)
        stage.log(step, groups, used, metrics, clock)
        stage.save(step)
