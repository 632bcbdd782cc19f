"""LongVILA-R1: how often the vision tower encodes each distinct video of a training stage, counted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.models.qwen3_vl import modeling_qwen3_vl

from benchmarks.recipe_effect import Effect, Sides, Trial
from easyvideor1.records.rollout_store import RolloutStore
from easyvideor1.records.trajectory_files import read_trajectories


@dataclass
class Encoded:
    """How many videos the tower was given, those that came again counted again."""

    videos: int = 0


@contextmanager
def counted() -> Iterator[Encoded]:
    """Count the videos that go through the vision tower of transformers: a row of its grid each."""
    tower: Any = modeling_qwen3_vl.Qwen3VLVisionModel
    original, found = tower.forward, Encoded()

    def forward(self: Any, hidden_states: Any, grid_thw: Any, **options: Any) -> Any:
        found.videos += len(grid_thw)
        return original(self, hidden_states, grid_thw, **options)

    tower.forward = forward
    try:
        yield found
    finally:
        tower.forward = original


def videos_of(run: Path) -> int:
    """The distinct videos that a run has trained on, or was tested with."""
    media = {one.digest for group in RolloutStore(run).groups() for one in group.record.media}
    evaluation = run / "evaluations" / "before.jsonl"
    tested = read_trajectories(evaluation) if evaluation.exists() else ()
    return len(media | {one.digest for record in tested for one in record.media})


def measure(trial: Trial) -> Sides:
    """Encodings per distinct video of the training stage, without kept features and with them.

    There are no test questions, since the evaluations before and after would be counted too. ``model.vision_chunk=0``:
    a video whose tower is computed in parts would be counted once for each.
    """
    steps = trial.steps(small=4, full=25)
    found = []
    for kept in (False, True):
        place = Path("trials") / f"longvila-frames-{trial.budget}-{kept}"
        shutil.rmtree(place, ignore_errors=True)  # no features are there yet
        overrides = [f"stages.grpo.steps={steps}", "model.vision_chunk=0", "data.test=[]", f"cache.dir={place}"]
        with counted() as encoded:
            run = trial.run(
                "longvila_r1",
                [*overrides, f"cache.features={str(kept).lower()}"],
                label="kept" if kept else "computed",
                afresh=True,
            )
        found.append(encoded.videos / videos_of(run))
    return Sides(baseline=found[0], recipe=found[1])


EFFECT = Effect(
    recipe="longvila_r1",
    measures="encodings of the vision tower per distinct video of the stage, kept features minus none",
    measure=measure,
    claimed=True,  # exactly 1 against 1.83 in 4 steps
    equal="steps, responses and updates",
    tests=("tests/recipes/test_longvila_r1.py", "tests/families/test_features.py"),
    seeded=False,
    expected="lower",
)
