"""Strings that a policy might write, or somebody who wants to break a reward: seeded, endless, of every size."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

#: Pieces that mean something to some parser.
PIECES = (
    "<answer>",
    "</answer>",
    "<ANSWER>",
    "< answer >",
    "</ answer>",
    "<think>",
    "</think>",
    "<answer",
    "answer>",
    "\\boxed{",
    "}",
    "{",
    "[",
    "]",
    "(",
    ")",
    "\\frac{3}{4}",
    "\\text{B}",
    "\\sqrt{",
    "$",
    "$$",
    "\\",
    "\\(",
    "\\]",
    '{"time": [1, 2]}',
    '{"boxes": [1, 2, 3, 4]}',
    '{"boxes": {"1": [1, 2, 3, 4]}}',
    '"time":',
    '"boxes":',
    '"mask":',
    '"positive_points": [[1, 2]]',
    '{"size": [2, 2], "counts": [1, 2, 1]}',
    "null",
    "true",
    "NaN",
    "-Infinity",
    "1e999",
    "The answer is ",
    "final answer: ",
    "Therefore, ",
    "not ",
    "no ",
    "yes",
    "Yes.",
    "true",
    "false",
    "n't ",
    "never ",
    "A",
    "B",
    "(C)",
    "D.",
    "A, B",
    "option B",
    "a ",
    "I ",
    "a red car",
    "Blue",
    "the ",
    "Z",
    "AB",
    "A/B",
    "A but B",
    "3",
    "12.5",
    "1,234",
    "1/2",
    "50%",
    "1.2e5",
    "10^5",
    "two hundred",
    "and a half",
    "million",
    "-",
    "+",
    "=",
    "\u2248",
    "one two",
    "12:30",
    "3-5",
    "5 km/h",
    "\xbd",
    "0x1f",
    "1e-9",
    "9" * 60,
    "0" * 40,
    ".",
    ",",
    ";",
    ":",
    "!",
    "?",
    "```json\n",
    "```python\n",
    "```",
    "\n",
    "\t",
    " ",
    "    ",
    "\r\n",
    "\xa0",
    "\u2009",
    "**",
    "__",
    "`",
    "#",
    "~",
    "def f():\n    return 1\n",
    "print(1)",
    "lambda: ",
    "assert ",
    "import os",
    "x = (",
    "@",
    "'",
    '"',
    '"""',
    '<svg xmlns="http://www.w3.org/2000/svg">',
    "</svg>",
    '<circle r="4"/>',
    "<path d='M0 0",
    "<!ENTITY a 'b'>",
    "&a;",
    "<html>",
    "<p>",
    "</p>",
    "<div class='a'>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "&#x41;",
    "&#",
    "<script>",
    "<style>",
    "Response 1",
    "Response 2 is better",
    "tie",
    "1",
    "2",
    "both",
    "first",
    "second",
    "\u0663\u0664",
    "\uff22",
    "\u4e1c\u4eac",
    "\u0e01\u0e02",
    "\u0301",
    "\u200b",
    "\u202e",
    "\ufeff",
    "\U0001f600",
    "\x00",
    "\ud800",
    "\xb2",
    "\u2460",
    "\u216b",
    "\ufb01",
    "\u1e9e",
    "\u0130",
    "\U0001d401",
    "\u2212",
    "\u2044",
)

#: A usable reference of each task type, with options and further columns. Programs and math are compared elsewhere.
REFERENCES: dict[str, tuple[str, tuple[str, ...], dict[str, object]]] = {
    "multiple_choice": ("B", ("A. a red car", "B. a blue car", "C. dark red", "D. no"), {}),
    "numerical": ("12.5", (), {}),
    "regression": ("0.4", (), {}),
    "temporal_grounding": ('{"time": [3.0, 9.5]}', (), {}),
    "spatial_grounding": ('{"boxes": [10, 20, 110, 220]}', (), {}),
    "spatial_temporal_grounding": (
        '{"time": [4.0, 6.1], "boxes": {"5": [437, 167, 481, 209], "6": [306, 196, 328, 220]}}',
        (),
        {},
    ),
    "tracking": ('{"boxes": {"1": [0, 0, 10, 10], "2": [5, 5, 15, 15], "3": [9, 9, 19, 19]}}', (), {}),
    "segmentation": (
        '{"boxes": [1, 1, 3, 3], "positive_points": [[1, 1], [2, 2]], "negative_points": [[0, 0]], "time": 2.0}',
        (),
        {"mask": {"size": [4, 4], "counts": [5, 2, 2, 2, 5]}},
    ),
    "open_ended": ("a man opens the red door", (), {}),
    "video_qa": ("negative", (), {}),
    "description": ("Two dogs run after a ball. One of them stops.", (), {}),
    "math": (r"\frac{3}{4}", (), {}),
    "ocr": ("EXIT 42 now", (), {}),
    "boolean": ("Yes", (), {}),
    "code": ("def add(a, b):\n    return a + b", (), {"tests": ["assert add(1, 2) == 3", "assert add(-1, 1) == 0"]}),
    "svg_code": ('<svg xmlns="http://www.w3.org/2000/svg"><circle cx="5" r="4"/><text>hi</text></svg>', (), {}),
    "html_code": ("<div class='a'><p>Hello there</p><img src='x.png'></div>", (), {}),
    "preference": ("2", (), {}),
}


def _soup(rng: random.Random, answer: str) -> str:
    """Pieces in any order."""
    return "".join(rng.choices(PIECES, k=rng.randint(0, 24)))


def _tagged_soup(rng: random.Random, answer: str) -> str:
    thinking = f"<think>{_soup(rng, answer)}</think>" if rng.random() < 0.3 else ""
    return f"{thinking}<answer>{_soup(rng, answer)}</answer>"


def _mutated(rng: random.Random, answer: str) -> str:
    """A right answer with some of its characters lost, doubled, exchanged or replaced."""
    signs = list(f"<answer>{answer}</answer>" if rng.random() < 0.8 else answer)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(signs)) if signs else 0
        change = rng.randrange(4)
        if change == 0:
            signs[at : at + rng.randint(1, 3)] = []
        elif change == 1:
            signs[at:at] = list(rng.choice(PIECES))
        elif change == 2:
            signs[at:at] = signs[at : at + rng.randint(1, 8)]
        elif signs:
            other = rng.randrange(len(signs))
            signs[at % len(signs)], signs[other] = signs[other], signs[at % len(signs)]
    return "".join(signs)


def _mutated_json(rng: random.Random, answer: str) -> str:
    """JSON with values of other types, other sizes and other signs."""
    values: list[object] = [
        None,
        True,
        -1,
        0,
        0.5,
        1e12,
        -1e300,
        10**40,
        "4",
        [],
        {},
        [1, 2],
        [[1, 2], [3, 4]],
        [0] * 70,
    ]
    try:
        data = json.loads(answer)
    except ValueError:
        data = {"time": [1, 2], "boxes": [1, 2, 3, 4]}
    if not isinstance(data, dict):
        data = {"boxes": data}
    for key in list(data):
        if rng.random() < 0.6:
            data[key] = rng.choice(values)
        elif isinstance(data[key], list) and data[key]:
            data[key][rng.randrange(len(data[key]))] = rng.choice(values)
        elif isinstance(data[key], dict):
            data[key][str(rng.choice([*values[:5], "1e3", "inf", "-0"]))] = rng.choice(values)
    return f"<answer>{json.dumps(data)}</answer>"


def _anything(rng: random.Random, answer: str) -> str:
    """Any code points at all, half a surrogate pair included."""
    ends = (0x80, 0x3000, 0x110000)
    return "".join(chr(rng.randrange(rng.choice(ends))) for _ in range(rng.randint(0, 60)))


def _repeated(rng: random.Random, answer: str) -> str:
    """A piece or two many times over, between two others."""
    unit = "".join(rng.choices(PIECES, k=rng.randint(1, 2)))
    count = min(rng.choice((50, 400, 3000)), 30_000 // max(1, len(unit)))
    before, after = ("<answer>", "</answer>") if rng.random() < 0.6 else (rng.choice(PIECES), rng.choice(PIECES))
    return before + unit * count + after


def _right(rng: random.Random, answer: str) -> str:
    """The right answer, more or less in the form that was asked for."""
    forms: tuple[str, ...] = (
        "<answer>{}</answer>",
        "<think>hm</think>\n<answer> {} </answer>",
        "<answer>```\n{}\n```</answer>",
    )
    forms += ("\\boxed{{{}}}", "Final answer: {}", "{}", "<answer>**{}**</answer>", "<answer>{}")
    return rng.choice(forms).format(answer)


def _sentence(rng: random.Random, answer: str) -> str:
    """The right answer in words around it."""
    words = ("I", "think", "not", "the answer is", "so", "or", "maybe", "A", "no", answer, "3", "is", ".")
    return " ".join(rng.choices(words, k=8))


#: Ways to make a string and how often each is taken.
WAYS: tuple[tuple[Callable[[random.Random, str], str], float], ...] = (
    (_soup, 0.18),
    (_tagged_soup, 0.28),
    (_mutated, 0.24),
    (_mutated_json, 0.12),
    (_anything, 0.07),
    (_repeated, 0.01),
    (_right, 0.03),
    (_sentence, 0.07),
)


def fuzz_string(rng: random.Random, answer: str) -> str:
    """One string; ``answer`` is the reference that some of them are made from."""
    (way,) = rng.choices([way for way, _ in WAYS], [share for _, share in WAYS])
    return way(rng, answer)


@dataclass(frozen=True, slots=True)
class Family:
    """Strings of one shape and any size: ``before``, ``unit`` as often as fits, ``after``."""

    name: str
    before: str
    unit: str
    after: str

    def of_size(self, characters: int) -> str:
        return self.before + self.unit * (characters // len(self.unit)) + self.after


#: Shapes on which parsers like to be slow.
FAMILIES: tuple[Family, ...] = tuple(
    Family(f"{name}, {place}", before + inner, unit, tail + after)
    for name, inner, unit, tail in (
        ("open tags", "", "<answer>", ""),
        ("closed tags", "", "</answer>", ""),
        ("pairs of tags", "", "<answer>A</answer>", ""),
        ("thinking", "", "<think>", ""),
        ("ended thinking", "", "</think>", ""),
        ("angles", "", "<", ""),
        ("angles and blanks", "", "< ", "x"),
        ("braces", "", "{", ""),
        ("braces that close", "", "{}", ""),
        ("brackets", "", "[", ""),
        ("brackets in time", '{"time": ', "[", ""),
        ("objects", "", '{"a":', ""),
        ("boxes", '{"boxes": [', "[1, 2, 3, 4], ", "[1, 2, 3, 4]]}"),
        ("seconds", '{"boxes": {', '"1": [1, 2, 3, 4], ', '"1": [1, 2, 3, 4]}}'),
        ("backslashes", "", "\\", ""),
        ("boxed", "", "\\boxed{", ""),
        ("fractions", "", "\\frac{", ""),
        ("fractions that close", "", "\\frac{1}{2}", ""),
        ("texts", "", "\\text{", "}"),
        ("digits", "", "9", ""),
        ("digits and commas", "1", ",111", ""),
        ("digits after a point", "1.", "7", "x"),
        ("numbers", "", "1 ", ""),
        ("slashes", "", "1/", "2"),
        ("exponents", "", "1e", "5"),
        ("number words", "", "two hundred and ", ""),
        ("the answer is", "", "the answer is ", "B"),
        ("final answers", "", "final answer: ", "B"),
        ("letters", "", "A, ", "B"),
        ("letters in a row", "", "AB", ""),
        ("options", "", "option B ", ""),
        ("not", "", "not ", "yes"),
        ("yes", "", "yes ", ""),
        ("yes and no", "", "yes no ", ""),
        ("responses", "", "response 1 ", ""),
        ("blanks", "", " ", "x"),
        ("blanks after a word", "answer", " ", "x"),
        ("lines", "", "\n", "x"),
        ("fences", "", "```\n", ""),
        ("fence and blanks", "```json", " ", "```"),
        ("stars", "", "*", "x"),
        ("quotes", "", '"', ""),
        ("dollars", "", "$", ""),
        ("comments", "", "<!--", ""),
        ("sections", "", "<![CDATA[", ""),
        ("references", "", "&#", "x"),
        ("attributes", "<a ", "b='", ">"),
        ("elements", "", "<a b='", ""),
        ("svg", "", "<svg>", "</svg>"),
        ("groups", "<svg>", "<g>", "</svg>"),
        ("parentheses", "", "(", ""),
        ("sums", "x = 1", " + 1", ""),
        ("lambdas", "", "lambda: ", "1"),
        ("marks", "a", "\u0301\u0327", ""),
        ("ligatures", "", "\ufdfa", ""),
        ("vulgar fractions", "1", "\u00bd", ""),
        ("unspaced script", "", "\u4e1c\u4eac", ""),
        ("half pairs", "", "\ud800", ""),
        ("words", "", "word ", ""),
        ("articles", "", "a ", ""),
    )
    for place, before, after in (
        ("alone", "", ""),
        ("in a tag", "<answer>", "</answer>"),
        ("in an open tag", "<answer>", ""),
    )
)
