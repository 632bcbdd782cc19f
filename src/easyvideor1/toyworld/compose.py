"""Composes scenes: first what the questions need, then random choices for the rest. Shapes never overlap."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from easyvideor1.toyworld.questions import Draw, Needs
from easyvideor1.toyworld.scene import DIRECTIONS, SHAPES, Backdrop, Body, Label, Motion, Scene, ShapeName, frame_times
from easyvideor1.toyworld.spec import WorldSpec
from easyvideor1.types import ConfigError

#: Words of the reading task: short capitals, legible in a small frame.
WORDS = ("CAT", "DOG", "SUN", "CAR", "BOX", "HAT", "CUP", "KEY")

#: Maximum number of shapes in a counting question (at most one fewer than the number of colours).
MOST = 4

_ATTEMPTS = 1500  # later attempts use smaller shapes, the last half only one moving shape
_GAP = 1.0  # pixels between any two shapes, at all times


@dataclass(frozen=True, slots=True)
class Wish:
    """The needs of one question, and its source of randomness."""

    needs: Needs
    draw: Draw


def compose(spec: WorldSpec, media: Literal["image", "video"], wishes: Sequence[Wish], rng: random.Random) -> Scene:
    """A scene for all ``wishes`` at once. If two of them choose the same attribute, the first decides.

    Raises:
        ConfigError: the shapes do not fit into the picture.
    """
    width, height = spec.size
    if media == "image":
        seconds, fps = 1.0, 1.0
        times: tuple[float, ...] = (0.0,)
    else:
        seconds, fps = spec.seconds, spec.fps
        count = round(seconds * fps)
        jitter = tuple(rng.uniform(-0.35, 0.35) for _ in range(count)) if spec.vfr else ()
        times = frame_times(seconds, fps, jitter)
    colours, shapes, motions = _attributes(spec, media, wishes, rng)
    label = _label(spec, wishes, rng) if any(wish.needs.word for wish in wishes) else None
    windows = [_window(seconds, fps, rng)] if any(wish.needs.window for wish in wishes) else [(0.0, seconds)]
    windows += [(0.0, seconds)] * (len(colours) - 1)
    wide = any(wish.needs.wide for wish in wishes)
    for attempt in range(_ATTEMPTS):
        shrink = max(0.4, 0.98 ** (attempt // 25))
        if attempt == _ATTEMPTS // 2:
            motions[1:] = ["still"] * (len(motions) - 1)
        bodies: list[Body] = []
        for index, (colour, shape, motion) in enumerate(zip(colours, shapes, motions, strict=True)):
            span = (0.1, 0.65) if wide and index == 0 else spec.travel
            path = _path(spec, motion, span, shrink, seconds, rng)
            appears, disappears = windows[index]
            body = Body(shape, colour, *path[:3], motion, path[3], appears, disappears)
            if label is not None and _covers(body, label, seconds):
                break
            if any(_meet(body, other, seconds) for other in bodies):
                break
            bodies.append(body)
        if len(bodies) == len(colours):
            return Scene(width, height, seconds, fps, times, tuple(bodies), label, _backdrop(spec, rng))
    raise ConfigError(
        f"{len(colours)} shapes of {spec.body_size} do not fit into {width}x{height} without touching; "
        "make WorldSpec.size larger, or body_size or travel smaller"
    )


def _attributes(
    spec: WorldSpec, media: Literal["image", "video"], wishes: Sequence[Wish], rng: random.Random
) -> tuple[list[str], list[ShapeName], list[Motion]]:
    """Colours, shapes and motions. The subject comes first and shares none of them with another body."""
    counting = next((wish.draw for wish in wishes if wish.needs.counted), None)
    least = max(wish.needs.least for wish in wishes)
    if counting is not None:
        most = min(MOST, len(spec.colours) - 1)  # one colour stays absent, for questions about an absent colour
        count = counting.even("count", tuple(range(least, most + 1)))
    else:
        count = max(least, rng.randint(*spec.bodies))
    dealt = {attribute: wish.draw for wish in reversed(wishes) for attribute in wish.needs.even}
    colour = dealt["colour"].even("colour", spec.colours) if "colour" in dealt else rng.choice(spec.colours)
    shape = dealt["shape"].even("shape", SHAPES) if "shape" in dealt else rng.choice(SHAPES)
    motion = dealt["motion"].even("motion", DIRECTIONS) if "motion" in dealt else rng.choice(DIRECTIONS)
    colours = [colour, *rng.sample([c for c in spec.colours if c != colour], count - 1)]
    shapes = [shape, *(rng.choice([s for s in SHAPES if s != shape]) for _ in range(count - 1))]
    if media == "image":
        return colours, shapes, ["still"] * count
    # At most two moving shapes: more cannot pass each other in a small frame.
    others: list[Motion] = ["still"] * (count - 1)
    if others:
        others[0] = rng.choice([m for m in (*DIRECTIONS, "still") if m != motion])
    return colours, shapes, [motion, *others]


def _path(
    spec: WorldSpec, motion: Motion, travel: tuple[float, float], shrink: float, seconds: float, rng: random.Random
) -> tuple[float, float, float, float]:
    """Size, centre x, centre y and speed of a body that stays inside the picture during the whole clip."""
    width, height = spec.size
    size = round(min(width, height) * rng.uniform(*spec.body_size) * shrink, 2)
    along = width if motion in ("left", "right") else height
    room = along - size - 2
    way = 0.0 if motion == "still" else round(min(room, along * rng.uniform(*travel)), 2)
    half = size / 2 + 1
    x_low, x_high, y_low, y_high = half, width - half, half, height - half
    if motion == "left":
        x_low += way
    elif motion == "right":
        x_high -= way
    elif motion == "up":
        y_low += way
    elif motion == "down":
        y_high -= way
    x, y = rng.uniform(x_low, x_high), rng.uniform(y_low, y_high)
    return size, round(x, 3), round(y, 3), way / seconds


def _meet(a: Body, b: Body, seconds: float) -> bool:
    """Whether two boxes come closer than the gap at any time, solved exactly since paths are straight."""
    start, end = 0.0, seconds
    reach = (a.size + b.size) / 2 + _GAP
    for position_a, position_b, speed_a, speed_b in (
        (a.x, b.x, a.velocity[0], b.velocity[0]),
        (a.y, b.y, a.velocity[1], b.velocity[1]),
    ):
        apart, closing = position_a - position_b, speed_a - speed_b
        if closing == 0:
            if abs(apart) >= reach:
                return False
            continue
        first, last = sorted(((-reach - apart) / closing, (reach - apart) / closing))
        start, end = max(start, first), min(end, last)
    return start < end


def _covers(body: Body, label: Label, seconds: float) -> bool:
    x1, y1, x2, y2 = label.box
    begin, finish = body.box_at(0), body.box_at(seconds)
    swept = [min(begin[0], finish[0]), min(begin[1], finish[1]), max(begin[2], finish[2]), max(begin[3], finish[3])]
    return swept[0] < x2 and x1 < swept[2] and swept[1] < y2 and y1 < swept[3]


def _window(seconds: float, fps: float, rng: random.Random) -> tuple[float, float]:
    """A quarter to three quarters of the clip, on frame times, that contains a whole second."""
    frames = round(seconds * fps)
    choices = []
    for first in range(frames):
        for last in range(first + max(1, frames // 4), min(frames, first + max(2, 3 * frames // 4)) + 1):
            start, end = round(first / fps, 3), round(last / fps, 3)
            if -(-start // 1) < end:  # the first whole second at or after the start comes before the end
                choices.append((start, end))
    return rng.choice(choices)


def _label(spec: WorldSpec, wishes: Sequence[Wish], rng: random.Random) -> Label:
    draw = next(wish.draw for wish in wishes if wish.needs.word)
    width, height = spec.size
    size = round(min(height * 0.25, width * 0.3), 1)
    text = draw.even("word", WORDS)
    x = rng.uniform(0.5 * size * len(text), width - 0.5 * size * len(text))
    y = rng.choice((0.65 * size, height - 0.65 * size))
    return Label(text, round(x, 1), round(y, 1), size)


def _backdrop(spec: WorldSpec, rng: random.Random) -> Backdrop:
    grey = rng.randint(20, 52)
    textured = spec.backdrop == "textured" or (spec.backdrop == "mixed" and rng.random() < 0.5)
    waves = (float(rng.randint(1, 4)), float(rng.randint(1, 4)))
    return Backdrop((grey, grey, grey + 4), 8.0 if textured else 0.0, waves, round(rng.random(), 3))
