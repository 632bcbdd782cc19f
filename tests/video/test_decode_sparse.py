"""Whatever is skipped, a frame that is delivered is the one that decoding everything gives."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from easyvideor1.video import pyav
from easyvideor1.video.packets import PacketIndex, open_video, packet_index

from .clips import moving_texture, reference_video, write_clip

# container, encoder, its options, whether unreferenced pictures are dropped, whether every seek lands
ENCODINGS: dict[str, tuple[str, str, dict[str, str], bool, bool]] = {
    "h264": ("mp4", "libx264", {"bf": "3", "g": "250"}, True, True),
    "h264-pyramid": ("mkv", "libx264", {"bf": "5", "g": "30", "x264-params": "b-adapt=0:b-pyramid=normal"}, True, True),
    "h264-pyramid-strict": ("mp4", "libx264", {"bf": "5", "g": "30", "x264-params": "b-pyramid=strict"}, True, True),
    "h264-open": ("mp4", "libx264", {"bf": "3", "g": "12", "x264-params": "open-gop=1"}, True, True),
    "h264-open-mkv": ("mkv", "libx264", {"bf": "3", "g": "12", "x264-params": "open-gop=1"}, True, True),
    "h264-intra-refresh": ("mp4", "libx264", {"g": "20", "x264-params": "intra-refresh=1"}, True, False),
    "h264-interlaced": ("mp4", "libx264", {"bf": "2", "g": "30", "x264-params": "tff=1"}, True, True),
    "h264-slices": ("flv", "libx264", {"bf": "2", "g": "30", "x264-params": "slices=4"}, True, True),
    "h264-ts": ("ts", "libx264", {"bf": "2", "g": "20"}, True, True),
    "hevc-open": ("mp4", "libx265", {"x265-params": "log-level=none:keyint=25"}, True, True),
    "hevc-closed": ("mkv", "libx265", {"x265-params": "log-level=none:keyint=25:no-open-gop=1:bframes=4"}, True, True),
    "hevc-ts": ("ts", "libx265", {"x265-params": "log-level=none:keyint=25"}, True, True),
    "hevc-layers": ("mp4", "libx265", {"x265-params": "log-level=none:keyint=25:temporal-layers=3"}, False, True),
    "vp9": ("webm", "libvpx-vp9", {"g": "40", "lag-in-frames": "16", "cpu-used": "8"}, False, True),
    "vp8": ("webm", "libvpx", {"g": "40", "lag-in-frames": "16", "auto-alt-ref": "1", "cpu-used": "8"}, True, True),
    "av1": ("mp4", "libsvtav1", {"preset": "12", "g": "30"}, False, True),
    "mpeg4": ("mp4", "mpeg4", {"bf": "2", "g": "15"}, True, True),
    "mpeg2": ("mpg", "mpeg2video", {"bf": "2", "g": "15"}, True, True),
    "mpeg1": ("mkv", "mpeg1video", {"bf": "2", "g": "15"}, True, True),
    "wmv": ("wmv", "wmv2", {"g": "15"}, False, True),
}


def every_frame(path: str) -> dict[int, NDArray[np.uint8]]:
    """By presentation time, decoded from the start with nothing left out."""
    frames: dict[int, NDArray[np.uint8]] = {}
    with av.open(path) as container:
        for picture in container.decode(video=0):
            assert picture.pts is not None
            frames.setdefault(picture.pts, picture.to_ndarray(format="rgb24"))
    return frames


def rgb(picture: Any) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = picture.to_ndarray(format="rgb24")
    return pixels


def check(path: str, index: PacketIndex, *, jumps_land: bool, trials: int, seed: int) -> None:
    expected, draws = every_frame(path), random.Random(seed)
    assert sorted(expected) == list(index.pts)
    for _ in range(trials):
        wanted = sorted(draws.sample(range(len(index.pts)), draws.choice([1, 2, 5, min(20, len(index.pts))])))
        for threads, seek in ((1, True), (1, False), (3, True)):
            try:
                got = {k: rgb(picture) for k, picture in pyav.decode_sparse(path, index, wanted, threads, seek=seek)}
            except pyav._NotAsIndexedError:
                assert seek
                assert not jumps_land
            else:
                assert sorted(got) == wanted
                for k in wanted:
                    np.testing.assert_array_equal(got[k], expected[index.pts[k]], err_msg=f"{k} of {wanted}")
        held: dict[int, NDArray[np.uint8]] = {}
        assert pyav.read_frames(path, index, wanted, held.__setitem__, 1) == 0
        for k in wanted:
            np.testing.assert_array_equal(held[k], expected[index.pts[k]])


@pytest.mark.parametrize("name", ENCODINGS)
def test_frames_are_those_of_full_decoding(tmp_path: Path, name: str) -> None:
    suffix, codec, options, drops, jumps_land = ENCODINGS[name]
    path = write_clip(
        tmp_path / f"a.{suffix}", 80, size=(96, 64), codec=codec, options=options, draw=moving_texture, fps=25
    )
    container, stream = open_video(path)
    with container:
        assert pyav.can_skip_unreferenced(stream.codec_context.name, stream.codec_context.extradata) == drops
    index = packet_index(path)
    assert index.timed
    check(path, index, jumps_land=jumps_land, trials=6, seed=len(name))


@pytest.mark.parametrize("name", ["av1_video.mkv", "h265_video.mp4", "nasa_13013.mp4", "video_r1_example.mp4"])
def test_frames_of_real_files(name: str) -> None:
    path = str(reference_video(name))
    check(path, packet_index(path), jumps_land=True, trials=1, seed=3)


def test_dropping_leaves_out_what_nothing_refers_to(tmp_path: Path) -> None:
    """With every second picture unreferenced, the decoder gives out about half of them when it is asked to drop."""
    options = {"bf": "1", "g": "250", "x264-params": "b-adapt=0:b-pyramid=none:scenecut=0"}
    path = write_clip(tmp_path / "a.mp4", 60, options=options, draw=moving_texture)
    with av.open(path) as container:
        context = container.streams.video[0].codec_context
        context.thread_count = 1
        context.skip_frame = "NONREF"
        assert 28 <= sum(1 for _ in container.decode(video=0)) <= 32
    delivered = [k for k, _ in pyav.decode_sparse(path, packet_index(path), [0, 1, 59], 1, seek=True)]
    assert delivered == [0, 1, 59]


class MakeIndex(Protocol):
    def __call__(self, frames: int, keyframes: tuple[int, ...], side: int = 1024) -> PacketIndex: ...


@pytest.fixture
def index_of(tmp_path: Path) -> MakeIndex:
    """Makes indexes of square videos that exist on paper only."""
    real = packet_index(write_clip(tmp_path / "a.mp4", 2))

    def make(frames: int, keyframes: tuple[int, ...], side: int = 1024) -> PacketIndex:
        ticks = tuple(range(frames))
        return dataclasses.replace(real, pts=ticks, keyframes=keyframes, width=side, height=side, end=frames)

    return make


def test_stretches_jump_where_that_saves_pictures(index_of: MakeIndex) -> None:
    index = index_of(100, (0, 10, 20, 30, 90))
    assert pyav.segments(index, [3, 8, 12, 55, 95]) == [
        pyav.Segment(None, (3, 8)),
        pyav.Segment(10, (12,)),
        pyav.Segment(30, (55,)),
        pyav.Segment(90, (95,)),
    ]


def test_stretches_go_on_where_nothing_lies_between(index_of: MakeIndex) -> None:
    assert pyav.segments(index_of(40, (0, 10, 20)), [9, 10, 19, 20]) == [pyav.Segment(None, (9, 10, 19, 20))]


def test_a_jump_is_dear_for_small_pictures_and_for_many_threads(index_of: MakeIndex) -> None:
    wanted = [0, 14]
    assert len(pyav.segments(index_of(30, (0, 12), side=1024), wanted)) == 2
    assert len(pyav.segments(index_of(30, (0, 12), side=16), wanted)) == 1
    assert len(pyav.segments(index_of(30, (0, 12), side=1024), wanted, threads=16)) == 1


def test_without_key_frames_everything_is_one_stretch(index_of: MakeIndex) -> None:
    assert pyav.segments(index_of(30, ()), [5, 25]) == [pyav.Segment(None, (5, 25))]
    assert pyav.segments(index_of(30, (8, 20)), [5, 25]) == [pyav.Segment(None, (5,)), pyav.Segment(20, (25,))]


def test_hevc_is_dropped_from_only_with_one_temporal_layer() -> None:
    record = bytearray(30)
    record[0] = 1
    for layers in range(4):
        record[21] = layers << 3
        assert pyav.can_skip_unreferenced("hevc", bytes(record)) == (layers == 1)
    parameter_sets = b"\0\0\0\1\x40\x01\x0c" + b"\0\0\0\1" + bytes((33 << 1, 1, 0b0000_0001, 0, 0))
    assert pyav.can_skip_unreferenced("hevc", parameter_sets)
    assert not pyav.can_skip_unreferenced(
        "hevc", parameter_sets.replace(bytes((33 << 1, 1, 1)), bytes((33 << 1, 1, 3)))
    )
    assert not pyav.can_skip_unreferenced("hevc", None)
    assert not pyav.can_skip_unreferenced("vp9", None)
