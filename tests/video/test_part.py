"""Parts of a plan: which frames, tokens and times they have, and that nothing is decoded for them again."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyvideor1 import video
from easyvideor1.config.schema import CacheConfig, VideoBudget
from easyvideor1.engines.packed import PackedPrompt
from easyvideor1.types import DataError, Frames, Geometry, MediaPlan, MediaRef, Prompt
from easyvideor1.video import FrameSource, FrameStore, HealthLedger
from easyvideor1.video.memory_cache import Prefetcher
from easyvideor1.video.part import taken, whole_steps
from tiny import make_plan

from .clips import GEOMETRY, plan_clip, write_clip


def test_a_window_is_what_planning_its_frames_would_give(tmp_path: Path) -> None:
    """The oracle is a plan of the same clip by itself: same frames, so same digest, grid, tokens and times."""
    path = write_clip(tmp_path / "a.mp4", 40, fps=4)
    budget = VideoBudget(fps=4, min_frames=2, max_frames=40, min_pixels=4096, max_pixels=4096)
    whole = plan_clip(path, budget)
    found = video.window(whole, 3, 7, GEOMETRY)
    alone = plan_clip(path, budget, start=1.5, end=3.26)
    assert (found.frame_indices, found.timestamps) == (alone.frame_indices, alone.timestamps)
    assert (found.grid, found.tokens, found.digest) == (alone.grid, alone.tokens, alone.digest)
    assert (found.sample_fps, found.source_fps) == pytest.approx((alone.sample_fps, alone.source_fps))


def test_parts_are_read_from_the_entry_of_the_whole(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 40)
    whole = plan_clip(path)
    store = FrameStore(tmp_path / "store")
    source = FrameSource(store, HealthLedger(tmp_path / "health.jsonl"), CacheConfig(mode="cache_only"))
    store.put(video.decode(path, whole))
    Path(path).unlink()  # whoever decodes now fails
    pixels = source.load(MediaRef("video", path), whole).pixels
    window, still = video.window(whole, 1, 3, GEOMETRY), video.part(whole, [5], GEOMETRY, "image")
    found = source.load(MediaRef("video", path), window)
    np.testing.assert_array_equal(found.pixels, pixels[2:6])
    assert found.plan is window and not found.pixels.flags.owndata, "a view of the mapped entry"
    np.testing.assert_array_equal(source.load(MediaRef("image", path), still).pixels, pixels[5:6])
    ahead = Prefetcher(source.load, max_bytes=1 << 30)
    with ahead:
        ahead.announce(1, [(MediaRef("video", path), whole)])
        np.testing.assert_array_equal(ahead.load(MediaRef("video", path), window).pixels, pixels[2:6])
    assert list(store.entries()) == [whole.digest]


@given(frames=st.integers(1, 12), depth=st.integers(1, 3), data=st.data())
def test_tokens_follow_from_frames(frames: int, depth: int, data: st.DataObject) -> None:
    """Whatever frames are taken, a part has whole steps, the whole's tokens per step, and a last frame repeated."""
    geometry = Geometry(temporal_patch_size=depth)
    steps = -(-frames // depth)
    whole = MediaPlan(
        *("video", "f", tuple(range(steps * depth)), tuple(i / 4 for i in range(steps * depth))),
        *(64, 96, (steps, 4, 6), steps * 6, 4.0, 4.0, "d"),
    )
    places = sorted(data.draw(st.sets(st.integers(0, steps * depth - 1), min_size=1)))
    found = video.part(whole, places, geometry)
    assert len(found.frame_indices) == found.grid[0] * depth and found.tokens == 6 * found.grid[0]
    assert list(found.frame_indices[: len(places)]) == places
    assert set(found.frame_indices[len(places) :]) <= {places[-1]}
    assert found.timestamps == tuple(index / 4 for index in found.frame_indices)
    pixels = np.arange(steps * depth, dtype=np.uint8)[:, None, None, None]
    assert taken(Frames(pixels, whole), found).pixels.flatten().tolist() == list(found.frame_indices)
    of_whole = whole_steps(found, geometry)
    assert (of_whole is None) != all(
        {s * depth + k for k in range(depth)} <= set(places) for s in {p // depth for p in places}
    )
    inner = video.part(found, [0, len(places) - 1] if len(places) > 1 else [0], geometry)
    assert inner.part is not None and inner.part.whole is whole, "a part of a part is one of the whole"
    assert inner.timestamps[0] == places[0] / 4 and inner.timestamps[-1] == places[-1] / 4


def test_a_still_is_an_image_of_one_frame() -> None:
    whole = make_plan("video", frames=8)
    still = video.part(whole, [3], GEOMETRY, "image")
    assert (still.kind, still.grid, still.tokens) == ("image", (1, 4, 4), 4)
    assert still.timestamps == (1.5,) and still.digest != video.part(whole, [3], GEOMETRY).digest


@pytest.mark.parametrize("places", [[], [4], [-1], [2, 1]])
def test_frames_that_are_not_there_are_refused(places: list[int]) -> None:
    with pytest.raises(DataError, match=r"part of a plan|not among the 4"):
        video.part(make_plan("video", frames=4), places, GEOMETRY)
    with pytest.raises(DataError, match="does not lie in a video of 2 steps"):
        video.window(make_plan("video", frames=4), 2, 2, GEOMETRY)


def test_parts_travel_to_other_processes() -> None:
    whole = make_plan("video", frames=8)
    parts = (video.window(whole, 0, 2, GEOMETRY), video.window(whole, 2, 4, GEOMETRY))
    assert video.plan_from_json(video.plan_to_json(parts[1])) == parts[1]
    assert '"part"' not in video.plan_to_json(whole), "entries of older stores keep their text"
    prompt = Prompt(np.arange(3), (MediaRef("video", "a"),) * 2, parts)
    there = pickle.loads(pickle.dumps(PackedPrompt.of(prompt))).unpacked()
    assert there.plans == parts and there.plans[0].part.whole is there.plans[1].part.whole
