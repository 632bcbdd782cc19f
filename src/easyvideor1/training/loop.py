"""The training loop. One screen; every choice is made before it begins, and lives in a ``Stage``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from easyvideor1.algorithms.selection import refill
from easyvideor1.training.timings import Timings
from easyvideor1.training.train_batch import TrainBatch
from easyvideor1.types import Group, Sample

Metrics = dict[str, float]


@dataclass(frozen=True, slots=True)
class Stage:
    """The values that make a stage: what to sample, how to respond, score, select, learn, and what to keep.

    A step generates in up to ``rounds`` rounds, until ``wanted`` groups are there to learn from.
    """

    name: str
    steps: int
    wanted: int
    rounds: int
    sample: Callable[[int, int], list[Sample]]
    generate: Callable[[list[Sample], int, int], list[Group]]
    score: Callable[[list[Group], int, int], list[Group]]
    select: Callable[[list[Group]], list[Group]]
    train_batch: Callable[[list[Group], int], TrainBatch]
    update: Callable[[TrainBatch, int], Metrics]
    sync: Callable[[int], None]
    evaluate: Callable[[int], Metrics]
    keep: Callable[[int, list[Group], TrainBatch], None]
    log: Callable[[int, list[Group], list[Group], Metrics, Timings], None]
    clock: Callable[[int], Timings]
    save: Callable[[int], None]


def train(stage: Stage, done: int = 0) -> None:
    """Run a stage's steps ``done + 1 .. steps``; everything random in a step follows from the seed and its number."""
    for step in range(done + 1, stage.steps + 1):
        clock = stage.clock(step)
        groups, used, metrics = gather(stage, step, clock)
        with clock("advantages"):
            train_batch = stage.train_batch(used, step)
        stage.keep(step, groups, train_batch)
        with clock("update"):
            metrics |= stage.update(train_batch, step)
        with clock("sync"):
            stage.sync(step)
        with clock("evaluate"):
            metrics |= stage.evaluate(step)
        stage.log(step, groups, used, metrics, clock)
        stage.save(step)


def gather(stage: Stage, step: int, clock: Timings) -> tuple[list[Group], list[Group], Metrics]:
    """All groups of a step, those that it learns from, and how many rounds they took (DAPO's dynamic sampling)."""
    groups: list[Group] = []
    used: list[Group] = []
    rounds = 0
    while rounds == 0 or refill(len(used), stage.wanted, rounds, stage.rounds) == "generate":
        with clock("sample"):
            samples = stage.sample(step, rounds)
        with clock("rollout"):
            made = stage.generate(samples, step, rounds)
        with clock("score"):
            made = stage.score(made, step, rounds)
        groups += made
        used += stage.select(made)
        rounds += 1
    metrics = {"groups/rounds": float(rounds), "groups/surplus": float(max(len(used) - stage.wanted, 0))}
    return groups, used[: stage.wanted], metrics
