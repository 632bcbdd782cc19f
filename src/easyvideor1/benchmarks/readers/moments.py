"""Moments in videos: several windows of one sentence, ranked, and sentences with a span each.

The numbers of ranked windows are those of QVHighlights (arXiv 2107.09609): recall of the first window, and the average
precision of detection, after Pascal VOC 2011.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from easyvideor1.benchmarks.benchmark import Refused, ScoreFunction
from easyvideor1.benchmarks.question import Question, QuestionError
from easyvideor1.benchmarks.readers.shapes import Part, Reader, each, span, take, text
from easyvideor1.benchmarks.release import KEY, Raw
from easyvideor1.config.rewards import RewardConfig
from easyvideor1.rewards.readers.geometry import MOST_ITEMS, Span, span_iou
from easyvideor1.rewards.references import read_reference
from easyvideor1.rewards.score import counted_answer, read_settings, score_response, scored
from easyvideor1.rewards.types import Verdict
from easyvideor1.types import Completion, Sample, Score

#: Windows of an answer that count; the others are left out.
MOST_WINDOWS = 10
_THRESHOLDS = tuple(hundredths / 100 for hundredths in range(50, 100, 5))
#: Kinds of windows by their length in seconds: longer than the first number, not longer than the second.
LENGTHS: Mapping[str, tuple[float, float]] = {"short": (0, 10), "middle": (10, 30), "long": (30, 150)}
_TASK = "temporal_grounding"


def moments(*, id: Part, question: Part, windows: Part, video: Part, duration: Part) -> Reader:
    """Sentences that several windows show, as ``[[start, end], ...]`` in seconds.

    A facet for each of ``LENGTHS`` says ``yes`` or ``no``: whether a window has this length.
    """

    def read(row: Raw) -> Question:
        found = _windows(take(row, windows))
        length = take(row, lambda row: float(take(row, duration)))
        if any(start >= length for start, _ in found):
            raise QuestionError(f"a window of {found} lies outside the video of {length:g} s")
        facets = {name: "yes" if _of_length(found, name) else "no" for name in LENGTHS}
        reference = json.dumps({"time": [list(window) for window in found]})
        asked, where = text(row, question), text(row, video)
        columns = {"duration": length}
        return Question(text(row, id), asked, reference, _TASK, where, facets=facets, columns=columns)

    return read


def _windows(value: object) -> list[Span]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not 0 < len(value) <= MOST_ITEMS:
        raise QuestionError(f"its windows {value!r} are not a list of 1 to {MOST_ITEMS} windows")
    found = []
    for window in value:
        try:
            start, end = (float(limit) for limit in window)
        except (TypeError, ValueError):
            raise QuestionError(f"its window {window!r} is not a start and an end in seconds") from None
        if not 0 <= start < end:
            raise QuestionError(f"its window {window!r} does not end after it starts")
        found.append((start, end))
    return found


def _of_length(windows: Sequence[Span], name: str) -> list[Span]:
    least, most = LENGTHS[name]
    return [(start, end) for start, end in windows if least < end - start <= most]


def when(sentence: Part) -> Part:
    """The question for the time of what a sentence says; benchmarks of moments give the sentence alone."""
    return lambda row: f'When does this happen in the video? "{text(row, sentence)}"'


def events(sentences: str, spans: str) -> Callable[[Raw], Iterable[Question | Refused]]:
    """Videos by their ids, each with sentences and a span for each, as ActivityNet Captions has them.

    Args:
        sentences: column of the sentences.
        spans: column of ``[start, end]``, as many. The column ``duration`` is the length in seconds.
    """

    def inner(row: Raw) -> list[Raw]:
        said, when = row[sentences], row[spans]
        if len(said) != len(when):
            raise QuestionError(f"it has {len(said)} {sentences} and {len(when)} {spans}")
        words = [" ".join(str(sentence).split()).rstrip(". ") for sentence in said]
        return [{"said": sentence, "when": when[at], "number": at} for at, sentence in enumerate(words)]

    one = span(
        id=f"{{{KEY}}}:{{number}}",
        question=when("said"),
        span="when",
        video=f"{{{KEY}}}.mp4",
        columns=lambda row: {"duration": row["duration"]},
    )
    return each(inner, one)


def average_precision(predicted: Sequence[Span], gold: Sequence[Span], threshold: float) -> float:
    """The average precision of windows at an IoU: area below the interpolated curve of precision over recall.

    A window is right if a gold one overlaps it by ``threshold`` or more and no better window has taken it; of several
    it takes the one it overlaps most.

    Args:
        predicted: the likeliest window first.
        gold: at least one.
    """
    free = set(range(len(gold)))
    hits = []
    for window in predicted:
        ious = {place: span_iou(window, gold[place]) for place in free}
        best = max(ious, key=lambda place: (ious[place], place), default=None)
        hits.append(best is not None and ious[best] >= threshold)
        if best is not None and hits[-1]:
            free.remove(best)
    precisions = [sum(hits[: at + 1]) / (at + 1) for at in range(len(hits))]
    # Each hit adds one part of the recall, at the best precision that is reached there or later.
    return sum(max(precisions[at:]) for at, hit in enumerate(hits) if hit) / len(gold)


def moment_parts(predicted: Sequence[Span], gold: Sequence[Span]) -> dict[str, float]:
    """``AP`` (mean over IoU 0.50, 0.55, ..., 0.95), ``AP 0.5``, ``AP 0.75``, and ``AP short`` and so on: against the
    gold windows of this length alone. Only the first ``MOST_WINDOWS`` count."""
    predicted = predicted[:MOST_WINDOWS]
    by_threshold = {at: average_precision(predicted, gold, at) for at in _THRESHOLDS}
    parts = {"AP": fmean(by_threshold.values()), "AP 0.5": by_threshold[0.5], "AP 0.75": by_threshold[0.75]}
    for name in LENGTHS:
        if some := _of_length(gold, name):
            parts[f"AP {name}"] = fmean(average_precision(predicted, some, at) for at in _THRESHOLDS)
    return parts


def rank_moments(config: RewardConfig) -> ScoreFunction:
    """Scores ranked windows: the accuracy is the IoU of the first one with the gold one that it overlaps most, and the
    parts are those of ``moment_parts``."""
    settings = replace(read_settings(config), profile="strict")

    def score(sample: Sample, response: Completion) -> Score:
        found = score_response(_TASK, response, sample.answer, (), sample.extra, settings)
        predicted = counted_answer(_TASK, response, (), settings, require_tag=False).value
        if predicted is None or not found.applicable:
            return found
        gold = read_reference(_TASK, sample.answer, ())
        first = max(span_iou(predicted[0], window) for window in gold)
        return scored(found, Verdict(first, moment_parts(predicted, gold)), settings)

    return score
