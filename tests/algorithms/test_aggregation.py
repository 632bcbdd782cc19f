"""Weights of tokens in a step, by hand and by their sums."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easyvideor1.algorithms.aggregation import token_weights

LEARN = torch.tensor([True, True, False, True, False, False, True])
SEQUENCE = torch.tensor([0, 0, 0, 2, 2, 3, 4])  # sequence 1 is empty, 3 learns nothing
TURN = torch.tensor([0, 1, 1, 2, 2, 3, 4])  # sequence 0 has two turns


def test_token_weights_by_hand():
    assert token_weights(LEARN, SEQUENCE, "token").tolist() == pytest.approx([0.25, 0.25, 0, 0.25, 0, 0, 0.25])
    third = 1 / 3
    expected = [third / 2, third / 2, 0, third, 0, 0, third]
    assert token_weights(LEARN, SEQUENCE, "sequence").tolist() == pytest.approx(expected)
    assert token_weights(LEARN, SEQUENCE, "turn").tolist() == pytest.approx(expected)  # turns are sequences
    assert token_weights(LEARN, SEQUENCE, "turn", turn_T=TURN).tolist() == pytest.approx(
        [0.25] * 2 + [0, 0.25, 0, 0, 0.25]
    )
    fixed = token_weights(LEARN, SEQUENCE, "fixed", length=10)
    assert fixed.tolist() == pytest.approx([1 / 30, 1 / 30, 0, 1 / 30, 0, 0, 1 / 30])


def test_turns_share_within_themselves():
    learn = torch.ones(5, dtype=torch.bool)
    found = token_weights(learn, torch.zeros(5, dtype=torch.int64), "turn", turn_T=torch.tensor([0, 0, 0, 0, 1]))
    assert found.tolist() == pytest.approx([0.125] * 4 + [0.5])


def test_under_fixed_a_token_is_worth_the_same_whatever_the_other_lengths():
    """The length of a response does not change what one of its tokens, or of another's, counts (Dr.GRPO)."""
    short, long = (torch.repeat_interleave(torch.arange(2), torch.tensor(n)) for n in ([3, 4], [3, 40]))
    for sequence in (short, long):
        weights = token_weights(torch.ones_like(sequence, dtype=torch.bool), sequence, "fixed", length=50)
        assert weights.tolist() == pytest.approx([0.01] * len(sequence))
        assert weights.sum().item() == pytest.approx(len(sequence) / 2 / 50)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=50), st.sampled_from(["token", "sequence", "turn"])
)
def test_weights_sum_to_one_if_anything_is_trained_on(tokens, aggregation):
    learn = torch.tensor([flag for _, flag in tokens], dtype=torch.bool)
    sequence = torch.tensor([number for number, _ in tokens], dtype=torch.int64)
    weights = token_weights(learn, sequence, aggregation)
    assert weights.sum().item() == pytest.approx(float(bool(learn.any())), abs=1e-6)
    assert bool(((weights > 0) == learn).all())
    if aggregation != "token":
        shares = {weights[sequence == number].sum().item() for number in sequence[learn].unique()}
        assert max(shares, default=0) - min(shares, default=0) < 1e-6


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="'words': token, sequence, turn or fixed"):
        token_weights(LEARN, SEQUENCE, "words")
    for length in (None, 0):
        with pytest.raises(ValueError, match=f"length of at least 1, got {length}"):
            token_weights(LEARN, SEQUENCE, "fixed", length=length)
