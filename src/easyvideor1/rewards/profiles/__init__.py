"""The scores of the two published reward packages, reproduced for comparison only.

They measure what strict scoring changes, faults included, and are not meant for training. What the published code turns
into 0 (an exception, an unreadable reference) is 0 here too, never "not applicable". Its exact grader, ``mathruler``,
is replaced by equality of texts without regard to case, and for math by this library's own comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from easyvideor1.rewards.profiles import unified, video
from easyvideor1.rewards.profiles.differences import DIFFERENCES, Difference
from easyvideor1.types import ConfigError, Score

__all__ = ["DIFFERENCES", "PROFILES", "Difference", "published_score"]

#: ``(task, response, answer) -> (accuracy, format, what was read)``.
Published = Callable[[str, str, str], tuple[float, float, str]]

PROFILES: MappingProxyType[str, Published] = MappingProxyType(
    {"easyvideor1-video": video.judge, "easyvideor1-unified": unified.judge}
)
#: What broken input raises in either package; both turn any exception into 0 for accuracy, format and total.
_RAISED = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError)


def published_score(profile: str, task: str, response: str, answer: str, weights: tuple[float, float]) -> Score:
    """The score of a published package for a canonical task type.

    Neither package is given the options of a question or any further column.

    Args:
        profile: a name of ``PROFILES``.
        task: canonical task type.
        response: the whole response.
        answer: the reference as text.
        weights: of accuracy and format.

    Raises:
        ConfigError: the profile is unknown.
    """
    judge = PROFILES.get(profile)
    if judge is None:
        raise ConfigError(f"rewards.profile {profile!r}: use strict, {' or '.join(PROFILES)}")
    try:
        accuracy, form, read = judge(task, response, answer)
    except _RAISED as error:
        return Score(0.0, 0.0, 0.0, reason=f"the published code fails here: {type(error).__name__}")
    total = min(1.0, weights[0] * accuracy + weights[1] * form)
    return Score(accuracy, form, total, parsed=read)
