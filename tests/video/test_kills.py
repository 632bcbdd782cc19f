"""Builders that are killed at random moments: what is there afterwards is whole, and the work goes on."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from easyvideor1 import video
from easyvideor1.config.schema import CacheConfig
from easyvideor1.video import FrameStore, HealthLedger
from easyvideor1.video.entry import Codec

from .builders import Items, assert_complete, clips, start_builder


def kill_builders(tmp_path: Path, kills: int, codec: Codec, seed: int) -> int:
    """Kill ``kills`` builders with their workers; every time verify every entry. Returns the entries that were seen."""
    items = clips(tmp_path, 6, size=(256, 256))
    directory = tmp_path / "store"
    moments = random.Random(seed)
    span = _seconds_of_a_build(items, tmp_path, codec)
    seen = 0
    for kill in range(kills):
        builder = start_builder(items, directory, tmp_path / "items.json", codec)
        if kill % 2:  # any moment; else one while entries are being written
            time.sleep(moments.uniform(0.0, span))
        else:
            assert builder.stdout is not None
            builder.stdout.readline()
            time.sleep(moments.uniform(0.0, 0.1))
        _kill_with_children(builder.pid)
        builder.wait()
        assert builder.stdout is not None
        builder.stdout.close()
        store = FrameStore(directory, codec)
        kept = list(store.entries())
        assert all(store.verify(digest) for digest in kept)
        seen += len(kept)
        if len(kept) == len(items):  # begin anew, so that later kills hit writers as well
            for file in store.files():
                file.path.unlink()
    report = video.build(
        items, FrameStore(directory, codec), HealthLedger(tmp_path / "h.jsonl"), CacheConfig(workers=1)
    )
    assert report.failed == 0
    assert report.built + report.present == len(items)
    if codec != "jpeg":
        assert_complete(items, directory)
    assert all(FrameStore(directory, codec).get(plan) is not None for _, plan in items)
    assert list(directory.rglob("*.corrupt")) == []
    return seen


def _seconds_of_a_build(items: Items, tmp_path: Path, codec: Codec) -> float:
    begun = time.monotonic()
    builder = start_builder(items, tmp_path / "measured", tmp_path / "items.json", codec)
    builder.communicate()
    return time.monotonic() - begun


def _kill_with_children(pid: int) -> None:
    """At one blow: a builder's workers would else end a moment later, in an orderly way."""
    tasks = Path(f"/proc/{pid}/task")
    children: list[int] = []
    for task in tasks.iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends while its children are listed
            children += [int(child) for child in (task / "children").read_text().split()]
    for victim in (*children, pid):
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)


@pytest.mark.parametrize(("codec", "kills"), [("raw", 6), ("zstd", 4)])
def test_killed_builders_leave_only_whole_entries(tmp_path: Path, codec: Codec, kills: int) -> None:
    kill_builders(tmp_path, kills, codec, seed=kills)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("codec", ["raw", "zstd", "jpeg"])
def test_two_hundred_kills(tmp_path: Path, codec: Codec) -> None:
    assert kill_builders(tmp_path, 200 if codec == "raw" else 50, codec, seed=0) > 0
