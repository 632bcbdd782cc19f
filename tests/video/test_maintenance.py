"""What a store holds, and how it is made smaller."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from easyvideor1 import video
from easyvideor1.types import Frames
from easyvideor1.video import FrameStore, collect_garbage, store_stats
from easyvideor1.video.maintenance import FEATURES_NAME, FEATURES_SUFFIX, FileTotal, feature_path
from easyvideor1.video.store import ABANDONED_AFTER

from .clips import plan_clip, write_clip

DAY = 86_400


def filled(tmp_path: Path, count: int = 4) -> tuple[FrameStore, list[Frames]]:
    """A store of ``count`` raw entries; the k-th was last used ``count - k`` days ago."""
    store = FrameStore(tmp_path / "store")
    kept = []
    for k in range(count):
        path = write_clip(tmp_path / f"{k}.mp4", 20 + k)
        kept.append(video.decode(path, plan_clip(path)))
        store.put(kept[-1])
        age(store, kept[-1], count - k)
    return store, kept


def age(store: FrameStore, frames: Frames, days: float) -> None:
    used = time.time() - days * DAY
    os.utime(store.path_of(frames.plan.digest), (used, used))


def test_a_survey_of_nothing(tmp_path: Path) -> None:
    found = store_stats(FrameStore(tmp_path / "store"))
    assert found.entries == found.aside == found.temporary == FileTotal(0, 0)
    assert found.oldest_use is None
    assert not (tmp_path / "store").exists()


def test_a_survey_counts_everything(tmp_path: Path) -> None:
    store, frames = filled(tmp_path, 3)
    FrameStore(store.directory, "zstd").put(frames[0])
    FrameStore(store.directory, "jpeg").put(frames[0])
    age(store, frames[0], 5)
    sizes = {file.path: file.size for file in store.files()}
    shard = store.path_of(frames[0].plan.digest).parent
    (shard / ".x.aaaaaaaa.tmp").write_bytes(b"12345")
    damaged = store.path_of(frames[2].plan.digest)
    damaged.write_bytes(damaged.read_bytes()[:100])
    found = store_stats(store)
    assert found.entries == FileTotal(4, sum(sizes.values()) - sizes[damaged] + 100)
    assert {codec: part.files for codec, part in found.by_codec.items()} == {"raw": 1, "zstd-rows": 1, "jpeg": 1}
    assert {kind: part.files for kind, part in found.by_kind.items()} == {"video": 3}
    assert found.unreadable == FileTotal(1, 100)
    assert found.temporary == FileTotal(1, 5)
    assert found.frames == sum(len(frames[k].plan.frame_indices) for k in (0, 0, 1))
    assert found.pixel_bytes == 2 * frames[0].pixels.nbytes + frames[1].pixels.nbytes
    assert found.oldest_use == pytest.approx(time.time() - 5 * DAY, abs=100)
    assert store.get(frames[2].plan) is None
    assert store_stats(store).aside == FileTotal(1, 100)


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    store, frames = filled(tmp_path)
    assert FrameStore(store.directory).get(frames[0].plan) is not None  # the oldest is used, and so the newest now
    sizes = [store.path_of(one.plan.digest).stat().st_size for one in frames]
    limit = sizes[0] + sizes[3]
    would = collect_garbage(store, limit, dry_run=True)
    assert (would.removed, would.kept) == (FileTotal(2, sizes[1] + sizes[2]), FileTotal(2, limit))
    assert len(list(store.files())) == 4
    assert collect_garbage(store, limit) == would
    assert [store.check_entry(one.plan, set_aside=False).there for one in frames] == [True, False, False, True]
    assert collect_garbage(store, limit).removed == FileTotal(0, 0)
    assert collect_garbage(store, 0).kept == FileTotal(0, 0)
    assert list(store.entries()) == []


def test_what_nobody_refers_to_goes_first(tmp_path: Path) -> None:
    store, frames = filled(tmp_path)
    wanted = {frames[0].plan.digest, frames[2].plan.digest}
    assert collect_garbage(store, referenced=wanted).removed.files == 2
    assert set(store.entries()) == wanted
    # With a limit as well, the limit is for what is left.
    last = store.path_of(frames[2].plan.digest).stat().st_size
    assert collect_garbage(store, last, referenced=wanted).removed.files == 1
    assert list(store.entries()) == [frames[2].plan.digest]


def test_an_entry_that_is_being_written_is_left(tmp_path: Path) -> None:
    store, frames = filled(tmp_path, 2)
    with FrameStore(store.directory).lock(frames[0].plan.digest, 0) as mine:
        assert mine
        report = collect_garbage(store, 0)
    assert (report.removed.files, report.busy, report.kept.files) == (1, 1, 1)
    assert store.check_entry(frames[0].plan, set_aside=False).there


def test_an_entry_that_was_used_meanwhile_is_left(tmp_path: Path) -> None:
    store, frames = filled(tmp_path, 2)

    def use(done: int, total: int) -> None:
        FrameStore(store.directory).get(frames[1].plan)

    report = collect_garbage(store, 0, on_progress=use)
    assert (report.removed.files, report.busy) == (1, 1)
    assert store.check_entry(frames[1].plan, set_aside=False).there


def test_readers_keep_what_is_removed(tmp_path: Path) -> None:
    store, frames = filled(tmp_path, 3)
    held = [FrameStore(store.directory).get(one.plan) for one in frames]
    for one in frames:
        age(store, one, 1)
    assert collect_garbage(store, 0).removed.files == 3
    for found, one in zip(held, frames, strict=True):
        assert found is not None
        np.testing.assert_array_equal(found.pixels, one.pixels)


def test_readers_and_writers_beside_it_see_whole_entries(tmp_path: Path) -> None:
    store, frames = filled(tmp_path, 3)
    stop = threading.Event()
    wrong: list[str] = []

    def use(one: Frames) -> None:
        mine = FrameStore(store.directory)
        while not stop.is_set():
            found = mine.get(one.plan)
            if found is None:
                with mine.lock(one.plan.digest, 1.0):
                    mine.put(one)
            elif not np.array_equal(found.pixels, one.pixels):
                wrong.append(one.plan.digest)

    users = [threading.Thread(target=use, args=(one,)) for one in frames]
    for user in users:
        user.start()
    try:
        removed = sum(collect_garbage(FrameStore(store.directory), 0).removed.files for _ in range(60))
    finally:
        stop.set()
        for user in users:
            user.join()
    assert removed > 0
    assert wrong == []
    assert list(store.ledger.entries()) == []


def test_what_killed_writers_left_goes(tmp_path: Path) -> None:
    store, frames = filled(tmp_path, 1)
    shard = store.path_of(frames[0].plan.digest).parent
    past = time.time() - ABANDONED_AFTER - 10
    for name in (".x.aaaaaaaa.tmp", f"{'a' * 64}.safetensors.aaaaaaaa.corrupt"):
        for old in (True, False):
            path = shard / (name.replace(".aaaaaaaa.", ".bbbbbbbb.") if old else name)
            path.write_bytes(b"123")
            if old:
                os.utime(path, (past, past))
    claims = store.directory / "claims"
    claims.mkdir()
    (claims / ("c" * 64)).touch()
    with store.lock("d" * 64, 0):
        assert collect_garbage(store, dry_run=True).leftovers == FileTotal(2, 6)
        assert collect_garbage(store).leftovers == FileTotal(2, 6)
        assert [path.name for path in claims.iterdir()] == ["d" * 64]
    assert collect_garbage(store).leftovers == FileTotal(0, 0)
    assert store.check_entry(frames[0].plan, set_aside=False).there


def keep_features(store: FrameStore, number: int, days: float) -> Path:
    """A file where those of ``cache.features`` lie; its content is the matter of another room."""
    path = feature_path(store.directory / FEATURES_NAME, f"{number:064x}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(1000))
    used = time.time() - days * DAY
    os.utime(path, (used, used))
    return path


def test_kept_features_count_and_go_by_their_use(tmp_path: Path) -> None:
    store, frames = filled(tmp_path, 2)  # used two days and one day ago
    old, new = keep_features(store, 1, 1.5), keep_features(store, 2, 0.5)
    torn = old.with_name(f".{old.name}.0123abcd.tmp{FEATURES_SUFFIX}")
    torn.write_bytes(b"123")
    os.utime(torn, (0, 0))
    assert store_stats(store).features == FileTotal(2, 2000)
    assert store_stats(store).temporary == FileTotal(1, 3)
    limit = next(file.size for file in store.files() if file.digest == frames[1].plan.digest) + 1500
    for dry_run in (True, False):
        report = collect_garbage(store, limit, dry_run=dry_run)
        assert (report.removed.files, report.kept.files) == (1, 1)
        assert (report.features_removed, report.features_kept) == (FileTotal(1, 1000), FileTotal(1, 1000))
        assert report.leftovers == FileTotal(1, 3)
    assert [store.check_entry(one.plan, set_aside=False).there for one in frames] == [False, True]
    assert (old.exists(), new.exists(), torn.exists()) == (False, True, False)
    assert collect_garbage(store, referenced=set()).features_kept == FileTotal(1, 1000)
