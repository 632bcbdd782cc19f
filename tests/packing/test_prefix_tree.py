"""Forests of texts, and which turns travel together."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyvideor1.attention.layout import dense_mask
from easyvideor1.packing.prefix_tree import SHORTEST_SHARED, PackedTurns, build_forest, media_of, pack_turns
from easyvideor1.types import Prompt, VisualSpan
from easyvideor1.video import window
from tiny import make_plan, make_prompt, make_turn, random_turns

pytestmark = pytest.mark.model


def text_prompt(ids):
    return Prompt(np.asarray(ids, dtype=np.int64))


def text(turn):
    return [*turn.prompt.token_ids.tolist(), *turn.response_ids[:-1].tolist()]


def row_of(forest, turns):
    """The row's tokens, from the stretches."""
    return [token for s in forest.stretches for token in text(turns[s.turn])[s.start : s.stop]]


#: Turns over three tokens: their texts begin alike all the time.
words = st.lists(st.integers(1, 3), max_size=40)
some_turns = st.lists(st.tuples(words, words, st.booleans()), min_size=1, max_size=8)


def made(pieces):
    """Turns; some answer the same prompt object as the one before, some continue its text."""
    turns = []
    for ids, response, same in pieces:
        prompt = text_prompt([*ids, 9])
        if turns and same:
            before = turns[-1]
            prompt = before.prompt if len(ids) % 2 else text_prompt([*text(before), *before.response_ids[-1:], *ids, 9])
        turns.append(make_turn(prompt, response))
    return turns


@given(some_turns)
@settings(deadline=None)
def test_every_text_can_be_read_from_the_row_and_sees_itself_alone(pieces):
    turns = made(pieces)
    forest = build_forest(turns)
    row = row_of(forest, turns)
    assert len(row) == forest.layout.length <= sum(len(text(turn)) for turn in turns)
    mask = dense_mask(forest.layout.reach()[None])[0, 0]
    for turn, columns in zip(turns, forest.columns, strict=True):
        assert [row[column] for column in columns] == text(turn)
        for n, column in enumerate(columns):
            assert mask[column].nonzero().flatten().tolist() == columns[: n + 1].tolist()


@given(some_turns)
@settings(deadline=None)
def test_what_begins_alike_is_there_once(pieces):
    turns = made(pieces)
    columns = build_forest(turns).columns
    for (a, first), (b, second) in itertools.combinations(zip(turns, columns, strict=True), 2):
        pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(text(a), text(b), strict=False))
        alike = sum(1 for _ in pairs)
        shared = int((first[: min(len(first), len(second))] == second[: min(len(first), len(second))]).sum())
        # Less only by stretches that are too short to be worth a call, one per branch of the tree.
        assert alike - (SHORTEST_SHARED - 1) * len(turns) <= shared <= alike


def test_a_group_is_its_prompt_and_its_responses(tiny_family):
    prompt = make_prompt(tiny_family, "<video>What moves?", make_plan("video", frames=5))
    turns = random_turns(prompt, [5, 1, 0, 9], seed=1)
    forest = build_forest(turns)
    assert forest.layout.length == len(prompt) + 4 + 0 + 0 + 8
    assert forest.layout.stretches[0] == (0, len(prompt), forest.layout.length)
    assert PackedTurns(tuple(turns), (0, 1, 2, 3)).row_length == forest.layout.length


def test_a_conversation_shares_its_past(tiny_family):
    plan = make_plan("video", frames=3)
    first = make_prompt(tiny_family, "<video>What moves?", plan)
    turns = random_turns(first, [20, 30], seed=1)
    later = []
    for turn in turns:
        ids = np.concatenate([first.token_ids, turn.response_ids, np.arange(40, 52)])
        later.append(make_turn(dataclasses.replace(first, token_ids=ids), range(60, 75)))
    forest = build_forest([*turns, *later])
    # The last token of a first response is fed only because the conversation goes on after it.
    assert forest.layout.length == len(first) + (20 + 12 + 14) + (30 + 12 + 14)
    media = [plan for s in forest.stretches for _, plan in media_of(s, [*turns, *later][s.turn].prompt)]
    assert media == [plan]
    assert [unit.sequences for unit in pack_turns([*turns, *later], share_prefix=True)] == [(0, 1, 2, 3)]


def test_questions_about_one_video_share_it(tiny_family):
    plan, other = make_plan("video", frames=3), make_plan("video", frames=3, seed=5)
    prompts = [
        make_prompt(tiny_family, f"<video>{q}", p) for q, p in (("What?", plan), ("A red one?", plan), ("What?", other))
    ]
    turns = [turn for prompt in prompts for turn in random_turns(prompt, [4, 4], seed=len(prompt))]
    forest = build_forest(turns)
    media = [p for s in forest.stretches for _, p in media_of(s, turns[s.turn].prompt)]
    assert sorted(media, key=lambda p: p.digest) == sorted([plan, other], key=lambda p: p.digest)
    assert forest.layout.length < sum(len(p) for p in (prompts[0], prompts[2])) + len(prompts[1]) / 2 + 6 * 4


def test_the_same_tokens_over_other_pixels_are_not_the_same():
    plans = [make_plan("image", seed=seed) for seed in (0, 1)]
    ids = np.array([1] * 20 + [7] * 4 + [2] * 20)
    prompts = [Prompt(ids, (), (plan,), (VisualSpan(0, 20, 4),)) for plan in plans]
    forest = build_forest([make_turn(prompt, [3]) for prompt in prompts])
    assert forest.layout.stretches == ((0, 20, 68), (20, 44, 44), (44, 68, 68))


def test_a_medium_is_never_cut():
    plan = make_plan("video", frames=4)
    # Two texts that differ in the words between two spans of one video: shared up to where the video begins.
    prompts = [
        Prompt(
            np.array([1] * 20 + [7] * 4 + [word] * 3 + [7] * 4),
            (),
            (plan,),
            (VisualSpan(0, 20, 4), VisualSpan(0, 27, 4)),
        )
        for word in (5, 6)
    ]
    forest = build_forest([make_turn(prompt, [3]) for prompt in prompts])
    assert forest.layout.stretches == ((0, 20, 42), (20, 31, 31), (31, 42, 42))


def test_turns_stay_together_that_share_a_prompt_or_are_told_to():
    base = list(range(100, 120))
    prompts = [
        text_prompt(base),
        text_prompt(base),
        text_prompt([5, *base]),
        text_prompt([*base, 1]),
        text_prompt([*base, 2]),
    ]
    turns = [make_turn(prompt, [1, 2]) for prompt in prompts]
    packed = pack_turns(turns, share_prefix=True)
    assert [unit.sequences for unit in packed] == [(0, 1, 3, 4), (2,)]
    packed = pack_turns(turns, share_prefix=True, together=[0, 1, 1, 2, 2])
    assert [unit.sequences for unit in packed] == [(0, 1, 2, 3, 4)]
    packed = pack_turns(turns, share_prefix=False)
    assert [unit.sequences for unit in packed] == [(n,) for n in range(5)] and not any(unit.shared for unit in packed)


def test_fresh_prompts_that_begin_with_the_same_window_stay_together(tiny_family):
    """The trajectories of a group see one window behind notes of their own: its tokens are in the row once."""
    whole, geometry = make_plan("video", frames=8), tiny_family.geometry
    first, second = window(whole, 0, 2, geometry), window(whole, 2, 4, geometry)
    asked = [("<video>Note a.", first), ("<video>So far b.", first), ("<video>Note a.", second)]
    prompts = [make_prompt(tiny_family, text, plan) for text, plan in asked]
    prompts.append(make_prompt(tiny_family, "<video>Notes first.", whole))
    prompts.append(make_prompt(tiny_family, "<video>Notes last.", whole))
    turns = [make_turn(prompt, [40, 41]) for prompt in prompts]
    packed = pack_turns(turns, share_prefix=True)
    assert [unit.sequences for unit in packed] == [(0, 1), (2,), (3,), (4,)], "questions about a whole video do not"
    lengths = [len(turn.prompt) + 1 for turn in turns[:2]]
    shared = packed[0].row_length
    assert sum(lengths) - shared >= first.tokens and shared > max(lengths)
