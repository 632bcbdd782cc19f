"""Rows of several kinds, options out of order, and pictures that a release holds in its rows."""

import json
from pathlib import Path

import pytest
from tests.benchmarks.releases.video_mmmu import FIXTURES, PIXEL
from tests.video.clips import plan_clip, write_clip

from easyvideor1.benchmarks import BENCHMARKS, open_benchmark
from easyvideor1.benchmarks.benchmark import load_definitions
from easyvideor1.benchmarks.preparation import prepare
from easyvideor1.benchmarks.question import QuestionError
from easyvideor1.benchmarks.readers.mixed import (
    BLANK_REPEAT,
    LETTER_ORDER,
    by_column,
    choice_or_open,
    filled,
    in_letter_order,
    number_or_text,
    open_ended,
)
from easyvideor1.benchmarks.readers.shapes import choice
from easyvideor1.config.media import changed
from easyvideor1.config.schema import RunConfig

READ = in_letter_order(choice(id="id", question="q", options="options", answer="a", video="v"))


@pytest.mark.parametrize(
    ("options", "answer", "right", "repair"),
    [
        (["A. x", "B. y"], "B", "B. y", ""),
        (["B. y", "A. x"], "B", "B. y", LETTER_ORDER),
        (["(C) z", "(A) x", "(B) y"], "C", "C. z", LETTER_ORDER),
        (["A. x", "B. ", "B. y", "B. ."], "B", "B. y", BLANK_REPEAT),
        (["D. -", "B. y", "A. x", "D. w", "C. z"], "D", "D. w", f"{BLANK_REPEAT}, {LETTER_ORDER}"),
        (["B. y", "A. x", "C. y"], "C", "B. y", f"{LETTER_ORDER}, repeated-option"),
        (["y", "x"], "B", "B. x", ""),
    ],
)
def test_the_right_option_stays_the_same(options, answer, right, repair):
    question = READ({"id": 1, "q": "Which?", "options": options, "a": answer, "v": "v.mp4"})
    assert question.options[ord(question.answer) - ord("A")] == right
    assert question.repair == repair


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["A. x", "B. y", "A. z"], "its options have the letters A, A, B"),
        (["A. x", "B. ", "C. z"], "its option 2 is blank"),
        (["A. x", "B. ", "B. ", "C. z"], "its options have the letters A, C"),
        (["A. x", "C. z"], "its options have the letters A, C"),
        ("{", "options: "),
        ([], "it has no options"),
    ],
)
def test_what_no_rule_mends_is_refused(options, words):
    with pytest.raises(QuestionError, match=words):
        READ({"id": 1, "q": "Which?", "options": options, "a": "A", "v": "v.mp4"})


def test_a_row_is_what_the_release_says_it_is():
    parts = {"id": "id", "question": "q", "options": filled("o"), "answer": "a", "video": "v", "task": open_ended}
    read = choice_or_open(lambda row: row["mc"], **parts)
    row = {"id": 1, "q": "Which?", "v": "v.mp4", "a": "A"}
    assert read({**row, "mc": False, "o": {"A": "x", "B": "y"}}).task == "open_ended"
    assert read({**row, "mc": True, "o": {"B": "y", "A": "x", "C": "", "D": None}}).options == ("A. x", "B. y")
    with pytest.raises(QuestionError, match="no options"):
        read({**row, "mc": True, "o": None})
    with pytest.raises(QuestionError, match="no column 'mc'"):
        read(row)
    with pytest.raises(QuestionError, match="none of the columns a, b"):
        by_column({"a": READ, "b": READ})({"c": 1})


def test_types_of_open_answers():
    assert [number_or_text(text) for text in ("12.97", "-3", "7,243,000", "24/7")] == ["numerical"] * 4
    assert [number_or_text(text) for text in ("17 bits", "C7", "n^2", "")] == ["open_ended"] * 4
    assert number_or_text("3.4", "24/7") == "numerical" and number_or_text("3.4", "x") == "open_ended"


def test_a_picture_in_a_row_is_seen_and_never_missing(tmp_path: Path):
    load_definitions()
    fixture = next(one for one in FIXTURES if one.layout == "hub")
    release = fixture.write(tmp_path / "release")
    (release / "Art").mkdir()
    write_clip(release / "Art" / "validation_Art_2.mp4", 8)
    report = prepare(BENCHMARKS.resolve("video_mmmu"), release)
    assert list(report.missing) == ["Art/validation_Art_3.mp4"] and len(report.refused) == 1
    rows = [json.loads(line) for line in next(release.glob("evr1/**/rows.jsonl")).read_text().splitlines()]
    assert [row["data_type"] for row in rows] == ["video", "video"]
    rows[0]["videos"] = [str(release / "Art" / "validation_Art_2.mp4")]
    (tmp_path / "one.jsonl").write_text(json.dumps(rows[0]) + "\n")
    benchmark = open_benchmark(str(tmp_path / "one.jsonl"))
    config = benchmark.configure(RunConfig.model_validate({"cache": {"dir": str(tmp_path / "frames")}}))
    (sample,) = benchmark.load(config).samples
    assert [ref.kind for ref in sample.media] == ["video", "image"]
    assert Path(sample.media[1].path).read_bytes() == PIXEL


def test_repairs_are_told(tmp_path: Path):
    load_definitions()
    rows = [
        {"problem_id": number, "problem_type": "multiple choice", "problem": "Which?", "path": "./a.mp4"}
        | {"options": options, "solution": "<answer>A</answer>", "data_type": "video"}
        for number, options in enumerate([["B. y", "A. x"], ["A. x", "B. y", "A. "], ["A. x", "C. y"], []], start=1)
    ]
    (tmp_path / "longvideoreason.json").write_text(json.dumps(rows))
    report = prepare(BENCHMARKS.resolve("longvideo_reason"), tmp_path)
    assert report.repaired == {LETTER_ORDER: ["1"], BLANK_REPEAT: ["2"]}
    assert {id_.rpartition(":")[2] for id_ in report.refused} == {"3", "4"}


def test_subtitles_of_a_variant_are_found(tmp_path: Path):
    load_definitions()
    pairs = [
        {"problem_id": "p", "problem_type": "multiple choice", "problem": "How many?", "path": "./videos/p.mp4"}
        | {"options": ["A. 7", "B. 9"], "solution": "<answer>A</answer>", "data_type": "video", "video_id": "p"}
        | {"category": "Counting", "length": "short", "mbinary_id": pair}
        for pair in (1, None)
    ]
    (tmp_path / "videomathqa.json").write_text(json.dumps(pairs))
    (tmp_path / "subtitles").mkdir()
    (tmp_path / "subtitles" / "p.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nNow count.\n")
    report = prepare(BENCHMARKS.resolve("videomathqa_mbin_subtitles"), tmp_path)
    assert (report.questions, report.subtitles, report.without_subtitles) == (1, 1, 0)
    assert prepare(BENCHMARKS.resolve("videomathqa_mcq"), tmp_path).subtitles == 0


def test_a_question_alone_shows_two_frames_of_its_picture(tmp_path: Path):
    load_definitions()
    fixture = next(one for one in FIXTURES if one.benchmark == "video_mmmu_gain" and one.layout == "authors")
    release = fixture.write(tmp_path / "release")
    for folder, name in (("Science", "validation_Math_4.mp4"), ("question_only", "validation_Math_4_image.mp4")):
        (release / folder).mkdir()
        write_clip(release / folder / name, 8)
    benchmark = open_benchmark(f"video_mmmu_gain={release}")
    config = benchmark.configure(RunConfig.model_validate({"cache": {"dir": str(tmp_path / "frames")}}))
    after, alone, *_ = benchmark.load(config).samples
    assert (after.media[0].budget, alone.media[0].budget.frames, config.data.video.frames) == (None, 2, 32)
    assert [Path(each.media[0].path).parent.name for each in (after, alone)] == ["Science", "question_only"]
    assert "at the end of the video" in after.question and "at the end" not in alone.question
    planned = plan_clip(alone.media[0].path, changed(config.data.video, alone.media[0].budget))
    assert len(planned.frame_indices) == 2
