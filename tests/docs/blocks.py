"""The blocks of code of a page, and the comments before them that say how to run them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: What a comment right before a block may say; the same words are in CONTRIBUTING.md.
WORDS = ("not run", "file", "slow", "short", "yaml", "fails", "without")

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>[\w+-]*)(?P<title>[^\n`]*)$")
_COMMENT = re.compile(r"<!--\s*(?P<word>[a-z ]+?)\s*(?::\s*(?P<text>.*?))?\s*-->", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: ``says`` maps each word of the comments right before it to its text."""

    page: str
    line: int
    language: str
    text: str
    says: dict[str, str]

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str:
        """The file that the block is written to; empty if none. ``# NAME.py`` in its first line names it, too."""
        named = re.match(r"# ([\w/.-]+\.(?:py|yaml|j2|jsonl))(?=$|[:,\s])", self.text.partition("\n")[0])
        return self.says.get("file", "") or (named[1] if named else "")


def pages() -> list[Path]:
    """Every page whose code is run."""
    return [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md") if (ROOT / name).is_file()),
        *sorted((ROOT / "docs").rglob("*.md")),
    ]


def blocks_of(path: Path) -> list[Block]:
    """The blocks of a page in their order.

    Raises:
        ValueError: a fence is not closed, or a comment has an unknown word.
    """
    page = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    lines = path.read_text(encoding="utf-8").splitlines()
    blocks: list[Block] = []
    number = 0
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        if opening is None:
            number += 1
            continue
        close = re.compile(rf"^ *{opening['fence']}`* *$")
        end = next((n for n in range(number + 1, len(lines)) if close.match(lines[n])), None)
        if end is None:
            raise ValueError(f"{page}:{number + 1}: the block is not closed")
        text = textwrap.dedent("\n".join(lines[number + 1 : end])) + "\n"
        place = f"{page}:{number + 1}"
        says = _comments(lines[:number], place)
        blocks.append(Block(page, number + 1, opening["language"], text, says))
        number = end + 1
    return blocks


def _comments(before: list[str], place: str) -> dict[str, str]:
    """What the comments directly above a block say; blank lines between do not matter."""
    above = "\n".join(before).rstrip()
    says: dict[str, str] = {}
    while above.endswith("-->"):
        start = above.rfind("<!--")
        comment = _COMMENT.fullmatch(above[start:])
        above = above[:start].rstrip()
        if comment is None or comment["word"] not in WORDS:
            if says:
                raise ValueError(f"{place}: a comment above the block has none of the words {', '.join(WORDS)}")
            break  # a comment on something else
        says[comment["word"]] = " ".join((comment["text"] or "").split())
    if "not run" in says and not says["not run"]:
        raise ValueError(f"{place}: 'not run' needs a reason: <!-- not run: REASON -->")
    return says
