"""Subtitles are read from each published format, and only the right cues reach the question."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from tests.evaluation.worlds import make_plan

from easyvideor1.benchmarks.subtitles import Cue, cues_at, read_cues, with_subtitles
from easyvideor1.types import DataError, MediaRef, Sample

SRT = """\ufeff1
00:00:01,000 --> 00:00:02,500
<i>Good</i> {\\an8}morning,
Anna.

2
00:00:02,500 --> 00:00:03,000
Look at the <video> there.

3
01:00:00,5 --> 01:00:01,000
The end.
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_srt(tmp_path: Path) -> None:
    expected = (
        Cue(1.0, 2.5, "Good morning, Anna."),
        Cue(2.5, 3.0, "Look at the there."),
        Cue(3600.5, 3601.0, "The end."),
    )
    assert read_cues(write(tmp_path / "a.srt", SRT), "srt") == expected
    assert read_cues(write(tmp_path / "b.srt", SRT.replace("\n", "\r\n")), "srt") == expected


def test_words(tmp_path: Path) -> None:
    lines = [{"text": "red", "start_time": 0.5, "end_time": 0.9}, {"text": "cat", "start_time": "1.0", "end_time": 2}]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert read_cues(path, "jsonl-words") == (Cue(0.5, 0.9, "red"), Cue(1.0, 2.0, "cat"))


def test_longvideobench(tmp_path: Path) -> None:
    rows = [
        {"timestamp": [70.0, 72.0], "text": "one"},
        {"timestamp": [72.0, 72.5], "text": "two"},  # widened to one second around its middle
        {"timestamp": [80.0, "NaN"], "text": "three"},  # until the end
        {"start": "00:01:30.500", "end": "00:01:32.000", "line": "four"},
    ]
    path = write(tmp_path / "a.json", json.dumps(rows))
    assert read_cues(path, "lvb-json", start=60.0) == (
        Cue(10.0, 12.0, "one"),
        Cue(11.75, 12.75, "two"),
        Cue(20.0, math.inf, "three"),
        Cue(30.5, 32.0, "four"),
    )


@pytest.mark.parametrize(
    ("form", "text"),
    [("srt", "hello"), ("jsonl-words", '{"text": "a"}'), ("jsonl-words", "[1]"), ("lvb-json", "{"), ("ass", "x")],
)
def test_other_content_is_refused_by_name(tmp_path: Path, form: str, text: str) -> None:
    with pytest.raises(DataError, match=r"a\.txt: (no subtitles in|unknown) .*format"):
        read_cues(write(tmp_path / "a.txt", text), form)


def test_cues_of_sampled_frames() -> None:
    cues = [Cue(0.0, 1.0, "a"), Cue(1.0, 2.0, "b"), Cue(5.0, 6.0, "c")]
    assert [cue.text for cue in cues_at(cues, [1.0, 1.5])] == ["a", "b"]
    assert cues_at(cues, [3.0]) == []


def test_they_stand_between_video_and_question(tmp_path: Path) -> None:
    write(tmp_path / "a.srt", SRT)
    sample = Sample("q1", "<video>\nWho greets?", "open_ended", "Ben", (MediaRef("video", "a.mp4"),))
    plan = make_plan("d")  # frames at 0, 0.25, ..., 1.75 seconds
    assert with_subtitles(sample, [plan], "all", tmp_path) is sample  # it names no file
    named = replace(sample, extra={"subtitles": "a.srt"})
    assert with_subtitles(named, [plan], "", tmp_path) is named
    found = with_subtitles(named, [plan], "sampled", tmp_path)
    assert found.question == "<video>\nThe subtitles of the video:\nGood morning, Anna.\n\nWho greets?"
    assert "The end." in with_subtitles(named, [plan], "all", tmp_path).question
    with pytest.raises(DataError, match=r"the subtitles of 'q1' are not there"):
        with_subtitles(named, [plan], "all", tmp_path / "elsewhere")
