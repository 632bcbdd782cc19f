"""Rewards of a user, named by import string in the tests of the scorer."""

from __future__ import annotations

from easyvideor1.types import Sample, Score


def long_enough(sample: Sample, response: str) -> Score | None:
    if sample.task != "open_ended":
        return None
    value = min(1.0, len(response) / 10)
    return Score(value, 1.0, value, {"length": float(len(response))})


def failing(sample: Sample, response: str) -> Score | None:
    raise KeyError("no such column")


def bare_number(sample: Sample, response: str) -> float:
    return 0.5


def out_of_range(sample: Sample, response: str) -> Score:
    return Score(1.0, 1.0, 1.5)


constant = 3
