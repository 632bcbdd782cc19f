"""Questions about a running video: times, moments, what was said before, and when it is time to answer."""

import pytest

from easyvideor1.benchmarks.metrics import Answered, Metric, greedy_answers
from easyvideor1.benchmarks.question import QuestionError
from easyvideor1.benchmarks.readers import streaming
from easyvideor1.records.trajectories import TrajectoryRecord, sample_record
from easyvideor1.rewards import score
from easyvideor1.types import Sample


@pytest.mark.parametrize(
    ("value", "found"),
    [("00:03:20", 200.0), ("0:07:40", 460.0), ("00:24", 24.0), ("1:00:00.5", 3600.5), ("75:10", 4510.0), (12.5, 12.5)],
)
def test_times(value, found):
    assert streaming.seconds(value) == found


@pytest.mark.parametrize("value", ["00:12450", "00:60:00", "00:75", "-3", "", None, "3m20", "nan", True, "1:2:3:4"])
def test_what_is_no_time_is_refused(value):
    with pytest.raises(QuestionError, match="is no time stamp"):
        streaming.seconds(value)


def test_the_past_of_a_moment():
    row = {"at": "00:01:30"}
    assert streaming.moment("at")(row) == 90.0
    assert streaming.moment("at", before=60.0)(row) == 30.0
    assert streaming.moment("at", before=100.0)(row) == 0.0
    assert streaming.moment("at", before=None)(row) == 0.0


def test_a_question_is_asked_every_second_until_its_answer_is_overdue():
    asked = streaming.every_second({"posed": "0:10", "due": "0:13"}, "posed", "due")
    assert [one["now"] for one in asked if one["ask"] == "when"] == [11, 12, 13, 14, 15, 16, 17]
    assert [one["now"] for one in asked if one["ask"] == "what"] == [11, 12, 13, 14, 15]
    assert [one["is_due"] for one in asked if one["ask"] == "when"] == ["Yes"] * 5 + ["No"] * 2
    assert streaming.every_second({"posed": 5, "due": 5}, "posed", "due")[-1]["now"] == 9


def test_a_conversation_tells_the_right_answers_before():
    said = {"task_type": "x", "options": ["A. red", "B. blue"], "answer": "B", "video_path": "./videos/s.mp4"}
    first, second = ({"question": name, "time_stamp": f"0:0{at}"} | said for at, name in enumerate(("One?", "Two?"), 1))
    row = {"@file": "src/data/questions_sqa.json", "value": [{"video_path": "v/s.mp4", "questions": [first, second]}]}
    one, two = streaming.questions(row)
    assert (one["earlier"], one["stem"], one["part"], one["now"]) == ("", "s", "sqa", "0:01")
    assert two["earlier"] == "At 0:01: One? (A. red; B. blue) Answer: B"
    alone = streaming.questions({"@file": "questions_real.json", "video_path": "v/s.mp4", "questions": [first, second]})
    assert [each["earlier"] for each in alone] == ["", ""]


@pytest.mark.parametrize(
    ("options", "whole"),
    [
        (["A. a", "B. b", "C. c", "D. d"], ["A. a", "B. b", "C. c", "D. d"]),
        (["a", "b", "c", "d"], ["a", "b", "c", "d"]),
        (["A. a", "", "B. b", "goes on", "C. c", "D. d"], ["A. a", "B. b goes on", "C. c", "D. d"]),
        (["A. a", "B. b", "C. c", "D. d", "E. Translated"], ["A. a", "B. b", "C. c", "D. d"]),
    ],
)
def test_options_that_were_cut_into_lines(options, whole):
    assert streaming.whole_options({"options": options}) == whole


def polls(replies, *, due=13, said=None):
    """The records of one question, asked at the seconds of ``replies``; ``said`` are the answers at some of them."""
    made = []
    for ask, given in (("when", replies), ("what", said or {})):
        for now, reply in given.items():
            facets = {"question": "q", "ask": ask, "now": f"{float(now)}", "due": f"{float(due)}"}
            task, answer = ("boolean", "Yes") if ask == "when" else ("open_ended", "goal")
            sample = Sample(f"{ask} {now}", "?", answer, task, extra={"facets": facets})
            greedy = None
            if reply is not None:
                greedy = TrajectoryRecord(reply, 1, "stop", score(task, reply, answer))
            made.append(sample_record(sample, greedy=greedy, error=None if greedy else "failed"))
    return greedy_answers(made)


@pytest.mark.parametrize(
    ("replies", "said", "in_time", "right"),
    [
        ({12: "No", 13: "Yes", 16: "Yes"}, {13: "goal"}, 1.0, 1.0),
        ({12: "No", 13: "Yes", 16: "Yes"}, {13: "Goal."}, 1.0, 1.0),
        ({12: "No", 13: "Yes", 16: "Yes"}, {13: "no goal", 14: "goal"}, 1.0, 0.0),
        ({13: "Yes"}, {}, 1.0, 0.0),
        ({13: "Yes"}, {13: None}, 1.0, 0.0),
        # The first yes counts: this one is three seconds early, although a later one would be in time.
        ({10: "Yes", 13: "Yes"}, {13: "goal"}, 0.0, 0.0),
        ({11: "yes", 16: "No"}, {11: "goal"}, 1.0, 1.0),
        ({15: "Yes"}, {15: "goal"}, 1.0, 1.0),
        ({16: "Yes"}, {}, 0.0, 0.0),
        # A question that failed, an empty reply and a word that only holds a yes say nothing.
        ({12: None, 13: "", 14: "Yesterday"}, {13: "goal"}, 0.0, 0.0),
    ],
)
def test_the_first_yes_in_time(replies, said, in_time, right):
    answered = polls(replies, said=said)
    assert streaming.in_time(answered) == in_time
    assert streaming.right_in_time(answered) == right
    metric = Metric("time", group="question", of_group=streaming.in_time)
    assert metric(answered) == in_time and len(metric.items(answered)) == 1
    assert all(isinstance(one, Answered) for one in answered)
