"""A group in one row equals its responses in rows of their own: log-probabilities and gradients."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.qwen3_vl import modeling_qwen3_vl

from easyvideor1.models import logprobs
from easyvideor1.models.logprobs import response_logprobs
from easyvideor1.models.pack import PackedTurns, collate, load_media, pack_turns, split_rows, to_device
from easyvideor1.types import DataError, Frames, Prompt
from tiny import load_frames, make_plan, make_prompt, make_turn, random_turns

pytestmark = pytest.mark.model


def in_float64(model, monkeypatch):
    """The model in float64 throughout: transformers rounds to float32 in RMSNorm and in the tower's rotation."""

    def rotate(q, k, cos, sin):
        def half(x):
            first, second = x.chunk(2, dim=-1)
            return torch.cat([-second, first], dim=-1)

        cos, sin = cos.unsqueeze(-2).double(), sin.unsqueeze(-2).double()
        return q * cos + half(q) * sin, k * cos + half(k) * sin

    monkeypatch.setattr(modeling_qwen3_vl, "apply_rotary_pos_emb_vision", rotate)
    for name, module in list(model.named_modules()):
        if type(module).__name__ == "Qwen3VLTextRMSNorm":
            exact = torch.nn.RMSNorm(module.weight.shape, eps=module.variance_epsilon)
            exact.weight = module.weight
            model.set_submodule(name, exact)
    return model.double()


@pytest.fixture(scope="module")
def groups(tiny_family):
    """Turns of three groups: a video with ragged responses, one of them empty; an image alone; text."""
    video = make_prompt(tiny_family, "<video>What moves?", make_plan("video", frames=5))
    image = make_prompt(tiny_family, "<image>?", make_plan("image", height=32, width=96))
    both = make_prompt(tiny_family, "<image> or <video>?", make_plan("image", seed=1), make_plan("video", frames=2))
    text = make_prompt(tiny_family, "What is red? Say it in words.")
    return [
        *random_turns(video, [5, 1, 0, 9], seed=1),
        *random_turns(image, [4], seed=2),
        *random_turns(both, [3, 3], seed=3),
        *random_turns(text, [2, 7], seed=4),
    ]


def by_turn(family, model, turns, rows, temperature=1.0):
    """Log-probabilities of every turn, whatever rows they travelled in."""
    batch = collate(rows, family, load_frames)
    values, _ = response_logprobs(family, model, batch, temperature=temperature)
    return [values[batch.sequence == n] for n in range(len(turns))]


def gradients(model, per_turn):
    """Of a sum that weighs every token differently."""
    model.zero_grad()
    weights = torch.linspace(-1, 1, sum(map(len, per_turn)), dtype=per_turn[0].dtype)
    (torch.cat(per_turn) * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def compare(family, model, turns):
    """Largest absolute difference of log-probs, and of gradients relative to the largest gradient."""
    shared = pack_turns(turns, share_prefix=True)
    separate = pack_turns(turns, share_prefix=False)
    assert len(shared) == 4 and len(separate) == len(turns)
    first, second = (by_turn(family, model, turns, rows) for rows in (shared, separate))
    assert [len(values) for values in first] == [len(turn.response_ids) for turn in turns]
    apart = max((a - b).abs().max().item() for a, b in zip(first, second, strict=True) if len(a))
    one, two = gradients(model, first), gradients(model, second)
    assert one.keys() == two.keys() and max(g.abs().max() for g in one.values()) > 1e-3
    total = torch.sqrt(sum(g.square().sum() for g in one.values()))
    return apart, (torch.sqrt(sum((one[name] - two[name]).square().sum() for name in one)) / total).item()


def test_shared_prefix_is_separate_sequences(tiny_family, tiny_model, groups):
    apart, relative = compare(tiny_family, tiny_model, groups)
    assert apart < 1e-5 and relative < 1e-4


def test_in_float64_nothing_but_the_order_of_sums_differs(tiny_family, tiny_model, groups, monkeypatch):
    apart, relative = compare(tiny_family, in_float64(tiny_model, monkeypatch), groups)
    assert apart < 1e-9 and relative < 1e-9


@torch.no_grad()
def test_padding_changes_nothing(tiny_family, tiny_model, groups):
    rows = pack_turns(groups, share_prefix=True)
    together = by_turn(tiny_family, tiny_model, groups, rows)
    for row in rows:
        alone = by_turn(tiny_family, tiny_model, groups, [row])
        for n in row.sequences:
            torch.testing.assert_close(together[n], alone[n], rtol=0, atol=1e-5)


@torch.no_grad()
def test_siblings_do_not_see_each_other(tiny_family, tiny_model, groups):
    before = by_turn(tiny_family, tiny_model, groups, pack_turns(groups, share_prefix=True))
    changed = list(groups)
    changed[0] = make_turn(groups[0].prompt, groups[0].response_ids[::-1])
    after = by_turn(tiny_family, tiny_model, changed, pack_turns(changed, share_prefix=True))
    for n in range(1, len(groups)):
        torch.testing.assert_close(before[n], after[n], rtol=0, atol=1e-6)
    assert (before[0] - after[0]).abs().max() > 1e-3


@torch.no_grad()
def test_temperature_and_banned_tokens_against_the_plain_formula(tiny_family, tiny_model, groups):
    batch = collate(pack_turns(groups, share_prefix=True), tiny_family, load_frames)
    values, spread = response_logprobs(tiny_family, tiny_model, batch, temperature=0.7)
    hidden = tiny_family.hidden_states(
        tiny_model, batch.input_ids, batch.positions, batch.attention_mask(), batch.visual
    )
    logits = tiny_model.lm_head(hidden[batch.predictor_rows, batch.predictor_columns]).double() / 0.7
    allowed = [i for i in range(logits.shape[-1]) if i not in tiny_family.visual_token_ids]
    log = torch.full_like(logits, -torch.inf)
    log[:, allowed] = logits[:, allowed] - torch.logsumexp(logits[:, allowed], -1, keepdim=True)
    expected = log[torch.arange(len(log)), batch.targets]
    torch.testing.assert_close(values.double(), expected, rtol=0, atol=1e-5)
    entropies = -(log[:, allowed].exp() * log[:, allowed]).sum(-1)
    torch.testing.assert_close(spread.double(), entropies, rtol=0, atol=1e-5)


def test_chunks_of_logits_change_nothing(tiny_family, tiny_model, groups, monkeypatch):
    rows = pack_turns(groups, share_prefix=True)
    whole = by_turn(tiny_family, tiny_model, groups, rows)
    expected = gradients(tiny_model, whole)
    monkeypatch.setattr(logprobs, "CHUNK_LOGITS", 4 * tiny_model.config.text_config.vocab_size)
    pieces = by_turn(tiny_family, tiny_model, groups, rows)
    torch.testing.assert_close(torch.cat(pieces), torch.cat(whole), rtol=0, atol=1e-6)
    found = gradients(tiny_model, pieces)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)


def test_a_response_alone_is_a_plain_causal_row(tiny_family, groups):
    (row,) = pack_turns(groups[:1], share_prefix=True)
    batch = collate([row], tiny_family, load_frames)
    prompt, response = groups[0].prompt, groups[0].response_ids
    assert batch.input_ids[0].tolist() == [*prompt.token_ids, *response[:-1]]
    assert torch.equal(batch.attention_mask()[0, 0], torch.ones(row.row_length, row.row_length).tril().bool())
    assert batch.predictor_columns.tolist() == list(range(len(prompt) - 1, len(prompt) - 1 + len(response)))
    assert batch.targets.tolist() == response.tolist()
    following = tiny_family.positions(prompt)[1]
    assert batch.positions[:, 0, len(prompt) :].tolist() == [list(range(following, following + len(response) - 1))] * 3


def test_engine_logprobs_travel_with_their_tokens(tiny_family, groups):
    prompt = groups[0].prompt
    turns = [
        make_turn(prompt, [40, 41, 42], mask=[True, False, True], logprobs=[-0.1, -0.2, -0.3]),
        make_turn(prompt, [43, 44]),
    ]
    batch = collate(pack_turns(turns, share_prefix=True), tiny_family, load_frames)
    np.testing.assert_array_equal(batch.engine_logprobs.numpy(), np.float32([-0.1, -0.2, -0.3, np.nan, np.nan]))
    assert batch.sequence.tolist() == [0, 0, 0, 1, 1]
    moved = to_device(batch, torch.device("cpu"))
    assert all(getattr(moved, f.name) is not None for f in dataclasses.fields(batch))


def test_turns_of_equal_prompts_are_grouped_by_the_prompt_object(tiny_family, groups):
    prompt = groups[0].prompt
    twin = Prompt(prompt.token_ids, prompt.media, prompt.plans, prompt.spans, prompt.text)
    turns = [make_turn(p, [40]) for p in (prompt, twin, prompt)]
    assert [row.sequences for row in pack_turns(turns, share_prefix=True)] == [(0, 2), (1,)]


@given(
    st.lists(st.tuples(st.integers(1, 60), st.lists(st.integers(0, 20), min_size=1, max_size=4)), min_size=1),
    st.integers(1, 200),
)
def test_micro_batches_hold_every_row_once_within_the_limit(shapes, limit):
    rows = [
        PackedTurns(tuple(make_turn(Prompt(np.zeros(length, np.int64)), [1] * count) for count in counts), (number,))
        for number, (length, counts) in enumerate(shapes)
    ]
    batches = split_rows(rows, limit)
    assert sorted(row.sequences for batch in batches for row in batch) == [(n,) for n in range(len(rows))]
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(row.row_length for row in batch) <= limit
    assert split_rows(rows, 10**6) == [sorted(rows, key=lambda r: (r.row_length, r.sequences))]


def test_frames_that_are_not_the_plans_are_refused(groups):
    prompt = groups[0].prompt

    def cropped(ref, plan):
        return Frames(load_frames(ref, plan).pixels[:, :32], plan)

    def other(ref, plan):
        return Frames(load_frames(ref, plan).pixels, make_plan("video", frames=5, seed=9))

    for load in (cropped, other):
        with pytest.raises(DataError, match=rf"{prompt.plans[0].digest[:12]} came as .*12 visual tokens.*cache verify"):
            load_media(prompt, load)
