"""Forests of texts, and which turns travel together."""

import dataclasses
import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyvideor1.models.attention import dense_mask
from easyvideor1.models.packing import SHORTEST_SHARED, PackedTurns, build_forest, media_of, pack_turns, split_rows
from easyvideor1.types import Prompt, VisualSpan
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


shapes = st.lists(st.tuples(st.integers(1, 60), st.lists(st.integers(0, 20), min_size=1, max_size=4)), min_size=1)


def units_of(found):
    """Units of unrelated texts."""
    rng = random.Random(0)
    units = []
    for number, (length, counts) in enumerate(found):
        prompt = text_prompt([rng.randrange(10**6) for _ in range(length)])
        turns = tuple(make_turn(prompt, [rng.randrange(10**6) for _ in range(count)]) for count in counts)
        sequences = tuple(100 * number + index for index in range(len(turns)))
        units.append(PackedTurns(turns, sequences))
    return units


def numbers(units):
    return sorted(sequence for unit in units for sequence in unit.sequences)


@given(shapes, st.integers(1, 200))
@settings(deadline=None)
def test_micro_batches_hold_every_unit_once_within_the_limit(found, limit):
    units = units_of(found)
    batches = split_rows(units, limit)
    assert numbers(unit for batch in batches for unit in batch) == numbers(units)
    whole = {unit.sequences for unit in units}
    for batch in batches:
        alone = len(batch) == 1 and batch[0].sequences in whole
        assert alone or sum(unit.row_length for unit in batch) <= limit
    assert len(split_rows(units, 10**6)) == 1
    assert split_rows(units[::-1], limit) == batches


def test_a_group_that_is_too_long_is_cut_into_parts_that_fit():
    rng = random.Random(0)
    prompt = text_prompt([rng.randrange(10**6) for _ in range(100)])
    turns = tuple(make_turn(prompt, [rng.randrange(10**6) for _ in range(41)]) for _ in range(8))
    (unit,) = pack_turns(turns, share_prefix=True)
    assert unit.row_length == 100 + 8 * 40
    parts = split_rows([unit], 240)
    assert [[row.sequences for row in batch] for batch in parts] == [[(0, 1, 2)], [(3, 4, 5)], [(6, 7)]]
    assert all(sum(row.row_length for row in batch) <= 240 for batch in parts)
    # What an objective compares stays together, if it fits.
    pairs = split_rows([unit], 240, together=[0, 0, 1, 1, 2, 2, 3, 3])
    assert [batch[0].sequences for batch in pairs] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    for limit, together in ((139, None), (240, [0] * 8)):
        assert split_rows([unit], limit, together=together) == [[unit]]


@given(shapes)
@settings(deadline=None)
def test_micro_batches_do_work_of_like_size(found):
    units = units_of(found)

    def cost(unit):
        return unit.row_length**2

    batches = split_rows(units, 150, cost)
    loads = sorted(sum(map(cost, batch)) for batch in batches)
    # No unit could move from the fullest to the emptiest and leave both below the fullest, where there was room.
    for batch in batches:
        if len(batch) > 1 and sum(map(cost, batch)) == loads[-1]:
            smallest = min(map(cost, batch))
            emptiest = min(batches, key=lambda b: sum(map(cost, b)))
            room = sum(u.row_length for u in emptiest) + max(u.row_length for u in batch) <= 150
            assert not room or sum(map(cost, emptiest)) + smallest >= loads[-1] - smallest


def test_dear_tokens_are_spread():
    """Two units of long texts and two of short ones: by tokens alone the long ones would share a batch."""
    prompts = [text_prompt(np.arange(40) + 100 * n) for n in range(4)]
    units = [PackedTurns((make_turn(prompt, [1]),), (n,)) for n, prompt in enumerate(prompts)]
    costs = {(0,): 100.0, (1,): 100.0, (2,): 1.0, (3,): 1.0}
    batches = split_rows(units, 80, lambda unit: costs[unit.sequences])
    assert sorted(sum(costs[u.sequences] for u in batch) for batch in batches) == [101.0, 101.0]


def test_padded_rows_count_their_padding():
    turns = [make_turn(text_prompt(np.arange(length)), [1]) for length in (10, 30, 12, 28)]
    batches = split_rows(pack_turns(turns, share_prefix=False), 60)
    assert [[len(row.turns[0].prompt) for row in batch] for batch in batches] == [[10, 12], [28, 30]]
