"""Generated films for measurements: texture, motion, scene cuts and some sensor noise, with the defaults of x264.

Equal arguments give equal films. A long film is one minute, encoded once, with its packets repeated at later times:
every repetition starts with a key frame, so a decoder has the same work as with ten different minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from easyvideor1.files import atomic_path

FPS = 30
#: Seconds per scene.
SCENE_SECONDS = 7
#: Part of every file name: another recipe makes other files.
RECIPE = "v1"


def long_film(directory: Path, seconds: int = 600, size: tuple[int, int] = (1280, 720)) -> Path:
    """A film of ``seconds``, whole minutes above one, with x264's defaults (GOP 250, B-pyramid); made once."""
    path = directory / f"long-{RECIPE}-{size[0]}x{size[1]}-{seconds}s.mp4"
    if path.exists():
        return path
    minute = min(seconds, 60)
    part = short_film(directory, 1000, minute, size)
    with atomic_path(path) as temporary:
        _repeat(part, temporary, -(-seconds // minute), minute)
    return path


def short_film(directory: Path, seed: int, seconds: int = 5, size: tuple[int, int] = (640, 360)) -> Path:
    """A clip with x264's defaults, at least 84 pixels high; made once per directory and seed."""
    path = directory / f"clip-{RECIPE}-{size[0]}x{size[1]}-{seconds}s-{seed:04d}.mp4"
    if path.exists():
        return path
    directory.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for planes in _pictures(seed, seconds * FPS, size):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode())
    return path


@dataclass(frozen=True, slots=True)
class _Block:
    """A grey square: where it begins, pixels it moves per frame, and its side, all in pixels."""

    y: float
    x: float
    down: float
    right: float
    side: int
    level: int


def _even(position: float, room: int) -> int:
    """The position wrapped into ``room`` and made even, since chroma has half the resolution."""
    return int(position) % room & ~1


def _pictures(seed: int, count: int, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """YUV 4:2:0 planes, uint8 ``(height * 3 / 2, width)``: a camera that pans over a still, and blocks that move."""
    width, height = size
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1.5, (8, height, width)).round().astype(np.int16)
    still, start, speed, blocks = _scene(rng, width, height)
    for index in range(count):
        if index % (SCENE_SECONDS * FPS) == 0:
            still, start, speed, blocks = _scene(rng, width, height)
        at = index % (SCENE_SECONDS * FPS)
        top, left = _even(start[0] + at * speed[0], height // 2), _even(start[1] + at * speed[1], width // 2)
        luma = still[0, top : top + height, left : left + width].astype(np.int16)
        chroma = still[1:, top // 2 : (top + height) // 2, left // 2 : (left + width) // 2].copy()
        for block in blocks:
            row = _even(block.y + at * block.down, height - block.side)
            column = _even(block.x + at * block.right, width - block.side)
            luma[row : row + block.side, column : column + block.side] = block.level
            chroma[:, row // 2 : (row + block.side) // 2, column // 2 : (column + block.side) // 2] = block.level
        luma = np.clip(luma + noise[index % 8], 0, 255).astype(np.uint8)
        yield np.concatenate([luma.reshape(-1), chroma.reshape(-1)]).reshape(height * 3 // 2, width)


def _scene(
    rng: np.random.Generator, width: int, height: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64], list[_Block]]:
    """A still of one and a half times the picture's size (luma and, in its top left quarter, chroma), and motion."""
    shape = (height * 3 // 2, width * 3 // 2)
    still = np.stack([_texture(rng, shape, contrast) for contrast in (60.0, 25.0, 25.0)])
    start, speed = rng.uniform(0, 100, 2), rng.uniform(-2.5, 2.5, 2)
    blocks = []
    for level in rng.integers(30, 220, 4).tolist():
        (y, x), (down, right) = rng.uniform(0, height // 2, 2).tolist(), rng.uniform(-6, 6, 2).tolist()
        blocks.append(_Block(y, x, down, right, int(rng.integers(20, height // 4)) & ~1, level))
    return still, start, speed, blocks


def _texture(rng: np.random.Generator, shape: tuple[int, int], contrast: float) -> NDArray[np.uint8]:
    """Noise of several sizes of grain, coarse ones strongest, about mid-grey."""
    total = np.zeros(shape)
    for grain, weight in ((128, 1.0), (32, 0.5), (8, 0.25), (2, 0.12)):
        coarse = rng.normal(0, 1, (shape[0] // grain + 2, shape[1] // grain + 2))
        rows = np.linspace(0, coarse.shape[0] - 1.001, shape[0])
        columns = np.linspace(0, coarse.shape[1] - 1.001, shape[1])
        total += weight * _bilinear(coarse, rows, columns)
    return np.clip(128 + contrast * total, 16, 235).astype(np.uint8)


def _bilinear(
    coarse: NDArray[np.float64], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top)[:, None], columns - left
    upper = coarse[top][:, left] * (1 - right) + coarse[top][:, left + 1] * right
    lower = coarse[top + 1][:, left] * (1 - right) + coarse[top + 1][:, left + 1] * right
    return np.asarray(upper * (1 - down) + lower * down)


def _repeat(part: Path, path: Path, times: int, seconds: int) -> None:
    """The packets of ``part`` again and again, without encoding them anew."""
    with av.open(str(path), "w", format="mp4") as out:
        stream = None
        for turn in range(times):
            with av.open(str(part)) as source:
                video = source.streams.video[0]
                if stream is None:
                    stream = out.add_stream_from_template(video)
                base = video.time_base or Fraction(1, FPS)
                shift = int(turn * seconds / base)
                for packet in source.demux(video):
                    if packet.dts is None or packet.pts is None:
                        continue  # the empty packet that ends the stream
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = stream
                    out.mux(packet)
