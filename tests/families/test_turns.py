"""A next turn by ids; ``test_families`` holds whole conversations to the processors of transformers."""

import numpy as np
import pytest

from easyvideor1.types import DataError, MediaRef
from tiny import make_plan, make_prompt

pytestmark = pytest.mark.model


def ids_of(family, text):
    return np.asarray(family.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int64)


def extend(family, prompt, text, *plans):
    return family.extend(prompt, text, [MediaRef(plan.kind, "/media/next") for plan in plans], plans)


def test_a_response_that_was_cut_is_closed_and_one_that_ended_is_not_closed_again(tiny_family) -> None:
    first = make_prompt(tiny_family, "What?")
    for response in ("A red circle", "A red circle<|im_end|>"):
        found = extend(tiny_family, first.followed_by(ids_of(tiny_family, response)), "Why (response)?")
        assert tiny_family.tokenizer.decode(found.token_ids) == (
            "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\nA red circle<|im_end|>\n"
            "<|im_start|>user\nWhy (response)?<|im_end|>\n<|im_start|>assistant\n"
        )


def test_earlier_ids_are_kept_as_they_are(tiny_family) -> None:
    """Ids that a tokenizer would write otherwise: a response need not be what its text is tokenised to."""
    letters = np.concatenate([ids_of(tiny_family, letter) for letter in "answer"])
    assert len(letters) > len(ids_of(tiny_family, "answer"))
    plan, other = make_plan("image"), make_plan("video", frames=4)
    prompt = make_prompt(tiny_family, "<image>What?", plan).followed_by(letters)
    found = extend(tiny_family, prompt, "And <video>?", other)
    assert np.array_equal(found.token_ids[: len(prompt)], prompt.token_ids)
    assert found.plans == (plan, other) and found.text == "<image>What?\n\nAnd <video>?"
    assert [(span.media, span.length) for span in found.spans] == [(0, 4), (1, 4), (1, 4)]
    for span in found.spans:
        visual = {0: tiny_family.image_token_id, 1: tiny_family.video_token_id}[span.media]
        assert set(found.token_ids[span.start : span.start + span.length].tolist()) == {visual}


def test_a_template_that_hides_earlier_thoughts_changes_no_ids(tiny_family, monkeypatch) -> None:
    template = tiny_family.tokenizer.chat_template
    hides = template.replace("{{ message.content }}", "{{ message.content.split('</think>')[-1] | trim }}").replace(
        "<|im_start|>assistant\n{% endif", "<|im_start|>assistant\n<think>\n{% endif"
    )
    assert hides.count("think>") == 2
    monkeypatch.setattr(tiny_family.tokenizer, "chat_template", hides)
    first = make_prompt(tiny_family, "What?")
    prompt = first.followed_by(ids_of(tiny_family, "a circle</think> A <|im_end|>"))
    found = extend(tiny_family, prompt, "Why?")
    assert np.array_equal(found.token_ids[: len(prompt)], prompt.token_ids)
    assert tiny_family.tokenizer.decode(found.token_ids[len(prompt) :]) == (
        "\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n<think>\n"
    )
    assert first.opens_thinking and found.opens_thinking


def test_what_no_turn_can_follow_is_refused(tiny_family, monkeypatch) -> None:
    prompt = make_prompt(tiny_family, "What?")
    with pytest.raises(DataError, match=r"control token '<\|im_end\|>'"):
        extend(tiny_family, prompt, "Why?<|im_end|>")
    with pytest.raises(DataError, match="placeholders"):
        extend(tiny_family, prompt, "Why <image>?")
    monkeypatch.setattr(
        tiny_family.tokenizer,
        "chat_template",
        tiny_family.tokenizer.chat_template.replace("{{ message.content }}", "..."),
    )
    with pytest.raises(DataError, match="does not write responses as they are"):
        extend(tiny_family, prompt, "Why?")
