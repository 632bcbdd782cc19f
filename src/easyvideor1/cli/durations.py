"""Durations and rates in words."""

from __future__ import annotations

from datetime import timedelta


def clock(seconds: float) -> timedelta:
    """Whole seconds, printed as ``0:02:03``."""
    return timedelta(seconds=round(seconds))


def rate_words(done: float, seconds: float, unit: str) -> str:
    """The rate of ``done`` items in ``seconds`` as text; slow ones as seconds per item."""
    if done <= 0 or seconds <= 0:
        return f"- {unit}/s"
    rate = done / seconds
    return f"{rate:.1f} {unit}/s" if rate >= 1 else f"{1 / rate:.1f} s/{unit}"
