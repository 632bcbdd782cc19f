"""How the local engine draws, by itself."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easyvideor1.engines.engine import Sampling
from easyvideor1.engines.local import LocalEngine, _draw, _truncate, _uniforms, open_engine
from easyvideor1.types import ConfigError

LOGITS = st.lists(st.one_of(st.just(-np.inf), st.floats(-30, 30)), min_size=2, max_size=40).filter(
    lambda values: any(np.isfinite(values))
)
UNIFORM = st.one_of(st.sampled_from([0.0, 0.5, 1 - 2**-53]), st.floats(0, 1, exclude_max=True))


@given(LOGITS, UNIFORM, st.integers(0, 45), st.floats(0.01, 1.0))
def test_what_is_impossible_is_never_drawn(values, uniform, top_k, top_p):
    logits = torch.tensor(values, dtype=torch.float32)[None, None]
    ids, logprobs = _draw(logits, np.array([[uniform]]), Sampling(top_k=top_k, top_p=top_p))
    assert np.isfinite(values[ids[0, 0]]) and np.isfinite(logprobs[0, 0])
    assert logprobs[0, 0] == pytest.approx(torch.log_softmax(logits, -1)[0, 0, ids[0, 0]].item())


@given(st.lists(st.integers(0, 3), min_size=2, max_size=30), st.integers(1, 30))
def test_exactly_top_k_stay_and_ties_go_by_token_id(levels, top_k):
    """Half precision makes ties common: top_k = 1 must still be the one token that greedy takes."""
    probabilities = torch.softmax(torch.tensor(levels, dtype=torch.float32), -1)
    kept = _truncate(probabilities[None, None], Sampling(top_k=top_k))[0, 0]
    expected = sorted(range(len(levels)), key=lambda i: (-levels[i], i))[:top_k]
    assert torch.nonzero(kept)[:, 0].tolist() == sorted(expected)
    assert torch.equal(kept[expected], probabilities[expected])
    if top_k == 1:
        assert expected == [int(probabilities.argmax())]


def test_top_p_keeps_the_token_that_crosses_the_line():
    probabilities = torch.tensor([0.1, 0.4, 0.3, 0.2])[None, None]
    for top_p, kept in ((0.39, [1]), (0.41, [1, 2]), (0.69, [1, 2]), (0.95, [0, 1, 2, 3])):
        assert torch.nonzero(_truncate(probabilities, Sampling(top_p=top_p))[0, 0])[:, 0].tolist() == kept
    # top_p counts the mass that top_k left: 0.4 of 0.7 is more than a half.
    both = _truncate(probabilities, Sampling(top_k=2, top_p=0.5))
    assert torch.nonzero(both[0, 0])[:, 0].tolist() == [1]


def test_uniforms_depend_on_seed_and_response_and_begin_alike():
    long, short = _uniforms(7, 2, 100), _uniforms(7, 2, 10)
    assert np.array_equal(long[:10], short)
    assert len({tuple(_uniforms(seed, i, 4)) for seed in (0, 1, 2**63 - 1, -1) for i in range(3)}) == 12
    assert abs(_uniforms(1, 0, 20_000).mean() - 0.5) < 0.01


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
