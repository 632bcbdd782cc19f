"""How both published packages look for things in text, and the accuracies and format tests that they share."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from easyvideor1.rewards.readers.json_answers import find_json
from easyvideor1.rewards.tasks.math import compare_math

_OPEN, _CLOSE = "<answer>", "</answer>"
_LETTER = "([A-J])"
_PATTERNS = (
    re.compile(rf"(?:the\s+)?(?:correct\s+|final\s+)?answer\s+is\s*:?\s*\(?{_LETTER}\b", re.IGNORECASE),
    re.compile(rf"(?:\u7b54\u6848\u662f|\u9009)\s?{_LETTER}", re.IGNORECASE),
    re.compile(rf"\b(?:choose|select|pick)\s+(?:option\s+)?\(?{_LETTER}\b", re.IGNORECASE),
    re.compile(rf"\boption\s+{_LETTER}\s+is\s+correct", re.IGNORECASE),
    re.compile(rf"\*\*{_LETTER}\*\*"),
)
_LEADING = re.compile(rf"{_LETTER}\s?[.):]", re.IGNORECASE)
#: A response longer than this is cut for the patterns above, which the published code runs over all of it.
_TAIL = 8000


def tags(text: str) -> list[str]:
    """The contents of all ``<answer>`` tags from left to right."""
    found: list[str] = []
    lower, at = text.lower(), 0
    while (start := lower.find(_OPEN, at)) >= 0:
        start += len(_OPEN)
        end = lower.find(_CLOSE, start)
        if end < 0:
            break
        found.append(text[start:end])
        at = end + len(_CLOSE)
    return found


def boxed(text: str) -> str | None:
    """The content of the last ``\\boxed{}``, up to its balanced brace."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, start = 1, start + len("\\boxed{")
    for brace in re.finditer(r"[{}]", text[start:]):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return text[start : start + brace.start()]
    return None


def same(predicted: str, reference: str) -> bool:
    """The exact grader as far as plain texts go."""
    return predicted.strip().casefold() == reference.strip().casefold()


def same_math(predicted: str, reference: str) -> bool:
    """The exact grader for mathematics."""
    return same(predicted, reference) or compare_math(predicted, reference, {}).accuracy == 1.0


def option_letter(text: str, *, upper_only: bool) -> str | None:
    """The option letter A-J that a text gives, by the chain of patterns that both packages share.

    ``upper_only``: the last resort takes a lone upper-case letter in at most twelve characters; else a lone letter of
    any case anywhere, so that the article "a" is option A.
    """
    text = text.strip()
    if re.fullmatch(_LETTER, text, re.IGNORECASE):
        return text.upper()
    if leading := _LEADING.match(text):
        return leading.group(1).upper()
    if len(text) < 20 and re.match(rf"{_LETTER}\s", text):
        return text[0].upper()
    tail = text[-_TAIL:]
    for pattern in _PATTERNS:
        if found := pattern.search(tail):
            return found.group(1).upper()
    for line in tail.splitlines()[-5:]:
        if re.fullmatch(rf"\(?{_LETTER}\)?[.:]?", line.strip(), re.IGNORECASE):
            return re.sub(r"\W", "", line).upper()
    if upper_only:
        alone = set(re.findall(r"\b[A-J]\b", text)) if len(text) <= 12 else set()
    else:
        alone = {letter.upper() for letter in re.findall(r"\b[A-Ja-j]\b", tail)}
    return alone.pop() if len(alone) == 1 else None


def structure(text: str) -> dict[str, Any] | None:
    """The JSON object of a text: all of it, a fenced block, or the last one between other words."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = find_json(text)
    return found if isinstance(found, dict) else None


#: Task types whose answers are JSON.
GROUNDING = frozenset({"temporal_grounding", "spatial_grounding", "spatial_temporal_grounding", "tracking"})
#: Task types compared by ROUGE.
OPEN = frozenset({"open_ended", "video_qa", "description"})


def temporal_iou(predicted: Any, reference: Any) -> float:
    """Overlap over hull of two ``[start, end]``; the order of start and end is not checked."""
    (p_start, p_end), (r_start, r_end) = ([float(bound) for bound in pair] for pair in (predicted, reference))
    hull = max(p_end, r_end) - min(p_start, r_start)
    return max(0.0, min(p_end, r_end) - max(p_start, r_start)) / hull if hull > 0 else 0.0


def box_iou(predicted: Any, reference: Any) -> float:
    """Intersection over union of two ``[x1, y1, x2, y2]``."""
    p, r = ([float(side) for side in box] for box in (predicted, reference))
    if len(p) != 4 or len(r) != 4:
        return 0.0
    common = max(0.0, min(p[2], r[2]) - max(p[0], r[0])) * max(0.0, min(p[3], r[3]) - max(p[1], r[1]))
    areas = [max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]) for box in (p, r)]
    union = sum(areas) - common
    return common / union if union > 0 else 0.0


def boxes_iou(predicted: Mapping[str, Any], reference: Mapping[str, Any]) -> float:
    """Mean IoU over the keys that both have, compared as strings: a missing box costs nothing."""
    common = predicted.keys() & reference.keys()
    return sum(box_iou(predicted[key], reference[key]) for key in common) / len(common) if common else 0.0


def grounding(task: str, predicted: Mapping[str, Any], reference: Mapping[str, Any]) -> float:
    """Accuracy of a grounding type from the two JSON objects."""
    if task == "temporal_grounding":
        return temporal_iou(predicted["time"], reference["time"])
    if task == "spatial_grounding":
        return box_iou(predicted["boxes"], reference["boxes"])
    boxes = boxes_iou(predicted.get("boxes") or {}, reference["boxes"])
    if task == "tracking":
        return boxes
    return 0.5 * temporal_iou(predicted["time"], reference["time"]) + 0.5 * boxes


def grounding_form(task: str, content: str) -> bool:
    """Whether a tag holds the keys of its type; the values of a dictionary of boxes are not looked at."""
    data = structure(content)
    if data is None:
        return False
    time, boxes = data.get("time"), data.get("boxes")
    is_span = isinstance(time, list) and len(time) == 2 and all(isinstance(bound, int | float) for bound in time)
    if task == "temporal_grounding":
        return is_span
    if task == "spatial_grounding":
        return isinstance(boxes, list) and len(boxes) == 4
    return isinstance(boxes, dict) and (task == "tracking" or is_span)


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # slow to import

    return RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)


def rouge_mean(predicted: str, reference: str) -> float:
    """Mean of the F1 of ROUGE-1, ROUGE-2 and ROUGE-L."""
    scores = _scorer().score(reference, predicted)
    return min(1.0, max(0.0, float(sum(entry.fmeasure for entry in scores.values())) / 3))


def word_error_rate(predicted: str, reference: str) -> float:
    """Edits over words of the reference, both in lower case."""
    from rapidfuzz.distance import Levenshtein

    p, r = predicted.lower().split(), reference.lower().split()
    return Levenshtein.distance(p, r) / max(1, len(r))


def unfenced(text: str) -> str:
    """Text without a Markdown fence around it."""
    return re.sub(r"\A```\w*\n?", "", text.strip()).removesuffix("```").strip()
