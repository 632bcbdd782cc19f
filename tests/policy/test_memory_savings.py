"""What keeps models small changes nothing that they compute."""

import shutil
from contextlib import contextmanager

import pytest
import torch

from easyvideor1.config import LoraConfig, ModelConfig, OptimizerConfig, StageConfig
from easyvideor1.config.stage_sections import KLConfig
from easyvideor1.families.family import VisualFeatures, VisualInputs
from easyvideor1.packing.logprobs import response_logprobs
from easyvideor1.packing.micro_batch import collate
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.policy.adapters import merged_state
from easyvideor1.policy.policy import Policy
from tiny import load_frames, make_plan, make_prompt, random_turns, update

pytestmark = pytest.mark.model

ADVANTAGES = torch.tensor([1.0, -0.5, 2.0, -1.0])
STAGE = StageConfig(
    name="stage", optimizer=OptimizerConfig(lr=1e-3, max_grad_norm=1e9), kl={"estimator": "k3", "coef": 0.1}
)


@pytest.fixture(scope="module")
def turns(tiny_family):
    video = make_prompt(tiny_family, "<video>What moves?", make_plan("video", frames=4))
    image = make_prompt(tiny_family, "<image>?", make_plan("image"))
    return [*random_turns(video, [5, 2], seed=1), *random_turns(image, [3, 6], seed=2)]


@pytest.fixture(scope="module")
def released(tiny_checkpoint, tmp_path_factory):
    """A checkpoint whose weights bfloat16 holds exactly, as released ones are."""
    from safetensors.torch import load_file, save_file

    out = tmp_path_factory.mktemp("released") / "checkpoint"
    shutil.copytree(tiny_checkpoint, out)
    rounded = {name: tensor.bfloat16().float() for name, tensor in load_file(out / "model.safetensors").items()}
    save_file(rounded, out / "model.safetensors", metadata={"format": "pt"})
    return out


def open_policy(checkpoint, **options):
    policy = Policy.open(ModelConfig(path=str(checkpoint), device="cpu", **options))
    policy.begin(STAGE)
    return policy


def steps(policy, turns, count=2):
    return [update(policy, turns, ADVANTAGES, step=n + 1) for n in range(count)]


FROZEN = {"freeze": ("vision", "merger")}
ADAPTED = {"lora": LoraConfig(rank=4, targets=("language",))}


@pytest.mark.parametrize("options", [FROZEN, ADAPTED], ids=["frozen tower", "adapters"])
def test_frozen_weights_in_bfloat16_compute_the_same_to_the_bit(released, turns, options):
    policy = open_policy(released, dtype="bfloat16", **options)
    frozen = [p for p in policy.model.parameters() if not p.requires_grad]
    halves = [p for p in frozen if p.dtype == torch.bfloat16]
    assert sum(p.numel() for p in halves) > 0.7 * sum(p.numel() for p in frozen)
    found = steps(policy, turns)
    whole = Policy.open(ModelConfig(path=str(released), device="cpu", dtype="bfloat16", **options))
    for parameter in whole.model.parameters():
        parameter.data = parameter.data.float()
    whole.begin(STAGE)
    assert steps(whole, turns) == found


def test_weights_that_bfloat16_cannot_hold_stay_as_they_were_read(tiny_checkpoint):
    policy = open_policy(tiny_checkpoint, dtype="bfloat16", **FROZEN)
    assert all(p.dtype == torch.float32 for p in policy.model.parameters())


def test_adapters_are_merged_in_float32(released, turns):
    policy = open_policy(released, dtype="bfloat16", **ADAPTED)
    steps(policy, turns)
    merged = {name: tensor.load() for name, tensor in merged_state(policy.model).items()}
    plain = Policy.open(ModelConfig(path=str(released), device="cpu")).model.state_dict()
    assert set(plain) - set(merged) <= {"lm_head.weight"}  # tied to the embeddings
    changed = [name for name in merged if not torch.equal(merged[name].float(), plain[name])]
    assert changed and all(merged[name].dtype == torch.float32 for name in changed)
    assert all("language_model" in name for name in changed)


@pytest.mark.parametrize("stage", [STAGE, StageConfig(name="ppo", advantage="gae")], ids=["reference", "critic"])
def test_copies_share_what_nobody_trains(tiny_checkpoint, stage):
    policy = Policy.open(ModelConfig(path=str(tiny_checkpoint), device="cpu", **FROZEN))
    policy.begin(stage)
    copied = policy.reference if policy.critic is None else policy.critic.model.model
    for (name, mine), other in zip(policy.model.named_parameters(), copied.parameters(), strict=True):
        assert (other is mine) == (not mine.requires_grad), name


@pytest.mark.parametrize("tied", [True, False])
def test_a_critic_trains_no_output_matrix(tiny_checkpoint, tied):
    """It has no use for one; but what is tied to it, embeddings, it learns."""
    policy = Policy.open(ModelConfig(path=str(tiny_checkpoint), device="cpu"))
    if not tied:
        policy.model.lm_head.weight = torch.nn.Parameter(policy.model.lm_head.weight.detach().clone())
    policy.begin(StageConfig(name="ppo", advantage="gae"))
    critic = policy.critic.model.model
    assert critic.get_input_embeddings().weight.requires_grad
    assert critic.lm_head.weight.requires_grad == tied and policy.model.lm_head.weight.requires_grad


def test_a_moving_reference_is_written_without_what_stays(tiny_checkpoint, turns, tmp_path):
    from safetensors.torch import load_file

    moving = KLConfig(estimator="k3", coef=0.1, reference="ema", reference_decay=0.5)
    options = STAGE.model_copy(update={"kl": moving})
    policy, again = (Policy.open(ModelConfig(path=str(tiny_checkpoint), device="cpu", **FROZEN)) for _ in range(2))
    for each in (policy, again):
        each.begin(options)
    steps(policy, turns)
    policy.save(tmp_path)
    trained = {name for name, p in policy.model.named_parameters() if p.requires_grad}
    assert load_file(tmp_path / "reference.safetensors").keys() == trained
    again.restore(tmp_path)
    assert steps(again, turns) == steps(policy, turns)


def test_a_frozen_tower_runs_once_for_policy_and_reference(tiny_checkpoint, turns):
    for options, expected in ((FROZEN, 1), ({}, 2)):
        policy = open_policy(tiny_checkpoint, **options)
        calls = []
        for model in (policy.model, policy.reference):
            model.model.visual.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        steps(policy, turns, 1)
        assert len(calls) == expected


def test_features_of_a_frozen_tower_change_nothing(tiny_checkpoint, turns):
    """Log-probs and gradients are those of a pass that is given the pixels."""
    policy = open_policy(tiny_checkpoint, **FROZEN)
    ((order, batch),) = policy.batches(policy.plan(turns, max_tokens=10**6), load_frames)
    pixels = collate(pack_turns(turns, share_prefix=True), policy.family, load_frames)
    assert order == [0, 1, 2, 3]
    assert isinstance(batch.visual, VisualFeatures) and isinstance(pixels.visual, VisualInputs)
    found = []
    for each in (batch, pixels):
        policy.model.zero_grad()
        values, _ = response_logprobs(policy.family, policy.model, each)
        values.sum().backward()
        found.append((values.detach(), [p.grad for p in policy.model.parameters() if p.grad is not None]))
    (ours, grads), (plain, wanted) = found
    assert torch.equal(ours, plain) and len(grads) == len(wanted) > 10
    assert all(torch.equal(grad, right) for grad, right in zip(grads, wanted, strict=True))


OFFLOADED = {"gradient_checkpointing": True, "offload": ("activations", "optimizer")}


@pytest.mark.parametrize("options", [{}, {"dtype": "bfloat16", **ADAPTED}], ids=["float32", "bfloat16 and adapters"])
def test_offload_changes_nothing(tiny_checkpoint, turns, tmp_path, monkeypatch, options):
    """Metrics and weights are equal to the bit, before and after a checkpoint that was written without it."""
    monkeypatch.setattr("easyvideor1.policy.optimizer.BUCKET_BYTES", 20_000)
    plain = open_policy(tiny_checkpoint, gradient_checkpointing=True, **options)
    policy = open_policy(tiny_checkpoint, **OFFLOADED, **options)
    assert steps(policy, turns) == steps(plain, turns)
    plain.save(tmp_path)
    policy.restore(tmp_path)
    assert steps(policy, turns) == steps(plain, turns)
    for (name, mine), other in zip(policy.model.named_parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(mine, other), name


def test_the_path_of_long_videos_is_that_of_short_ones(tiny_checkpoint, turns):
    """Frames in chunks, layers checkpointed, their inputs and the moments on the host, against none of these."""
    plain, policy = open_policy(tiny_checkpoint), open_policy(tiny_checkpoint, vision_chunk=4, **OFFLOADED)
    for mine, theirs in zip(steps(policy, turns), steps(plain, turns), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-6)


def test_inputs_of_every_layer_go_to_the_host_once(tiny_checkpoint, turns):
    policy = open_policy(tiny_checkpoint, **OFFLOADED)
    times = []

    @contextmanager
    def counting():
        times.append(1)
        yield

    policy.model.host_activations.host = counting
    steps(policy, turns, 1)
    layers = len(policy.model.model.visual.blocks) + len(policy.model.model.language_model.layers)
    assert len(times) == layers * len(policy.plan(turns))


def test_moments_are_on_the_device_one_bucket_at_a_time(tiny_checkpoint, turns, monkeypatch):
    moved = []
    monkeypatch.setattr("easyvideor1.policy.optimizer.BUCKET_BYTES", 100_000)
    policy = open_policy(tiny_checkpoint, **OFFLOADED)
    before = policy.optimizer._move

    def move(bucket, *, to_host):
        moved.append((to_host, sum(2 * 4 * parameter.numel() for parameter in bucket), len(bucket)))
        before(bucket, to_host=to_host)

    policy.optimizer._move = move
    steps(policy, turns, 1)
    assert [there for there, _, _ in moved] == [False, True] * (len(moved) // 2)
    assert all(size <= 100_000 or count == 1 for _, size, count in moved) and len(moved) > 4


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_layers_compute_the_same(tiny_checkpoint, turns, checkpointing):
    plain = steps(open_policy(tiny_checkpoint), turns)
    compiled = open_policy(tiny_checkpoint, compile=True, gradient_checkpointing=checkpointing)
    for found, wanted in zip(steps(compiled, turns), plain, strict=True):
        assert found == pytest.approx(wanted, abs=1e-4)
    assert compiled.reference.model.language_model.layers[0]._compiled_call_impl is not None
