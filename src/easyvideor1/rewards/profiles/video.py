"""The package for video alone (``easyvideor1-video``): the last answer tag, lenient numbers, exact for the rest."""

from __future__ import annotations

import re

from easyvideor1.rewards.profiles.shared import (
    GROUNDING,
    OPEN,
    boxed,
    grounding,
    grounding_form,
    option_letter,
    rouge_mean,
    same,
    same_math,
    structure,
    tags,
)
from easyvideor1.rewards.readers.number_words import SCALES

_PREFIX = re.compile(r"\s*(?:\[[^\]\n]{0,200}\]|(?:output|response)\s?:)\s*", re.IGNORECASE)
_AROUND = re.compile(r"[ \t]*+([<>/])[ \t]*+")
_NUMBER = r"[+-]?(?:\d[\d,]*+(?:\.\d++)?+|\.\d++)"
_FRACTION = re.compile(rf"({_NUMBER})\s?/\s?({_NUMBER})")
_PERCENT = re.compile(rf"({_NUMBER})\s?%")
_FINAL = re.compile(r"the final answer is[: ]*+([^\n]*+)", re.IGNORECASE)
_FROM_TO = re.compile(rf"from\s+({_NUMBER})\s*s?(?:econds)?\s+to\s+({_NUMBER})\s*s", re.IGNORECASE)
_DASH = re.compile(rf"({_NUMBER})\s?(?:-|\u2013)\s?({_NUMBER})\s?s", re.IGNORECASE)
_BOOLEAN = re.compile(r"\b(yes|no|true|false)\b", re.IGNORECASE)
_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_WORDS = {word: float(n) for n, word in enumerate((_ONES + " seventeen eighteen nineteen").split())}
_WORDS |= {
    w: 10.0 * n
    for n, w in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2)
}
_WORDS |= SCALES
#: The published code searches all of a text for numbers; this much of it is enough to compare with.
_NUMBER_LIMIT = 2000


def judge(task: str, response: str, answer: str) -> tuple[float, float, str]:
    """Accuracy, format and what was read."""
    text = _normalised(response)
    found = tags(text)
    tag = found[-1].strip() if found else None
    wrapped = tags(answer)
    truth = wrapped[-1].strip() if wrapped else answer.strip()
    read = _extracted(text, tag)
    return _accuracy(task, text, read, truth), _form(task, tag), read


def _normalised(response: str) -> str:
    at = 0
    while match := _PREFIX.match(response, at):
        at = match.end()
    return _AROUND.sub(r"\1", response[at:])


def _extracted(text: str, tag: str | None) -> str:
    """The last tag, the last "final answer is", the last box, what follows the thinking, all of it."""
    if tag is not None:
        return tag
    if final := _FINAL.findall(text):
        return str(final[-1]).strip()
    box = boxed(text)
    if box is not None:
        return box.strip()
    after = text.rpartition("</think>")[2].strip()
    return after or text.strip()


def _accuracy(task: str, text: str, read: str, truth: str) -> float:
    if task == "multiple_choice":
        mine = option_letter(boxed(read) or read, upper_only=True)
        right = option_letter(truth, upper_only=True)
        return float(mine == right if mine and right else same(read, truth))
    if task in ("numerical", "regression"):
        predicted, reference = _number(read), _number(truth)
        if predicted is None or reference is None:
            return 0.0
        return _close(predicted, reference) if task == "numerical" else _mean_relative(predicted, reference)
    if task == "boolean":
        mine_said, truth_said = _said(read), _said(truth)
        return float(mine_said is not None and mine_said == truth_said)
    if task in GROUNDING:
        reference_object = structure(truth)
        if reference_object is None:
            return 0.0
        predicted_object = structure(read) or structure(text)
        if predicted_object is not None:
            return grounding(task, predicted_object, reference_object)
        tail = text[-_NUMBER_LIMIT:]
        span = _FROM_TO.search(tail) or _DASH.search(tail) if task == "temporal_grounding" else None
        return 0.0 if span is None else grounding(task, {"time": [*span.groups()]}, reference_object)
    if task in OPEN:
        return rouge_mean(read, truth)
    return float(same_math(read, truth) if task == "math" else same(read, truth))


def _number(text: str) -> float | None:
    """The first fraction, else the first percentage, else the first number, else the sum of the number words."""
    text = text[:_NUMBER_LIMIT]
    if fraction := _FRACTION.search(text):
        top, bottom = (float(part.replace(",", "")) for part in fraction.groups())
        return top / bottom
    if percent := _PERCENT.search(text):
        return float(percent.group(1).replace(",", "")) / 100
    if number := re.search(_NUMBER, text):
        return float(number.group().replace(",", ""))
    words = [_WORDS[word] for word in re.findall(r"[a-z]+", text.lower()) if word in _WORDS]
    return sum(words) if words else None


def _close(predicted: float, reference: float) -> float:
    return float(round(predicted, 4) == round(reference, 4) or abs(predicted - reference) < 0.015)


def _mean_relative(predicted: float, reference: float) -> float:
    """Mean relative accuracy with thresholds that accumulate in floats, so an error of 10% may pass t = 0.90."""
    error, passed, threshold, count = abs(predicted - reference) / (abs(reference) + 1e-8), 0, 0.5, 0
    while threshold <= 0.95 + 1e-9:
        passed += error < 1 - threshold
        count += 1
        threshold += 0.05
    return passed / count


def _said(text: str) -> bool | None:
    words = _BOOLEAN.findall(text)
    return words[-1].lower() in ("yes", "true") if words else None


def _form(task: str, tag: str | None) -> float:
    if not tag:
        return 0.0
    if task == "multiple_choice":
        right = option_letter(boxed(tag) or tag, upper_only=True) is not None
    elif task in ("numerical", "regression"):
        right = _number(tag) is not None
    elif task == "boolean":
        right = _said(tag) is not None
    else:
        right = grounding_form(task, tag) if task in GROUNDING else True
    return 1.0 if right else 0.5
