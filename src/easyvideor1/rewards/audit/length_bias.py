"""The length bias of a reward: two figures from the references of the rows, without a model.

**Correlation.** Every row gets wrong answers of growing length, made of 1, 2, 4 and 8 different references of other
rows of the type, joined in the form of the type (texts by spaces, letters by commas, spans and boxes as lists,
tubes as one table of boxes over the span from the first to the last). The figure is the correlation (Pearson) of the
accuracy with the logarithm of the length in characters, both taken relative to their means within the row, over all
rows. 0: length earns nothing. Above 0: longer answers earn more without knowledge.

**Padding.** The reference of the row itself, with one wrong reference joined after it, against the reference alone: the
mean change of the accuracy. Below 0: a wrong addition costs. 0: padding is free, and a policy may ramble.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from easyvideor1.rewards.audit.constant_baselines import ScoreOne
from easyvideor1.rewards.readers.json_answers import load_json
from easyvideor1.rewards.references import one_answer
from easyvideor1.types import Sample

_COUNTS = (1, 2, 4, 8)
_ROWS = {"code": 6, "math": 12}
_TEXTS = {"open_ended", "video_qa", "description", "ocr"}


@dataclass(frozen=True, slots=True)
class LengthBias:
    """See the module; ``None`` where the rows have too few different references. ``rows``: how many were scored."""

    correlation: float | None
    padding: float | None
    rows: int


def length_bias(task: str, samples: Sequence[Sample], score: ScoreOne, *, seed: int = 0) -> LengthBias:
    """Measure the length bias of a reward on samples of one canonical task type; ``score`` is given bare answers."""
    rng = random.Random(seed)
    texts = {sample.id: one_answer(task, sample.answer) for sample in samples}
    different = list(dict.fromkeys(texts.values()))
    rows = rng.sample(samples, min(len(samples), _ROWS.get(task, 100)))
    lengths: list[float] = []
    scores: list[float] = []
    changes: list[float] = []
    for sample in rows:
        own = texts[sample.id]
        # A few more than are needed, so that taking out the row's own reference leaves enough.
        others = [text for text in rng.sample(different, min(len(different), _COUNTS[-1] + 1)) if text != own]
        answers = [joined_answers(task, others[:count]) for count in _COUNTS if count <= len(others)]
        said = [score(sample, answer) for answer in answers]
        if len(answers) > 1 and all(one.applicable for one in said):
            lengths += _centred([math.log(len(answer)) for answer in answers])
            scores += _centred([one.accuracy for one in said])
        if others:
            alone, padded = (score(sample, answer) for answer in (own, joined_answers(task, [own, others[0]])))
            if alone.applicable and padded.applicable:
                changes.append(padded.accuracy - alone.accuracy)
    padding = math.fsum(changes) / len(changes) if changes else None
    return LengthBias(_correlation(lengths, scores), padding, len(rows))


def _centred(values: Sequence[float]) -> list[float]:
    mean = math.fsum(values) / len(values)
    return [value - mean for value in values]


def _correlation(lengths: Sequence[float], scores: Sequence[float]) -> float | None:
    """Pearson's, of values that have mean 0; 0 if the scores never change, ``None`` if there is nothing to compare."""
    if not any(lengths):
        return None
    if math.hypot(*scores) < 1e-9:
        return 0.0
    return float(np.corrcoef(lengths, scores)[0, 1])


def joined_answers(task: str, references: Sequence[str]) -> str:
    """Several references as one answer, in the form of the type if it has one for several things."""
    if task in _TEXTS:
        return " ".join(references)
    if task == "multiple_choice":
        return ", ".join(references)
    if task.endswith("grounding") or task in ("tracking", "segmentation"):
        return json.dumps(_merged([load_json(text) for text in references], one_span=task != "temporal_grounding"))
    return "\n".join(references)


def _merged(values: Sequence[Any], *, one_span: bool) -> Any:
    """One JSON object of all: lists of spans, boxes and points one after the other, tables merged.

    With ``one_span`` times become the span that holds them all.
    """
    merged: dict[str, Any] = {}
    for value in values:
        for key, entry in (value if isinstance(value, dict) else {"time" if not one_span else "boxes": value}).items():
            if key == "time" and one_span and isinstance(entry, list):
                before = merged.get(key, entry)
                merged[key] = [min(before[0], entry[0]), max(before[1], entry[1])]
                continue
            merged[key] = _JOIN.get(type(entry), _later)(merged.get(key), entry)
    return merged


def _lists(before: Any, entry: list[Any]) -> list[Any]:
    entries = entry if entry and isinstance(entry[0], list) else [entry]
    return entries if before is None else [*(before if isinstance(before[0], list) else [before]), *entries]


def _tables(before: Any, entry: dict[str, Any]) -> dict[str, Any]:
    return {**(before or {}), **entry}


def _later(before: Any, entry: Any) -> Any:
    return entry


_JOIN: dict[type, Callable[[Any, Any], Any]] = {list: _lists, dict: _tables}
