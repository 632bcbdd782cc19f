"""Text, images and videos in one run: budgets of their own, balanced steps, numbers told apart, mismatches found."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import easyvideor1.components.media
from easyvideor1.toyworld import WorldSpec, write_world
from easyvideor1.types import ConfigError, DataError, Frames, MediaPlan, MediaRef
from easyvideor1.video import FrameSource, HealthLedger

from .runs import World, json_lines, train, write_rows

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def sources(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A file of rows for each modality."""
    home = tmp_path_factory.mktemp("joint")
    write_world(WorldSpec(train=6, validation=0, test=4, kinds=("math_text",), image_share=0.0), home / "text")
    rows = world.read()
    by_kind = {"video": [row for row in rows if row["videos"]], "image": [row for row in rows if row["images"]]}
    found = {kind: write_rows(home / f"{kind}.jsonl", own) for kind, own in by_kind.items()}
    return {**found, "text": str(home / "text/train.jsonl")}


def joint(world: World, sources: dict[str, str], **changes: Any) -> Any:
    """Two steps over text, images and videos, in which images and videos have budgets of their own."""
    train_on = [
        {"path": sources["video"], "video": {"frames": 2}},
        {"path": sources["image"], "image": {"max_pixels": 1024}},
        {"path": sources["text"]},
    ]
    values: dict[str, Any] = {
        "data__train": train_on,
        "data__balance": "modality",
        "data__modality_shares": {"video": 2, "image": 1, "text": 1},
        "data__image": {"min_pixels": 1024, "max_pixels": 4096},
        "cache__dir": str(world.home / "joint-frames"),
        "stages__0__prompts_per_step": 4,
    }
    return world.short(**{**values, **changes})


def rollouts(stage: Path, step: int) -> list[dict[str, Any]]:
    return json_lines(stage / f"rollouts/step_{step:06d}.jsonl")


def test_a_joint_run_tells_modalities_and_sources_apart(world: World, sources: dict[str, str], place: Path) -> None:
    config = joint(world, sources, data__test=[{"path": sources[kind]} for kind in ("video", "image", "text")])
    train(config)
    (stage,) = (place / "runs/small/stages").iterdir()
    for row in json_lines(stage / "metrics.jsonl"):
        groups = rollouts(stage, row["step"])
        assert Counter(group["modality"] for group in groups) == {"video": 2, "image": 1, "text": 1}
        for label in ("modality", "source"):
            for name in {group[label] for group in groups}:
                own = [group for group in groups if group[label] == name]
                scores = [trajectory["score"] for group in own for trajectory in group["trajectories"]]
                assert row[f"groups/{label}/{name}"] == len(own)
                assert row[f"reward/{label}/{name}"] == pytest.approx(np.mean([score["total"] for score in scores]))
                assert row[f"accuracy/{label}/{name}"] == pytest.approx(np.mean([s["accuracy"] for s in scores]))
        for group in groups:
            assert sum(group["tokens"].values()) == group["prompt_tokens"]
            # 2 frames of 64 x 64 are one temporal step of 4 tokens; an image of 32 x 32 is one token.
            assert group["tokens"]["video"] == (4 if group["modality"] == "video" else 0)
            assert group["tokens"]["image"] == (1 if group["modality"] == "image" else 0)
        assert (row["tokens/video"], row["tokens/image"]) == (8, 1)
        assert row["tokens/text"] == sum(group["tokens"]["text"] for group in groups)
        assert row["groups/visual_mismatch"] == 0
    evaluation = json.loads((place / "runs/small/evaluations/01-rl.json").read_text())
    assert list(evaluation["modalities"]) == ["video", "image", "text"]
    assert sum(part["count"] for part in evaluation["modalities"].values()) == evaluation["count"]
    assert sum(part["count"] for part in evaluation["sources"].values()) == evaluation["count"]
    # The test sources have the run's budgets: 4 frames, and 64 x 64 pixels per image.
    assert evaluation["modalities"]["video"]["tokens"]["video"] == 8
    assert evaluation["modalities"]["image"]["tokens"]["image"] == 4


class Shortened(FrameSource):
    """A store whose entries lost their last temporal step."""

    def load(self, ref: MediaRef, plan: MediaPlan) -> Frames:
        found = super().load(ref, plan)
        return Frames(found.pixels[:-2], found.plan) if ref.kind == "video" else found


def test_frames_that_do_not_fit_their_tokens_stop_the_run(
    world: World, sources: dict[str, str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(easyvideor1.components.media, "FrameSource", Shortened)
    with pytest.raises(DataError) as stopped:
        train(
            joint(
                world, sources, data__video={"rule": "uniform", "frames": 4}, data__train=[{"path": sources["video"]}]
            )
        )
    message = str(stopped.value)
    assert message.startswith(f"{sources['video']}:") and "visual tokens by the plan" in message
    assert "they were cut or resized after planning" in message and "evr1 cache verify" in message
    assert "features" in message and "data.on_visual_mismatch" in message
    assert not list((place / "runs/small/stages").rglob("metrics.jsonl")), "a step was taken"


def test_or_they_are_dropped_and_counted(
    world: World, sources: dict[str, str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(easyvideor1.components.media, "FrameSource", Shortened)
    store = place / "frames"
    questions = [{"path": sources[kind]} for kind in ("video", "image")]
    drop = {"data__on_visual_mismatch": "drop", "data__test": questions, "cache__dir": str(store)}
    drop["evaluation__max_failed"] = 1.0
    train(joint(world, sources, **drop))
    evaluation = json.loads((place / "runs/small/evaluations/before.json").read_text())
    assert evaluation["modalities"]["video"]["failed"] == evaluation["failed"] > 0
    assert evaluation["modalities"]["image"]["failed"] == 0
    assert evaluation["modalities"]["image"]["greedy"] is not None
    (stage,) = (place / "runs/small/stages").iterdir()
    for row in json_lines(stage / "metrics.jsonl"):
        videos = {group["sample"] for group in rollouts(stage, row["step"]) if group["modality"] == "video"}
        assert row["groups/visual_mismatch"] == len(videos) > 0
        assert row["groups/media_failed"] == row["groups/modality/video"] == 2 and row["groups/all"] == 4
        assert "reward/modality/video" not in row and row["tokens/video"] == 0
        assert row["groups/used"] == 2 and "reward/modality/text" in row
    assert {entry.reason for entry in HealthLedger(store / "health.jsonl").entries()} == {"visual_mismatch"}


def test_balanced_steps_survive_an_interruption(world: World, sources: dict[str, str], place: Path) -> None:
    """The files of a run that stopped after its first step, went on, and of one that did not stop are the same."""
    config = joint(world, sources, stages__0__save_every=1)
    train(config)
    (stage,) = (place / "runs/small/stages").iterdir()
    whole = {path.name: path.read_bytes() for path in stage.rglob("*.jsonl") if path.name != "timings.jsonl"}
    for path in sorted((stage / "checkpoints/step_000002").iterdir()):
        path.unlink()
    (stage / "checkpoints/step_000002").rmdir()
    (stage / "rollouts/step_000002.jsonl").unlink()
    train(config)
    assert {path.name: path.read_bytes() for path in stage.rglob("*.jsonl") if path.name != "timings.jsonl"} == whole


def test_epochs_are_of_what_is_drawn_when_nothing_is_refilled(
    world: World, sources: dict[str, str], place: Path
) -> None:
    """Rounds that a step does not need take no rows from the passes through a source."""
    size = len(json_lines(Path(sources["image"])))
    config = joint(
        world,
        sources,
        data__train=[{"path": sources["image"], "epochs": 1}, {"path": sources["video"]}],
        data__balance="none",
        rollout__max_new_tokens=8,
        stages__0__steps=3,
        stages__0__prompts_per_step=size,
        stages__0__selection={"generation_rounds": 3, "drop_flat_groups": False},
    )
    _, shown = train(config)
    assert f"stage rl: {3 * size} samples: {sources['image']} 33.3%, 1.00 epochs" in shown.replace("\n", "")
    (stage,) = (place / "runs/small/stages").iterdir()
    groups = [group for step in (1, 2, 3) for group in rollouts(stage, step)]
    assert len(groups) == 3 * size
    seen = Counter(group["sample"] for group in groups if group["modality"] == "image")
    assert abs(seen.total() - size) <= 1, "a mixture holds its shares to within a draw"
    assert len(seen) >= size - 1 and max(seen.values()) <= 2


def test_what_cannot_be_trained_is_said_before_anything_is_done(
    world: World, sources: dict[str, str], place: Path
) -> None:
    with pytest.raises(ConfigError, match=r"^stages\.rl: the sources with epochs come to"):
        train(
            joint(
                world,
                sources,
                data__balance="none",
                data__train=[{"path": sources["image"], "epochs": 99}, {"path": sources["video"]}],
            )
        )
    with pytest.raises(ConfigError, match="freezes the whole model"):
        questions = [{"path": sources["image"]}]
        train(joint(world, sources, model__freeze=["vision", "merger", "language"], data__test=questions))
    assert not list((place / "runs/small").rglob("before.json"))
