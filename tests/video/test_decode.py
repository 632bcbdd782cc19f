from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from easyvideor1 import video
from easyvideor1.config.schema import ImageBudget, VideoBudget
from easyvideor1.types import MediaError, MediaPlan

from .clips import BUDGET, GEOMETRY, damage, picture, plan_clip, reference_frames, reference_video, write_clip

# Frames keep their 64x64 under this budget, so that pixels can be compared without resizing.
EXACT = VideoBudget(frames=6, min_pixels=1024, max_pixels=64 * 64)


def assert_planned_frames(path: str, plan: MediaPlan) -> None:
    everything = reference_frames(path)
    pixels = video.decode(path, plan).pixels
    assert pixels.dtype == np.uint8
    for k, index in enumerate(plan.frame_indices):
        np.testing.assert_array_equal(pixels[k], everything[index], err_msg=f"frame {index}")


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("mp4", "libx264", {"bf": "3", "g": "12"}),
        ("mp4", "libx264", {"bf": "3", "g": "250"}),
        ("mp4", "libx264", {"bf": "3", "g": "6", "x264-params": "open-gop=1"}),
        ("mkv", "libx264", {"bf": "2", "g": "10"}),
        ("mp4", "libx265", {"x265-params": "log-level=none:keyint=10"}),
        ("webm", "libvpx-vp9", {"g": "10"}),
        ("avi", "mpeg4", {"bf": "2", "g": "10"}),
        ("mov", "mjpeg", {}),
    ],
)
@pytest.mark.parametrize("clip", [(None, None), (5.0, 7.9)])
def test_frames_are_the_planned_ones(
    tmp_path: Path, suffix: str, codec: str, options: dict[str, str], clip: tuple[float | None, float | None]
) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_clip(tmp_path / f"a.{suffix}", 80, codec=codec, options=options, pix_fmt=pix_fmt)
    assert_planned_frames(path, plan_clip(path, EXACT, *clip))


def test_every_frame_can_be_read_alone(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 60, options={"bf": "3", "g": "15"})
    everything = reference_frames(path)
    for index in range(60):
        plan = plan_clip(path, EXACT, index / 10, index / 10)
        assert plan.frame_indices == (index, index)
        np.testing.assert_array_equal(video.decode(path, plan).pixels[1], everything[index])


def test_variable_rate(tmp_path: Path) -> None:
    ticks = [0, 40, 80, 500, 540, 2000, 2040, 2080, 5000, 5040]
    path = write_clip(tmp_path / "a.mkv", 10, ticks=ticks, time_base=Fraction(1, 1000))
    plan = plan_clip(path, EXACT, 0.45, 2.05)
    assert plan.timestamps == pytest.approx((0.5, 0.54, 2.0, 2.04), abs=2e-3)
    assert_planned_frames(path, plan)


def test_an_edit_list_shifts_all_frames(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 60, ticks=[i - 6 for i in range(60)], fps=10, options={"bf": "2", "g": "16"})
    assert len(reference_frames(path)) == 54
    assert_planned_frames(path, plan_clip(path, EXACT))
    assert_planned_frames(path, plan_clip(path, EXACT, 3.0, 4.0))


def test_animated_gif(tmp_path: Path) -> None:
    pages = [Image.fromarray(picture(k)) for k in range(6)]
    path = str(tmp_path / "a.gif")
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=100)
    assert_planned_frames(path, plan_clip(path, EXACT))


@pytest.mark.parametrize(("rotation", "corner"), [(0, (0, 0)), (90, (-1, 0)), (180, (-1, -1)), (270, (0, -1))])
def test_rotation_is_honoured(tmp_path: Path, rotation: int, corner: tuple[int, int]) -> None:
    path = write_clip(tmp_path / "a.mp4", 4, size=(128, 64), rotation=rotation, options={"qp": "5"})
    plan = plan_clip(path, VideoBudget(frames=2, min_pixels=1024))
    shape = (64, 128) if rotation in (0, 180) else (128, 64)
    pixels = video.decode(path, plan).pixels
    assert pixels.shape == (2, *shape, 3)
    red = pixels[0][corner].astype(int)  # the block that was encoded at the top left
    assert red[0] > 150
    assert red[1] < 90


def test_resizing_is_that_of_the_antialiased_tensor_kernel() -> None:
    path = str(reference_video("nasa_13013.mp4"))
    plan = plan_clip(path, VideoBudget(frames=4, min_pixels=1024, max_pixels=16_384))
    pixels = video.decode(path, plan).pixels
    everything = reference_frames(path)
    source = torch.from_numpy(np.stack([everything[i] for i in plan.frame_indices])).permute(0, 3, 1, 2)
    size = (plan.height, plan.width)
    resized = torch.nn.functional.interpolate(source, size=size, mode="bicubic", antialias=True, align_corners=False)
    difference = np.abs(resized.permute(0, 2, 3, 1).numpy().astype(int) - pixels.astype(int))
    assert difference.max() <= 2
    assert difference.mean() < 0.1


@pytest.mark.parametrize("name", ["av1_video.mkv", "h265_video.mp4", "nasa_13013.mp4", "video_r1_example.mp4"])
def test_real_files(name: str) -> None:
    path = str(reference_video(name))
    plan = plan_clip(path, VideoBudget(frames=4, max_pixels=65_536))
    everything = reference_frames(path)
    for pixels, index in zip(video.decode(path, plan).pixels, plan.frame_indices, strict=True):
        expected = Image.fromarray(everything[index]).resize((plan.width, plan.height), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(pixels, np.asarray(expected))


def test_threads_do_not_change_pixels(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 40)
    plan = plan_clip(path)
    np.testing.assert_array_equal(video.decode(path, plan).pixels, video.decode(path, plan, threads=4).pixels)


def test_one_frame_is_repeated(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "one.mp4", 1)
    pixels = video.decode(path, plan_clip(path)).pixels
    assert pixels.shape[0] == 2
    np.testing.assert_array_equal(pixels[0], pixels[1])


def test_odd_sizes_and_ten_bits(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 8, size=(70, 50), pix_fmt="yuv420p10le")
    frames = video.decode(path, plan_clip(path))
    assert frames.pixels.shape == (len(frames.plan.frame_indices), frames.plan.height, frames.plan.width, 3)
    assert abs(float(frames.pixels[0, -8:].mean()) - float(picture(0, 70, 50)[-8:].mean())) < 4


def test_a_damaged_frame_is_bridged_by_the_one_before(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 20, options={"g": "1", "bf": "0"})
    whole = reference_frames(path)
    plan = plan_clip(path, VideoBudget(frames=20, min_pixels=1024, max_pixels=64 * 64))
    damage(path, [7])
    damaged = dataclasses.replace(plan, fingerprint=video.probe(path).fingerprint)
    pixels = video.decode(path, damaged).pixels
    np.testing.assert_array_equal(pixels[7], whole[6])
    np.testing.assert_array_equal(pixels[8], whole[8])


def test_a_file_with_too_much_damage_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 20, options={"g": "1", "bf": "0"})
    damage(path, list(range(5, 12)))
    with pytest.raises(MediaError, match="7 of 20 wanted frames") as caught:
        video.decode(path, plan_clip(path, VideoBudget(frames=20, min_pixels=1024)))
    assert caught.value.reason == "incomplete"


def test_a_file_without_one_good_frame_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    damage(path, list(range(20)))
    with pytest.raises(MediaError) as caught:
        video.decode(path, plan_clip(path))
    assert caught.value.reason == "incomplete"


def test_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    plan = plan_clip(path)
    write_clip(tmp_path / "a.mp4", 21)
    with pytest.raises(MediaError, match="changed since it was planned") as caught:
        video.decode(path, plan)
    assert caught.value.reason == "changed"


def test_images(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(0, 128, 64)).save(tmp_path / "a.png", exif=exif)
    path = str(tmp_path / "a.png")
    plan = video.plan(video.probe(path), ImageBudget(min_pixels=1024), GEOMETRY)
    pixels = video.decode(path, plan).pixels
    assert pixels.shape == (1, 128, 64, 3)
    np.testing.assert_array_equal(pixels[0], np.rot90(picture(0, 128, 64), -1))


def test_transparent_pixels_become_white(tmp_path: Path) -> None:
    picture_with_hole = np.zeros((64, 64, 4), dtype=np.uint8)
    picture_with_hole[:, 32:, 3] = 255
    path = str(tmp_path / "a.png")
    Image.fromarray(picture_with_hole).save(path)
    pixels = video.decode(path, video.plan(video.probe(path), ImageBudget(min_pixels=1024), GEOMETRY)).pixels
    assert (pixels[0, :, :32] == 255).all()
    assert (pixels[0, :, 32:] == 0).all()


def test_sixteen_bit_grey_keeps_its_shades(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(64, dtype=np.uint16)[None] * 1024, 64, axis=0)
    path = str(tmp_path / "a.png")
    Image.fromarray(ramp).save(path)
    pixels = video.decode(path, video.plan(video.probe(path), ImageBudget(min_pixels=1024), GEOMETRY)).pixels
    np.testing.assert_array_equal(pixels[0, 0, :, 0], np.arange(64) * 4)


def test_plan_of_another_length_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    plan = dataclasses.replace(plan_clip(path, BUDGET), frame_indices=(0, 50))
    with pytest.raises(MediaError, match="frame 50 was planned"):
        video.decode(path, plan)
