"""TW-GRPO's recipe: the released settings, and the advantages of its rewards against independent numbers."""

import numpy as np
import pytest
import torch

from easyvideor1.algorithms.advantages import ADVANTAGES
from easyvideor1.config import load_config
from easyvideor1.data.inversion import inverted
from easyvideor1.rewards import Scorer
from easyvideor1.types import Sample


def test_the_settings_are_the_released_ones():
    (stage,) = load_config("tw_grpo").stages
    assert stage.weighter.model_dump() == {"name": "tw_grpo", "alpha": 1.7}
    assert (stage.objective.name, stage.objective.clip_low, stage.objective.clip_high) == ("ppo_clip", 0.2, 0.28)
    assert (stage.aggregation.name, stage.group_size, stage.kl.estimator) == ("token", 8, "none")
    assert stage.optimizer.max_grad_norm == 20


def test_soft_rewards_rank_a_group_that_is_flat_without_them():
    """Y = {A, C, D}: one, two, three right letters and a wrong one, against their z-scores by numpy."""
    sample = Sample("1", "?", "multiple_choice", "A, C, D", options=("A. a", "B. b", "C. c", "D. d"))
    config = load_config("tw_grpo").rewards
    texts = [f"<think>x</think><answer>{letters}</answer>" for letters in ("A", "A, C", "A, C, D", "A, B")]
    scores = [score.total for score in Scorer(config).score_group(sample, texts)]
    assert scores == pytest.approx([0.5 / 3 + 0.5, 1 / 3 + 0.5, 1.0, 0.5])
    released = np.array([1 / 3, 2 / 3, 1.0, 0.0]) + 1.0  # accuracy + format, each of weight 1
    expected = (released - released.mean()) / released.std(ddof=1)
    found = ADVANTAGES.resolve("grpo")(torch.tensor(scores, dtype=torch.float64), torch.zeros(4, dtype=torch.int64))
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    exact = Scorer(config.model_copy(update={"forms": {"multiple_choice": "exact"}}))
    incomplete = [texts[0], texts[1], texts[3]]
    assert len({score.total for score in exact.score_group(sample, incomplete)}) == 1


def test_every_question_of_its_toy_world_can_be_inverted():
    for question in ("Which way does the red circle move?", "What colour is the circle?", "What shape is red?"):
        sample = Sample("1", f"<video>\n{question}", "multiple_choice", "A", options=("A. up", "B. down", "C. left"))
        found = inverted(sample, np.random.default_rng(0))
        assert found is not None and found.question != sample.question
