from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from easyvideor1.types import Frames, MediaPlan
from easyvideor1.video.recent import MOST_KEPT, RecentFrames


def frames(size: int = 10) -> Frames:
    plan = MediaPlan("video", "f", (0,), (0.0,), 1, size, (1, 1, 1), 1, 1.0, 1.0, "d")
    return Frames(np.zeros((1, 1, size, 3), dtype=np.uint8), plan)


def test_the_least_recently_used_goes_first() -> None:
    made: list[str] = []

    def make(key: str) -> Frames:
        made.append(key)
        return frames(10)

    recent = RecentFrames(60)  # two of 30 bytes
    for key in ("a", "b", "a", "c", "a", "b"):
        recent.get(key, lambda key=key: make(key))  # type: ignore[misc]
    assert made == ["a", "b", "c", "b"]


def test_nothing_is_kept_without_room() -> None:
    for limit in (0, 29):
        recent = RecentFrames(limit)
        assert recent.get("a", frames) is not recent.get("a", frames)


def test_no_more_than_so_many_files_stay_open() -> None:
    recent = RecentFrames(1 << 30)
    first = recent.get(0, frames)
    assert recent.get(0, frames) is first
    for key in range(1, MOST_KEPT + 1):
        recent.get(key, frames)
    assert recent.get(0, frames) is not first


def test_readers_of_one_key_share_one_read() -> None:
    recent, made = RecentFrames(1 << 20), []
    found: list[Frames] = []

    def make() -> Frames:
        made.append(1)
        time.sleep(0.05)
        return frames()

    readers = [threading.Thread(target=lambda: found.append(recent.get("a", make))) for _ in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(made) == 1
    assert len({id(one) for one in found}) == 1


def test_an_error_is_not_kept() -> None:
    recent = RecentFrames(1 << 20)

    def fail() -> Frames:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        recent.get("a", fail)
    kept = recent.get("a", frames)
    assert recent.get("a", fail) is kept
    recent.forget(lambda key: key == "a")
    with pytest.raises(OSError, match="gone"):
        recent.get("a", fail)
    assert recent.get(Path("a"), frames) is recent.get(Path("a"), fail)
