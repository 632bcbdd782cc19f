"""What VSI-Bench and its debiased and pruned parts have in common: questions about space, choice and numeric.

Numeric answers are scored by mean relative accuracy as the authors' scorer computes it (the form ``vsi-bench`` of
``regression``). The overall number is the mean over eight tasks; the direction of an object is the mean of easy, medium
and hard ones (``vsibench_aggregate_results`` of vision-x-nyu/thinking-in-space).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from easyvideor1.benchmarks.metrics import Metric
from easyvideor1.benchmarks.question import QuestionError
from easyvideor1.benchmarks.readers.mixed import choice_or_open
from easyvideor1.benchmarks.readers.shapes import published
from easyvideor1.benchmarks.release import NUMBER, Raw

_DIRECTION = "object_rel_direction"
_NUMERIC = ("object_counting", "object_abs_distance", "object_size_estimation", "room_size_estimation")
_CHOICE = ("object_rel_distance", _DIRECTION, "route_planning", "obj_appearance_order")
_DIRECTIONS = tuple(f"{_DIRECTION}_{level}" for level in ("easy", "medium", "hard"))


def _kind(row: Raw) -> str:
    kind = str(row["question_type"] if "question_type" in row else row["original_question_type"])
    if kind not in (*_NUMERIC, *_CHOICE, *_DIRECTIONS) or kind == _DIRECTION:
        raise QuestionError(f"its type {kind!r} is none of the benchmark")
    return kind


def _skill(row: Raw) -> str:
    kind = _kind(row)
    return _DIRECTION if kind in _DIRECTIONS else kind


def _columns(row: Raw) -> Mapping[str, Any]:
    return {"reward_form": "vsi-bench"} if _kind(row) in _NUMERIC else {}


_FACETS = {"question_type": _kind, "skill": _skill}

#: Rows of ``test-*.parquet``, ``test.jsonl`` and their parts.
OFFICIAL = choice_or_open(
    lambda row: _kind(row) not in _NUMERIC,
    id=lambda row: row.get("id", row[NUMBER]),
    question="question",
    options="options",
    answer="ground_truth",
    video="{dataset}/{scene_name}.mp4",
    task=lambda row: "regression",
    facets=_FACETS,
    columns=_columns,
)
#: Rows of the published evaluation file.
PUBLISHED = published(_FACETS, columns=_columns)
_LEVELS = ("skill", "question_type")
METRICS = (
    Metric("overall", macro=_LEVELS),
    *(Metric(skill, where={"skill": skill}, macro=("question_type",)) for skill in (*_NUMERIC, *_CHOICE)),
)
