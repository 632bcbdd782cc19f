"""Hidden states and logits against the whole transformers forward."""

import copy

import numpy as np
import pytest
import torch

from easyvideor1.families.family import load_family
from easyvideor1.families.inputs import load_media
from easyvideor1.families.vision_tower import hidden_states
from easyvideor1.packing.micro_batch import collate
from easyvideor1.packing.prefix_tree import build_forest, pack_turns
from easyvideor1.types import DataError
from tiny import load_frames, make_plan, make_prompt, make_turn, random_turns

pytestmark = pytest.mark.model

IMAGE = make_plan("image", height=64, width=96)
VIDEO = make_plan("video", frames=5, seed=1)
CASES = {
    "text": ["What moves?"],
    "image": ["<image>What is it?", IMAGE],
    "video": ["<video>What moves?", VIDEO],
    "mixed": ["See <image> and <video> and <image>.", IMAGE, VIDEO, make_plan("image", seed=2)],
}


@pytest.fixture(scope="module")
def prompts(tiny_family):
    return {name: make_prompt(tiny_family, text, *plans) for name, (text, *plans) in CASES.items()}


def reference_logits(model, family, prompt, response):
    """What transformers computes from ids, pixels and token types alone, for one unpadded sequence."""
    ids = torch.from_numpy(np.concatenate([prompt.token_ids, response]))[None]
    inputs = {"mm_token_type_ids": (ids == family.image_token_id).int() + 2 * (ids == family.video_token_id).int()}
    media = load_media(prompt, load_frames)
    for kind, pixels, grid in (
        ("image", "pixel_values", "image_grid_thw"),
        ("video", "pixel_values_videos", "video_grid_thw"),
    ):
        visual = family.visual_inputs([frames for frames in media if frames.plan.kind == kind])
        if visual is not None:
            inputs |= {pixels: visual.pixel_patches, grid: visual.grid_thw}
    model.model.rope_deltas = None
    return model(input_ids=ids, **inputs).logits[0]


def count_tower_calls(model):
    calls = []
    model.model.visual.register_forward_hook(lambda *_: calls.append(1))
    return calls


def forward(model, family, batch):
    hidden = hidden_states(family, model, batch.input_ids, batch.positions, batch.attention_mask(), batch.visual)
    return family.logits(model, hidden)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_logits_are_those_of_transformers(tiny_family, tiny_model, prompts, case):
    (turn,) = random_turns(prompts[case], [6], seed=4)
    batch = collate(pack_turns([turn], share_prefix=True), tiny_family, load_frames)
    ours = forward(tiny_model, tiny_family, batch)[0]
    theirs = reference_logits(tiny_model, tiny_family, turn.prompt, turn.response_ids[:-1])
    assert theirs.abs().max() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_mixed_batch_is_its_rows_and_calls_the_tower_once(tiny_family, tiny_model, prompts):
    turns = [turn for prompt in prompts.values() for turn in random_turns(prompt, [5], seed=len(prompt))]
    expected = [reference_logits(tiny_model, tiny_family, turn.prompt, turn.response_ids[:-1]) for turn in turns]
    calls = count_tower_calls(tiny_model)
    batch = collate(pack_turns(turns, share_prefix=True), tiny_family, load_frames)
    logits = forward(tiny_model, tiny_family, batch)
    assert len(calls) == 1
    for columns, theirs in zip(build_forest(turns).columns, expected, strict=True):
        torch.testing.assert_close(logits[0, columns], theirs, rtol=0, atol=1e-5)


@torch.no_grad()
def test_pixels_reach_the_logits(tiny_family, tiny_model, prompts):
    turns = random_turns(prompts["video"], [3], seed=0)
    batch = collate(pack_turns(turns, share_prefix=True), tiny_family, load_frames)
    other = copy.copy(batch.visual)
    other = type(other)(other.pixel_patches.flip(0), other.grid_thw)
    hidden = [
        hidden_states(tiny_family, tiny_model, batch.input_ids, batch.positions, batch.attention_mask(), visual)
        for visual in (batch.visual, other)
    ]
    assert (hidden[0] - hidden[1])[0, -1].abs().max() > 1e-3


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_both_attentions_hide_the_same(tiny_checkpoint, tiny_family, tiny_model, prompts, attention):
    """Eager attention adds its mask, sdpa selects by it; responses of one row must not see each other in either."""
    model = tiny_family.load_model(
        tiny_checkpoint, dtype=torch.float32, attention=attention, trust_remote_code=False
    ).eval()
    turns = random_turns(prompts["mixed"], [4, 6], seed=5)
    batch = collate(pack_turns(turns, share_prefix=True), tiny_family, load_frames)
    logits = forward(model, tiny_family, batch)
    theirs = reference_logits(tiny_model, tiny_family, turns[1].prompt, turns[1].response_ids[:-1])
    torch.testing.assert_close(logits[0, build_forest(turns).columns[1]], theirs, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_visual_token_without_a_feature_is_refused(tiny_family, tiny_model, prompts):
    turn = make_turn(prompts["image"], [40, tiny_family.image_token_id, 41])
    batch = collate(pack_turns([turn], share_prefix=True), tiny_family, load_frames)
    with pytest.raises(DataError, match="7 visual tokens but 6 visual features"):
        forward(tiny_model, tiny_family, batch)


@torch.no_grad()
def test_checkpoint_and_model_agree_about_groups(tiny_family, tiny_model):
    groups = tiny_family.groups(tiny_model)
    owned = [{id(p) for module in modules for p in module.parameters()} for modules in groups.values()]
    assert set(groups) == {"vision", "merger", "language"}
    assert set().union(*owned) == {id(p) for p in tiny_model.parameters()}
    assert sum(map(len, owned)) == len(set().union(*owned))


def test_loading_says_what_is_missing(tiny_checkpoint):
    assert load_family(str(tiny_checkpoint)).geometry.factor == 32
