"""The audit of a user's rows, behind ``evr1 check rewards``: references, constant-answer baselines, length bias."""

from easyvideor1.rewards.audit.report import FULL, TaskAudit, audit, reference_scorer, unanswerable

__all__ = ["FULL", "TaskAudit", "audit", "reference_scorer", "unanswerable"]
