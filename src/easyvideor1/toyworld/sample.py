"""One media file with its ground truth, for tests and experiments that need no whole world."""

from __future__ import annotations

import os
import random
from typing import Literal

from easyvideor1.toyworld.balance import Decks, Draw
from easyvideor1.toyworld.compose import Needs, Wish, compose
from easyvideor1.toyworld.encode import Encoding, write_image, write_video
from easyvideor1.toyworld.paint import paint, paint_all
from easyvideor1.toyworld.scene import Scene
from easyvideor1.toyworld.spec import WorldSpec


def sample_clip(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] = (64, 64),
    seconds: float = 2.0,
    fps: float = 4.0,
    seed: int = 0,
    bodies: tuple[int, int] = (1, 1),
    window: bool = False,
    textured: bool = False,
    vfr: bool = False,
    codec: str | None = None,
    crf: int = 18,
    gop: int = 12,
    bframes: int = 0,
    rotation: int = 0,
) -> Scene:
    """Write one clip of moving shapes and return what is on it.

    Args:
        path: File to write; the suffix chooses the container.
        size: Displayed width and height in pixels (at least 32), after rotation.
        seconds: Duration; with ``fps`` it must give at least 4 frames.
        fps: Frames a second.
        seed: Chooses the scene.
        bodies: Least and most shapes.
        window: Show the subject for part of the clip only.
        textured: Put gentle waves behind the shapes.
        vfr: Vary the frame rate; the true times are ``Scene.times``.
        codec: FFmpeg encoder; ``None`` takes the usual one of the container.
        crf: Quality, smaller is better.
        gop: Frames between key frames.
        bframes: Consecutive B-frames.
        rotation: Degrees counter-clockwise that the file asks players to turn its pixels.

    Raises:
        ConfigError: the scene is impossible as asked.
        MediaError: the file cannot be encoded as asked.
    """
    spec = WorldSpec(
        seed=seed,
        size=size,
        seconds=seconds,
        fps=fps,
        bodies=bodies,
        vfr=vfr,
        backdrop="textured" if textured else "plain",
    )
    scene = _scene(spec, Needs(window=window), "video")
    encoding = Encoding(codec, crf, gop, bframes, rotation)
    write_video(path, paint_all(scene), fps=fps, timestamps=scene.times if vfr else None, encoding=encoding)
    return scene


def sample_image(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] = (64, 64),
    seed: int = 0,
    bodies: tuple[int, int] = (1, 1),
    word: bool = False,
) -> Scene:
    """Write one PNG or JPEG of shapes (and a word) and return what is on it.

    Raises:
        ConfigError: the scene is impossible as asked.
        MediaError: the suffix is no image's.
    """
    scene = _scene(WorldSpec(seed=seed, size=size, bodies=bodies), Needs(word=word), "image")
    write_image(path, paint(scene, 0.0))
    return scene


def _scene(spec: WorldSpec, needs: Needs, media: Literal["image", "video"]) -> Scene:
    rng = random.Random(f"sample/{media}/{spec.seed}")
    draw = Draw(rng, Decks(f"sample/{spec.seed}"), "sample", spec.colours)
    return compose(spec, media, [Wish(needs, draw)], rng)
