"""Rewards of a user that are scored in processes: little is imported, since every process does it."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

from easyvideor1.types import Sample, Score, Trajectory


def turns_taken(sample: Sample, response: str, trajectory: Trajectory | None) -> float:
    return 0.0 if trajectory is None else len(trajectory.turns) / 4


def share_of_longest(sample: Sample, responses: list[str], scores: list[Score]) -> list[float]:
    longest = max(len(response) for response in responses)
    return [len(response) / longest for response in responses]


def polite(sample: Sample, response: str) -> float | None:
    return None if sample.task == "math" else float("please" in response)


def failing(sample: Sample, response: str) -> float:
    raise KeyError("no such column")


def hanging(sample: Sample, response: str) -> float:
    while response == "hang":
        time.sleep(60)
    return 1.0


def ending(sample: Sample, response: str) -> float:
    if response == "kill":
        tempfile.mkdtemp()  # left behind
        os.kill(os.getpid(), signal.SIGKILL)
    return 1.0


def interrupting(sample: Sample, response: str) -> float:
    raise KeyboardInterrupt("no licence")


def of_local_class(sample: Sample, response: str) -> Score:
    class OwnScore(Score):
        pass

    return OwnScore(1.0, 1.0, 1.0)


def two_turns(sample: Sample, response: str) -> Score:
    return Score(1.0, 1.0, 1.0, turns=(0.5, 0.5))


def meeting(sample: Sample, response: str) -> float:
    """1 if two samples are scored at the same time."""
    place, until = Path(sample.extra["place"]), time.monotonic() + 30
    (place / sample.id).touch()
    while len([*place.iterdir()]) < 2:
        if time.monotonic() > until:
            return 0.0
        time.sleep(0.01)
    return 1.0
