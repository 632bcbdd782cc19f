"""Rewards: read the answer of a response, compare it with the reference, say what it is worth."""

from easyvideor1.rewards.answer import Answer, ColumnError, RewardError
from easyvideor1.rewards.check import check_answer
from easyvideor1.rewards.parse import parse
from easyvideor1.rewards.score import score
from easyvideor1.rewards.scorer import Scorer

__all__ = ["Answer", "ColumnError", "RewardError", "Scorer", "check_answer", "parse", "score"]
