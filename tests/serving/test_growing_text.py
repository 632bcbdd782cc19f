"""Text that grows: whole characters, and no part of a stop string."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyvideor1.serving.growing_text import GrowingText, before_stop

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def tokenizer(tiny_family):
    return tiny_family.tokenizer


def grown(tokenizer, ids, stop=(), steps=1):
    text = GrowingText(tokenizer, stop)
    pieces = [text.grow(ids[:count]) for count in range(1, len(ids) + 1, steps)]
    return pieces, text.finish(tokenizer.decode(ids))


@given(words=st.text(max_size=30), steps=st.integers(1, 5))
def test_the_pieces_are_the_text(tokenizer, words, steps):
    ids = tokenizer(words, add_special_tokens=False)["input_ids"]
    pieces, rest = grown(tokenizer, ids, steps=steps)
    assert "".join(pieces) + rest == tokenizer.decode(ids)
    if "\ufffd" not in words:
        assert not any("\ufffd" in piece for piece in pieces)


@given(ids=st.lists(st.integers(0, 255), max_size=40), steps=st.integers(1, 4))
def test_bytes_that_are_no_text_come_as_the_tokenizer_shows_them(tokenizer, ids, steps):
    pieces, rest = grown(tokenizer, ids, steps=steps)
    assert "".join(pieces) + rest == tokenizer.decode(ids)


def test_a_character_waits_for_its_last_token(tokenizer):
    ids = tokenizer("a🎈b", add_special_tokens=False)["input_ids"]
    assert len(ids) > 3, "the character has several tokens"
    pieces, rest = grown(tokenizer, ids)
    assert [piece for piece in pieces if piece] == ["a", "🎈", "b"] and rest == ""


@given(words=st.text("ab<>", max_size=30), stop=st.lists(st.text("ab<>", min_size=1, max_size=4), max_size=3))
def test_nothing_of_a_stop_string_is_given_away(tokenizer, words, stop):
    ids = tokenizer(words, add_special_tokens=False)["input_ids"]
    said = [tokenizer.decode(ids[:count]) for count in range(len(ids) + 1)]
    last = next((count for count, part in enumerate(said) if any(one in part for one in stop)), len(ids))
    pieces, rest = grown(tokenizer, ids[:last], stop)  # an engine ends there
    assert "".join(pieces) + rest == before_stop(said[last], stop)


def test_the_stop_token_is_no_text(tiny_family):
    text = GrowingText(tiny_family.tokenizer, (), tiny_family.stop_token_ids)
    ids = tiny_family.tokenizer("what", add_special_tokens=False)["input_ids"]
    assert text.grow([*ids, tiny_family.stop_token_ids[0]]) == "what" and text.finish("what") == ""
