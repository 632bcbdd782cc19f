"""The learning core on a CUDA device: the same numbers as on the CPU, in every way it can be run."""

from contextlib import closing

import pytest
import torch
from safetensors.torch import load_file

from attention.test_attention import TREE, layout_of, plain, tensors, tree_attention, with_gradients
from easyvideor1.attention.flex import flex_tree_attention
from easyvideor1.attention.tree import CudaKernel
from easyvideor1.config import LoraConfig, ModelConfig, OptimizerConfig, StageConfig
from easyvideor1.engines.engine import Request, Sampling, generate
from easyvideor1.engines.local import LocalEngine
from easyvideor1.policy.policy import Policy
from easyvideor1.policy.update_batch import UpdateBatch
from tiny import load_frames, make_plan, make_prompt, random_turns, update

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

ROW, _ = layout_of([(300, ((60, ()), (45, ((30, ()), (7, ()))), (1, ()))), (90, ((64, ()), (64, ())))])
ADVANTAGES = torch.tensor([1.0, -0.5, 2.0, -1.0, 0.3, 0.7])


def close(attention, layout, dtype, near, width=64):
    inputs = [x.detach().cuda().requires_grad_() for x in tensors(layout.length, width=width, dtype=dtype)]
    out, grads = with_gradients(attention, inputs, layout, width**-0.5)
    exact = [x.detach().double().cpu().requires_grad_() for x in inputs]
    wanted, wanted_grads = with_gradients(plain, exact, layout, width**-0.5)
    assert (out.double().cpu() - wanted).abs().max() < near
    for grad, right in zip(grads, wanted_grads, strict=True):
        assert (grad.double().cpu() - right).norm() < near * right.norm()


@pytest.mark.parametrize("width", [32, 64, 72, 128])
@pytest.mark.parametrize("layout", [TREE, ROW], ids=["small", "row"])
def test_parts_by_fused_kernels(layout, width):
    assert CudaKernel.takes(torch.empty(1, dtype=torch.bfloat16).expand(1, 4, layout.length, width))
    close(tree_attention, layout, torch.bfloat16, 3e-2, width)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-3), (torch.bfloat16, 3e-2)])
def test_flex_attention(dtype, near):
    close(flex_tree_attention, ROW, dtype, near)


def test_float32_goes_through_flex_attention():
    close(tree_attention, ROW, torch.float32, 2e-3)


@pytest.fixture(scope="module")
def turns(tiny_family):
    video = make_prompt(tiny_family, "<video>What moves?", make_plan("video", frames=6))
    image = make_prompt(tiny_family, "<image>?", make_plan("image"))
    text = make_prompt(tiny_family, "What?")
    return [
        *random_turns(video, [5, 0, 12], seed=1),
        *random_turns(image, [3, 6], seed=2),
        *random_turns(text, [4], seed=3),
    ]


def policy_on(device, checkpoint, stage=None, **options):
    policy = Policy.open(ModelConfig(path=str(checkpoint), device=device, **options))
    policy.begin(stage or StageConfig(name="stage", optimizer=OptimizerConfig(lr=1e-3, max_grad_norm=1e9)))
    return policy


def step(policy, turns, number=1, **options):
    seen = {}
    hook = policy.optimizer.register_step_pre_hook(
        lambda *_: seen.update(
            {n: p.grad.clone().cpu() for n, p in policy.model.named_parameters() if p.grad is not None}
        )
    )
    group = torch.tensor([0, 0, 0, 1, 1, 2])
    metrics = update(policy, turns, ADVANTAGES, step=number, group=group, **options)
    hook.remove()
    return metrics, seen


def apart(found, wanted):
    norm = sum(float(grad.square().sum()) for grad in wanted.values()) ** 0.5
    return sum(float((found[name].float() - wanted[name]).square().sum()) for name in wanted) ** 0.5 / norm


@pytest.mark.parametrize(("dtype", "logprob", "gradient"), [("float32", 2e-3, 2e-3), ("bfloat16", 0.15, 0.1)])
@pytest.mark.parametrize("options", [{}, {"gradient_checkpointing": True}], ids=str)
def test_a_step_is_that_of_the_cpu(tiny_checkpoint, turns, dtype, logprob, gradient, options):
    check_step(tiny_checkpoint, turns, dtype, logprob, gradient, options)


def test_compiled_layers(tiny_checkpoint, turns):
    check_step(tiny_checkpoint, turns, "bfloat16", 0.15, 0.1, {"compile": True, "gradient_checkpointing": True})


def check_step(tiny_checkpoint, turns, dtype, logprob, gradient, options, stage=None):
    wanted_policy = policy_on("cpu", tiny_checkpoint, stage)
    policy = policy_on("cuda", tiny_checkpoint, stage, dtype=dtype, **options)
    pairs = [each.logprobs(turns, temperature=1.0, load=load_frames).values() for each in (policy, wanted_policy)]
    for found, right in zip(*pairs, strict=True):
        assert found.shape == right.shape
        assert len(right) == 0 or (found - right).abs().max() < logprob
    (_, grads), (_, wanted) = step(policy, turns), step(wanted_policy, turns)
    assert grads.keys() == wanted.keys()
    assert apart(grads, wanted) < gradient


def test_packed_rows_are_separate_sequences(tiny_checkpoint, turns):
    """In bfloat16 as near as two orders of the same sums are."""
    policy = policy_on("cuda", tiny_checkpoint, dtype="bfloat16")
    together = policy.logprobs(turns, temperature=1.0, load=load_frames).values()
    for turn, found in zip(turns, together, strict=True):
        (alone,) = policy.logprobs([turn], temperature=1.0, load=load_frames).values()
        assert len(alone) == 0 or (found - alone).abs().max() < 0.15


STAGES = [
    {"kl": {"estimator": "k3", "coef": 0.5}},
    {"kl": {"estimator": "full", "coef": 0.5}},
    {"weighter": "tw_grpo"},
    {"objective": {"entropy_coef": 0.1}},
]


@pytest.mark.parametrize("options", STAGES, ids=str)
def test_what_stages_add_is_that_of_the_cpu(tiny_checkpoint, turns, options):
    optimizer = OptimizerConfig(lr=1e-3, max_grad_norm=1e9)
    stage = StageConfig(name="stage", optimizer=optimizer, **options)
    check_step(tiny_checkpoint, turns, "bfloat16", 0.15, 0.1, {}, stage)


def test_a_critic_learns(tiny_checkpoint, turns):
    stage = StageConfig(name="stage", optimizer=OptimizerConfig(lr=1e-3), advantage="gae", critic={"lr": 3e-3})
    policy = policy_on("cuda", tiny_checkpoint, stage, dtype="bfloat16")
    before = list(policy.values(turns, load=load_frames).values())
    wanted = [values + 1 for values in before]
    batch = UpdateBatch.of(turns, ADVANTAGES, stage, values=before, returns=wanted)
    for step_ in range(1, 9):
        policy.critic_forward_backward(batch, load=load_frames)
        policy.critic_step(step_)
    after = list(policy.values(turns, load=load_frames).values())
    gaps = [torch.cat([a - b for a, b in zip(each, wanted, strict=True)]).abs().mean() for each in (before, after)]
    assert gaps[1] < 0.8 * gaps[0]


def test_adapters_over_a_base_in_bfloat16(tiny_checkpoint, turns):
    pytest.importorskip("peft")
    stage = StageConfig(
        name="stage", optimizer=OptimizerConfig(lr=1e-3), kl={"estimator": "k3", "reference": "adapter-off"}
    )
    policy = policy_on("cuda", tiny_checkpoint, stage, dtype="bfloat16", lora=LoraConfig(rank=4, targets=("language",)))
    metrics, grads = step(policy, turns)
    assert metrics["grad_norm"] > 0 and all(".lora_" in name for name in grads)


def test_a_snapshot_with_adapters_is_what_a_save_writes(tiny_checkpoint, turns, tmp_path):
    pytest.importorskip("peft")
    policy = policy_on("cuda", tiny_checkpoint, lora=LoraConfig(rank=4, targets=("language",)))
    step(policy, turns)
    for name in ("saved", "held"):
        (tmp_path / name).mkdir()
    policy.save(tmp_path / "saved")
    with closing(policy.snapshot()) as snapshot:
        snapshot.write(tmp_path / "held")
    saved, held = (load_file(tmp_path / name / "model.safetensors") for name in ("saved", "held"))
    assert saved.keys() == held.keys()
    for name, tensor in saved.items():  # merged on the device, and on the host
        torch.testing.assert_close(held[name], tensor, rtol=0, atol=1e-5)


def test_a_resumed_step_is_the_same(tiny_checkpoint, turns, tmp_path):
    policy = policy_on("cuda", tiny_checkpoint, dtype="bfloat16")
    step(policy, turns)
    (tmp_path / "checkpoint").mkdir()
    policy.save(tmp_path / "checkpoint")
    resumed = policy_on("cuda", tiny_checkpoint, dtype="bfloat16")
    resumed.restore(tmp_path / "checkpoint")
    for each in (policy, resumed):
        step(each, turns, 2)
    weights = dict(resumed.weights())
    for name, tensor in policy.weights():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_local_engine_says_what_the_trainer_says(tiny_checkpoint, dtype):
    policy = policy_on("cuda", tiny_checkpoint, dtype=dtype)
    engine = LocalEngine(policy.family, policy.model, load_frames)
    prompts = [
        make_prompt(policy.family, "<video>What moves?", make_plan("video", frames=6)),
        make_prompt(policy.family, "What?"),
    ]
    requests = [Request(str(i), prompt, 3, Sampling(max_new_tokens=12), i) for i, prompt in enumerate(prompts)]
    turns = [trajectory.turns[0] for group in generate(engine, requests) for trajectory in group]
    near = 2e-3 if dtype == "float32" else 0.2
    for turn, found in zip(turns, policy.logprobs(turns, temperature=1.0, load=load_frames).values(), strict=True):
        assert (found - torch.from_numpy(turn.logprobs)).abs().max() < near


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_steps_recorded_as_graphs_draw_the_same(tiny_family, tiny_model, dtype):
    model = tiny_model.cuda()
    model.compute_dtype = getattr(torch, dtype)
    prompts = [make_prompt(tiny_family, "What?"), make_prompt(tiny_family, "<video>What moves?", make_plan("video"))]
    requests = [Request("r", prompt, 4, Sampling(max_new_tokens=150), seed) for seed, prompt in enumerate(prompts)]
    found = {}
    for graphs in (True, False):
        engine = LocalEngine(tiny_family, model, load_frames)
        engine.cuda_graphs = graphs
        found[graphs] = [trajectory.last for group in generate(engine, requests) for trajectory in group]
    for one, other in zip(found[True], found[False], strict=True):
        same = int((one.response_ids[: len(other.response_ids)] == other.response_ids[: len(one.response_ids)]).sum())
        assert same == len(one.response_ids) == len(other.response_ids)
        assert abs(one.logprobs - other.logprobs).max() < (1e-4 if dtype == "float32" else 5e-2)


def test_offload_changes_nothing_but_where_things_are(tiny_checkpoint, turns):
    options = {"dtype": "bfloat16", "gradient_checkpointing": True}
    plain = policy_on("cuda", tiny_checkpoint, **options)
    policy = policy_on("cuda", tiny_checkpoint, offload=("activations", "optimizer"), **options)
    for number in (1, 2, 3):
        wanted, grads = step(plain, turns, number)
        metrics, found = step(policy, turns, number)
        assert metrics == pytest.approx(wanted, rel=1e-2, abs=1e-4)
        assert found.keys() == grads.keys()
        apart = sum(float((found[name] - grads[name]).square().sum()) for name in grads) ** 0.5
        assert apart < 1e-2 * sum(float(grad.square().sum()) for grad in grads.values()) ** 0.5
    moments = [state[name] for state in policy.optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert moments and all(moment.is_pinned() for moment in moments)
