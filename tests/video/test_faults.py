"""Broken and odd media: every kind has one expected outcome, the same in this process and under guard."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from easyvideor1 import video
from easyvideor1.config.schema import CacheConfig, ImageBudget, VideoBudget
from easyvideor1.types import MediaError, MediaInfo, MediaPlan, MediaRef

from . import faults
from .clips import GEOMETRY, damage, picture, write_audio, write_clip

Pixels = NDArray[np.uint8]
Make = Callable[[Path], str]

PLAYLIST = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\nclip.ts\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile clip.mp4\n"
PAGE = "<!DOCTYPE html><html><head><title>404</title></head><body>not found</body></html>\n" * 20
SESSION = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
FAST = {"movflags": "faststart"}
WHOLE = VideoBudget(frames=8, min_pixels=1024, max_pixels=64 * 64)


@dataclass(frozen=True)
class Refused:
    """No frames; the error has this reason."""

    reason: str


@dataclass(frozen=True)
class Shown:
    """Frames come, and frame ``i`` of the file is ``expected(i)`` within ``tolerance`` grey levels in the mean.

    ``count`` is how many frames the file has, None where damage decides it.
    """

    count: int | None
    expected: Callable[[int], Pixels] = picture
    tolerance: float = 4.0


def clip(name: str = "a.mp4", frames: int = 20, **options: object) -> Make:
    return lambda directory: write_clip(directory / name, frames, **options)  # type: ignore[arg-type]


def wide(index: int) -> Pixels:
    return picture(index, 96, 64)


def shown_by(matrix: faults.Matrix) -> tuple[Make, Shown]:
    """A clip with a display matrix, and what the matrix makes of its frames, pixel by pixel."""
    a, b, c, d = matrix

    def expected(index: int) -> Pixels:
        coded = wide(index)
        y, x = np.mgrid[: coded.shape[0], : coded.shape[1]]
        across, down = a * x + c * y, b * x + d * y
        across, down = across - across.min(), down - down.min()
        shown = np.empty((down.max() + 1, across.max() + 1, 3), dtype=np.uint8)
        shown[down, across] = coded
        return shown

    return lambda directory: faults.shown_by(write_clip(directory / "a.mp4", 20, size=(96, 64)), matrix), Shown(
        20, expected
    )


def turned_image(orientation: int) -> tuple[Make, Shown]:
    """EXIF orientations (TIFF 6.0, tag 274), written out as what they say of rows and columns."""
    ways: dict[int, Callable[[Pixels], Pixels]] = {
        2: np.fliplr,
        3: lambda p: p[::-1, ::-1],
        4: np.flipud,
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: p.transpose(1, 0, 2)[:, ::-1],
        7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda p: p.transpose(1, 0, 2)[::-1],
    }
    expected = ways[orientation](wide(0))
    return lambda directory: faults.exif_turned(directory, orientation), Shown(1, lambda _: expected, 0.0)


def ramp(_: int) -> Pixels:
    return np.repeat(np.repeat((np.arange(64, dtype=np.uint8) * 4)[None, :, None], 64, 0), 3, 2)


def hole(_: int) -> Pixels:
    return np.where(np.arange(64)[None, :, None] < 32, 255, 0).astype(np.uint8).repeat(64, 0).repeat(3, 2)


# name: (how the file is made, what must come of it)
CASES: dict[str, tuple[Make, Refused | Shown]] = {
    # where the file is
    "absent": (lambda d: str(d / "a.mp4"), Refused("missing")),
    "below a file": (lambda d: faults.write(d, "a", b"x") + "/b.mp4", Refused("missing")),
    "broken link": (faults.dangling_link, Refused("missing")),
    "NUL in the name": (lambda d: str(d / "a\0b.mp4"), Refused("missing")),
    "name too long": (lambda d: str(d / ("a" * 300)), Refused("unreadable")),
    "directory": (str, Refused("not_a_file")),
    "pipe": (faults.pipe, Refused("not_a_file")),
    "device": (lambda d: "/dev/zero", Refused("not_a_file")),
    "colon in the name": (clip("http:a.mp4"), Shown(20)),
    "protocol in the name": (clip("concat:a.mp4"), Shown(20)),
    "percent in the name": (clip("100%.mp4"), Shown(20)),
    "pattern in the name": (clip("%03d.mp4"), Shown(20)),
    "unicode in the name": (clip("Füße 视频 🎬.mp4"), Shown(20)),
    "line break and quotes in the name": (clip("a\n'\"b.mp4"), Shown(20)),
    "no suffix": (lambda d: faults.under_another_name(write_clip(d / "a.mp4"), "a"), Shown(20)),
    "wrong suffix: film as image": (lambda d: faults.under_another_name(write_clip(d / "a.mp4"), "a.jpg"), Shown(20)),
    "wrong suffix: mkv as mp4": (lambda d: faults.under_another_name(write_clip(d / "a.mkv"), "a.mp4"), Shown(20)),
    "wrong suffix: image as film": (
        lambda d: faults.under_another_name(faults.save(d, "a.png"), "a.mp4"),
        Shown(1, tolerance=0.0),
    ),
    # what is no medium
    "zero bytes": (lambda d: faults.write(d, "a.mp4", b""), Refused("empty")),
    "all zeros": (lambda d: faults.write(d, "a.mp4", bytes(5000)), Refused("unreadable")),
    "noise": (lambda d: faults.write(d, "a.mp4", np.random.default_rng(0).bytes(5000)), Refused("unreadable")),
    "text": (lambda d: faults.write(d, "a.mp4", "It was a dark and stormy night.\n" * 50), Refused("unreadable")),
    "text that a terminal shows": (lambda d: faults.write(d, "a.txt", "plain text\n" * 50), Refused("unreadable")),
    "error page": (lambda d: faults.write(d, "a.mp4", PAGE), Refused("unreadable")),
    "subtitles": (lambda d: faults.write(d, "a.mp4", "1\n00:00:00,000 --> 00:00:01,000\nhi\n"), Refused("unreadable")),
    "list of files": (lambda d: faults.beside_a_clip(d, "a.mp4", CONCAT), Refused("unreadable")),
    "playlist": (lambda d: faults.beside_a_clip(d, "a.m3u8", PLAYLIST), Refused("unreadable")),
    "playlist as mp4": (lambda d: faults.beside_a_clip(d, "a.mp4", PLAYLIST), Refused("unreadable")),
    "description of a session": (lambda d: faults.write(d, "a.sdp", SESSION), Refused("unreadable")),
    "numbered pictures": (faults.among_numbered_pictures, Refused("unreadable")),
    "sound only": (lambda d: write_audio(d / "a.m4a"), Refused("no_video")),
    "sound only, mp3": (lambda d: faults.sound(d, "a.mp3", cover=False), Refused("no_video")),
    "sound with cover art": (lambda d: faults.sound(d, "a.mp3", cover=True), Refused("no_video")),
    "no frames": (faults.without_frames, Refused("empty")),
    # cut and damaged
    "head cut off, mp4": (lambda d: faults.cut(write_clip(d / "a.mp4"), begin=0.3), Refused("unreadable")),
    "head cut off, mkv": (lambda d: faults.cut(write_clip(d / "a.mkv"), begin=0.3), Refused("unreadable")),
    "tail cut off, mp4": (lambda d: faults.cut(write_clip(d / "a.mp4"), end=0.6), Refused("unreadable")),
    "tail cut off after the index": (
        lambda d: faults.cut(write_clip(d / "a.mp4", muxer=FAST), end=0.9),
        Refused("truncated"),
    ),
    "tail cut off, mkv": (lambda d: faults.cut(write_clip(d / "a.mkv", 40), end=0.6), Refused("truncated")),
    "tail cut off, avi": (lambda d: faults.cut(write_clip(d / "a.avi", 40), end=0.6), Refused("truncated")),
    "tail cut off, live mkv": (
        lambda d: faults.cut(write_clip(d / "a.mkv", 40, muxer={"live": "1"}), end=0.6),
        Shown(None),
    ),
    "tail cut off, ts": (lambda d: faults.cut(write_clip(d / "a.ts", 40), end=0.6), Shown(None)),
    "middle cut out, mp4": (
        lambda d: faults.cut_out(write_clip(d / "a.mp4", 40, muxer=FAST), 0.5, 0.7),
        Refused("truncated"),
    ),
    "track's name flipped": (
        lambda d: faults.overwrite(write_clip(d / "a.mp4"), b"trak", -4, b"tr\x00k"),
        Refused("no_video"),
    ),
    "picture's bytes flipped": (
        lambda d: faults.noise_over(faults.save(d, "a.png"), 1, share=0.1, header=0.3),
        Refused("unreadable"),
    ),
    "no moov": (lambda d: faults.without_box(write_clip(d / "a.mp4"), b"moov"), Refused("unreadable")),
    "no mdat": (lambda d: faults.without_box(write_clip(d / "a.mp4", muxer=FAST), b"mdat"), Refused("truncated")),
    "huge declared box": (
        lambda d: faults.overwrite(write_clip(d / "a.mp4"), b"mdat", -8, struct.pack(">I", 0x7FFF_FFFF)),
        Refused("unreadable"),
    ),
    "huge declared number of frames": (
        lambda d: faults.overwrite(write_clip(d / "a.mp4"), b"stsz", 8, struct.pack(">I", 0x7FFF_FFFF)),
        Refused("unreadable"),
    ),
    "unknown codec": (
        lambda d: faults.overwrite(write_clip(d / "a.mkv"), b"V_MPEG4/ISO/AVC", -9, b"9"),
        Refused("unreadable"),
    ),
    "every frame damaged": (lambda d: _all_damaged(write_clip(d / "a.mp4")), Refused("incomplete")),
    "one frame damaged": (lambda d: _one_damaged(write_clip(d / "a.mp4", options={"g": "1", "bf": "0"})), Shown(20)),
    # still pictures
    "bomb": (lambda d: faults.png_of_size(d, 30_000, 30_000), Refused("memory")),
    "huge dimensions": (lambda d: faults.png_of_size(d, 2**31 - 1, 2**31 - 1), Refused("memory")),
    "picture cut off": (lambda d: faults.cut(faults.save(d, "a.png"), end=0.6), Refused("unreadable")),
    "photograph cut off": (
        lambda d: faults.cut(faults.save(d, "a.jpg", size=(256, 256)), end=0.6),
        Refused("unreadable"),
    ),
    "gif of one picture": (lambda d: faults.animation(d, "a.gif", 1), Shown(1, tolerance=2.0)),
    "gif of six pictures": (lambda d: faults.animation(d, "a.gif", 6), Shown(6)),
    "moving webp": (lambda d: faults.animation(d, "a.webp", 6), Shown(6, tolerance=0.0)),
    "moving png": (lambda d: faults.animation(d, "a.png", 6), Shown(6, tolerance=0.0)),
    "16 bits of grey": (faults.sixteen_bit, Shown(1, ramp, 0.0)),
    "CMYK": (lambda d: faults.save(d, "a.jpg", "CMYK"), Shown(1)),
    "grey": (lambda d: faults.save(d, "a.jpg", "L"), Shown(1, lambda k: _grey(picture(k)))),
    "palette": (lambda d: faults.save(d, "a.png", "P"), Shown(1)),
    "transparent": (faults.with_hole, Shown(1, hole, 0.0)),
    "one pixel": (lambda d: faults.save(d, "a.png", size=(1, 1)), Shown(1, lambda k: picture(k, 1, 1), 0.0)),
    "thin picture": (lambda d: faults.save(d, "a.png", size=(1000, 4)), Refused("aspect")),
    "thin film": (clip(size=(1000, 4)), Refused("aspect")),
    **{f"EXIF orientation {k}": turned_image(k) for k in range(2, 9)},
    # odd films
    "turned by 90": shown_by((0, -1, 1, 0)),
    "turned by 180": shown_by((-1, 0, 0, -1)),
    "turned by 270": shown_by((0, 1, -1, 0)),
    "mirrored": shown_by((-1, 0, 0, 1)),
    "upside down and mirrored": shown_by((1, 0, 0, -1)),
    "mirrored and turned by 90": shown_by((0, 1, 1, 0)),
    "mirrored and turned by 270": shown_by((0, -1, -1, 0)),
    "one frame": (clip(frames=1), Shown(1)),
    "odd size": (clip(size=(70, 50)), Shown(20, lambda k: picture(k, 70, 50))),
    "two pixels": (clip(size=(2, 2)), Shown(20, lambda k: picture(k, 2, 2), 16.0)),
    "ten bits": (clip(pix_fmt="yuv420p10le"), Shown(20)),
    "no subsampling": (clip(pix_fmt="yuv444p"), Shown(20)),
    "full range": (clip(pix_fmt="yuvj420p"), Shown(20)),
    "variable rate": (
        clip("a.mkv", 6, ticks=[0, 40, 500, 540, 2000, 5000], time_base=Fraction(1, 1000)),
        Shown(6),
    ),
    "negative times": (clip("a.mkv", ticks=[k - 5 for k in range(20)]), Shown(20)),
    "negative times, ts": (clip("a.ts", ticks=[k - 5 for k in range(20)]), Shown(20)),
    "late start": (clip("a.mkv", ticks=[k + 500 for k in range(20)]), Shown(20)),
    "edit list": (clip(ticks=[k - 6 for k in range(20)]), Shown(14, lambda k: picture(k + 6))),
    "missing duration": (clip("a.mkv", muxer={"live": "1"}), Shown(20)),
    "fragments": (clip(muxer={"movflags": "frag_keyframe+empty_moov"}), Shown(20)),
    "missing times": (clip("a.avi", options={"bf": "2", "g": "8"}), Shown(20)),
    "missing times, bare stream": (clip("a.h264", options={"bf": "2", "g": "8"}), Shown(20)),
    "another size in the middle": (
        faults.two_sizes,
        Shown(20, lambda k: picture(k) if k < 10 else picture(k - 10, 128, 128)),
    ),
    "open groups": (clip(frames=40, options={"bf": "3", "g": "8", "x264-params": "open-gop=1"}), Shown(40)),
    "pyramid of references": (clip(options={"bf": "7", "x264-params": "b-adapt=0:b-pyramid=normal"}), Shown(20)),
    "interlaced": (clip(options={"bf": "2", "x264-params": "tff=1"}), Shown(20)),
    "mov": (clip("a.mov", codec="mjpeg", pix_fmt="yuvj420p", options={}), Shown(20)),
    "with sound": (clip(audio=True), Shown(20)),
}


def _grey(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))


def _all_damaged(path: str) -> str:
    damage(path, list(range(20)))
    return path


def _one_damaged(path: str) -> str:
    damage(path, [18])  # no planned frame: all of those that are must be whole
    return path


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[video.FrameSource]:
    """Real workers for all cases of this module."""
    directory = tmp_path_factory.mktemp("store")
    ledger = video.HealthLedger(directory / "health.jsonl")
    config = CacheConfig(workers=1, deadline=120, memory_mb=1024)
    with video.FrameSource(video.FrameStore(directory), ledger, config) as source:
        yield source


def planned(info: MediaInfo) -> MediaPlan:
    budget = ImageBudget(min_pixels=1024, max_pixels=96 * 64) if info.kind == "image" else WHOLE
    return video.plan(info, budget, GEOMETRY)


def here(path: str) -> tuple[MediaInfo, MediaPlan, Pixels]:
    info = video.probe(path)
    plan = planned(info)
    return info, plan, video.decode(path, plan).pixels


def under_guard(source: video.FrameSource, path: str) -> tuple[MediaInfo, MediaPlan, Pixels]:
    info = source.probe(path)
    plan = planned(info)
    return info, plan, source.load(MediaRef(info.kind, path), plan).pixels


def either(way: Callable[[str], tuple[MediaInfo, MediaPlan, Pixels]], path: str) -> str | bytes:
    """The reason of a refusal, or the pixels."""
    try:
        return way(path)[2].tobytes()
    except MediaError as error:
        assert error.path == path
        return error.reason


@pytest.mark.parametrize("name", CASES)
def test_outcome(tmp_path: Path, guarded: video.FrameSource, name: str) -> None:
    make, outcome = CASES[name]
    path = make(tmp_path)
    if isinstance(outcome, Refused):
        for way in (here, lambda path: under_guard(guarded, path)):
            with pytest.raises(MediaError) as caught:
                way(path)
            assert (caught.value.reason, caught.value.path) == (outcome.reason, path)
        return
    info, plan, pixels = here(path)
    assert outcome.count is None or info.frame_count == outcome.count
    for frame, shown in zip(plan.frame_indices, pixels, strict=True):
        expected = Image.fromarray(np.ascontiguousarray(outcome.expected(frame)))
        resized = np.asarray(expected.resize((plan.width, plan.height), Image.Resampling.BICUBIC))
        assert np.abs(shown.astype(int) - resized).mean() <= outcome.tolerance, f"frame {frame}"
    _, guarded_plan, guarded_pixels = under_guard(guarded, path)
    assert guarded_plan == plan
    np.testing.assert_array_equal(guarded_pixels, pixels)


def flipped(directory: Path, suffix: str, seed: int) -> str:
    """A file with a few changed bytes: anywhere for odd seeds, behind the header for even ones."""
    header = 0.2 if seed % 2 == 0 else 0.0
    if suffix in ("png", "jpg", "webp", "gif"):
        path = faults.animation(directory, "a.gif", 4) if suffix == "gif" else faults.save(directory, f"a.{suffix}")
    else:
        codec = {"webm": "libvpx-vp9", "avi": "mpeg4"}.get(suffix, "libx264")
        muxer = FAST if suffix == "mp4" else None
        path = write_clip(directory / f"a.{suffix}", 20, codec=codec, options={"g": "8"}, muxer=muxer)
    return faults.noise_over(path, seed, share=(0.001, 0.01, 0.05)[seed % 3], header=header)


FLIPPED = ("mp4", "mkv", "ts", "webm", "avi", "png", "jpg", "webp", "gif")


def check_flipped(directory: Path, source: video.FrameSource, suffix: str, seed: int) -> None:
    path = flipped(directory, suffix, seed)
    assert either(here, path) == either(lambda path: under_guard(source, path), path)


@pytest.mark.parametrize("suffix", FLIPPED)
def test_flipped_bytes_end_in_frames_or_an_error(tmp_path: Path, guarded: video.FrameSource, suffix: str) -> None:
    for seed in range(4):
        check_flipped(tmp_path, guarded, suffix, seed)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FLIPPED)
def test_many_flipped_bytes(tmp_path: Path, guarded: video.FrameSource, suffix: str) -> None:
    for seed in range(4, 300):
        check_flipped(tmp_path, guarded, suffix, seed)


def test_a_build_names_every_bad_file_and_keeps_the_good_ones(tmp_path: Path) -> None:
    """All films at once: the ones whose packets can be read but not decoded fail, one by one, and no other."""
    items, bad = [], set()
    for number, (make, outcome) in enumerate(CASES.values()):
        (tmp_path / str(number)).mkdir()
        path = make(tmp_path / str(number))
        try:
            info = video.probe(path)
            plan = planned(info)
        except MediaError:
            continue
        items.append((MediaRef(info.kind, path), plan))
        if isinstance(outcome, Refused):
            bad.add((path, outcome.reason))
    store, ledger = video.FrameStore(tmp_path / "store"), video.HealthLedger(tmp_path / "health.jsonl")
    report = video.build(items, store, ledger, CacheConfig(workers=2, deadline=120, memory_mb=1024))
    assert set(report.failures) == bad
    assert {(entry.path, entry.reason) for entry in ledger.entries()} == bad
    assert len(bad) >= 2
    assert all(store.get(plan) is not None for ref, plan in items if ref.path not in {path for path, _ in bad})


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_no_permission(tmp_path: Path, guarded: video.FrameSource) -> None:
    path = write_clip(tmp_path / "a.mp4")
    Path(path).chmod(0)
    assert either(here, path) == either(lambda path: under_guard(guarded, path), path) == "permission"


def test_a_file_that_is_replaced_after_planning(tmp_path: Path, guarded: video.FrameSource) -> None:
    path = write_clip(tmp_path / "a.mp4", 21)
    plan = planned(guarded.probe(path))
    write_clip(tmp_path / "a.mp4", 22)
    for load in (lambda: video.decode(path, plan), lambda: guarded.load(MediaRef("video", path), plan)):
        with pytest.raises(MediaError) as caught:
            load()
        assert caught.value.reason == "changed"


@pytest.mark.parametrize("what", ["shrinks", "is replaced", "disappears"])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """It happens when the first frame is out; whatever the rest of the file gives, such frames are not kept."""
    path = Path(write_clip(tmp_path / "a.mp4", 200, size=(96, 64), muxer=FAST))
    write_clip(tmp_path / "b.mp4", 199, size=(96, 64))
    plan = planned(video.probe(str(path)))
    decoding = sys.modules[video.decode.__module__]
    turn, happened = decoding.orient_and_resize, []

    def then(*arguments: object, **options: object) -> Pixels:
        if not happened:
            happened.append(what)
            if what == "shrinks":
                os.truncate(path, path.stat().st_size // 3)
            elif what == "is replaced":
                (tmp_path / "b.mp4").replace(path)
            else:
                path.unlink()
        return turn(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(decoding, "orient_and_resize", then)
    with pytest.raises(MediaError) as caught:
        video.decode(str(path), plan)
    assert happened
    assert caught.value.reason == ("missing" if what == "disappears" else "changed")
