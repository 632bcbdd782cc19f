"""Still images of unusual kinds, and videos kept as images: lists of frames, animated WebP and APNG."""

from __future__ import annotations

import io
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from easyvideor1 import video
from easyvideor1.config.schema import CacheConfig, ImageBudget, VideoBudget
from easyvideor1.types import Geometry, MediaError, MediaRef
from easyvideor1.video import decode, plan, probe
from easyvideor1.video.formats import HEAD_BYTES, kinds_of_bytes
from easyvideor1.video.media_files import fingerprint, media_version
from easyvideor1.video.probe_cache import ProbeCache

from .clips import GEOMETRY, reference_frames, write_clip

SHARED = Path(__file__).resolve().parents[3] / "shared" / "cases" / "images"
STILL_BUDGET, STILL_GEOMETRY = ImageBudget(min_pixels=3136), Geometry(14, 2, 2)


def shown(path: Path) -> np.ndarray:
    info = probe(str(path))
    frames = decode(str(path), plan(info, STILL_BUDGET, STILL_GEOMETRY))
    assert frames.pixels.shape[1] >= frames.pixels.shape[2] or info.width > info.height
    return frames.pixels[0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["tiff", "jpg", "png", "webp"])
def test_a_picture_is_planned_as_it_is_shown(tmp_path: Path, suffix: str, orientation: int) -> None:
    pixels = np.zeros((56, 168, 3), np.uint8)
    pixels[:, 84:] = 255  # the right half is white
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path, exif=exif)
    info = probe(str(path))
    assert (info.width, info.height) == ((56, 168) if orientation >= 5 else (168, 56))
    seen = shown(path)
    assert seen.shape == (info.height, info.width, 3)
    bright = seen[..., 0] > 128
    halves = (
        bright[: info.height // 2],
        bright[info.height // 2 :],
        bright[:, : info.width // 2],
        bright[:, info.width // 2 :],
    )
    white = {1: 3, 2: 2, 3: 2, 4: 3, 5: 1, 6: 1, 7: 0, 8: 0}[orientation]
    assert halves[white].mean() > 0.95 and bright.mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("dtype", "top"),
    [
        ("int32", 255),
        ("int32", 65_535),
        ("int32", 2_000_000_000),
        ("float32", 1.0),
        ("float32", 255.0),
        ("uint16", 65_535),
    ],
)
def test_deep_grey_is_scaled_by_its_range(tmp_path: Path, dtype: str, top: float) -> None:
    ramp = np.linspace(0, 1, 112)[None].repeat(56, 0)
    path = tmp_path / "a.tiff"
    Image.fromarray((ramp * top).astype(dtype)).save(path)
    grey = shown(path)[..., 0].astype(int).mean(0)
    scale = 2_000_000_000 / (2**32 - 1) if top > 65_535 else 1.0
    assert np.abs(grey - ramp[0] * 255 * scale).max() < 2.5


def test_values_below_zero_are_scaled_between_the_extremes(tmp_path: Path) -> None:
    ramp = np.linspace(-5, 5, 112, dtype=np.float32)[None].repeat(56, 0)
    ramp[0, 0] = np.nan
    Image.fromarray(ramp).save(tmp_path / "a.tiff")
    grey = shown(tmp_path / "a.tiff")[..., 0].astype(int)
    assert grey[30, 0] < 5 and grey[30, -1] > 250 and abs(grey[30, 56] - 128) < 4


@pytest.mark.skipif(not SHARED.is_dir(), reason="no case files at ../shared/cases/images")
def test_pictures_that_failed_elsewhere() -> None:
    info = probe(str(SHARED / "orientation6.tiff"))
    assert (info.width, info.height) == (64, 128)
    assert shown(SHARED / "orientation6.tiff").shape[0] > shown(SHARED / "orientation6.tiff").shape[1]
    grey = shown(SHARED / "int32_grey.tif")
    assert 40 < grey.mean() < 230 and grey.std() > 10


BUDGET = VideoBudget(fps=5.0, min_pixels=1024, max_pixels=64 * 64)


def write_list(directory: Path, pixels: list[Any], **fields: Any) -> str:
    """PNG files of some arrays, and a list that names them beside itself."""
    directory.mkdir(parents=True, exist_ok=True)
    names = []
    for number, frame in enumerate(pixels):
        names.append(f"{number}.png")
        Image.fromarray(frame).save(directory / names[-1])
    path = directory / "clip.frames.json"
    path.write_text(json.dumps({"frames": names, **fields}))
    settle(directory)
    return str(path)


def settle(directory: Path) -> None:
    """Nothing is remembered of files that were written just now."""
    time.sleep(0.15)
    assert directory.exists()


def grey(value: int, height: int = 64, width: int = 64) -> Any:
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize("budget", [BUDGET, VideoBudget(rule="uniform-time", frames=6, min_pixels=1024)])
@pytest.mark.parametrize("clip", [(None, None), (1.0, 2.5)])
def test_the_frames_of_a_video_are_planned_and_read_as_the_video_is(
    tmp_path: Path, budget: VideoBudget, clip: tuple[float | None, float | None]
) -> None:
    film = write_clip(tmp_path / "a.mp4", 40, options={"bf": "3"})
    info = video.probe(film)
    listed = write_list(tmp_path / "frames", list(reference_frames(film)), timestamps=list(info.timestamps))
    frames = video.probe(listed)
    assert (frames.kind, frames.width, frames.height) == ("video", info.width, info.height)
    assert frames.timestamps == info.timestamps
    assert frames.duration == pytest.approx(info.duration)
    one, other = (video.plan(each, budget, GEOMETRY, start=clip[0], end=clip[1]) for each in (info, frames))
    assert (one.frame_indices, one.timestamps, one.grid) == (other.frame_indices, other.timestamps, other.grid)
    assert one.digest != other.digest  # the bytes are others
    np.testing.assert_array_equal(video.decode(film, one).pixels, video.decode(listed, other).pixels)


def test_times_come_from_the_rate_or_stay_as_they_are_given(tmp_path: Path) -> None:
    by_rate = video.probe(write_list(tmp_path / "a", [grey(k) for k in range(4)], fps=2))
    assert (by_rate.timestamps, by_rate.duration, by_rate.fps) == ((0.0, 0.5, 1.0, 1.5), 2.0, 2.0)
    given = video.probe(write_list(tmp_path / "b", [grey(k) for k in range(3)], timestamps=[10.0, 10.5, 12.0]))
    assert (given.timestamps, given.duration, given.fps) == ((10.0, 10.5, 12.0), 13.0, 1.0)
    assert video.plan(given, BUDGET, GEOMETRY, start=10.2, end=12.0).timestamps == (10.5, 12.0)
    with pytest.raises(MediaError, match="clip from 1 to 5 s lies outside"):
        video.plan(given, BUDGET, GEOMETRY, start=1, end=5)
    assert video.probe(write_list(tmp_path / "c", [grey(1)], fps=4)).timestamps == (0.0,)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({}, "give either fps or timestamps"),
        ({"fps": 2, "timestamps": [0, 1]}, "give either fps or timestamps"),
        ({"fps": 0}, "not a number above 0"),
        ({"fps": True}, "not a number above 0"),
        ({"fps": "two"}, "not a number above 0"),
        ({"timestamps": [0.0]}, "2 frames and 1 timestamps"),
        ({"timestamps": [1.0, 1.0]}, "do not ascend"),
        ({"timestamps": [-1.0, 1.0]}, "do not ascend"),
        ({"timestamps": [0.0, float("inf")]}, "do not ascend"),
        ({"timestamps": "0, 1"}, "not a list of seconds"),
        ({"frames": [], "fps": 2}, "lists no frames"),
        ({"frames": "a.png", "fps": 2}, 'not an object with a list "frames"'),
        ({"frames": [1, 2], "fps": 2}, "not all paths"),
    ],
)
def test_a_list_that_is_none_is_named(tmp_path: Path, fields: dict[str, Any], what: str) -> None:
    path = write_list(tmp_path, [grey(1), grey(2)], **fields)
    with pytest.raises(MediaError, match=what) as error:
        video.probe(path)
    assert (error.value.path, error.value.reason) == (path, "unreadable")


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "\xff", "null"])
def test_text_that_is_no_list_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.frames.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(MediaError, match="is not a valid list of frames"):
        video.probe(str(path))


def test_a_frame_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = write_list(tmp_path, [grey(1), grey(2), grey(3)], fps=2)
    second = tmp_path / "1.png"
    Image.fromarray(grey(2, 32)).save(second)
    with pytest.raises(MediaError, match=r"frame 2, .*1\.png, has 64x32 pixels, the first one 64x64"):
        video.probe(path)
    second.write_bytes(second.read_bytes()[:20])
    with pytest.raises(MediaError, match=r"clip\.frames\.json: its frame 2, .*1\.png"):
        video.probe(path)
    second.write_text("not a picture")
    with pytest.raises(MediaError, match=r"frame 2, .*1\.png, is not a still image"):
        video.probe(path)
    second.unlink()
    with pytest.raises(MediaError, match=r"its frame .*1\.png does not exist") as error:
        video.probe(path)
    assert error.value.reason == "missing"


def test_every_frame_counts_for_version_and_fingerprint(tmp_path: Path) -> None:
    frames = [grey(10 * k) for k in range(4)]
    path = write_list(tmp_path / "a", frames, fps=2)
    version, before = media_version(path), fingerprint(path)
    assert (media_version(path), fingerprint(path)) == (version, before)
    last = tmp_path / "a/3.png"
    status = last.stat()
    Image.fromarray(grey(31)).save(last)
    os.utime(last, ns=(status.st_atime_ns, status.st_mtime_ns))
    settle(tmp_path)
    assert media_version(path) != version
    assert fingerprint(path) != before
    others = {before, fingerprint(path)}
    others.add(fingerprint(write_list(tmp_path / "b", frames[::-1], fps=2)))
    others.add(fingerprint(write_list(tmp_path / "c", frames, fps=4)))
    assert len(others) == 4
    assert fingerprint(write_list(tmp_path / "d", frames, fps=2)) == before  # content alone, not the place


def test_a_frame_that_changed_after_planning_is_not_read(tmp_path: Path) -> None:
    path = write_list(tmp_path, [grey(10 * k) for k in range(4)], fps=2)
    plan = video.plan(video.probe(path), BUDGET, GEOMETRY)
    Image.fromarray(grey(99)).save(tmp_path / "2.png")
    with pytest.raises(MediaError, match="has changed since it was planned"):
        video.decode(path, plan)


def test_lists_are_remembered_on_disk_and_go_through_the_store(tmp_path: Path) -> None:
    path = write_list(tmp_path / "frames", [grey(10 * k) for k in range(4)], fps=2)
    cache = ProbeCache(tmp_path / "cache")
    info = probe(path, cache)
    assert ProbeCache(tmp_path / "cache").get(media_version(path)) == info
    config = CacheConfig(dir=str(tmp_path / "store"), workers=1)
    store = video.FrameStore(config.dir)
    with video.FrameSource(store, video.HealthLedger(tmp_path / "health.jsonl"), config) as source:
        plan = video.plan(source.probe(path), BUDGET, GEOMETRY)
        ref = MediaRef("video", path)
        pixels = source.load(ref, plan).pixels
        assert [int(frame.mean()) for frame in pixels] == [0, 10, 20, 30]
        shutil.rmtree(tmp_path / "frames")
        np.testing.assert_array_equal(source.load(ref, plan).pixels, pixels)


def animation(path: Path, durations: list[int]) -> list[Any]:
    rng = np.random.default_rng(3)
    frames = [rng.integers(0, 255, (64, 96, 3), np.uint8) for _ in durations]
    pictures = [Image.fromarray(frame) for frame in frames]
    options = {"lossless": True} if path.suffix == ".webp" else {}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, **options)
    settle(path)
    return frames


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_animations_are_videos_with_their_own_times(tmp_path: Path, name: str) -> None:
    frames = animation(tmp_path / name, [100, 200, 300, 100, 500, 100])
    info = video.probe(str(tmp_path / name))
    assert (info.kind, info.width, info.height) == ("video", 96, 64)
    assert info.timestamps == pytest.approx((0.0, 0.1, 0.3, 0.6, 0.7, 1.2))
    assert info.duration == pytest.approx(1.3, abs=0.2)
    plan = video.plan(info, VideoBudget(frames=6, min_pixels=1024), GEOMETRY)
    np.testing.assert_array_equal(video.decode(str(tmp_path / name), plan).pixels, np.stack(frames))
    back = video.plan(info, VideoBudget(frames=2, min_pixels=1024), GEOMETRY, start=0.6, end=1.1)
    np.testing.assert_array_equal(video.decode(str(tmp_path / name), back).pixels, np.stack(frames[3:5]))
    with pytest.raises(MediaError, match="has several frames and is not an image"):
        video.plan(info, ImageBudget(), GEOMETRY)


def test_an_animation_is_turned_as_its_orientation_says(tmp_path: Path) -> None:
    pictures = [Image.fromarray(np.dstack([np.full((32, 64), k, np.uint8)] * 3)) for k in (0, 120, 240)]
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:], duration=100, exif=exif.tobytes())
    info = video.probe(str(tmp_path / "a.webp"))
    assert (info.width, info.height) == (32, 64)


def test_an_animated_png_behind_a_long_text_may_stand_in_the_videos_column(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (32, 32), (k, 0, 0)) for k in (0, 120, 240)]
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 500)
    pictures[0].save(tmp_path / "a.png", save_all=True, append_images=pictures[1:], duration=100, pnginfo=text)
    head = (tmp_path / "a.png").read_bytes()[:HEAD_BYTES]
    assert b"acTL" not in head and "video" in kinds_of_bytes(head)
    assert video.probe(str(tmp_path / "a.png")).kind == "video"


def test_a_cut_webp_is_damaged(tmp_path: Path) -> None:
    animation(tmp_path / "a.webp", [100] * 6)
    whole = (tmp_path / "a.webp").read_bytes()
    (tmp_path / "a.webp").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match=r"a\.webp"):
        info = video.probe(str(tmp_path / "a.webp"))
        video.decode(str(tmp_path / "a.webp"), video.plan(info, BUDGET, GEOMETRY))


def test_avif_stills_are_read_where_pillow_can(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    try:
        Image.fromarray(grey(120)).save(buffer, format="AVIF", quality=100)
    except (KeyError, OSError):
        pytest.skip("Pillow was built without AVIF")
    (tmp_path / "a.avif").write_bytes(buffer.getvalue())
    info = video.probe(str(tmp_path / "a.avif"))
    assert (info.kind, info.codec, info.width) == ("image", "avif", 64)
    plan = video.plan(info, ImageBudget(), GEOMETRY)
    assert abs(int(video.decode(str(tmp_path / "a.avif"), plan).pixels.mean()) - 120) <= 2
