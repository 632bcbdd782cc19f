"""A question of a benchmark in our words, and the row of the published format that it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from easyvideor1.data.rows import PLACEHOLDER


class QuestionError(Exception):
    """A row of a release cannot be used; the message says why. The reader adds the row's id."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question, as a release has it.

    ``video`` is a path below the benchmark's media, or an entry of the row format (a list of frames); empty if there is
    none. ``options`` are texts, with or without their letters. ``answer`` is the reference as a reward reads it: a
    letter, a number, text or JSON. ``start`` and ``end`` are the clip, in seconds. ``context`` goes between video and
    question. ``facets`` are what results are told apart and averaged by; questions with the same value of the facet
    ``group`` are scored together where a metric says so. ``columns`` are further columns for templates and scorers.
    ``repair`` names the rule that mended the row; empty if it is as it was.
    """

    id: str
    question: str
    answer: str
    task: str = "multiple_choice"
    video: Any = ""
    images: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    start: float | None = None
    end: float | None = None
    context: str = ""
    facets: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)
    repair: str = ""

    def row(self, source: str) -> dict[str, Any]:
        """The row of the published format (docs/data.md); ``source`` is the name of the benchmark.

        Raises:
            QuestionError: the question or its context has a placeholder of media of its own.
        """
        if PLACEHOLDER.search(self.question + self.context):
            raise QuestionError("its text contains a media placeholder")
        videos = [self.video] if self.video else []
        marks = "<video>" * len(videos) + "<image>" * len(self.images)
        row: dict[str, Any] = {
            "problem_id": self.id,
            "problem": "\n".join(part for part in (marks, self.context, self.question) if part),
            "problem_type": self.task,
            "data_type": "video" if videos else "image" if self.images else "text",
            "options": list(self.options),
            "answer": self.answer,
            "videos": videos,
            "images": list(self.images),
            "data_source": source,
            "facets": dict(self.facets),
            **self.columns,
        }
        clip = {"start": self.start, "end": self.end}
        return row | {name: value for name, value in clip.items() if value is not None}
