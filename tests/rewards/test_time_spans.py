"""Time spans in JSON of several kinds and in words: what is read, what is not, and why not."""

# ruff: noqa: RUF001 - dashes and full-width signs are what is tested

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyvideor1.rewards import score
from easyvideor1.rewards.readers.time_spans import read_spans, read_spans_reply, seconds_of
from easyvideor1.rewards.rules import RULES
from easyvideor1.rewards.types import Reading


def read(text: str) -> Reading:
    reading = read_spans(text, ())
    assert reading is not None
    return reading


def read_reply(text: str) -> Reading:
    reading = read_spans_reply(text, ())
    assert reading is not None
    return reading


@pytest.mark.parametrize(
    "text",
    [
        "from 83 seconds to 105 seconds",
        "1:23 to 1:45",
        "1:23-1:45 min",
        "between 1 minute 23 seconds and 1 minute 45 seconds",
        "between 1 minute and 23 seconds and 1 minute and 45 seconds",
        "1m23s - 1m45s",
        "83s-105s",
        "83s -105s",
        "83 - 105",
        "83–105",
        "83—105 s",
        "83 ~ 105 sec",
        "83 s until 105 s",
        "0:01:23 → 0:01:45",
        "00:01:23.00 --> 00:01:45.00",
        "00:01:23,000 --> 00:01:45,000",
        "**1:23** to **1:45**",
        "[1:23 - 1:45]",
        "(83s, 105s)",
        "83, 105",
        "It starts at 1:23 and ends at 1:45.",
        "Start time: 83 s\nEnd time: 105 s",
        "start: 83, end: 105",
        "from the 83-second mark to the 105-second mark",
        "from second 83 to second 105",
        "The 2 people talk from 83 to 105 seconds.",
        "It lasts 22 seconds, from 83 s to 105 s.",
        "1:23 to 1:45 (83 to 105 seconds)",
        "not from 3 to 9 s, but from 83 to 105 s",
        "从83秒到105秒",
        "1分23秒到1分45秒",
        "第83秒至第105秒",
        "在83秒和105秒之间",
        "开始时间：83秒，结束时间：105秒",
        "８３秒－１０５秒",
        "１：２３～１：４５",
        '{"start": 83, "end": 105}',
        '{"start": "83", "end": "105"}',
        '{"start_time": "1:23", "end_time": "0:01:45"}',
        '{"begin": 83, "end": 105}',
        '{"timestamps": [83, 105], "event": "a man"}',
        '{"timestamp": "1:23 - 1:45"}',
        '{"span": ["1:23", "1:45"]}',
        '[{"segment": [83, 105]}]',
        '{"events": [{"event": "a man opens a door", "start": 83, "end": 105}]}',
        '{"answer": {"time": [83, 105]}}',
        '["83s", "105s"]',
        "[83, 105]",
        "[83, 105,]",
        "(83, 105)",
        "{'time': [83, 105]}",
        "{time: (83, 105),}",
        '"time": [83, 105]',
        '```json\n{"time": [83, 105],}\n```',
        'The span is:\n```json\n{"start": 83, "end": 105}\n```',
        '{"time": [83, 105]} {"time": [83.0, 105.0]}',
        'not {"time": [1, 2]} but {"start": 83, "end": 105}',
    ],
)
def test_a_span_is_read_in_every_form(text: str) -> None:
    assert read(text).value == ((83.0, 105.0),)
    result = score("temporal", f"<answer>{text}</answer>", {"time": [83, 105]})
    assert (result.accuracy, result.parsed) == (1.0, "((83.0, 105.0),)")


@pytest.mark.parametrize("text", ["The event happens in the 24.3 - 30.4 seconds.", "24.3 s to 30.4 s", "24.3-30.4"])
def test_fractions_are_read(text: str) -> None:
    assert read(text).value == ((24.3, 30.4),)
    assert read_reply(text).value == ((24.3, 30.4),)


def test_a_unit_at_the_end_holds_for_both() -> None:
    assert read("from 1 to 2 minutes").value == ((60.0, 120.0),)
    assert read("1.5-2 h").value == ((5400.0, 7200.0),)


@pytest.mark.parametrize(
    "text",
    [
        "10-20, 30-40",
        "10-20 and 30-40",
        "10 to 20; 30 to 40",
        "from 10 to 20 seconds and from 30 to 40 seconds",
        "1. 10-20\n2. 30-40",
        "- 10s - 20s\n- 30s - 40s",
        "Event 1: 0:10 - 0:20\nEvent 2: 0:30 - 0:40",
        "10秒到20秒、30秒到40秒",
        "[10, 20], [30, 40]",
        '{"time": [[10, 20], [30, 40]]}',
        '{"time": ["0:10-0:20", "0:30-0:40"]}',
        '[{"start": 10, "end": 20}, {"start": 30, "end": 40}]',
        '{"segments": [{"start_time": "0:10", "end_time": "0:20"}, {"start_time": "0:30", "end_time": "0:40"}]}',
    ],
)
def test_several_spans_are_read(text: str) -> None:
    assert read(text).value == ((10.0, 20.0), (30.0, 40.0))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10-20 or 30-40", "several answers are given"),
        ("either 10-20 or 30-40", "several answers are given"),
        ("10-20秒或30-40秒", "several answers are given"),
        ("from 3 to maybe 9 or 12", "no time span was found"),
        ("from 3 to 9 or 12", "several answers are given"),
        ("10-20-30", "several answers are given"),
        ("It is from 3 s to 9 s. Or rather, from 4 s to 8 s.", "several answers are given"),
        ("He enters from 3 s to 9 s. He leaves from 12 s to 18 s.", "several answers are given"),
        ("from 3 s to 9 s, and at 12 s", "a time stands beside the time span"),
        ('{"time": [1, 2]} or {"time": [3, 4]}', "several answers are given"),
        ('{"time": [1, 2]} or {"time": [4, 3]}', "several answers are given"),
        ('{"time": [1, 2]}, or from 3 s to 4 s', "several answers are given"),
        ('{"times": [1, 2], "span": [3, 4]}', "several answers are given"),
        ('not {"time": [1, 2]}', "the answer is denied"),
        ("not from 3 s to 9 s", "the answer is denied"),
        ("at 5 seconds", "a single time is no time span"),
        ("5", "a single time is no time span"),
        ('{"time": 5}', "a single time is no time span"),
        ("[5]", "a single time is no time span"),
        ("9 - 3", "a time span ends before it begins"),
        ("from 1:45 to 1:23", "a time span ends before it begins"),
        ('{"time": [9, 3]}', "a time span ends before it begins"),
        ('{"start": 9, "end": 3}', "a time span ends before it begins"),
        ('{"time": ["5", "15"]}', "a number in quotes is no time"),
        ("from frame 3 to frame 9", "frames are no seconds"),
        ("from 0:75 to 2:00", "no time span was found"),
        ("from 10% to 20%", "no time span was found"),
        ("3 people and 4 dogs", "no time span was found"),
        ("[1, 2, 3]", "no time span was found"),
        ("[1, 2, 3, 4]", "no time span was found"),
        ('{"time": [4, 8', "no time span was found"),
        ('{"time": [false, true]}', "no time span was found"),
        ('{"time": [NaN, Infinity]}', "no time span was found"),
        (json.dumps({"time": [[1, 2]] * 65}), "too many time spans are given"),
        ("I do not know", "no time span was found"),
        ("", "no time span was found"),
    ],
)
def test_what_is_no_span_says_why(text: str, reason: str) -> None:
    assert (read(text).value, read(text).reason) == (None, reason)


def test_only_the_form_that_was_asked_for_is_canonical() -> None:
    assert read('{"time": [83, 105]}').canonical
    assert read('It is {"time": [[1, 2], [3, 4]]} I think').canonical
    for text in ("[83, 105]", '{"start": 83, "end": 105}', '{"time": "1:23-1:45"}', "{'time': [83, 105]}", "83-105"):
        assert not read(text).canonical, text


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ('{"time": [1, 2]}', (1.0, 2.0)),
        ('The span is {"time": [1, 2]}.', (1.0, 2.0)),
        ('I watched all of it twice.\n\n```json\n{"time": [1, 2],}\n```', (1.0, 2.0)),
        ("long " * 100 + '\n{"start": 1, "end": 2}', (1.0, 2.0)),
        ("From 1 second to 2 seconds.", (1.0, 2.0)),
        ("The man opens the door from 0:01 to 0:02.", (1.0, 2.0)),
        ("1 - 2", (1.0, 2.0)),
        ("The event starts at 1 and ends at 2.", (1.0, 2.0)),
        ("Timestamps: 1 to 2", (1.0, 2.0)),
        ("从1秒到2秒。", (1.0, 2.0)),
    ],
)
def test_a_reply_that_is_the_answer_is_read(text: str, span: tuple[float, float]) -> None:
    assert read_reply(text).value == (span,)


@pytest.mark.parametrize(
    "text",
    [
        'from {"time": [1, 2]} but',
        'I first thought {"time": [1, 2]}. Then I looked again and was not sure.',
        "long " * 100 + 'and so on {"time": [1, 2]}',
        "First it rains. Then it snows from 1 s to 2 s.",
        "It is from 1 s to 2 s, but it could be later.",
        "Is it from 1 s to 2 s?",
        "If it is from 1 s to 2 s, he is late.",
        "The man has 1 - 2 dogs.",
        "Let me look from 1 s to 2 s:",
        '{"time": [1, 2]} or {"time": [3, 4]}',
        "The man opens the door.",
        "",
    ],
)
def test_a_mention_in_a_reply_is_no_answer(text: str) -> None:
    reading = read_reply(text)
    assert reading.value is None
    assert reading.reason
    assert RULES["temporal_grounding"].read_reply is read_spans_reply


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12", 12.0),
        ("12.5s", 12.5),
        ("0:12", 12.0),
        ("1:02:03.5", 3723.5),
        ("1 h 2 min 3 s", 3723.0),
        ("1h2m3s", 3723.0),
        ("1小时2分3秒", 3723.0),
        ("90 minutes", 5400.0),
        ("1:75", None),
        ("1:61:00", None),
        ("12 frames", None),
        ("12 apples", None),
        ("12-13", None),
        ("", None),
    ],
)
def test_one_time(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


def clock(seconds: int) -> str:
    return f"{seconds // 60}:{seconds % 60:02d}"


def long_clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.00"


def spoken(seconds: int) -> str:
    return f"{seconds // 60} minutes {seconds % 60} seconds"


def chinese(seconds: int) -> str:
    return f"{seconds // 60}分{seconds % 60}秒"


@settings(max_examples=300, deadline=None)
@given(
    ends=st.tuples(st.integers(0, 5000), st.integers(0, 5000)),
    written=st.sampled_from([str, clock, long_clock, spoken, chinese, "{} s".format, "{} seconds".format]),
    between=st.sampled_from([" to ", "-", " - ", " – ", " — ", "~", " until ", "到", "至", " --> "]),
    around=st.sampled_from(["{}", "from {}", "It happens from {}.", "({})", "[{}]", "time: {}", "**{}**"]),
)
def test_however_it_is_written_a_span_is_the_same(ends: tuple[int, int], written, between, around) -> None:  # type: ignore[no-untyped-def]
    reading = read(around.format(f"{written(ends[0])}{between}{written(ends[1])}"))
    if ends[0] <= ends[1]:
        assert reading.value == ((float(ends[0]), float(ends[1])),)
    else:
        assert reading.value is None
        assert reading.reason == "a time span ends before it begins"


PIECES = [
    "from ",
    "to ",
    "-",
    "1:23",
    "4",
    "8 s",
    ",",
    " and ",
    "or",
    "{",
    "}",
    "[",
    "]",
    '"time"',
    ":",
    "秒",
    "\n",
    "(",
    ")",
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), max_size=20).map("".join))
def test_every_text_is_read_or_has_a_reason(text: str) -> None:
    for reading in (read(text), read_reply(text)):
        if reading.value is None:
            assert reading.reason
        else:
            assert all(start <= end for start, end in reading.value)


@pytest.mark.parametrize("piece", ["{", "[", "(1,2),", "1:23 ", "4 to ", "10-20, ", "not ", '{"a":', "['", "秒到", " "])
def test_time_is_linear(piece: str) -> None:
    def took(size: int) -> float:
        text = piece * (size // len(piece))
        best = 9.0
        for _ in range(3):
            start = time.process_time()
            read(text)
            read_reply(text)
            best = min(best, time.process_time() - start)
        return best

    # Quadratic time would take 64 times as long.
    assert took(38_000) < 30 * took(4_750) + 0.01
