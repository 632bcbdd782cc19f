"""Every family trains and generates on text, images and videos in one step."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from benchmarks.family_cases import CASES, load_noise, render_case
from benchmarks.float64 import in_float64

from easyvideor1.config import ModelConfig, OptimizerConfig, StageConfig
from easyvideor1.engines.engine import Request, Sampling, generate
from easyvideor1.engines.local import LocalEngine
from easyvideor1.families.family import load_family
from easyvideor1.families.tiny import TINY_FAMILIES
from easyvideor1.packing.logprobs import response_logprobs
from easyvideor1.packing.micro_batch import collate
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.policy.policy import Policy
from tiny import make_turn, random_turns, update

pytestmark = pytest.mark.model

FAMILIES = [*TINY_FAMILIES, "glm4v"]
SHARING = [name for name in FAMILIES if not name.startswith("qwen3_5")]  # whose attention is all of softmax
MIXED = ("text", "image", "video", "interleaved")


@pytest.fixture(scope="module")
def checkpoints(family_checkpoints, glm_checkpoint):
    return {**family_checkpoints, "glm4v": glm_checkpoint}


@pytest.fixture
def open_policy(checkpoints):
    def opened(name, **options):
        family = "tests.families.glm4v:Glm4V" if name == "glm4v" else ""
        return Policy.open(ModelConfig(path=str(checkpoints[name]), family=family, device="cpu", **options))

    return opened


def groups_of(family):
    """Three responses to each of the mixed prompts."""
    turns = []
    for seed, case in enumerate(MIXED):
        turns += random_turns(render_case(family, CASES[case]), [5, 1, 7], seed)
    return turns


def logprobs_of(policy, turns, **options):
    batch = collate(pack_turns(turns, **options), policy.family, load_noise)
    return batch, response_logprobs(policy.family, policy.model, batch)[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_mixed_batch_is_its_single_sequences(open_policy, name):
    """Log-probs and gradients, whatever rows the family packs them in."""
    policy = open_policy(name)
    turns = groups_of(policy.family)
    weights = torch.linspace(-1, 1, sum(len(turn.response_ids) for turn in turns))
    calls = []
    hook = policy.model.model.visual.register_forward_hook(lambda *_: calls.append(1))
    batch, together = logprobs_of(policy, turns, share_prefix=policy.family.shares_prefix)
    hook.remove()
    assert len(calls) == 1
    assert batch.input_ids.shape[0] == (1 if policy.family.shares_prefix else len(turns))
    (together * weights).sum().backward()
    found = {key: p.grad.clone() for key, p in policy.model.named_parameters() if p.grad is not None}
    policy.model.zero_grad()
    alone = []
    for turn, share in zip(turns, torch.split(weights, [len(t.response_ids) for t in turns]), strict=True):
        _, single = logprobs_of(policy, [turn], share_prefix=False)
        (single * share).sum().backward()
        alone.append(single.detach())
    # Row order differs from turn order where rows are sorted; sequence numbers say which is which.
    order = torch.argsort(batch.sequence, stable=True)
    tolerance = 1e-5 if policy.family.shares_prefix else 5e-5
    torch.testing.assert_close(together.detach()[order], torch.cat(alone), rtol=0, atol=tolerance)
    for key, parameter in policy.model.named_parameters():
        if parameter.grad is not None:
            norm = parameter.grad.norm()
            assert float((found[key] - parameter.grad).norm()) <= 1e-3 * float(norm) + 1e-6, key


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_shared_row_is_exact(open_policy, name, dtype):
    """Groups of mixed media, ragged, with a group of one and an empty response, against separate sequences."""
    policy = open_policy(name)
    assert policy.family.shares_prefix
    counts = {"text": [4], "image": [5, 1], "video": [7, 0, 12], "interleaved": [3, 3]}
    turns = []
    for seed, (case, lengths) in enumerate(counts.items()):
        turns += random_turns(render_case(policy.family, CASES[case]), lengths, seed)
    weights = torch.linspace(-1, 1, sum(map(sum, counts.values())), dtype=dtype)
    found = []
    with in_float64(policy.model) if dtype == torch.float64 else nullcontext():
        for share in (True, False):
            policy.model.zero_grad()
            batch, values = logprobs_of(policy, turns, share_prefix=share)
            values = values[torch.argsort(batch.sequence, stable=True)]
            (values * weights).sum().backward()
            grads = {key: p.grad.clone() for key, p in policy.model.named_parameters() if p.grad is not None}
            found.append((values.detach(), grads))
    (ours, grads), (theirs, wanted) = found
    near = {torch.float32: (1e-5, 1e-4), torch.float64: (1e-9, 1e-9)}[dtype]
    assert ours.dtype == dtype and (ours - theirs).abs().max() < near[0]
    norm = sum(float(grad.square().sum()) for grad in wanted.values()) ** 0.5
    assert grads.keys() == wanted.keys()
    assert sum(float((grads[key] - wanted[key]).square().sum()) for key in wanted) ** 0.5 < near[1] * norm


@pytest.mark.parametrize("name", FAMILIES)
def test_steps_on_everything_teach_the_tokens(open_policy, name):
    policy = open_policy(name, gradient_checkpointing=True)
    turns = groups_of(policy.family)
    stage = StageConfig(
        name="sft",
        objective="sft",
        advantage="ones",
        steps=6,
        micro_batch_tokens=400,
        optimizer=OptimizerConfig(lr=3e-3, warmup_steps=0),
    )
    policy.begin(stage)
    losses = [update(policy, turns, torch.ones(len(turns)), step=step, load=load_noise)["loss"] for step in range(1, 7)]
    assert all(np.isfinite(losses)) and losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_saved_is_what_was_trained(open_policy, name, tmp_path):
    """transformers may write weights under other names than those it has in memory."""
    policy, other = open_policy(name), open_policy(name)
    turns = groups_of(policy.family)
    stage = StageConfig(
        name="sft", objective="sft", advantage="ones", steps=2, optimizer=OptimizerConfig(lr=1e-2, warmup_steps=0)
    )
    policy.begin(stage)
    update(policy, turns, torch.ones(len(turns)), load=load_noise)
    policy.save(tmp_path)
    other.begin(stage)
    other.restore(tmp_path)
    before = dict(policy.model.named_parameters())
    for key, parameter in other.model.named_parameters():
        assert torch.equal(parameter, before[key]), key
        for kind, value in policy.optimizer.state[before[key]].items():
            assert torch.equal(other.optimizer.state[parameter][kind], value), (key, kind)
    reopened = load_family(tmp_path, name=policy.config.family)
    prompts = [render_case(family, CASES["interleaved"]) for family in (policy.family, reopened)]
    assert prompts[0].token_ids.tolist() == prompts[1].token_ids.tolist()
    assert reopened.normalisation == policy.family.normalisation


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("group", ["vision", "merger", "language"])
def test_what_is_frozen_gets_no_gradient_and_the_rest_does(open_policy, name, group):
    policy = open_policy(name, freeze=(group,))
    _, values = logprobs_of(policy, groups_of(policy.family), share_prefix=policy.family.shares_prefix)
    values.sum().backward()
    reached = {
        key: any(p.grad is not None and bool(p.grad.abs().sum() > 0) for module in modules for p in module.parameters())
        for key, modules in policy.family.groups(policy.model).items()
    }
    assert reached == {key: key != group for key in reached}


@pytest.mark.parametrize("name", FAMILIES)
def test_generated_logprobs_are_the_trainers(open_policy, name):
    """Prompts of all lengths in one batch, several responses of each, sampled."""
    policy = open_policy(name)
    prompts = [render_case(policy.family, CASES[case]) for case in MIXED]
    sampling = Sampling(max_new_tokens=6)
    requests = [Request(case, prompts[i], 3, sampling, 5 + i) for i, case in enumerate(MIXED)]
    engine = LocalEngine(policy.family, policy.model, load_noise)
    groups = generate(engine, requests)
    turns = [trajectory.turns[0] for group in groups for trajectory in group]
    assert all(turn.prompt is prompts[i // 3] for i, turn in enumerate(turns))
    assert len({tuple(turn.response_ids.tolist()) for turn in turns}) > 6
    batch, values = logprobs_of(policy, turns, share_prefix=policy.family.shares_prefix)
    torch.testing.assert_close(batch.engine_logprobs, values.detach(), rtol=0, atol=5e-5)
    alone = [generate(engine, [request])[0] for request in requests]
    for group, single in zip(groups, alone, strict=True):
        for one, other in zip(group, single, strict=True):
            assert one.turns[0].response_ids.tolist() == other.turns[0].response_ids.tolist()


@pytest.mark.parametrize("name", ["qwen3_5", "qwen3_vl"])
def test_rows_that_hold_one_video_share_its_features(open_policy, name):
    """Where layers cannot branch, the language model reads a video once per response, but the tower sees it once."""
    policy = open_policy(name)
    clip = render_case(policy.family, CASES["video"])
    both = render_case(policy.family, CASES["interleaved"])  # the same video, images and another video
    rng = np.random.default_rng(5)
    turns = [make_turn(prompt, rng.integers(7, 250, count)) for prompt, count in ((clip, 4), (both, 2), (clip, 6))]
    batch = collate(pack_turns(turns, share_prefix=False), policy.family, load_noise)
    plans = {plan.digest: plan for turn in turns for plan in turn.prompt.plans}
    assert len(batch.visual.pixel_patches) == sum(np.prod(plan.grid) for plan in plans.values())
    together, _ = response_logprobs(policy.family, policy.model, batch)
    together.sum().backward()
    grads = {n: p.grad.clone() for n, p in policy.model.model.visual.named_parameters() if p.grad is not None}
    policy.model.zero_grad()
    for number, turn in enumerate(turns):
        single = collate(pack_turns([turn], share_prefix=False), policy.family, load_noise)
        alone, _ = response_logprobs(policy.family, policy.model, single)
        alone.sum().backward()
        torch.testing.assert_close(together[batch.sequence == number], alone, rtol=0, atol=1e-5)
    assert len(grads) > 10
    for n, p in policy.model.model.visual.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(grads[n], p.grad, rtol=1e-3, atol=1e-4)
