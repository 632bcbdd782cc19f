"""Ground truth against decoded pixels, for every codec and container that is written."""

from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from easyvideor1.toyworld import Encoding, Scene, paint, write_image, write_video
from easyvideor1.types import ConfigError, MediaError

from .pixels import assert_box, blob, decode
from .samples import sample_clip, sample_image

CODECS = [
    ("a.mp4", "libx264"),
    ("a.mp4", "libx265"),
    ("a.mp4", "libsvtav1"),
    ("a.mp4", "mpeg4"),
    ("a.mov", "libx264"),
    ("a.mkv", "ffv1"),
    ("a.mkv", "mpeg2video"),
    ("a.webm", "libvpx-vp9"),
    ("a.avi", "mpeg4"),
    ("a.gif", "gif"),
]


def assert_shows(scene: Scene, frames: list, times: list[float]) -> None:
    """Frame count, times, and the box of every visible body on every frame."""
    assert len(frames) == len(scene.times)
    np.testing.assert_allclose(times, scene.times, atol=1e-3)
    for pixels, t in zip(frames, scene.times, strict=True):
        assert pixels.shape == (scene.height, scene.width, 3)
        for body in scene.bodies:
            if body.visible_at(t):
                assert_box(pixels, body, body.box_at(t))
            else:
                assert blob(pixels, body).sum() < 6


@pytest.mark.parametrize(("name", "codec"), CODECS)
def test_codec_shows_the_scene(tmp_path: Path, name: str, codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    scene = sample_clip(tmp_path / name, codec=codec, seed=5, bodies=(2, 2), crf=14)
    assert len(scene.bodies) == 2
    assert_shows(scene, *decode(tmp_path / name))


@pytest.mark.parametrize("seed", range(8))
def test_scenes_of_many_seeds(tmp_path: Path, seed: int) -> None:
    scene = sample_clip(tmp_path / "a.mkv", codec="ffv1", seed=seed, bodies=(1, 3), window=True, textured=True)
    frames, times = decode(tmp_path / "a.mkv")
    assert_shows(scene, frames, times)
    shown = [t for t in scene.times if scene.subject.visible_at(t)]
    assert 0 < len(shown) < len(scene.times)


def test_lossless_pixels_are_the_painted_ones(tmp_path: Path) -> None:
    for name in ("a.mkv", "a.gif"):
        scene = sample_clip(tmp_path / name, codec="ffv1" if name == "a.mkv" else None, size=(65, 47), seed=2)
        frames, _ = decode(tmp_path / name)
        for pixels, t in zip(frames, scene.times, strict=True):
            np.testing.assert_array_equal(pixels, paint(scene, t))


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_rotation_is_in_the_file(tmp_path: Path, rotation: int, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    scene = sample_clip(path, size=(96, 64), rotation=rotation, seed=1)
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0))
    assert stored.rotation % 360 == rotation
    assert (stored.width, stored.height) == ((96, 64) if rotation == 180 else (64, 96))
    assert_shows(scene, *decode(path))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".gif"])
def test_variable_frame_rate_is_in_the_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    scene = sample_clip(path, vfr=True, seconds=3.0, seed=4)
    frames, times = decode(path)
    assert_shows(scene, frames, times)
    assert len(set(np.diff(times).round(3))) > 3


def test_b_frames_and_key_frames_are_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    scene = sample_clip(path, seconds=6.0, bframes=2, gop=6, seed=3)
    with av.open(str(path)) as container:
        kinds = [PictureType(frame.pict_type).name for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        dts_pts = [(packet.dts, packet.pts) for packet in container.demux(video=0) if packet.pts is not None]
    assert kinds.count("B") > 4
    assert kinds.count("I") == 4
    assert [pts for _, pts in dts_pts] != sorted(pts for _, pts in dts_pts)  # stored out of order, as B-frames are
    assert_shows(scene, *decode(path))


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.webm", None), ("a.avi", None), ("a.gif", None)])
def test_odd_sizes(tmp_path: Path, name: str, codec: str | None) -> None:
    scene = sample_clip(tmp_path / name, size=(67, 45), codec=codec, seed=6)
    assert_shows(scene, *decode(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("a.mp4", {"codec": "nonesuch"}, "no encoder"),
        ("a.flv", {}, "unknown container"),
        ("a.webm", {"codec": "libx264"}, "choose another codec"),
        ("a.webm", {"rotation": 90}, "cannot have a rotation"),
        ("a.mp4", {"rotation": 45}, "is not 0, 90"),
        ("a.avi", {"vfr": True}, "cannot have a variable frame rate"),
        ("a.avi", {"bframes": 2}, "shifts the times"),
        ("a.webm", {"bframes": 2}, "no B-frames"),
        ("a.mp4", {"codec": "libsvtav1", "size": (65, 64)}, "even sides"),
    ],
)
def test_impossible_wishes_are_refused(tmp_path: Path, name: str, options: dict, words: str) -> None:
    with pytest.raises(MediaError, match=words) as caught:
        sample_clip(tmp_path / name, **options)
    assert caught.value.reason == "unwritable"
    assert list(tmp_path.iterdir()) == []


def test_frames_and_timestamps_must_agree(tmp_path: Path) -> None:
    frames = [np.zeros((32, 32, 3), np.uint8)] * 3
    for timestamps, words in (
        ([0.0, 0.5], "more frames"),
        ([0.0, 0.5, 0.7, 0.9], "3 frames but 4"),
        ([0.0, 0.5, 0.5], "not increase"),
    ):
        with pytest.raises(MediaError, match=words):
            write_video(tmp_path / "a.mp4", iter(frames), fps=4, timestamps=timestamps)
    with pytest.raises(MediaError, match="no frame"):
        write_video(tmp_path / "a.mp4", [], fps=4)
    assert list(tmp_path.iterdir()) == []


def test_failed_encoding_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    sample_clip(path)
    before = path.read_bytes()

    def broken():
        yield np.zeros((32, 32, 3), np.uint8)
        raise RuntimeError("the painter fell off the ladder")

    with pytest.raises(RuntimeError, match="ladder"):
        write_video(path, broken(), fps=4, encoding=Encoding(gop=1))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "1.mp4", tmp_path / "2.mp4"
    assert sample_clip(one, seed=9) == sample_clip(two, seed=9)
    assert one.read_bytes() == two.read_bytes()
    assert sample_clip(two, seed=10) != sample_clip(one, seed=9)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_images(tmp_path: Path, name: str) -> None:
    scene = sample_image(tmp_path / name, seed=3, bodies=(2, 2), size=(80, 60))
    frames, _ = decode(tmp_path / name)
    assert len(frames) == 1
    for body in scene.bodies:
        assert_box(frames[0], body, body.box_at(0))


def test_word_is_drawn_inside_its_box(tmp_path: Path) -> None:
    scene = sample_image(tmp_path / "a.png", seed=1, word=True)
    assert scene.label is not None
    (pixels,), _ = decode(tmp_path / "a.png")
    ys, xs = np.nonzero(pixels.min(-1) > 200)
    x1, y1, x2, y2 = scene.label.box
    assert x1 <= xs.min() and xs.max() < x2 and y1 <= ys.min() and ys.max() < y2
    assert xs.max() - xs.min() > 0.8 * scene.label.size  # three letters wide
    assert len(xs) > 20


def test_unknown_image_suffix_and_tiny_frames(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="images can be written as"):
        write_image(tmp_path / "a.bmp", np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(ConfigError, match="at least 32"):
        sample_clip(tmp_path / "a.mp4", size=(16, 16))
