"""One optimiser step: what it changes, what it leaves alone, and that it can be interrupted."""

import math

import pytest
import torch

import tiny
from easyvideor1.config import ModelConfig, OptimizerConfig, StageConfig
from easyvideor1.families.family import chosen_device
from easyvideor1.packing.logprobs import response_logprobs
from easyvideor1.packing.micro_batch import collate
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.policy.policy import DivergedError, Policy, learning_rate
from easyvideor1.types import ConfigError, EasyVideoError
from tiny import load_frames, make_plan, make_prompt, make_turn, random_turns

pytestmark = pytest.mark.model

OPTIMIZER = OptimizerConfig(lr=1e-3, max_grad_norm=1e9)
ADVANTAGES = torch.tensor([1.0, -0.5, 2.0, -1.0, 0.3])


def stage(**options):
    return StageConfig(**{"name": "stage", "optimizer": OPTIMIZER, **options})


@pytest.fixture
def policy(tiny_family, tiny_model, tiny_checkpoint):
    return Policy(tiny_family, tiny_model, tiny_checkpoint, ModelConfig(path=str(tiny_checkpoint)))


@pytest.fixture(scope="module")
def turns(tiny_family):
    video = make_prompt(tiny_family, "<video>What moves?", make_plan("video", frames=2))
    image = make_prompt(tiny_family, "<image>?", make_plan("image"))
    text = make_prompt(tiny_family, "What?")
    return [
        *random_turns(video, [5, 2], seed=1),
        *random_turns(image, [3, 6], seed=2),
        *random_turns(text, [4], seed=3),
    ]


def update(policy, turns, *, objective="reinforce", advantages=ADVANTAGES, **options):
    return tiny.update(policy, turns, advantages, objective=objective, **options)


def watch_gradients(policy):
    """A dict that holds the gradients of the last step, which the policy itself lets go of."""
    seen = {}

    def look(*_):
        seen.update({name: p.grad.clone() for name, p in policy.model.named_parameters()})

    policy.optimizer.register_step_pre_hook(look)
    return seen


def snapshot(policy):
    return {name: tensor.clone() for name, tensor in policy.weights()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@torch.no_grad()
def values_of(policy, turns, temperature=1.0):
    batch = collate(pack_turns(turns, share_prefix=True), policy.family, load_frames)
    policy.model.eval()
    values, _ = response_logprobs(policy.family, policy.model, batch, temperature=temperature)
    return [values[batch.sequence == n] for n in range(len(turns))]


@pytest.mark.parametrize("aggregation", ["token", "sequence"])
def test_the_loss_is_the_formula(policy, turns, aggregation):
    masked = [*turns[:-1], make_turn(turns[-1].prompt, turns[-1].response_ids, mask=[True, False, False, True])]
    policy.begin(stage(aggregation=aggregation))
    values = values_of(policy, masked, temperature=0.8)
    values[-1] = values[-1][[0, 3]]
    if aggregation == "token":
        expected = -sum(a * v.sum() for a, v in zip(ADVANTAGES, values, strict=True)) / 18
    else:
        expected = -sum(a * v.mean() for a, v in zip(ADVANTAGES, values, strict=True)) / 5
    assert update(policy, masked, temperature=0.8)["loss"] == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("aggregation", ["token", "sequence"])
@pytest.mark.parametrize("objective", ["ppo_clip", "sft"])
def test_splitting_a_step_changes_nothing(policy, turns, aggregation, objective):
    initial = snapshot(policy)
    results = []
    for tokens in (10**6, 120, 1):
        with torch.no_grad():
            for name, parameter in policy.model.named_parameters():
                parameter.copy_(initial[name])
        policy.begin(stage(aggregation=aggregation, micro_batch_tokens=tokens))
        gradients = watch_gradients(policy)
        results.append((update(policy, turns, objective=objective), gradients))
    (whole, expected), *rest = results
    assert whole["grad_norm"] > 0.1
    for metrics, found in rest:
        assert metrics.keys() == whole.keys()
        for name, value in metrics.items():
            assert value == pytest.approx(whole[name], abs=1e-5 if name == "grad_norm" else 1e-6)
        for name, gradient in expected.items():
            assert (found[name] - gradient).abs().max() < 1e-6 * max(1.0, whole["grad_norm"])


def test_a_step_follows_the_sign_of_its_advantages(policy, turns):
    policy.begin(stage())
    before = values_of(policy, turns)
    for step in range(1, 9):
        update(policy, turns, step=step)
    change = [float((b - a).mean()) for a, b in zip(before, values_of(policy, turns), strict=True)]
    assert change[2] > 0.1 and change[3] < -0.1


def test_ratios_are_one_against_the_policy_itself_and_not_against_an_engine(policy, turns):
    policy.begin(stage())
    metrics = update(policy, turns, objective="ppo_clip")
    assert metrics["policy/ratio"] == pytest.approx(1, abs=1e-6) and metrics["policy/clip_fraction"] == 0
    known = [
        make_turn(t.prompt, t.response_ids, logprobs=v - 0.1)
        for t, v in zip(turns, values_of(policy, turns), strict=True)
    ]
    for step, source, ratio in ((2, "current", 1.0), (2, "engine", math.exp(0.1))):
        policy.begin(stage(objective={"old_logprobs": source}, optimizer=OptimizerConfig(lr=1e-12)))
        metrics = update(policy, known, objective="ppo_clip", step=step)
        assert metrics["policy/ratio"] == pytest.approx(ratio, abs=1e-4)
        assert metrics["mismatch/logprob_abs"] == pytest.approx(0.1, abs=1e-4)


def test_unknown_engine_logprobs_fall_back_to_the_policys_own(policy, turns):
    policy.begin(stage(objective={"old_logprobs": "engine"}))
    metrics = update(policy, turns, objective="ppo_clip")
    assert metrics["policy/ratio"] == pytest.approx(1, abs=1e-6) and "mismatch/logprob_abs" not in metrics


@pytest.mark.parametrize("objective", ["ppo_clip", "reinforce", "sft"])
def test_kl_starts_at_zero_and_grows_as_the_policy_moves(policy, turns, objective):
    policy.begin(stage(kl={"estimator": "k3", "coef": 0.1}))
    values = [update(policy, turns, objective=objective, step=step)["policy/kl"] for step in range(1, 4)]
    assert values[0] == pytest.approx(0, abs=1e-6) and 1e-4 < values[1] < values[2]


def test_the_reference_does_not_move(policy, turns):
    initial = snapshot(policy)
    policy.begin(stage(kl="k2"))
    update(policy, turns)
    assert same(dict(policy.reference.named_parameters()), initial) and not same(snapshot(policy), initial)


@pytest.mark.parametrize("objective", ["ppo_clip", "reinforce", "sft"])
def test_an_impossible_token_that_is_not_trained_on_leaves_gradients_finite(policy, turns, objective):
    """A bracket of a medium has probability 0 in this policy; inserted text may hold one."""
    inserted = make_turn(turns[0].prompt, [40, policy.family.vision_start_id, 41], mask=[True, False, True])
    policy.begin(stage(kl="k2"))
    metrics = update(policy, [*turns[:-1], inserted], objective=objective)
    assert all(math.isfinite(value) for value in metrics.values())
    assert all(bool(p.isfinite().all()) for p in policy.model.parameters())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(policy, turns, bad):
    policy.begin(stage())
    update(policy, turns)
    before = snapshot(policy)
    state = {k: v.clone() for k, v in policy.optimizer.state[policy.model.lm_head.weight].items()}
    with pytest.raises(DivergedError, match=r"step 2: the gradient norm is .*a lower optimizer\.lr") as caught:
        update(policy, turns, step=2, advantages=torch.full((5,), bad))
    assert isinstance(caught.value, EasyVideoError) and isinstance(caught.value, FloatingPointError)
    assert same(snapshot(policy), before)
    assert same(dict(policy.optimizer.state[policy.model.lm_head.weight]), state)
    assert math.isfinite(update(policy, turns, step=2)["grad_norm"])


def test_gradients_are_scaled_down_to_the_limit(policy, turns):
    policy.begin(stage(optimizer=OptimizerConfig(lr=1e-3, max_grad_norm=0.05)))
    used = watch_gradients(policy)
    assert update(policy, turns)["grad_norm"] > 0.05
    assert sum(g.square().sum() for g in used.values()).sqrt().item() == pytest.approx(0.05, rel=1e-3)
    assert all(p.grad is None for p in policy.model.parameters())  # their memory is the next rollout's


@pytest.mark.parametrize("kl", ["none", "k3"])
def test_save_and_restore_go_on_to_the_bit(tiny_checkpoint, turns, tmp_path, kl):
    config = ModelConfig(path=str(tiny_checkpoint), device="cpu")
    options = stage(objective="ppo_clip", **({} if kl == "none" else {"kl": {"estimator": kl, "coef": 0.1}}))
    policy = Policy.open(config)
    policy.begin(options)
    for step in (1, 2):
        update(policy, turns, objective="ppo_clip", step=step)
    policy.save(tmp_path)
    expected = [update(policy, turns, objective="ppo_clip", step=step) for step in (3, 4)]

    again = Policy.open(config)
    again.begin(options)
    update(again, turns, objective="ppo_clip", step=1, advantages=-ADVANTAGES)  # restore must forget this
    again.restore(tmp_path)
    assert [update(again, turns, objective="ppo_clip", step=step) for step in (3, 4)] == expected
    assert same(snapshot(again), snapshot(policy))

    following = Policy.open(config, tmp_path)  # what the next stage, or anyone else, opens
    assert following.family.stop_token_ids == policy.family.stop_token_ids
    assert (tmp_path / "video_preprocessor_config.json").is_file()


def test_restoring_what_was_saved_before_the_first_step_forgets_the_optimiser(policy, turns, tmp_path):
    policy.begin(stage())
    policy.save(tmp_path)
    first = [update(policy, turns, step=step) for step in (1, 2)]
    policy.restore(tmp_path)
    assert [update(policy, turns, step=step) for step in (1, 2)] == first


def test_a_checkpoint_of_another_model_is_refused(policy, tmp_path):
    from easyvideor1.families.tiny import write_tiny_checkpoint

    other = write_tiny_checkpoint(tmp_path / "other", ["a"], width=64, layers=1, vision_layers=2, vocabulary=300)
    policy.begin(stage())
    before = snapshot(policy)
    with pytest.raises(ConfigError, match=r"checkpoint of another model: .* tensors differ"):
        policy.restore(other)
    assert same(snapshot(policy), before)


@pytest.mark.parametrize("frozen", [("vision",), ("vision", "merger"), ("language",)])
def test_frozen_groups_stay_as_they_are(tiny_checkpoint, turns, frozen):
    policy = Policy.open(ModelConfig(path=str(tiny_checkpoint), freeze=frozen, device="cpu"))
    policy.begin(stage())
    before = snapshot(policy)
    update(policy, turns)
    after = snapshot(policy)
    held = {
        id(p) for group in frozen for module in policy.family.groups(policy.model)[group] for p in module.parameters()
    }
    assert held
    for name, parameter in policy.model.named_parameters():
        assert torch.equal(before[name], after[name]) == (id(parameter) in held), name


def test_freezing_everything_is_refused(tiny_checkpoint):
    config = ModelConfig(path=str(tiny_checkpoint), freeze=("vision", "merger", "language"), device="cpu")
    with pytest.raises(ConfigError, match="leave at least one group to train"):
        Policy.open(config).begin(stage())


def test_gradient_checkpointing_changes_memory_only(tiny_checkpoint, turns):
    found = []
    for switch in (False, True):
        config = ModelConfig(path=str(tiny_checkpoint), gradient_checkpointing=switch, device="cpu")
        policy = Policy.open(config)
        policy.begin(stage())
        policy.model.eval()  # as an engine or an evaluation may leave it
        calls = []
        layer = policy.model.model.language_model.layers[0]
        layer.self_attn.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        metrics = update(policy, turns)
        assert len(calls) == 1 + switch
        found.append((metrics["loss"], metrics["grad_norm"]))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_begin_comes_first(policy, turns, tmp_path):
    with pytest.raises(RuntimeError, match="begin"):
        policy.optimizer_step(1)
    with pytest.raises(RuntimeError, match="begin"):
        policy.restore(tmp_path)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [2.0, 2.0, 2.0, 2.0]),
        ({"warmup_steps": 2}, [1.0, 2.0, 2.0, 2.0]),
        ({"schedule": "linear"}, [2.0, 1.5, 1.0, 0.5]),
        ({"schedule": "linear", "min_lr_ratio": 0.5}, [2.0, 1.75, 1.5, 1.25]),
        ({"schedule": "linear", "warmup_steps": 2}, [1.0, 2.0, 2.0, 1.0]),
        ({"schedule": "cosine"}, [2.0, 1 + math.sqrt(0.5), 1.0, 1 - math.sqrt(0.5)]),
        ({"schedule": "cosine", "warmup_steps": 4}, [0.5, 1.0, 1.5, 2.0]),
        ({"schedule": "linear", "warmup_ratio": 0.5}, [1.0, 2.0, 2.0, 1.0]),
        ({"warmup_ratio": 0.49}, [2.0, 2.0, 2.0, 2.0]),
    ],
)
def test_learning_rate_schedules(options, expected):
    settings = OptimizerConfig(lr=2.0, **options)
    assert [learning_rate(settings, step, 4) for step in (1, 2, 3, 4)] == pytest.approx(expected, abs=1e-12)


def test_the_rate_of_the_step_is_the_one_that_is_used(policy, turns):
    policy.begin(stage(steps=4, optimizer=OptimizerConfig(lr=1e-3, schedule="linear", weight_decay=0)))
    before = snapshot(policy)
    assert update(policy, turns, step=4)["lr"] == pytest.approx(2.5e-4)
    # The first step of Adam moves a weight with a gradient by the rate itself.
    moved = (policy.model.lm_head.weight - before["model.language_model.embed_tokens.weight"]).abs()
    assert moved.max().item() == pytest.approx(2.5e-4, rel=1e-2)


def test_half_precision_computes_in_bfloat16_and_learns_in_float32(tiny_checkpoint, turns):
    policy = Policy.open(ModelConfig(path=str(tiny_checkpoint), device="cpu", dtype="bfloat16"))
    assert all(p.dtype == torch.float32 for p in policy.model.parameters())
    policy.begin(stage(optimizer=OptimizerConfig(lr=1e-6, weight_decay=0.0)))
    before = snapshot(policy)
    for step in (1, 2, 3):
        metrics = update(policy, turns, step=step)
    assert math.isfinite(metrics["loss"])
    moved = [(dict(policy.weights())[name] - tensor).abs().max().item() for name, tensor in before.items()]
    assert min(moved) > 1e-6  # bfloat16 parameters would have stayed where they were
    hidden = []
    policy.model.model.language_model.layers[0].mlp.register_forward_hook(lambda *args: hidden.append(args[2].dtype))
    values_of(policy, turns)
    assert set(hidden) == {torch.bfloat16}


@pytest.mark.parametrize("tokens", [10**6, 1])
def test_a_step_of_empty_responses_alone_moves_nothing(policy, tiny_family, tokens):
    text = make_prompt(tiny_family, "What?")
    policy.begin(stage(micro_batch_tokens=tokens, optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.0)))
    before = snapshot(policy)
    metrics = update(policy, random_turns(text, [0, 0], seed=1), advantages=ADVANTAGES[:2])
    assert metrics["loss"] == 0 and same(before, snapshot(policy))


def test_an_empty_response_may_be_a_micro_batch_of_its_own(tiny_checkpoint, turns, tiny_family):
    found = []
    for tokens in (10**6, 1):
        policy = Policy.open(ModelConfig(path=str(tiny_checkpoint), device="cpu"))
        policy.begin(stage(micro_batch_tokens=tokens))
        empty = random_turns(make_prompt(tiny_family, "Why?"), [0], seed=1)
        found.append(update(policy, [*turns[:4], *empty]))
    assert found[0] == pytest.approx(found[1], abs=1e-5)


@pytest.mark.parametrize("tokens", [10**6, 1])
def test_text_alone_beside_a_frozen_language_model(tiny_checkpoint, turns, tokens):
    """Its loss depends on nothing that is trained, whatever it shares a micro-batch with."""
    policy = Policy.open(ModelConfig(path=str(tiny_checkpoint), device="cpu", freeze=("language",)))
    policy.begin(stage(micro_batch_tokens=tokens))
    metrics = update(policy, turns)
    assert metrics["grad_norm"] > 0
    whole = Policy.open(ModelConfig(path=str(tiny_checkpoint), device="cpu", freeze=("language",)))
    whole.begin(stage())
    assert metrics == pytest.approx(update(whole, turns), abs=1e-5)


def test_an_interrupted_step_leaves_nothing_behind(tiny_checkpoint, turns):
    """What was summed before the interruption is no part of the next step."""
    results = []
    for interrupted in (True, False):
        policy = Policy.open(ModelConfig(path=str(tiny_checkpoint), device="cpu"))
        policy.begin(stage(micro_batch_tokens=1))
        if interrupted:
            read = []

            def load(ref, plan, read=read):
                read.append(plan)
                if len(read) == 2:
                    raise KeyboardInterrupt
                return load_frames(ref, plan)

            with pytest.raises(KeyboardInterrupt):
                update(policy, turns, load=load)
            assert any(p.grad is not None for p in policy.model.parameters())
        results.append(update(policy, turns))
    assert results[0] == results[1]


def test_the_policys_schedule_begins_behind_the_critics_warm_up(tiny_checkpoint, turns):
    policy = Policy.open(ModelConfig(path=str(tiny_checkpoint), device="cpu"))
    rates = OptimizerConfig(lr=1e-3, warmup_steps=4)
    policy.begin(stage(advantage="gae", critic={"warmup_steps": 10}, optimizer=rates, steps=50))
    assert [update(policy, turns, step=step)["lr"] for step in (11, 12)] == pytest.approx([2.5e-4, 5e-4])


@pytest.mark.parametrize(("device", "message"), [("gpu", "is not a device; write auto"), ("cuda:99", "finds . GPUs")])
def test_a_device_that_is_not_there_is_told(device: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        chosen_device(ModelConfig(device=device))
