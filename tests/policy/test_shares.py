"""A step that several ranks share: each has the whole batch and a share of the plan, and what they return adds up."""

import pytest
import torch

from easyvideor1.config import LoraConfig, ModelConfig, OptimizerConfig, StageConfig
from easyvideor1.policy import spread
from easyvideor1.policy.policy import Policy
from easyvideor1.policy.update_batch import Observations, UpdateBatch, update_metrics
from tiny import load_frames, make_plan, make_prompt, random_turns

pytestmark = pytest.mark.model

STAGE = StageConfig(
    name="rl",
    advantage="gae",
    kl={"estimator": "k3", "coef": 0.1},
    micro_batch_tokens=24,
    optimizer=OptimizerConfig(lr=1e-3, max_grad_norm=1e9),
)


@pytest.fixture(scope="module")
def turns(tiny_family):
    prompts = [
        make_prompt(tiny_family, "<video>What moves?", make_plan("video", frames=2)),
        make_prompt(tiny_family, "What?"),
        make_prompt(tiny_family, "<image>?", make_plan("image")),
    ]
    return [turn for n, prompt in enumerate(prompts) for turn in random_turns(prompt, [5, 2], seed=n)]


def open_policy(checkpoint, **options):
    policy = Policy.open(ModelConfig(path=str(checkpoint), device="cpu", **options))
    policy.begin(STAGE)
    return policy


def batch_of(policy, turns):
    lengths = [len(turn.response_ids) for turn in turns]
    values = [torch.linspace(0, 0.1, length) for length in lengths]
    returns = [torch.linspace(1, 2, length) for length in lengths]
    advantages = torch.linspace(-1, 1, len(turns))
    return UpdateBatch.of(turns, advantages, STAGE, values=values, returns=returns)


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def summed(parts):
    return {name: sum(part[name] for part in parts if name in part) for name in {n for part in parts for n in part}}


def test_shares_add_up_to_the_step(tiny_checkpoint, turns) -> None:
    policy = open_policy(tiny_checkpoint)
    batch = batch_of(policy, turns)
    plan = policy.plan_update(batch)
    assert len(plan) > 2, "no share is the whole"
    whole = policy.forward_backward(batch, load=load_frames)
    wanted = gradients(policy.model)
    found, parts = [], []
    for share in (plan[::2], plan[1::2], []):
        found.append(policy.forward_backward(batch, share, load=load_frames))
        parts.append(gradients(policy.model))
    assert parts[2] == {} and len(found[2].observations.turn) == 0 and found[2].sums == {}
    for name, grad in summed(parts).items():
        torch.testing.assert_close(grad, wanted[name], rtol=1e-5, atol=1e-6)
    metrics = update_metrics(summed([each.sums for each in found]))
    assert metrics == pytest.approx(update_metrics(whole.sums), abs=1e-6)
    seen = Observations.joined([each.observations for each in found])
    order, right = seen.turn.argsort(stable=True), whole.observations.turn.argsort(stable=True)
    assert torch.equal(seen.turn[order], whole.observations.turn[right])
    torch.testing.assert_close(seen.trainer[order], whole.observations.trainer[right], rtol=0, atol=1e-6)
    assert torch.equal(seen.trained[order], whole.observations.trained[right])


def test_the_critic_and_passes_without_gradient_are_shared_alike(tiny_checkpoint, turns) -> None:
    policy = open_policy(tiny_checkpoint)
    batch, plan = batch_of(policy, turns), policy.plan(turns)
    whole = policy.critic_forward_backward(batch, load=load_frames)
    wanted = gradients(policy.critic.model)
    sums, parts = [], []
    for share in (plan[:1], plan[1:], []):
        sums.append(policy.critic_forward_backward(batch, share, load=load_frames))
        parts.append(gradients(policy.critic.model))
    assert summed(sums) == pytest.approx(whole, abs=1e-6) and parts[2] == {}
    for name, grad in summed(parts).items():
        torch.testing.assert_close(grad, wanted[name], rtol=1e-5, atol=1e-6)
    everything = policy.logprobs(turns, temperature=1.0, load=load_frames)
    assert list(everything) == list(range(len(turns)))
    shares = [policy.logprobs(turns, share, temperature=1.0, load=load_frames) for share in (plan[:1], plan[1:], [])]
    assert not set(shares[0]) & set(shares[1]) and set(shares[0]) | set(shares[1]) == set(everything) and not shares[2]
    for number, values in {**shares[0], **shares[1]}.items():
        torch.testing.assert_close(values, everything[number], rtol=0, atol=1e-6)


def test_a_rank_without_micro_batches_steps(tiny_checkpoint, turns) -> None:
    policy = open_policy(tiny_checkpoint)
    batch = batch_of(policy, turns)
    before = {name: tensor.clone() for name, tensor in policy.weights()}
    assert policy.forward_backward(batch, [], load=load_frames).sums == {} and update_metrics({}) == {}
    assert policy.critic_forward_backward(batch, [], load=load_frames) == {}
    assert policy.critic_step(1)["critic/grad_norm"] == 0
    assert policy.optimizer_step(1)["grad_norm"] == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.weights())


def test_nothing_moves_before_the_optimiser_does(tiny_checkpoint, turns) -> None:
    policy = open_policy(tiny_checkpoint)
    before = {name: tensor.clone() for name, tensor in policy.weights()}
    policy.forward_backward(batch_of(policy, turns), load=load_frames)
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.weights())
    assert policy.optimizer_step(1)["grad_norm"] > 0
    assert not all(torch.equal(tensor, before[name]) for name, tensor in policy.weights())


@pytest.mark.parametrize("lora", [False, True], ids=["whole", "adapters"])
def test_copies_are_made_before_sharding_and_follow_in_place(tiny_checkpoint, turns, monkeypatch, lora) -> None:
    """A second stage's reference and critic start from the policy as it is, and nothing is copied for them."""
    if lora:
        pytest.importorskip("peft")
    options = {"lora": LoraConfig(rank=4)} if lora else {}
    policy = Policy.open(ModelConfig(path=str(tiny_checkpoint), device="cpu", **options))
    plain = StageConfig(name="sft", objective="sft", advantage="ones", optimizer=OptimizerConfig(lr=1e-2))
    policy.prepare([plain, STAGE])
    assert policy.copies.keys() == {"reference", "critic"}
    monkeypatch.setattr("easyvideor1.policy.policy.is_sharded", lambda model: True)
    policy.begin(plain)
    assert policy.reference is None and policy.critic is None
    policy.forward_backward(UpdateBatch.of(turns, torch.ones(len(turns)), plain), load=load_frames)
    policy.optimizer_step(1)
    policy.begin(STAGE)
    for model in (policy.reference, policy.critic.model.model):
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), policy.model.parameters(), strict=True))
    other = Policy.open(ModelConfig(path=str(tiny_checkpoint), device="cpu", **options))
    with pytest.raises(RuntimeError, match=r"stage rl needs a reference: call prepare\(\) before sharding"):
        other.begin(STAGE)
    assert spread.is_sharded(policy.model) is False


def test_copies_of_a_stage_are_released_behind_it(tiny_checkpoint) -> None:
    policy = open_policy(tiny_checkpoint)
    assert policy.copies.keys() == {"reference", "critic"}
    policy.begin(StageConfig(name="sft", objective="sft", advantage="ones"))
    assert policy.copies == {} and policy.reference is None
