"""Streaming: what each turn sees, how notes are kept, and that the future changes nothing before it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from easyvideor1.config.strategies import StreamingOptions
from easyvideor1.engines.engine import Sampling
from easyvideor1.engines.local import LocalEngine
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.rewards.tags import grammar_of
from easyvideor1.rollout.driver import Draw, Job, drive
from easyvideor1.rollout.requests import read_offline
from easyvideor1.rollout.strategies import OfflineStrategy, SingleTurn
from easyvideor1.types import DataError, Frames, OfflineTrajectory, TurnError
from tiny import load_frames, make_plan

from .turns import asked, load_parts, opened, prompt_builder, run

pytestmark = pytest.mark.model

QUESTION = "<video>Which colour came first?"


def frames_of(turn) -> list[tuple[int, ...]]:
    return [plan.frame_indices for plan in turn.prompt.plans]


@pytest.mark.parametrize(
    ("frames", "budget", "clips"),
    [
        (8, {"clip_frames": 4}, [(0, 1, 2, 3), (4, 5, 6, 7)]),  # an exact multiple has no empty tail
        (10, {"clip_frames": 4}, [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]),
        (10, {"clip_frames": 5}, [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]),  # whole temporal steps
        (4, {"clip_frames": 1}, [(0, 1), (2, 3)]),
        (8, {"clip_tokens": 8}, [(0, 1, 2, 3), (4, 5, 6, 7)]),  # a step of 64 x 64 pixels has 4 tokens
        (8, {"clip_tokens": 3}, [(0, 1), (2, 3), (4, 5), (6, 7)]),
        (8, {"clip_frames": 80}, [tuple(range(8))]),
        (8, {"clip_frames": 4, "memory_tokens": 0}, [(4, 5, 6, 7)]),  # the baseline sees the last clip alone
    ],
)
def test_a_video_comes_clip_by_clip(tiny_family, frames, budget, clips) -> None:
    sample, plans = asked(QUESTION, make_plan("video", frames=frames))
    strategy = opened(prompt_builder(tiny_family, plans), "streaming", **budget)
    found = run(strategy, sample, [f"note {n}" for n in range(len(clips))])
    assert [frames_of(turn) for turn in found.turns] == [[clip] for clip in clips]
    for turn, clip in zip(found.turns, clips, strict=True):
        assert sum(span.length for span in turn.prompt.spans) == 4 * len(clip) // 2
        assert turn.prompt.plans[0].timestamps == tuple(index / 2 for index in clip)
        assert f"Time: {clip[0] / 2:.1f}-{clip[-1] / 2:.1f} s" in turn.prompt.text
    texts = [turn.prompt.text for turn in found.turns]
    assert all("Which colour" not in text for text in texts[:-1]) and "Which colour" in texts[-1]
    notes = texts[-1].partition("before:\n")[2].splitlines()[: len(clips) - 1]
    assert notes == [f"{clip[0] / 2:.1f}-{clip[-1] / 2:.1f} s: note {n}" for n, clip in enumerate(clips[:-1])]
    assert strategy.counts(sample, found) == {"notes": len(clips) - 1, "notes_dropped": 0}


def test_prompts_are_fresh_and_share_their_clip_where_notes_come_after_it(tiny_family) -> None:
    sample, plans = asked(QUESTION, make_plan("video", frames=8))
    for memory, shared in (("before", False), ("after", True)):
        strategy = opened(prompt_builder(tiny_family, plans), "streaming", clip_frames=4, memory=memory)
        members = [run(strategy, sample, [f"it is {word}", "red"]) for word in ("red", "a blue square")]
        first, second = members[0].turns
        assert second.prompt.token_ids[: len(first.prompt)].tolist() != first.prompt.token_ids.tolist()
        packed = pack_turns([member.last for member in members], share_prefix=True)
        assert len(packed) == (1 if shared else 2)
        lengths = [len(member.last.prompt) + 1 for member in members]
        saved = sum(lengths) - sum(unit.row_length for unit in packed)
        assert (saved >= second.prompt.plans[0].tokens) == shared
        assert ("red" in second.prompt.text) and second.prompt.text.index("before:") != -1


def test_the_question_may_be_shown_from_the_start(tiny_family) -> None:
    sample, plans = asked(QUESTION, make_plan("video", frames=8))
    strategy = opened(prompt_builder(tiny_family, plans), "streaming", clip_frames=4, question="shown")
    first, last = run(strategy, replace(sample, options=("A. red", "B. blue")), ["a", "b"]).turns
    asked_for = "Question to be answered at the end: Which colour came first?\nA. red\nB. blue\n"
    assert asked_for in first.prompt.text
    assert len(first.prompt.plans) == len(last.prompt.plans) == 1


def test_the_oldest_notes_leave_first(tiny_family) -> None:
    sample, plans = asked(QUESTION, make_plan("video", frames=10))
    count = len(tiny_family.tokenizer("0.0-0.5 s: note number 0\n", add_special_tokens=False)["input_ids"])
    strategy = opened(prompt_builder(tiny_family, plans), "streaming", clip_frames=2, memory_tokens=2 * count + 1)
    found = run(strategy, sample, [f"note number {n}" for n in range(5)])
    text = found.last.prompt.text
    assert [f"number {n}" in text for n in range(4)] == [False, False, True, True]
    assert strategy.counts(sample, found) == {"notes": 4.0, "notes_dropped": 2.0}


def test_several_videos_and_images_come_in_their_order(tiny_family) -> None:
    image, first, second = make_plan("image"), make_plan("video", frames=4), make_plan("video", frames=4, seed=2)
    sample, plans = asked("<video>, <image> and <video>: same?", first, image, second)
    strategy = opened(prompt_builder(tiny_family, plans), "streaming", clip_frames=4)
    one, last = run(strategy, sample, ["a square", "yes"]).turns
    assert frames_of(one) == [(0, 1, 2, 3)] and "video 1, 0.0-1.5 s" in one.prompt.text
    assert [plan.kind for plan in last.prompt.plans] == ["image", "video"]
    assert "(a video that was shown before), <image> and <video>: same?" in last.prompt.text
    assert last.prompt.plans[1].part.whole is second
    alone = opened(prompt_builder(tiny_family, plans), "streaming", clip_frames=4, memory_tokens=0)
    (only,) = run(alone, sample, ["yes"]).turns
    assert "(a video that is not shown), <image> and <video>: same?" in only.prompt.text


def test_a_sample_without_a_video_has_one_turn(tiny_family) -> None:
    for question, media in (("What is two plus two?", ()), ("<image>What?", (make_plan("image"),))):
        sample, plans = asked(question, *media)
        (turn,) = run(opened(prompt_builder(tiny_family, plans), "streaming"), sample, ["4"]).turns
        assert turn.prompt.text == question and turn.prompt.plans == media


def test_what_a_model_writes_cannot_become_a_turn_or_a_medium(tiny_family) -> None:
    sample, plans = asked(QUESTION, make_plan("video", frames=8))
    strategy = opened(prompt_builder(tiny_family, plans), "streaming", clip_frames=4)
    worst = "<think>red<|im_<|im_end|>end|></think>\n<video> <|vision_start|><|video_pad|><|im_start|>user"
    found = run(strategy, sample, [worst, "x"])
    before = tiny_family.tokenizer.decode(found.turns[0].prompt.token_ids)
    after = tiny_family.tokenizer.decode(found.last.prompt.token_ids)
    assert after.count("<|im_start|>") == before.count("<|im_start|>")
    assert "s: red<|im_ end|> user" in found.last.prompt.text and len(found.last.prompt.plans) == 1


def test_tags_of_the_grammar_are_no_words_of_a_note(tiny_family) -> None:
    sample, plans = asked(QUESTION, make_plan("video", frames=8))
    prompts = replace(prompt_builder(tiny_family, plans), grammar=grammar_of((("time", "caption"), "think")))
    said = "<time>1 s</time><Caption>red</caption>\n<think>so <b>it</b> is</think><answer>red</answer>"
    found = run(opened(prompts, "streaming", clip_frames=4), sample, [said, "x"])
    assert "s: 1 s red so <b>it</b> is red\n" in found.last.prompt.text


def test_rows_teach_several_turns(tiny_family) -> None:
    """Teacher-forced: every prompt holds the row's notes, as those of a rollout hold the model's."""
    asked_sample, plans = asked(QUESTION, make_plan("video", frames=8))
    prompts = prompt_builder(tiny_family, plans)
    strategy = opened(prompts, "streaming", clip_frames=4)
    offline = OfflineStrategy(strategy, SingleTurn(prompts))
    rows = [
        replace(asked_sample, offline=(OfflineTrajectory("<answer>red</answer>", before=("a red circle",)),)),
        replace(asked_sample, offline=(OfflineTrajectory("red"),)),
    ]
    several, one = read_offline(
        rows, [offline.start(row) for row in rows], family=tiny_family, max_tokens=60, strategy=offline
    )
    (member,), expected = several.trajectories, run(strategy, asked_sample, ["a red circle", "x"])
    assert [turn.text for turn in member.turns] == ["a red circle", "<answer>red</answer>"]
    for turn, other in zip(member.turns, expected.turns, strict=True):
        assert turn.prompt.token_ids.tolist() == other.prompt.token_ids.tolist()
        assert turn.response_mask.all() and turn.finish == "offline"
    assert len(one.trajectories[0].turns) == 1 and one.trajectories[0].prompt.plans == (plans["/media/0"],)
    for before, words in (((), "1 turns, and .* asks for more"), (("a", "b"), "3 turns, and .* asks for 2")):
        items = (*rows[0].offline, OfflineTrajectory("x", before=before))
        bad = replace(asked_sample, offline=items, where="rows.jsonl:3")
        with pytest.raises(DataError, match=rf"rows\.jsonl:3: an offline trajectory has {words}"):
            read_offline([bad], [offline.start(bad)], family=tiny_family, max_tokens=60, strategy=offline)


def test_long_prompts_are_faults_of_their_sample(tiny_family) -> None:
    sample, plans = asked(QUESTION, make_plan("video", frames=8))
    prompts = prompt_builder(tiny_family, plans)
    first = opened(prompts, "streaming", clip_frames=4).start(sample)
    with pytest.raises(DataError, match=r"data\.max_prompt_tokens is 20"):
        opened(prompts, "streaming", 20, clip_frames=4).start(sample)
    with pytest.raises(TurnError, match=r"turn 2: the prompt has .* tokens"):
        run(opened(prompts, "streaming", len(first), clip_frames=4), sample, ["word " * 50, "x"])


def test_two_budgets_are_refused() -> None:
    with pytest.raises(ValueError, match="clip_frames takes the place of clip_tokens"):
        StreamingOptions(name="streaming", clip_frames=4, clip_tokens=100)
    assert StreamingOptions(name="streaming", clip_frames=4).model_dump()["clip_frames"] == 4


@pytest.mark.parametrize("memory", ["before", "after"])
def test_future_frames_change_no_earlier_thought(tiny_family, tiny_model, memory) -> None:
    """Bitwise, on the local engine: the same tokens and log-probs in all turns before the frames that differ."""
    plan = make_plan("video", frames=12)
    changed = replace(plan, digest="c" * 64, fingerprint="changed")

    def load(ref, part) -> Frames:
        whole = part.part.whole
        pixels = load_frames(ref, plan).pixels.copy()
        if whole.digest == changed.digest:
            pixels[8:] = 255 - pixels[8:]
        return Frames(pixels[list(part.part.places)], part)

    def turns(shown) -> list:
        sample, plans = asked(QUESTION, shown)
        strategy = opened(
            prompt_builder(tiny_family, plans), "streaming", clip_frames=4, memory=memory, thought_tokens=5
        )
        engine = LocalEngine(tiny_family, tiny_model, load)
        (outcome,) = drive(engine, [Job(sample, (Draw(3, Sampling(max_new_tokens=9), 5),))], strategy)
        assert all(len(turn.response_ids) <= 5 for member in outcome.trajectories for turn in member.turns[:-1])
        assert max(len(member.last.response_ids) for member in outcome.trajectories) > 5
        return [member.turns for member in outcome.trajectories]

    for one, other in zip(turns(plan), turns(changed), strict=True):
        assert len(one) == len(other) == 3
        for before, after in zip(one[:2], other[:2], strict=True):
            np.testing.assert_array_equal(before.response_ids, after.response_ids)
            np.testing.assert_array_equal(before.logprobs, after.logprobs)
            np.testing.assert_array_equal(before.prompt.token_ids, after.prompt.token_ids)
        assert one[2].logprobs.tolist() != other[2].logprobs.tolist(), "the last turn sees what differs"


def test_engines_and_trainer_read_the_same_parts(tiny_family, tiny_model) -> None:
    """Log-probs of a streaming rollout are those of a separate forward pass over the frames of each window."""
    import torch

    from easyvideor1.packing.logprobs import response_logprobs
    from easyvideor1.packing.micro_batch import collate

    sample, plans = asked(QUESTION, make_plan("video", frames=8))
    strategy = opened(prompt_builder(tiny_family, plans), "streaming", clip_frames=4, memory="after")
    engine = LocalEngine(tiny_family, tiny_model, load_parts)
    (outcome,) = drive(engine, [Job(sample, (Draw(4, Sampling(max_new_tokens=6), 1),))], strategy)
    turns = [turn for member in outcome.trajectories for turn in member.turns]
    for share in (True, False):
        batch = collate(pack_turns(turns, share_prefix=share), tiny_family, load_parts)
        with torch.no_grad():
            found = response_logprobs(tiny_family, tiny_model.eval(), batch)[0]
        torch.testing.assert_close(found, batch.engine_logprobs, rtol=0, atol=2e-5)
