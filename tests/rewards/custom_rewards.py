"""Rewards of a user, named by import string in the tests of the scorer."""

from __future__ import annotations

import time

import numpy as np
import torch

from easyvideor1.types import Sample, Score, Trajectory


def long_enough(sample: Sample, response: str) -> Score | None:
    if sample.task != "open_ended":
        return None
    value = min(1.0, len(response) / 10)
    return Score(value, 1.0, value, {"length": float(len(response))})


def turns_taken(sample: Sample, response: str, trajectory: Trajectory | None) -> float:
    return 0.0 if trajectory is None else len(trajectory.turns) / 4


def failing(sample: Sample, response: str) -> Score | None:
    raise KeyError("no such column")


def bare_number(sample: Sample, response: str) -> float:
    return 0.5


def single_precision(sample: Sample, response: str) -> Score:
    numbers = np.array([0.5, 0.25, 1.0], dtype=np.float32)
    return Score(numbers[0], torch.tensor(0.25), numbers[2] + 1e-7, {"length": np.int64(3)})  # type: ignore[arg-type]


def no_number(sample: Sample, response: str) -> Score:
    return Score("0.5", 1.0, 0.5)  # type: ignore[arg-type]


def many_numbers(sample: Sample, response: str) -> Score:
    return Score(1.0, 1.0, 0.5, {"all": np.array([0.5])})  # type: ignore[dict-item]


def no_parts(sample: Sample, response: str) -> Score:
    return Score(1.0, 1.0, 0.5, [0.5])  # type: ignore[arg-type]


def not_finite(sample: Sample, response: str) -> Score:
    return Score(1.0, float("nan"), 0.5)


def out_of_range(sample: Sample, response: str) -> Score:
    return Score(1.0, 1.0, 1.5)


constant = 3


def politeness(sample: Sample, response: str) -> float | None:
    return None if sample.task == "boolean" else float("please" in response)


def graded(sample: Sample, response: str) -> Score | None:
    return Score(1.0, 1.0, 0.25) if response else Score(0.0, 0.0, 0.0, applicable=False, reason="empty")


def share_of_longest(sample: Sample, responses: list[str], scores: list[Score], *, power: float = 1.0) -> list[float]:
    longest = max(len(response) for response in responses)
    return [(len(response) / longest) ** power for response in responses]


def too_few(sample: Sample, responses: list[str], scores: list[Score]) -> list[float | None]:
    return [None]


def too_much(sample: Sample, response: str) -> float:
    return 1.5


def in_words(sample: Sample, response: str) -> str:
    return "much"


def failing_group(sample: Sample, responses: list[str], scores: list[Score]) -> list[float]:
    raise ZeroDivisionError("no responses")


def four(sample: Sample, response: str, scores: list[Score], more: int) -> float:
    return 0.0


def hanging(sample: Sample, response: str) -> Score | None:
    while response == "hang":
        time.sleep(0.01)
    return Score(1.0, 1.0, 1.0)


def leaving(sample: Sample, response: str) -> Score | None:
    raise SystemExit(0)


#: Responses that the rewards below were called with.
SEEN: list[str] = []


def noted(sample: Sample, response: str) -> float:
    SEEN.append(response)
    return 1.0


def noted_part(sample: Sample, response: str) -> float:
    SEEN.append(response)
    return 0.5


def words(sample: Sample, response: str) -> str:
    return "quite good"


def pair(sample: Sample, response: str) -> tuple[float, float]:
    return 1.0, 0.5


def percent(sample: Sample, response: str) -> float:
    return 50.0


def none_at_all(sample: Sample, responses: list[str], scores: list[Score]) -> list[float]:
    return []


def deep(sample: Sample, response: str) -> float:
    return deeper(sample, response)


def deeper(sample: Sample, response: str) -> float:
    return float(sample.anwser in response)


def never_returning(sample: Sample, response: str) -> float:
    while True:
        time.sleep(0.01)
