from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from easyvideor1 import video
from easyvideor1.config.schema import CacheConfig
from easyvideor1.types import MediaRef
from easyvideor1.video import BuildProgress, DecodePool, FrameStore, HealthLedger, StoreError
from easyvideor1.video.entry import Codec

from .builders import assert_complete, clips, start_builder
from .clips import plan_clip, write_audio, write_clip

CONFIG = CacheConfig(workers=2, deadline=20.0, memory_mb=1024)


def test_everything_is_built_and_bad_files_are_named(tmp_path: Path) -> None:
    items = clips(tmp_path, 4)
    copy = str(tmp_path / "copy.mp4")
    shutil.copy(items[0][0].path, copy)
    items.append((MediaRef("video", copy), plan_clip(copy)))  # the same content: one entry
    absent = str(tmp_path / "absent.mp4")
    shutil.copy(write_clip(tmp_path / "x.mp4", 30), absent)
    items.insert(1, (MediaRef("video", absent), plan_clip(absent)))
    Path(absent).unlink()
    pipe = str(tmp_path / "pipe.mp4")
    os.mkfifo(pipe)
    items.append((MediaRef("video", pipe), plan_clip(write_clip(tmp_path / "y.mp4", 31))))
    replaced = write_clip(tmp_path / "z.mp4", 32)
    items.append((MediaRef("video", replaced), plan_clip(replaced)))
    write_audio(tmp_path / "z.m4a")
    (tmp_path / "z.m4a").replace(replaced)

    store, ledger = FrameStore(tmp_path / "store"), HealthLedger(tmp_path / "health.jsonl")
    seen: list[tuple[int, int]] = []
    config = CONFIG.model_copy(update={"deadline": 1.5})
    report = video.build(items, store, ledger, config, lambda build: seen.append((build.done, build.total)))

    assert (report.built, report.present, report.failed) == (4, 0, 3)
    assert report.failures == ((absent, "missing"), (pipe, "timeout"), (replaced, "changed"))
    assert {(entry.path, entry.reason) for entry in ledger.entries()} == set(report.failures)
    of = {ref.path: plan.digest for ref, plan in items}
    assert report.failed_digests == {of[absent]: "missing", of[pipe]: "timeout", of[replaced]: "changed"}
    assert seen == [(k, 7) for k in range(1, 8)]
    assert_complete(items[:1] + items[2:5], tmp_path / "store")


def test_building_again_decodes_nothing(tmp_path: Path) -> None:
    items = clips(tmp_path, 3)
    store, ledger = FrameStore(tmp_path / "store"), HealthLedger(tmp_path / "health.jsonl")
    video.build(items[:2], store, ledger, CONFIG)
    for ref, _ in items[:2]:
        Path(ref.path).unlink()
    report = video.build(items, store, ledger, CONFIG)
    assert (report.built, report.present, report.failed, report.failures) == (1, 2, 0, ())


@pytest.mark.parametrize("codec", ["raw", "zstd", "jpeg"])
def test_what_is_cut_off_is_never_present(tmp_path: Path, codec: Codec) -> None:
    items = clips(tmp_path, 3)
    store, ledger = FrameStore(tmp_path / "store", codec), HealthLedger(tmp_path / "health.jsonl")
    video.build(items, store, ledger, CONFIG.model_copy(update={"codec": codec}))
    first, second, third = (file.path for file in store.files())
    for path in (first, second):
        path.write_bytes(path.read_bytes()[:-1])
    looked = video.check_cached(items, store)
    assert (looked.present, looked.failed) == (1, 2)
    assert [path for path, _ in looked.damaged] == [str(first), str(second)] and first.exists()
    lost = next(ref.path for ref, plan in items if second.name.startswith(plan.digest))
    Path(lost).unlink()
    report = video.build(items, store, ledger, CONFIG)
    assert (report.built, report.present, report.failed) == (1, 1, 1)
    assert report.failures == ((lost, "missing"),)
    assert [path for path, _ in report.damaged] == [str(first), str(second)]
    assert [entry.reason for entry in store.ledger.entries()] == ["corrupt_entry"] * 2
    content = bytearray(third.read_bytes())
    content[-1] ^= 1
    third.write_bytes(content)
    assert video.build(items, store, ledger, CONFIG).present == 2
    again = video.build(items, store, ledger, CONFIG, checksums=True)
    assert (again.built, again.present) == (1, 1)
    assert [path for path, _ in again.damaged] == [str(third)]


def test_progress_tells_what_became_of_each(tmp_path: Path) -> None:
    items = clips(tmp_path, 3)
    store, ledger = FrameStore(tmp_path / "store"), HealthLedger(tmp_path / "health.jsonl")
    video.build(items[:1], store, ledger, CONFIG)
    Path(items[2][0].path).unlink()
    seen: list[BuildProgress] = []
    video.build(items, store, ledger, CONFIG, on_progress=seen.append)
    assert seen[0] == BuildProgress(3, present=1)
    assert seen[-1] == BuildProgress(3, built=1, present=1, failed=1)
    assert [progress.done for progress in seen] == [1, 2, 3]


def test_a_pool_may_be_shared(tmp_path: Path) -> None:
    items = clips(tmp_path, 2)
    store, ledger = FrameStore(tmp_path / "store"), HealthLedger(tmp_path / "health.jsonl")
    with DecodePool(store, CONFIG) as pool:
        assert video.build(items, store, ledger, CONFIG, pool=pool).built == 2
        assert not pool.closed
        assert pool.probe(items[0][0].path) == video.probe(items[0][0].path)


def test_looking_up_decodes_nothing(tmp_path: Path) -> None:
    items = clips(tmp_path, 3)
    store = FrameStore(tmp_path / "store")
    video.build(items[:1], store, HealthLedger(tmp_path / "health.jsonl"), CONFIG)
    report = video.check_cached([*items, items[1]], store)
    assert (report.built, report.present, report.failed) == (0, 1, 2)
    assert report.failures == tuple((ref.path, "not_cached") for ref, _ in items[1:])
    assert dict(report.failed_digests) == {plan.digest: "not_cached" for _, plan in items[1:]}


def test_what_was_found_counts_as_used(tmp_path: Path) -> None:
    items = clips(tmp_path, 1)
    store, ledger = FrameStore(tmp_path / "store"), HealthLedger(tmp_path / "health.jsonl")
    video.build(items, store, ledger, CONFIG)
    os.utime(next(store.files()).path, (1, 1))
    assert video.build(items, store, ledger, CONFIG).present == 1
    assert next(store.files()).used > time.time() - 60


def test_nothing_to_build(tmp_path: Path) -> None:
    report = video.build([], FrameStore(tmp_path / "store"), HealthLedger(tmp_path / "health.jsonl"), CONFIG)
    assert (report.built, report.present, report.failed) == (0, 0, 0)


def test_a_store_that_cannot_be_written_ends_the_build(tmp_path: Path) -> None:
    items = clips(tmp_path, 3)
    (tmp_path / "store").write_text("a file where the directory should be")
    with pytest.raises(StoreError, match="cannot write"):
        video.build(items, FrameStore(tmp_path / "store"), HealthLedger(tmp_path / "health.jsonl"), CONFIG)


def test_a_killed_builder_leaves_only_whole_entries(tmp_path: Path) -> None:
    items = clips(tmp_path, 12)
    directory = tmp_path / "store"
    for kill_after in (1, 4):
        builder = start_builder(items, directory, tmp_path / "items.json")
        assert builder.stdout is not None
        for _ in range(kill_after):
            builder.stdout.readline()
        time.sleep(0.003 * kill_after)
        builder.send_signal(signal.SIGKILL)
        builder.wait()
        builder.stdout.close()
        store = FrameStore(directory)
        kept = list(store.entries())
        assert len(kept) >= 1
        assert all(store.verify(digest) for digest in kept)
    report = video.build(items, FrameStore(directory), HealthLedger(tmp_path / "health.jsonl"), CONFIG)
    assert report.present >= 4
    assert report.built + report.present == 12
    assert_complete(items, directory)
    assert list(directory.rglob("*.corrupt")) == []


def test_an_interrupt_ends_a_build_at_once(tmp_path: Path) -> None:
    items = clips(tmp_path, 2)
    pipe = str(tmp_path / "pipe.mp4")
    os.mkfifo(pipe)
    items.append((MediaRef("video", pipe), plan_clip(write_clip(tmp_path / "x.mp4", 30))))
    builder = start_builder(items, tmp_path / "store", tmp_path / "items.json")
    assert builder.stdout is not None
    assert [builder.stdout.readline() for _ in range(2)] == ["1 3\n", "2 3\n"]
    builder.send_signal(signal.SIGINT)  # while the third hangs; the deadline is minutes away
    assert builder.wait(timeout=300) != 0
    builder.stdout.close()
    assert sum(1 for _ in FrameStore(tmp_path / "store").entries()) == 2


def test_two_builders_do_the_work_once(tmp_path: Path) -> None:
    items = clips(tmp_path, 8)
    directory = tmp_path / "store"
    builders = [start_builder(items, directory, tmp_path / f"items{k}.json") for k in range(2)]
    results = [json.loads(builder.communicate(timeout=300)[0].splitlines()[-1]) for builder in builders]
    assert [sum(result) for result in results] == [8, 8]
    assert sum(result[0] for result in results) == 8  # every plan was built by one of them alone
    assert all(result[2] == 0 for result in results)
    assert_complete(items, directory)
    assert list(directory.rglob("*.tmp")) == []


def test_copies_of_a_bad_file_are_all_named(tmp_path: Path) -> None:
    """A clip that ends its decoder, of a file that is there twice; another clip of it is well."""
    path = tmp_path / "a.mkv"
    write_clip(path, 20)
    good = plan_clip(str(path))
    bad = dataclasses.replace(good, width=-1, digest="e" * 64)
    copy = tmp_path / "b.mkv"
    shutil.copy(path, copy)
    items = [(MediaRef("video", str(p)), plan) for p in (path, copy) for plan in (good, bad, bad)]
    ledger = HealthLedger(tmp_path / "health.jsonl")
    report = video.build(items, FrameStore(tmp_path / "store"), ledger, CONFIG)
    assert report.failed_digests == {"e" * 64: "crash"}
    assert report.failures == ((str(path), "crash"), (str(copy), "crash"))
    assert (report.built, report.present, report.failed) == (1, 0, 1)
    assert len(list(ledger.entries())) == 1  # what lies in the content is not tried again


def test_a_lost_file_is_taken_from_its_copy(tmp_path: Path) -> None:
    path, copy = write_clip(tmp_path / "a.mkv", 20), str(tmp_path / "b.mkv")
    plan = plan_clip(path)
    Path(path).rename(copy)
    items = [(MediaRef("video", place), plan) for place in (path, copy)]
    ledger = HealthLedger(tmp_path / "health.jsonl")
    report = video.build(items, FrameStore(tmp_path / "store"), ledger, CONFIG)
    assert (report.built, report.failures, dict(report.failed_digests)) == (1, (), {})
    assert [(entry.path, entry.reason) for entry in ledger.entries()] == [(path, "missing")]
