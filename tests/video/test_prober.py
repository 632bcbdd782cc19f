from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from easyvideor1 import video
from easyvideor1.config.schema import CacheConfig
from easyvideor1.types import MediaError
from easyvideor1.video import FrameSource, FrameStore, HealthLedger
from easyvideor1.video.content import stat_key
from easyvideor1.video.guard import DecodePool
from easyvideor1.video.prober import AHEAD_PER_WORKER

from .clips import write_audio, write_clip


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


def make(tmp_path: Path, **changes: object) -> tuple[FrameSource, HealthLedger]:
    ledger = HealthLedger(tmp_path / "health.jsonl")
    settings = {"workers": 2, "deadline": 20.0, "memory_mb": 1024, **changes}
    return FrameSource(FrameStore(tmp_path / "store"), ledger, CacheConfig.model_validate(settings)), ledger


def past(path: str) -> str:
    """A file that was written long ago: only those are remembered from one process to the next."""
    os.utime(path, (1_700_000_000.5, 1_700_000_000.5))
    return path


def test_the_workers_say_what_probing_says(tmp_path: Path, probed: list[str]) -> None:
    paths = [past(write_clip(tmp_path / f"{k}.mp4", 12 + k)) for k in range(3)]
    source, ledger = make(tmp_path)
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
        source, _ = make(tmp_path)
        with source:
            source.probe_ahead(paths)
            found.append([source.probe(path) for path in paths])
    assert found[0] == found[1]
    assert sorted(probed) == paths
    past(write_clip(tmp_path / "0.mp4", 30))
    os.utime(paths[0], (1_700_000_001.5, 1_700_000_001.5))
    source, _ = make(tmp_path)
    with source:
        assert source.probe(paths[0]).frame_count == 30
    assert len(probed) == 4


def test_what_cannot_be_probed_is_named_once(tmp_path: Path, probed: list[str]) -> None:
    audio, absent = write_audio(tmp_path / "a.m4a"), str(tmp_path / "absent.mp4")
    source, ledger = make(tmp_path)
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
    source, _ = make(tmp_path)
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
    assert stat_key(good)
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
    source, _ = make(tmp_path, workers=1)
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
    source, _ = make(tmp_path, workers=1)
    source.probe_ahead(paths)
    source.close()
    with source:
        assert source.probe(paths[-1]).frame_count == 17
