"""Which turns share a row, and the forest that their texts form: every shared prefix is in the row once.

A text is a prompt with its response. Responses of one prompt, later turns of a conversation, questions about the same
video and responses that begin with the same words share prefixes by one rule: equal tokens, equal pixels, equal places.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from easyvideor1.attention.layout import Layout
from easyvideor1.types import MediaPlan, MediaRef, Prompt, Turn

#: A prefix is shared if it is at least this long: each shared stretch costs one call of the kernels per layer.
SHORTEST_SHARED = 8


@dataclass(frozen=True, slots=True)
class PackedTurns:
    """Turns that stay in one micro-batch; ``sequences`` are their indices in the whole step.

    ``shared``: their texts form a forest in a row they may share with others; else it is one turn with its own row.
    """

    turns: tuple[Turn, ...]
    sequences: tuple[int, ...]
    shared: bool = True

    @property
    def row_length(self) -> int:
        """Tokens that are fed for these turns."""
        return build_forest(self.turns).layout.length


@dataclass(frozen=True, slots=True)
class Stretch:
    """Tokens ``[start, stop)`` of the text of turn ``turn`` (an index into the forest's turns)."""

    turn: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """Texts in one row: stretches in depth-first order, and the row's column of every token of every text.

    ``columns[i]`` is int64 ``(len(prompt) + fed tokens of turn i,)``.
    """

    stretches: tuple[Stretch, ...]
    layout: Layout
    columns: tuple[NDArray[np.int64], ...]


def fed_tokens(turn: Turn) -> NDArray[np.int64]:
    """The response without its last token, whose prediction is not needed."""
    return turn.response_ids[:-1]


def pack_turns(
    turns: Sequence[Turn], *, share_prefix: bool, together: Sequence[int] | None = None
) -> list[PackedTurns]:
    """Turns whose prompts are equal or continue one another stay together; without ``share_prefix`` each is alone.

    So do turns whose prompts begin with the same part of a video, as fresh prompts of a group's trajectories do.

    Args:
        turns: of the whole step.
        share_prefix: whether the family's layers can branch.
        together: a number per turn; turns of one number stay together as well (an objective that compares them).
    """
    if not share_prefix:
        return [PackedTurns((turn,), (index,), shared=False) for index, turn in enumerate(turns)]
    label: dict[Any, int] = {}
    parent = list(range(len(turns)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = index = parent[parent[index]]
        return index

    def join(first: int, second: int) -> None:
        low, high = sorted((root(first), root(second)))
        parent[high] = low

    for index, turn in enumerate(turns):
        join(label.setdefault(("prompt", id(turn.prompt)), index), index)
        if together is not None:
            join(label.setdefault(("together", together[index]), index), index)
    # A prompt that continues another follows it in the order of their bytes, and so does all in between.
    firsts = [index for kind, index in label.items() if kind[0] == "prompt"]
    keys = _keys([turns[index].prompt for index in firsts])
    texts = sorted((key.tobytes(), index) for key, index in zip(keys, firsts, strict=True))
    key_of = dict(zip(firsts, keys, strict=True))
    for (_, one), (_, other) in itertools.pairwise(texts):
        if 0 < _first_part(turns[one].prompt) <= _alike(key_of[one], key_of[other]):
            join(one, other)
    begun: list[tuple[bytes, int]] = []
    for text, index in texts:
        while begun and not text.startswith(begun[-1][0]):
            begun.pop()
        if begun:
            join(begun[-1][1], index)
        begun.append((text, index))
    units: dict[int, list[int]] = {}
    for index in range(len(turns)):
        units.setdefault(root(index), []).append(index)
    return [PackedTurns(tuple(turns[i] for i in unit), tuple(unit)) for unit in units.values()]


def build_forest(turns: Sequence[Turn]) -> Forest:
    """The forest of some turns' texts; a pure function of them."""
    prompts = list({id(turn.prompt): turn.prompt for turn in turns}.values())
    keys = {id(prompt): key for prompt, key in zip(prompts, _keys(prompts), strict=True)}
    # Big-endian and unsigned, so that the order of bytes is the order of numbers.
    texts = [np.concatenate([keys[id(turn.prompt)], fed_tokens(turn).astype(">u4")]) for turn in turns]
    order = sorted(range(len(turns)), key=lambda i: (texts[i].tobytes(), i))
    alike = [0, *(_alike(texts[a], texts[b]) for a, b in itertools.pairwise(order))]
    stretches: list[Stretch] = []
    levels: list[int] = []
    found: list[list[tuple[int, int]]] = [[] for _ in turns]  # per text: (column, tokens) of its stretches
    length = 0
    # (first, last, depth, level): texts [first, last) of the order agree, and are laid out, up to depth.
    pending = [(0, len(order), 0, 0)]
    while pending:
        first, last, depth, level = pending.pop()
        common = len(texts[order[first]]) if last - first == 1 else min(alike[first + 1 : last])
        cut = common if last - first == 1 else _outside_media(turns[order[first]].prompt, common)
        if cut - depth >= (1 if last - first == 1 else SHORTEST_SHARED):
            stretches.append(Stretch(order[first], depth, cut))
            levels.append(level)
            for index in order[first:last]:
                found[index].append((length, cut - depth))
            length += cut - depth
            depth, level = cut, level + 1
        if last - first > 1:
            splits = [first, *(i for i in range(first + 1, last) if alike[i] == common), last]
            pending += [(a, b, depth, level) for a, b in reversed(list(itertools.pairwise(splits)))]
    columns = tuple(
        np.concatenate([np.arange(start, start + count) for start, count in pieces] or [np.empty(0, np.int64)])
        for pieces in found
    )
    return Forest(tuple(stretches), Layout(_spans(stretches, levels), length), columns)


def media_of(stretch: Stretch, prompt: Prompt) -> list[tuple[MediaRef, MediaPlan]]:
    """The media of ``prompt`` whose first visual token lies in ``stretch``."""
    inside = [media for media, (start, _) in _extents(prompt).items() if stretch.start <= start < stretch.stop]
    return [(prompt.media[media], prompt.plans[media]) for media in sorted(inside)]


def _spans(stretches: Sequence[Stretch], levels: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """``Layout.stretches``: a stretch is continued by those behind it up to the next of its level or above."""
    sizes = [stretch.stop - stretch.start for stretch in stretches]
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).tolist()
    ends = [0] * len(sizes)
    open_: list[int] = []
    for index, level in enumerate([*levels, 0]):
        while open_ and levels[open_[-1]] >= level:
            ends[open_.pop()] = starts[index]
        open_.append(index)
    return tuple((start, start + size, end) for start, size, end in zip(starts, sizes, ends, strict=False))


def _keys(prompts: Sequence[Prompt]) -> list[NDArray[Any]]:
    """Per prompt a key for every token: its id, or for visual tokens their pixels and place."""
    known: dict[Any, int] = {}
    keys = []
    for prompt in prompts:
        key = prompt.token_ids.astype(">u4")
        seen = dict.fromkeys(range(len(prompt.plans)), 0)
        for span in prompt.spans:
            plan = prompt.plans[span.media]
            # Times decide the positions of some families.
            what = (plan.digest, plan.grid, plan.timestamps, plan.sample_fps, seen[span.media], span.length)
            seen[span.media] += 1
            # No token id is that large.
            key[span.start : span.start + span.length] = 2**31 + known.setdefault(what, len(known))
        keys.append(key)
    return keys


def _alike(first: NDArray[Any], second: NDArray[Any]) -> int:
    """Leading entries that are equal."""
    length = min(len(first), len(second))
    differing = first[:length] != second[:length]
    return int(differing.argmax()) if differing.any() else length


def _extents(prompt: Prompt) -> dict[int, tuple[int, int]]:
    """First and last column, plus one, of the visual tokens of every medium."""
    extents: dict[int, tuple[int, int]] = {}
    for span in prompt.spans:
        start, _ = extents.get(span.media, (span.start, 0))
        extents[span.media] = (start, span.start + span.length)
    return extents


def _first_part(prompt: Prompt) -> int:
    """Tokens up to the end of the first medium that is a part of a video; 0 if there is none."""
    extents = _extents(prompt)
    return next((extents[n][1] for n, plan in enumerate(prompt.plans) if plan.part is not None), 0)


def _outside_media(prompt: Prompt, length: int) -> int:
    """``length``, or the start of the medium that it would cut."""
    for start, stop in _extents(prompt).values():
        if start < length < stop:
            return start
    return length
