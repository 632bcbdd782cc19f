"""How components get frames ready under each cache mode, and what a second start costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from easyvideor1.components import Components
from easyvideor1.config import RunConfig
from easyvideor1.types import ConfigError, DataError, MediaError, MediaInfo
from easyvideor1.video import DecodePool
from training.runs import World, write_rows

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("media"))


def config_of(world: World, rows: list[dict], place: Path, **changes) -> RunConfig:
    path = write_rows(place / "rows.jsonl", rows)
    return world.short(**{"data__train": [{"path": path}], "cache__dir": str(place / "frames"), **changes})


def videos_of(world: World) -> list[dict]:
    return [row for row in world.read() if row["videos"]][:3]


def test_each_mode_does_what_it_says(world: World, tmp_path: Path) -> None:
    rows = videos_of(world)
    seen: list[tuple[int, int]] = []
    with Components.open(config_of(world, rows, tmp_path, cache__mode="decode_only")) as components:
        loaded = components.load_sources(components.config.data.train)
        report = components.fill_cache(loaded, lambda done, total: seen.append((done, total)))
        assert (report.built, report.present, report.failed) == (0, 0, 0)
        assert seen[-1][0] == seen[-1][1]
        (ref,) = loaded[0].samples[0].media
        exact = components.load(ref, components.plan(ref)).pixels
        assert list(components.store.entries()) == []
        assert len(components.without_failed(loaded, report)[0].samples) == len(rows)
    with Components.open(config_of(world, rows, tmp_path, cache__mode="cache_only")) as components:
        report = components.fill_cache(loaded)
        assert (report.built, report.present) == (0, 0)
        assert {reason for _, reason in report.failures} == {"not_cached"}
        with pytest.raises(DataError, match=r"are not in .*run evr1 cache build, or set cache\.mode=prefer_cache"):
            components.without_failed(loaded, report)
        with pytest.raises(MediaError, match="evr1 cache build"):
            components.load(ref, components.plan(ref))
    with Components.open(config_of(world, rows, tmp_path)) as components:
        assert components.fill_cache(loaded).built == len(report.failures)
        assert (components.load(ref, components.plan(ref)).pixels == exact).all()
    with Components.open(config_of(world, rows, tmp_path, cache__mode="cache_only")) as components:
        assert components.fill_cache(loaded).failed == 0
        assert (components.load(ref, components.plan(ref)).pixels == exact).all()


def test_videos_with_fewer_frames_per_second_than_requested_are_noted_once(world: World, tmp_path: Path) -> None:
    rows = videos_of(world)
    faster = config_of(
        world, rows, tmp_path, data__video__frames=None, data__video__fps=1000.0, cache__mode="decode_only"
    )
    with Components.open(faster) as components:
        report = components.fill_cache(components.load_sources(components.config.data.train))
    assert f"{len(rows)} of {len(rows)} videos have fewer than the requested 1000 frames per second" in report.rate_note
    slower = config_of(world, rows, tmp_path, data__video__frames=None, data__video__fps=1.0, cache__mode="decode_only")
    with Components.open(slower) as components:
        assert components.fill_cache(components.load_sources(components.config.data.train)).rate_note == ""


def test_a_second_start_probes_and_decodes_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = videos_of(world)
    asked: list[str] = []
    real = DecodePool.probe

    def note(self: DecodePool, path: str) -> MediaInfo:
        asked.append(path)
        return real(self, path)

    monkeypatch.setattr(DecodePool, "probe", note)
    starts: list[int] = []
    for _ in range(2):
        with Components.open(config_of(world, rows, tmp_path)) as components:
            components.fill_cache(components.load_sources(components.config.data.train))
        starts.append(len(asked))
    assert starts[0] == len(set(asked)) == len({path for row in rows for path in row["videos"]})
    assert starts[1] == starts[0]


def test_a_wrong_checkpoint_is_told_before_any_file_is_read(world: World, tmp_path: Path) -> None:
    components = Components.open(config_of(world, videos_of(world), tmp_path), checkpoint=tmp_path)
    with components, pytest.raises(ConfigError):
        components.load_sources(components.config.data.train)
    assert not (tmp_path / "frames").exists()
