"""Ranks that share a row's media encode all of it once, and each gets what its tokens need."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from easyvideor1.attention.sequence_parallel import SequenceRanks
from easyvideor1.families.family import VisualFeatures, VisualInputs
from easyvideor1.families.features import FeatureCache, FeatureStore, load_visual
from easyvideor1.families.split_media import load_split_visual
from tiny import load_frames, make_plan, make_prompt

pytestmark = pytest.mark.model


@pytest.fixture
def prompts(tiny_family):
    """Images and videos of several sizes; one video lacks a frame of its last step."""
    return [
        make_prompt(tiny_family, "<image><video>?", make_plan("image"), make_plan("video", frames=7, width=96)),
        make_prompt(tiny_family, "<video>", make_plan("video", frames=2, height=32, width=32)),
    ]


def wanted_of(prompts, parts):
    """Bounds of visual tokens; the first rank's part of the row has most, the last one's none."""
    total = sum(plan.tokens for prompt in prompts for plan in prompt.plans)
    bounds = [0, *(min(total, total - 4 + n) for n in range(parts - 1)), total]
    return [*bounds[:-2], total, total]


def of_rank(tiny_family, prompts, rank, ranks, load=load_frames, **options):
    place = SequenceRanks(None, rank, ranks)
    return load_split_visual(prompts, tiny_family, load, place, wanted_of(prompts, ranks), **options)


def sent(exchanges):
    """Of rank ``i`` to rank ``j``."""
    return [list(exchange.sends) for exchange in exchanges]


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_what_ranks_encode_is_what_one_encodes(tiny_family, tiny_model, prompts, ranks) -> None:
    whole = tiny_family.encode(tiny_model, load_visual(prompts, tiny_family, load_frames))
    parts = [of_rank(tiny_family, prompts, rank, ranks) for rank in range(ranks)]
    seen = [tiny_family.encode(tiny_model, part) for part in parts]
    for layer in range(1 + len(whole.deepstack)):
        pieces = [
            [each.tokens, *each.deepstack][layer][: sum(part.exchange.sends)]
            for each, part in zip(seen, parts, strict=True)
        ]
        torch.testing.assert_close(torch.cat(pieces), [whole.tokens, *whole.deepstack][layer], rtol=1e-5, atol=1e-5)
    patches = [len(part.pixel_patches) for part in parts]
    largest = max(plan.grid[1] * plan.grid[2] for prompt in prompts for plan in prompt.plans)
    assert max(patches) <= sum(patches) / ranks + largest, "no rank has a step more than its part"


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_features_go_where_they_are_wanted(tiny_family, prompts, ranks) -> None:
    exchanges = [of_rank(tiny_family, prompts, rank, ranks).exchange for rank in range(ranks)]
    columns = list(map(list, zip(*sent(exchanges), strict=True)))
    assert columns == [list(exchange.receives) for exchange in exchanges]
    bounds = wanted_of(prompts, ranks)
    assert list(map(sum, columns)) == np.diff(bounds).tolist()


def test_a_rank_reads_the_media_that_it_encodes(tiny_family, prompts) -> None:
    read = [[], []]
    for rank in range(2):
        of_rank(
            tiny_family,
            prompts,
            rank,
            2,
            load=lambda ref, plan, into=read[rank]: into.append(plan) or load_frames(ref, plan),
        )
    assert [len(plans) for plans in read] == [2, 2], "the long video is cut between them"
    assert {plan.digest for plans in read for plan in plans} == {p.digest for each in prompts for p in each.plans}


def test_cached_features_are_read_where_they_are_wanted(tiny_family, tiny_model, prompts, tmp_path) -> None:
    tiny_model.requires_grad_(False)
    cache = FeatureCache(tiny_family, tiny_model, FeatureStore(tmp_path, 1 << 30))
    whole = cache.read(prompts, load_frames)
    parts = [of_rank(tiny_family, prompts, rank, 3, features=cache) for rank in range(3)]
    assert parts[2] is None, "its part of the row is text"
    assert all(isinstance(part, VisualFeatures) for part in parts[:2])
    torch.testing.assert_close(torch.cat([part.tokens for part in parts[:2]]), whole.tokens)
    for layer, wanted in enumerate(whole.deepstack):
        torch.testing.assert_close(torch.cat([part.deepstack[layer] for part in parts[:2]]), wanted)


def test_media_that_belong_together_are_encoded_whole(tiny_family, prompts) -> None:
    """A family whose features depend on more than their medium: no step of it can be taken out."""
    joint = SimpleNamespace(feature_cache=False, visual_inputs=tiny_family.visual_inputs)
    parts = [of_rank(joint, prompts, rank, 2) for rank in range(2)]
    whole = load_visual(prompts, tiny_family, load_frames)
    assert all(
        isinstance(part, VisualInputs) and torch.equal(part.pixel_patches, whole.pixel_patches) for part in parts
    )
    bounds = wanted_of(prompts, 2)
    assert [part.repeats.tolist() for part in parts] == [list(range(*bounds[:2])), list(range(*bounds[1:]))]
    assert all(part.exchange is None for part in parts)


def test_media_whose_steps_see_each_other_stay_whole(tiny_family, prompts, monkeypatch) -> None:
    monkeypatch.setattr(tiny_family, "independent_steps", False)
    parts = [of_rank(tiny_family, prompts, rank, 2) for rank in range(2)]
    assert [part.grid_thw[:, 0].tolist() for part in parts] == [[1], [4, 1]]


def test_text_has_nothing_to_share(tiny_family) -> None:
    assert load_split_visual([make_prompt(tiny_family, "What?")], tiny_family, load_frames, None, [0, 0]) is None
