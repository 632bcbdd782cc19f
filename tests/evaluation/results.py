"""Results on disk with known answers, for the tests of this folder and of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from easyvideor1.evaluation.certificate import Certificate
from easyvideor1.evaluation.result import summarise
from easyvideor1.records.trajectories import MediaRecord, SampleRecord, TrajectoryRecord
from easyvideor1.types import Score

ASKING: dict[str, Any] = {
    "model": {"weights": "w1", "dtype": "bfloat16"},
    "engine": {"engine": "local"},
    "sampling": {"seed": 0},
    "frames": {"video": {"fps": 2.0, "max_frames": 64}},
    "prompts": {"system": ""},
    "versions": {"torch": "2.11"},
}


def answered(number: int, answer: str, *, reference: str = "A", frames: int = 8, video: str = "") -> SampleRecord:
    """A choice question about ``video`` (its own by default), answered; ``answer`` is empty if the model failed."""
    right = float(answer == reference)
    response = (
        TrajectoryRecord(f"It is {answer}.", 3, "stop", Score(right, 1.0, right, parsed=answer)) if answer else None
    )
    media = MediaRecord("video", video or f"v{number}", f"d{frames}", tuple(range(frames)), (), 64, 64)
    return SampleRecord(
        f"q{number}",
        "multiple_choice",
        f"Question {number}?",
        reference,
        ("red", "blue"),
        prompt=f"Question {number}?",
        prompt_tokens=20 + frames,
        tokens={"text": 20, "video": frames},
        media=(media,),
        greedy=response,
        facets={"half": "even" if number % 2 == 0 else "odd"},
        error=None if response else "MediaError: truncated",
    )


def certificate(label: str = "small", benchmark: str = "colours", version: str = "1", **asking: Any) -> Certificate:
    return Certificate(benchmark, version, label, {**ASKING, **asking}, {"rewards": {"judge": ""}})


def write_result(
    out: Path, given: Certificate, records: Sequence[SampleRecord], scoring: Mapping[str, Any] | None = None
) -> Path:
    """Write a result as an evaluation leaves it; returns its directory."""
    given = replace(given, scoring=scoring or given.scoring)
    directory = given.directory(out)
    summarise("result", records, seed=0, confidence=0.95).write(directory)
    given.write(directory)
    return directory
