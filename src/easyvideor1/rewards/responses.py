"""Whole responses around an answer, in the tags that a configuration asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from easyvideor1.config.rewards import Block

#: ``rewards.grammar`` of a configuration.
Form = str | tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """Tags before the answer that stand side by side, as paths such as ``think/plan``; they may ``repeat`` or not."""

    paths: tuple[str, ...]
    repeats: bool = False


def tags_before(grammar: Form) -> tuple[Run, ...]:
    """The tags that stand before the answer, in order; none for ``answer``."""
    if isinstance(grammar, str):
        return (Run(("think",)),) if grammar == "think-answer" else ()
    asked = grammar[:-1] if grammar and grammar[-1] == "answer" else grammar
    return tuple(_runs(asked))


def _runs(asked: Sequence[Block]) -> Iterator[Run]:
    for alone, parts in groupby(asked, key=lambda part: isinstance(part, str)):
        if alone:
            yield Run(tuple(part for part in parts if isinstance(part, str)))
        else:
            yield from (Run(part, repeats=True) for part in parts if not isinstance(part, str))


def written(paths: Sequence[str], words: str) -> list[str]:
    """Every tag once with ``words`` inside, in order; neighbours with one parent share it."""
    tags: list[str] = []
    for parent, group in groupby((path.partition("/") for path in paths), key=lambda path: path[0]):
        children = [path[2] for path in group]
        if any(children):
            tags.append(f"<{parent}>{' '.join(written(children, words))}</{parent}>")
        else:
            tags += [f"<{parent}>{words}</{parent}>"] * len(children)
    return tags


def full_response(answer: str, grammar: Form = "answer", words: str = "I look closely.") -> str:
    """A well-formed response with ``answer`` in its tag and ``words`` in every tag before it."""
    before = [tag for run in tags_before(grammar) for tag in written(run.paths, words)]
    return "\n".join([*before, f"<answer>{answer}</answer>"])
