"""Repeated and contradicting samples."""

from dataclasses import replace

from easyvideor1.data.duplicates import find_repeated
from easyvideor1.types import MediaRef, Sample

ONE = Sample(
    id="1",
    question="<video>\nWhat  moves?",
    task="multiple_choice",
    answer="A",
    media=(MediaRef("video", "/a.mp4"),),
    options=("A. a ball", "B. a box"),
    source="s",
    where="f:1",
)


def test_case_spaces_and_ids_do_not_count():
    same = replace(ONE, id="2", question="<video> what moves?", where="f:2")
    found = find_repeated([ONE, same])
    assert (found.unique, found.copies, found.conflicts) == ([ONE], [(ONE, same)], [])


def test_another_answer_contradicts():
    other = replace(ONE, answer="B", where="f:2")
    found = find_repeated([ONE, other])
    assert (found.unique, found.copies, found.conflicts) == ([ONE], [], [(ONE, other)])


def test_other_media_clips_options_and_tasks_are_other_questions():
    others = [
        replace(ONE, media=(MediaRef("video", "/b.mp4"),)),
        replace(ONE, media=(MediaRef("video", "/a.mp4", 1.0, 2.0),)),
        replace(ONE, options=("A. a box", "B. a ball")),
        replace(ONE, task="open_ended"),
    ]
    assert find_repeated([ONE, *others]).unique == [ONE, *others]
