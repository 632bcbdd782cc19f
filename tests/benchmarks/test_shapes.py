"""Columns of a release become questions; what is odd is mended by a named rule or refused by name."""

import json

import pytest

from easyvideor1.benchmarks.benchmark import Benchmark, Layout, Refused
from easyvideor1.benchmarks.question import Question, QuestionError
from easyvideor1.benchmarks.readers.shapes import REPEATED, choice, chosen, each, lettered_lines, published
from easyvideor1.benchmarks.release import Release
from easyvideor1.data.formats import letter_options

READ = choice(id="id", question="q", options="o", answer="a", video="v", start="from", end="to")
ROW = {"id": "1", "q": "Which?", "o": ["red", "blue"], "a": "B", "v": "v.mp4", "from": None, "to": None}


@pytest.mark.parametrize(
    ("texts", "value", "gold", "found"),
    [
        (["red", "blue", "red"], "blue", "text", (("A. red", "B. blue", "C. red"), "B", "")),
        (["red", "blue", "red"], "red", "text", (("A. red", "B. blue"), "A", REPEATED)),
        (["red", "blue", "red", "green"], "C", "letter", (("A. red", "B. blue", "C. green"), "A", REPEATED)),
        (["red", "blue", "blue"], 2, "index", (("A. red", "B. blue"), "B", REPEATED)),
        (["D", "A", "C"], "A", "text", (("A. D", "B. A", "C. C"), "B", "")),
        (["red"], "red", "text", (("A. red",), "A", "")),
    ],
)
def test_the_right_option(texts, value, gold, found):
    assert chosen(texts, value, gold) == found
    assert letter_options(list(found[0])) == found[0], "the options are asked with these letters"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"o": []}, "it has no options"),
        ({"o": None}, "it has no options"),
        ({"o": ["red", " "]}, "its option 2 is blank"),
        ({"o": ["red", None]}, "its option 2 is blank"),
        ({"o": ["red", "red"]}, "its options are all 'red'"),
        ({"a": "C"}, "its answer 'C' is none of its 2 options"),
        ({"a": ""}, "its answer '' is none of its 2 options"),
        ({"q": " "}, "its q is blank"),
        ({"v": None}, "it names no video"),
        ({"from": 5, "to": 3}, "its clip from 5 to 3 does not end after it starts"),
        ({"from": None, "to": 0}, "its clip from None to 0 does not end after it starts"),
        ({"from": "0:05", "to": 3}, "is not in seconds"),
        ({"from": float("nan"), "to": 3}, "is not in seconds"),
        ({"from": -1, "to": 3}, "is not in seconds"),
    ],
)
def test_odd_rows_are_refused(change, words):
    row = ROW | change
    if change.get("o") == ["red", "red"]:
        row["a"] = "A"
    with pytest.raises(QuestionError, match=words):
        READ(row)


def test_clips_are_kept():
    assert (READ(ROW).start, READ(ROW).end) == (None, None)
    clipped = READ(ROW | {"from": "1.5", "to": 4})
    assert (clipped.start, clipped.end) == (1.5, 4.0)
    row = clipped.row("x")
    assert (row["start"], row["end"], row["options"]) == (1.5, 4.0, ["A. red", "B. blue"])
    later = published(start="from", end="to")
    base = {"problem_id": 7, "problem": "Which?", "problem_type": "multiple choice", "solution": "<answer>B</answer>"}
    given = later({**base, "options": ["A. x", "B. y"], "path": "./v.mp4", "from": 2, "to": 3.5})
    assert (given.start, given.end, given.answer, given.id) == (2.0, 3.5, "B", "7")


def test_one_bad_question_of_a_row_is_refused_alone(tmp_path):
    (tmp_path / "rows.jsonl").write_text(
        '{"v": "a.mp4", "qa": [{"id": 1, "q": "x\\nA. i\\nB. j", "a": "B"}, {"id": 2, "q": "no options", "a": "A"}]}\n'
        '{"v": "b.mp4"}\n'
        '{"v": "b.mp4", "qa": null}\n'
        '{"v": "b.mp4", "qa": ["x\\nA. i\\nB. j"]}\n'
        '{"v": "c.mp4", "qa": [{"id": 3, "q": "y\\n(A) i\\n(B) j", "a": "A"}]}\n'
    )
    read = choice(id="id", question="q", answer="a", video="v")
    benchmark = Benchmark("x", "1", layouts=(Layout("own", ("*.jsonl",), each(lambda row: row["qa"], read)),))
    found = list(benchmark.read(tmp_path))
    assert [one.id for one in found] == ["1", "rows.jsonl:1.2", "rows.jsonl:2", "rows.jsonl:3", "rows.jsonl:4.1", "3"]
    assert [isinstance(one, Question) for one in found] == [True, False, False, False, False, True]
    assert isinstance(found[1], Refused) and "lists no options" in found[1].reason
    assert "no column 'qa'" in found[2].reason and "not as expected" in found[3].reason
    assert "it is str, not a question" in found[4].reason


def test_options_on_lines():
    assert lettered_lines("Who?\n(A) I\n(B) you") == ("Who?", ("I", "you"))
    assert lettered_lines("A. Who is A?\nA. I\nB. you") == ("A. Who is A?", ("I", "you"))
    with pytest.raises(QuestionError, match="lists no options"):
        lettered_lines("Who?\nA. I\nC. you")


def test_a_text_of_columns_needs_all_of_them():
    read = choice(id="id", question="q", options="o", answer="a", video="{v}.mp4")
    assert read(ROW | {"v": 0}).video == "0.mp4"
    for blank in (None, " "):
        with pytest.raises(QuestionError, match="its v is blank"):
            read(ROW | {"v": blank})


def test_repeated_ids_are_told_apart(tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(ROW | {"a": letter}) + "\n" for letter in "BAXB"))
    read = list(Benchmark("x", "1", layouts=(Layout("own", ("*.jsonl",), READ),)).read(tmp_path))
    assert [one.id for one in read] == ["1", "1#2", "rows.jsonl:3", "1#3"]
    assert [one.repair for one in read if isinstance(one, Question)] == ["", "repeated-id", "repeated-id"]


def test_a_layout_may_need_its_media(tmp_path):
    whole = Layout("whole", ("*.jsonl",), READ, needs=("films/*", "films*.tar"))
    benchmark = Benchmark("x", "1", layouts=(whole, Layout("cut", ("*.jsonl",), READ)))
    (tmp_path / "rows.jsonl").write_text("")
    assert benchmark.layout(Release(tmp_path)).name == "cut"
    (tmp_path / "films.tar").write_text("")
    assert benchmark.layout(Release(tmp_path)).name == "whole"
