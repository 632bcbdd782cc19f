"""Rotary positions against transformers' own, on any interleaving of text, images and videos."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiny import make_plan, make_prompt

pytestmark = pytest.mark.model

MEDIA = st.builds(
    make_plan,
    st.sampled_from(["image", "video"]),
    frames=st.integers(1, 7),
    height=st.sampled_from([32, 64, 160]),
    width=st.sampled_from([32, 96, 128]),
    fps=st.sampled_from([0.5, 2.0]),
)


def rope_index(model, family, prompts):
    """``get_rope_index`` of one batch of unpadded prompts of equal length, and the next position of each."""
    plans = [plan for prompt in prompts for plan in prompt.plans]
    grids = {kind: [plan.grid for plan in plans if plan.kind == kind] for kind in ("image", "video")}
    ids = torch.from_numpy(np.stack([prompt.token_ids for prompt in prompts]))
    kinds = (ids == family.image_token_id).int() + 2 * (ids == family.video_token_id).int()
    positions, deltas = model.model.get_rope_index(
        ids,
        kinds,
        image_grid_thw=torch.tensor(grids["image"]) if grids["image"] else None,
        video_grid_thw=torch.tensor(grids["video"]) if grids["video"] else None,
    )
    return positions, deltas[:, 0] + ids.shape[1]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(media=st.lists(MEDIA, max_size=4), words=st.lists(st.sampled_from(["", "a", "what moves then"]), min_size=5))
def test_positions_are_those_of_transformers(tiny_family, _loaded_model, media, words):
    text = "".join(f"{word}<{plan.kind}>" for word, plan in zip(words, media, strict=False)) + words[-1]
    prompt = make_prompt(tiny_family, text, *media)
    expected, following = rope_index(_loaded_model, tiny_family, [prompt])
    positions, first = tiny_family.positions(prompt)
    assert positions.dtype == np.int64
    np.testing.assert_array_equal(positions, expected[:, 0].numpy())
    assert first == int(following[0])


def test_text_counts_and_a_span_advances_by_its_longer_side(tiny_family):
    prompt = make_prompt(tiny_family, "<image>?", make_plan("image", height=32, width=96))
    positions, first = tiny_family.positions(prompt)
    start = prompt.spans[0].start
    assert positions[:, start : start + 3].tolist() == [[start] * 3, [start] * 3, [start, start + 1, start + 2]]
    assert positions[:, start + 3].tolist() == [start + 3] * 3
    assert first == len(prompt)  # 3 tokens, 3 positions
