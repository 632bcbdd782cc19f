"""VerIPO: its pairs from rollouts written by hand, its stages and those of its baseline, and the loss of a pair.

Which of the solved samples are dropped is tested with a run, in ``tests/training/test_from_rollouts.py``.
"""

from __future__ import annotations

import math

import pytest
import torch

from easyvideor1.algorithms.objectives import OBJECTIVES, TokenBatch
from easyvideor1.config import load_config
from easyvideor1.config.algorithms import DPOOptions
from easyvideor1.records.trajectories import SampleRecord, TrajectoryRecord
from easyvideor1.rollout.pairs import choose_pairs, load_builders
from easyvideor1.types import Score

SEEN = "<think>It is red, so the answer is A.</think><answer>A</answer>"
GUESSED = "<think>I just guess.</think><answer>A</answer>"
WRONG = "<think>It is blue, so the answer is B.</think><answer>B</answer>"
TURNED = "<think>It is blue. Wait, it is red, so the answer is A.</think><answer>A</answer>"
AGAIN = f"<think>{'it is red and so ' * 8} the answer is A.</think><answer>A</answer>"


def record(*responses: str) -> SampleRecord:
    members = tuple(
        TrajectoryRecord(text, len(text.split()), "stop", Score(float(text != WRONG), 1.0, 1.0)) for text in responses
    )
    return SampleRecord("s", "multiple_choice", "?", "A", ("A. red", "B. blue"), trajectories=members)


def test_the_verifier_makes_pairs_of_all_kinds():
    config = load_config("veripo")
    align = config.stages[1]
    builders = load_builders(align.rollouts.pairs)
    responses = (SEEN, GUESSED, WRONG, TURNED, AGAIN)
    every = [(entry.model_copy(update={"per_prompt": 99}), builder) for entry, builder in builders]
    found: dict[str, set[tuple[int, int]]] = {}
    for entry, builder in every:
        found[entry.builder] = {(a, b) for a, b in builder(record(*responses))}
    assert found["accuracy"] == {(right, 2) for right in (0, 1, 3, 4)}
    assert found["consistency"] == {(0, 1), (3, 1), (4, 1)}
    assert found["reflection"] == {(3, 2)}
    assert found["repetition"] == {(0, 4), (1, 4), (3, 4)}
    assert {(0, 4), (1, 4), (1, 0)} <= found["length"]
    chosen = choose_pairs(record(*responses), builders, (0, "align"))
    assert {pair.builder for pair in chosen} == {"accuracy", "consistency", "reflection", "repetition", "length"}
    assert choose_pairs(record(SEEN, SEEN), builders, (0,)) == []


def test_the_stages_are_those_of_the_paper():
    explore, align, again = load_config("veripo").stages
    assert [one.trajectories for one in (explore, align, again)] == ["policy", "rollouts", "policy"]
    assert align.objective.name == "dpo" and align.objective.beta == 0.1
    assert again.rollouts.drop_solved == 0.8 and explore.group_size == again.group_size == 8
    assert align.rollouts.stages == again.rollouts.stages == ("explore",)
    baseline = load_config("veripo/grpo_alone")
    longer = explore.model_copy(update={"steps": explore.steps + again.steps})  # as many responses
    assert [one.model_dump() for one in baseline.stages] == [longer.model_dump()]


@pytest.mark.parametrize(("better", "worse"), [(0.0, 0.0), (0.7, -0.4), (-2.0, 1.0)])
def test_the_loss_of_a_pair_in_closed_form(better: float, worse: float):
    """Gaps to the reference in nats, over two tokens each; loss and gradient by hand."""
    logprobs = torch.tensor([better / 2, better / 2, worse / 2, worse / 2], requires_grad=True)
    batch = TokenBatch(
        logprobs=logprobs,
        old_logprobs=logprobs.detach(),
        advantages=torch.zeros(4),
        weights=torch.full((4,), 0.25),
        sequence=torch.tensor([0, 0, 1, 1]),
        ref_logprobs=torch.zeros(4),
        pairs=torch.tensor([[0, 1]]),
        pair_weights=torch.ones(1),
    )
    loss, _ = OBJECTIVES.resolve("dpo")(batch, DPOOptions(name="dpo", beta=0.1))
    margin = 0.1 * (better - worse)
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-margin)), rel=1e-5)
    loss.backward()
    slope = -0.1 / (1 + math.exp(margin))
    torch.testing.assert_close(logprobs.grad, torch.tensor([slope, slope, -slope, -slope]))
