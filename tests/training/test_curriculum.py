"""A run whose samples follow its own rewards: resumed, it ends as if it never had been interrupted."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from easyvideor1.components import Components
from easyvideor1.components.components import open_worker_media
from easyvideor1.config import RunConfig
from easyvideor1.data import write_rows
from easyvideor1.data.difficulty import HINT
from easyvideor1.evaluation.gallery import data_uri, strips
from easyvideor1.records.reading import read_rollouts
from easyvideor1.types import ConfigError, MediaRef

from .runs import World, copy_run, differing, train
from .runs import write_rows as write_raw

pytestmark = pytest.mark.model


def config(world: World, **changes) -> RunConfig:
    adapt = {"name": "adapt_difficulty", "hints": 20.0, "noise": 2.0, "mask": 2.0}
    given = {
        "data__prepare": [{"name": "anchors", "first": False}],
        "stages__0__transforms": [{"name": "noise", "strength": 0.01}, adapt],
        "stages__0__curriculum": {"name": "reward_history", "window": 2, "successes": True, "success": 0.0},
        "stages__0__prompts_per_step": 6,  # of twelve rows: each comes every second step
        "stages__0__steps": 6,
        "stages__0__save_every": 2,
        "stages__0__keep_checkpoints": 9,
        "cache__prefetch_steps": 2,
    }
    return world.short(**{**given, **changes})


def test_a_run_with_a_curriculum_resumes_to_the_same_bytes(world: World, place: Path, monkeypatch) -> None:
    train(config(world))
    run = place / "runs/small"
    files = [(step, run / f"stages/01-rl/rollouts/step_{step:06d}.jsonl") for step in range(1, 7)]
    rows = [row for step, file in files for row in read_rollouts(file, step)[0]]
    media = [medium for row in rows for medium in row.media if medium.effects]
    assert any(HINT in row.prompt for row in rows)
    assert {effect.name for medium in media for effect in medium.effects} == {"noise", "mask_frames"}
    assert any(len(medium.effects) > 1 for medium in media)

    # The report shows what the model saw.
    opened = config(world)
    with Components.open(opened) as components:
        elsewhere = open_worker_media(components.config, components.checkpoint, components.geometry)
        for medium in media[:4]:
            still = "last" if medium.kind == "image" else ""
            ref = MediaRef(medium.kind, medium.path, effects=medium.effects, still=still)
            plan = components.plan(ref)
            assert plan.digest == medium.digest
            pixels = components.load(ref, plan).pixels
            # So does an engine in another process, which is sent references and plans.
            sent = elsewhere.load(*pickle.loads(pickle.dumps((ref, plan))))
            np.testing.assert_array_equal(sent.pixels, pixels)
            (strip,) = strips([medium], components.store.get)
            assert [each.uri for each in strip.thumbnails] == [data_uri(pixel) for pixel in pixels]
        elsewhere.close()

    # As after a kill at the end of step 5, and with samples that are drawn when they are needed.
    (place / "again").mkdir()
    copied = copy_run(run, place / "again")
    for step in (4, 6):
        shutil.rmtree(copied / f"stages/01-rl/checkpoints/step_{step:06d}")
    monkeypatch.chdir(place / "again")
    shutil.copy(place / "own_parts.py", place / "again")
    _, shown = train(config(world, cache__prefetch_steps=0))
    assert "resuming after step 2" in shown
    assert [name for name in differing(copied, run) if name != "config.yaml"] == []
    state = json.loads((run / "stages/01-rl/checkpoints/step_000004/state.json").read_text())["curriculum"]
    assert [step for step, _, _ in state["observed"]["steps"]] == [3, 4] and state["waiting"] == []
    assert np.isfinite(list(state["observed"]["means"].values())).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stages__0__curriculum": "none"}, r"reads the rewards of earlier steps: set stages\.rl\.curriculum"),
        ({"stages__0__transforms": ["drop_settled"]}, "reads pass_rate of the curriculum.* such as pass_rate$"),
        ({"data__prepare": ["adapt_difficulty"]}, r"data\.prepare: adapt_difficulty reads"),
        ({"stages__0__curriculum": "own_parts:same"}, r"has no observe|takes|missing"),
    ],
)
def test_a_transform_without_its_curriculum_is_refused_at_the_start(world: World, place: Path, changes, said) -> None:
    with pytest.raises((ConfigError, TypeError), match=said):
        train(config(world, **changes))


def test_rows_that_cannot_be_prepared_are_named(world: World, place: Path) -> None:
    """Tracks of another video, tracks that are missing, and a span outside of its clip."""
    rows = [row for row in world.read() if row["videos"]][:4]
    for number, row in enumerate(rows):
        row["t"] = f"{number}.tracks.json"
        row["span"] = [90, 99] if number == 3 else [0, 1]
    with Components.open(config(world)) as components:
        infos = [components.frames.probe(row["videos"][0]) for row in rows]
    for number in (0, 1, 3):
        size = {"width": infos[number].width, "height": infos[number].height, "frames": infos[number].frame_count}
        frames = size["frames"] + (number == 1)
        (place / f"{number}.tracks.json").write_text(json.dumps({**size, "frames": frames, "objects": []}))
    source = [{"path": write_raw(place / "rows.jsonl", rows)}]
    prepare = [{"name": "overlay_ids", "tracks": "t"}, "require_span"]
    skipping = config(world, data__train=source, data__prepare=prepare, data__on_bad_row="skip")
    with Components.open(skipping) as components:
        (loaded,) = components.load_sources(skipping.data.train)
    assert [sample.id for sample in loaded.samples] == [rows[0]["problem_id"]]
    assert loaded.samples[0].media[0].effects[0].name == "overlay_ids"
    said = sorted(map(str, loaded.bad))
    assert "rows.jsonl:2: field 'videos'" in said[0] and "overlay_ids" in said[0] and "frames, the video has" in said[0]
    assert "rows.jsonl:3: " in said[1] and "2.tracks.json: the tracks cannot be read" in said[1]
    assert "rows.jsonl:4: the span [90, 99] s lies outside of the clip" in said[2]


def test_prepared_rows_are_written_as_they_were_read(world: World, place: Path) -> None:
    """As a filter writes them: a run that reads them again prepares them again."""
    preparing = config(world)
    with Components.open(preparing) as components:
        (loaded,) = components.load_sources(preparing.data.train)
        write_rows(place / "kept.jsonl", [replace(s, extra={**s.extra, "pass_rate": 0.5}) for s in loaded.samples])
        again = config(world, data__train=[{"path": str(place / "kept.jsonl")}])
        (read,) = Components.open(again).load_sources(again.data.train)
    assert any(ref.still for sample in read.samples for ref in sample.media)
    assert [(s.question, s.media, s.answer) for s in read.samples] == [
        (s.question, s.media, s.answer) for s in loaded.samples
    ]
    assert all(sample.extra["pass_rate"] == 0.5 for sample in read.samples)
