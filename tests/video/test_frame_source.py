"""Frames and descriptions come from the store and the caches, or from guarded workers."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from easyvideor1 import video
from easyvideor1.config.schema import CacheConfig, ImageBudget
from easyvideor1.types import Frames, MediaError, MediaPlan, MediaRef
from easyvideor1.video import DecodePool, FrameSource, FrameStore, HealthLedger
from easyvideor1.video.frame_source import AHEAD_PER_WORKER
from easyvideor1.video.media_files import media_version

from .clips import GEOMETRY, picture, plan_clip, write_audio, write_clip


def make(tmp_path: Path, **changes: object) -> tuple[FrameSource, FrameStore, HealthLedger]:
    store, ledger = FrameStore(tmp_path / "store"), HealthLedger(tmp_path / "health.jsonl")
    settings = {"workers": 2, "deadline": 20.0, "memory_mb": 1024, **changes}
    return FrameSource(store, ledger, CacheConfig.model_validate(settings)), store, ledger


def test_a_miss_is_decoded_and_kept(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    plan = plan_clip(path)
    source, store, _ = make(tmp_path)
    with source:
        frames = source.load(MediaRef("video", path), plan)
    np.testing.assert_array_equal(frames.pixels, video.decode(path, plan).pixels)
    assert store.check_entry(plan, set_aside=False).there
    Path(path).unlink()
    again = source.load(MediaRef("video", path), plan)
    np.testing.assert_array_equal(again.pixels, frames.pixels)


def test_images_too(tmp_path: Path) -> None:
    from PIL import Image

    path = str(tmp_path / "a.png")
    Image.fromarray(picture(3)).save(path)
    plan = video.plan(video.probe(path), ImageBudget(min_pixels=1024), GEOMETRY)
    source, _, _ = make(tmp_path)
    with source:
        np.testing.assert_array_equal(source.load(MediaRef("image", path), plan).pixels[0], picture(3))


def test_a_damaged_entry_is_rebuilt(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    plan = plan_clip(path)
    source, store, _ = make(tmp_path)
    with source:
        first = source.load(MediaRef("video", path), plan).pixels.copy()
        entry = store.path_of(plan.digest)
        entry.write_bytes(entry.read_bytes()[:-7])
        np.testing.assert_array_equal(source.load(MediaRef("video", path), plan).pixels, first)
    assert [item.reason for item in store.ledger.entries()] == ["corrupt_entry"]


def test_only_the_cache_when_asked_so(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    source, store, ledger = make(tmp_path, mode="cache_only")
    with pytest.raises(MediaError, match=r"cache\.mode=prefer_cache") as caught:
        source.load(MediaRef("video", path), plan_clip(path))
    assert caught.value.reason == "not_cached"
    assert list(ledger.entries()) == []
    store.put(video.decode(path, plan_clip(path)))
    assert source.load(MediaRef("video", path), plan_clip(path)).plan == plan_clip(path)


def test_a_hanging_file_costs_its_deadline_once(tmp_path: Path) -> None:
    plan = plan_clip(write_clip(tmp_path / "a.mp4", 20))
    pipe = str(tmp_path / "pipe.mp4")
    os.mkfifo(pipe)
    source, _, ledger = make(tmp_path, deadline=1.0)
    with source:
        with pytest.raises(MediaError) as first:
            source.load(MediaRef("video", pipe), plan)
        with pytest.raises(MediaError) as second:
            source.load(MediaRef("video", pipe), plan)
    assert first.value.reason == second.value.reason == "timeout"
    assert [(item.path, item.reason, item.action) for item in ledger.entries()] == [(pipe, "timeout", "refused")]


def test_a_file_that_fails_is_tried_again_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that evaluates a hundred times must not wait for a hanging file a hundred times."""
    path = write_clip(tmp_path / "a.mp4", 20)
    ref, plan = MediaRef("video", path), plan_clip(path)
    tried: list[str] = []

    def slow(self: DecodePool, path: str, *_: object) -> None:
        tried.append(path)
        raise MediaError(f"{path} took longer", path=path, reason="timeout")

    monkeypatch.setattr(DecodePool, "decode", slow)
    monkeypatch.setattr(DecodePool, "probe", slow)
    source, _, _ = make(tmp_path, deadline=1.0)
    for ask in (lambda: source.load(ref, plan), lambda: source.probe(path)):
        counts = []
        tried.clear()
        for _ in range(4):
            for _ in range(2):
                with pytest.raises(MediaError, match="longer"):
                    ask()
            counts.append(len(tried))
            source.try_again()
        assert counts == [1, 2, 2, 2]


def test_many_threads_share_the_workers(tmp_path: Path) -> None:
    paths = [write_clip(tmp_path / f"{k}.mp4", 12 + k) for k in range(4)]
    source, _, _ = make(tmp_path)
    found: dict[int, Frames] = {}

    def load(k: int) -> None:
        path = paths[k % 4]
        found[k] = source.load(MediaRef("video", path), plan_clip(path))

    with source:
        threads = [threading.Thread(target=load, args=(k,)) for k in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 8
    for k, frames in found.items():
        np.testing.assert_array_equal(frames.pixels, video.decode(paths[k % 4], frames.plan).pixels)


def test_decoding_only_leaves_the_store_alone(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    plan = plan_clip(path)
    expected = video.decode(path, plan).pixels
    source, store, _ = make(tmp_path, mode="decode_only", codec="jpeg")
    with source:
        first = source.load(MediaRef("video", path), plan)
        assert source.load(MediaRef("video", path), plan).pixels is first.pixels  # decoded once
    np.testing.assert_array_equal(first.pixels, expected)
    assert not first.pixels.flags.writeable
    assert list(store.entries()) == []
    store.put(Frames(np.zeros_like(expected), plan))  # nor does it believe what is there
    source, _, _ = make(tmp_path, mode="decode_only", keep_mb=0)
    with source:
        first, second = (source.load(MediaRef("video", path), plan) for _ in range(2))
    np.testing.assert_array_equal(second.pixels, expected)
    assert first.pixels is not second.pixels


def test_decoding_only_names_bad_files_and_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)
    path = write_clip(tmp_path / "a.mp4", 20)
    plan = plan_clip(path)
    pipe = str(tmp_path / "pipe.mp4")
    os.mkfifo(pipe)
    source, _, ledger = make(tmp_path, mode="decode_only", deadline=1.0)
    with source:
        for _ in range(2):
            with pytest.raises(MediaError) as caught:
                source.load(MediaRef("video", pipe), plan)
            assert caught.value.reason == "timeout"
        other = plan_clip(write_clip(tmp_path / "b.mp4", 21))
        assert source.load(MediaRef("video", str(tmp_path / "b.mp4")), other).plan == other
        assert list(scratch.iterdir()) == []
    assert [(item.path, item.reason) for item in ledger.entries()] == [(pipe, "timeout")]


def test_an_entry_that_goes_as_soon_as_it_is_there_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``evr1 cache gc`` with a small limit beside a run."""
    path = write_clip(tmp_path / "a.mp4", 20)
    plan = plan_clip(path)
    source, store, _ = make(tmp_path)
    with source:
        real, lost = source.pool.decode, []

        def lose_once(path: str, plan: MediaPlan) -> object:
            outcome = real(path, plan)
            if not lost:
                store.path_of(plan.digest).unlink()
                lost.append(plan.digest)
            return outcome

        monkeypatch.setattr(source.pool, "decode", lose_once)
        assert source.load(MediaRef("video", path), plan).plan == plan
    assert lost


def test_what_hung_is_left_alone_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred files that hang would cost every start of a training run a hundred deadlines."""
    path = write_clip(tmp_path / "a.mp4", 20)
    ref, plan = MediaRef("video", path), plan_clip(path)
    tried: list[str] = []

    def slow(self: DecodePool, path: str, *_: object) -> None:
        tried.append(path)
        raise MediaError(f"{path} took longer", path=path, reason="timeout")

    with monkeypatch.context() as patched:
        patched.setattr(DecodePool, "decode", slow)
        patched.setattr(DecodePool, "probe", slow)
        for start in range(3):
            source, store, ledger = make(tmp_path, deadline=1.0)
            with source:
                for ask in (lambda: source.load(ref, plan), lambda: source.probe(path)):  # noqa: B023
                    with pytest.raises(MediaError, match="longer") as caught:
                        ask()
                    assert caught.value.reason == "timeout"
            assert len(tried) == len(list(ledger.entries())) == 2, start
    report = video.build([(ref, plan)], store, ledger, CacheConfig(deadline=1.0), timed_out=ledger.timed_out(1.0))
    assert (report.failed, report.failed_digests, len(list(ledger.entries()))) == (1, {plan.digest: "timeout"}, 2)
    longer, _, _ = make(tmp_path, deadline=20.0)
    again = FrameSource(store, ledger, CacheConfig(deadline=1.0), retry_timeouts=True)
    with longer, again:
        assert longer.probe(path).frame_count == again.probe(path).frame_count == 20
        assert again.load(ref, plan).plan == plan
    source, _, _ = make(tmp_path, deadline=1.0)  # what the build got in the end is there for everybody
    with source:
        assert source.load(ref, plan).plan == plan


def test_a_file_that_replaces_one_that_hung_is_tried(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    _, _, ledger = make(tmp_path)
    error = MediaError(f"{path} took longer", path=path, reason="timeout")
    ledger.record_error(error, "left out", ":".join(map(str, media_version(path))), 20.0)
    source, _, _ = make(tmp_path)
    with source, pytest.raises(MediaError, match="is skipped"):
        source.probe(path)
    write_clip(tmp_path / "a.mp4", 30)
    with source:
        assert source.probe(path).frame_count == 30


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that were sent to a worker."""
    asked: list[str] = []
    real = DecodePool.probe

    def note(self: DecodePool, path: str) -> object:
        asked.append(path)
        return real(self, path)

    monkeypatch.setattr(DecodePool, "probe", note)
    return asked


def make_prober(tmp_path: Path, **changes: object) -> tuple[FrameSource, HealthLedger]:
    ledger = HealthLedger(tmp_path / "health.jsonl")
    settings = {"workers": 2, "deadline": 20.0, "memory_mb": 1024, **changes}
    return FrameSource(FrameStore(tmp_path / "store"), ledger, CacheConfig.model_validate(settings)), ledger


def past(path: str) -> str:
    """A file that was written long ago: only those are remembered from one process to the next."""
    os.utime(path, (1_700_000_000.5, 1_700_000_000.5))
    return path


def test_the_workers_say_what_probing_says(tmp_path: Path, probed: list[str]) -> None:
    paths = [past(write_clip(tmp_path / f"{k}.mp4", 12 + k)) for k in range(3)]
    source, ledger = make_prober(tmp_path)
    with source:
        source.probe_ahead([*paths, paths[0]])
        for path in (*paths, *paths):
            assert source.probe(path) == video.probe(path)
    assert sorted(probed) == paths
    assert list(ledger.entries()) == []


def test_another_start_asks_no_worker(tmp_path: Path, probed: list[str]) -> None:
    paths = [past(write_clip(tmp_path / f"{k}.mp4", 12 + k)) for k in range(3)]
    found = []
    for _ in range(2):
        source, _ = make_prober(tmp_path)
        with source:
            source.probe_ahead(paths)
            found.append([source.probe(path) for path in paths])
    assert found[0] == found[1]
    assert sorted(probed) == paths
    past(write_clip(tmp_path / "0.mp4", 30))
    os.utime(paths[0], (1_700_000_001.5, 1_700_000_001.5))
    source, _ = make_prober(tmp_path)
    with source:
        assert source.probe(paths[0]).frame_count == 30
    assert len(probed) == 4


def test_what_cannot_be_probed_is_named_once(tmp_path: Path, probed: list[str]) -> None:
    audio, absent = write_audio(tmp_path / "a.m4a"), str(tmp_path / "absent.mp4")
    source, ledger = make_prober(tmp_path)
    with source:
        source.probe_ahead([audio, absent])
        for _ in range(3):
            for path, reason in ((audio, "no_video"), (absent, "missing")):
                with pytest.raises(MediaError) as caught:
                    source.probe(path)
                assert (caught.value.path, caught.value.reason) == (path, reason)
    assert sorted((entry.path, entry.reason) for entry in ledger.entries()) == [
        (audio, "no_video"),
        (absent, "missing"),
    ]
    assert probed == [audio]
    write_clip(tmp_path / "a.mp4", 12)
    (tmp_path / "a.mp4").replace(audio)
    source, _ = make_prober(tmp_path)
    with source:
        assert source.probe(audio).kind == "video"


def test_a_probe_that_takes_too_long_or_too_much_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pipes are refused before they are opened, so the worker is given one behind the back of that check."""
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    pool = DecodePool(FrameStore(tmp_path / "store"), CacheConfig(workers=1, deadline=1.0))
    with pool, pytest.raises(MediaError) as caught:
        pool.probe(str(pipe))
    assert caught.value.reason == "not_a_file"
    good = write_clip(tmp_path / "good.mp4", 12)
    assert media_version(good)
    slow = DecodePool(FrameStore(tmp_path / "store"), CacheConfig(workers=1, deadline=1e-6))
    with slow, pytest.raises(MediaError, match=r"probing .* took longer than cache\.deadline") as caught:
        slow.probe(good)
    assert caught.value.reason == "timeout"


def test_few_files_are_probed_ahead(tmp_path: Path, probed: list[str]) -> None:
    """What is known of a long video is large: a data set's worth of it must not pile up before it is asked for."""
    first = past(write_clip(tmp_path / "0000.mp4", 12))
    paths = [first]
    for k in range(1, 3 * AHEAD_PER_WORKER):
        paths.append(str(tmp_path / f"{k:04}.mp4"))
        os.link(first, paths[-1])
    source, _ = make_prober(tmp_path, workers=1)
    with source:
        source.probe_ahead(paths)
        assert source.probe(paths[0]).path == paths[0]
        time.sleep(0.5)
        assert len(probed) <= AHEAD_PER_WORKER + 1
        for path in paths[2 * AHEAD_PER_WORKER :]:  # what lies between is passed over, and holds nothing up
            assert source.probe(path).path == path
        assert paths[-1] in probed
        source.probe_ahead(paths[:3])
        assert source.probe(paths[2]).frame_count == 12


def test_closing_forgets_what_was_not_asked(tmp_path: Path) -> None:
    paths = [write_clip(tmp_path / f"{k}.mp4", 12 + k) for k in range(6)]
    source, _ = make_prober(tmp_path, workers=1)
    source.probe_ahead(paths)
    source.close()
    with source:
        assert source.probe(paths[-1]).frame_count == 17
