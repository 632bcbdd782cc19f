"""What the two halves of a family allow: tower and language model in pieces, without a word of the family."""

import pytest
import torch
from benchmarks.family_cases import CASES, load_noise, render_case
from benchmarks.float64 import in_float64
from transformers import DynamicCache

from easyvideor1.families.family import Embeddings, VisualFeatures, load_family
from easyvideor1.families.inputs import load_media
from easyvideor1.families.vision_tower import hidden_states

pytestmark = pytest.mark.model


def features_medium_by_medium(family, model, frames):
    """The tower called once for each medium, in place of once for all."""
    parts = [family.encode(model, family.visual_inputs([each])) for each in frames]
    layers = zip(*(part.deepstack for part in parts), strict=True)
    return VisualFeatures(torch.cat([part.tokens for part in parts]), tuple(torch.cat(layer) for layer in layers))


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "qwen3_5", "glm4v"])
@torch.no_grad()
def test_a_prefill_in_chunks_is_the_whole(family_checkpoints, glm_checkpoint, name) -> None:
    outside = "tests.families.glm4v:Glm4V" if name == "glm4v" else ""
    checkpoint = {**family_checkpoints, "glm4v": glm_checkpoint}[name]
    family = load_family(checkpoint, name=outside)
    model = family.load_model(checkpoint, dtype=torch.float32, attention="sdpa", trust_remote_code=False).eval()
    prompt = render_case(family, CASES["interleaved"])
    frames = load_media(prompt, load_noise)
    ids = torch.from_numpy(prompt.token_ids)[None]
    positions = torch.from_numpy(family.positions(prompt)[0])[:, None]
    with in_float64(model):
        whole = hidden_states(family, model, ids, positions, None, family.visual_inputs(frames))
        embeddings = family.embed(model, ids, features_medium_by_medium(family, model, frames))
        assert len(embeddings.deepstack) == (2 if name == "qwen3_vl" else 0)
        inside = prompt.spans[1].start + 1  # a chunk ends within a span of visual tokens
        cache, parts = DynamicCache(config=model.config.get_text_config()), []
        for start, stop in ((0, inside), (inside, inside + 2), (inside + 2, len(prompt))):
            # Keys of earlier chunks are seen whole, those of its own up to itself.
            mask = torch.ones(len(prompt), stop, dtype=torch.bool).tril()[None, None, start:stop]
            chunk = embeddings.columns(start, stop)
            parts.append(family.decode(model, chunk, positions[:, :, start:stop], mask, cache))
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-9)


def test_columns_keep_the_features_of_their_tokens() -> None:
    visual = torch.tensor([[True, False, True, True], [False, True, True, False]])
    tokens, layer = torch.arange(16.0).view(2, 4, 2), torch.arange(5.0)[:, None]
    found = Embeddings(tokens, visual, (layer,)).columns(1, 3)
    assert torch.equal(found.tokens, tokens[:, 1:3]) and torch.equal(found.visual, visual[:, 1:3])
    assert found.deepstack[0].squeeze(1).tolist() == [1.0, 3.0, 4.0]
    assert Embeddings(tokens).columns(1, 3).visual is None
