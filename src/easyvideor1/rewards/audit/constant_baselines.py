"""Constant-answer baselines: what a policy earns that always gives the same answer, by task type.

A reward can teach only what lies above this baseline. The best constant is searched among the most frequent references
of the rows and the constants that do well for a type (every option letter, the median, spans and boxes from the
quantiles of the references, the whole video, the whole picture, the most frequent words). It is a lower bound of what a
constant can earn.
"""

from __future__ import annotations

import json
import math
import random
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from easyvideor1.rewards.references import AnyOf, one_answer, read_reference
from easyvideor1.rewards.rules import RULES
from easyvideor1.types import Sample, Score

#: Scores one response, or one answer, to one sample.
ScoreOne = Callable[[Sample, str], Score]

#: Constants are chosen on this many rows of a type, and the best is scored over ``_ROWS``. Programs and math-verify
#: take time: these types have fewer.
_CHOOSING = {"code": 8, "math": 40}
_ROWS = {"code": 24, "math": 200}
_CANDIDATES = {"code": 4, "math": 12}
_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class ConstantBaseline:
    """The best constant answer: its text, and its mean accuracy and total over ``rows`` rows."""

    answer: str
    accuracy: float
    total: float
    rows: int


def best_constant(task: str, samples: Sequence[Sample], score: ScoreOne, *, seed: int = 0) -> ConstantBaseline:
    """The constant answer that earns most over samples of one canonical task type with usable references.

    ``score`` gets the bare answer; its caller puts it into the tags that the scorer needs. At most 2000
    rows (fewer for code and math) are taken, drawn with ``seed`` if there are more.

    Raises:
        ValueError: there are no samples.
    """
    rng = random.Random(seed)
    rows = rng.sample(samples, min(len(samples), _ROWS.get(task, 2000)))
    choosing = rows[: _CHOOSING.get(task, 120)]
    best = max(_candidates(task, rows), key=lambda answer: _mean(answer, choosing, score))
    accuracy, total = _mean(best, rows, score)
    return ConstantBaseline(best, accuracy, total, len(rows))


def _mean(answer: str, samples: Sequence[Sample], score: ScoreOne) -> tuple[float, float]:
    said = [score(sample, answer) for sample in samples]
    judged = [one for one in said if one.applicable]
    if not judged:
        return 0.0, 0.0
    return statistics.fmean(one.accuracy for one in judged), statistics.fmean(one.total for one in judged)


def _candidates(task: str, samples: Sequence[Sample]) -> list[str]:
    texts = [one_answer(task, sample.answer) for sample in samples]
    frequent = [text for text, _ in Counter(texts).most_common(_CANDIDATES.get(task, 40))]
    found = [read_reference(task, sample.answer, sample.options) for sample in samples]
    values = [value.values[0] if isinstance(value, AnyOf) else value for value in found]
    return list(dict.fromkeys([*frequent, *_KNOWN.get(task, _no_others)(values, samples)]))


def _no_others(values: Sequence[Any], samples: Sequence[Sample]) -> Iterable[str]:
    return ()


def _letters(values: Sequence[tuple[str, ...]], samples: Sequence[Sample]) -> Iterable[str]:
    longest = max(len(sample.options) for sample in samples)
    return [chr(ord("A") + at) for at in range(min(26, max(longest, 1)))]


def _quantiles(numbers: Iterable[float]) -> list[float]:
    """Different values among the numbers, from the smallest to the largest."""
    return sorted(set(np.quantile(list(numbers), _QUANTILES, method="nearest").tolist()))


def _numbers(values: Sequence[Any], samples: Sequence[Sample]) -> Iterable[str]:
    numbers = [number.value for number in values]
    middle = [*_quantiles(numbers), statistics.fmean(numbers), 0.0, 1.0, 2.0]
    # Relative accuracy punishes small guesses less than large ones: smaller values are tried as well.
    return [f"{number * scale:.6g}" for number in middle for scale in (1.0, 0.8, 0.6)]


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _span_guesses(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    known = list(spans)
    ends = _quantiles(end for _, end in known)
    found = [
        (start, end) for start, end in product([0.0, *_quantiles(start for start, _ in known)], ends) if start < end
    ]
    return list(dict.fromkeys(found))


def _spans(values: Sequence[tuple[tuple[float, float], ...]], samples: Sequence[Sample]) -> Iterable[str]:
    return [_compact({"time": guess}) for guess in _span_guesses(span for spans in values for span in spans)]


def _box_guesses(boxes: Iterable[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """The whole picture, and boxes around the middle of all references from tight to wide."""
    known = [box for box in boxes if box is not None]
    if not known:
        return [(0.0, 0.0, 1.0, 1.0)]
    largest = max(max(map(abs, box)) for box in known)
    side = next((scale for scale in (1.0, 1000.0) if largest <= scale), largest)
    sides = np.array(known)
    guesses: list[tuple[float, ...]] = [(0.0, 0.0, side, side)]
    for share in (0.0, 0.1, 0.25, 0.4, 0.5):
        low = np.quantile(sides[:, :2], share, axis=0, method="nearest").tolist()
        high = np.quantile(sides[:, 2:], 1 - share, axis=0, method="nearest").tolist()
        if low[0] < high[0] and low[1] < high[1]:
            guesses.append((*low, *high))
    return guesses


def _boxes(values: Sequence[tuple[tuple[float, ...], ...]], samples: Sequence[Sample]) -> Iterable[str]:
    return [_compact({"boxes": guess}) for guess in _box_guesses(box for boxes in values for box in boxes)]


def _seconds(values: Sequence[Any]) -> list[str]:
    """All seconds that any reference annotates, and those of whole numbers up to the last, at most 600."""
    named = {second for tube in values for second in tube.boxes}
    last = min(599, math.ceil(max(named, default=0.0)))
    return [f"{second:g}" for second in sorted({*map(float, range(last + 1)), *sorted(named)[:600]})]


def _tracks(values: Sequence[Any], samples: Sequence[Sample]) -> Iterable[str]:
    guesses = _box_guesses(box for tube in values for box in tube.boxes.values())
    # Boxes at seconds that a row does not annotate cost: those that most rows have are tried as well.
    counts = Counter(second for tube in values for second in tube.boxes)
    common = [f"{second:g}" for second, count in sorted(counts.items()) if 2 * count >= len(values)]
    chosen = [seconds for seconds in (_seconds(values), common) if seconds]
    return [_compact({"boxes": dict.fromkeys(seconds, guess)}) for seconds in chosen for guess in guesses]


def _tubes(values: Sequence[Any], samples: Sequence[Sample]) -> Iterable[str]:
    seconds = _seconds(values)
    boxes = _box_guesses(box for tube in values for box in tube.boxes.values())
    times = _span_guesses(tube.time for tube in values if tube.time is not None)
    every = max(1, len(times) // 12)
    return [
        _compact({"time": time, "boxes": dict.fromkeys(seconds, box)}) for time, box in product(times[::every], boxes)
    ]


def _prompts(values: Sequence[Any], samples: Sequence[Sample]) -> Iterable[str]:
    found = []
    for box in _box_guesses(prompts.box for prompts in values):
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        corners = [[box[0], box[1]], [box[2], box[1]], [box[0], box[3]]]
        time = {"time": statistics.median(times)} if (times := [p.time for p in values if p.time is not None]) else {}
        found.append(_compact({**time, "boxes": box, "positive_points": [[x, y]] * 3, "negative_points": corners}))
    return found


def _words(values: Sequence[str], samples: Sequence[Sample]) -> Iterable[str]:
    counts = Counter(word for text in values for word in set(text.casefold().split()))
    ordered = [word.strip(".,") for word, _ in counts.most_common(12)]
    return [" ".join(ordered[:count]) for count in range(1, len(ordered) + 1)]


_KNOWN: dict[str, Callable[[Sequence[Any], Sequence[Sample]], Iterable[str]]] = {
    "multiple_choice": _letters,
    "numerical": _numbers,
    "regression": _numbers,
    "temporal_grounding": _spans,
    "spatial_grounding": _boxes,
    "spatial_temporal_grounding": _tubes,
    "tracking": _tracks,
    "segmentation": _prompts,
    "open_ended": _words,
    "video_qa": _words,
    "description": _words,
    "ocr": _words,
    "boolean": lambda values, samples: ("Yes", "No"),
    "preference": lambda values, samples: ("1", "2", "tie"),
    "code": lambda values, samples: ("pass",),
}
assert set(_KNOWN) <= set(RULES)
