"""Real media files and a writer of row files for the tests of the data room."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

Rows = Callable[..., Path]


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two short videos, two pictures, a moving GIF and an empty file."""
    directory = tmp_path_factory.mktemp("media")
    pixels = np.zeros((4, 32, 32, 3), np.uint8)
    for name in ("a.mp4", "b.mkv"):
        with av.open(str(directory / name), "w") as container:
            stream = container.add_stream("mpeg4", rate=4)
            stream.width = stream.height = 32
            stream.pix_fmt = "yuv420p"
            for frame in pixels:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
    pictures = [Image.fromarray(frame) for frame in pixels]
    pictures[0].save(directory / "a.png")
    pictures[0].save(directory / "b.jpg")
    pictures[0].save(directory / "a.gif", save_all=True, append_images=pictures[1:])
    (directory / "empty.mp4").touch()
    return directory


@pytest.fixture
def rows(media: Path) -> Rows:
    """Write rows as JSONL beside the media and return the file; text entries are written as they are."""
    count = 0

    def write(*entries: dict[str, Any] | str, name: str = "") -> Path:
        nonlocal count
        count += 1
        path = media / (name or f"rows{count}.jsonl")
        path.write_text("".join((e if isinstance(e, str) else json.dumps(e)) + "\n" for e in entries), encoding="utf-8")
        return path

    return write


def row(**changes: Any) -> dict[str, Any]:
    """A sound multiple-choice row with ``changes``; a value of ``...`` takes the column out."""
    base: dict[str, Any] = {
        "problem_id": "r1",
        "problem": "<video>Which way does it move?",
        "answer": "B",
        "videos": ["a.mp4"],
        "images": None,
        "data_type": "video",
        "problem_type": "multiple choice",
        "options": ["A. left", "B. right"],
        "data_source": "unit",
        "has_offline_trajectory": False,
        "offline_output": "",
    }
    return {key: value for key, value in (base | changes).items() if value is not ...}
