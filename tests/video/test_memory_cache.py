"""Frames kept in memory are read once; prefetching changes when a medium is read and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from easyvideor1.types import Frames, MediaError, MediaPlan, MediaRef
from easyvideor1.video.memory_cache import MAX_ENTRIES, MemoryCache, Prefetcher, plan_bytes
from tiny import load_frames, make_plan


def frames(size: int = 10) -> Frames:
    plan = MediaPlan("video", "f", (0,), (0.0,), 1, size, (1, 1, 1), 1, 1.0, 1.0, "d")
    return Frames(np.zeros((1, 1, size, 3), dtype=np.uint8), plan)


def test_the_least_recently_used_goes_first() -> None:
    made: list[str] = []

    def make(key: str) -> Frames:
        made.append(key)
        return frames(10)

    recent = MemoryCache(60)  # two of 30 bytes
    for key in ("a", "b", "a", "c", "a", "b"):
        recent.get(key, lambda key=key: make(key))  # type: ignore[misc]
    assert made == ["a", "b", "c", "b"]


def test_nothing_is_kept_without_room() -> None:
    for limit in (0, 29):
        recent = MemoryCache(limit)
        assert recent.get("a", frames) is not recent.get("a", frames)


def test_no_more_than_so_many_files_stay_open() -> None:
    recent = MemoryCache(1 << 30)
    first = recent.get(0, frames)
    assert recent.get(0, frames) is first
    for key in range(1, MAX_ENTRIES + 1):
        recent.get(key, frames)
    assert recent.get(0, frames) is not first


def test_readers_of_one_key_share_one_read() -> None:
    recent, made = MemoryCache(1 << 20), []
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
    recent = MemoryCache(1 << 20)

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


MANY = 1 << 30


def medium(seed: int, **options: int) -> tuple[MediaRef, MediaPlan]:
    plan = make_plan("video", seed=seed, **options)
    return MediaRef("video", f"{seed}.mp4"), plan


class Files:
    """Loads that are counted, may be held up, and may fail."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.threads: set[str] = set()
        self.open = threading.Event()
        self.open.set()
        self.broken: dict[str, Exception] = {}
        self.lock = threading.Lock()

    def load(self, ref: MediaRef, plan: MediaPlan) -> Frames:
        with self.lock:
            self.began.append(ref.path)
            self.threads.add(threading.current_thread().name)
        assert self.open.wait(60)
        if ref.path in self.broken:
            raise self.broken[ref.path]
        return load_frames(ref, plan)


def until(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < limit, "it never came to that"
        time.sleep(0.002)


def prefetch_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_what_was_announced_is_read_once_and_in_order() -> None:
    files = Files()
    media = [medium(seed) for seed in range(5)]
    with Prefetcher(files.load, max_bytes=MANY) as prefetcher:
        prefetcher.announce(1, media)
        until(lambda: len(files.began) == 5)
        for ref, plan in reversed(media):
            for _ in range(3):
                frames = prefetcher.load(ref, plan)
                assert frames.plan is plan
                assert np.array_equal(frames.pixels, load_frames(ref, plan).pixels)
        assert files.began == [ref.path for ref, _ in media]
        assert all(name.startswith("prefetch") for name in files.threads)
    assert prefetch_threads() == []


def test_what_was_never_announced_is_read_as_without_it() -> None:
    files = Files()
    ref, plan = medium(1)
    with Prefetcher(files.load, max_bytes=MANY) as prefetcher:
        prefetcher.load(ref, plan)
        prefetcher.load(ref, plan)
        assert files.began == [ref.path] * 2 and prefetch_threads() == [] and prefetcher.held_bytes == 0


def test_a_load_under_way_is_waited_for_and_one_that_waits_is_overtaken() -> None:
    files = Files()
    files.open.clear()
    first, second = medium(1), medium(2)
    with Prefetcher(files.load, max_bytes=MANY) as prefetcher:
        prefetcher.announce(1, [first, second])
        until(lambda: files.began == ["1.mp4"])
        got: list[Frames] = []
        waiting = threading.Thread(target=lambda: got.append(prefetcher.load(*first)))
        overtaking = threading.Thread(target=lambda: got.append(prefetcher.load(*second)), name="step")
        waiting.start()
        overtaking.start()
        until(lambda: files.began == ["1.mp4", "2.mp4"])
        assert got == []
        files.open.set()
        waiting.join()
        overtaking.join()
    assert files.began == ["1.mp4", "2.mp4"] and "step" in files.threads
    assert {frames.plan.digest for frames in got} == {first[1].digest, second[1].digest}


def test_an_error_meets_the_step_that_needs_the_file() -> None:
    files = Files()
    files.broken["1.mp4"] = MediaError("gone", path="1.mp4", reason="missing")
    bad, good = medium(1), medium(2)
    with Prefetcher(files.load, max_bytes=MANY) as prefetcher:
        prefetcher.announce(2, [bad, good])
        until(lambda: files.began == ["1.mp4", "2.mp4"])
        assert prefetcher.load(*good).plan is good[1]
        for _ in range(2):
            with pytest.raises(MediaError, match="gone") as raised:
                prefetcher.load(*bad)
            assert raised.value.reason == "missing"
        del files.broken["1.mp4"]
        assert prefetcher.load(*bad).plan is bad[1], "the cause has gone, and so has the error"


def test_memory_is_bounded_by_what_plans_say() -> None:
    files = Files()
    media = [medium(seed) for seed in range(6)]
    size = plan_bytes(media[0][1])
    assert size == load_frames(*media[0]).pixels.nbytes
    with Prefetcher(files.load, max_bytes=3 * size + size // 2) as prefetcher:
        prefetcher.announce(1, media[:2])
        prefetcher.announce(2, media[2:])
        until(lambda: len(files.began) == 3)
        assert prefetcher.held_bytes == 3 * size
        for item in media[2:]:
            prefetcher.load(*item)
        assert files.began == [f"{k}.mp4" for k in (0, 1, 2, 3, 4, 5)], "what found no room is read when it is needed"
        prefetcher.begin(2)
        assert prefetcher.held_bytes == size
        prefetcher.announce(2, media[2:])
        assert prefetcher.held_bytes == 3 * size
        prefetcher.begin(3)
        assert prefetcher.held_bytes == 0


def test_a_medium_of_two_steps_is_held_until_the_second() -> None:
    files = Files()
    shared, other = medium(1), medium(2)
    with Prefetcher(files.load, max_bytes=MANY) as prefetcher:
        prefetcher.announce(1, [shared, other])
        prefetcher.announce(2, [shared])
        until(lambda: len(files.began) == 2)
        prefetcher.load(*shared)
        prefetcher.begin(2)
        prefetcher.load(*shared)
        assert files.began == ["1.mp4", "2.mp4"]
        assert prefetcher.held_bytes == plan_bytes(shared[1])


def test_steps_that_are_past_are_not_loaded_any_more() -> None:
    files = Files()
    files.open.clear()
    with Prefetcher(files.load, max_bytes=MANY) as prefetcher:
        prefetcher.announce(1, [medium(1), medium(2)])
        until(lambda: files.began == ["1.mp4"])
        prefetcher.begin(2)
        prefetcher.announce(2, [medium(3)])
        files.open.set()
        prefetcher.load(*medium(3))
        assert "2.mp4" not in files.began


def test_stopping_does_not_wait_and_closing_leaves_no_thread() -> None:
    files = Files()
    files.open.clear()
    prefetcher = Prefetcher(files.load, max_bytes=MANY, workers=2)
    prefetcher.announce(1, [medium(seed) for seed in range(8)])
    until(lambda: len(files.began) == 2)
    prefetcher.stop()
    prefetcher.announce(2, [medium(20)])
    assert prefetcher.held_bytes == 0
    files.open.set()
    prefetcher.close()
    assert prefetch_threads() == [] and sorted(files.began) == ["0.mp4", "1.mp4"]
    prefetcher.announce(3, [medium(9)])
    until(lambda: "9.mp4" in files.began)
    prefetcher.close()
    prefetcher.close()
    assert prefetch_threads() == []


def test_many_threads_and_steps_get_what_they_ask_for() -> None:
    files = Files()
    media = [medium(seed, frames=2) for seed in range(12)]
    rng = np.random.default_rng(0)
    plan = [[media[i] for i in rng.integers(0, 12, 5)] for _ in range(60)]
    size = plan_bytes(media[0][1])
    faults: list[str] = []

    def step(number: int) -> None:
        for ref, wanted in plan[number]:
            frames = prefetcher.load(ref, wanted)
            if not np.array_equal(frames.pixels, load_frames(ref, wanted).pixels):
                faults.append(ref.path)

    with Prefetcher(files.load, max_bytes=7 * size, workers=3) as prefetcher:
        for number in range(60):
            prefetcher.begin(number)
            for ahead in range(number, min(number + 3, 60)):
                prefetcher.announce(ahead, plan[ahead])
            assert prefetcher.held_bytes <= 7 * size
            readers = [threading.Thread(target=step, args=(number,)) for _ in range(2)]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join()
    assert faults == []
