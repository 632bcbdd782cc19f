"""LongVILA-R1: its reward and filter by hand, and its vision tower, which encodes a video once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks.recipe_effects.longvila_r1 import counted, videos_of
from tests.training.runs import World, train

from easyvideor1.config import load_config
from easyvideor1.rewards import Scorer
from easyvideor1.rollout.groups import filter_by_mean
from easyvideor1.types import Completion, Group, Sample, Score, Trajectory


@pytest.mark.parametrize(
    ("response", "total"),
    [
        ("<think>I see it.</think><answer>A</answer>", 0.9 * 1 + 0.1 * 1),
        ("<think>I see it.</think><answer>B</answer>", 0.9 * 0 + 0.1 * 1),
        ("I see it.", 0.0),
    ],
)
def test_the_reward_is_nine_tenths_accuracy_and_one_tenth_format(response, total):
    sample = Sample("s", "<video>\nWhich?", "multiple_choice", "A", options=("A. red", "B. blue"))
    scorer = Scorer(load_config("longvila_r1").rewards)
    ((score,),) = scorer.score_groups([(sample, [Completion(response, "stop")])])
    assert score.total == pytest.approx(total)


def test_all_right_and_all_wrong_of_ten_are_dropped_and_nothing_else():
    (stage,) = load_config("longvila_r1").stages
    keeps = filter_by_mean(stage.selection)
    kept = []
    for right in range(11):
        scores = tuple(Score(float(n < right), 1.0, 0.0) for n in range(10))
        members = tuple(Trajectory(()) for _ in range(10))
        kept.append(keeps(Group(Sample("s", "q", "math", "1"), members, scores)))
    assert kept == [False, *[True] * 9, False]


def test_the_objective_is_the_published_one():
    (stage,) = load_config("longvila_r1").stages
    assert (stage.kl.estimator, stage.kl.coef, stage.kl.placement) == ("k3", 0.01, "loss")
    assert stage.advantage.name == "grpo" and stage.objective.name == "ppo_clip" and stage.objective.clip_dual == 3.0
    # low_var_kl of the released code: exp(d) - d - 1 with d = log ref - log pi
    from easyvideor1.algorithms.kl import kl_estimate

    policy, reference = torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -1.0])
    gap = reference - policy
    torch.testing.assert_close(kl_estimate("k3", policy, reference), gap.exp() - gap - 1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("longvila"))


@pytest.mark.model
def test_the_tower_encodes_each_video_once(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = load_config("longvila_r1")
    config = world.short(
        model__freeze=list(recipe.model.freeze),
        cache__dir=str(tmp_path / "frames"),
        cache__features=recipe.cache.features,
        rewards__custom={},
        data__test=[{"path": world.rows("test")}],
        rollout__max_new_tokens=4,
        evaluation__samples=0,
    )
    with counted() as encoded:
        train(config)
    run = Path("runs/small")
    assert encoded.videos == videos_of(run) > 4
