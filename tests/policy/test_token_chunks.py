"""MLPs and norms that run on parts of a row compute what they compute on the whole of it."""

import copy

import pytest
import torch
from benchmarks.family_cases import CASES, load_noise, render_case

from easyvideor1.config import LoraConfig, ModelConfig, StageConfig
from easyvideor1.families.family import load_family
from easyvideor1.families.tiny import TINY_FAMILIES
from easyvideor1.policy.policy import Policy
from easyvideor1.policy.token_chunks import chunk_tokenwise, tokenwise_modules
from easyvideor1.policy.update_batch import UpdateBatch
from tiny import random_turns

pytestmark = pytest.mark.model

STAGE = StageConfig(name="grpo", group_size=3)


def gradients(checkpoint, **options):
    """Log-probs and gradients of an update with one video."""
    policy = Policy.open(ModelConfig(path=str(checkpoint), device="cpu", **options))
    policy.begin(STAGE)
    prompt = render_case(policy.family, CASES["video"])
    turns = random_turns(prompt, [5, 2, 4], seed=1)
    batch = UpdateBatch.of(turns, torch.tensor([1.0, -0.5, 2.0]), STAGE)
    found = policy.forward_backward(batch, load=load_noise)
    grads = {name: p.grad for name, p in policy.model.named_parameters() if p.grad is not None}
    return found.observations.trainer, grads


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_chunks_change_no_gradient(family, family_checkpoints, checkpointing):
    checkpoint = family_checkpoints[family]
    options = {"gradient_checkpointing": checkpointing}
    logprobs, grads = gradients(checkpoint, **options)
    ours, found = gradients(checkpoint, mlp_chunk=7, **options)
    assert torch.allclose(ours, logprobs, atol=1e-5)
    assert found.keys() == grads.keys()
    for name, grad in grads.items():
        assert float((found[name] - grad).norm()) <= 1e-4 * float(grad.norm()) + 1e-7, name


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"lora": LoraConfig(rank=4, targets=("language",))}])
def test_chunks_change_no_gradient_in_bfloat16_or_of_adapters(tiny_checkpoint, options):
    logprobs, grads = gradients(tiny_checkpoint, **options)
    ours, found = gradients(tiny_checkpoint, mlp_chunk=7, **options)
    close = 0.02 if "dtype" in options else 1e-5
    assert torch.allclose(ours, logprobs, atol=close)
    assert found.keys() == grads.keys() and grads
    distance = sum(float((found[name] - grad).square().sum()) for name, grad in grads.items())
    norm = sum(float(grad.square().sum()) for grad in grads.values())
    assert distance**0.5 < close * norm**0.5


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_every_layer_has_an_mlp_in_chunks(family, family_checkpoints):
    adapter = load_family(family_checkpoints[family])
    model = adapter.load_model(
        family_checkpoints[family], dtype=torch.float32, attention="sdpa", trust_remote_code=False, meta=True
    )
    layers = model.model.language_model.layers
    found = set(tokenwise_modules(adapter, model))
    assert all({layer.mlp, layer.input_layernorm, layer.post_attention_layernorm} <= found for layer in layers)
    assert model.model.language_model.norm in found
    assert found.isdisjoint(model.model.visual.modules())


def test_no_more_tokens_than_asked_meet_an_mlp(tiny_checkpoint):
    policy = Policy.open(ModelConfig(path=str(tiny_checkpoint), device="cpu", mlp_chunk=16))
    mlp = policy.model.model.language_model.layers[0].mlp
    seen = []
    mlp.down_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    hidden = torch.randn(2, 25, policy.model.config.get_text_config().hidden_size)
    out = mlp(hidden)
    assert seen == [16, 16, 16, 2]
    whole = type(mlp).forward(mlp, hidden)
    assert out.shape == hidden.shape and torch.allclose(out, whole, atol=1e-6)


def test_a_copy_computes_with_its_own_weights(tiny_family, tiny_model):
    """References and critics are copies."""
    model = copy.deepcopy(tiny_model)
    chunk_tokenwise(tiny_family, model, 4)
    copied = copy.deepcopy(model)
    mine, other = (each.model.language_model.layers[0].mlp for each in (model, copied))
    hidden = torch.randn(1, 9, model.config.get_text_config().hidden_size)
    before = mine(hidden)
    with torch.no_grad():
        other.down_proj.weight.zero_()
    assert torch.equal(mine(hidden), before) and not other(hidden).any()


def test_adapters_with_dropout_are_refused():
    with pytest.raises(ValueError, match=r"set lora\.dropout=0, or mlp_chunk=0"):
        ModelConfig(path="x", mlp_chunk=64, lora=LoraConfig(dropout=0.1))
