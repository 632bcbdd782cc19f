"""Parts of the total, from the configuration to the records of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from .runs import World, json_lines, train

pytestmark = pytest.mark.model


def test_parts_of_groups_reach_rollouts_and_metrics(world: World, place: Path) -> None:
    parts = [
        {"name": "short", "reward": "brevity", "weight": 0.5},
        {"name": "other", "reward": "diversity", "weight": -0.25, "gate": "short < 1"},
    ]
    train(world.short(rewards__parts=parts))
    (stage,) = (place / "runs/small/stages").iterdir()
    for row in json_lines(stage / "metrics.jsonl"):
        groups = json_lines(stage / f"rollouts/step_{row['step']:06d}.jsonl")
        scores = [trajectory["score"] for group in groups for trajectory in group["trajectories"]]
        for name in ("short", "other"):
            assert row[f"part/{name}"] == pytest.approx(sum(score["parts"][name] for score in scores) / len(scores))
        for score in scores:
            base = score["accuracy"]  # the reward of these worlds gives its total as its accuracy
            part = score["parts"]
            assert part["short"] < 1 or part["other"] == 0.0
            assert score["total"] == pytest.approx((base + 0.5 * part["short"] - 0.25 * part["other"] + 0.25) / 1.75)
        for group in groups:
            shortest = min(group["trajectories"], key=lambda trajectory: len(trajectory["response"]))
            assert shortest["score"]["parts"]["short"] == 1.0
