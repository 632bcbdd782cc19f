"""What a policy is held against: references of every kind, KL over the vocabulary, an entropy bonus; adapters."""

import math

import pytest
import torch

import tiny
from easyvideor1.config import LoraConfig, ModelConfig, OptimizerConfig, StageConfig
from easyvideor1.families.checkpoint import weight_name
from easyvideor1.families.vision_tower import hidden_states
from easyvideor1.packing.logprobs import response_logprobs
from easyvideor1.packing.micro_batch import collate
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.policy.adapters import adapter_tensors
from easyvideor1.policy.policy import Policy
from easyvideor1.types import ConfigError
from tiny import load_frames, make_plan, make_prompt, random_turns

pytestmark = pytest.mark.model

ADVANTAGES = torch.tensor([1.0, -0.5, 2.0, -1.0, 0.3])


def stage(**options):
    return StageConfig(**{"name": "stage", "optimizer": OptimizerConfig(lr=1e-3, max_grad_norm=1e9), **options})


@pytest.fixture(scope="module")
def turns(tiny_family):
    video = make_prompt(tiny_family, "<video>What moves?", make_plan("video", frames=2))
    text = make_prompt(tiny_family, "What?")
    return [*random_turns(video, [5, 2, 4], seed=1), *random_turns(text, [3, 6], seed=2)]


def open_policy(checkpoint, **options):
    return Policy.open(ModelConfig(path=str(checkpoint), device="cpu", **options))


def adapted(checkpoint, **options):
    pytest.importorskip("peft")
    return open_policy(checkpoint, lora=LoraConfig(**{"rank": 4, **options}))


def update(policy, turns, **options):
    return tiny.update(policy, turns, ADVANTAGES, **options)


def thoughts(policy, turns, **options):
    return torch.cat(list(policy.logprobs(turns, temperature=1.0, load=load_frames, **options).values()))


@pytest.mark.parametrize("tokens", [10**6, 60, 1])
def test_logprobs_come_turn_by_turn_however_they_are_batched(tiny_checkpoint, turns, tokens):
    policy = open_policy(tiny_checkpoint)
    plan = policy.plan(turns, max_tokens=tokens)
    found = policy.logprobs(turns, plan, temperature=0.8, load=load_frames)
    for turn, values in zip(turns, found.values(), strict=True):
        batch = collate(pack_turns([turn], share_prefix=False), policy.family, load_frames)
        wanted, _ = response_logprobs(policy.family, policy.model, batch, temperature=0.8)
        torch.testing.assert_close(values, wanted.detach(), rtol=0, atol=1e-5)


def test_passes_without_gradients_have_micro_batches_of_their_own(tiny_checkpoint, turns):
    policy = open_policy(tiny_checkpoint)
    values = []
    for tokens in (None, 1, 10**6):
        policy.begin(stage(micro_batch_tokens=60, logprob_micro_batch_tokens=tokens))
        passes = policy.plan_scan(turns)
        wanted = 60 if tokens is None else tokens
        assert list(map(len, passes)) == list(map(len, policy.plan(turns, max_tokens=wanted)))
        assert list(map(len, policy.plan(turns))) == list(map(len, policy.plan(turns, max_tokens=60)))
        values.append(thoughts(policy, turns))
    assert len(policy.plan_scan(turns)) < len(policy.plan(turns))
    for found in values[1:]:
        torch.testing.assert_close(found, values[0], rtol=0, atol=1e-5)


def test_the_reference_is_asked_by_name(tiny_checkpoint, turns):
    policy = open_policy(tiny_checkpoint)
    with pytest.raises(RuntimeError, match="no reference"):
        thoughts(policy, turns, reference=True)
    policy.begin(stage(kl="k3"))
    before = thoughts(policy, turns)
    update(policy, turns)
    torch.testing.assert_close(thoughts(policy, turns, reference=True), before, rtol=0, atol=0)
    assert (thoughts(policy, turns) - before).abs().max() > 1e-3


def test_a_moving_reference_follows_and_is_resumed(tiny_checkpoint, turns, tmp_path):
    options = stage(kl={"estimator": "k3", "coef": 0.1, "reference": "ema", "reference_decay": 0.75})
    policy = open_policy(tiny_checkpoint)
    policy.begin(options)
    before = {name: tensor.clone() for name, tensor in policy.reference.named_parameters()}
    update(policy, turns)
    for name, tensor in policy.reference.named_parameters():
        torch.testing.assert_close(tensor, 0.75 * before[name] + 0.25 * dict(policy.weights())[name])
    policy.save(tmp_path)
    expected = [update(policy, turns, step=step) for step in (2, 3)]
    again = open_policy(tiny_checkpoint)
    again.begin(options)
    again.restore(tmp_path)
    assert [update(again, turns, step=step) for step in (2, 3)] == expected
    (tmp_path / "reference.safetensors").unlink()
    with pytest.raises(ConfigError, match="no moving reference"):
        again.restore(tmp_path)


@pytest.mark.parametrize("tokens", [10**6, 1])
def test_kl_over_the_vocabulary_is_the_sum(tiny_checkpoint, turns, tokens):
    policy = open_policy(tiny_checkpoint)
    policy.begin(stage(kl={"estimator": "full", "coef": 0.1}, micro_batch_tokens=tokens))
    assert update(policy, turns)["policy/kl"] == pytest.approx(0, abs=1e-6)
    batch = collate(pack_turns(turns, share_prefix=True), policy.family, load_frames)
    allowed = [v for v in range(300) if v not in policy.family.visual_token_ids]
    logs = []
    with torch.no_grad():
        for model in (policy.model.eval(), policy.reference):
            hidden = hidden_states(
                policy.family, model, batch.input_ids, batch.positions, batch.visibility(model), batch.visual
            )
            logits = model.lm_head(hidden[0, batch.predictor_columns])
            allowed = [v for v in range(logits.shape[-1]) if v not in policy.family.visual_token_ids]
            logs.append(logits[:, allowed].double().log_softmax(-1))
    wanted = (logs[0].exp() * (logs[0] - logs[1])).sum(-1).mean().item()
    assert wanted > 1e-4 and update(policy, turns, step=2)["policy/kl"] == pytest.approx(wanted, rel=1e-4)


def test_an_entropy_bonus_raises_entropy(tiny_checkpoint, turns):
    spread = {}
    for coefficient in (0.0, 5.0):
        policy = open_policy(tiny_checkpoint)
        policy.begin(stage(objective={"entropy_coef": coefficient}))
        spread[coefficient] = [update(policy, turns, step=step)["policy/entropy"] for step in range(1, 6)]
    assert spread[0.0][0] == pytest.approx(spread[5.0][0]) and spread[5.0][-1] > spread[0.0][-1] + 1e-3


def test_a_group_of_several_prompts_stays_in_one_micro_batch(tiny_checkpoint, turns):
    policy = open_policy(tiny_checkpoint)
    batches = policy.plan(turns, torch.tensor([0, 0, 0, 1, 1]), 1)
    assert [[unit.sequences for unit in batch] for batch in batches] == [[(0, 1, 2)], [(3, 4)]]
    batches = policy.plan(turns, torch.zeros(5, dtype=torch.int64), 1)
    assert [[unit.sequences for unit in batch] for batch in batches] == [[(0, 1, 2, 3, 4)]]


@pytest.mark.parametrize("tokens", [10**6, 1])
def test_weighters_get_the_groups_they_need(tiny_checkpoint, turns, tokens):
    policy = open_policy(tiny_checkpoint)
    policy.begin(stage(weighter={"name": "entropy_top", "share": 0.5}, micro_batch_tokens=tokens))
    metrics = update(policy, turns, group=torch.tensor([0, 0, 0, 1, 1]))
    assert math.isfinite(metrics["loss"]) and metrics["grad_norm"] > 0


def test_adapters_start_as_their_base_and_learn_alone(tiny_checkpoint, turns):
    policy = adapted(tiny_checkpoint)
    plain = open_policy(tiny_checkpoint)
    torch.testing.assert_close(thoughts(policy, turns), thoughts(plain, turns), rtol=0, atol=1e-6)
    trained = {name for name, p in policy.model.named_parameters() if p.requires_grad}
    assert trained == set(adapter_tensors(policy.model)) and len(trained) == 3 * 7 * 2  # layers, matrices, A and B
    assert all("language_model" in name for name in trained)
    policy.begin(stage(kl={"estimator": "k3", "reference": "adapter-off"}))
    assert policy.reference is None  # the base is in the model itself
    before = {name: tensor.clone() for name, tensor in policy.weights(merged=False)}
    metrics = [update(policy, turns, step=step) for step in (1, 2)]
    assert metrics[0]["policy/kl"] == pytest.approx(0, abs=1e-6) and metrics[1]["policy/kl"] > 0
    changed = {name for name, tensor in policy.weights(merged=False) if not torch.equal(tensor, before[name])}
    assert changed == {weight_name(name) for name in trained}
    base = thoughts(plain, turns)
    torch.testing.assert_close(thoughts(policy, turns, reference=True), base, rtol=0, atol=1e-5)
    assert (thoughts(policy, turns) - base).abs().max() > 1e-3


def test_a_checkpoint_of_adapters_is_a_model_and_goes_on_to_the_bit(tiny_checkpoint, turns, tmp_path):
    options = stage()
    policy = adapted(tiny_checkpoint, dropout=0.1, targets=("language", "merger"))
    policy.begin(options)
    for step in (1, 2):
        torch.manual_seed(step)
        update(policy, turns, step=step)
    policy.save(tmp_path)
    merged = open_policy(tmp_path)  # what the next stage, an engine or anyone else opens
    torch.testing.assert_close(thoughts(merged, turns), thoughts(policy, turns), rtol=0, atol=1e-5)
    again = adapted(tiny_checkpoint, dropout=0.1, targets=("language", "merger"))
    again.begin(options)
    again.restore(tmp_path)
    found = []
    for each in (policy, again):
        torch.manual_seed(3)
        found.append(update(each, turns, step=3))
    assert found[0] == found[1]
    kept = dict(again.weights(merged=False))
    assert all(torch.equal(tensor, kept[name]) for name, tensor in policy.weights(merged=False))


def test_adapters_split_a_step_without_changing_it(tiny_checkpoint, turns):
    found = []
    for tokens in (10**6, 1):
        policy = adapted(tiny_checkpoint, targets=("language", "vision", "merger"))
        policy.begin(stage(micro_batch_tokens=tokens))
        found.append([update(policy, turns, step=step) for step in (1, 2)])
    for one, two in zip(*found, strict=True):
        assert one == pytest.approx(two, rel=1e-3, abs=1e-5)


def test_what_needs_adapters_says_so(tiny_checkpoint, turns, tmp_path):
    policy = open_policy(tiny_checkpoint)
    with pytest.raises(ConfigError, match=r"reference: adapter-off needs adapters; set model\.lora"):
        policy.begin(stage(kl={"estimator": "k3", "reference": "adapter-off"}))
    policy.begin(stage())
    policy.save(tmp_path)
    with_adapters = adapted(tiny_checkpoint)
    with_adapters.begin(stage())
    with pytest.raises(ConfigError, match="has no adapters"):
        with_adapters.restore(tmp_path)
    with pytest.raises(ValueError, match="both freeze and lora"):
        ModelConfig(freeze=("language",), lora=LoraConfig())


def test_without_peft_it_is_told(tiny_checkpoint, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"pip install 'easyvideor1\[lora\]'"):
        open_policy(tiny_checkpoint, lora=LoraConfig())
