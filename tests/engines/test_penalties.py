"""Penalties of the local engine against the logits processors of transformers, token by token."""

from collections import Counter

import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from easyvideor1.engines.decoding import uniforms
from easyvideor1.engines.engine import Request, Sampling, generate
from easyvideor1.engines.local import LocalEngine
from easyvideor1.families.family import load_family
from easyvideor1.families.tiny import write_tiny_checkpoint
from easyvideor1.packing.logprobs import masked_logits, response_hidden, response_logprobs
from easyvideor1.packing.micro_batch import collate
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.types import ConfigError
from tiny import load_frames, make_plan, make_prompt

LIMIT = 24
SETTINGS = [
    {"repetition_penalty": 1.4},
    {"repetition_penalty": 0.7, "temperature": 0.6},
    {"presence_penalty": 1.5, "temperature": 0.7, "top_p": 0.8, "top_k": 20},
    {"frequency_penalty": 0.8, "temperature": 1.3},
    {"repetition_penalty": 1.2, "presence_penalty": -0.5, "frequency_penalty": 0.4, "top_p": 0.9},
]


@torch.no_grad()
def logits_along(family, model, turn):
    """The policy's logits ``(T, V)`` before every token of a turn, in one pass over the whole of it."""
    batch = collate(pack_turns([turn], share_prefix=family.shares_prefix), family, load_frames)
    return masked_logits(family, model, response_hidden(family, model, batch), 1.0).double()


def drawn_by_transformers(logits_TV, turn, sampling, seed, index):
    """The tokens that its processors and these random numbers give: repetition, then OpenAI's penalties, then cuts."""
    first = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)])
    last = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        last.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        last.append(TopPLogitsWarper(sampling.top_p))
    numbers = uniforms(seed, index, sampling.max_new_tokens)
    prompt, said, drawn = turn.prompt.token_ids.tolist(), [], []
    for step, token in enumerate(turn.response_ids.tolist()):
        before = torch.tensor([[*prompt, *said]])
        scores = first(before, logits_TV[step][None].clone())
        for earlier, times in Counter(said).items():
            scores[0, earlier] -= sampling.presence_penalty + sampling.frequency_penalty * times
        cumulative = np.cumsum(torch.softmax(last(before, scores)[0], -1).numpy())
        drawn.append(int(np.searchsorted(cumulative, numbers[step] * cumulative[-1], side="right")))
        said.append(token)
    return drawn


def turns_of(family, model, sampling, prompts, n=3):
    requests = [Request(name, prompt, n, sampling, 40 + i) for i, (name, prompt) in enumerate(prompts.items())]
    groups = generate(LocalEngine(family, model, load_frames), requests)
    return [(trajectory.turns[0], 40 + i, j) for i, group in enumerate(groups) for j, trajectory in enumerate(group)]


@pytest.fixture(scope="module")
def stateful(tmp_path_factory):
    """A family whose layers cannot branch, so that its responses have rows of their own."""
    place = write_tiny_checkpoint(
        tmp_path_factory.mktemp("penalties") / "tiny", ["What moves?"], family="qwen3_5", width=64, layers=4
    )
    family = load_family(place)
    return family, family.load_model(place, dtype=torch.float32, attention="sdpa", trust_remote_code=False).eval()


@pytest.mark.model
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_tokens_are_those_of_transformers_processors(tiny_family, pushed, prompts, settings):
    sampling = Sampling(max_new_tokens=LIMIT, **settings)
    # A peaked head repeats itself, so that penalties matter; rows end and leave the batch at different steps.
    model = pushed({tiny_family.stop_token_ids[0]: 2.0, 40: 4.0, 41: 3.5, 42: -4.0})
    found = turns_of(tiny_family, model, sampling, prompts)
    assert len({len(turn.response_ids) for turn, _, _ in found}) > 2
    changed = 0
    for turn, seed, index in found:
        logits = logits_along(tiny_family, model, turn)
        assert turn.response_ids.tolist() == drawn_by_transformers(logits, turn, sampling, seed, index)
        free = Sampling(temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k)
        changed += turn.response_ids.tolist() != drawn_by_transformers(logits, turn, free, seed, index)
    assert changed > len(found) / 2, "the penalties decide nothing here, so this test tells nothing"


@pytest.mark.model
def test_families_that_cannot_branch_are_penalised_alike(stateful):
    family, model = stateful
    assert not family.shares_prefix
    prompts = {
        "text": make_prompt(family, "What moves?"),
        "video": make_prompt(family, "<video>What moves?", make_plan(frames=3)),
    }
    sampling = Sampling(max_new_tokens=12, repetition_penalty=1.5, presence_penalty=1.0, frequency_penalty=1.0)
    for turn, seed, index in turns_of(family, model, sampling, prompts):
        logits = logits_along(family, model, turn)
        assert turn.response_ids.tolist() == drawn_by_transformers(logits, turn, sampling, seed, index)


@pytest.mark.model
@torch.no_grad()
def test_logprobs_stay_the_policys(tiny_family, tiny_model, prompts):
    sampling = Sampling(max_new_tokens=LIMIT, temperature=0.8, repetition_penalty=1.6, presence_penalty=1.0)
    turns = [turn for turn, _, _ in turns_of(tiny_family, tiny_model, sampling, prompts)]
    batch = collate(pack_turns(turns, share_prefix=True), tiny_family, load_frames)
    expected, _ = response_logprobs(tiny_family, tiny_model, batch, temperature=0.8)
    torch.testing.assert_close(batch.engine_logprobs, expected, rtol=0, atol=1e-5)


@pytest.mark.model
def test_greedy_is_without_penalties(tiny_family, tiny_model, prompts):
    plain, penalised = (
        turns_of(tiny_family, tiny_model, Sampling(greedy=True, max_new_tokens=LIMIT, **more), prompts, n=1)
        for more in ({}, {"repetition_penalty": 3.0, "presence_penalty": 2.0})
    )
    for (one, _, _), (other, _, _) in zip(plain, penalised, strict=True):
        assert one.response_ids.tolist() == other.response_ids.tolist()


@pytest.mark.parametrize(
    "wrong",
    [
        {"repetition_penalty": 0.0},
        {"repetition_penalty": float("inf")},
        {"presence_penalty": float("nan")},
        {"frequency_penalty": float("inf")},
    ],
)
def test_impossible_penalties_are_refused(wrong):
    with pytest.raises(ConfigError, match="no penalty is infinite"):
        Sampling(**wrong)
