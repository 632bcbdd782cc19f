"""What the index keeps of a group and of a response: enough for lists and filters."""

from __future__ import annotations

import math
import statistics
from typing import Any

from easyvideor1.records.trajectories import SampleRecord, TrajectoryRecord

GROUP_COLUMNS = (
    "seq INTEGER",
    "stage TEXT",
    "step INTEGER",
    "line INTEGER",
    "sample TEXT",
    "task TEXT",
    "source TEXT",
    "modality TEXT",
    "question TEXT",
    "answer TEXT",
    "error TEXT",
    "responses INTEGER",
    "used INTEGER",
    "flat INTEGER",
    "mean REAL",
    "low REAL",
    "high REAL",
    "spread REAL",
    "tokens REAL",
    "turns INTEGER",
)
MEMBER_COLUMNS = (
    "seq INTEGER",
    "place INTEGER",
    "head TEXT",
    "parsed TEXT",
    "reason TEXT",
    "origin TEXT",
    "fault TEXT",
    "finish TEXT",
    "reward REAL",
    "accuracy REAL",
    "format REAL",
    "applicable INTEGER",
    "advantage REAL",
    "tokens INTEGER",
    "judge REAL",
    "rule REAL",
)
#: Characters of texts that a list shows.
_HEAD = 240
#: How many of each a sequence tells apart; together they fit 63 bits.
_STAGES, _STEPS, _LINES, _PLACES = 900, 10**7, 10**5, 10**3
#: A judge and a rule that differ by this much do not agree.
DISAGREE = 0.5


def group_values(stage: str, step: int, line: int, record: SampleRecord) -> tuple[Any, ...]:
    """The values of ``GROUP_COLUMNS``. Rewards are the totals of scored responses; ``flat`` is a group of several
    responses without a difference among them, which gives no gradient; ``spread`` is their standard deviation.

    Raises:
        TypeError, ValueError, OverflowError: a value is none of its kind.
    """
    given = record.trajectories
    rewards = [float(each.score.total) for each in given if each.score.applicable and not each.fault]
    finite = [one for one in rewards if math.isfinite(one)]
    spread = statistics.pstdev(finite) if finite else None
    return (
        *(sequence(stage, step, line), stage, step, line),
        *(_plain(text) for text in (record.sample, record.task, record.source, record.modality)),
        *(_head(record.question), _head(record.answer), _plain(record.error or "")),
        *(len(given), int(record.used), int(len(finite) > 1 and (spread or 0.0) < 1e-9)),
        statistics.fmean(finite) if finite else None,
        *(min(finite, default=None), max(finite, default=None), spread),
        statistics.fmean(_count(each.tokens) for each in given) if given else None,
        max((len(each.responses) or 1 for each in given), default=0),
    )


def member_values(first: int, place: int, trajectory: TrajectoryRecord) -> tuple[Any, ...]:
    """The values of ``MEMBER_COLUMNS``; ``first`` is the sequence of the group.

    Raises:
        TypeError, ValueError, OverflowError: a value is none of its kind.
    """
    score = trajectory.score
    return (
        *(first - min(place, _PLACES - 1), place, _head(trajectory.response), _head(score.parsed), _head(score.reason)),
        *(_plain(text) for text in (trajectory.origin, trajectory.fault, trajectory.finish)),
        *(_known(value) for value in (score.total, score.accuracy, score.format)),
        *(
            int(bool(score.applicable) and not trajectory.fault),
            _known(trajectory.advantage),
            _count(trajectory.tokens),
        ),
        *(_known(score.parts.get(name)) for name in ("judge", "rule_accuracy")),
    )


def _known(value: object) -> float | None:
    return None if value is None else float(value)  # type: ignore[arg-type]


def _count(value: int) -> int:
    return min(int(value), 1 << 40)


def sequence(stage: str, step: int, line: int) -> int:
    """Falls in the order of a list: the latest stage and step first, and within a step from the first line on. The
    responses of a group have the numbers below."""
    number = stage.partition("-")[0]
    stages = min(int(number), _STAGES - 1) if number.isdecimal() else 0
    return (
        ((stages * _STEPS + min(step, _STEPS - 1)) * _LINES + _LINES - 1 - min(line, _LINES - 1)) * _PLACES
        + _PLACES
        - 1
    )


def _head(text: str) -> str:
    """The beginning of a text on one line."""
    return _plain(" ".join(text[: 2 * _HEAD].split())[:_HEAD])


def _plain(text: str) -> str:
    """Without halves of surrogate pairs, which JSON may hold and SQLite does not take."""
    if not isinstance(text, str):
        raise TypeError(f"{type(text).__name__} where a text is expected")
    return text.encode(errors="replace").decode()
