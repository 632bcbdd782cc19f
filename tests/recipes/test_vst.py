"""VST's recipe: the released settings, and a toy stream that no last clip answers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from easyvideor1.algorithms.advantages import ADVANTAGES
from easyvideor1.algorithms.aggregation import token_weights
from easyvideor1.config import load_config
from easyvideor1.recipes.vst import CLIP, CLIPS, RATE, ROWS, TELLING, row, scenes
from easyvideor1.rewards import Scorer
from easyvideor1.toyworld.scene import COLOURS
from easyvideor1.types import Sample


def test_the_settings_are_the_released_ones() -> None:
    form, rl = load_config("vst").stages
    assert (form.objective.name, rl.advantage.name, rl.aggregation.name) == ("sft", "mean_only", "token")
    assert (rl.objective.clip_low, rl.objective.clip_high, rl.objective.clip_dual) == (0.2, 0.2, 3.0)
    assert (rl.kl.estimator, rl.kl.coef, rl.group_size) == ("k3", 0.01, 8)
    strategy = load_config("vst").rollout.strategy
    assert (strategy.name, strategy.question, strategy.memory) == ("streaming", "end", "before")
    baseline = load_config("vst/last_clip")
    assert baseline.rollout.strategy.memory_tokens == 0
    assert sum(stage.step_count for stage in baseline.stages) == form.step_count + rl.step_count


def test_every_turn_gets_the_centred_reward_and_long_streams_weigh_more() -> None:
    """The group's mean is taken off, without a division; the mean over tokens counts rows, one per turn."""
    rewards = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    group = torch.zeros(4, dtype=torch.int64)
    found = ADVANTAGES.resolve("mean_only")(rewards, group)
    assert found.tolist() == (rewards.numpy() - rewards.numpy().mean()).tolist()
    # Streams of 3 and 1 turns with 2 tokens each: 6 of 8 tokens are of the first.
    sequence, trained = torch.tensor([0] * 6 + [1] * 2), torch.ones(8, dtype=torch.bool)
    shares = {
        name: token_weights(trained, sequence, name, turn_T=torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]))[:6].sum().item()
        for name in ("token", "turn", "sequence")
    }
    assert shares == pytest.approx({"token": 0.75, "turn": 0.75, "sequence": 0.5})


def test_the_last_clip_does_not_tell_the_answer() -> None:
    """Each clip shows its own shape alone, and colours that come first are even: the best guess is one of five."""
    seen: set = set()
    made = list(scenes("test", seen))
    assert len(made) == ROWS["test"] == len(seen)
    pairs = Counter()
    for number, scene in enumerate(made):
        visible = [{body.colour for body in scene.bodies if body.visible_at(t)} for t in scene.times]
        assert [len(each) for each in visible] == [1] * int(CLIPS * CLIP * RATE)
        (last,) = visible[-1]
        line = row("test", number, scene)
        assert line["answer"] == scene.subject.colour != last
        assert line["problem"].count("<video>") == 1 and line["answer"] not in line["problem"]
        pairs[line["answer"], last] += 1
    colours = Counter(scene.subject.colour for scene in made)
    assert max(colours.values()) - min(colours.values()) <= 1
    best = sum(max(n for (_, last), n in pairs.items() if last == shown) for shown in COLOURS)
    assert best / len(made) < 0.32, "whoever knew these pairs by heart"


def test_traces_have_the_form_and_few_name_the_colour() -> None:
    made = [row("train", n, scene) for n, scene in enumerate(scenes("train", set()))]
    telling = [line["answer"] in line["offline_output"]["before"][0] for line in made]
    assert abs(np.mean(telling) - TELLING) < 0.08
    assert {len(line["offline_output"]["before"]) for line in made} == {CLIPS - 1}
    score = Scorer(load_config("vst").rewards)
    sample = Sample("a", "?", "video_qa", "red")
    said = [f"<think>x</think><answer>{word}</answer>" for word in ("red", "blue", "red or blue")]
    assert [each.total for each in score.score_group(sample, said)][:2] == [1.0, 0.0]
    assert score.score_group(sample, said)[2].total < 1


def test_streams_are_the_same_whenever_they_are_made() -> None:
    first, second = (list(scenes("test", set()))[:5] for _ in range(2))
    assert first == second and np.isfinite([body.size for scene in first for body in scene.bodies]).all()
