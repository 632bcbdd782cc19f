"""What the index keeps of a group and of a response: enough for lists and filters."""

from __future__ import annotations

import math
import statistics
from typing import Any

from easyvideor1.records.trajectories import SampleRecord, TrajectoryRecord

GROUP_COLUMNS = (
    *("stage TEXT", "step INTEGER", "line INTEGER", "sample TEXT", "task TEXT", "source TEXT", "modality TEXT"),
    *("question TEXT", "answer TEXT", "error TEXT", "responses INTEGER", "used INTEGER", "flat INTEGER"),
    *("mean REAL", "low REAL", "high REAL", "spread REAL", "tokens REAL", "turns INTEGER"),
)
MEMBER_COLUMNS = (
    *("place INTEGER", "head TEXT", "parsed TEXT", "reason TEXT", "origin TEXT", "fault TEXT", "finish TEXT"),
    *("reward REAL", "accuracy REAL", "format REAL", "applicable INTEGER", "advantage REAL", "tokens INTEGER"),
    *("judge REAL", "rule REAL"),
)
#: Characters of texts that a list shows.
_HEAD = 240
#: A judge and a rule that differ by this much do not agree.
DISAGREE = 0.5


def group_values(stage: str, step: int, line: int, record: SampleRecord) -> tuple[Any, ...]:
    """The values of ``GROUP_COLUMNS``. Rewards are the totals of scored responses; ``flat`` is a group of several
    responses without a difference among them, which gives no gradient; ``spread`` is their standard deviation."""
    rewards = [each.score.total for each in record.trajectories if each.score.applicable and not each.fault]
    finite = [one for one in rewards if math.isfinite(one)]
    spread = statistics.pstdev(finite) if finite else None
    return (
        *(stage, step, line, _plain(record.sample), record.task, record.source, record.modality),
        *(_head(record.question), _head(record.answer), _plain(record.error or "")),
        *(len(record.trajectories), int(record.used), int(len(finite) > 1 and (spread or 0.0) < 1e-9)),
        statistics.fmean(finite) if finite else None,
        *(min(finite, default=None), max(finite, default=None), spread),
        statistics.fmean(each.tokens for each in record.trajectories) if record.trajectories else None,
        max((len(each.responses) or 1 for each in record.trajectories), default=0),
    )


def member_values(place: int, trajectory: TrajectoryRecord) -> tuple[Any, ...]:
    """The values of ``MEMBER_COLUMNS``."""
    score = trajectory.score
    return (
        *(place, _head(trajectory.response), _head(score.parsed), _head(score.reason)),
        *(trajectory.origin, trajectory.fault, trajectory.finish),
        *(score.total, score.accuracy, score.format, int(score.applicable and not trajectory.fault)),
        *(trajectory.advantage, trajectory.tokens, score.parts.get("judge"), score.parts.get("rule_accuracy")),
    )


def _head(text: str) -> str:
    return _plain(" ".join(text[: 2 * _HEAD].split())[:_HEAD])


def _plain(text: str) -> str:
    """Without halves of surrogate pairs, which JSON may hold and SQLite does not take."""
    return text.encode(errors="replace").decode()
