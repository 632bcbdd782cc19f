"""The torchcodec backend gives the same pixels as PyAV; skipped where torchcodec is absent or does not load."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from easyvideor1 import video
from easyvideor1.config.schema import CacheConfig, VideoBudget
from easyvideor1.types import ConfigError
from easyvideor1.video import pyav, torchcodec

from .clips import moving_texture, plan_clip, reference_video, write_clip
from .test_decode_colour import write_colours

BUDGET = VideoBudget(frames=6, min_pixels=1024, max_pixels=64 * 96)


@pytest.fixture
def needs_torchcodec() -> None:
    try:
        torchcodec.require()
    except ConfigError as error:
        pytest.skip(f"needs torchcodec with FFmpeg's shared libraries: {error}")


def assert_same(path: str, clips: tuple[tuple[float | None, float | None], ...] = ((None, None), (1.0, 1.9))) -> None:
    for start, end in clips:
        plan = plan_clip(path, BUDGET, start, end)
        ours, theirs = video.decode(path, plan), video.decode(path, plan, backend="torchcodec")
        np.testing.assert_array_equal(theirs.pixels, ours.pixels)


@pytest.mark.usefixtures("needs_torchcodec")
@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("mp4", "libx264", {"bf": "3", "g": "12", "x264-params": "open-gop=1"}),
        ("mkv", "libx264", {"bf": "2", "g": "250"}),
        ("mp4", "libx265", {"x265-params": "log-level=none:keyint=10"}),
        ("webm", "libvpx-vp9", {"g": "10"}),
        ("mp4", "libsvtav1", {"preset": "12"}),
        ("avi", "mpeg4", {"bf": "2", "g": "10"}),
        ("ts", "mpeg2video", {"bf": "2", "g": "10"}),
        ("mov", "mjpeg", {}),
    ],
)
def test_formats(tmp_path: Path, suffix: str, codec: str, options: dict[str, str]) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    assert_same(
        write_clip(tmp_path / f"a.{suffix}", 40, size=(96, 64), codec=codec, options=options, pix_fmt=pix_fmt,
                   draw=moving_texture)
    )  # fmt: skip


@pytest.mark.usefixtures("needs_torchcodec")
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation(tmp_path: Path, rotation: int) -> None:
    assert_same(write_clip(tmp_path / "a.mp4", 40, size=(96, 64), rotation=rotation, draw=moving_texture))


@pytest.mark.usefixtures("needs_torchcodec")
@pytest.mark.parametrize("pix_fmt", ["yuv422p", "yuv444p", "yuvj420p", "yuv420p10le"])
@pytest.mark.parametrize("size", [(96, 64), (70, 50)])
def test_pixel_formats(tmp_path: Path, pix_fmt: str, size: tuple[int, int]) -> None:
    assert_same(write_clip(tmp_path / "a.mp4", 40, size=size, pix_fmt=pix_fmt, draw=moving_texture))


@pytest.mark.usefixtures("needs_torchcodec")
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_colours(tmp_path: Path, matrix: str, full: bool) -> None:
    assert_same(write_colours(tmp_path / "a.mp4", matrix, full, "yuv420p"), clips=((None, None),))


@pytest.mark.usefixtures("needs_torchcodec")
def test_it_is_torchcodec_that_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mp4", 40, rotation=90, draw=moving_texture)
    plan = plan_clip(path)
    expected = video.decode(path, plan).pixels
    monkeypatch.delattr(pyav, "read_frames")
    np.testing.assert_array_equal(video.decode(path, plan, backend="torchcodec").pixels, expected)


@pytest.mark.usefixtures("needs_torchcodec")
def test_edit_list(tmp_path: Path) -> None:
    assert_same(write_clip(tmp_path / "a.mp4", 60, ticks=[i - 6 for i in range(60)], options={"bf": "2", "g": "16"}))


@pytest.mark.usefixtures("needs_torchcodec")
@pytest.mark.parametrize("name", ["av1_video.mkv", "h265_video.mp4", "nasa_13013.mp4", "video_r1_example.mp4"])
def test_real_files(name: str) -> None:
    path = str(reference_video(name))
    plan = plan_clip(path, VideoBudget(frames=8, max_pixels=65_536))
    np.testing.assert_array_equal(
        video.decode(path, plan, backend="torchcodec").pixels, video.decode(path, plan).pixels
    )


@pytest.mark.usefixtures("needs_torchcodec")
def test_damaged_files_are_as_with_pyav(tmp_path: Path) -> None:
    path = Path(write_clip(tmp_path / "a.mp4", 40, options={"g": "40", "bf": "0"}, draw=moving_texture))
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + 4000
    data[middle : middle + 40] = b"\xff" * 40
    path.write_bytes(data)
    plan = plan_clip(str(path))
    one = video.decode(str(path), plan)
    np.testing.assert_array_equal(video.decode(str(path), plan, backend="torchcodec").pixels, one.pixels)


@pytest.mark.usefixtures("needs_torchcodec")
def test_workers_decode_with_it(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 40, draw=moving_texture)
    plan = plan_clip(path)
    store = video.FrameStore(tmp_path / "store")
    with video.DecodePool(store, CacheConfig(workers=1, decoder="torchcodec")) as pool:
        assert pool.decode(path, plan) == "built"
    frames = store.get(plan)
    assert frames is not None
    np.testing.assert_array_equal(frames.pixels, video.decode(path, plan).pixels)


def test_workers_are_refused_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.delitem(sys.modules, "torchcodec.decoders", raising=False)
    with pytest.raises(ConfigError, match="is not installed"):
        video.DecodePool(video.FrameStore(tmp_path), CacheConfig(decoder="torchcodec"))


def test_a_missing_package_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec", None)  # the interpreter's own way to say: not installed
    monkeypatch.delitem(sys.modules, "torchcodec.decoders", raising=False)
    path = write_clip(tmp_path / "a.mp4", 4)
    with pytest.raises(ConfigError, match=r'pip install "easyvideor1\[torchcodec\]"'):
        video.decode(path, plan_clip(path), backend="torchcodec")


def test_a_package_that_does_not_load_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "torchcodec"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "decoders.py").write_text("raise RuntimeError('Could not load libtorchcodec.\\nAnd so on.')")
    loaded = {name for name in sys.modules if name.split(".")[0] == "torchcodec"}
    for name in loaded | {"torchcodec", "torchcodec.decoders"}:
        monkeypatch.setitem(sys.modules, name, None)  # so that it is as before when the test is over
        del sys.modules[name]
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    with pytest.raises(ConfigError, match=r"FFmpeg 4 to 8.*Could not load libtorchcodec\.$"):
        torchcodec.require()
