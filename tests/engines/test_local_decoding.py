"""How the local engine decodes: what it computes once, what it computes anew, and what its caller sees meanwhile."""

import copy
import gc
import weakref

import numpy as np
import pytest
import torch

from easyvideor1.attention.branches import BranchKeys
from easyvideor1.engines import local_decoders
from easyvideor1.engines.engine import finished, generate
from easyvideor1.engines.local import LocalEngine
from easyvideor1.families.family import load_family
from easyvideor1.packing.logprobs import response_logprobs
from easyvideor1.packing.micro_batch import collate
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.types import ConfigError, MediaError
from tiny import load_frames, make_plan, make_prompt

from .serving import requests_for, tokens_of

pytestmark = pytest.mark.model


def turns_of(groups):
    return [trajectory.last for group in groups for trajectory in group]


@torch.no_grad()
def logprobs_of(family, model, turns):
    """The trainer's log-probs of turns, one after the other."""
    rows = pack_turns(turns, share_prefix=family.shares_prefix)
    return response_logprobs(family, model, collate(rows, family, load_frames))[0]


def changed(model):
    """The model with other weights, of which the tower's are some."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return other


def load_model(family, place, attention="sdpa"):
    return family.load_model(place, dtype=torch.float32, attention=attention, trust_remote_code=False).eval()


@pytest.fixture(params=["branches", "static shapes", "eager", "qwen2_vl", "qwen3_5"])
def decoded(request, tiny_family, tiny_checkpoint, tiny_model, family_checkpoints, monkeypatch):
    """A family with a model, for every way to decode."""
    if request.param == "static shapes":  # those of a GPU, step by step
        monkeypatch.setattr(local_decoders, "static_shapes", lambda device: True)
    if request.param == "eager":
        return tiny_family, load_model(tiny_family, tiny_checkpoint, "eager")
    if request.param in family_checkpoints:
        family = load_family(family_checkpoints[request.param])
        return family, load_model(family, family_checkpoints[request.param])
    return tiny_family, tiny_model


def prompts_for(family):
    prompts = {"text": make_prompt(family, "What moves?"), "long": make_prompt(family, "What moves? " * 9)}
    if family.geometry.patch_size == 16:  # what plans of tests are made for
        video = make_plan("video", frames=4)
        prompts |= {f"video {i}": make_prompt(family, f"<video>What moves? {i}", video) for i in range(2)}
    return prompts


def test_weights_that_come_in_the_middle_of_responses(decoded):
    """No key of older weights is used: what follows has the log-probs of the new ones, in one pass over the tokens."""
    family, model = decoded
    other = changed(model)
    engine = LocalEngine(family, copy.deepcopy(model), load_frames)
    prompts = prompts_for(family)
    tickets = engine.submit(requests_for(prompts, n=3, max_new_tokens=40))
    results, steps = engine.results(), 0
    while max(len(ids) for ids in engine.partial(tickets[0])) < 9:
        assert next(results) is None
        steps += 1
    before = engine.stats()
    engine.update_weights(5, other.named_parameters())
    found = {result.ticket: result.trajectories for result in results if result is not None}
    turns = turns_of([found[ticket] for ticket in tickets])
    old, new = logprobs_of(family, model, turns), logprobs_of(family, other, turns)
    versions = np.concatenate([turn.versions for turn in turns])
    ours = torch.from_numpy(np.concatenate([turn.logprobs for turn in turns]))
    assert set(versions.tolist()) == {0, 5} and steps > 0
    assert (old - new).abs().max() > 1e-2
    torch.testing.assert_close(ours, torch.where(torch.from_numpy(versions == 5), new, old), rtol=0, atol=2e-5)
    assert engine.stats()["prefills"] == before["prefills"] + len(prompts)


def test_an_update_without_tensors_computes_nothing_anew(tiny_family, tiny_model, prompts):
    engine = LocalEngine(tiny_family, tiny_model, load_frames)
    engine.submit(requests_for(prompts))
    results = engine.results()
    next(results)
    engine.update_weights(3, [])
    list(results)
    assert engine.stats()["prefills"] == len(prompts)


def test_media_that_are_gone_at_an_update_fail_alone(tiny_family, tiny_model, prompts):
    gone = set()

    def load(ref, plan):
        if plan.digest in gone:
            raise MediaError(f"{ref.path}: removed", path=ref.path, reason="missing")
        return load_frames(ref, plan)

    engine = LocalEngine(tiny_family, tiny_model, load)
    tickets = dict(zip(prompts, engine.submit(requests_for(prompts, max_new_tokens=12)), strict=True))
    results = engine.results()
    next(results)
    gone.add(prompts["video"].plans[0].digest)
    engine.update_weights(1, changed(tiny_model).named_parameters())
    found = {result.ticket: result for result in results if result is not None}
    assert sorted(found) == sorted(tickets.values())
    for name, ticket in tickets.items():
        assert isinstance(found[ticket].fault, MediaError) == (name == "video")
        assert len(found[ticket].trajectories) == (0 if name == "video" else 3)


def test_every_way_to_decode_draws_the_same(decoded):
    """In company and alone, beyond the first buffers, with ends at every length; log-probs are the trainer's."""
    family, model = decoded
    model.lm_head = pushed_head(model, family.stop_token_ids[0], 1.5)
    requests = requests_for(prompts_for(family), n=3, max_new_tokens=150)
    together = generate(LocalEngine(family, model, load_frames), requests)
    alone = [generate(LocalEngine(family, model, load_frames), [request])[0] for request in requests]
    assert tokens_of(together) == tokens_of(alone)
    turns = turns_of(together)
    assert len({len(turn.response_ids) for turn in turns}) > 4 and max(len(turn.response_ids) for turn in turns) > 64
    ours = torch.from_numpy(np.concatenate([turn.logprobs for turn in turns]))
    # A state that is carried over 150 tokens gathers more rounding than attention does.
    near = 2e-5 if family.shares_prefix else 1e-4
    torch.testing.assert_close(ours, logprobs_of(family, model, turns), rtol=0, atol=near)


def pushed_head(model, token, bias):
    head = torch.nn.Linear(model.lm_head.weight.shape[1], model.lm_head.weight.shape[0])
    with torch.no_grad():
        head.weight.copy_(model.lm_head.weight)
        head.bias.zero_()
        head.bias[token] = bias
    return head


def test_a_video_with_several_questions_is_computed_once(tiny_family, tiny_model):
    calls = []
    tiny_model.model.visual.register_forward_hook(
        lambda module, args, kwargs, out: calls.append(kwargs["grid_thw"].tolist()), with_kwargs=True
    )
    plans = [make_plan("video", frames=12, seed=seed) for seed in range(2)]
    prompts = {
        f"{q} {i}": make_prompt(tiny_family, f"<video>{q}", p) for i, p in enumerate(plans) for q in ("A", "B", "C?")
    }
    engine = LocalEngine(tiny_family, tiny_model, load_frames)
    groups = generate(engine, requests_for(prompts, n=2))
    assert [len(call) for call in calls] == [2], "two videos, one call"
    counted, tokens = engine.stats(), sum(len(prompt) for prompt in prompts.values())
    assert counted["prompt_tokens"] == 2 * tokens
    assert counted["prefilled_tokens"] < 0.6 * tokens and counted["prefills"] == len(prompts)
    assert counted["cached_tokens"] == 2 * tokens - counted["prefilled_tokens"]
    ours = torch.from_numpy(np.concatenate([turn.logprobs for turn in turns_of(groups)]))
    torch.testing.assert_close(ours, logprobs_of(tiny_family, tiny_model, turns_of(groups)), rtol=0, atol=1e-5)
    alone = [generate(LocalEngine(tiny_family, tiny_model, load_frames), [r])[0] for r in requests_for(prompts, n=2)]
    assert tokens_of(groups) == tokens_of(alone)


def test_the_caller_gets_control_after_every_step(tiny_family, tiny_model, prompts):
    engine = LocalEngine(tiny_family, tiny_model, load_frames, batch_tokens=1)
    first, second = engine.submit(requests_for(dict.fromkeys("ab", prompts["text"]), n=2, max_new_tokens=5))
    results = engine.results()
    for step in range(1, 5):
        assert next(results) is None
        assert [len(ids) for ids in engine.partial(first)] == [step, step] and engine.partial(second) == [[], []]
    assert next(results).ticket == first
    with pytest.raises(KeyError):
        engine.partial(first)
    assert [result.ticket for result in finished(engine)] == [second], "an iterator that was left loses nothing"
    assert engine.stats()["new_tokens"] == 20


def test_a_pause_leaves_model_and_torch_as_they_were(tiny_family, tiny_model, prompts):
    """A trainer may have a part of its model in evaluation mode, and has torch fill new memory."""
    within = []

    def looking(module, arguments):
        within.append((any(part.training for part in tiny_model.modules()), fills.fill_uninitialized_memory))

    fills = torch.utils.deterministic
    tiny_model.train()
    tiny_model.model.visual.eval()
    before = [part.training for part in tiny_model.modules()]
    tiny_model.lm_head.register_forward_pre_hook(looking)
    engine = LocalEngine(tiny_family, tiny_model, load_frames)
    engine.submit(requests_for(prompts, max_new_tokens=6))
    for _ in engine.results():
        assert [part.training for part in tiny_model.modules()] == before and fills.fill_uninitialized_memory
    assert len(within) == 6 and set(within) == {(False, False)} and len(set(before)) == 2


def test_all_that_is_pending_may_be_cancelled_in_a_pause(tiny_family, tiny_model, prompts):
    engine = LocalEngine(tiny_family, tiny_model, load_frames)
    tickets = engine.submit(requests_for(prompts, max_new_tokens=30))
    results = engine.results()
    next(results)
    engine.cancel(tickets)
    engine.update_weights(1, changed(tiny_model).named_parameters())
    assert list(results) == [] and engine.stats()["prefills"] == len(prompts)


@pytest.mark.parametrize("end", ["cancelled", "answered"])
def test_a_caller_that_asks_no_more_leaves_no_keys_behind(tiny_family, tiny_model, prompts, end, monkeypatch):
    kept = []

    def noting(*given, **options):
        keys = BranchKeys(*given, **options)
        kept.append(weakref.ref(keys))
        return keys

    monkeypatch.setattr(local_decoders, "BranchKeys", noting)
    engine = LocalEngine(tiny_family, tiny_model, load_frames)
    tickets = engine.submit(requests_for(prompts))
    results = engine.results()
    if end == "cancelled":
        next(results)
        engine.cancel(tickets)
    else:
        left = len(tickets)
        while left:
            left -= next(results) is not None
    gc.collect()
    assert kept and all(keys() is None for keys in kept)
    assert list(results) == []


def test_a_second_update_while_a_fault_is_told_labels_tokens_by_the_last(tiny_family, tiny_model, prompts):
    gone = set()

    def load(ref, plan):
        if plan.digest in gone:
            raise MediaError(f"{ref.path}: removed", path=ref.path, reason="missing")
        return load_frames(ref, plan)

    engine = LocalEngine(tiny_family, tiny_model, load)
    engine.submit(requests_for(prompts, max_new_tokens=6))
    results = engine.results()
    next(results)
    gone.add(prompts["video"].plans[0].digest)
    engine.update_weights(1, changed(tiny_model).named_parameters())
    fault = next(results)
    assert isinstance(fault.fault, MediaError)
    engine.update_weights(2, changed(tiny_model).named_parameters())
    for result in results:
        if result is not None:
            assert all(set(one.last.versions[1:].tolist()) <= {2} for one in result.trajectories)


def test_layers_with_a_sliding_window_are_refused_where_it_matters(tiny_family, tiny_model, prompts):
    model = copy.deepcopy(tiny_model)
    text = model.config.get_text_config()
    text.layer_types = ["sliding_attention"] * text.num_hidden_layers
    for window in (10_000, 12):
        text.sliding_window = window
        engine = LocalEngine(tiny_family, model, load_frames)
        if window == 12:
            with pytest.raises(ConfigError, match=r"last 12 tokens.*attention to eager"):
                generate(engine, requests_for(prompts))
        else:
            assert len(generate(engine, requests_for(prompts))) == len(prompts)
