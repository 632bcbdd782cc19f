"""Captions that are judged by the questions that they answer: the shape of such rows, and the pairs of a sample.

AuroraCap (arXiv 2410.03051) scores a caption so: a language model answers each question from the caption alone, and the
answer is compared with the reference.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

from easyvideor1.benchmarks.question import Question, QuestionError
from easyvideor1.benchmarks.readers.shapes import Part, Reader, facets_of, take, text
from easyvideor1.benchmarks.release import Raw
from easyvideor1.types import Sample


def captioned(
    *, id: Part, request: str, pairs: Part, video: Part, facets: Mapping[str, Part] | Sequence[str] = ()
) -> Reader:
    """Videos to be described, with the questions that the caption must answer.

    Args:
        request: what the model is asked.
        pairs: a list of ``{"question": ..., "answer": ...}``, or the text of one in JSON or Python.

    The reference is the facts in words; the facet ``questions`` is their number, and the column ``pairs`` has them.
    """

    def read(row: Raw) -> Question:
        found = [[text(each, name) for name in ("question", "answer")] for each in _listed(take(row, pairs))]
        if not found:
            raise QuestionError("it has no questions about its caption")
        return Question(
            id=text(row, id),
            question=request,
            answer="\n".join(f"{asked} {answer}" for asked, answer in found),
            task="description",
            video=text(row, video),
            facets={**facets_of(row, facets), "questions": str(len(found))},
            columns={"pairs": found},
        )

    return read


def _listed(value: Any) -> list[Mapping[str, Any]]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            try:
                value = ast.literal_eval(value)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                raise QuestionError(f"its questions are no list: {value[:60]!r}") from None
    if not isinstance(value, Sequence) or not all(isinstance(each, Mapping) for each in value):
        raise QuestionError("its questions are no list of questions and answers")
    return list(value)


def pairs_of(sample: Sample) -> list[tuple[str, str]]:
    """The questions and references of a sample of ``captioned``."""
    return [(asked, answer) for asked, answer in sample.extra["pairs"]]
