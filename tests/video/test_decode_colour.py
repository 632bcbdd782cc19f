"""Colours are those that were painted, whatever matrix, range, depth and subsampling the file keeps them in."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from easyvideor1 import video
from easyvideor1.config.schema import VideoBudget

from .clips import GEOMETRY

# Rec. ITU-R BT.601-7 and BT.709-6: the weights of red and blue in luma.
WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
# H.273 (MatrixCoefficients): the numbers that files carry.
MATRICES = {"bt601": 6, "bt709": 1, "bt2020": 9}
COLOURS = (
    (255, 255, 255),
    (0, 0, 0),
    (200, 30, 30),
    (30, 180, 60),
    (40, 60, 210),
    (220, 200, 40),
    (90, 90, 90),
    (128, 20, 200),
)
DEPTHS = {"yuv420p": 8, "yuv444p": 8, "yuv420p10le": 10}


def paint(colour: tuple[int, int, int], matrix: str, full: bool, pix_fmt: str) -> av.VideoFrame:
    """A frame of one colour, converted by the formulas of BT.709-6, items 3.2 to 3.5."""
    red_weight, blue_weight = WEIGHTS[matrix]
    red, green, blue = (value / 255 for value in colour)
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    differences = ((blue - luma) / (2 - 2 * blue_weight), (red - luma) / (2 - 2 * red_weight))
    scale = 1 << (DEPTHS[pix_fmt] - 8)
    if full:
        top = 256 * scale - 1
        values = [luma * top, *(d * top + 128 * scale for d in differences)]
    else:
        values = [(16 + 219 * luma) * scale, *((128 + 224 * d) * scale for d in differences)]
    frame = av.VideoFrame(64, 64, pix_fmt)
    kind = np.uint8 if scale == 1 else np.uint16
    for plane, value in zip(frame.planes, values, strict=True):
        plane.update(np.full(plane.buffer_size // kind().itemsize, round(value), dtype=kind).tobytes())
    frame.colorspace = MATRICES[matrix]
    frame.color_range = 2 if full else 1
    return frame


def write_colours(path: Path, matrix: str, full: bool, pix_fmt: str) -> str:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "0", "g": "1"})
        stream.width = stream.height = 64
        stream.pix_fmt = pix_fmt
        stream.codec_context.colorspace = MATRICES[matrix]
        stream.codec_context.color_range = 2 if full else 1
        for number, colour in enumerate(COLOURS):
            frame = paint(colour, matrix, full, pix_fmt)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


def decoded_colours(path: str, frames: int) -> NDArray[np.uint8]:
    """The colour of every frame, which must be one colour."""
    plan = video.plan(video.probe(path), VideoBudget(frames=frames, min_pixels=1024, max_pixels=64 * 64), GEOMETRY)
    assert plan.frame_indices == tuple(range(frames))
    pixels = video.decode(path, plan).pixels
    assert (pixels == pixels[:, :1, :1]).all()
    return pixels[:, 0, 0]


@pytest.mark.parametrize("pix_fmt", DEPTHS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", WEIGHTS)
def test_painted_colours_come_back(tmp_path: Path, matrix: str, full: bool, pix_fmt: str) -> None:
    path = write_colours(tmp_path / "a.mp4", matrix, full, pix_fmt)
    colours = decoded_colours(path, len(COLOURS))
    assert np.abs(colours.astype(int) - np.array(COLOURS)).max() <= 3


def test_a_file_that_says_nothing_is_read_as_bt601_of_limited_range(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "0"})
        stream.width = stream.height = 64
        for number in range(2):
            frame = paint((200, 30, 30), "bt601", False, "yuv420p")
            frame.colorspace, frame.color_range, frame.pts = 2, 0, number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert np.abs(decoded_colours(str(path), 2)[0].astype(int) - (200, 30, 30)).max() <= 3
