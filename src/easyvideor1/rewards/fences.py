"""Fenced blocks of Markdown: where a response shows a program or a document."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Every opening matches, up to the same fence again or to the end of the text, and none begins inside a run of marks or
#: reaches over further ones on its line, so that the time is linear.
_FENCE = re.compile(r"((?<!`)`{3,}+|(?<!~)~{3,}+)([^\n`~]*+)\n(.*?)(\1|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: the language that its fence names, its content, and whether it is ``closed``.

    ``start`` and ``end`` are where it begins and ends in the text, its fences included.
    """

    language: str
    content: str
    closed: bool
    start: int
    end: int


def fenced_blocks(text: str) -> list[Block]:
    """The fenced blocks of a text, in order; one that is never closed reaches to its end."""
    return [
        Block(
            (match.group(2).strip().lower().split() or [""])[0],
            match.group(3),
            bool(match.group(4)),
            match.start(),
            match.end(),
        )
        for match in _FENCE.finditer(text)
    ]


def is_displayed(text: str, block: Block) -> bool:
    """Whether a block stands by itself: it begins a line, or follows a short lead-in on its line ("Here it is:")."""
    before = text[: block.start].rpartition("\n")[2].strip()
    return not before or before.endswith(":")
