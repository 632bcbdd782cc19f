"""Scenes become pixels: anti-aliased by drawing each shape four times too large and averaging."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from easyvideor1.toyworld.scene import Backdrop, Body, Label, Scene

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
    # Only the pixels around the body are oversampled: a large frame costs no more than a small one.
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
    """Lay ``colour`` over the canvas through ``mask``, cut where it leaves the picture."""
    alpha = np.asarray(mask, np.float32) / 255
    height, width = canvas.shape[:2]
    y0, y1 = max(0, top), min(height, top + alpha.shape[0])
    x0, x1 = max(0, left), min(width, left + alpha.shape[1])
    if y0 >= y1 or x0 >= x1:
        return
    part = alpha[y0 - top : y1 - top, x0 - left : x1 - left, None]
    region = canvas[y0:y1, x0:x1]
    region += part * (np.asarray(colour, np.float32) - region)
