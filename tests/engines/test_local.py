"""How the local engine draws, by itself."""

import importlib.util

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easyvideor1.engines.decoding import draw, truncate, uniforms
from easyvideor1.engines.engine import Sampling, finished, generate
from easyvideor1.engines.local import LocalEngine
from easyvideor1.engines.registry import open_engine
from easyvideor1.types import ConfigError, DataError, EasyVideoError, Frames
from tiny import load_frames, make_plan

from .serving import UNREADABLE, load_none_of, requests_for, tokens_of

LOGITS = st.lists(st.one_of(st.just(-np.inf), st.floats(-30, 30)), min_size=2, max_size=40).filter(
    lambda values: any(np.isfinite(values))
)
UNIFORM = st.one_of(st.sampled_from([0.0, 0.5, 1 - 2**-53]), st.floats(0, 1, exclude_max=True))


@given(LOGITS, UNIFORM, st.integers(0, 45), st.floats(0.01, 1.0))
def test_what_is_impossible_is_never_drawn(values, uniform, top_k, top_p):
    logits = torch.tensor(values, dtype=torch.float32)[None]
    uniforms_R = torch.tensor([uniform], dtype=torch.float64)
    ids, logprobs = draw(logits, uniforms_R, Sampling(top_k=top_k, top_p=top_p))
    assert np.isfinite(values[ids[0]]) and logprobs[0].isfinite()
    assert logprobs[0].item() == pytest.approx(torch.log_softmax(logits, -1)[0, ids[0]].item())


@pytest.mark.parametrize("vocabulary", [1, 7, 128, 300, 1024, 5000])
def test_a_draw_inverts_the_cumulative_distribution(vocabulary):
    """By blocks, it is the token that one sum over the vocabulary in float64 gives."""
    generator = torch.Generator().manual_seed(vocabulary)
    logits = 4 * torch.randn(2000, vocabulary, generator=generator)
    numbers = torch.rand(2000, generator=generator, dtype=torch.float64)
    ids, _ = draw(logits, numbers, Sampling())
    cumulative = torch.softmax(logits.double(), -1).cumsum(-1)
    threshold = numbers * cumulative[:, -1]
    near = (cumulative - threshold[:, None]).abs().amin(-1) < 1e-6  # rounding may decide there
    wanted = torch.searchsorted(cumulative, threshold[:, None], right=True).squeeze(1)
    assert torch.equal(ids[~near], wanted[~near]) and near.float().mean() < 0.05


@given(st.lists(st.integers(0, 3), min_size=2, max_size=30), st.integers(1, 30))
def test_exactly_top_k_stay_and_ties_go_by_token_id(levels, top_k):
    """Half precision makes ties common: top_k = 1 must still be the one token that greedy takes."""
    probabilities = torch.softmax(torch.tensor(levels, dtype=torch.float32), -1)
    kept = truncate(probabilities[None, None], Sampling(top_k=top_k))[0, 0]
    expected = sorted(range(len(levels)), key=lambda i: (-levels[i], i))[:top_k]
    assert torch.nonzero(kept)[:, 0].tolist() == sorted(expected)
    assert torch.equal(kept[expected], probabilities[expected])
    if top_k == 1:
        assert expected == [int(probabilities.argmax())]


def test_top_p_keeps_the_token_that_crosses_the_line():
    probabilities = torch.tensor([0.1, 0.4, 0.3, 0.2])[None, None]
    for top_p, kept in ((0.39, [1]), (0.41, [1, 2]), (0.69, [1, 2]), (0.95, [0, 1, 2, 3])):
        assert torch.nonzero(truncate(probabilities, Sampling(top_p=top_p))[0, 0])[:, 0].tolist() == kept
    # top_p counts the mass that top_k left: 0.4 of 0.7 is more than a half.
    both = truncate(probabilities, Sampling(top_k=2, top_p=0.5))
    assert torch.nonzero(both[0, 0])[:, 0].tolist() == [1]


def test_uniforms_depend_on_seed_and_response_and_begin_alike():
    long, short = uniforms(7, 2, 100), uniforms(7, 2, 10)
    assert np.array_equal(long[:10], short)
    assert len({tuple(uniforms(seed, i, 4)) for seed in (0, 1, 2**63 - 1, -1) for i in range(3)}) == 12
    assert abs(uniforms(1, 0, 20_000).mean() - 0.5) < 0.01


@pytest.mark.model
def test_the_policys_own_weights_are_not_copied(tiny_family, tiny_model):
    engine = LocalEngine(tiny_family, tiny_model, load=None)
    before = {name: p._version for name, p in tiny_model.named_parameters()}
    engine.update_weights(4, ((name, p.detach()) for name, p in tiny_model.named_parameters()))
    assert engine.version == 4
    assert {name: p._version for name, p in tiny_model.named_parameters()} == before


@pytest.mark.model
def test_tied_weights_go_by_either_name(tiny_family, tiny_model):
    wanted = torch.full_like(tiny_model.lm_head.weight, 0.25)
    LocalEngine(tiny_family, tiny_model, load=None).update_weights(1, [("lm_head.weight", wanted)])
    assert torch.equal(tiny_model.model.language_model.embed_tokens.weight, wanted)


@pytest.mark.model
def test_an_engine_is_found_by_name_or_by_import_string(tiny_family, tiny_model):
    own = "easyvideor1.engines.local:LocalEngine"
    for name in ("local", own):
        assert isinstance(open_engine(name, tiny_family, tiny_model, None, batch_tokens=300), LocalEngine)
    with pytest.raises(ConfigError, match="unknown engine 'locl': did you mean local"):
        open_engine("locl", tiny_family, tiny_model, None, batch_tokens=300)


@pytest.mark.model
def test_vllm_that_is_not_installed_is_told(tiny_family, tiny_checkpoint, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "vllm" else find(name, *rest))
    with pytest.raises(ConfigError, match=r'pip install "easyvideor1\[vllm\]"'):
        open_engine("vllm", tiny_family, tiny_checkpoint, load_frames, batch_tokens=300)


@pytest.mark.model
def test_frames_that_are_not_the_plans_are_refused(tiny_family, tiny_model, prompts):
    def other(ref, plan):
        return Frames(load_frames(ref, plan).pixels, make_plan("video", seed=77))

    tiny_model.train()
    with pytest.raises(DataError, match="visual tokens"):
        generate(LocalEngine(tiny_family, tiny_model, other), requests_for(prompts))
    assert tiny_model.training


@pytest.mark.model
@pytest.mark.parametrize("batch_tokens", [1, 200, 65_536])
def test_a_request_that_fails_changes_no_bit_of_the_others(tiny_family, tiny_model, prompts, batch_tokens):
    """The window is batched as if the request had not been there."""
    requests = {request.id: request for request in requests_for(prompts)}
    engine = LocalEngine(tiny_family, tiny_model, load_none_of(prompts, UNREADABLE), batch_tokens=batch_tokens)
    engine.submit(list(requests.values()))
    found = {result.request.id: result.trajectories for result in finished(engine)}
    readable = [name for name in requests if name not in UNREADABLE]
    plain = LocalEngine(tiny_family, tiny_model, load_frames, batch_tokens=batch_tokens)
    for name, group in zip(readable, generate(plain, [requests[name] for name in readable]), strict=True):
        for one, other in zip(found[name], group, strict=True):
            assert np.array_equal(one.last.response_ids, other.last.response_ids)
            assert np.array_equal(one.last.logprobs, other.last.logprobs)


@pytest.mark.model
def test_windows_are_batched_apart(tiny_family, tiny_model, prompts):
    rows = []
    tiny_model.model.visual.register_forward_hook(lambda module, args, out: rows.append(1))
    engine = LocalEngine(tiny_family, tiny_model, load_frames)
    requests = requests_for(prompts, n=1, max_new_tokens=2)
    for window in (requests[:2], requests[2:]):
        engine.submit(window)
    assert len(list(finished(engine))) == 4 and len(rows) == 2


@pytest.mark.model
def test_nothing_is_generated_for_cancelled_requests(tiny_family, tiny_model, prompts):
    steps = []
    tiny_model.lm_head.register_forward_hook(lambda module, args, out: steps.append(1))
    engine = LocalEngine(tiny_family, tiny_model, load_frames, batch_tokens=1)
    first, *others = engine.submit(requests_for(dict.fromkeys("abc", prompts["text"]), n=1, max_new_tokens=3))
    results = finished(engine)
    assert next(results).ticket == first
    count = len(steps)
    engine.cancel(others)
    assert list(results) == [] and len(steps) == count
    together = LocalEngine(tiny_family, tiny_model, load_frames)
    tickets = together.submit(requests_for(prompts, n=1, max_new_tokens=40))
    together.cancel(tickets)
    assert list(finished(together)) == [] and len(steps) == count


@pytest.mark.model
def test_a_failure_of_the_engine_leaves_nothing_pending(tiny_family, tiny_model, prompts):
    def broken(ref, plan):
        raise RuntimeError("the disk is on fire")

    tiny_model.train()
    engine = LocalEngine(tiny_family, tiny_model, broken)
    engine.submit(requests_for(prompts))
    with pytest.raises(RuntimeError, match="on fire"):
        list(finished(engine))
    assert list(finished(engine)) == [] and tiny_model.training


@pytest.mark.model
def test_an_engine_of_a_checkpoint_has_weights_of_its_own(tiny_family, tiny_model, tiny_checkpoint, prompts):
    requests = requests_for(prompts)
    policys = LocalEngine(tiny_family, tiny_model, load_frames)
    own = open_engine("local", tiny_family, tiny_checkpoint, load_frames, batch_tokens=65_536)
    other = open_engine(f"{__name__}:Plain", tiny_family, tiny_checkpoint, load_frames, batch_tokens=65_536)
    assert policys.takes_adapters and not own.takes_adapters
    whole = tokens_of(generate(policys, requests))
    assert whole == tokens_of(generate(own, requests)) == tokens_of(generate(other, requests))
    with torch.no_grad():
        for parameter in tiny_model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    own.sleep()
    assert tokens_of(generate(own, requests)) == whole != tokens_of(generate(policys, requests))
    own.sleep()
    own.update_weights(1, tiny_model.named_parameters())
    assert tokens_of(generate(own, requests)) == tokens_of(generate(policys, requests))
    own.close()


class Plain(LocalEngine):
    """An engine that is always given a module."""

    opens_checkpoints = False


@pytest.mark.model
@pytest.mark.parametrize("batch_tokens", [300, 65_536])
def test_what_ends_first_comes_first(tiny_family, pushed, prompts, batch_tokens):
    model = pushed({tiny_family.stop_token_ids[0]: 6.0})
    engine = LocalEngine(tiny_family, model, load_frames, batch_tokens=batch_tokens)
    tickets = engine.submit(requests_for(prompts, n=2, max_new_tokens=40))
    came = [result.ticket for result in finished(engine)]
    assert sorted(came) == tickets and (came != tickets or batch_tokens == 300)


@pytest.mark.model
def test_the_vision_tower_sees_every_medium_once(tiny_family, tiny_model, prompts):
    grids = []
    tiny_model.model.visual.register_forward_hook(
        lambda module, args, kwargs, out: grids.append(kwargs["grid_thw"].tolist()), with_kwargs=True
    )
    generate(LocalEngine(tiny_family, tiny_model, load_frames), requests_for(prompts, n=5))
    seen = sorted(tuple(grid) for call in grids for grid in call)
    assert len(grids) == 1
    assert seen == sorted(plan.grid for prompt in prompts.values() for plan in prompt.plans)


@pytest.mark.model
def test_weights_that_came_in_part_are_not_used(tiny_family, tiny_model, prompts):
    engine, requests = LocalEngine(tiny_family, tiny_model, load_frames), requests_for(prompts)
    before = tokens_of(generate(engine, requests))
    own = {name: p.detach().clone() for name, p in tiny_model.named_parameters()}
    name = "model.language_model.norm.weight"
    for bad in ({"model.nothing": torch.zeros(1)}, {name: torch.zeros(1)}):
        with pytest.raises(ConfigError, match="they are of another model"):
            engine.update_weights(1, (bad | {n: t for n, t in own.items() if n not in bad}).items())
        assert engine.version == 0 and tokens_of(generate(engine, requests)) == before
        with pytest.raises(ConfigError, match="they are of another model"):
            engine.update_weights(1, [*own.items(), *bad.items()])
        with pytest.raises(EasyVideoError, match="weights of version 1 came only in part"):
            generate(engine, requests)
        engine.update_weights(0, own.items())
    assert tokens_of(generate(engine, requests)) == before


@pytest.mark.model
def test_under_autocast_results_come_in_bundles(tiny_family, pushed, prompts):
    model = pushed({tiny_family.stop_token_ids[0]: 5.0})
    model.compute_dtype = torch.bfloat16
    engine = LocalEngine(tiny_family, model, load_frames)
    requests = requests_for(prompts, n=2, max_new_tokens=50)
    tickets = engine.submit(requests)
    found = {result.ticket: result.trajectories for result in finished(engine)}
    assert sorted(found) == tickets and model.compute_dtype == torch.bfloat16
    again = generate(LocalEngine(tiny_family, model, load_frames), requests)
    assert tokens_of([found[ticket] for ticket in tickets]) == tokens_of(again)
    lengths = {trajectory.response_tokens for group in again for trajectory in group}
    assert len(lengths) > 2 and any(length % 16 for length in lengths), "responses end where they end"
