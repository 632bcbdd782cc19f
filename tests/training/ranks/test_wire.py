"""What ranks send each other comes out as it was, in few bytes, and nothing twice."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.scaleout_bytes import turns_of, video_prompt

from easyvideor1.training.ranks.wire import Receiver, Sender, packed, unpacked


def same_turn(found, wanted) -> None:
    """Whether a turn is as it was, but for its texts."""
    assert np.array_equal(found.prompt.token_ids, wanted.prompt.token_ids)
    assert found.prompt.token_ids.dtype == np.int64
    assert (found.prompt.plans, found.prompt.spans) == (wanted.prompt.plans, wanted.prompt.spans)
    for name in ("response_ids", "response_mask", "logprobs", "versions"):
        mine, theirs = getattr(found, name), getattr(wanted, name)
        assert np.array_equal(mine, theirs) and mine.dtype == theirs.dtype, name


def test_what_was_sent_is_not_sent_again_and_is_the_same_object() -> None:
    turns = turns_of(video_prompt(1), [300, 200])
    sender, receiver = Sender(), Receiver()
    first, again = sender.pack(turns), sender.pack([turns, "again"])
    assert len(again) < len(first) / 10
    one, (other, _) = receiver.unpack(first), receiver.unpack(again)
    assert one[0].prompt is one[1].prompt is other[0].prompt
    assert one[1].response_ids is other[1].response_ids


def test_to_begin_anew_drops_what_is_not_sent_again() -> None:
    old, kept, new = (turns_of(video_prompt(seed), [100], seed) for seed in (1, 2, 3))
    sender, receiver = Sender(), Receiver()
    first = sender.pack(old + kept)
    later = [sender.pack(kept + new, anew=True), sender.pack(kept), sender.pack(old, anew=True)]
    assert len(later[1]) < len(first) / 10, "it was still there"
    assert len(later[2]) > len(first) / 4, "it was dropped"
    for data, wanted in zip([first, *later], [old + kept, kept + new, kept, old], strict=True):
        for one, other in zip(receiver.unpack(data), wanted, strict=True):
            same_turn(one, other)
    assert len(receiver._parts) == len(sender._numbers) == 5  # of the last call alone: prompt and four arrays


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool, torch.bfloat16])
def test_tensors_and_their_views_come_out_as_they_were(dtype) -> None:
    whole = torch.arange(-50, 50).to(dtype)
    values = {"view": whole[10:20], "turned": whole.reshape(10, 10).T, "one": whole[3], "none": whole[:0]}
    for found in (unpacked(packed(values)), Receiver().unpack(Sender().pack(values))):
        for name, tensor in values.items():
            assert found[name].dtype == dtype and torch.equal(found[name], tensor), name


def test_a_view_takes_no_more_than_its_own_bytes() -> None:
    noise = torch.randn(100_000)
    assert len(packed(noise[:100])) < 800


def test_numbers_that_need_64_bits_keep_them() -> None:
    wide = np.array([2**40, -1] * 20)
    assert np.array_equal(unpacked(packed(wide)), wide)
    turn = replace(turns_of(video_prompt(1), [50])[0], response_ids=wide)
    assert np.array_equal(unpacked(packed(turn)).response_ids, wide)
