"""The requirements of an engine with weights, for every registered one, or yours: ``pytest --engine module:attr``."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from easyvideor1.engines.engine import Request, Sampling, finished, generate
from easyvideor1.families.inputs import load_media
from easyvideor1.families.vision_tower import hidden_states
from easyvideor1.packing.logprobs import masked_logits, response_logprobs
from easyvideor1.packing.micro_batch import collate
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.types import ConfigError, DataError
from tiny import load_frames, make_prompt, make_turn

from .serving import ServingLaws, load_none_of, requests_for, tokens_of

pytestmark = pytest.mark.model

LIMIT = 10


def turns_of(results):
    return [trajectory.turns[0] for group in results for trajectory in group]


@torch.no_grad()
def first_distribution(family, model, prompt, temperature=1.0):
    """Log-probabilities ``(V,)`` of the first response token, from the trainer's side."""
    batch = collate(pack_turns([make_turn(prompt, [40])], share_prefix=True), family, load_frames)
    hidden = hidden_states(family, model, batch.input_ids, batch.positions, batch.attention_mask(), batch.visual)
    return torch.log_softmax(masked_logits(family, model, hidden[0, len(prompt) - 1], temperature), -1).double()


class TestServing(ServingLaws):
    @pytest.fixture
    def serve(self, open_any, tiny_model):
        return lambda load: open_any(tiny_model, load=load)


def test_responses_come_in_request_order(open_any, tiny_model, prompts):
    requests = [
        Request(f"{name}/{n}", p, n, Sampling(max_new_tokens=3), n) for n in (2, 1, 3) for name, p in prompts.items()
    ]
    results = generate(open_any(tiny_model, batch_tokens=300), requests)
    assert [len(group) for group in results] == [request.n for request in requests]
    for request, group in zip(requests, results, strict=True):
        assert all(turn.prompt is request.prompt for trajectory in group for turn in trajectory.turns)


def test_each_result_comes_once(open_any, pushed, tiny_family, prompts):
    engine = open_any(pushed({tiny_family.stop_token_ids[0]: 6.0}))
    requests = requests_for(prompts, n=2, max_new_tokens=40)
    tickets = engine.submit(requests)
    results = list(finished(engine))
    assert sorted(result.ticket for result in results) == sorted(tickets)
    by_ticket = {result.ticket: result.trajectories for result in results}
    assert tokens_of([by_ticket[ticket] for ticket in tickets]) == tokens_of(generate(engine, requests))


def test_a_response_ends_with_its_stop_token_or_at_the_limit(open_any, pushed, tiny_family, prompts):
    (stop,) = tiny_family.stop_token_ids
    turns = turns_of(generate(open_any(pushed({stop: 5.0})), requests_for(prompts, n=12)))
    assert {turn.finish for turn in turns} == {"stop", "length"}
    assert len({len(turn.response_ids) for turn in turns}) > 4
    for turn in turns:
        length = len(turn.response_ids)
        assert turn.response_ids.dtype == np.int64 and turn.logprobs.dtype == np.float32
        assert turn.response_mask.shape == turn.logprobs.shape == (length,) and turn.response_mask.all()
        assert stop not in turn.response_ids[:-1]
        assert (turn.response_ids[-1] == stop) == (turn.finish == "stop")
        assert length == LIMIT if turn.finish == "length" else length <= LIMIT
        spoken = turn.response_ids[:-1] if turn.finish == "stop" else turn.response_ids
        assert turn.text == tiny_family.tokenizer.decode(spoken) and "<|im_end|>" not in turn.text


def test_a_limit_of_one_token(open_any, tiny_model, prompts):
    turns = turns_of(generate(open_any(tiny_model), requests_for(prompts, max_new_tokens=1)))
    assert {len(turn.response_ids) for turn in turns} == {1}


@pytest.mark.parametrize("sampling", [{"greedy": True}, {"temperature": 2.0}, {"top_k": 2}, {"top_p": 0.5}], ids=str)
def test_visual_tokens_are_never_sampled(open_any, pushed, tiny_family, prompts, sampling):
    model = pushed(dict.fromkeys(tiny_family.visual_token_ids, 100.0))
    with torch.no_grad():
        logits = model.lm_head(torch.randn(4, model.lm_head.in_features))
    assert set(logits.argmax(-1).tolist()) <= set(tiny_family.visual_token_ids)  # the model wants nothing else
    for turn in turns_of(generate(open_any(model), requests_for(prompts, **sampling))):
        assert not set(turn.response_ids.tolist()) & set(tiny_family.visual_token_ids)
        assert turn.logprobs is None or np.isfinite(turn.logprobs).all()


@pytest.mark.parametrize(
    "sampling",
    [{}, {"temperature": 0.6}, {"temperature": 1.7, "top_p": 0.7}, {"top_k": 5}, {"greedy": True, "temperature": 0.5}],
    ids=str,
)
@torch.no_grad()
def test_logprobs_are_the_trainers(open_any, pushed, tiny_family, prompts, sampling):
    (stop,) = tiny_family.stop_token_ids
    model = pushed({stop: 3.0})
    turns = turns_of(generate(open_any(model), requests_for(prompts, **sampling)))
    batch = collate(pack_turns(turns, share_prefix=True), tiny_family, load_frames)
    temperature = 1.0 if sampling.get("greedy") else sampling.get("temperature", 1.0)
    expected, _ = response_logprobs(tiny_family, model, batch, temperature=temperature)
    known = ~batch.engine_logprobs.isnan()
    assert known.all() or (not known.any() and {"top_p", "top_k"} & sampling.keys()), "all, or none of a cut one"
    torch.testing.assert_close(batch.engine_logprobs[known], expected[known], rtol=0, atol=1e-5)


@pytest.mark.parametrize("sampling", [{}, {"greedy": True}], ids=str)
@torch.no_grad()
def test_logprobs_are_the_trainers_for_every_kind_of_prompt(open_any, tiny_model, tiny_family, kinds, sampling):
    turns = turns_of(generate(open_any(tiny_model), requests_for(kinds, n=2, **sampling)))
    batch = collate(pack_turns(turns, share_prefix=True), tiny_family, load_frames)
    expected, _ = response_logprobs(tiny_family, tiny_model, batch)
    torch.testing.assert_close(batch.engine_logprobs, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 200, 65536])
def test_a_request_is_answered_alike_in_any_company(open_any, pushed, tiny_family, prompts, batch_tokens):
    model = pushed({tiny_family.stop_token_ids[0]: 3.5})  # rows end at different steps and leave the batch
    requests = requests_for(prompts, n=3)
    alone = [generate(open_any(model), [request])[0] for request in requests]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 2, 0]):
        together = generate(open_any(model, batch_tokens), [requests[i] for i in order])
        assert tokens_of(together) == tokens_of([alone[i] for i in order])
        for group, i in zip(together, order, strict=True):
            for one, other in zip(group, alone[i], strict=True):
                np.testing.assert_allclose(one.turns[0].logprobs, other.turns[0].logprobs, rtol=0, atol=1e-5)


def test_prompts_that_end_early_take_nothing_from_the_others(open_any, pushed, tiny_family, prompts):
    model = pushed({tiny_family.stop_token_ids[0]: 4.5})
    sampling = Sampling(max_new_tokens=LIMIT)
    requests = [Request("r", prompts["image"], 1, sampling, seed) for seed in range(12)]
    together = generate(open_any(model), requests)
    assert len({len(group[0].turns[0].response_ids) for group in together}) > 4
    assert tokens_of(together) == tokens_of([generate(open_any(model), [request])[0] for request in requests])


def test_more_responses_begin_with_the_fewer(open_any, tiny_model, prompts):
    few = generate(open_any(tiny_model), requests_for(prompts, n=2))
    many = generate(open_any(tiny_model), requests_for(prompts, n=5))
    assert [group[:2] for group in tokens_of(many)] == tokens_of(few)
    assert all(len({tuple(ids) for ids in group}) == 5 for group in tokens_of(many))


def test_the_seed_decides(open_any, tiny_model, prompts):
    engine = open_any(tiny_model)
    first, again, other = (generate(engine, requests_for(prompts, seed=seed)) for seed in (1, 1, 50))
    assert tokens_of(first) == tokens_of(again) != tokens_of(other)
    negative = generate(engine, requests_for(prompts, seed=-5))
    assert tokens_of(negative) != tokens_of(first)


KINDS = ("text", "image", "video", "both", "images", "videos", "interleaved", "again", "frame list", "unicode", "empty")


@pytest.mark.parametrize("name", KINDS)
def test_greedy_is_transformers_greedy(open_any, pushed, tiny_family, prompts, kinds, name):
    model, prompt = pushed({tiny_family.stop_token_ids[0]: 1.0}), (prompts | kinds)[name]
    (ours,) = turns_of(
        generate(open_any(model), [Request("r", prompt, 1, Sampling(greedy=True, max_new_tokens=16), 0)])
    )
    ids = torch.from_numpy(prompt.token_ids)[None]
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == tiny_family.image_token_id).int() + 2 * (ids == tiny_family.video_token_id).int(),
    }
    media = load_media(prompt, load_frames)
    for kind, pixels, grid in (
        ("image", "pixel_values", "image_grid_thw"),
        ("video", "pixel_values_videos", "video_grid_thw"),
    ):
        visual = tiny_family.visual_inputs([frames for frames in media if frames.plan.kind == kind])
        if visual is not None:
            inputs |= {pixels: visual.pixel_patches, grid: visual.grid_thw}
    theirs = model.generate(
        **inputs, do_sample=False, max_new_tokens=16, suppress_tokens=list(tiny_family.visual_token_ids)
    )
    assert ours.response_ids.tolist() == theirs[0, ids.shape[1] :].tolist()


def test_the_likeliest_of_one_is_greedy(open_any, tiny_model, prompts):
    greedy = generate(open_any(tiny_model), requests_for(prompts, greedy=True))
    one = generate(open_any(tiny_model), requests_for(prompts, top_k=1, temperature=1.9))
    assert tokens_of(one) == tokens_of(greedy)
    assert all(len({tuple(ids) for ids in group}) == 1 for group in tokens_of(one))


@pytest.mark.parametrize(
    ("sampling", "seen"),
    [({"top_k": 3}, 3), ({"top_p": 0.3}, None), ({"top_k": 20, "top_p": 0.5, "temperature": 0.8}, None)],
    ids=str,
)
def test_top_k_and_top_p_restrict_what_is_drawn(open_any, tiny_model, tiny_family, prompts, sampling, seen):
    prompt = prompts["video"]
    log = first_distribution(tiny_family, tiny_model, prompt, sampling.get("temperature", 1.0))
    ranked = log.argsort(descending=True)[: sampling.get("top_k") or len(log)]
    mass = log[ranked].exp()
    before = (mass.cumsum(0) - mass) / mass.sum()
    allowed = set(ranked[before < sampling.get("top_p", 1.0)].tolist())
    request = Request("r", prompt, 400, Sampling(max_new_tokens=1, **sampling), 5)
    drawn = {int(turn.response_ids[0]) for turn in turns_of(generate(open_any(tiny_model), [request]))}
    assert drawn <= allowed
    assert len(drawn) == seen if seen else len(drawn) > len(allowed) / 2


def exceeds_chi_square(counts, expected):
    """Whether Pearson's statistic lies beyond about 4 standard deviations (Wilson and Hilferty 1931)."""
    common = expected >= 5
    observed = np.append(counts[common], counts[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum())
    statistic = ((observed - wanted) ** 2 / np.maximum(wanted, 1e-9)).sum()
    freedom = len(observed) - 1
    z = ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / np.sqrt(2 / (9 * freedom))
    return z > 4


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.5}, {"top_k": 12}, {"top_p": 0.6}], ids=str)
def test_frequencies_are_the_probabilities(open_any, tiny_model, tiny_family, prompts, sampling):
    log = first_distribution(tiny_family, tiny_model, prompts["image"], sampling.get("temperature", 1.0))
    probabilities = log.exp()
    ranked = log.argsort(descending=True)
    if "top_k" in sampling:
        probabilities[ranked[sampling["top_k"] :]] = 0
    if "top_p" in sampling:
        mass = probabilities[ranked]
        probabilities[ranked[mass.cumsum(0) - mass >= sampling["top_p"]]] = 0
    expected = 4000 * (probabilities / probabilities.sum()).numpy()
    request = Request("r", prompts["image"], 4000, Sampling(max_new_tokens=1, **sampling), 11)
    drawn = [int(turn.response_ids[0]) for turn in turns_of(generate(open_any(tiny_model), [request]))]
    counts = np.bincount(drawn, minlength=len(expected))
    assert counts[expected == 0].sum() == 0
    assert not exceeds_chi_square(counts, expected)
    shuffled = np.roll(expected, 7)  # the test can tell a wrong distribution
    assert exceeds_chi_square(counts, shuffled)


def test_loaded_weights_take_effect(open_any, tiny_family, tiny_model, tiny_checkpoint, prompts):
    other = tiny_family.load_model(tiny_checkpoint, dtype=torch.float32, attention="sdpa", trust_remote_code=False)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    engine, requests = open_any(tiny_model), requests_for(prompts)
    before = tokens_of(generate(engine, requests))
    engine.update_weights(1, ((name, p.detach().clone()) for name, p in other.named_parameters()))
    after = tokens_of(generate(engine, requests))
    assert after == tokens_of(generate(open_any(other), requests)) != before


def test_weights_of_another_model_are_refused(open_any, tiny_model, prompts):
    engine, requests = open_any(tiny_model), requests_for(prompts)
    before = tokens_of(generate(engine, requests))
    own = {name: p.detach().clone() for name, p in tiny_model.named_parameters()}
    for bad in (("model.nothing", torch.zeros(1)), ("model.language_model.norm.weight", torch.zeros(1))):
        with pytest.raises(ConfigError, match=bad[0]):
            engine.update_weights(1, [bad, *own.items()])
        assert engine.version == 0
    engine.update_weights(1, own.items())
    assert engine.version == 1 and tokens_of(generate(engine, requests)) == before


def test_versions_only_grow(open_any, tiny_model):
    engine = open_any(tiny_model)
    engine.update_weights(3, [])
    engine.update_weights(3, [])
    with pytest.raises(ConfigError, match="version 2"):
        engine.update_weights(2, [])
    assert engine.version == 3


def test_sleeping_changes_nothing(open_any, tiny_model, prompts):
    engine, requests = open_any(tiny_model), requests_for(prompts)
    before = tokens_of(generate(engine, requests))
    engine.sleep()
    engine.wake()
    assert tokens_of(generate(engine, requests)) == before


def test_the_model_is_left_as_it_was(open_any, tiny_model, prompts):
    for training in (True, False):
        tiny_model.train(training)
        generate(open_any(tiny_model), requests_for(prompts))
        assert tiny_model.training is training
    assert all(parameter.grad is None for parameter in tiny_model.parameters())


def test_a_request_that_fails_changes_no_other(open_any, pushed, tiny_family, prompts):
    model = pushed({tiny_family.stop_token_ids[0]: 3.5})
    readable = {name: prompt for name, prompt in prompts.items() if name not in ("image", "both")}
    requests = {request.id: request for request in requests_for(prompts)}
    for batch_tokens in (1, 200, 65_536):
        engine = open_any(model, batch_tokens, load=load_none_of(prompts, ("image", "both")))
        engine.submit(list(requests.values()))
        found = {result.request.id: result.trajectories for result in finished(engine) if result.fault is None}
        alone = generate(open_any(model, batch_tokens), [requests[name] for name in readable])
        assert tokens_of([found[name] for name in readable]) == tokens_of(alone)


def test_a_cancelled_request_changes_no_random_number_of_the_others(open_any, pushed, tiny_family, prompts):
    model = pushed({tiny_family.stop_token_ids[0]: 3.0})
    requests = requests_for(prompts, n=4)
    whole = generate(open_any(model), requests)
    engine = open_any(model)
    tickets = engine.submit(requests)
    results = finished(engine)
    came = {(first := next(results)).ticket: first.trajectories}
    engine.cancel([gone := next(ticket for ticket in tickets if ticket not in came)])
    came |= {result.ticket: result.trajectories for result in results}
    assert set(tickets) - set(came) == {gone}
    for ticket, group in zip(tickets, whole, strict=True):
        assert ticket == gone or tokens_of([came[ticket]]) == tokens_of([group])


def test_tokens_carry_the_version_of_the_weights_that_drew_them(open_any, pushed, tiny_family, prompts):
    engine = open_any(pushed({tiny_family.stop_token_ids[0]: 4.0}))
    engine.update_weights(7, [])
    engine.submit(requests_for(prompts, n=2, max_new_tokens=60))
    results = finished(engine)
    first = next(results)
    engine.update_weights(9, [])
    turns = [trajectory.last for result in (first, *results) for trajectory in result.trajectories]
    for turn in turns:
        if turn.versions is not None:
            assert turn.versions.shape == turn.response_ids.shape
            assert (np.diff(turn.versions) >= 0).all() and set(turn.versions.tolist()) <= {7, 9}
    assert all(
        trajectory.last.versions is None or set(trajectory.last.versions) == {7} for trajectory in first.trajectories
    )


def test_a_stop_string_ends_a_response_with_the_token_that_completes_it(open_any, tiny_model, tiny_family, prompts):
    decode = tiny_family.tokenizer.decode
    plain = turns_of(generate(open_any(tiny_model), requests_for(prompts, n=4, max_new_tokens=24)))
    # From the middle of one token to the middle of another, in the text of a response; and one that is never said.
    text = plain[0].text
    string = next(text[i : i + 4] for i in range(6, len(text)) if "\ufffd" not in text[i : i + 4] and len(text) > i + 4)
    stopped = turns_of(
        generate(open_any(tiny_model), requests_for(prompts, n=4, max_new_tokens=24, stop=("never said", string)))
    )
    assert any(len(short.response_ids) < len(long.response_ids) for short, long in zip(stopped, plain, strict=True))
    for short, long in zip(stopped, plain, strict=True):
        ids = long.response_ids.tolist()
        lengths = [k for k in range(1, len(ids) + 1) if string in decode(ids[:k])]
        expected = lengths[0] if lengths else len(ids)
        assert short.response_ids.tolist() == ids[:expected]
        np.testing.assert_allclose(short.logprobs, long.logprobs[:expected], rtol=0, atol=1e-5)
        if lengths:
            assert short.finish == "stop" and string in short.text
        else:
            assert (short.finish, short.text) == (long.finish, long.text)


def test_a_stop_string_may_end_within_a_token_or_take_several(open_any, pushed, tiny_family, prompts):
    tokenizer = tiny_family.tokenizer
    letters = tokenizer("é日", add_special_tokens=False)["input_ids"]
    assert len(letters) > 2, "each letter is several tokens"
    model = pushed(dict.fromkeys(letters, 8.0))
    texts = {string: [] for string in ("é", "日", "\ufffd")}
    for string, found in texts.items():
        for turn in turns_of(generate(open_any(model), requests_for(prompts, n=8, max_new_tokens=30, stop=(string,)))):
            ids = turn.response_ids.tolist()
            ends = [k for k in range(1, len(ids) + 1) if string in tokenizer.decode(ids[:k])]
            assert ends in ([], [len(ids)]), "it ends with the token that completes the string"
            assert (turn.finish == "stop") == bool(ends or ids[-1] in tiny_family.stop_token_ids)
            found += ends
    assert texts["é"] and texts["日"], "both were said"


def test_a_prompt_that_is_too_long_fails_alone_if_it_fails(open_any, tiny_model, tiny_family, prompts):
    long = make_prompt(tiny_family, "What moves? " * 2400)
    assert len(long) > 2 * 4096 + 1024
    engine = open_any(tiny_model, batch_tokens=4096)
    expected = tokens_of(generate(engine, requests_for(prompts)))
    tickets = engine.submit([Request("long", long, 2, Sampling(max_new_tokens=2), 0), *requests_for(prompts)])
    found = {result.ticket: result for result in finished(engine)}
    assert sorted(found) == sorted(tickets)
    first, *others = (found[ticket] for ticket in tickets)
    assert tokens_of([result.trajectories for result in others]) == expected
    assert isinstance(first.fault, DataError) if first.fault else len(first.trajectories) == 2


def test_a_prompt_without_a_token_is_refused(prompts):
    nothing = replace(prompts["text"], token_ids=prompts["text"].token_ids[:0])
    with pytest.raises(DataError, match="request 'r': its prompt has no token"):
        Request("r", nothing, 1, Sampling(), 0)


def test_what_is_said_so_far_is_the_beginning_of_what_is_said(open_any, tiny_model, prompts):
    engine = open_any(tiny_model)
    if not hasattr(engine, "partial"):
        pytest.skip("an optional method")
    requests = requests_for(prompts, n=3, max_new_tokens=20)
    tickets = engine.submit(requests)
    seen, found = {ticket: [] for ticket in tickets}, {}
    for result in engine.results():
        if result is not None:
            found[result.ticket] = tokens_of([result.trajectories])[0]
        for ticket in set(tickets) - set(found):
            seen[ticket].append([list(ids) for ids in engine.partial(ticket)])
    for ticket, whole in found.items():
        for moment in seen[ticket]:
            assert len(moment) == 3
            assert all(ids == final[: len(ids)] for ids, final in zip(moment, whole, strict=True))
    assert any(any(ids for ids in moment) for moments in seen.values() for moment in moments)


def test_counters_grow_with_what_is_done(open_any, tiny_model, prompts):
    engine = open_any(tiny_model)
    if not hasattr(engine, "stats"):
        pytest.skip("an optional method")
    before = engine.stats()
    groups = generate(engine, requests_for(prompts, n=3))
    after = engine.stats()
    assert all(isinstance(value, float) for value in after.values())
    assert all(after[name] >= value for name, value in before.items())
    said = sum(len(turn.response_ids) for turn in turns_of(groups))
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
    assert grown.get("new_tokens", said) == said
    if {"prompt_tokens", "cached_tokens", "prefilled_tokens"} <= after.keys():
        assert grown["prompt_tokens"] == grown["cached_tokens"] + grown["prefilled_tokens"]
