"""Programs and documents are read in every form that models write, and never from words that mention some."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from easyvideor1.rewards import score
from easyvideor1.rewards.tasks.code import read_code, read_code_reply
from easyvideor1.rewards.tasks.markup import read_html, read_html_reply, read_svg, read_svg_reply
from easyvideor1.rewards.types import Reading

ADD = "def add(a, b):\n    return a + b"
FENCED = f"```python\n{ADD}\n```"
PRESENTED = {
    "bare": (ADD, True),
    "fenced": (FENCED, True),
    "after words": (f"Here it is:\n\n{FENCED}\n", True),
    "in a fence without a language": (f"```\n{ADD}\n```", True),
    "another word for the language": (f"```py3\n{ADD}\n```", True),
    "tildes": (f"~~~python\n{ADD}\n~~~", True),
    "with what it prints": (f"{FENCED}\nOutput:\n```\n3\n```", False),
    "never closed": (f"```python\n{ADD}", False),
    "in a list": ("1. One:\n   ```python\n   import math\n   def add(a, b): return a + b\n   ```", False),
    "a draft before it": (f"```python\nx = 1\n```\nBetter:\n{FENCED}", True),
}


@pytest.mark.parametrize("name", PRESENTED)
def test_programs_are_read_in_every_form(name: str) -> None:
    text, canonical = PRESENTED[name]
    reading = read_code(text, ())
    assert "def add(a, b):" in reading.value
    assert reading.canonical is canonical
    assert score("code", f"<answer>{text}</answer>", ADD, tests=["assert add(1, 2) == 3"]).accuracy == 1.0


@pytest.mark.parametrize("text", ["", "a few words", "```java\nint x;\n```", "def add(:", "```\n3\n```", "((" * 40_000])
def test_what_is_no_program_says_so(text: str) -> None:
    for read in (read_code, read_code_reply):
        reading = read(text, ())
        assert reading.value is None
        assert reading.reason in ("no Python program that compiles", "the program is too long")


@pytest.mark.parametrize("name", [name for name in PRESENTED if name != "never closed"])
def test_a_reply_may_be_a_program(name: str) -> None:
    assert "def add(a, b):" in read_code_reply(PRESENTED[name][0], ()).value


@pytest.mark.parametrize(
    "text",
    [
        "yes",
        "B",
        "3",
        "not sure",
        "Answer: B",
        "print",
        "yes(really)",
        "answer = B",
        "pass",
        "You could use print(3).",
        f"One may write ```python\n{ADD}\n``` there.",
        f"```python\n{ADD}",
    ],
)
def test_a_reply_that_mentions_code_is_none(text: str) -> None:
    assert read_code_reply(text, ()).value is None


TABLE = "<table><tr><td>x</td></tr></table>"
DRAWING = '<svg viewBox="0 0 1 1"><rect/></svg>'


@pytest.mark.parametrize(("read", "document"), [(read_html_reply, TABLE), (read_svg_reply, DRAWING)])
def test_a_reply_may_be_a_document(read: Callable[..., Reading], document: str) -> None:
    for text in (
        document,
        f"Here it is:\n{document}\n",
        f"```xml\n{document}\n```\nIt is small.",
        f"```\n{document}\n```",
    ):
        assert read(text, ()).value.source == document
    for text in (
        f"One could use {document} here.",
        f"Words.\n{document}",
        "x < y > z",
        "",
        f"```html\n{document}",
        "text",
    ):
        reading = read(text, ())
        assert reading.value is None
        assert reading.reason in ("no HTML element", "no SVG document")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("words", "no SVG document"),
        ("<svg><g></svg>", "the SVG document is not well-formed"),
        ("<!DOCTYPE svg [<!ENTITY a 'b'>]><svg></svg>", "the SVG document declares entities"),
        (f"{DRAWING}\n{DRAWING}", "several documents are given"),
        (f"<svg>{' ' * 200_000}</svg>", "the document is too long"),
    ],
)
def test_what_is_no_svg_says_why(text: str, reason: str) -> None:
    assert (read_svg(text, ()).value, read_svg(text, ()).reason) == (None, reason)


@pytest.mark.parametrize(
    "piece", ["```", "```\n", "~", "~~~ ", "``` ", "```a", "`~", "``` x\n~~~\n", "<", "\n<", "a:\n<"]
)
def test_fences_take_linear_time(piece: str) -> None:
    """What takes time quadratic in its length takes minutes here; what is linear, a fraction of a second."""
    text = piece * (200_000 // len(piece))
    for read in (read_code, read_code_reply, read_html, read_html_reply, read_svg, read_svg_reply):
        start = time.process_time()
        read(text, ())
        assert time.process_time() - start < 20


@pytest.mark.parametrize(
    ("reply", "accuracy"),
    [
        (f"```python\n{ADD}\n```", 1.0),
        (f"Here is the program:\n```python\n{ADD}\n```\nIt adds.", 1.0),
        (ADD, 1.0),
        ("add", 0.0),
        ("yes", 0.0),
        (f"I would write {ADD}", 0.0),
    ],
)
def test_replies_without_a_tag_count_if_they_are_programs(reply: str, accuracy: float) -> None:
    assert score("code", reply, ADD, tests=["assert add(1, 2) == 3"]).accuracy == accuracy
