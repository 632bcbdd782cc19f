"""Looking ahead changes no sample, no error and no result."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from easyvideor1.rollout.samples import SamplePrefetcher
from easyvideor1.types import DataError, Frames, MediaError, MediaPlan, MediaRef, Sample
from easyvideor1.video.memory_cache import Prefetcher
from tiny import load_frames, make_plan

from .runs import World, json_lines, lasting, train


def plan_of(ref: MediaRef) -> MediaPlan:
    if ref.path == "gone.mp4":
        raise MediaError("gone", path=ref.path, reason="missing")
    return make_plan("video", seed=int(ref.path.removesuffix(".mp4")))


class Stream:
    """Three samples a step, of which the last has no media; step 4 cannot be drawn."""

    def __init__(self) -> None:
        self.drawn: list[int] = []

    def draw(self, step: int, round_: int) -> list[Sample]:
        self.drawn.append(step)
        if step == 4:
            raise DataError("rows.jsonl:9: no offline trajectory is left")
        names = [f"{step}.mp4", "gone.mp4" if step == 2 else "100.mp4"]
        return [*(Sample(name, "?", "math", "1", media=(MediaRef("video", name),)) for name in names), TEXT]


TEXT = Sample("text", "?", "math", "1")


def test_each_step_is_drawn_once_and_its_media_are_announced() -> None:
    stream, loaded = Stream(), []

    def load(ref: MediaRef, plan: MediaPlan) -> Frames:
        loaded.append(ref.path)
        return load_frames(ref, plan)

    with Prefetcher(load, max_bytes=1 << 30) as prefetcher:
        kept = make_plan("video", seed=3).digest
        ahead = SamplePrefetcher(stream.draw, plan_of, lambda plan: plan.digest != kept, prefetcher, steps=5, depth=2)
        assert [sample.id for sample in ahead(1)] == ["1.mp4", "100.mp4", "text"]
        assert stream.drawn == [1, 2, 3]
        assert [sample.id for sample in ahead(2)] == ["2.mp4", "gone.mp4", "text"]
        assert [sample.id for sample in ahead(3)] == ["3.mp4", "100.mp4", "text"]
        assert stream.drawn == [1, 2, 3, 4, 5], "a step that cannot be drawn does not stop the look ahead"
        with pytest.raises(DataError, match="no offline trajectory"):
            ahead(4)
        assert [sample.id for sample in ahead(5)] == ["5.mp4", "100.mp4", "text"]
        assert stream.drawn == [1, 2, 3, 4, 5]
        prefetcher.load(MediaRef("video", "5.mp4"), plan_of(MediaRef("video", "5.mp4")))
    assert set(loaded) <= {"1.mp4", "100.mp4", "2.mp4", "5.mp4"}, "of 3.mp4 no frames are read"
    assert loaded.count("5.mp4") == 1


def results(run_dir: Path) -> dict[str, bytes]:
    """All that lasts but the configuration, which names the settings that were varied."""
    return {name: content for name, content in lasting(run_dir).items() if name != "config.yaml"}


@pytest.mark.model
@pytest.mark.parametrize(("steps", "megabytes"), [(0, 4096), (3, 4096), (1, 1)])
def test_a_run_is_the_same_however_far_it_looks_ahead(
    finished: Path, world: World, place: Path, steps: int, megabytes: int
) -> None:
    train(world.config(cache__prefetch_steps=steps, cache__prefetch_mb=megabytes))
    assert results(place / "runs/small") == results(finished)


@pytest.mark.model
def test_frames_that_went_during_the_run_are_decoded_ahead(
    world: World, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is emptied after the rows were checked: training decodes, and learns the same."""
    from easyvideor1.training import run as module

    train(world.short())
    expected = results(place / "runs/small")
    shutil.rmtree(place / "runs")
    real = module.load_datasets

    def emptied(*arguments: Any) -> Any:
        material = real(*arguments)
        shutil.rmtree(place / "frames")
        return material

    monkeypatch.setattr(module, "load_datasets", emptied)
    train(world.short(cache__dir=str(place / "frames")))
    assert results(place / "runs/small") == expected
    assert list((place / "frames").glob("??/*.safetensors"))


@pytest.mark.model
def test_a_run_with_kept_features_learns_the_same(world: World, place: Path) -> None:
    frozen = {"model__freeze": ["vision", "merger"], "cache__dir": str(place / "frames")}
    train(world.short(**frozen))
    expected = json_lines(place / "runs/small/stages/01-rl/metrics.jsonl")
    shutil.rmtree(place / "runs")
    train(world.short(**frozen, cache__features=True))
    kept = sorted((place / "frames/features").glob("??/*.safetensors"))
    first = results(place / "runs/small")
    assert kept
    found = json_lines(place / "runs/small/stages/01-rl/metrics.jsonl")
    assert [row["reward/total"] for row in found] == [row["reward/total"] for row in expected]
    assert [row["loss"] for row in found] == pytest.approx([row["loss"] for row in expected], abs=1e-5)
    shutil.rmtree(place / "runs")
    for entry in (place / "frames").glob("??/*.safetensors"):
        entry.write_bytes(b"frames are not read where features are there")
    train(world.short(**frozen, cache__features=True, cache__codec="raw"))
    assert results(place / "runs/small") == first
