"""The benchmark of a step measures what it says: the same step twice, and every token counted."""

import sys

import pytest
import torch
from benchmarks.memory import extra_memory
from benchmarks.step_paths import Separate, Shared, make_step_data, write_model

from benchmarks import step

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("step") / "model")


@pytest.fixture(scope="module")
def paths(model):
    shared = Shared.open(model)
    return shared, Separate.open(model, shared.policy.family)


@pytest.fixture(scope="module")
def data(paths):
    return make_step_data(paths[0].policy.family, prompt_tokens=60, responses=3, lengths=(4, 9), groups=2)


def test_both_paths_make_the_same_step(paths, data):
    found = step.agreement(*paths, data)
    assert 0 < found["max_logprob_error"] < 1e-5 and 0 < found["max_grad_error"] < 1e-4
    weights = dict(paths[1].model.named_parameters())
    for name, tensor in paths[0].policy.weights():
        torch.testing.assert_close(tensor, weights[name], rtol=0, atol=3e-6)  # Adam's first step is lr * sign


def test_the_bound_is_every_prompt_and_every_response_once(paths, data):
    prompts = [data.turns[0].prompt, data.turns[3].prompt]
    tokens, patches = data.bound
    assert min(map(len, prompts)) >= 60 and prompts[0] is not prompts[1]
    assert tokens == sum(map(len, prompts)) + sum(len(turn.response_ids) - 1 for turn in data.turns)
    assert patches == 4 * sum(plan.tokens for prompt in prompts for plan in prompt.plans)
    # The few words before the videos are shared between groups, too.
    assert 0.9 < step.waste(paths[0], data)["flops_ratio_to_bound"] <= 1.0
    with paths[0].counted() as counts:
        paths[0].logprobs(data)
    assert counts["patches"] == patches


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_extra_memory_is_what_was_held_at_once():
    def work():
        for _ in range(3):
            torch.ones(16 << 20).sum()  # 64 MiB, one after the other
        kept = [torch.ones(8 << 20) for _ in range(3)]  # 96 MiB together
        kept.clear()

    assert 90 << 20 < extra_memory(work) < 130 << 20
    assert extra_memory(lambda: None) < 4 << 20


def test_our_step_has_the_length_that_it_is_compared_at(model):
    seconds = step.our_steps(model, 2, 2)
    assert len(seconds) == 2 and all(wall > 0 and cpu > 0 for wall, cpu in seconds)


def test_a_missing_peer_is_told(model, tmp_path, monkeypatch):
    monkeypatch.setattr(step, "versions", lambda _: {})
    assert step.against_trl(model, tmp_path, 3, 1) == (None, step.against_trl(model, tmp_path, 3, 1)[1])
    assert "not installed" in step.against_trl(model, tmp_path, 3, 1)[1]
    assert step.against_trl(model, tmp_path, 0, 1)[0] is None
