"""A language model as a judge: its prompts and verdicts, its HTTP client, its budget and its cache."""

from easyvideor1.rewards.judge.judge import Judge, JudgeItem

__all__ = ["Judge", "JudgeItem"]
