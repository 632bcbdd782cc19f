"""The tags of a response: which ones a well-formed response has, where they stand, and responses made with them.

``rewards.grammar`` names the tags:

- ``answer``: a closed answer tag, whatever stands before it.
- ``think-answer``: thinking, then the answer, and only blanks outside.
- a list: these tags before the answer, in order and once each: ``[time, caption, think]``. A list inside the list is a
  run of tags that may repeat: ``[[time, caption], think]``. ``parent/child`` puts a tag into another:
  ``[think/plan, think/check]`` is ``<think>`` with ``<plan>`` and ``<check>`` inside and nothing else. The answer comes
  last and need not be named.

What stands before the answer is thinking: an answer tag inside it is not the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from easyvideor1.config.rewards import Block
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
        ConfigError: it is not a grammar; the message says what is wrong.
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

#: ``rewards.grammar`` of a configuration.
GrammarConfig = str | tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class TagRun:
    """Tags before the answer that stand side by side, as paths such as ``think/plan``; they may ``repeat`` or not."""

    paths: tuple[str, ...]
    repeats: bool = False


def tags_before(grammar: GrammarConfig) -> tuple[TagRun, ...]:
    """The tags that stand before the answer, in order; none for ``answer``."""
    if isinstance(grammar, str):
        return (TagRun(("think",)),) if grammar == "think-answer" else ()
    asked = grammar[:-1] if grammar and grammar[-1] == "answer" else grammar
    return tuple(_runs(asked))


def _runs(asked: Sequence[Block]) -> Iterator[TagRun]:
    for alone, parts in groupby(asked, key=lambda part: isinstance(part, str)):
        if alone:
            yield TagRun(tuple(part for part in parts if isinstance(part, str)))
        else:
            yield from (TagRun(part, repeats=True) for part in parts if not isinstance(part, str))


def filled_tags(paths: Sequence[str], words: str, special: Mapping[str, str] | None = None) -> list[str]:
    """Every tag once, in order, with ``words`` inside or what ``special`` has for it; neighbours share a parent."""
    special = special or {}
    tags: list[str] = []
    for parent, group in groupby((path.partition("/") for path in paths), key=lambda path: path[0]):
        children = [path[2] for path in group]
        if any(children):
            tags.append(f"<{parent}>{' '.join(filled_tags(children, words, special))}</{parent}>")
        else:
            tags += [f"<{parent}>{special.get(parent.lower(), words)}</{parent}>"] * len(children)
    return tags


def full_response(answer: str, grammar: GrammarConfig = "answer", special: Mapping[str, str] | None = None) -> str:
    """A well-formed response: ``answer`` in its tag, and words in every tag before it, ``special`` ones by its name."""
    before = [tag for run in tags_before(grammar) for tag in filled_tags(run.paths, "I look closely.", special)]
    return "\n".join([*before, f"<answer>{answer}</answer>"])


OPENING = re.compile(r"<\s*+answer\s*+>", re.IGNORECASE)
CLOSING = re.compile(r"<\s*+/\s*+answer\s*+>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Tagged:
    """The content of an answer tag, and where the tag and its content begin and end."""

    content: str
    opening: int
    start: int
    end: int


def find_tag(text: str) -> Tagged | None:
    """The last closed ``<answer>``: from the last opening that has a closing after it."""
    if text.count("<") == text.count("<answer>") + text.count("</answer>"):  # most responses: no odd tags in it
        start = text.rfind("<answer>", 0, max(0, text.rfind("</answer>")))
        if start < 0:
            return None
        inside = start + len("<answer>")
        end = text.find("</answer>", inside)
        return Tagged(text[inside:end], start, inside, end + len("</answer>"))
    closings = list(CLOSING.finditer(text))
    if not closings:
        return None
    opening = None
    for match in OPENING.finditer(text):
        if match.end() > closings[-1].start():
            break
        opening = match
    if opening is None:
        return None
    closing = next(match for match in closings if match.start() >= opening.end())
    return Tagged(text[opening.end() : closing.start()], opening.start(), opening.end(), closing.end())


def last_tag(text: str) -> str | None:
    """The content of the last closed ``<answer>``."""
    tagged = find_tag(text)
    return None if tagged is None else tagged.content


@dataclass(frozen=True, slots=True)
class SplitResponse:
    """A response cut into thinking and what may be read: ``body`` starts at ``start``.

    ``open`` says that thinking began which was never closed; what stands before it is the body all the same.
    """

    thinking: str
    body: str
    start: int
    open: bool


def split_thinking(text: str, grammar: Grammar = ANSWER, *, opened: bool = False) -> SplitResponse:
    """Cut a response after the last closing tag of its thinking, and before thinking that never closes.

    Where the grammar has tags of its own, those inside an answer are part of it: a page may hold ``<caption>``.

    Args:
        text: the whole response.
        grammar: whose tags are thinking.
        opened: whether the prompt opened the thinking, as chat templates of reasoning models do.
    """
    tags = list(grammar.thinking.finditer(text)) if "<" in text else []
    if not tags and not opened:
        return SplitResponse("", text, 0, open=False)
    if tags and grammar.names and (tagged := find_tag(text)):
        tags = [tag for tag in tags if not tagged.start <= tag.start() < tagged.end]
    closings = [tag for tag in tags if tag.group(1)]
    if opened and not closings:
        return SplitResponse(text, "", len(text), open=True)
    cut = closings[-1].end() if closings else 0
    reopened = next((tag.start() for tag in tags if tag.start() >= cut), None)
    end = len(text) if reopened is None else reopened
    return SplitResponse(text[:cut], text[cut:end], cut, open=reopened is not None)


def is_well_formed(text: str, grammar: Grammar) -> bool:
    """Whether the tags of a response that has its answer in a tag are those of the grammar."""
    layout = split_thinking(text, grammar)
    tagged = find_tag(layout.body)
    if tagged is None or layout.open:
        return False
    before = layout.body[: tagged.opening]
    if len(OPENING.findall(before)) > len(CLOSING.findall(before)):
        return False  # a tag that was opened twice
    return grammar.holds(layout.thinking + layout.body[: tagged.opening], layout.body[tagged.end :])
