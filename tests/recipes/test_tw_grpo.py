"""TW-GRPO's recipe: the released settings, and the advantages of its rewards against independent numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from easyvideor1.algorithms.advantages import ADVANTAGES
from easyvideor1.config import load_config
from easyvideor1.recipes.package import find_package
from easyvideor1.recipes.tw_grpo import write_inverted_test
from easyvideor1.rewards import Scorer
from easyvideor1.toyworld import write_world
from easyvideor1.toyworld.spec import spec_from_json
from easyvideor1.types import DataError, Sample


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


def world_of(root: Path, **settings: object) -> Path:
    """A small world of the kinds of ``about.yaml``, or with other settings."""
    package = find_package("tw_grpo")
    assert package is not None
    wanted = {**package.about.toy.worlds["world"], "train": 0, "test": 12, **settings}
    write_world(spec_from_json(wanted), root / "world")
    return root


@pytest.mark.model
def test_every_question_of_its_toy_world_is_inverted(tmp_path):
    write_inverted_test(world_of(tmp_path))
    plain, inverse = (
        [json.loads(line) for line in (tmp_path / "world" / name).read_text().splitlines()]
        for name in ("test.jsonl", "test-inverted.jsonl")
    )
    assert len(plain) == len(inverse) == 12
    assert {row["data_source"] for row in plain} == {row["data_source"] for row in inverse}
    for before, after in zip(plain, inverse, strict=True):
        assert before["problem_id"] == after["problem_id"] and "n't" in after["problem"]
        right = {option[2:].strip() for option in after["options"] if option[0] in after["answer"].split(", ")}
        (old,) = [option[2:].strip() for option in before["options"] if option[0] == before["answer"]]
        assert right and old not in right  # asked is what is not so


@pytest.mark.model
def test_a_question_that_cannot_be_inverted_is_told(tmp_path):
    root = world_of(tmp_path, kinds=["count"], test=2)
    with pytest.raises(DataError, match=r"2 of 2 questions cannot be inverted, as "):
        write_inverted_test(root)
    assert not (root / "world" / "test-inverted.jsonl").exists()
