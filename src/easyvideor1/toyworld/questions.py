"""What a question kind is, what it needs of its scene, and the balanced choices that questions draw from."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from easyvideor1.registry import Registry
from easyvideor1.toyworld.scene import Body, Scene

T = TypeVar("T", bound=Hashable)


class Decks:
    """Shuffled decks by name. In every ``len(items)`` draws from one deck, each item comes exactly once."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._left: dict[tuple[str, tuple[Hashable, ...]], list[Hashable]] = {}
        self._random: dict[tuple[str, tuple[Hashable, ...]], random.Random] = {}

    def deal(self, name: str, items: Sequence[T]) -> T:
        """The next item of the deck ``name`` over ``items``; an empty deck is shuffled again."""
        key = (name, tuple(items))
        if not self._left.get(key):
            # Seeding by text is stable across processes and Python versions; hash() is not.
            rng = self._random.setdefault(key, random.Random(f"{self._seed}/{name}/{items!r}"))
            self._left[key] = rng.sample(list(items), len(items))
        item: T = self._left[key].pop()  # type: ignore[assignment]  # the key holds the items' type
        return item


class Draw:
    """The randomness of one question: ``rng`` for free choices, ``even`` for balanced ones.

    ``colours`` are the colour names of the world: a wrong option with another colour would be obvious.
    """

    def __init__(self, rng: random.Random, decks: Decks, kind: str, colours: tuple[str, ...]) -> None:
        self.rng = rng
        self.colours = colours
        self._decks = decks
        self._kind = kind

    def even(self, name: str, items: Sequence[T]) -> T:
        """Deal from the deck ``name`` of this question kind."""
        return self._decks.deal(f"{self._kind}/{name}", items)


Medium = Literal["image", "video", "text"]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a question kind requires of its scene.

    Attributes:
        even: Attributes of the subject that determine the answer, so they are balanced for this kind.
        counted: The number of shapes is balanced from 1 to 4.
        window: The subject is visible for part of the clip only.
        whole: The subject is always visible; excludes ``window``.
        word: A word is drawn.
        wide: The distance that the subject moves varies widely (else it is always clear motion).
        least: At least this many shapes.
    """

    even: tuple[Literal["colour", "shape", "motion"], ...] = ()
    counted: bool = False
    window: bool = False
    whole: bool = False
    word: bool = False
    wide: bool = False
    least: int = 1

    def agrees(self, other: Needs) -> bool:
        """Whether one scene can serve both."""
        crowded = (self.counted and other.word) or (self.word and other.counted)  # four shapes and a word: too much
        return not (crowded or (self.whole and other.window) or (self.window and other.whole))


@dataclass(frozen=True, slots=True)
class Question:
    """One question about a scene. ``thought`` is the sentence of its reasoning trace; ``extra`` are further columns."""

    problem: str
    answer: str
    thought: str
    options: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of question: its task type, its media, its needs, and the function that asks it."""

    name: str
    task: str
    media: tuple[Medium, ...]
    needs: Needs
    ask: Callable[[Scene, Draw], Question]


#: Every question kind by name.
KINDS: Registry[Kind] = Registry("toyworld question kind")

#: Task type -> spelling of the published ``problem_type`` column.
PROBLEM_TYPES: MappingProxyType[str, str] = MappingProxyType(
    {
        "multiple_choice": "multiple choice",
        "numerical": "numerical",
        "regression": "regression",
        "temporal_grounding": "temporal grounding",
        "spatial_grounding": "spatial grounding",
        "spatial_temporal_grounding": "spatial-temporal grounding",
        "tracking": "tracking",
        "segmentation": "segmentation",
        "open_ended": "open-ended",
        "video_qa": "video qa",
        "description": "video description",
        "math": "math",
        "ocr": "ocr",
        "boolean": "boolean",
        "code": "code",
        "svg_code": "svg-code",
        "html_code": "html-code",
        "preference": "preference",
    }
)


def kind(
    name: str, task: str, *media: Medium, needs: Needs | None = None
) -> Callable[[Callable[[Scene, Draw], Question]], Callable[[Scene, Draw], Question]]:
    """Decorator that registers a function ``(scene, draw) -> Question`` as a question kind."""

    def add(ask: Callable[[Scene, Draw], Question]) -> Callable[[Scene, Draw], Question]:
        KINDS.register(name)(Kind(name, task, media, needs or Needs(), ask))
        return ask

    return add


def compact(value: object) -> str:
    """JSON without spaces, the form of structured answers."""
    return json.dumps(value, separators=(",", ":"))


def seconds(t: float) -> float | int:
    """A time as in answers: at most two decimals, whole numbers without a point."""
    rounded = round(t, 2)
    return int(rounded) if rounded == int(rounded) else rounded


def article(body: Body) -> str:
    """``a red circle``; no colour in use begins with a vowel."""
    return f"a {body.name}"


def action(body: Body) -> str:
    """``moves left`` or ``stands still``."""
    return "stands still" if body.motion == "still" else f"moves {body.motion}"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
