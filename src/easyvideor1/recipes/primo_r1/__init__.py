"""PRIMO R1: how far a task has come, in percent, judged between images of its first and of its current state."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from easyvideor1.files import write_text
from easyvideor1.rewards.tags import full_response, grammar_of, is_well_formed, last_tag
from easyvideor1.toyworld.encode import write_video
from easyvideor1.toyworld.scene import COLOURS, Body, Scene, paint
from easyvideor1.types import Sample, Score

#: Tags of a response, as ``rewards.grammar`` of the recipe has them.
GRAMMAR = ("think/planning", "think/observation", "think/reasoning")
_NUMBER = re.compile(r"\s*(-?\d{1,9}(?:\.\d{1,9})?)\s*(?:%|percent)?\s*")
#: R of the progress reward: the range of the answers.
RANGE = 100.0


def progress(predicted: float, reference: float, scale: float = RANGE) -> float:
    """``clip(1 - |p - t| / R, 0, 1)``."""
    return min(max(1.0 - abs(predicted - reference) / scale, 0.0), 1.0)


def reward(sample: Sample, response: str) -> Score:
    """Progress reward and format, which is 1 for the nested tags and a number in the answer tag; half of each.

    ``50%`` is 50: the released code reads it as 0.5 in an answer and as 50 in a reference. The part ``error`` is the
    absolute error in percent, whose mean is the MAE; a response without a number has the largest, ``RANGE``.
    """
    found = _NUMBER.fullmatch(last_tag(response) or "")
    if found is None:
        return Score(0.0, 0.0, 0.0, {"error": RANGE}, reason="no number in the answer tag")
    number = float(found[1])
    accuracy = progress(number, float(sample.answer))
    form = float(is_well_formed(response, grammar_of(GRAMMAR)))
    error = min(abs(number - float(sample.answer)), RANGE)
    return Score(accuracy, form, (accuracy + form) / 2, {"error": error}, parsed=f"{number:g}")


def group_length_bonus(
    sample: Sample, responses: Sequence[str], scores: Sequence[Score], *, shortest: float, longest: float, least: float
) -> list[float | None]:
    """1 for responses of ``shortest`` to ``longest`` characters with an accuracy above ``least``, if a group has two or
    more of them; else 0 for all (``len_control`` of the released code, which counts tokens)."""
    fit = [
        score.applicable and score.accuracy > least and shortest <= len(text) <= longest
        for text, score in zip(responses, scores, strict=True)
    ]
    if sum(fit) < 2:
        fit = [False] * len(fit)
    return [float(one) if score.applicable else None for one, score in zip(fit, scores, strict=True)]


#: Toy clips: pixels of a side, frames, frames a second, and x of start and target for a task that goes right.
_SIDE, _FRAMES, _FPS, _FROM, _TO = 64, 8, 4.0, 12.0, 52.0
#: Of the toy clips, one in so many shows a failure: the shape turns back before it arrives.
_FAILED = 3
_COUNTS = {"train": 320, "test": 96}


def ways(number: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """The share of the way that is done in each frame, starting at 0. A failure turns back halfway through the clip."""
    if number % _FAILED:
        return np.linspace(0.0, rng.uniform(0.1, 1.0), _FRAMES)
    there, back = rng.uniform(0.5, 1.0), rng.uniform(0.0, 0.3)
    return np.concatenate([np.linspace(0.0, there, _FRAMES // 2), np.linspace(there, back, _FRAMES // 2 + 1)[1:]])


def write_toy(root: Path) -> None:
    """Write ``world/SPLIT.jsonl`` and its clips: a circle on its way to a square, some of which turn back."""
    world = root / "world"
    lines: dict[str, list[str]] = {}
    for split, count in _COUNTS.items():
        (world / "media" / split).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            rng = np.random.default_rng([43, number, split == "test"])
            path, shares = f"media/{split}/clip_{number:04d}.mp4", ways(number, rng)
            circle, square = (str(name) for name in rng.permutation(sorted(COLOURS))[:2])
            y, leftwards = float(rng.uniform(14, 50)), bool(rng.integers(2))
            # Also where a clip is there: it may be of an earlier version, which the rows would not fit.
            write_video(world / path, _frames(shares, circle, square, y, leftwards=leftwards), fps=_FPS)
            lines.setdefault(split, []).append(json.dumps(_row(split, number, path, shares, circle, square)))
    for split, rows in lines.items():
        write_text(world / f"{split}.jsonl", "\n".join(rows) + "\n")


def _frames(
    shares: NDArray[np.float64], circle: str, square: str, y: float, *, leftwards: bool
) -> Iterator[NDArray[np.uint8]]:
    start, end = (_TO, _FROM) if leftwards else (_FROM, _TO)
    for share in shares:
        moving = Body("circle", circle, 14, start + float(share) * (end - start), y)
        yield paint(Scene(_SIDE, _SIDE, 1.0, 1.0, (0.0,), (Body("square", square, 18, end, y), moving)), 0.0)


def _row(split: str, number: int, path: str, shares: NDArray[np.float64], circle: str, square: str) -> dict[str, Any]:
    answer = round(100 * float(shares[-1]))
    trend = "It turned back" if shares.max() > shares[-1] + 1e-9 else "It goes on"
    thoughts = (f"I compare start and end of the {circle} circle.", f"{trend}.", f"About {answer} percent are done.")
    trace = full_response(str(answer), GRAMMAR)
    for name, words in zip(("planning", "observation", "reasoning"), thoughts, strict=True):
        trace = _filled(trace, name, words)
    return {
        "problem_id": f"{split}-{number:04d}",
        "problem": f"<video>\nThe {circle} circle goes to the {square} square. How many percent of the way are done?",
        "answer": str(answer),
        "problem_type": "regression",
        "data_type": "video",
        "videos": [path],
        "images": [],
        "options": [],
        "failed": bool(shares.max() > shares[-1] + 1e-9),
        "has_offline_trajectory": split == "train",
        "offline_output": trace if split == "train" else "",
    }


def _filled(text: str, tag: str, words: str) -> str:
    """A text whose tag holds ``words``."""
    head, opening, rest = text.partition(f"<{tag}>")
    _, closing, tail = rest.partition(f"</{tag}>")
    return f"{head}{opening}{words}{closing}{tail}"
