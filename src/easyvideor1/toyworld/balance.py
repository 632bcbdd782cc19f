"""Choices that come out even: items are dealt from shuffled decks, so no constant answer beats chance for long."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


class Decks:
    """Shuffled decks by name. Within every ``len(items)`` draws from one deck each item comes exactly once."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._left: dict[tuple[str, tuple[Hashable, ...]], list[Hashable]] = {}
        self._random: dict[tuple[str, tuple[Hashable, ...]], random.Random] = {}

    def deal(self, name: str, items: Sequence[T]) -> T:
        """The next item of the deck ``name`` over ``items``; a deck that is used up is shuffled anew."""
        key = (name, tuple(items))
        if not self._left.get(key):
            # Seeding by text is stable across processes and Python versions; hash() is not.
            rng = self._random.setdefault(key, random.Random(f"{self._seed}/{name}/{items!r}"))
            self._left[key] = rng.sample(list(items), len(items))
        item: T = self._left[key].pop()  # type: ignore[assignment]  # the key holds the items' type
        return item


class Draw:
    """The randomness of one question: ``rng`` for free choices, ``even`` for those that must be balanced.

    ``colours`` are the colour names that the world uses: a wrong option of another colour would give itself away.
    """

    def __init__(self, rng: random.Random, decks: Decks, kind: str, colours: tuple[str, ...]) -> None:
        self.rng = rng
        self.colours = colours
        self._decks = decks
        self._kind = kind

    def even(self, name: str, items: Sequence[T]) -> T:
        """Deal from the deck ``name`` of this question kind."""
        return self._decks.deal(f"{self._kind}/{name}", items)
