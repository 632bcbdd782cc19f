"""Single media files with their ground truth, and the ground truth of a written world."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from easyvideor1.toyworld import Body, Encoding, Label, Scene, WorldSpec, paint, paint_all, write_image, write_video
from easyvideor1.toyworld.compose import Wish, compose
from easyvideor1.toyworld.questions import Decks, Draw, Needs
from easyvideor1.toyworld.scene import Backdrop


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


def read_scenes(out: str | os.PathLike[str]) -> dict[str, Scene]:
    """The ground truth of a written world: scene by clip id (the ``clip`` column of the rows)."""
    with (Path(out) / "scenes.jsonl").open(encoding="utf-8") as lines:
        data = [json.loads(line) for line in lines]
    return {entry["clip"]: scene_from_json(entry) for entry in data}


def scene_from_json(data: Mapping[str, Any]) -> Scene:
    """The scene that :meth:`Scene.as_json` wrote."""
    label, backdrop = data["label"], data["backdrop"]
    return Scene(
        width=data["width"],
        height=data["height"],
        seconds=data["seconds"],
        fps=data["fps"],
        times=tuple(data["times"]),
        bodies=tuple(Body(**body) for body in data["bodies"]),
        label=None if label is None else Label(**{**label, "colour": tuple(label["colour"])}),
        backdrop=Backdrop(**{**backdrop, "colour": tuple(backdrop["colour"]), "waves": tuple(backdrop["waves"])}),
    )
