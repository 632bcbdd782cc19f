"""Videos that a row names as frames: a list or a directory of pictures, with their times."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from easyvideor1 import video
from easyvideor1.config.schema import DataConfig, SourceConfig
from easyvideor1.data import BadRow, scan_source
from easyvideor1.types import BudgetChange, MediaRef, Sample

from .conftest import Rows, row


@pytest.fixture
def clip(media: Path) -> Path:
    """A directory of twelve pictures beside the media, whose numbers are not padded."""
    directory = media / "clip_7"
    directory.mkdir(exist_ok=True)
    for number in range(1, 13):
        Image.fromarray(np.full((32, 48, 3), 20 * number, np.uint8)).save(directory / f"frame_{number}.png")
    (directory / "notes.txt").write_text("no picture")
    (directory / ".hidden.png").write_text("no picture either")
    return directory


def one(path: Path, tmp_path: Path, **source: Any) -> Sample:
    loaded = scan_source(SourceConfig(path=str(path), **source), DataConfig(), embedded=tmp_path)
    assert not loaded.bad, loaded.bad
    (sample,) = loaded.samples
    return sample


def refusal(path: Path, tmp_path: Path, **source: Any) -> BadRow:
    (bad,) = scan_source(SourceConfig(path=str(path), **source), DataConfig(), embedded=tmp_path).bad
    return bad


def greys(ref: MediaRef) -> list[int]:
    """What the frames of a list show, in order."""
    return [int(np.asarray(Image.open(name)).mean()) // 20 for name in json.loads(Path(ref.path).read_text())["frames"]]


#: The same video as rows may name it.
NAMES = [f"clip_7/frame_{number}.png" for number in range(1, 13)]
WAYS: dict[str, Any] = {
    "list": [NAMES],
    "mapping": [{"video": NAMES, "fps": 4}],
    "qwen-vl-utils": [{"video": NAMES, "sample_fps": 4.0}],
    "frames": {"frames": NAMES, "fps": 4},
    "mappings": [{"video": [{"path": name} for name in NAMES], "fps": 4}],
    "directory": "clip_7",
    "directory with a rate": [{"video": "clip_7/", "fps": 4}],
}


@pytest.mark.parametrize("name", WAYS)
def test_frames_are_a_video_with_their_times(rows: Rows, clip: Path, tmp_path: Path, name: str) -> None:
    (ref,) = one(rows(row(videos=WAYS[name])), tmp_path, frames_fps=4).media
    assert (ref.kind, ref.budget) == ("video", None)
    assert greys(ref) == list(range(1, 13))
    info = video.probe(ref.path)
    assert (info.kind, info.fps, info.duration, info.frame_count) == ("video", 4.0, 3.0, 12)


def test_parts_of_messages_may_be_frames(rows: Rows, clip: Path, tmp_path: Path) -> None:
    parts = [{"type": "video", "video": NAMES, "sample_fps": 2}, {"type": "text", "text": "How many?"}]
    path = rows({"messages": [{"role": "user", "content": parts}], "solution": "3"})
    sample = one(path, tmp_path, task="numerical")
    assert sample.question == "<video>How many?"
    assert greys(sample.media[0]) == list(range(1, 13))


def test_the_same_frames_are_one_file(rows: Rows, clip: Path, tmp_path: Path) -> None:
    entries = [{"video": NAMES, "fps": rate} for rate in (2, 2, 4)]
    path = rows(*(row(problem_id=str(number), videos=[entry]) for number, entry in enumerate(entries)))
    samples = scan_source(SourceConfig(path=str(path)), DataConfig(), embedded=tmp_path).samples
    assert samples[0].media == samples[1].media != samples[2].media
    assert len(list(tmp_path.rglob("clip_7-*.frames.json"))) == 2


def test_limits_and_clips_go_with_frames(rows: Rows, clip: Path, tmp_path: Path) -> None:
    entry = {
        "video": "clip_7",
        "timestamps": [n / 2 for n in range(12)],
        "nframes": 4,
        "video_start": 1,
        "video_end": 3,
    }
    (ref,) = one(rows(row(videos=[entry])), tmp_path).media
    assert (ref.start, ref.end, ref.budget) == (1.0, 3.0, BudgetChange(frames=4))
    assert video.probe(ref.path).timestamps == tuple(n / 2 for n in range(12))


def test_frames_in_the_row_itself_are_written(rows: Rows, tmp_path: Path) -> None:
    urls = []
    for shade in (20, 40, 60):
        buffer = io.BytesIO()
        Image.fromarray(np.full((32, 48, 3), shade, np.uint8)).save(buffer, "PNG")
        urls.append(f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}")
    (ref,) = one(rows(row(videos=[{"video": urls, "fps": 2}])), tmp_path).media
    assert greys(ref) == [1, 2, 3]


@pytest.mark.parametrize(
    ("videos", "words"),
    [
        ([NAMES], "a video of 12 frames without times"),
        ([{"video": "clip_7"}], "a video of 12 frames without times"),
        ([{"video": NAMES, "fps": -1}], "fps is -1, not a number above 0"),
        ([{"video": NAMES, "fps": 2, "sample_fps": 4}], "fps and sample_fps differ"),
        ([{"video": NAMES, "timestamps": [1.0]}], "12 frames and 1 timestamps"),
        ([{"video": NAMES, "fps": 2, "timestamps": [1.0]}], "either fps or timestamps"),
        ([{"video": NAMES, "fps": 2, "frame_rate": 2}], "unknown key 'frame_rate'"),
        ([{"video": [], "fps": 2}], "entry 1 is an empty list of frames"),
        ([{"video": [3], "fps": 2}], "entry 1 is a list of frames whose entry 1 is int"),
        ([{"video": [{"path": NAMES[0], "max_pixels": 9}], "fps": 2}], "whose entry 1 has the keys max_pixels"),
        ([{"video": ["gone.png"], "fps": 2}], "gone.png' does not exist"),
        ([{"video": ["a.mp4"], "fps": 2}], "a.mp4' is a video, not an image"),
    ],
)
def test_frames_without_sense_are_refused(rows: Rows, clip: Path, tmp_path: Path, videos: Any, words: str) -> None:
    bad = refusal(rows(row(videos=videos)), tmp_path)
    assert bad.field == "videos"
    assert words in bad.what


def test_a_directory_without_pictures_and_loose_frames_are_refused(rows: Rows, clip: Path, tmp_path: Path) -> None:
    (clip.parent / "bare").mkdir(exist_ok=True)
    assert "has no images" in refusal(rows(row(videos=["bare"])), tmp_path).what
    bad = refusal(rows(row(problem="Which?", videos=NAMES)), tmp_path, frames_fps=2)
    assert "is an image, not a video" in bad.what and "[[first, second, ...]]" in bad.remedy


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"fps": 10**400}, "not a number above 0"),
        ({"fps": 1e-320}, "its times in seconds do not ascend"),
        ({"timestamps": [1e6 + n * 1e-12 for n in range(12)]}, "too close to distinguish"),
        ({"timestamps": [10**400] * 12}, "its times in seconds do not ascend"),
        ({"timestamps": [1764453600000000000 + n for n in range(12)]}, "its times in seconds do not ascend"),
    ],
)
def test_times_that_no_float_can_tell_are_refused(
    rows: Rows, clip: Path, tmp_path: Path, entry: dict[str, Any], words: str
) -> None:
    assert words in refusal(rows(row(videos=[{"video": NAMES, **entry}])), tmp_path).what


def test_one_rate_under_two_names_is_one(rows: Rows, clip: Path, tmp_path: Path) -> None:
    entry = {"video": NAMES, "fps": 2, "sample_fps": 2.0}
    assert video.probe(one(rows(row(videos=[entry])), tmp_path).media[0].path).fps == 2.0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("film.mp4", "the video 'film.mp4' beside images"),
        ("5.heic", "an HEIC image, which is not supported"),
        (os.fsdecode(b"caf\xe9.jpg"), "a name that is not UTF-8"),
    ],
)
def test_a_directory_that_would_lose_a_frame_is_refused(
    rows: Rows, clip: Path, tmp_path: Path, name: str, words: str
) -> None:
    (clip / name).write_bytes(b"x")
    try:
        assert words in refusal(rows(row(videos=["clip_7"])), tmp_path, frames_fps=2).what
    finally:
        (clip / name).unlink()


def test_equal_numbers_and_long_names_have_one_order_and_one_file(rows: Rows, media: Path, tmp_path: Path) -> None:
    directory = media / ("\u5b57" * 80)
    (directory / "sub.png").mkdir(parents=True, exist_ok=True)
    for name in ("1.png", "01.png", "001.png"):
        Image.new("RGB", (32, 32)).save(directory / name)
    (ref,) = one(rows(row(videos=[directory.name])), tmp_path, frames_fps=2).media
    listed = json.loads(Path(ref.path).read_text())["frames"]
    assert [Path(name).name for name in listed] == ["001.png", "01.png", "1.png"]
    assert len(Path(ref.path).name.encode()) < 120
