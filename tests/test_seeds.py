from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyvideor1.seeds import derive_seed

PARTS = st.lists(st.one_of(st.integers(), st.text()), max_size=4).map(tuple)


@given(PARTS, PARTS)
def test_different_purposes_have_different_seeds(one: tuple[int | str, ...], other: tuple[int | str, ...]) -> None:
    assert (derive_seed(*one) == derive_seed(*other)) == (one == other)


def test_parts_are_not_run_together() -> None:
    assert len({derive_seed(1, "a\x1fb"), derive_seed(1, "a", "b"), derive_seed(1, "ab"), derive_seed("1", "ab")}) == 4


@pytest.mark.parametrize("bits", [1, 8, 63, 64, 128])
def test_the_size_is_kept_and_used(bits: int) -> None:
    seeds = [derive_seed(k, bits=bits) for k in range(64)]
    assert max(seeds).bit_length() == bits
    assert min(seeds) >= 0


def test_seeds_stay_the_same_for_ever() -> None:
    """Recorded values: a change of them changes every run, and breaks resume across versions."""
    assert derive_seed(0, "rollout", 3, "sample") == 1406785298973020165
