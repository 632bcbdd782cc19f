"""Strategies with a tiny model: what they ask, and a run that trains on two turns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from easyvideor1.config import RunConfig, dump_config, parse_config
from easyvideor1.engines.engine import Sampling
from easyvideor1.engines.local import LocalEngine
from easyvideor1.records.trajectory_files import read_trajectories
from easyvideor1.rollout.driver import Draw, Job, drive
from easyvideor1.rollout.strategies import STRATEGIES, PromptBuilder, SecondLook, check_strategy, open_strategy
from easyvideor1.types import ConfigError, MediaRef, Prompt, Sample
from tiny import load_frames, make_plan
from training.runs import OWN_PARTS, World, json_lines, train

pytestmark = pytest.mark.model


def test_a_second_look_continues_the_first_turn(tiny_family, pushed) -> None:
    plan = make_plan("video")

    def render(sample: Sample) -> Prompt:
        return tiny_family.render(sample.question, sample.media, [plan])

    sample = Sample("a", "<video>What moves?", "open_ended", "x", (MediaRef("video", "/media/a"),))
    engine = LocalEngine(tiny_family, pushed({tiny_family.stop_token_ids[0]: 2.0}), load_frames)
    strategy = STRATEGIES.resolve("second_look")(PromptBuilder(render, tiny_family, lambda ref: plan))
    (outcome,) = drive(engine, [Job(sample, (Draw(24, Sampling(max_new_tokens=60), 5),))], strategy)
    turns = {len(each.turns) for each in outcome.trajectories}
    assert turns == {1, 2}, "those that were cut stay, those that ended look again"
    for trajectory in outcome.trajectories:
        first, *second = trajectory.turns
        assert first.prompt is outcome.prompt and trajectory.prompt is first.prompt
        assert bool(second) == (first.finish == "stop")
        for turn in second:
            before = np.concatenate([first.prompt.token_ids, first.response_ids])
            assert turn.prompt.token_ids[: len(before)].tolist() == before.tolist()
            added = tiny_family.tokenizer.decode(turn.prompt.token_ids[len(before) :])
            assert SecondLook.CHECK in added and added.count("<|im_start|>") == 2, added
            assert turn.prompt.plans == first.prompt.plans
            assert trajectory.text == turn.text
            assert trajectory.response_tokens == len(first.response_ids) + len(turn.response_ids)


def test_a_strategy_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"unknown rollout strategy 'second'.* did you mean second_look"):
        STRATEGIES.resolve("second")


def test_a_strategy_of_ones_own_has_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_family) -> None:
    (tmp_path / "own_options.py").write_text(OPTIONS)
    monkeypatch.syspath_prepend(str(tmp_path))

    def options(**given):
        return RunConfig.model_validate({"rollout": {"strategy": {"name": "own_options:Asking", **given}}}).rollout

    prompts = PromptBuilder(lambda sample: None, tiny_family, lambda ref: None)  # type: ignore[arg-type]
    assert open_strategy(options(times=3).strategy, prompts, 10).strategy.options.times == 3
    assert open_strategy(options().strategy, prompts, 10).strategy.options.times == 2
    for given, words in (({"time": 3}, "unknown key; valid keys here: times"), ({"times": "x"}, "valid integer")):
        with pytest.raises(ConfigError, match=f"rollout.strategy.time.*{words}"):
            check_strategy(options(**given).strategy)


def test_a_name_alone_stays_a_name() -> None:
    """Configurations of runs, and the digests of results, are what they were before strategies had options."""
    for name in ("single_turn", "second_look", "own_options:Asking"):
        config = RunConfig.model_validate({"rollout": {"strategy": name}})
        assert config.rollout.model_dump(mode="json")["strategy"] == name
    assert RunConfig().rollout.model_dump(mode="json")["strategy"] == "single_turn"
    streaming = {"name": "streaming", "clip_frames": 8}
    config = RunConfig.model_validate({"rollout": {"strategy": streaming}})
    assert parse_config(dump_config(config), "a") == config
    assert parse_config(dump_config(config, only_set=True), "a") == config
    with pytest.raises(ConfigError, match=r"rollout\.strategy.*streaming"):
        parse_config("rollout: {strategy: streamin}", "a")
    with pytest.raises(ConfigError, match=r"rollout\.strategy\.clip_frame\b"):
        parse_config("rollout: {strategy: {name: streaming, clip_frame: 8}}", "a")
    with pytest.raises(ConfigError, match=r"stages\.rl\.hybrid .* first turn of rollout\.strategy streaming"):
        parse_config("rollout: {strategy: streaming}\nstages: [{name: rl, group_size: 4, hybrid: {responses: 1}}]", "a")


def test_a_streaming_run_trains_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips of kept features: training, evaluation and records use them, and a resumed run is equal."""
    world = World(tmp_path / "world")
    (tmp_path / "own_parts.py").write_text(OWN_PARTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    strategy = {"name": "streaming", "clip_frames": 2, "thought_tokens": 6, "memory": "after"}
    changes = {
        "rollout": {"max_new_tokens": 8, "strategy": strategy},
        "cache": {"dir": str(tmp_path / "frames"), "workers": 1, "features": True},
        "model": {"path": str(world.checkpoint), "freeze": ["vision", "merger"]},
        "evaluation": {"every": 0, "samples": 1},
    }

    def run(place: str, *lengths: int) -> Path:
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        for steps in lengths:
            stage = world.values()["stages"][1] | {
                "steps": steps,
                "save_every": 1,
                "kl": "none",
                "optimizer": {"lr": 1e-3},
            }
            train(world.config(stages=[stage], **changes))
        return tmp_path / place / "runs/small"

    whole, resumed = run("whole", 2), run("resumed", 1, 2)
    rollouts = "stages/01-grpo/rollouts"
    for step in (1, 2):
        for suffix in ("jsonl", "npz"):
            name = f"{rollouts}/step_{step:06d}.{suffix}"
            assert (whole / name).read_bytes() == (resumed / name).read_bytes(), name
    records = list(read_trajectories(whole / rollouts / "step_000001.jsonl", arrays=True))
    videos = [record for record in records if record.modality == "video"]
    members = [member for record in videos for member in record.trajectories]
    assert members and {len(member.turns) for member in members} == {2}
    assert all(len(member.responses) == 2 and member.responses[-1] == member.response for member in members)
    assert all(len(member.turns[0].response_ids) <= 6 for member in members)
    assert all(record.media[0].part_of and len(record.media[0].frame_indices) == 2 for record in videos)
    rows = json_lines(whole / "stages/01-grpo/metrics.jsonl")
    assert sum(row["turns/notes"] for row in rows) == sum(
        len(member.turns) - 1
        for step in (1, 2)
        for record in read_trajectories(whole / rollouts / f"step_{step:06d}.jsonl", arrays=True)
        for member in record.trajectories
    )
    assert {row["error"] for row in json_lines(whole / "evaluations/01-grpo.jsonl")} == {None}
    assert all(np.isfinite(row["loss"]) for row in rows if "loss" in row)


def test_a_run_trains_on_both_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but ``rollout.strategy`` is set; records, metrics, evaluation and resume are those of any run."""
    monkeypatch.chdir(tmp_path)
    world = World(tmp_path / "world")
    (tmp_path / "own_looks.py").write_text(PARTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = world.config(
        rollout={"max_new_tokens": 40, "strategy": "own_looks:Looking"},
        rewards={"custom": {"*": "own_looks:vowels"}},
        stages=[world.values()["stages"][1] | {"steps": 2}],
        evaluation={"every": 0, "samples": 1},
    )
    train(RunConfig.model_validate(config))
    stage = tmp_path / "runs/small/stages/01-grpo"
    found = [
        record
        for step in (1, 2)
        for record in read_trajectories(stage / f"rollouts/step_{step:06d}.jsonl", arrays=True)
    ]
    members = [member for record in found for member in record.trajectories]
    assert {len(member.turns) for member in members} == {2}
    for member in members:
        first, second = member.turns
        assert len(second.prompt_ids) > len(first.prompt_ids) + len(first.response_ids)
        assert member.tokens == len(first.response_ids) + len(second.response_ids)
        assert first.response_mask.all() and second.response_mask.all()
        assert first.logprobs is not None and first.versions is not None
    used = [member for member in members if member.advantage is not None]
    assert used and all(turn.advantages is not None for member in used for turn in member.turns)
    assert all(np.isfinite(row["loss"]) for row in json_lines(stage / "metrics.jsonl") if "loss" in row)
    assert {row["error"] for row in json_lines(tmp_path / "runs/small/evaluations/01-grpo.jsonl")} == {None}


OPTIONS = """
from pydantic import BaseModel

from easyvideor1.options import with_options


class Options(BaseModel):
    times: int = 2


@with_options(Options)
class Asking:
    def __init__(self, prompts, options):
        self.options = options
"""

#: The reward of other runs, and a second look at answers of an untrained model, which seldom end by themselves.
PARTS = """
from easyvideor1.rollout.strategies import SecondLook
from easyvideor1.types import Score


def vowels(sample, response):
    share = sum(letter in "aeiou" for letter in response) / max(len(response), 1)
    return Score(share, 0.0, share, parsed=response[:3])


class Looking(SecondLook):
    def next(self, sample, trajectory):
        if len(trajectory.turns) > 1:
            return None
        asked = trajectory.last.prompt.followed_by(trajectory.last.response_ids)
        return self.prompts.family.extend(asked, self.CHECK, (), ())
"""
