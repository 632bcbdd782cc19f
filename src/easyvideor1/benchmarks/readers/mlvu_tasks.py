"""The tasks of MLVU: choice questions, and two open ones with the rubrics of their judge.

Source: JUNJIE99/MLVU (``data/*.json``, ``generation_evaluation/``); docs/benchmark_facts.md. The authors' judge gives
two grades from 1 to 5, whose sum is an answer's score out of 10; a verdict that cannot be read counts as 0. Here an
empty answer has the lowest grades without being judged.
"""

from __future__ import annotations

from pathlib import PurePath

from easyvideor1.benchmarks.judging import Rubric
from easyvideor1.benchmarks.question import Question, QuestionError
from easyvideor1.benchmarks.readers.shapes import choice, plain
from easyvideor1.benchmarks.release import FILE, NUMBER, Raw

#: The rubrics of the open tasks, by the facet ``task``, and the grades whose sum is a score out of 10.
RUBRICS = (
    Rubric("mlvu_sub_scene", {"points": (1, 5), "relevance": (1, 5)}, where={"task": "sub_scene"}),
    Rubric("mlvu_summary", {"completeness": (1, 5), "reliability": (1, 5)}, where={"task": "summary"}),
)
GRADES = tuple(name for rubric in RUBRICS for name in rubric.grades)


def file_of(row: Raw) -> str:
    """The name of a row's file without its ending, such as ``1_plotQA``; the videos are in a folder of this name."""
    return PurePath(row[FILE]).stem


def _id(row: Raw) -> str:
    return f"{file_of(row)}-{row[NUMBER]}"


def _video(row: Raw) -> str:
    return f"{file_of(row)}/{row['video']}"


#: Choice questions of the dev set: the reference is the text of a candidate.
DEV_CHOICE = choice(
    id=_id,
    question="question",
    options="candidates",
    answer="answer",
    gold="text",
    video=_video,
    facets={"task": "question_type"},
)
#: Choice questions of the test set.
TEST_CHOICE = choice(
    id="question_id",
    question="question",
    options="candidates",
    answer="answer",
    gold="text",
    video="{video}",
    facets={"task": "question_type"},
)
#: Choice questions as lmms-eval distributes them: the options are in the question, the reference is a letter.
HUB_CHOICE = choice(
    id="{task_type}-{@number}",
    question="question",
    answer="answer",
    video="{video_name}",
    facets={"task": "task_type"},
)


def read_open(row: Raw) -> Question:
    """A question of ``8_sub_scene.json``, whose reference is the list of its scoring points, or of ``9_summary.json``.

    Raises:
        QuestionError: the row cannot be used, or its file is another one.
    """
    task = file_of(row).partition("_")[2]
    if task not in ("sub_scene", "summary"):
        raise QuestionError(f"its file {row[FILE]!r} is none of the open tasks")
    read = plain(
        id=_id,
        question="question",
        answer=_points if task == "sub_scene" else "answer",
        video=_video,
        task="open_ended",
        facets={"task": lambda _: task},
    )
    return read(row)


def _points(row: Raw) -> str:
    given = row["scoring_points"]
    points = [str(point).strip() for point in ([given] if isinstance(given, str) else given or ())]
    if not any(points):
        raise QuestionError("it has no scoring points")
    return "\n".join(f"- {point}" for point in points if point)
