"""The training loop. One screen; every choice is made before it begins, and lives in a ``Stage``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from easyvideor1.rollout.collector import Collected, Timed
from easyvideor1.training.timings import Timings
from easyvideor1.training.train_batch import TrainBatch
from easyvideor1.types import Group

Metrics = dict[str, float]


@dataclass(frozen=True, slots=True)
class Stage:
    """What a stage does in each step: functions of the step, and of what the functions before have made.

    ``collect`` is that of a ``rollout.collector.Collector``: the loop knows no engine. Whoever has built the stage
    calls ``close`` when it is over or was left.
    """

    name: str
    steps: int
    timings: Callable[[int], Timings]
    collect: Callable[[int, Timed], Collected]
    train_batch: Callable[[list[Group], int], TrainBatch]
    write_rollouts: Callable[[int, Collected, TrainBatch], None]
    update: Callable[[TrainBatch, int], Metrics]
    sync: Callable[[int, Timed], None]
    evaluate: Callable[[int], Metrics]
    log: Callable[[int, Collected, Metrics, Timings], None]
    save: Callable[[int], None]
    close: Callable[[], None]


def train(stage: Stage, done: int = 0) -> None:
    """Run a stage's steps ``done + 1 .. steps``; everything random in a step follows from the seed and its number."""
    for step in range(done + 1, stage.steps + 1):
        timings = stage.timings(step)
        collected = stage.collect(step, timings)
        with timings("advantages"):
            train_batch = stage.train_batch(collected.used, step)
        stage.write_rollouts(step, collected, train_batch)  # before the update, which may fail
        with timings("update"):
            metrics = collected.metrics | stage.update(train_batch, step)
        stage.sync(step, timings)
        with timings("evaluate"):
            metrics |= stage.evaluate(step)
        stage.log(step, collected, metrics, timings)
        with timings("save"):
            stage.save(step)
