"""Plans the clips of a split and their questions, before any pixel is painted."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from easyvideor1.toyworld.compose import Wish, compose
from easyvideor1.toyworld.kinds import KINDS
from easyvideor1.toyworld.questions import PROBLEM_TYPES, Decks, Draw, Kind, Question
from easyvideor1.toyworld.scene import Scene
from easyvideor1.toyworld.spec import SPLITS, WorldSpec
from easyvideor1.types import ConfigError


@dataclass(frozen=True, slots=True)
class Clip:
    """One media file. ``path`` is relative to the world; ``rotation`` in degrees applies to videos."""

    id: str
    media: Literal["image", "video"]
    path: str
    scene: Scene
    rotation: int = 0


@dataclass(frozen=True, slots=True)
class PlannedSplit:
    """The media and the rows of one split, in order."""

    name: str
    clips: tuple[Clip, ...]
    rows: tuple[dict[str, Any], ...]


def selected_kinds(spec: WorldSpec) -> list[Kind]:
    """The question kinds that ``spec`` selects.

    Raises:
        ConfigError: a name is unknown, nothing is left, or the media share leaves a kind without media.
    """
    kinds = [KINDS.resolve(name) for name in spec.kinds or KINDS.names()]
    kinds = [kind for kind in kinds if not spec.tasks or kind.task in spec.tasks]
    if len({kind.name for kind in kinds}) < len(kinds):
        raise ConfigError(f"WorldSpec.kinds names a kind twice: {spec.kinds}")
    if not kinds:
        raise ConfigError(f"no question kind remains for kinds={spec.kinds} and tasks={spec.tasks}")
    for medium, share in (("image", spec.image_share), ("video", 1 - spec.image_share)):
        stranded = [kind.name for kind in kinds if kind.media == (medium,)]
        if share == 0 and stranded and any(other.media != (medium,) for other in kinds):
            raise ConfigError(
                f"WorldSpec.image_share is {spec.image_share}, so {', '.join(stranded)} can never be asked; "
                "change image_share, or leave these kinds out"
            )
    return kinds


def plan_world(spec: WorldSpec) -> Iterator[PlannedSplit]:
    """All splits in order; no scene comes twice, within a split or across them.

    Raises:
        ConfigError: the spec cannot be met.
    """
    seen: set[tuple[Any, ...]] = set()
    kinds = selected_kinds(spec)
    for split in SPLITS:
        yield _SplitPlanner(spec, split, kinds, seen).plan()


class _SplitPlanner:
    """Plans one split; holds the decks and the counts of kinds."""

    def __init__(self, spec: WorldSpec, split: str, kinds: list[Kind], seen: set[tuple[Any, ...]]) -> None:
        self.spec = spec
        self.split = split
        self.kinds = kinds
        self.seen = seen
        self.decks = Decks(f"{spec.seed}/{split}")
        self.asked = dict.fromkeys((kind.name for kind in kinds), 0)
        self.rows: list[dict[str, Any]] = []
        self.videos = 0

    def plan(self) -> PlannedSplit:
        clips = []
        count = self.spec.clips(self.split)
        for index, media in enumerate(self._media(count)):
            rng = random.Random(f"{self.spec.seed}/{self.split}/{index}")
            kinds = self._kinds(media, rng)
            clip = self._clip(index, media, kinds, rng)
            if any("text" not in kind.media for kind in kinds):
                clips.append(clip)
        return PlannedSplit(self.split, tuple(clips), tuple(self.rows))

    def _media(self, count: int) -> list[Literal["image", "video"]]:
        """Images evenly spread among the videos, as far as the kinds allow."""
        possible = {medium for kind in self.kinds for medium in kind.media}
        share = self.spec.image_share
        if "image" not in possible or "video" not in possible:
            share = 1.0 if "image" in possible else 0.0
        return ["image" if int((i + 1) * share) > int(i * share) else "video" for i in range(count)]

    def _kinds(self, media: Literal["image", "video"], rng: random.Random) -> list[Kind]:
        """The least asked kinds whose needs agree."""
        eligible = [kind for kind in self.kinds if media in kind.media or "text" in kind.media]
        rng.shuffle(eligible)
        eligible.sort(key=lambda kind: self.asked[kind.name])
        wanted = self.spec.questions_per_clip
        chosen: list[Kind] = []
        for kind in eligible:
            if len(chosen) < wanted and all(kind.needs.agrees(other.needs) for other in chosen):
                chosen.append(kind)
        if len(chosen) < wanted:
            raise ConfigError(
                f"WorldSpec.questions_per_clip is {wanted}, but only {len(chosen)} of the kinds "
                f"{', '.join(kind.name for kind in eligible)} can be asked about one {media}; lower it or add kinds"
            )
        for kind in chosen:
            self.asked[kind.name] += 1
        return chosen

    def _clip(self, index: int, media: Literal["image", "video"], kinds: list[Kind], rng: random.Random) -> Clip:
        draws = [Draw(rng, self.decks, kind.name, self.spec.colours) for kind in kinds]
        wishes = [Wish(kind.needs, draw) for kind, draw in zip(kinds, draws, strict=True)]
        scene = compose(self.spec, media, wishes, rng)
        while _fingerprint(scene) in self.seen:
            scene = compose(self.spec, media, wishes, rng)
        self.seen.add(_fingerprint(scene))
        name = f"{self.split}-{index:06d}"
        suffix = self.spec.container if media == "video" else self.spec.image_format
        rotation = 0
        if media == "video":
            rotation = self.spec.rotations[self.videos % len(self.spec.rotations)]
            self.videos += 1
        clip = Clip(name, media, f"media/{self.split}/{media}_{index:06d}{suffix}", scene, rotation)
        for kind, draw in zip(kinds, draws, strict=True):
            self.rows.append(self._row(clip, kind, kind.ask(scene, draw), rng))
        return clip

    def _row(self, clip: Clip, kind: Kind, question: Question, rng: random.Random) -> dict[str, Any]:
        """A row of the published format with the columns ``kind``, ``clip`` and the kind's own on top."""
        medium = "text" if "text" in kind.media else clip.media
        bare = rng.random() < self.spec.bare_share
        traced = self.split == "train" and rng.random() < self.spec.offline_share
        problem = question.problem if medium == "text" or bare else f"<{medium}>\n{question.problem}"
        trace = f"<think>{question.thought}</think><answer>{question.answer}</answer>"
        return {
            "problem_id": f"{self.split}-{len(self.rows):06d}",
            "problem": problem,
            "answer": question.answer,
            "problem_type": PROBLEM_TYPES[kind.task],
            "data_type": medium,
            "videos": [clip.path] if medium == "video" else [],
            "images": [clip.path] if medium == "image" else [],
            "options": list(question.options),
            "data_source": f"toyworld/{kind.name}",
            "has_offline_trajectory": traced,
            "offline_output": trace if traced else "",
            "kind": kind.name,
            "clip": "" if medium == "text" else clip.id,
            **question.extra,
        }


def _fingerprint(scene: Scene) -> tuple[Any, ...]:
    """Equal for scenes that look the same: everything to the pixel and the hundredth of a second."""
    bodies = tuple(
        (b.shape, b.colour, round(b.size), round(b.x), round(b.y), b.motion, round(b.speed), b.appears, b.disappears)
        for b in scene.bodies
    )
    label = None if scene.label is None else (scene.label.text, round(scene.label.x), round(scene.label.y))
    return len(scene.times) > 1, bodies, label
