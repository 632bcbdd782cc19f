"""Worker processes: deadlines, memory limits, crashes, and what is left when they end."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from easyvideor1 import video
from easyvideor1.config.schema import CacheConfig, VideoBudget
from easyvideor1.types import EasyVideoError, MediaError
from easyvideor1.video import DecodePool, FrameStore, StoreError

from .clips import plan_clip, write_clip

T = TypeVar("T")


def config(**changes: object) -> CacheConfig:
    return CacheConfig.model_validate({"workers": 1, "deadline": 20.0, "memory_mb": 1024, **changes})


@pytest.fixture
def started() -> Callable[[], list[int]]:
    """The child processes of this one that were started during the test; other rooms keep some for its whole life."""
    before = set(_children())
    return lambda: [child for child in _children() if child not in before]


def test_frames_come_through_the_store(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    plan = plan_clip(path)
    store = FrameStore(tmp_path / "store")
    with DecodePool(store, config()) as pool:
        assert pool.decode(path, plan) == "built"
        assert pool.decode(path, plan) == "present"
    found = store.get(plan)
    assert found is not None
    np.testing.assert_array_equal(found.pixels, video.decode(path, plan).pixels)


def test_workers_do_not_load_torch() -> None:
    code = "import sys, easyvideor1.video.worker; print('torch' in sys.modules, 'transformers' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.split() == ["False", "False"]


def test_an_interrupted_job_leaves_no_answer_to_the_next(tmp_path: Path) -> None:
    """Ctrl-C in a notebook: the worker would answer later, to whoever asks it something else by then."""
    long = write_clip(tmp_path / "long.mp4", 400, size=(640, 360))
    short = write_clip(tmp_path / "short.mp4", 20)
    plans = [plan_clip(long), plan_clip(short)]

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    with DecodePool(FrameStore(tmp_path / "store"), config()) as pool:
        pool.pixels(short, plans[1])  # the worker is there
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.03)
                while True:
                    pool.pixels(long, plans[0])
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        np.testing.assert_array_equal(pool.pixels(short, plans[1]).pixels, video.decode(short, plans[1]).pixels)


def test_a_hang_is_killed_at_the_deadline(tmp_path: Path) -> None:
    """Opening a pipe that nobody writes blocks for ever, as a dead network mount does."""
    good = write_clip(tmp_path / "a.mp4", 20)
    plan = plan_clip(good)
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    store = FrameStore(tmp_path / "store")
    with DecodePool(store, config(deadline=1.0)) as pool:
        began = time.monotonic()
        with pytest.raises(MediaError, match=r"longer than cache\.deadline") as caught:
            pool.decode(str(pipe), plan)
        assert 1.0 <= time.monotonic() - began < 60.0
        assert (caught.value.reason, caught.value.path) == ("timeout", str(pipe))
        # The claim of the killed worker holds nobody up.
        assert pool.decode(good, plan) == "built"


def test_a_memory_bomb_is_stopped(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 60)
    bomb = plan_clip(path, VideoBudget(rule="uniform", frames=60, min_pixels=16_000_000, max_pixels=17_000_000))
    assert len(bomb.frame_indices) * bomb.height * bomb.width * 3 > 2 << 30
    store = FrameStore(tmp_path / "store")
    with DecodePool(store, config(memory_mb=400)) as pool:
        with pytest.raises(MediaError) as caught:
            pool.decode(path, bomb)
        assert caught.value.reason == "memory"
        assert pool.decode(path, plan_clip(path)) == "built"
    assert list(store.entries()) == [plan_clip(path).digest]


def test_a_crash_is_reported_and_survived(tmp_path: Path, started: Callable[[], list[int]]) -> None:
    """A worker that is killed from outside in the middle of its job."""
    good = write_clip(tmp_path / "a.mp4", 20)
    plan = plan_clip(good)
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    with DecodePool(FrameStore(tmp_path / "store"), config()) as pool:
        assert pool.decode(good, plan) == "built"
        (child,) = started()
        threading.Timer(0.5, os.kill, (child, 9)).start()
        with pytest.raises(MediaError, match="killed by SIGKILL") as caught:
            pool.decode(str(pipe), dataclasses.replace(plan, digest="c" * 64))
        assert caught.value.reason == "crash"
        assert pool.decode(good, plan) == "present"


def test_an_unexpected_error_is_a_crash_with_its_traceback(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    broken = dataclasses.replace(plan_clip(path), width=-1)
    with (
        DecodePool(FrameStore(tmp_path / "store"), config()) as pool,
        pytest.raises(MediaError, match=r"(?s)Traceback.*negative dimensions") as caught,
    ):
        pool.decode(path, broken)
    assert caught.value.reason == "crash"


def test_a_store_that_cannot_be_written_is_not_the_files_fault(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    (tmp_path / "store").write_text("a file where the directory should be")
    with DecodePool(FrameStore(tmp_path / "store"), config()) as pool, pytest.raises(StoreError, match="cannot write"):
        pool.decode(path, plan_clip(path))


def test_a_closed_pool_leaves_no_process(tmp_path: Path, started: Callable[[], list[int]]) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    pool = DecodePool(FrameStore(tmp_path / "store"), config())
    pool.decode(path, plan_clip(path))
    assert len(started()) == 1
    pool.close()
    assert started() == []
    with pytest.raises(EasyVideoError, match="closed"):
        pool.decode(path, plan_clip(path))


def test_a_cap_that_no_worker_can_keep_is_named(tmp_path: Path, started: Callable[[], list[int]]) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    with (
        DecodePool(FrameStore(tmp_path / "store"), config(memory_mb=8)) as pool,
        pytest.raises(EasyVideoError, match=r"cache\.memory_mb = 8|does not start"),
    ):
        pool.decode(path, plan_clip(path))
    assert started() == []


def test_idle_workers_end_with_the_pool_too(tmp_path: Path, started: Callable[[], list[int]]) -> None:
    paths = [write_clip(tmp_path / f"{k}.mp4", 20 + k) for k in range(2)]
    pool = DecodePool(FrameStore(tmp_path / "store"), config(workers=3))
    threads = [threading.Thread(target=pool.decode, args=(path, plan_clip(path))) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(started()) == 2
    pool.close()
    assert started() == []


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    code = (
        "import sys\n"
        "from easyvideor1 import video\n"
        "from easyvideor1.config.schema import CacheConfig\n"
        "pool = video.DecodePool(video.FrameStore(sys.argv[1]), CacheConfig(workers=1))\n"
        "pool.decode(sys.argv[2], video.plan_from_json(sys.argv[3]))\n"
    )
    arguments = [str(tmp_path / "store"), str(pipe), video.plan_to_json(plan_clip(path))]
    parent = subprocess.Popen([sys.executable, "-c", code, *arguments])
    worker = _wait(lambda: _children(parent.pid))[0]
    _wait(lambda: list((tmp_path / "store").rglob("claims/*")))
    parent.kill()
    parent.wait()
    _wait(lambda: not Path(f"/proc/{worker}").exists())


def _children(pid: int | None = None) -> list[int]:
    own = pid or os.getpid()
    return [int(c) for t in Path(f"/proc/{own}/task").iterdir() for c in (t / "children").read_text().split()]


def _wait(condition: Callable[[], T], seconds: float = 60.0) -> T:
    """The first true value of ``condition``."""
    limit = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)
    return value
