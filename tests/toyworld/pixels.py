"""Reading media back with PyAV alone, and finding shapes by their colour: the independent side of the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from easyvideor1.toyworld import COLOURS, Body


def decode(path: Path) -> tuple[list[NDArray[np.uint8]], list[float]]:
    """Frames turned as their display rotation says, and their times in seconds."""
    frames, times = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            frames.append(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
            times.append(float(frame.time))
    return frames, times


def blob(pixels: NDArray[np.uint8], body: Body) -> NDArray[np.bool_]:
    """The pixels near the colour of ``body``, and nearer than to any other colour or the dark background."""
    names = [*COLOURS, "background"]
    palette = np.array([*COLOURS.values(), (36, 36, 40)], np.float32)
    distance = np.linalg.norm(pixels[:, :, None, :].astype(np.float32) - palette, axis=-1)
    mine = names.index(body.colour)
    return (distance.argmin(-1) == mine) & (distance[:, :, mine] < 75)


def found_box(pixels: NDArray[np.uint8], body: Body, least: int = 3) -> tuple[float, float, float, float]:
    """Bounding box of the blob; rows and columns with fewer than ``least`` pixels count as chroma smear."""
    mask = blob(pixels, body)
    ys, xs = np.flatnonzero(mask.sum(1) >= least), np.flatnonzero(mask.sum(0) >= least)
    if not len(ys) or not len(xs):
        raise AssertionError(f"no {body.name} in the picture")
    return float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)


def assert_box(pixels: NDArray[np.uint8], body: Body, box: Sequence[float]) -> None:
    """The blob of ``body`` fills ``box`` to two pixels; the corners of a triangle are too thin to be found."""
    slack = [2.6, 4.0, 2.6, 2.0] if body.shape == "triangle" else [2.0] * 4
    difference = np.abs(np.subtract(found_box(pixels, body), box))
    assert (difference <= slack).all(), f"{body.name}: {found_box(pixels, body)} found, {tuple(box)} expected"
