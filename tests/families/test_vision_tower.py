"""Frames of one size go through the vision tower's attention together, and come out as they would alone."""

import pytest
import torch
from benchmarks.family_cases import CASES, load_noise, render_case

from easyvideor1.config import ModelConfig
from easyvideor1.families import vision_tower as tower_
from easyvideor1.families.family import VisualInputs, load_family
from easyvideor1.families.inputs import load_media
from easyvideor1.families.tiny import TINY_FAMILIES
from easyvideor1.policy.memory_savings import prepare_training
from easyvideor1.types import ConfigError

pytestmark = pytest.mark.model


def features_and_gradients(family, model, visual):
    seen = tower_.visual_features(family, model, visual)
    parts = (seen.tokens, *seen.deepstack)
    sum((part * torch.linspace(-1, 1, part.numel()).view_as(part).sin()).sum() for part in parts).backward()
    grads = {name: p.grad for name, p in model.model.visual.named_parameters() if p.grad is not None}
    return [part.detach() for part in parts], grads


@pytest.mark.parametrize("name", TINY_FAMILIES)
def test_features_and_gradients_are_those_of_one_call_per_frame(name, family_checkpoints):
    """Pictures of three sizes and videos between them; for Qwen2.5-VL, windows of several sizes too."""
    family = load_family(family_checkpoints[name])
    prompt = render_case(family, CASES["interleaved"])
    visual = family.visual_inputs(load_media(prompt, load_noise))
    found = []
    for attention in (tower_.BATCHED_FRAMES, "sdpa"):
        model = family.load_model(
            family_checkpoints[name], dtype=torch.float32, attention="sdpa", trust_remote_code=False
        )
        assert model.model.visual.config._attn_implementation == tower_.BATCHED_FRAMES
        model.model.visual.config._attn_implementation = attention
        found.append(features_and_gradients(family, model, visual))
    (ours, grads), (theirs, wanted) = found
    for mine, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, right, rtol=0, atol=1e-5)
    assert grads.keys() == wanted.keys() and len(grads) > 10
    norm = sum(float(grad.square().sum()) for grad in wanted.values()) ** 0.5
    assert sum(float((grads[n] - wanted[n]).square().sum()) for n in wanted) ** 0.5 < 1e-5 * norm


def test_a_run_of_equal_frames_is_one_call(family_checkpoints, monkeypatch):
    family = load_family(family_checkpoints["qwen3_vl"])
    model = family.load_model(
        family_checkpoints["qwen3_vl"], dtype=torch.float32, attention="sdpa", trust_remote_code=False
    )
    calls = []
    plain = torch.nn.functional.scaled_dot_product_attention

    def counting(query, *arguments, **options):
        calls.append(query.shape[0])
        return plain(query, *arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counting)
    prompt = render_case(family, CASES["long video"])
    family.encode(model, family.visual_inputs(load_media(prompt, load_noise)))
    assert calls == [prompt.plans[0].grid[0]] * len(model.model.visual.blocks)


@pytest.mark.parametrize("name", TINY_FAMILIES)
def test_chunks_of_frames_give_the_same_features_and_gradients(name, family_checkpoints):
    family = load_family(family_checkpoints[name])
    prompt = render_case(family, CASES["interleaved"])
    visual = family.visual_inputs(load_media(prompt, load_noise))
    found, calls = [], []
    for chunk in (0, 8):
        model = family.load_model(
            family_checkpoints[name], dtype=torch.float32, attention="sdpa", trust_remote_code=False
        )
        model.vision_chunk = chunk
        model.model.visual.register_forward_pre_hook(lambda *_, chunk=chunk: calls.append(chunk))
        found.append(features_and_gradients(family, model, visual))
    chunks = len(tower_.frame_chunks(visual, 8 * family.geometry.merge_size**2))
    assert chunks > 2 and calls == [0] + [8] * 2 * chunks, "each is computed again for its backward pass"
    (whole, wanted), (parts, grads) = found
    for mine, right in zip(parts, whole, strict=True):
        torch.testing.assert_close(mine, right, rtol=0, atol=1e-5)
    assert grads.keys() == wanted.keys()
    norm = sum(float(grad.square().sum()) for grad in wanted.values()) ** 0.5
    assert sum(float((grads[n] - wanted[n]).square().sum()) for n in wanted) ** 0.5 < 1e-5 * norm


@pytest.mark.parametrize("name", ("feature_cache", "independent_steps"))
def test_a_tower_whose_frames_depend_on_others_runs_in_no_chunks(name, tiny_family, tiny_model, monkeypatch):
    monkeypatch.setattr(tiny_family, name, False, raising=False)
    with pytest.raises(
        ConfigError, match=r"model\.vision_chunk is 8, and in the vision tower of Qwen3VL frames depend"
    ):
        prepare_training(tiny_family, tiny_model, ModelConfig(path="x", vision_chunk=8))


def test_media_are_cut_between_steps():
    grid = torch.tensor([[1, 4, 4], [5, 2, 4], [1, 8, 8]])
    visual = VisualInputs(torch.arange(16 + 40 + 64)[:, None].float(), grid)
    chunks = tower_.frame_chunks(visual, 34)
    assert [chunk.grid_thw.tolist() for chunk in chunks] == [[[1, 4, 4], [2, 2, 4]], [[3, 2, 4]], [[1, 8, 8]]]
    assert [len(chunk.pixel_patches) for chunk in chunks] == [32, 24, 64]
    assert torch.equal(torch.cat([chunk.pixel_patches for chunk in chunks]), visual.pixel_patches)


@pytest.mark.parametrize("name", TINY_FAMILIES)
def test_in_bfloat16_its_activations_are_too(name, family_checkpoints):
    """And features and gradients are those of float32, as near as eight bits are."""
    family = load_family(family_checkpoints[name])
    prompt = render_case(family, CASES["interleaved"])
    visual = family.visual_inputs(load_media(prompt, load_noise))
    found, types = [], []
    for dtype in (torch.bfloat16, torch.float32):
        model = family.load_model(
            family_checkpoints[name], dtype=torch.float32, attention="sdpa", trust_remote_code=False
        )
        for block in model.model.visual.blocks:
            block.attn.register_forward_hook(lambda module, inputs, out, dtype=dtype: types.append((dtype, out.dtype)))
            block.register_forward_hook(lambda module, inputs, out, dtype=dtype: types.append((dtype, out.dtype)))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            found.append(features_and_gradients(family, model, visual))
    assert set(types) == {(dtype, dtype) for dtype in (torch.bfloat16, torch.float32)}
    (ours, grads), (exact, wanted) = found
    for mine, right in zip(ours, exact, strict=True):
        assert (mine.float() - right).norm() < 0.05 * right.norm()
    norm = sum(float(grad.square().sum()) for grad in wanted.values()) ** 0.5
    assert sum(float((grads[n] - wanted[n]).square().sum()) for n in wanted) ** 0.5 < 0.1 * norm
