"""SOLE-R1's recipe: progress, reward, toy walks and agents, against numbers worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from easyvideor1.config import load_config
from easyvideor1.recipes import sole_r1
from easyvideor1.types import DataError, Prompt, Sample, Trajectory, Turn


def trajectory_of(*texts: str) -> Trajectory:
    ids = np.asarray([1], dtype=np.int64)
    prompt = Prompt("?", ids, (), ())
    return Trajectory(tuple(Turn(prompt, ids, np.ones(1, dtype=bool), None, "stop", text) for text in texts))


def row(progress: object) -> Sample:
    return Sample("s", "?", "numerical", "40", extra={"progress": progress})


def test_progress_is_the_share_of_the_way() -> None:
    assert [sole_r1.progress(cell) for cell in ((0, 0), (1, 0), (2, 3), (5, 4), (5, 5))] == [0, 10, 50, 90, 100]


def test_each_turn_is_paid_for_its_own_distance() -> None:
    said = trajectory_of("<answer>10</answer>", "<answer>75</answer>", "no idea", "<answer>140</answer>")
    score = sole_r1.reward(row([10, 50, 70, 40]), said.text, trajectory=said)
    assert score.turns == pytest.approx((1.0, 0.75, 0.0, 0.0))
    assert score.total == score.accuracy == pytest.approx(1.75 / 4)
    assert score.format == 0.5 and score.parts == {"error": pytest.approx(12.5)}
    alone = sole_r1.reward(row([10, 50, 70, 40]), "<answer>60</answer>")
    assert alone.total == pytest.approx(0.8) and alone.turns == ()
    with pytest.raises(DataError, match="progress is None for 4 turns"):
        sole_r1.reward(row(None), said.text, trajectory=said)


def test_toy_walks_have_failures_that_return() -> None:
    seen = set()
    for number in range(300):
        walk = sole_r1._toy_walk(np.random.default_rng(number), returns=number % 2 == 0)
        values = [sole_r1.progress(cell) for cell in walk]
        seen |= set(walk)
        assert len(walk) == sole_r1.FRAMES and values[0] == 0.0
        assert abs(values[2] - values[1]) <= 40
        if number % 2 == 0:
            assert values[-1] == 0.0
    assert seen == {(x, y) for x in range(6) for y in range(6)}, "the critic sees every cell"
    line = sole_r1._toy_row("a", "a.mp4", [(0, 0), (1, 0), (1, 2), (4, 2), (0, 0)])
    assert line["progress"] == [10.0, 30.0, 60.0, 0.0]
    assert line["offline_output"]["before"] == ["<answer>10</answer>", "<answer>30</answer>", "<answer>60</answer>"]
    assert line["offline_output"]["text"] == "<answer>0</answer>" and json.dumps(line)


def test_the_picture_shows_the_agent_in_its_cell() -> None:
    pixels = sole_r1.picture((2, 4)).astype(int)
    red = (pixels[..., 0] > 180) & (pixels[..., 2] < 100)
    rows, columns = np.nonzero(red)
    width = sole_r1.PIXELS / sole_r1.CELLS
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((2.5 * width, 4.5 * width), abs=0.5)


def test_an_agent_reaches_the_goal_by_true_progress_alone() -> None:
    for seed in range(3):
        outcome = sole_r1.train_agent(sole_r1.true_critic, np.random.default_rng(seed))
        assert outcome == sole_r1.Outcome(1.0, 1.0, True)


def test_an_agent_goes_where_a_wrong_critic_sees_the_goal() -> None:
    # Worked out by hand: the cell (2, 1) is 30% of the way and looks like the goal, which itself looks half done.
    seen = {sole_r1.GOAL: 50.0, (2, 1): 100.0}

    def wrong(cells):
        return [seen.get(cell, sole_r1.progress(cell) / 2) for cell in cells]

    outcome = sole_r1.train_agent(lambda: wrong, np.random.default_rng(0), rounds=200, moves=15)
    assert outcome == sole_r1.Outcome(1.0, 0.3, False)


def test_the_errors_of_a_noisy_critic_belong_to_cells() -> None:
    critic = sole_r1.noisy_critic(np.random.default_rng(0))
    cells = [(x, y) for x in range(6) for y in range(6)]
    first = critic(cells)
    assert first == critic(cells) and all(0 <= value <= 100 for value in first)
    assert first != [sole_r1.progress(cell) for cell in cells]


def test_the_recipe_shows_three_views_in_one_picture() -> None:
    config = load_config("sole_r1")
    assert config.rollout.strategy.views == ("current",)
    assert config.rollout.strategy.steps == config.data.video.frames - 1 == sole_r1.FRAMES - 1
    assert config.data.prepare[0].columns == ("first", "previous", "current")
