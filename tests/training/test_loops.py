"""A loop of stages is trained, resumed, extended and addressed like any other stages."""

from __future__ import annotations

from pathlib import Path

import pytest

from easyvideor1.cli.export import find_checkpoint
from easyvideor1.config import RunConfig, parse_config
from easyvideor1.config.writing import dump_values
from easyvideor1.evaluation.history import read_history
from easyvideor1.types import ConfigError

from .runs import World, differing, json_lines, train

pytestmark = pytest.mark.model


def looped(world: World, rounds: int, name: str) -> RunConfig:
    sft, grpo = world.values()["stages"]
    pair = [{**sft, "steps": 1}, {**grpo, "steps": 1, "optimizer": {"lr": 1e-3}}]
    loop = [{"repeat": rounds, "stages": pair}]
    return parse_config(dump_values(world.values(name=name, stages=loop, evaluation__every=0)), "f")


def test_a_loop_of_more_rounds_extends_a_run_of_fewer(world: World, place: Path) -> None:
    train(looped(world, 2, "whole"))
    train(looped(world, 1, "grown"))
    summary, _ = train(looped(world, 2, "grown"))
    whole, grown = place / "runs/whole", place / "runs/grown"
    assert [name for name in differing(whole, grown) if name != "config.yaml"] == []
    stages = ["01-sft", "02-grpo", "03-sft-2", "04-grpo-2"]
    assert sorted(path.name for path in (grown / "stages").iterdir()) == stages
    assert summary["evaluations"] == {"before": "03-sft-2", "after": "04-grpo-2"}
    drawn = [json_lines(grown / f"stages/{name}/rollouts/step_000001.jsonl") for name in ("01-sft", "03-sft-2")]
    assert [row["sample"] for row in drawn[0]] != [row["sample"] for row in drawn[1]], "each round has its own order"

    steps = grown / "stages/02-grpo/checkpoints/step_000001"
    assert find_checkpoint(Path(f"{grown}@grpo")) == find_checkpoint(Path(f"{grown}@02-grpo")) == steps
    assert find_checkpoint(Path(f"{grown}@grpo-2")) == find_checkpoint(grown)
    with pytest.raises(ConfigError, match="has no stage 'dpo' yet; it has sft, grpo, sft-2, grpo-2"):
        find_checkpoint(Path(f"{grown}@dpo"))
    (grown / "stages/03-sft-2").rename(grown / "stages/99-sft-2")
    newest = grown / "stages/100-grpo-2"
    (grown / "stages/04-grpo-2").rename(newest)
    assert find_checkpoint(grown) == newest / "checkpoints/step_000001", "100 comes after 99"
    assert [stage.name for stage in read_history(grown).stages][-1] == newest.name
