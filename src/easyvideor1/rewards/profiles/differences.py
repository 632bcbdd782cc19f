"""Every intended difference between strict scoring and the published packages, each with an example that is tested.

``strict``, ``video`` and ``unified`` are the accuracies of the example, ``None`` for "not applicable".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """One rule that differs in strict scoring, and a response that shows it.

    ``formats`` are the format rewards in the same order as the accuracies, where the difference is in them.
    """

    cause: str
    rule: str
    task: str
    response: str
    answer: str
    strict: float | None
    video: float
    unified: float
    options: tuple[str, ...] = ()
    row: Mapping[str, Any] = field(default_factory=dict)
    formats: tuple[float, float, float] | None = None


def _tagged(content: str) -> str:
    return f"<answer>{content}</answer>"


_SQUARE = "[0, 0, 10, 10]"
_THREE = f'"1": {_SQUARE}, "2": {_SQUARE}, "3": {_SQUARE}'
_COLOURS = ("A. Red", "B. Blue", "C. Green")

DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "options unknown",
        "The words of an option are an answer where they fit exactly one; the packages are not given the options.",
        "multiple_choice",
        _tagged("Blue"),
        "B",
        1.0,
        0.0,
        0.0,
        _COLOURS,
    ),
    Difference(
        "options beyond J",
        "Letters go to Z; the packages know A to J.",
        "multiple_choice",
        _tagged("M. yes"),
        "M",
        1.0,
        0.0,
        0.0,
    ),
    Difference(
        "article as option",
        'The article "a" is no option.',
        "multiple_choice",
        _tagged("it is a cat"),
        "A",
        0.0,
        0.0,
        1.0,
        ("A. dog", "B. bird"),
    ),
    Difference(
        "last statement",
        'Of "the answer is A but the answer is B" the last counts; the packages take the first.',
        "multiple_choice",
        "The answer is A but the answer is B",
        "B",
        1.0,
        0.0,
        0.0,
        _COLOURS,
    ),
    Difference(
        "several letters",
        "A question may have several right letters; a part of them earns its share.",
        "multiple_choice",
        _tagged("A"),
        "A, C",
        0.5,
        0.0,
        0.0,
        _COLOURS,
    ),
    Difference(
        "which tag",
        "The last answer tag counts; the unified package takes the first.",
        "multiple_choice",
        "<answer>A</answer> No. <answer>B</answer>",
        "B",
        1.0,
        1.0,
        0.0,
        _COLOURS,
    ),
    Difference(
        "number words",
        "Number words are read by the grammar of English; one package sums them, the other does not read them.",
        "numerical",
        _tagged("two hundred"),
        "200",
        1.0,
        0.0,
        0.0,
    ),
    Difference(
        "units",
        "A unit does not make a number unreadable.",
        "numerical",
        _tagged("5 m"),
        "5",
        1.0,
        1.0,
        0.0,
    ),
    Difference(
        "percent",
        "A percent sign on one side only may mean p or p/100.",
        "numerical",
        _tagged("50%"),
        "50",
        1.0,
        0.0,
        0.0,
    ),
    Difference(
        "tolerance",
        "Rounding to two decimals is forgiven, never more than 5% of the reference; one package forgives 0.015 always.",
        "numerical",
        _tagged("0.012"),
        "0.001",
        0.0,
        1.0,
        0.0,
    ),
    Difference(
        "ambiguous number",
        "A text that states two numbers is no answer; one package takes the first.",
        "numerical",
        _tagged("between 3 and 5"),
        "3",
        0.0,
        1.0,
        0.0,
    ),
    Difference(
        "relative accuracy",
        "An error of exactly 10% fails the threshold 0.90; sums of floats let it pass, and one package wants equality.",
        "regression",
        _tagged("9"),
        "10",
        0.8,
        0.9,
        0.0,
    ),
    Difference(
        "negation",
        '"not" turns a statement round, and words around it are understood.',
        "boolean",
        _tagged("No, it is not yes"),
        "no",
        1.0,
        0.0,
        0.0,
    ),
    Difference(
        "empty answer",
        "An unusable reference is left out of the score, and an empty answer is never right.",
        "boolean",
        _tagged(""),
        "",
        None,
        0.0,
        1.0,
    ),
    Difference(
        "missing boxes",
        "A track is judged over all annotated seconds; in the packages one easy second of three is enough.",
        "tracking",
        _tagged(f'{{"boxes": {{"1": {_SQUARE}}}}}'),
        f'{{"boxes": {{{_THREE}}}}}',
        1 / 3,
        1.0,
        1.0,
    ),
    Difference(
        "missing boxes",
        "So is a tube, over the annotated seconds and those claimed inside the true span.",
        "spatial_temporal_grounding",
        _tagged(f'{{"time": [0, 10], "boxes": {{"1": {_SQUARE}}}}}'),
        f'{{"time": [0, 10], "boxes": {{{_THREE}}}}}',
        2 / 3,
        1.0,
        1.0,
    ),
    Difference(
        "keys of seconds",
        'Seconds are numbers: "1.0" is "1".',
        "tracking",
        _tagged(f'{{"boxes": {{"1.0": {_SQUARE}}}}}'),
        f'{{"boxes": {{"1": {_SQUARE}}}}}',
        1.0,
        0.0,
        0.0,
    ),
    Difference(
        "bare list",
        "A bare [start, end] is understood, though it is not the form asked for.",
        "temporal_grounding",
        _tagged("[5, 15]"),
        '{"time": [5, 15]}',
        1.0,
        0.0,
        0.0,
    ),
    Difference(
        "prose span",
        "A sentence that states a span is read, here as in one package.",
        "temporal_grounding",
        "It happens from 5 to 15 seconds.",
        '{"time": [5, 15]}',
        1.0,
        1.0,
        0.0,
    ),
    Difference(
        "several segments",
        "Several spans or boxes are matched; the packages know one.",
        "temporal_grounding",
        _tagged('{"time": [[0, 10], [20, 30]]}'),
        '{"time": [[0, 10], [20, 30]]}',
        1.0,
        0.0,
        0.0,
    ),
    Difference(
        "scale mismatch",
        "Boxes on another scale than the reference are reported and left out of the score.",
        "spatial_grounding",
        _tagged('{"boxes": [0.1, 0.1, 0.5, 0.5]}'),
        '{"boxes": [100, 100, 500, 500]}',
        None,
        0.0,
        0.0,
    ),
    Difference(
        "exact text",
        "Equal texts are fully right at any length; the mean of three ROUGE scores of one word is 2/3.",
        "video_qa",
        _tagged("approximately"),
        "Approximately.",
        1.0,
        2 / 3,
        2 / 3,
    ),
    Difference(
        "changed text",
        'The answer is read as it stands; the packages take blanks around "/", "<" and ">" out of it alone.',
        "ocr",
        _tagged("A / B"),
        "A / B",
        1.0,
        0.0,
        0.0,
    ),
    Difference(
        "text recognition",
        "Read text earns 1 - word error rate in strict and unified; the video package asks for equality.",
        "ocr",
        _tagged("EXIT 24"),
        "EXIT 42",
        0.5,
        0.0,
        0.5,
    ),
    Difference(
        "unspaced scripts",
        "Scripts without spaces are compared by character.",
        "ocr",
        _tagged("\u7981\u6b62\u5438\u70df"),
        "\u7981\u6b62\u505c\u8f66",
        0.5,
        0.0,
        0.0,
    ),
    Difference(
        "code is run",
        "Programs are run against tests; one package compares their names, the other their text.",
        "code",
        _tagged("def add(a, b):\n    return a - b"),
        "def add(a, b):\n    return a + b",
        0.0,
        0.0,
        1.0,
        row={"tests": ["assert add(1, 2) == 3"]},
    ),
    Difference(
        "segmentation",
        "Boxes, points and masks are compared; the packages have a prompt for them and no reward.",
        "segmentation",
        _tagged('{"boxes": [0, 0, 5, 10], "positive_points": [[2, 2]]}'),
        '{"boxes": [0, 0, 10, 10], "positive_points": [[2, 2]]}',
        0.75,
        0.0,
        (8 / 9 + 3 / 4 + 8 / 9) / 3,
    ),
    Difference(
        "label",
        'A label must be named alone or as the better one; "1 or 2" holds both.',
        "preference",
        _tagged("1 or 2"),
        "1",
        0.0,
        0.0,
        1.0,
    ),
    Difference(
        "unusable reference",
        "A reference that cannot be used is named when it is loaded, or left out of the score; it is never a silent 0.",
        "temporal_grounding",
        _tagged('{"time": [1, 2]}'),
        "somewhere",
        None,
        0.0,
        0.0,
    ),
    Difference(
        "empty tag",
        "An empty tag is no answer: format 0; the unified package pays 0.5.",
        "boolean",
        _tagged(""),
        "yes",
        0.0,
        0.0,
        0.0,
        formats=(0.0, 0.0, 0.5),
    ),
    Difference(
        "form of boxes",
        "A box that cannot be read breaks the form; the packages look at the keys alone.",
        "tracking",
        _tagged(f'{{"boxes": {{"1": {_SQUARE}, "2": [1]}}}}'),
        f'{{"boxes": {{"1": {_SQUARE}}}}}',
        1.0,
        1.0,
        1.0,
        formats=(0.5, 1.0, 1.0),
    ),
)
