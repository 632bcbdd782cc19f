"""Questions of VCR-Bench: choice and open ones, each with the steps of a reference solution.

Source: zhishuifeiqian/VCR-Bench, ``eval_code/eval.py`` (docs/benchmark_facts.md). An open answer that is a list of two
numbers is a time span, of four a box in pixels; an answer is right if the IoU is over 0.7 or over 0.5. All others are
compared by meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from easyvideor1.benchmarks.metrics import Answered, right
from easyvideor1.benchmarks.question import Question, QuestionError
from easyvideor1.benchmarks.readers.mixed import choice_or_open, filled, open_ended
from easyvideor1.benchmarks.readers.shapes import published
from easyvideor1.benchmarks.release import Raw
from easyvideor1.benchmarks.step_judging import STEPS

#: Type of an answer that is a list of so many numbers -> (its key in the reference, the IoU that it must exceed).
_PLACED: Mapping[str, tuple[str, float]] = {"temporal_grounding": ("time", 0.7), "spatial_grounding": ("boxes", 0.5)}
_BY_LENGTH = {2: "temporal_grounding", 4: "spatial_grounding"}


def answered_right(answered: Answered) -> float:
    """Whether an answer is right: by its IoU where it is a span or a box."""
    placed = _PLACED.get(answered.record.task)
    return right(answered) if placed is None else float(answered.accuracy > placed[1])


def _placed(question: Question) -> Question:
    """An open question, of the type of its answer."""
    try:
        listed = json.loads(question.answer)
    except ValueError:
        return question
    if not isinstance(listed, list) or not all(isinstance(each, int | float) for each in listed):
        return question
    if (task := _BY_LENGTH.get(len(listed))) is None:
        raise QuestionError(f"its answer {question.answer!r} is neither a span nor a box")
    half = len(listed) // 2
    if not all(low < high for low, high in zip(listed[:half], listed[half:], strict=True)):
        raise QuestionError(f"its answer {question.answer!r} has no extent")
    columns = {**question.columns, "coordinates": "pixel"} if half == 2 else question.columns
    return replace(question, task=task, answer=json.dumps({_PLACED[task][0]: listed}), columns=columns)


def _duration(row: Raw) -> str:
    return "0-60 s" if row["duration"] <= 60 else "60-300 s" if row["duration"] <= 300 else "over 300 s"


def _steps(row: Raw) -> dict[str, Any]:
    listed = [str(each).strip() for each in row.get("reasoning") or ()]
    return {STEPS: listed} if any(listed) else {}


_OFFICIAL = choice_or_open(
    lambda row: row["multiple-choice"],
    id="id",
    question="question",
    options=filled("choices"),
    answer="answer",
    video="video_path",
    task=open_ended,
    facets={
        "dimension": "dimension",
        "duration": _duration,
        "kind": lambda row: "multiple_choice" if row["multiple-choice"] else "open_ended",
    },
    columns=_steps,
)
_PUBLISHED = published(
    {"kind": lambda row: "multiple_choice" if row["problem_type"] == "multiple choice" else "open_ended"}
)


def official(row: Raw) -> Question:
    """Rows of ``meta_info_video.json``.

    Raises:
        QuestionError: the row cannot be used.
    """
    question = _OFFICIAL(row)
    return question if question.options else _placed(question)


def as_published(row: Raw) -> Question:
    """Rows of the published evaluation file, which has no steps.

    Raises:
        QuestionError: the row cannot be used.
    """
    question = _PUBLISHED(row)
    return question if question.options else _placed(question)
