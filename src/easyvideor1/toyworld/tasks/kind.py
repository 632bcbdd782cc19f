"""What a question kind is, and the words that several kinds share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from easyvideor1.registry import Registry
from easyvideor1.toyworld.balance import Draw
from easyvideor1.toyworld.compose import Needs
from easyvideor1.toyworld.scene import Body, Scene

Medium = Literal["image", "video", "text"]


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
    """A way of asking: its task type, where it can be asked, what it needs of the scene, and the asking itself."""

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
    """JSON without blanks, the form of structured answers."""
    return json.dumps(value, separators=(",", ":"))


def seconds(t: float) -> float | int:
    """A time as answers state it: two decimals at most, whole numbers without a point."""
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
