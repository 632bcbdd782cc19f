"""Boxes, tubes, tracks and points in the forms that models write, and JSON that is nearly JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyvideor1.rewards import check_answer, score
from easyvideor1.rewards.readers.boxes import TokenBoxes, read_boxes, read_boxes_reply
from easyvideor1.rewards.readers.json_answers import find_json_values, load_lenient
from easyvideor1.rewards.readers.tubes import Tube, read_track, read_tube
from easyvideor1.rewards.rules import RULES
from easyvideor1.rewards.types import Reading
from easyvideor1.types import DataError

BOX = (10.0, 20.0, 110.0, 220.0)
OTHER = (1.0, 2.0, 3.0, 4.0)


def read(text: str) -> Reading:
    reading = read_boxes(text, ())
    assert reading is not None
    return reading


@pytest.mark.parametrize(
    "text",
    [
        '{"bbox_2d": [10, 20, 110, 220], "label": "cat"}',
        '{"label": "the box [1, 2, 3, 4]", "bbox_2d": [10, 20, 110, 220]}',
        '```json\n[{"bbox_2d": [10, 20, 110, 220], "label": "cat"}]\n```',
        'Here it is:\n```json\n[\n\t{"bbox_2d": [10, 20, 110, 220], "label": "cat"},\n]\n```',
        '{"bbox": [10, 20, 110, 220]}',
        '{"box": [[10, 20], [110, 220]]}',
        '{"bounding_box": {"x1": 10, "y1": 20, "x2": 110, "y2": 220}}',
        '{"Bounding Box": [10, 20, 110, 220]}',
        '{"xmin": 10, "ymin": 20, "xmax": 110, "ymax": 220}',
        '{"x": 10, "y": 20, "width": 100, "height": 200}',
        '{"objects": [{"bbox_2d": [10, 20, 110, 220]}]}',
        '{"boxes": "[10, 20, 110, 220]"}',
        "[10, 20, 110, 220,]",
        "(10, 20, 110, 220)",
        "10, 20, 110, 220",
        "(10,20),(110,220)",
        "the cat(10,20),(110,220)",
        "from (10, 20) to (110, 220)",
        "top-left (10, 20), bottom-right (110, 220)",
        "[[10, 20], [110, 220]]",
        "{'bbox_2d': (10, 20, 110, 220), label: 'cat',}",
        "x1=10, y1=20, x2=110, y2=220",
        '"boxes": [10, 20, 110, 220]',
        "The box is [10, 20, 110, 220].",
    ],
)
def test_a_box_is_read_in_every_form(text: str) -> None:
    assert read(text) == Reading((BOX,), canonical=False)
    assert score("spatial", f"<answer>{text}</answer>", {"boxes": list(BOX)}).accuracy == 1.0
    reply = read_boxes_reply(text, ())
    assert reply is not None
    assert reply.value == (BOX,)


def test_only_the_form_that_was_asked_for_is_canonical() -> None:
    assert read('{"boxes": [10, 20, 110, 220]}') == Reading((BOX,))
    assert read('I see {"boxes": [[10, 20, 110, 220], [1, 2, 3, 4]]} there') == Reading((BOX, OTHER))


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("<|box_start|>(10,20),(110,220)<|box_end|>", (BOX,)),
        ("<|object_ref_start|>this or that<|object_ref_end|><|box_start|>(10,20),(110,220)<|box_end|>", (BOX,)),
        ("<|box_start|>(10, 20), (110, 220)<|box_end|><|box_start|>(1,2),(3,4)<|box_end|>", (BOX, OTHER)),
        ("<ref>the cat</ref><box>(10,20),(110,220)</box>", (BOX,)),
    ],
)
def test_box_tokens_carry_their_scale(text: str, boxes: tuple[Any, ...]) -> None:
    assert read(text) == Reading(TokenBoxes(boxes), canonical=False)
    reply = read_boxes_reply(f"{text}<|im_end|>", ())
    assert reply is not None
    assert reply.value == TokenBoxes(boxes)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"bbox_2d": [110, 220, 10, 20]}', "a box has its corners the wrong way round"),
        ("<|box_start|>(110,220),(10,20)<|box_end|>", "a box has its corners the wrong way round"),
        ("(110,220),(10,20)", "a box has its corners the wrong way round"),
        ('{"bbox_2d": [1, 2, 3, 4]} or {"bbox_2d": [1, 2, 3, 5]}', "several answers are given"),
        ("<|box_start|>(1,2),(3,4)<|box_end|> or <|box_start|>(1,2),(3,5)<|box_end|>", "several answers are given"),
        ("<|box_start|>(1,2),(3,4)<|box_end|> [5, 6, 7, 8]", "several answers are given"),
        ('{"bbox": [1, 2, 3, 4], "box": [1, 2, 3, 5]}', "several answers are given"),
        ("<|box_start|>(1,2),(3,", "a box token holds no box"),
        ('not {"boxes": [1, 2, 3, 4]}', "the answer is denied"),
        ('{"boxes": [1, 2, 3, 4, 5]}', "no box was found"),
        ('{"boxes": []}', "no box was found"),
        ('{"bbox_2d": [1, 2, 3, "x"]}', "no box was found"),
        ("(1, 2)", "no box was found"),
        ("The cat is on the left.", "no box was found"),
        ("", "no box was found"),
        (json.dumps({"boxes": [list(OTHER)] * 65}), "too many boxes are given"),
    ],
)
def test_what_is_no_box_says_why(text: str, reason: str) -> None:
    assert read(text) == Reading(None, canonical=False, reason=reason)


@pytest.mark.parametrize(
    "text",
    [
        'from {"bbox_2d": [1, 2, 3, 4]} one sees little',
        "The region [1, 2, 3, 4] is dark, so I looked elsewhere.",
        "word " * 100 + "[1, 2, 3, 4]",
        "I think of <|box_start|>(1,2),(3,4)<|box_end|>\nbut I am not done",
    ],
)
def test_a_mention_in_a_reply_is_no_answer(text: str) -> None:
    reply = read_boxes_reply(text, ())
    assert reply is not None
    assert reply.value is None
    assert reply.reason == "the answer is mentioned, not given as the reply"


TIMED = '[{"time": 1.0, "bbox_2d": [10, 20, 110, 220], "label": "a"}, {"time": 2, "bbox_2d": [1, 2, 3, 4]}]'


@pytest.mark.parametrize(
    "text",
    [
        '{"boxes": {"1": [10, 20, 110, 220], "2": [1, 2, 3, 4]}}',
        '{"boxes": {"1.0s": [10, 20, 110, 220], "00:02": {"bbox_2d": [1, 2, 3, 4]}}}',
        "{'boxes': {1: (10, 20, 110, 220), 2: (1, 2, 3, 4),}}",
        '{"1": [10, 20, 110, 220], "2": [1, 2, 3, 4]}',
        '{"second 1": [10, 20, 110, 220], "t=2": [1, 2, 3, 4]}',
        TIMED,
        f"```json\n{TIMED}\n```",
        f'{{"track": {TIMED}}}',
        '[{"timestamp": "0:01", "bbox": [10, 20, 110, 220]}, {"second": "2s", "x1": 1, "y1": 2, "x2": 3, "y2": 4}]',
    ],
)
def test_boxes_by_second_are_read_in_every_form(text: str) -> None:
    reading = read_track(text, ())
    assert reading is not None
    assert reading.value == Tube(None, {1.0: BOX, 2.0: OTHER})
    assert reading.canonical == text.startswith('{"boxes": {"1":')
    answer = {"boxes": {"1": list(BOX), "2": list(OTHER)}}
    assert score("tracking", f"<answer>{text}</answer>", answer).accuracy == 1.0


@pytest.mark.parametrize(
    "text", ['{"boxes": [[0, 0, 9, 9]]}', '{"boxes": {"four": [0, 0, 9, 9]}}', '{"time": [1, 2]}', "none", ""]
)
def test_what_is_no_track_says_so(text: str) -> None:
    assert read_track(text, ()) == Reading(None, canonical=False, reason="no boxes by second were found")


def test_one_second_has_one_box() -> None:
    reading = read_track(TIMED.replace('"time": 2', '"time": "1 s"'), ())
    assert reading is not None
    assert reading.value == Tube(None, {1.0: None})


@pytest.mark.parametrize(
    ("text", "tube"),
    [
        (f'{{"time": "0:01 - 0:02", "boxes": {TIMED}}}', Tube((1.0, 2.0), {1.0: BOX, 2.0: OTHER})),
        (f'{{"start": 1, "end": 2, "objects": {TIMED}}}', Tube((1.0, 2.0), {1.0: BOX, 2.0: OTHER})),
        (TIMED, Tube(None, {1.0: BOX, 2.0: OTHER})),
        ("from 1 s to 2 s", Tube((1.0, 2.0), {})),
        ('{"time": [2, 1], "boxes": {"1": [1, 2, 3, 4]}}', Tube(None, {1.0: OTHER})),
    ],
)
def test_tubes(text: str, tube: Tube) -> None:
    assert read_tube(text, ()) == Reading(tube, canonical=False)


def test_a_tube_that_cannot_be_read_says_why() -> None:
    for text, reason in (
        ('{"time": [2, 1]}', "a time span ends before it begins"),
        ('{"time": [1, 2]} or {"time": [3, 4]}', "several answers are given"),
        ("nothing", "no time span and no boxes by second were found"),
    ):
        assert read_tube(text, ()) == Reading(None, canonical=False, reason=reason)


def test_invented_boxes_of_a_track_cost() -> None:
    answer = {"boxes": {"0": [0, 0, 10, 10], "1": [0, 0, 10, 10]}}

    def track(*seconds: float) -> str:
        return f"<answer>{json.dumps({'boxes': {str(second): [0, 0, 10, 10] for second in seconds}})}</answer>"

    assert score("tracking", track(0, 1), answer).accuracy == 1.0
    assert score("tracking", track(0, 1, 2), answer).accuracy == pytest.approx(2 / 3)
    many = score("tracking", track(*range(40)), answer)
    assert (many.accuracy, many.parts["success_0.5"]) == (pytest.approx(0.05), pytest.approx(0.05))
    # Between the annotated seconds as well, and one wrong second in place of a right one is not charged twice.
    assert score("tracking", track(0, 0.5, 1, 1.5), answer).accuracy == 0.5
    assert score("tracking", track(0, 7), answer).accuracy == 0.5
    assert score("tracking", track(*range(40)), answer, reward_form="common").accuracy == 1.0


def test_a_tube_without_a_whole_second_is_scored_on_its_span() -> None:
    answer = {"time": [4.2, 4.8], "boxes": {}}
    for row in ({}, {"reward_form": "common"}, {"coordinates": "pixel", "image_size": [640, 480]}):
        check_answer("stvg", answer, row=row)
        exact = score("stvg", f"<answer>{json.dumps(answer)}</answer>", answer, **row)
        assert (exact.accuracy, exact.format, exact.parts) == (1.0, 1.0, {"temporal_iou": 1.0})
        half = '{"time": [4.2, 4.5], "boxes": {"4": [1, 2, 30, 40]}}'
        assert score("stvg", f"<answer>{half}</answer>", answer, **row).accuracy == pytest.approx(0.5)
    assert score("stvg", '<answer>{"time": [4.2, 4.8]}</answer>', {"time": [4.2, 4.8]}).accuracy == 1.0
    with pytest.raises(DataError, match="only a span without a whole second has no boxes"):
        check_answer("stvg", {"time": [4.2, 5.8], "boxes": {}})


@pytest.mark.parametrize(
    "text",
    [
        '{"bbox_2d": [0, 0, 10, 10], "point_2d": [5, 5]}',
        '[{"bbox_2d": [0, 0, 10, 10], "point_2d": [5, 5], "label": "cat"}]',
        '[{"bbox_2d": [0, 0, 10, 10]}, {"point_2d": [5, 5], "label": "cat"}]',
        "{'box': ((0, 0), (10, 10)), 'points': [{'x': 5, 'y': 5}]}",
        '{"boxes": [[0, 0, 10, 10]], "positive_points": [[5, 5],]}',
    ],
)
def test_a_box_and_a_point_are_read_in_every_form(text: str) -> None:
    answer = {"boxes": [0, 0, 10, 10], "positive_points": [[5, 5]]}
    result = score("segmentation", f"<answer>{text}</answer>", answer)
    assert (result.accuracy, result.format) == (1.0, 0.5)


def test_points_off_the_object_are_told_by_their_label() -> None:
    text = '[{"bbox_2d": [0, 0, 10, 10], "point_2d": [5, 5]}, {"point_2d": [90, 90], "label": "negative"}]'
    answer = {"boxes": [0, 0, 10, 10], "positive_points": [[5, 5]], "negative_points": [[90, 90]]}
    assert score("segmentation", f"<answer>{text}</answer>", answer).accuracy == 1.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1, 2,]", [1, 2]),
        ("(1, 2.5)", [1, 2.5]),
        ("{'a': 'it''s'}", None),
        ("{a: 1, 'b': [True, None, nan]}", ...),
        ('{"a": "x, [1]}"}', {"a": "x, [1]}"}),
        ("{'a': \"it's\"}", {"a": "it's"}),
        ("1, 2", [1, 2]),
        ("(1, 2), (3, 4)", [[1, 2], [3, 4]]),
        ("a: 1", {"a": 1}),
        ("```json\n{a: 1}\n```", {"a": 1}),
        ("[1,, 2]", None),
        ("[1 2]", None),
        ("{1, 2}", None),
        ("[__import__('os')]", None),
        ("[1, 2", None),
        ("[1e999]", ...),
        ("[" * 41 + "]" * 41, None),
        ("", None),
    ],
)
def test_nearly_json(text: str, value: Any) -> None:
    read = load_lenient(text)
    assert read is not None if value is ... else read == value


def test_what_stands_between_words_is_found() -> None:
    found = find_json_values("it's {a: 1} and (not this) [2, 3], [4, 5] {broken: [6] so")
    assert [one.value for one in found] == [{"a": 1}, [[2, 3], [4, 5]]]


JSON = st.recursive(
    st.one_of(st.booleans(), st.none(), st.integers(-(10**9), 10**9), st.floats(-1e9, 1e9), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
).filter(lambda value: isinstance(value, list | dict))


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_json_is_nearly_json(value: Any) -> None:
    written = json.dumps(value, ensure_ascii=False)
    (found,) = find_json_values(written)
    assert (found.start, found.end) == (0, len(written))
    if "\\" not in written:
        assert found.value == value


SOUP = st.lists(
    st.one_of(
        st.sampled_from(["{", "}", "[", "]", "(", ")", "1", ",", ":", '"', "'", "bbox_2d", "<|box_start|>", "\\", " "]),
        st.text(max_size=3),
    ),
    max_size=25,
).map("".join)


@settings(max_examples=500, deadline=None)
@given(SOUP)
def test_every_text_is_read_or_has_a_reason(text: str) -> None:
    for task in ("spatial_grounding", "spatial_temporal_grounding", "tracking", "segmentation"):
        rule = RULES[task]
        assert rule.read_reply is not None
        for reading in (rule.read(text, ()), rule.read_reply(text, ())):
            assert reading is not None
            assert reading.value is not None or reading.reason
