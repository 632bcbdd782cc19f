"""Stages whose length is given in epochs: what they come to, and that it stays so."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from easyvideor1.config import StageConfig, write_config
from easyvideor1.training.stage_steps import counted_steps, in_steps
from easyvideor1.types import ConfigError

from .runs import World, json_lines, lasting, train, write_rows
from .test_resume import start


def stage(world: World, **options: object) -> dict[str, object]:
    """The options of a short stage, without a length."""
    (short,) = world.short().model_dump(mode="json", exclude_unset=True)["stages"]
    del short["steps"]
    return {**short, "save_every": 1, **options}


@pytest.mark.parametrize(
    ("epochs", "rows", "prompts", "steps"),
    [(1, 12, 2, 6), (2, 12, 5, 5), (0.5, 12, 2, 3), (0.1, 30, 3, 1), (0.3, 10, 1, 3), (0.001, 4, 8, 1), (3, 0, 2, 1)],
)
def test_begun_steps_are_whole(epochs: float, rows: int, prompts: int, steps: int) -> None:
    assert counted_steps(StageConfig(name="rl", epochs=epochs, prompts_per_step=prompts), rows) == steps


def test_a_stage_in_steps_is_what_it_is() -> None:
    given = StageConfig(name="rl", steps=7)
    assert counted_steps(given, 1000) == 7 and in_steps(given, 7) is given
    with pytest.raises(ConfigError, match="counted in steps when a run begins"):
        _ = StageConfig(name="rl", epochs=2).step_count


def test_options_are_checked_against_what_the_epochs_come_to() -> None:
    warm = StageConfig(name="rl", epochs=1, advantage="gae", critic={"warmup_steps": 6})  # type: ignore[arg-type]
    assert in_steps(warm, 7).step_count == 7
    with pytest.raises(ConfigError, match=r"stages\.rl, whose epochs are 6 steps: critic\.warmup_steps \(6\)"):
        in_steps(warm, 6)


@pytest.mark.model
def test_a_run_in_epochs_is_the_run_in_steps(world: World, place: Path) -> None:
    """The same weights, rollouts and metrics: epochs are another way to say how long. Each row comes that often."""
    rows = world.read()
    for row in rows[:4]:
        row.update(has_offline_trajectory=False, offline_output="")
    data = {"train": [{"path": write_rows(place / "rows.jsonl", rows)}], "validation": [], "test": []}
    data |= {kind: world.values()["data"][kind] for kind in ("image", "video")}
    options: dict[str, object] = {"data": data, "rollout__max_new_tokens": 60}
    trained = {"trajectories": "offline", "advantage": "ones", "objective": "sft", "group_size": 8}
    refilled = {"selection": {"filter_low": 0.2, "generation_rounds": 2}}

    def stages(sft: dict[str, object], rl: dict[str, object]) -> list[dict[str, object]]:
        return [stage(world, name="sft", **trained, **sft), stage(world, **refilled, **rl)]

    # Eight rows have a trajectory; all twelve can be asked.
    in_epochs = world.short(stages=stages({"epochs": 1}, {"epochs": 1.5}), name="epochs", **options)
    summary, shown = train(in_epochs)
    assert summary["steps"] == 4 + 9
    assert "stage sft: 1 epoch of 8 samples at 2 a step are 4 steps" in shown
    assert "stage rl: 1.5 epochs of 12 samples at 2 a step are 9 steps" in shown and "rl 9/9" in shown
    run = place / "runs/epochs"
    assert json.loads((run / "run.json").read_text())["steps"] == {"sft": 4, "rl": 9}
    asked: Counter[str] = Counter()
    for file in sorted((run / "stages/01-sft/rollouts").glob("*.jsonl")):
        asked.update(group["sample"] for group in json_lines(file))
    assert len(asked) == 8 and set(asked.values()) == {1}

    train(world.short(stages=stages({"steps": 4}, {"steps": 9}), name="steps", **options))
    one, other = lasting(run), lasting(place / "runs/steps")
    assert [name for name in one if one[name] != other[name]] == ["config.yaml"] and one.keys() == other.keys()
    assert b"epochs: 1.5\n  steps: null" in one["config.yaml"].replace(b"    ", b"  ")


@pytest.mark.model
def test_rows_that_go_bad_between_two_starts_do_not_move_the_end(world: World, place: Path) -> None:
    rows = world.read()
    lonely = next(row for row in rows if row["videos"])
    video = place / "own.mp4"
    shutil.copy(lonely["videos"][0], video)
    lonely["videos"] = [str(video)]
    data = {"train": [{"path": write_rows(place / "rows.jsonl", rows)}], "on_bad_row": "skip"}
    data |= {kind: world.values()["data"][kind] for kind in ("image", "video")}
    config = world.short(
        stages=[stage(world, epochs=2)], data=data, rollout__max_new_tokens=40, cache__mode="decode_only"
    )
    write_config(config, place / "run.yaml")
    metrics = place / "runs/small/stages/01-rl/metrics.jsonl"
    process = start(["-m", "easyvideor1.cli", "train", "run.yaml"], place)
    limit = time.monotonic() + 300
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < 2:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < limit
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    video.unlink()

    summary, shown = train(config)
    assert "resuming after step" in shown
    told = "2 epochs of 11 samples at 2 a step are 12 steps, as counted when the run started; now they would be 11"
    assert told in shown and summary["steps"] == 12
    assert [row["step"] for row in json_lines(metrics)] == list(range(1, 13))
    before = lasting(place / "runs/small")
    assert "this run is finished" in train(config)[1]
    assert lasting(place / "runs/small") == before


@pytest.mark.model
def test_an_impossible_length_is_told_before_anything_is_written(world: World, place: Path) -> None:
    warm = stage(world, epochs=1, advantage="gae", critic={"warmup_steps": 6}, kl="none")
    with pytest.raises(ConfigError, match="whose epochs are 6 steps"):
        train(world.short(stages=[warm]))
    assert not (place / "runs").exists()
