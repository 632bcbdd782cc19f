"""Rewards: read the answer of a response, compare it with the reference, and say what it is worth.

Where to add something:

- A task type: a ``Rule`` in a file of ``tasks/``, and its line in the table of ``rules.py``.
- A part of the total: a function in ``parts.py``, and its line in ``BUILT_IN`` there.
- A custom reward: no code here. Name your function in ``rewards.custom`` or ``rewards.parts`` (``custom.py`` loads it).
- A judge or a renderer for a task type: ``review.py``.
- Readers of values that several types share (JSON, boxes, time spans, number words): ``readers/``.
"""

from easyvideor1.rewards.extraction import parse
from easyvideor1.rewards.references import check_answer
from easyvideor1.rewards.score import score
from easyvideor1.rewards.scorer import Scorer
from easyvideor1.rewards.types import Answer, ColumnError, RewardError

__all__ = ["Answer", "ColumnError", "RewardError", "Scorer", "check_answer", "parse", "score"]
