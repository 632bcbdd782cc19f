from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from benchmarks.stores import psnr
from safetensors.numpy import load_file

from easyvideor1 import video
from easyvideor1.types import Frames, Geometry
from easyvideor1.video import FrameStore, HealthLedger, StoreError
from easyvideor1.video.entry import Codec, Entry, open_entry
from easyvideor1.video.store import ABANDONED_AFTER

from .clips import BUDGET, plan_clip, write_clip


@pytest.fixture
def frames(tmp_path: Path) -> Frames:
    path = write_clip(tmp_path / "a.mp4", 20)
    return video.decode(path, plan_clip(path))


@pytest.mark.parametrize("codec", ["raw", "zstd"])
def test_what_is_put_comes_back(tmp_path: Path, frames: Frames, codec: Codec) -> None:
    store = FrameStore(tmp_path / "store", codec)
    assert not store.check_entry(frames.plan, set_aside=False).there
    assert store.get(frames.plan) is None
    store.put(frames)
    assert store.check_entry(frames.plan, set_aside=False).there
    assert list(store.entries()) == [frames.plan.digest]
    for key in (frames.plan, frames.plan.digest):
        found = FrameStore(tmp_path / "store").get(key)
        assert found is not None
        assert found.plan == frames.plan
        np.testing.assert_array_equal(found.pixels, frames.pixels)
        assert not found.pixels.flags.writeable


def test_a_nearly_exact_entry_serves_only_who_asked_for_it(tmp_path: Path, frames: Frames) -> None:
    """The rule of codecs: exact entries serve everybody, nearly exact ones a store of that codec, digests see all."""
    exact, packed, lossy = (FrameStore(tmp_path / "store", codec) for codec in ("raw", "zstd", "jpeg"))
    digest = frames.plan.digest
    lossy.put(frames)
    assert [(file.digest, file.lossy) for file in exact.files()] == [(digest, True)]
    assert not exact.check_entry(frames.plan, set_aside=False).there
    assert exact.get(frames.plan) is None
    assert not exact.touch(frames.plan)
    assert lossy.check_entry(frames.plan, set_aside=False).there
    assert lossy.touch(frames.plan)
    near = lossy.get(frames.plan)
    assert near is not None
    assert not near.pixels.flags.writeable
    assert 40 <= psnr(near.pixels, frames.pixels) < float("inf")
    by_digest = exact.get(digest)
    assert by_digest is not None
    np.testing.assert_array_equal(by_digest.pixels, near.pixels)
    packed.put(frames)
    for store in (exact, packed, lossy):
        assert store.check_entry(frames.plan, set_aside=False).there
        for key in (frames.plan, digest):
            found = store.get(key)
            assert found is not None
            np.testing.assert_array_equal(found.pixels, frames.pixels)
    assert list(exact.entries()) == [digest]
    assert [file.lossy for file in exact.files()] == [True, False]
    assert exact.verify(digest)
    path = exact.path_of(digest, lossy=True)
    path.write_bytes(path.read_bytes()[:-1])
    assert not exact.verify(digest)  # one of the two
    assert exact.verify(digest)  # which is aside now


def test_a_lossy_entry_under_an_exact_name_is_refused(tmp_path: Path, frames: Frames) -> None:
    store = FrameStore(tmp_path / "store", "jpeg")
    store.put(frames)
    digest = frames.plan.digest
    store.path_of(digest, lossy=True).rename(store.path_of(digest))
    assert FrameStore(tmp_path / "store").get(frames.plan) is None
    assert "packed as jpeg" in next(iter(store.ledger.entries())).detail


@pytest.mark.parametrize("codec", ["raw", "zstd", "jpeg"])
def test_what_was_read_lately_is_shared(tmp_path: Path, frames: Frames, codec: Codec) -> None:
    store = FrameStore(tmp_path / "store", codec, keep_bytes=1 << 20, threads=2)
    store.put(frames)
    first, second = store.get(frames.plan), store.get(frames.plan)
    assert first is not None
    assert second is not None
    assert first.pixels is second.pixels
    store.put(frames)  # another file: what was read is of the old one
    third = store.get(frames.plan)
    assert third is not None
    assert third.pixels is not first.pixels
    path = next(store.files()).path
    path.write_bytes(path.read_bytes()[:-1])
    assert store.get(frames.plan) is None
    store.put(frames)
    assert store.get(frames.plan) is not None
    next(store.files()).path.unlink()
    assert store.get(frames.plan) is None


def test_an_entry_that_is_removed_stays_with_its_readers(tmp_path: Path, frames: Frames) -> None:
    store = FrameStore(tmp_path / "store")
    store.put(frames)
    found = store.get(frames.plan)
    assert found is not None
    store.path_of(frames.plan.digest).unlink()
    assert store.get(frames.plan) is None
    np.testing.assert_array_equal(found.pixels, frames.pixels)


def test_a_use_is_recorded_once_an_hour(tmp_path: Path, frames: Frames) -> None:
    store = FrameStore(tmp_path / "store")
    store.put(frames)
    path = store.path_of(frames.plan.digest)
    changed = path.stat().st_mtime_ns - 10 * 3600 * 10**9
    for hours, noted in ((3, True), (0.5, False)):
        used = int((time.time() - hours * 3600) * 1e9)
        os.utime(path, ns=(used, changed))
        for read in (store.get, FrameStore(tmp_path / "store").touch):
            assert read(frames.plan)
        assert (path.stat().st_atime_ns != used) == noted
        assert path.stat().st_mtime_ns == changed  # the version that was verified is still the same
    os.utime(path, ns=(changed, changed))
    assert store.verify(frames.plan.digest)
    assert next(store.files()).used == pytest.approx(changed / 1e9)


def test_reading_needs_no_right_to_note_it(tmp_path: Path, frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FrameStore(tmp_path / "store")
    store.put(frames)
    path = store.path_of(frames.plan.digest)
    os.utime(path, (1, 1))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    assert store.get(frames.plan) is not None
    assert store.touch(frames.plan)


def test_a_store_that_is_a_file_is_told(tmp_path: Path, frames: Frames) -> None:
    (tmp_path / "store").write_text("not a directory")
    store = FrameStore(tmp_path / "store")
    assert not store.check_entry(frames.plan, set_aside=False).there
    assert not store.touch(frames.plan)
    with pytest.raises(StoreError, match="cannot read"):
        store.get(frames.plan)
    with pytest.raises(StoreError, match="cannot write"):
        store.put(frames)
    with pytest.raises(StoreError, match="cannot write"), store.lock(frames.plan.digest, 0):
        pass


def test_raw_is_mapped_and_not_copied(tmp_path: Path, frames: Frames) -> None:
    store = FrameStore(tmp_path / "store")
    store.put(frames)
    found = store.get(frames.plan)
    assert found is not None
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    assert str(store.path_of(frames.plan.digest)) in maps.read_text()
    assert found.pixels.ctypes.data % 64 == 0


def test_any_safetensors_reader_can_open_it(tmp_path: Path, frames: Frames) -> None:
    raw, packed = FrameStore(tmp_path / "raw"), FrameStore(tmp_path / "zstd", "zstd")
    for store in (raw, packed):
        store.put(frames)
    np.testing.assert_array_equal(load_file(raw.path_of(frames.plan.digest))["pixels"], frames.pixels)
    tensors = load_file(packed.path_of(frames.plan.digest))
    assert tensors["offsets"][-1] == tensors["blobs"].size
    assert tensors["blobs"].size < frames.pixels.nbytes


def test_the_asked_plan_is_the_one_given(tmp_path: Path, frames: Frames) -> None:
    """Two geometries can share pixels; each sees its own grid."""
    store = FrameStore(tmp_path / "store")
    store.put(frames)
    path = str(tmp_path / "a.mp4")
    other = video.plan(video.probe(path), BUDGET, Geometry(8, 4, 2))
    assert other.digest == frames.plan.digest
    found = store.get(other)
    assert found is not None
    assert found.plan.grid == other.grid != frames.plan.grid


@pytest.mark.parametrize("codec", ["raw", "zstd", "jpeg"])
def test_any_flipped_byte_is_detected(tmp_path: Path, frames: Frames, codec: Codec) -> None:
    store = FrameStore(tmp_path / "store", codec)
    store.put(frames)
    path = store.path_of(frames.plan.digest, lossy=codec == "jpeg")
    good = path.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    places = {*range(0, header, 7), *range(8), header - 1, header, len(good) - 1}
    places |= set(random.Random(0).sample(range(header, len(good)), 30))
    for place in places:
        damaged = bytearray(good)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        assert FrameStore(store.directory, codec).get(frames.plan) is None, f"byte {place} of {len(good)}"
        assert not path.exists()
    assert len(list(path.parent.glob("*.corrupt"))) == len(places)
    entries = list(store.ledger.entries())
    assert [entry.reason for entry in entries] == ["corrupt_entry"] * len(places)
    assert entries[0].path == str(path)


def test_cut_entries_are_detected(tmp_path: Path, frames: Frames) -> None:
    store = FrameStore(tmp_path / "store")
    store.put(frames)
    path = store.path_of(frames.plan.digest)
    good = path.read_bytes()
    for length in (0, 5, 8, 100, 1000, len(good) - 1):
        path.write_bytes(good[:length])
        assert store.get(frames.plan) is None, length
    path.write_bytes(good + b"\0")
    assert store.get(frames.plan) is None
    store.put(frames)
    assert store.get(frames.plan) is not None


def test_an_entry_under_a_wrong_name_is_refused(tmp_path: Path, frames: Frames) -> None:
    store = FrameStore(tmp_path / "store")
    store.put(frames)
    other = store.path_of("0" * 64)
    other.parent.mkdir()
    store.path_of(frames.plan.digest).rename(other)
    assert store.get("0" * 64) is None


def test_verified_once_and_verify_again(tmp_path: Path, frames: Frames) -> None:
    store = FrameStore(tmp_path / "store")
    store.put(frames)
    digest = frames.plan.digest
    assert store.verify(digest)
    path = store.path_of(digest)
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert store.get(digest) is not None  # the same file version, as far as the system tells
    assert not store.verify(digest)
    assert digest not in store.entries()


def test_pixels_must_be_those_of_the_plan(tmp_path: Path, frames: Frames) -> None:
    store = FrameStore(tmp_path / "store")
    with pytest.raises(ValueError, match="their plan says"):
        store.put(Frames(pixels=frames.pixels[:1], plan=frames.plan))
    assert list((tmp_path / "store").rglob("*.tmp")) == []


def test_a_digest_is_no_path(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a plan digest"):
        FrameStore(tmp_path).get("../../etc/passwd")


def test_a_failing_disk_leaves_nothing(tmp_path: Path, frames: Frames) -> None:
    """A file size limit makes the write fail in the middle, as a full disk does."""
    code = (
        "import resource, signal, sys\n"
        "from easyvideor1 import video\n"
        "from easyvideor1.types import Frames\n"
        "store = video.FrameStore(sys.argv[1])\n"
        "frames = store.get(sys.argv[2])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "try:\n"
        "    video.FrameStore(sys.argv[3]).put(frames)\n"
        "except video.StoreError as error:\n"
        "    print(error)\n"
    )
    assert frames.pixels.nbytes > 20_000
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    FrameStore(tmp_path / "good").put(frames)
    arguments = [str(tmp_path / "good"), frames.plan.digest, str(tmp_path / "full")]
    said = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True).stdout
    assert "cannot write" in said
    assert [path for path in (tmp_path / "full").rglob("*") if path.is_file()] == []


def test_writers_of_one_entry_never_show_half_of_it(tmp_path: Path, frames: Frames) -> None:
    stop = threading.Event()

    def write(codec: Codec) -> None:
        while not stop.is_set():
            FrameStore(tmp_path / "store", codec).put(frames)

    store = FrameStore(tmp_path / "store")
    store.put(frames)
    writers = [threading.Thread(target=write, args=(codec,)) for codec in ("raw", "zstd")]
    for writer in writers:
        writer.start()
    try:
        for _ in range(60):
            found = FrameStore(store.directory).get(frames.plan)
            assert found is not None
            np.testing.assert_array_equal(found.pixels, frames.pixels)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert list(store.ledger.entries()) == []
    assert len([path for path in (tmp_path / "store").rglob("*") if path.is_file()]) == 1


def test_claims_exclude_and_end(tmp_path: Path) -> None:
    store, digest = FrameStore(tmp_path), "a" * 64
    with store.lock(digest, 0.0) as mine:
        assert mine
        with FrameStore(tmp_path).lock(digest, 0.05) as theirs:
            assert not theirs
        with store.lock("b" * 64, 0.0) as other:
            assert other
    with store.lock(digest, 0.0) as again:
        assert again
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_claim_dies_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from easyvideor1.video import FrameStore\n"
        "with FrameStore(sys.argv[1]).lock('a' * 64, 0) as mine:\n"
        "    print(mine, flush=True)\n"
        "    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    store = FrameStore(tmp_path)
    with store.lock("a" * 64, 0.05) as mine:
        assert not mine
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with store.lock("a" * 64, 0.0) as mine:
        assert mine


def test_sweep_removes_what_killed_writers_left(tmp_path: Path, frames: Frames) -> None:
    store = FrameStore(tmp_path / "store")
    store.put(frames)
    directory = store.path_of(frames.plan.digest).parent
    old, new = directory / ".x.1.aa.tmp", directory / ".x.1.bb.tmp"
    old.touch()
    new.touch()
    past = time.time() - ABANDONED_AFTER - 10
    os.utime(old, (past, past))
    assert store.sweep() == 1
    assert not old.exists()
    assert new.exists()
    assert store.check_entry(frames.plan, set_aside=False).there


def damaged(store: FrameStore, frames: Frames) -> Path:
    store.put(frames)
    path = store.path_of(frames.plan.digest)
    path.write_bytes(path.read_bytes()[:-1])
    return path


def test_damage_in_a_shared_store_that_is_read_only_is_told(
    tmp_path: Path, frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FrameStore(tmp_path / "store")
    path = damaged(store, frames)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)  # the superuser, who may run this, is refused nothing
    with pytest.raises(StoreError, match=r"is damaged .* cannot be set aside: .*Permission denied") as caught:
        store.get(frames.plan)
    assert str(path) in str(caught.value)


def test_a_ledger_that_cannot_be_written_is_told(tmp_path: Path, frames: Frames) -> None:
    (tmp_path / "file").touch()
    store = FrameStore(tmp_path / "store", ledger=HealthLedger(tmp_path / "file" / "health.jsonl"))
    path = damaged(store, frames)
    with pytest.raises(StoreError, match=r"health\.jsonl cannot be written"):
        store.get(frames.plan)
    assert not path.exists()
    assert store.get(frames.plan) is None


def test_the_mapped_file_is_the_one_that_is_trusted(
    tmp_path: Path, frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that is replaced between opening and checking: the new file was never looked at."""
    store = FrameStore(tmp_path / "store")
    store.put(frames)
    path = store.path_of(frames.plan.digest)
    bad = bytearray(path.read_bytes())
    bad[-1] ^= 1

    def open_then_replace(target: Path) -> Entry:
        entry = open_entry(target)
        other = target.with_suffix(".other")
        other.write_bytes(bad)
        other.replace(target)
        return entry

    with monkeypatch.context() as patch:
        patch.setattr("easyvideor1.video.store.open_entry", open_then_replace)
        assert store.get(frames.plan) is not None
    assert store.get(frames.plan) is None
