"""What happens in a clip (flat shapes on straight paths, known exactly at every instant) and its pixels.

Coordinates are pixels of the displayed picture, continuous, with the origin at the top left corner: pixel ``i`` covers
``[i, i + 1)``. Times are seconds from the first frame. Shapes are anti-aliased: each is drawn four times too large and
averaged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

ShapeName = Literal["circle", "square", "triangle"]
Motion = Literal["left", "right", "up", "down", "still"]
Box = tuple[float, float, float, float]
RGB = tuple[int, int, int]

SHAPES: tuple[ShapeName, ...] = ("circle", "square", "triangle")
DIRECTIONS: tuple[Motion, ...] = ("left", "right", "up", "down")

#: Colour name -> RGB. Far apart, so that lossy codecs and small models can distinguish them.
COLOURS: MappingProxyType[str, RGB] = MappingProxyType(
    {
        "red": (225, 40, 40),
        "green": (40, 175, 60),
        "blue": (50, 85, 235),
        "yellow": (240, 210, 40),
        "purple": (165, 60, 195),
        "cyan": (45, 205, 215),
    }
)

_STEP: Mapping[str, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "still": (0, 0),
}

#: Grounding answers are whole numbers from 0 to this, whatever the size of the picture.
BOX_SCALE = 1000


@dataclass(frozen=True, slots=True)
class Body:
    """One shape. ``(x, y)`` is its centre at time 0, ``size`` the side of its box, ``speed`` pixels a second.

    It is drawn while ``appears <= t < disappears``; its path covers all times, so a box exists for every time.
    """

    shape: ShapeName
    colour: str
    size: float
    x: float
    y: float
    motion: Motion = "still"
    speed: float = 0.0
    appears: float = 0.0
    disappears: float = float("inf")

    @property
    def name(self) -> str:
        """Its name in questions, such as ``red circle``."""
        return f"{self.colour} {self.shape}"

    @property
    def rgb(self) -> RGB:
        """Its RGB colour."""
        return COLOURS[self.colour]

    @property
    def velocity(self) -> tuple[float, float]:
        """Pixels a second along x and y."""
        step_x, step_y = _STEP[self.motion]
        return step_x * self.speed, step_y * self.speed

    def centre_at(self, t: float) -> tuple[float, float]:
        """Centre in pixels at ``t`` seconds."""
        velocity_x, velocity_y = self.velocity
        return self.x + velocity_x * t, self.y + velocity_y * t

    def box_at(self, t: float) -> Box:
        """Tight bounding box ``(x1, y1, x2, y2)`` in pixels at ``t`` seconds."""
        x, y = self.centre_at(t)
        half = self.size / 2
        return x - half, y - half, x + half, y + half

    def visible_at(self, t: float) -> bool:
        """Whether a frame shown at ``t`` seconds has this body on it."""
        return self.appears <= t < self.disappears


@dataclass(frozen=True, slots=True)
class Label:
    """A word drawn on every frame: centre in pixels and font size in pixels."""

    text: str
    x: float
    y: float
    size: float
    colour: RGB = (245, 245, 245)

    @property
    def box(self) -> Box:
        """An area that contains the word (capitals of the built-in font are narrower than the font size)."""
        half_width = 0.5 * self.size * len(self.text)
        return self.x - half_width, self.y - 0.6 * self.size, self.x + half_width, self.y + 0.6 * self.size


@dataclass(frozen=True, slots=True)
class Backdrop:
    """The background: one colour, or gentle waves of ``amplitude`` grey levels around it."""

    colour: RGB = (36, 36, 40)
    amplitude: float = 0.0
    waves: tuple[float, float] = (2.0, 3.0)
    phase: float = 0.0


@dataclass(frozen=True, slots=True)
class Scene:
    """A whole clip. ``times`` are the presentation times of its frames; an image is a scene with one frame at 0."""

    width: int
    height: int
    seconds: float
    fps: float
    times: tuple[float, ...]
    bodies: tuple[Body, ...]
    label: Label | None = None
    backdrop: Backdrop = field(default_factory=Backdrop)

    @property
    def subject(self) -> Body:
        """The body that questions ask about; no other body shares its colour, shape or motion."""
        return self.bodies[0]

    def scaled_box(self, body: Body, t: float) -> list[int]:
        """The box of ``body`` at ``t`` seconds on the 0-1000 scale of answers."""
        x1, y1, x2, y2 = body.box_at(t)
        return [*self.scaled_point(x1, y1), *self.scaled_point(x2, y2)]

    def scaled_point(self, x: float, y: float) -> list[int]:
        """A point in pixels as whole numbers on the 0-1000 scale of answers, kept inside the picture."""
        return [
            min(BOX_SCALE, max(0, round(x / self.width * BOX_SCALE))),
            min(BOX_SCALE, max(0, round(y / self.height * BOX_SCALE))),
        ]

    def as_json(self) -> dict[str, Any]:
        """A plain form, as ``scenes.jsonl`` holds it."""
        return asdict(self)


def frame_times(seconds: float, fps: float, jitter: tuple[float, ...] = ()) -> tuple[float, ...]:
    """Presentation times of a clip in seconds, the first at 0.

    Args:
        seconds: Duration; the last frame is shown until then.
        fps: Frames a second, on average.
        jitter: One number in (-0.5, 0.5) per frame moves it by that share of a frame interval (variable frame rate).
            Times are then whole hundredths of a second, which every container that can vary its rate keeps.
    """
    count = max(1, round(seconds * fps))
    even = [index / fps for index in range(count)]
    if not jitter:
        return tuple(even)
    moved = [0.0] + [round(t + jitter[i] / fps, 2) for i, t in enumerate(even) if i > 0]
    for index in range(1, count):  # rounding must not give two frames the same time
        moved[index] = max(moved[index], round(moved[index - 1] + 0.01, 2))
    return tuple(moved)


_OVERSAMPLE = 4


def paint(scene: Scene, t: float) -> NDArray[np.uint8]:
    """The frame at ``t`` seconds, uint8 RGB of shape ``(H, W, 3)``."""
    canvas = _backdrop(scene.backdrop, scene.width, scene.height)
    if scene.label is not None:
        _draw_label(canvas, scene.label)
    for body in scene.bodies:
        if body.visible_at(t):
            _draw_body(canvas, body, t)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def paint_all(scene: Scene) -> Iterator[NDArray[np.uint8]]:
    """The frames of the scene in order, one at a time."""
    for t in scene.times:
        yield paint(scene, t)


def _backdrop(backdrop: Backdrop, width: int, height: int) -> NDArray[np.float32]:
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = backdrop.colour
    if backdrop.amplitude:
        across, down = backdrop.waves
        x = np.arange(width, dtype=np.float32)[None, :] / width
        y = np.arange(height, dtype=np.float32)[:, None] / height
        wave = np.sin(2 * math.pi * (across * x + backdrop.phase)) * np.cos(2 * math.pi * (down * y - backdrop.phase))
        canvas += (backdrop.amplitude * wave)[:, :, None]
    return canvas


def _draw_body(canvas: NDArray[np.float32], body: Body, t: float) -> None:
    # Only the pixels around the body are oversampled, so a large frame costs no more than a small one.
    x1, y1, x2, y2 = body.box_at(t)
    left, top = math.floor(x1), math.floor(y1)
    width, height = math.ceil(x2) - left, math.ceil(y2) - top
    mask = Image.new("L", (width * _OVERSAMPLE, height * _OVERSAMPLE))
    a, b = (x1 - left) * _OVERSAMPLE, (y1 - top) * _OVERSAMPLE
    side = body.size * _OVERSAMPLE
    c, d = a + side - 1, b + side - 1  # PIL includes the far edge
    pen = ImageDraw.Draw(mask)
    if body.shape == "circle":
        pen.ellipse((a, b, c, d), fill=255)
    elif body.shape == "square":
        pen.rectangle((a, b, c, d), fill=255)
    else:
        pen.polygon([((a + c) / 2, b), (c, d), (a, d)], fill=255)
    _blend(canvas, mask.reduce(_OVERSAMPLE), left, top, body.rgb)


def _draw_label(canvas: NDArray[np.float32], label: Label) -> None:
    height, width = canvas.shape[:2]
    mask = Image.new("L", (width, height))
    font = ImageFont.load_default(size=label.size)
    ImageDraw.Draw(mask).text((label.x, label.y), label.text, fill=255, font=font, anchor="mm")
    _blend(canvas, mask, 0, 0, label.colour)


def _blend(canvas: NDArray[np.float32], mask: Image.Image, left: int, top: int, colour: tuple[int, int, int]) -> None:
    """Blend ``colour`` onto the canvas through ``mask``, clipped to the picture."""
    alpha = np.asarray(mask, np.float32) / 255
    height, width = canvas.shape[:2]
    y0, y1 = max(0, top), min(height, top + alpha.shape[0])
    x0, x1 = max(0, left), min(width, left + alpha.shape[1])
    if y0 >= y1 or x0 >= x1:
        return
    part = alpha[y0 - top : y1 - top, x0 - left : x1 - left, None]
    region = canvas[y0:y1, x0:x1]
    region += part * (np.asarray(colour, np.float32) - region)
