"""Rows are spread over micro-batches: all of them, within the bound, and evenly."""

import random

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from easyvideor1.packing.balance import rank_shares, split_rows
from easyvideor1.packing.prefix_tree import PackedTurns, pack_turns
from easyvideor1.types import Prompt
from tiny import make_turn


def text_prompt(ids):
    return Prompt(np.asarray(ids, dtype=np.int64))


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
    for batch in batches:
        too_long = [PackedTurns((turn,), (0,)).row_length > limit for unit in batch for turn in unit.turns]
        alone = len(batch) == 1 and all(too_long)
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
    # One that is too long keeps no others beside it.
    (mixed,) = pack_turns([*turns[:3], make_turn(prompt, list(range(500))), *turns[3:]], share_prefix=True)
    parts = split_rows([mixed], 240)
    assert [[row.sequences for row in batch] for batch in parts] == [[(0, 1, 2)], [(3,)], [(4, 5, 6)], [(7, 8)]]


#: Where spreading the dearest first runs out of room, and the first fit is uneven.
UNEVEN = [(1, [0]), (1, [0]), (13, [20]), (20, [20]), (46, [16]), (58, [20]), (60, [20]), (7, [0, 19]), (5, [4, 20])]
UNEVEN += [(15, [20, 20]), (7, [12, 20]), (50, [20, 20]), (60, [20, 20]), (7, [0, 1, 20]), (20, [20, 20, 0])]
UNEVEN += [(35, [20, 20, 20]), (3, [7, 20, 20, 20])]


@given(shapes)
@example(UNEVEN)
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


def test_ranks_get_equally_many_micro_batches_of_like_work():
    """Worked out by hand: 9 and 1 for one rank, 6 and 5 for the other; then one of them has room for no more."""
    turns = [make_turn(text_prompt([5, 6, n + 10]), [7]) for n in range(5)]
    whole = [[row] for row in pack_turns(turns, share_prefix=False)]
    costs = {0: 1.0, 1: 9.0, 2: 6.0, 3: 5.0, 4: 20.0}
    shares = rank_shares(whole[:4], 2, lambda rows: costs[rows[0].sequences[0]])
    assert [[rows[0].sequences[0] for rows in share] for share in shares] == [[0, 1], [2, 3]]
    shares = rank_shares(whole, 2, lambda rows: costs[rows[0].sequences[0]])
    assert [[rows[0].sequences[0] for rows in share] for share in shares] == [[0, 4], [1, 2, 3]]
    assert rank_shares(whole[:1], 3, lambda rows: 1.0) == [whole[:1], [], []]
