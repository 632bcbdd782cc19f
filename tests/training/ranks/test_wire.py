"""What ranks send each other comes out as it was, in few bytes, and nothing twice."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from easyvideor1.config import StageConfig
from easyvideor1.policy.update_batch import UpdateBatch
from easyvideor1.training.ranks.messages import Call
from easyvideor1.training.ranks.wire import Receiver, Sender, packed, unpacked
from easyvideor1.types import MediaPlan, MediaRef, Prompt, Turn, VisualSpan

STAGE = StageConfig(name="grpo")


def video_prompt(seed, frames=256, tokens_per_step=128):
    """A question about a video of ``frames`` frames: a span of visual tokens behind every time."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.4, 0.6, frames))
    ids, spans = list(rng.integers(0, 150_000, 60)), []
    for _ in range(frames // 2):
        ids += [*rng.integers(0, 150_000, 7)]
        spans.append(VisualSpan(0, len(ids), tokens_per_step))
        ids += [151_656] * tokens_per_step
    ids += list(rng.integers(0, 150_000, 60))
    plan = MediaPlan(
        "video",
        f"{seed:064x}",
        tuple(range(0, 12 * frames, 12)),
        tuple(times.tolist()),
        *(448, 256),
        (frames // 2, 28, 16),
        frames // 2 * tokens_per_step,
        *(30.0, 2.0),
        f"{seed + 1:064x}",
    )
    media = (MediaRef("video", f"/data/videos/{seed:012x}.mp4"),)
    return Prompt(np.array(ids, dtype=np.int64), media, (plan,), tuple(spans), "What happens in it? " * 20)


def turns_of(prompt, lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Turn(
            prompt,
            rng.integers(0, 150_000, length),
            np.ones(length, dtype=bool),
            -rng.exponential(0.5, length).astype(np.float32),
            "stop",
            "words " * length,
            np.full(length, 7),
        )
        for length in lengths
    ]


def call(method, *arguments):
    return Call(method, arguments, {}, True, False, 1)


def same_turn(found, wanted):
    assert np.array_equal(found.prompt.token_ids, wanted.prompt.token_ids)
    assert found.prompt.token_ids.dtype == np.int64
    assert (found.prompt.plans, found.prompt.spans) == (wanted.prompt.plans, wanted.prompt.spans)
    for name in ("response_ids", "response_mask", "logprobs", "versions"):
        mine, theirs = getattr(found, name), getattr(wanted, name)
        assert np.array_equal(mine, theirs) and mine.dtype == theirs.dtype, name


def test_a_step_of_long_videos_takes_less_than_64_kb_a_sample() -> None:
    """Eight responses of 500 tokens to each of two prompts of 17,400 tokens; log-probs first, then two epochs."""
    groups = [turns_of(video_prompt(seed), [500] * 8, seed) for seed in (1, 2)]
    turns = [turn for group in groups for turn in group]
    before = list(torch.split(torch.randn(sum(len(turn.response_ids) for turn in turns)), 500))
    sender, receiver, sent = Sender(), Receiver(), 0
    calls = [call("logprobs", turns, None)]
    for _ in range(2):
        for part in (slice(0, 8), slice(8, 16)):
            advantages = torch.linspace(-1, 1, 8)
            batch = UpdateBatch.of(turns[part], advantages, STAGE, rollout_logprobs=before[part])
            calls += [call("forward_backward", batch, None), call("optimizer_step", 1)]
    for each in calls:
        data = sender.pack(each)
        sent += len(data)
        found = receiver.unpack(data)
        assert found.method == each.method
        if each.method == "forward_backward":
            mine, theirs = found.arguments[0], each.arguments[0]
            for one, other in zip(mine.turns, theirs.turns, strict=True):
                same_turn(one, other)
            for name in ("weights", "rollout_logprobs"):
                assert all(map(torch.equal, getattr(mine, name), getattr(theirs, name)))
            assert len({id(turn.prompt) for turn in mine.turns}) == 1, "its computation would not be shared"
    assert sent / len(groups) < 64_000


def test_what_was_sent_is_not_sent_again_and_is_the_same_object() -> None:
    turns = turns_of(video_prompt(1), [300, 200])
    sender, receiver = Sender(), Receiver()
    first, again = sender.pack(call("kl", turns)), sender.pack(call("values", turns))
    assert len(again) < len(first) / 10
    one, other = receiver.unpack(first).arguments[0], receiver.unpack(again).arguments[0]
    assert one[0].prompt is one[1].prompt is other[0].prompt
    assert one[1].response_ids is other[1].response_ids


def test_a_new_prompt_drops_what_the_call_is_not_about() -> None:
    old, kept, new = (turns_of(video_prompt(seed), [100], seed) for seed in (1, 2, 3))
    sender, receiver = Sender(), Receiver()
    first = sender.pack(call("kl", old + kept))
    later = [sender.pack(call("kl", kept + new)), sender.pack(call("kl", kept)), sender.pack(call("kl", old))]
    assert len(later[1]) < len(first) / 10, "it was still there"
    assert len(later[2]) > len(first) / 4, "it was dropped"
    for data, wanted in zip([first, *later], [old + kept, kept + new, kept, old], strict=True):
        found = receiver.unpack(data).arguments[0]
        for one, other in zip(found, wanted, strict=True):
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
