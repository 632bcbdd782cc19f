"""Scores of groups of questions that build on each other: Video-MME-v2.

Source: MME-Benchmarks/Video-MME-v2, as read in its own and in lmms-eval's scorer (docs/benchmark_facts.md). Scores are
here from 0 to 1. A group has four questions about one video, whose place in it is the facet ``place``, from 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from easyvideor1.benchmarks.metrics import Answered
from easyvideor1.benchmarks.question import QuestionError
from easyvideor1.benchmarks.readers.shapes import Part, optional
from easyvideor1.benchmarks.release import Raw

SIZE = 4

#: Structure of a logic group -> its score for 0, ..., 4 steps of the chain of right answers.
LOGIC = {
    "[1,2,3,4]": (0.0, 1 / 16, 4 / 16, 9 / 16, 1.0),
    "[1,[2,3],4]": (0.0, 1 / 12, 4 / 12, 7 / 12, 1.0),
    "[[1,2],3,4]": (0.0, 1 / 10, 2 / 10, 5 / 10, 1.0),
}


def relevance_score(right: Sequence[bool]) -> float:
    """The square of the share of right answers."""
    return (sum(right) / SIZE) ** 2


def logic_score(right: Sequence[bool], structure: str) -> float:
    """The score for the chain of right answers from the first question on.

    Where the second and the third question stand side by side (``[1,[2,3],4]``), a right third one behind a right first
    and a wrong second one counts as one more step; where the first two do (``[[1,2],3,4]``), a right second one behind
    a wrong first one counts as one step. The chain ends there.

    Args:
        right: of the four questions in their order.
        structure: a key of ``LOGIC``.
    """
    steps = next((at for at, each in enumerate(right) if not each), SIZE)
    if (structure == "[1,[2,3],4]" and steps == 1 and right[2]) or (
        structure == "[[1,2],3,4]" and steps == 0 and right[1]
    ):
        steps += 1
    return LOGIC[structure][steps]


def group_score(group: Sequence[Answered]) -> float:
    """The score of a group by its facets ``group_type`` (relevance or logic), ``structure`` and ``place``.

    A question of the group that is not there is not right.
    """
    right = [False] * SIZE
    for each in group:
        right[int(each.facet("place")) - 1] = each.accuracy >= 1.0
    if group[0].facet("group_type") == "relevance":
        return relevance_score(right)
    return logic_score(right, group[0].facet("structure"))


def _place(row: Raw) -> str:
    place = str(row["question_id"]).rpartition("-")[2]
    if place not in map(str, range(1, SIZE + 1)):
        raise QuestionError(f"its question_id {row['question_id']!r} does not end in its place from 1 to {SIZE}")
    return place


def _type(row: Raw) -> str:
    if row["group_type"] not in ("relevance", "logic"):
        raise QuestionError(f"its group_type {row['group_type']!r} is neither relevance nor logic")
    return str(row["group_type"])


def _structure(row: Raw) -> str:
    structure = "".join(str(row["group_structure"] or "").split())
    if _type(row) == "logic" and structure not in LOGIC:
        raise QuestionError(f"its group_structure {row['group_structure']!r} is none of {', '.join(LOGIC)}")
    return structure


#: The facets of a question that ``group_score`` reads, and those that the release gives to the last one of a group.
FACETS: Mapping[str, Part] = {
    "group": "video_id",
    "place": _place,
    "group_type": _type,
    "structure": _structure,
    **{column: optional(column) for column in ("level", "second_head", "third_head")},
}
