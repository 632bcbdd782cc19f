"""What is trained on, and what length costs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easyvideor1.algorithms.selection import groups_within, needs_more, soft_overlong_penalty


def test_bounds_are_strict():
    accuracy = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.25, 0.75])
    groups = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    assert groups_within(accuracy, groups).all()
    assert groups_within(accuracy, groups, 0.0, 1.0).tolist() == [False] * 2 + [True] * 2 + [False] * 2 + [True] * 2
    assert groups_within(accuracy, groups, low=0.5).tolist() == [True] * 2 + [False] * 6
    assert groups_within(accuracy, groups, high=0.5).tolist() == [False] * 4 + [True] * 2 + [False] * 2


def test_the_overlong_penalty_by_hand():
    lengths = torch.tensor([1, 80, 81, 90, 100, 120])
    assert soft_overlong_penalty(lengths, 100, 20).tolist() == pytest.approx([0, 0, -0.05, -0.5, -1, -1])
    assert soft_overlong_penalty(lengths, 100, 0).tolist() == [0.0] * 6
    for cache in (-1, 101):
        with pytest.raises(ValueError, match="between 0 and the length limit"):
            soft_overlong_penalty(lengths, 100, cache)


@given(st.integers(1, 500), st.integers(1, 500), st.lists(st.integers(0, 600), min_size=2, max_size=9))
def test_longer_never_costs_less(limit, cache, lengths):
    found = soft_overlong_penalty(torch.tensor(sorted(lengths)), limit, min(cache, limit))
    assert (found.diff() <= 0).all() and found.min() >= -1 and found.max() <= 0


def test_when_a_step_generates_again():
    assert not needs_more(32, 32, 1, 1) and not needs_more(40, 32, 3, 10)
    assert needs_more(10, 32, 1, 3) and needs_more(10, 32, 2, 3)
    assert not needs_more(10, 32, 3, 3) and not needs_more(0, 32, 1, 1)
