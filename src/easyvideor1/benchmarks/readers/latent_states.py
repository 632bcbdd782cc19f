"""The questions of VideoReasonBench: what happened to a hidden state that a video shows once.

Groups and levels are those of ``utils/show_results.py`` of llyx97/video_reason_bench and of its paper.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from easyvideor1.benchmarks.metrics import Metric, by_value, right
from easyvideor1.benchmarks.question import Question, QuestionError
from easyvideor1.benchmarks.readers.operations import PUZZLE, puzzle_of
from easyvideor1.benchmarks.readers.shapes import Part, plain, published, take
from easyvideor1.benchmarks.release import FILE, Raw

#: The questions end with this line. The form of the answer is the prompt's to ask for, so the line goes to the column
#: ``closing``, where a template finds it: in a reply of several lines, "Final Answer:" marks only the first.
CLOSING = "Provide a summary of the final answer after 'Final Answer:'"
_UNSCORED = (
    "its answer is any sequence of operations that reaches a goal; playing it takes the states of the official file"
)
#: Words of the questions for operations, and of no other (counted in the 1,440 questions of the release).
_GOAL = re.compile(r"desired (?:arrangement|distribution|number arrangement)|contains exactly the following")
_INFERRED = ("order_state", "counting_state")
_LEVELS: Mapping[str, tuple[str, ...]] = {
    "recall": ("order_operation", "counting_operation"),
    "infer": ("infer_state", "comparison_state"),
    "predict": ("prediction_state", "prediction_operation"),
}


def _dim(row: Raw) -> str:
    return "infer_state" if row["dim"] in _INFERRED else str(row["dim"])


def _state_size(row: Raw) -> str:
    """Games on a board have sizes 3 and 4, the others 1 and 2."""
    size = {"1": "1", "2": "2", "3": "1", "4": "2"}.get(str(row["num_state"]))
    if size is None:
        raise QuestionError(f"its num_state {row['num_state']!r} is none of 1 to 4")
    return size


def _operations(row: Raw) -> str:
    return "5-9" if int(row["num_operation"]) < 10 else "10-14"


_FACETS: Mapping[str, Part] = {
    "dim": _dim,
    "game": lambda row: PurePosixPath(row[FILE]).stem,
    "state_size": _state_size,
    "operations": _operations,
}
_READ = plain(
    id=lambda row: f"{PurePosixPath(row[FILE]).stem}/{row['@key']}",
    question="question",
    answer="answer",
    video="video",
    task="open_ended",
    facets=_FACETS,
)
_READ_PUBLISHED = published({"game": lambda row: PurePosixPath(row["path"]).parts[0]})


def _without_closing(question: Question) -> Question:
    asked, found, rest = question.question.rpartition(CLOSING)
    if not found or rest.strip():
        return question
    return replace(question, question=asked.rstrip(), columns={**question.columns, "closing": CLOSING})


def official(row: Raw) -> Question:
    """Rows of ``questions/GAME.json``. One for operations has no answer there; its goal becomes the reference.

    Raises:
        QuestionError: a column is missing, or a question for operations states no goal.
    """
    if row.get("dim") != "prediction_operation":
        return _without_closing(_READ(row))
    puzzle = take(row, lambda row: puzzle_of(row, PurePosixPath(row[FILE]).stem))
    question = _READ({**row, "answer": f"any operations that lead to: {json.dumps(puzzle['goal'])}"})
    return _without_closing(replace(question, columns={PUZZLE: puzzle}))


def as_published(row: Raw) -> Question:
    """Rows of the published evaluation file.

    Questions for operations have the reference "None" there; so have four others, whose answer it is. The former are
    refused, as the file has no states.

    Raises:
        QuestionError: it asks for operations, or a column is missing.
    """
    question = _READ_PUBLISHED(row)
    if question.answer == "None" and _GOAL.search(question.question):
        raise QuestionError(_UNSCORED)
    return _without_closing(question)


_DIMS = tuple(dim for dims in _LEVELS.values() for dim in dims)
METRICS = (
    Metric("overall", right, judged=True),
    *by_value("dim", _DIMS, right, judged=True),
    *(Metric(level, right, where={"dim": dims}, judged=True) for level, dims in _LEVELS.items()),
)
