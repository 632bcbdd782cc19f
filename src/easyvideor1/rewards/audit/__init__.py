"""The audit of a user's rows, behind ``evr1 check rewards``: references, constant-answer baselines, length bias."""

from easyvideor1.rewards.audit.report import TaskAudit, audit, reference_scorer

__all__ = ["TaskAudit", "audit", "reference_scorer"]
