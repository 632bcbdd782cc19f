"""The tags that a well-formed response is made of.

``answer``: a closed answer tag, whatever stands before it. ``think-answer``: thinking, then the answer, and nothing but
blanks outside. A list of names asks for those tags before the answer, in order and once each: ``[time, caption,
think]``. A list inside the list is a run of tags that may come several times over: ``[[time, caption], think]``.
``parent/child`` puts a tag into another: ``[think/plan, think/check]`` is ``<think>`` with ``<plan>`` and ``<check>``
inside and nothing else. The answer comes last and need not be named. What stands before the answer is thinking: an
answer tag inside of it is not the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from easyvideor1.types import ConfigError

_NAME = re.compile(r"[A-Za-z][\w-]*")
#: Opening and closing of tag ``n`` are the characters ``2n`` and ``2n + 1`` from here on.
_FIRST = 0x100
_MOST = 32


@dataclass(frozen=True, slots=True)
class Grammar:
    """Tags of a response, ready to be looked for.

    Attributes:
        name: as the configuration writes it.
        thinking: an opening or closing tag of what is thinking; group 1 is ``/`` for a closing one.
        tag: any tag that has its place before the answer; groups are ``/`` and the name. ``None``: nothing is asked.
        names: the tags, in the order of their characters.
        order: matches the characters of the tags before the answer, in order.
        implied: the tag that a chat template may have opened at the end of the prompt.
    """

    name: str
    thinking: re.Pattern[str]
    tag: re.Pattern[str] | None = None
    names: tuple[str, ...] = ()
    order: re.Pattern[str] | None = None
    implied: str = ""

    def holds(self, before: str, after: str) -> bool:
        """Whether the text before and after the answer tag is what the grammar asks for; linear in the text."""
        if self.tag is None or self.order is None:
            return True
        if after.strip():
            return False
        found = list(self.tag.finditer(before))
        symbols = "".join(self._symbol(match.group(2).lower(), bool(match.group(1))) for match in found)
        if symbols and self.implied and symbols[0] == self._symbol(self.implied, True):
            symbols = self._symbol(self.implied, False) + symbols
            opened = 1
        else:
            opened = 0
        if not self.order.fullmatch(symbols):
            return False
        return self._blank_outside(before, found, opened)

    def _symbol(self, name: str, closing: bool) -> str:
        return chr(_FIRST + 2 * self.names.index(name) + closing)

    def _blank_outside(self, before: str, found: list[re.Match[str]], opened: int) -> bool:
        """Words stand inside the innermost tags only."""
        at, leaf = 0, bool(opened)
        for match in found:
            closing = bool(match.group(1))
            if not (leaf and closing) and before[at : match.start()].strip():
                return False
            at, leaf = match.end(), not closing
        return not before[at:].strip()


def _blocks(parts: Sequence[str], numbers: dict[str, int]) -> str:
    """A pattern over tag characters for a sequence of tags; neighbours with one parent share it."""
    pattern = ""
    for parent, paths in groupby((part.partition("/") for part in parts), key=lambda path: path[0]):
        children = [path[2] for path in paths]
        if any(children) and not all(children):
            raise ConfigError(f"rewards.grammar: {parent!r} stands both alone and with tags inside it")
        # A leaf named twice in a row is asked for twice; children share their parent.
        for inner in [_blocks(children, numbers)] if all(children) else ["" for _ in children]:
            number = numbers[parent.lower()]
            pattern += f"{chr(_FIRST + 2 * number)}{inner}{chr(_FIRST + 2 * number + 1)}"
    return pattern


@lru_cache(maxsize=64)
def grammar_of(form: str | tuple[str | tuple[str, ...], ...]) -> Grammar:
    """The grammar that a configuration names.

    Raises:
        ConfigError: it is no grammar; the message says what is wrong with it.
    """
    if form == "answer":
        return ANSWER
    if form == "think-answer":
        form = ("think",)
    if isinstance(form, str):
        raise ConfigError(
            f"rewards.grammar {form!r}: write answer, think-answer or a list of tags such as [time, think]"
        )
    asked: list[str | tuple[str, ...]] = list(form)
    if asked and asked[-1] == "answer":
        asked.pop()
    paths = [path for part in asked for path in ((part,) if isinstance(part, str) else part)]
    names = list(dict.fromkeys(name.lower() for path in paths for name in path.split("/")))
    for name in names:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"rewards.grammar: {name!r} is no name of a tag; use letters, digits, _ and -")
    if "answer" in names:
        raise ConfigError("rewards.grammar: the answer comes last, once; leave it out or put it at the end")
    if not names or len(names) > _MOST:
        raise ConfigError(f"rewards.grammar names {len(names)} tags before the answer; write 1 to {_MOST}, or 'answer'")
    numbers = {name: number for number, name in enumerate(names)}
    order, run = "", list[str]()
    for part in [*asked, ()]:
        if isinstance(part, str):
            run.append(part)
            continue
        order += _blocks(run, numbers) + (f"(?:{_blocks(part, numbers)})+" if part else "")
        run = []
    words = "|".join(map(re.escape, names))
    tops = "|".join(re.escape(name) for name in dict.fromkeys([*(p.split("/")[0].lower() for p in paths), "think"]))
    return Grammar(
        " ".join(part if isinstance(part, str) else f"[{' '.join(part)}]" for part in asked),
        re.compile(rf"<\s*+(/?)\s*+(?:{tops})\s*+>", re.IGNORECASE),
        re.compile(rf"<\s*+(/?)\s*+({words})\s*+>", re.IGNORECASE),
        tuple(names),
        re.compile(order),
        "think" if paths[0].lower() == "think" else "",
    )


#: An answer tag outside the thinking, which may be there or not.
ANSWER = Grammar("answer", re.compile(r"<\s*+(/?)\s*+think\s*+>", re.IGNORECASE))
