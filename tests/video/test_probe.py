from __future__ import annotations

import os
import shutil
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from easyvideor1 import video
from easyvideor1.config.schema import VideoBudget
from easyvideor1.types import MediaError
from easyvideor1.video.media_files import VersionCache
from easyvideor1.video.packets import packet_index

from .clips import GEOMETRY, moving_texture, picture, reference_video, write_audio, write_clip


def test_constant_rate(tmp_path: Path) -> None:
    info = video.probe(write_clip(tmp_path / "a.mp4", 20, size=(96, 64), fps=10, audio=True))
    assert (info.kind, info.codec, info.width, info.height, info.rotation) == ("video", "h264", 96, 64, 0)
    assert info.fps == 10.0
    assert info.duration == pytest.approx(2.0)
    assert info.timestamps == pytest.approx([i / 10 for i in range(20)])


def test_variable_rate_keeps_true_times(tmp_path: Path) -> None:
    ticks = [0, 100, 150, 900, 1000, 4000]
    path = write_clip(tmp_path / "vfr.mp4", 6, ticks=ticks, time_base=Fraction(1, 1000))
    info = video.probe(path)
    assert info.timestamps == pytest.approx([t / 1000 for t in ticks], abs=1e-3)
    assert info.fps == pytest.approx(6 / info.duration, rel=0.2)


def test_first_frame_is_at_zero(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "late.mkv", 10, ticks=[50 + i for i in range(10)], fps=10)
    assert video.probe(path).timestamps == pytest.approx([i / 10 for i in range(10)], abs=2e-3)


def test_an_edit_list_hides_frames(tmp_path: Path) -> None:
    """Frames before time 0 are kept in the file, for those after them, and are not shown."""
    path = write_clip(tmp_path / "a.mp4", 30, ticks=[i - 6 for i in range(30)], fps=10)
    info = video.probe(path)
    assert info.timestamps == pytest.approx([i / 10 for i in range(24)])
    assert info.fps == 10.0


@pytest.mark.parametrize(
    ("suffix", "codec"), [("avi", "mpeg4"), ("mkv", "libx264"), ("mov", "libx264"), ("webm", "libvpx-vp9")]
)
def test_containers(tmp_path: Path, suffix: str, codec: str) -> None:
    info = video.probe(write_clip(tmp_path / f"a.{suffix}", 12, codec=codec, fps=6))
    assert info.frame_count == 12
    assert info.fps == pytest.approx(6.0, rel=0.01)
    assert info.timestamps == pytest.approx([i / 6 for i in range(12)], abs=2e-3)


def test_animated_gif_is_a_video_and_still_gif_an_image(tmp_path: Path) -> None:
    pages = [Image.fromarray(picture(i)) for i in range(5)]
    pages[0].save(tmp_path / "moving.gif", save_all=True, append_images=pages[1:], duration=100)
    pages[0].save(tmp_path / "still.gif")
    moving = video.probe(str(tmp_path / "moving.gif"))
    assert (moving.kind, moving.frame_count) == ("video", 5)
    assert video.probe(str(tmp_path / "still.gif")).kind == "image"


@pytest.mark.parametrize(("rotation", "size"), [(0, (96, 64)), (90, (64, 96)), (180, (96, 64)), (270, (64, 96))])
def test_rotation_decides_the_size(tmp_path: Path, rotation: int, size: tuple[int, int]) -> None:
    info = video.probe(write_clip(tmp_path / "r.mp4", 4, size=(96, 64), rotation=rotation))
    assert (info.rotation, info.width, info.height) == (rotation, *size)


def test_image_orientation_decides_the_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(0, 40, 30)).save(tmp_path / "a.jpg", exif=exif)
    info = video.probe(str(tmp_path / "a.jpg"))
    assert (info.kind, info.codec, info.width, info.height) == ("image", "jpeg", 30, 40)
    assert (info.timestamps, info.fps, info.duration) == ((0.0,), 0.0, 0.0)


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    first = write_clip(tmp_path / "a.mp4", 4)
    copy = str(tmp_path / "b.mp4")
    shutil.copy(first, copy)
    assert video.probe(copy).fingerprint == video.probe(first).fingerprint
    before = video.probe(first)
    write_clip(tmp_path / "a.mp4", 5)
    after = video.probe(first)
    assert after.fingerprint != before.fingerprint
    assert after.frame_count == 5


def test_the_cache_forgets_what_was_not_used_for_long(tmp_path: Path) -> None:
    cache: VersionCache[int] = VersionCache(limit=10, weigh=lambda value: value)
    made: list[int] = []

    def get(number: int, weight: int) -> int:
        return cache.get(("file", number, 0, 0, 0), lambda: made.append(number) or weight)

    for number, weight in [(1, 4), (2, 4), (1, 4), (3, 4), (1, 4), (2, 4)]:
        assert get(number, weight) == weight
    assert made == [1, 2, 3, 2]


def test_probing_again_reads_nothing(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 4)
    time.sleep(0.12)  # what was written just now may be written again without a trace
    assert video.probe(path) is video.probe(path)


def refused(path: Path | str) -> str:
    with pytest.raises(MediaError) as caught:
        video.probe(str(path))
    assert str(path) in str(caught.value)
    assert caught.value.path == str(path)
    return caught.value.reason


def test_bad_files_are_refused_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "text.jpg").write_text("this is no picture")
    os.mkfifo(tmp_path / "pipe.mp4")
    assert refused(tmp_path / "absent.mp4") == "missing"
    assert refused(tmp_path / "empty.mp4") == "empty"
    assert refused(tmp_path / "noise.mp4") == "unreadable"
    assert refused(tmp_path / "text.jpg") == "unreadable"
    assert refused(tmp_path / "pipe.mp4") == "not_a_file"
    assert refused(tmp_path) == "not_a_file"
    assert refused(write_audio(tmp_path / "sound.m4a")) == "no_video"


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    whole = Path(write_clip(tmp_path / "a.mp4", 40)).read_bytes()
    (tmp_path / "no_index.mp4").write_bytes(whole[: len(whole) // 2])
    assert refused(tmp_path / "no_index.mp4") == "unreadable"
    write_clip(tmp_path / "b.avi", 40, codec="mpeg4")
    data = (tmp_path / "b.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) * 6 // 10])
    assert refused(tmp_path / "cut.avi") == "truncated", "its header says how long it was"


def test_truncated_after_the_index(tmp_path: Path) -> None:
    fast = Path(write_clip(tmp_path / "fast.mp4", 40, muxer={"movflags": "faststart"})).read_bytes()
    assert fast.index(b"moov") < fast.index(b"mdat")
    (tmp_path / "cut.mp4").write_bytes(fast[: len(fast) - 20])
    assert refused(tmp_path / "cut.mp4") == "truncated"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("av1_video.mkv", ("av1", 640, 360, 25.0, 125)),
        ("h265_video.mp4", ("hevc", 128, 128, 10.0, 10)),
        ("nasa_13013.mp4", ("h264", 320, 180, 25.0, 325)),
        ("video_r1_example.mp4", ("h264", 640, 360, 22.29, 491)),
    ],
)
def test_real_files(name: str, expected: tuple[str, int, int, float, int]) -> None:
    info = video.probe(str(reference_video(name)))
    assert (info.codec, info.width, info.height, info.fps, info.frame_count) == expected


@pytest.mark.parametrize("name", ["a\0b.mp4", "half \ud800 a pair.mp4"])
def test_a_name_that_no_file_can_have_is_missing(name: str) -> None:
    with pytest.raises(MediaError, match="is no path") as caught:
        video.probe(name)
    assert caught.value.reason == "missing"


def rewrite_matrix(path: Path, degrees: int, hflip: bool, vflip: bool) -> str:
    """A clip whose display matrix turns it counter-clockwise and then flips it, as PyAV's muxer writes that."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.set_display_rotation(degrees, hflip=hflip, vflip=vflip)
        for index in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index, 96, 64), format="rgb24")))
        container.mux(stream.encode())
    return str(path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("vflip", [False, True])
@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_mirroring_matrix_is_told_from_a_turn(
    tmp_path: Path, degrees: int, hflip: bool, vflip: bool, suffix: str
) -> None:
    path = rewrite_matrix(tmp_path / f"m.{suffix}", degrees, hflip, vflip)
    index = packet_index(path)
    coded = np.arange(6).reshape(2, 3)  # no symmetry
    shown = np.rot90(coded, degrees // 90)
    shown = shown[:, ::-1] if hflip else shown
    shown = shown[::-1] if vflip else shown
    ours = np.rot90(coded[:, ::-1] if index.mirror else coded, index.rotation // 90)
    assert np.array_equal(ours, shown)
    assert index.mirror == (hflip != vflip)
    info = video.probe(path)
    assert (info.width, info.height) == ((64, 96) if degrees in (90, 270) else (96, 64))
    assert info.rotation == index.rotation


def test_a_matrix_without_frames_to_read_it_from_still_turns(tmp_path: Path) -> None:
    """The whole matrix comes with frames; of a stream that cannot be decoded the angle is all there is."""
    path = Path(rewrite_matrix(tmp_path / "m.mp4", 90, hflip=False, vflip=False))
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start : data.index(b"moov") - 4] = bytes(data.index(b"moov") - 4 - start)
    path.write_bytes(data)
    index = packet_index(str(path))
    assert (index.rotation, index.mirror) == (90, False)


@pytest.mark.parametrize(("fps", "options"), [(25, {"bf": "0", "g": "12"}), (24, {"bf": "2", "flags": "+ildct+ilme"})])
def test_a_programme_stream_that_gives_a_time_twice_keeps_all_its_frames(
    tmp_path: Path, fps: int, options: dict[str, str]
) -> None:
    """Small pictures: several share a packet of the stream, whose times FFmpeg then has to guess."""
    path = write_clip(tmp_path / "a.mpg", 100, fps=fps, codec="mpeg2video", options=options, draw=moving_texture)
    with av.open(path) as container:
        times = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert len(set(times)) < len(times) == 100
    info = video.probe(path)
    assert info.frame_count == 100 and info.duration == pytest.approx(100 / fps)
    with av.open(path) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(shown) == 100
    plan = video.plan(info, VideoBudget(frames=100, min_pixels=4096, max_pixels=4096), GEOMETRY)
    np.testing.assert_array_equal(video.decode(path, plan).pixels, shown)
