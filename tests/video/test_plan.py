from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from easyvideor1 import video
from easyvideor1.config.schema import ImageBudget, VideoBudget
from easyvideor1.types import ConfigError, Geometry, MediaError, MediaInfo

from .clips import write_clip
from .oracle import info_of, load_oracle, qwen_element, qwen_plan

oracle = load_oracle()
GEOMETRY = Geometry(patch_size=16, merge_size=2, temporal_patch_size=2)


BUDGETS = [
    VideoBudget(),
    VideoBudget(fps=1, max_frames=16, max_pixels=50_176),
    VideoBudget(fps=4.5, min_frames=7, max_frames=33, total_pixels=2_000_000),
    VideoBudget(frames=8, min_pixels=1024, max_pixels=4096),
    VideoBudget(frames=5, max_pixels=131_072, total_pixels=400_000),
    VideoBudget(fps=0.5, max_frames=768, min_pixels=128 * 1024, max_pixels=768 * 1024),
]
SIZES = [(64, 64), (640, 360), (360, 640), (1280, 720), (33, 47)]
LENGTHS = [(8, 8.0), (50, 10.0), (301, 30000 / 1001), (449, 25.0), (2000, 23.976), (14315, 23.976)]


@pytest.mark.parametrize("patch", [14, 16])
def test_qwen_rule_equals_the_oracle(patch: int) -> None:
    geometry = Geometry(patch_size=patch, merge_size=2, temporal_patch_size=2)
    compared = 0
    for budget, (width, height), (frames, fps) in itertools.product(BUDGETS, SIZES, LENGTHS):
        info = info_of(frames, fps, width, height)
        planned = video.plan(info, budget, geometry)
        indices, size = qwen_plan(oracle, qwen_element(budget), info, geometry.factor)
        case = f"{budget} {width}x{height} {frames}@{fps}"
        assert list(planned.frame_indices) == indices, case
        assert (planned.height, planned.width) == size, case
        assert planned.sample_fps == pytest.approx(len(indices) / frames * fps)
        steps, h, w = planned.grid
        assert (steps * 2, h * patch, w * patch) == (len(indices), *size)
        assert planned.tokens == steps * h * w // 4
        compared += 1
    assert compared == len(BUDGETS) * len(SIZES) * len(LENGTHS)


def test_qwen_indices_equal_the_oracle_in_near_ties() -> None:
    # Among these lengths are those where float64, or float32 with one rounding more, gives other indices.
    budget = VideoBudget(frames=768, min_pixels=1024)
    for frames in range(11_000, 13_000, 41):
        expected = torch.linspace(0, frames - 1, 768).round().long().tolist()
        assert list(video.plan(info_of(frames, 24.0), budget, GEOMETRY).frame_indices) == expected


@pytest.mark.parametrize(("start", "end"), [(1.0, 5.0), (None, 3.0), (2.5, None), (0.0, 100.0), (7.25, 9.75)])
def test_clips_equal_the_oracle(start: float | None, end: float | None) -> None:
    info = info_of(100, 10.0)
    element = qwen_element(VideoBudget()) | {"video_start": start, "video_end": end}
    planned = video.plan(info, VideoBudget(), GEOMETRY, start=start, end=end)
    assert list(planned.frame_indices) == qwen_plan(oracle, element, info, 32)[0]
    assert planned.timestamps == tuple(i / 10 for i in planned.frame_indices)


def test_images_equal_the_oracle() -> None:
    budget = ImageBudget(min_pixels=3136, max_pixels=262_144)
    for width, height in [(10, 10), (640, 480), (4000, 3000), (100, 3000)]:
        info = MediaInfo("a.png", "image", "f" * 64, "png", width, height)
        planned = video.plan(info, budget, GEOMETRY)
        expected = oracle.smart_resize(height, width, 32, min_pixels=3136, max_pixels=262_144)
        assert (planned.height, planned.width) == expected
        assert planned.frame_indices == (0,)
        assert planned.grid == (1, expected[0] // 16, expected[1] // 16)
        assert planned.tokens == expected[0] * expected[1] // 32**2


def test_uniform_takes_the_middles_of_equal_parts() -> None:
    budget = VideoBudget(rule="uniform", frames=4, min_pixels=1024)
    assert video.plan(info_of(40, 10.0), budget, GEOMETRY).frame_indices == (5, 15, 25, 35)
    assert video.plan(info_of(4, 10.0), budget, GEOMETRY).frame_indices == (0, 1, 2, 3)


def test_uniform_time_follows_true_times() -> None:
    # Nine frames in the first second, then one that stays for nine seconds, then one more.
    times = (*(i / 9 for i in range(9)), 1.0, 10.0)
    info = MediaInfo("v.mp4", "video", "f" * 64, "h264", 64, 64, fps=1.1, duration=10.1, timestamps=times)
    budget = VideoBudget(rule="uniform", frames=4, min_pixels=1024)
    assert video.plan(info, budget, GEOMETRY).frame_indices == (1, 4, 6, 9)
    budget = VideoBudget(rule="uniform-time", frames=4, min_pixels=1024)
    indices = video.plan(info, budget, GEOMETRY).frame_indices
    assert indices[-1] == 10
    assert len(set(indices)) == 4
    assert list(indices) == sorted(indices)


def test_uniform_keeps_to_total_pixels() -> None:
    budget = VideoBudget(rule="uniform", frames=16, total_pixels=16 * 10_000)
    planned = video.plan(info_of(400, 10.0, 1280, 720), budget, GEOMETRY)
    assert len(planned.frame_indices) * planned.height * planned.width <= 160_000


@pytest.mark.parametrize("rule", ["qwen", "uniform", "uniform-time"])
def test_a_single_frame_is_repeated(rule: str) -> None:
    planned = video.plan(info_of(1, 25.0), VideoBudget.model_validate({"rule": rule}), GEOMETRY)
    assert planned.frame_indices == (0, 0)
    assert planned.timestamps == (0.0, 0.0)
    assert planned.grid[0] == 1
    assert planned.sample_fps == 25.0


def test_more_frames_than_there_are_gives_those_there_are() -> None:
    budget = VideoBudget(frames=64)
    assert video.plan(info_of(6, 10.0), budget, GEOMETRY).frame_indices == (0, 1, 2, 3, 4, 5)
    assert video.plan(info_of(7, 10.0), budget, GEOMETRY).frame_indices == (0, 1, 2, 4, 5, 6)


def test_a_clip_shorter_than_a_frame_is_the_frame_on_screen() -> None:
    planned = video.plan(info_of(100, 10.0), VideoBudget(), GEOMETRY, start=3.42, end=3.47)
    assert planned.frame_indices == (34, 34)
    assert video.plan(info_of(100, 10.0), VideoBudget(), GEOMETRY, start=9.95, end=30.0).frame_indices == (99, 99)


@pytest.mark.parametrize(("start", "end"), [(10.5, None), (5.0, 4.0), (None, -1.0), (math.nan, None)])
def test_a_clip_outside_the_video_is_refused(start: float | None, end: float | None) -> None:
    with pytest.raises(MediaError, match="outside the video") as caught:
        video.plan(info_of(100, 10.0), VideoBudget(), GEOMETRY, start=start, end=end)
    assert caught.value.reason == "clip"


def test_small_budgets_work() -> None:
    budget = VideoBudget(frames=8, min_pixels=1024, max_pixels=4096)
    planned = video.plan(info_of(40, 8.0, 64, 64), budget, GEOMETRY)
    assert planned.grid == (4, 4, 4)
    assert planned.tokens == 16


def test_no_side_vanishes() -> None:
    # The oracle's rule rounds the short side of such a picture down to nothing.
    info = MediaInfo("thin.png", "image", "f" * 64, "png", 6000, 40)
    planned = video.plan(info, ImageBudget(min_pixels=1024, max_pixels=65_536), GEOMETRY)
    assert planned.height == 32
    assert planned.height * planned.width <= 65_536


def test_wrong_budgets_are_named() -> None:
    contradiction = VideoBudget.model_construct(
        **{**VideoBudget().model_dump(), "min_pixels": 5000, "max_pixels": 4000}
    )
    with pytest.raises(ConfigError, match="larger than max_pixels"):
        video.plan(info_of(10, 10.0), contradiction, GEOMETRY)
    with pytest.raises(MediaError, match="crop it"):
        video.plan(info_of(10, 10.0, 10_000, 20), VideoBudget(), GEOMETRY)


def test_a_file_of_the_other_kind_is_the_files_fault(tmp_path: Path) -> None:
    """What first bytes cannot tell, so that only planning finds it; one such file must not stop a run."""
    still, moving = tmp_path / "still.gif", tmp_path / "moving.gif"
    pictures = [Image.new("RGB", (64, 64), (k, 0, 0)) for k in (10, 90, 200)]
    pictures[0].save(still)
    pictures[0].save(moving, save_all=True, append_images=pictures[1:], duration=100)
    for path, budget, words in (
        (still, VideoBudget(), "column of images"),
        (moving, ImageBudget(), "column of videos"),
    ):
        with pytest.raises(MediaError, match=words) as caught:
            video.plan(video.probe(str(path)), budget, GEOMETRY)
        assert (caught.value.reason, caught.value.path) == ("kind", str(path))
    assert video.plan(video.probe(str(moving)), VideoBudget(), GEOMETRY).kind == "video"
    assert video.plan(video.probe(str(still)), ImageBudget(), GEOMETRY).kind == "image"


def test_digest_names_all_that_decides_pixels_and_nothing_else() -> None:
    info = info_of(100, 10.0)
    budget = VideoBudget(frames=8)
    base = video.plan(info, budget, GEOMETRY)
    renamed = MediaInfo(**{**{f: getattr(info, f) for f in info.__slots__}, "path": "elsewhere.mp4"})
    assert video.plan(renamed, budget, GEOMETRY).digest == base.digest
    # Another patch size that gives the same pixels shares the entry.
    assert video.plan(info, budget, Geometry(8, 4, 2)).digest == base.digest
    replaced = MediaInfo(**{**{f: getattr(info, f) for f in info.__slots__}, "fingerprint": "e" * 64})
    others = [
        video.plan(replaced, budget, GEOMETRY),
        video.plan(info, VideoBudget(frames=10), GEOMETRY),
        video.plan(info, VideoBudget(frames=8, max_pixels=65_536), GEOMETRY),
        video.plan(info, budget, GEOMETRY, start=1.0),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == 5


def test_uniform_lets_the_total_win_over_the_smallest_frame() -> None:
    budget = VideoBudget(rule="uniform", frames=16, min_pixels=65_536, total_pixels=16 * 10_000)
    planned = video.plan(info_of(400, 10.0, 1280, 720), budget, GEOMETRY)
    assert 16 * planned.height * planned.width <= 160_000


@pytest.mark.parametrize(("start", "end"), [(3.42, 3.47), (3.4, 3.4), (9.95, None)])
def test_clips_of_one_frame_are_refused_by_the_oracle_and_planned_here(start: float, end: float | None) -> None:
    info = info_of(100, 10.0)
    element = qwen_element(VideoBudget()) | {"video_start": start, "video_end": end}
    with pytest.raises(ValueError, match="Invalid time range"):
        qwen_plan(oracle, element, info, 32)
    planned = video.plan(info, VideoBudget(), GEOMETRY, start=start, end=end)
    assert planned.frame_indices == (int(start * 10),) * 2


def test_clips_of_a_variable_rate_follow_true_times_where_the_oracle_counts() -> None:
    # Ten frames in the first second, then one per second: the oracle takes seconds times the average rate for frames.
    times = (*(i / 10 for i in range(10)), *(float(i) for i in range(1, 11)))
    info = MediaInfo("v.mp4", "video", "f" * 64, "h264", 64, 64, fps=20 / 11, duration=11.0, timestamps=times)
    budget = VideoBudget(fps=100, min_pixels=1024)
    planned = video.plan(info, budget, GEOMETRY, start=4.0, end=9.0)
    assert [times[i] for i in planned.frame_indices] == [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    counted, _ = qwen_plan(oracle, qwen_element(budget) | {"video_start": 4.0, "video_end": 9.0}, info, 32)
    assert times[counted[0]] == 0.8


@pytest.mark.parametrize(("total", "budget", "read"), [(7, {"frames": 64}, 6), (5, {"frames": 5}, 4), (1, {}, 1)])
def test_odd_numbers_and_short_videos_are_planned(total: int, budget: dict[str, int], read: int) -> None:
    """The oracle refuses the first and the last, and takes four of five as is done here."""
    planned = video.plan(info_of(total, 10.0), VideoBudget.model_validate(budget), GEOMETRY)
    assert len(set(planned.frame_indices)) == read
    assert len(planned.frame_indices) == max(read, 2)
    element = qwen_element(VideoBudget.model_validate(budget))
    if read == 4:
        assert qwen_plan(oracle, element, info_of(total, 10.0), 32)[0] == list(planned.frame_indices)
    else:
        with pytest.raises(ValueError, match="nframes should in interval"):
            qwen_plan(oracle, element, info_of(total, 10.0), 32)


def test_a_turned_video_is_planned_upright(tmp_path: Path) -> None:
    """A telephone's portrait video is coded lying, with a matrix that turns it."""
    lying = video.probe(write_clip(tmp_path / "a.mp4", 4, size=(192, 64)))
    upright = video.probe(write_clip(tmp_path / "b.mp4", 4, size=(192, 64), rotation=90))
    budget = VideoBudget(min_pixels=1024)
    plans = [video.plan(info, budget, GEOMETRY) for info in (lying, upright)]
    assert [(plan.height, plan.width) for plan in plans] == [(64, 192), (192, 64)]


def test_the_side_that_vanishes_in_the_oracle() -> None:
    assert oracle.smart_resize(40, 6000, 32, min_pixels=1024, max_pixels=65_536)[0] == 0


@pytest.mark.parametrize("rule", ["qwen", "hf"])
def test_images_thinner_than_half_a_token_part_the_rules(rule: str) -> None:
    """qwen-vl-utils takes such a side for one token, transformers for none, and enlarges what has no pixels."""
    info = MediaInfo("a.png", "image", "f" * 64, "png", width=1000, height=10)
    planned = video.plan(info, ImageBudget.model_validate({"rule": rule}), GEOMETRY)
    assert (planned.height, planned.width) == ((32, 992) if rule == "qwen" else (32, 576))
