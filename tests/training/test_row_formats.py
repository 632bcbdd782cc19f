"""Rows of every format are planned and trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest

from easyvideor1 import video

from .runs import World, json_lines, train, write_rows

pytestmark = pytest.mark.model


def converted(row: dict[str, Any], form: str) -> dict[str, Any]:
    """A row of the toy world as another framework has it."""
    videos, question, answer = row["videos"], row["problem"], row["answer"]
    if form == "published":
        return row
    if form == "easyr1":
        return {"problem": question, "answer": answer, "videos": videos, "options": row["options"]}
    if form == "messages":
        parts = [{"type": "video", "video": videos[0]}, {"type": "text", "text": question.replace("<video>", "")}]
        return {"messages": [{"role": "user", "content": parts}], "solution": answer, "options": row["options"]}
    if form == "conversations":
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        return {"conversations": turns, "video": videos[0], "options": row["options"]}
    return {
        "prompt": [{"role": "user", "content": question}],
        "videos": [{"video": videos[0]}],
        "reward_model": {"ground_truth": answer},
        "options": row["options"],
        "data_source": "toy",
    }


@pytest.mark.parametrize("form", ["published", "easyr1", "messages", "conversations", "verl"])
def test_two_steps_on_every_format(world: World, place: Path, form: str) -> None:
    chosen = [row for row in world.read() if row["videos"] and row["problem_type"].startswith("multiple")]
    assert len(chosen) >= 2
    rows = [{"problem": f"<video>{row['problem'].replace('<video>', '')}", **row} for row in chosen]
    path = write_rows(place / "rows.jsonl", [converted(row, form) for row in rows])
    train(world.short(data__train=[{"path": path, "task": "multiple choice"}]))
    steps = json_lines(place / "runs/small/stages/01-rl/metrics.jsonl")
    assert [step["groups/used"] for step in steps] == [2, 2]
    group = json_lines(place / "runs/small/stages/01-rl/rollouts/step_000001.jsonl")[0]
    assert group["media"] and group["answer"] in {row["answer"] for row in chosen}


def as_frames(path: str, directory: Path) -> dict[str, Any]:
    """All frames of a video as pictures of a directory, with their true times."""
    directory.mkdir(parents=True)
    info = video.probe(path)
    with av.open(path) as container:
        for number, frame in enumerate(container.decode(video=0)):
            frame.to_image().save(directory / f"{number}.png")
    return {"video": str(directory), "timestamps": list(info.timestamps)}


def test_a_video_given_as_frames_trains_as_the_video_does(world: World, place: Path) -> None:
    chosen = [row for row in world.read() if row["videos"] and row["problem_type"].startswith("multiple")][:2]
    media = []
    for name in ("film", "frames"):
        rows = chosen
        if name == "frames":
            rows = [{**row, "videos": [as_frames(row["videos"][0], place / row["problem_id"])]} for row in chosen]
        path = write_rows(place / f"{name}.jsonl", rows)
        train(world.short(name=name, data__train=[{"path": path}]))
        groups = json_lines(place / f"runs/{name}/stages/01-rl/rollouts/step_000001.jsonl")
        shown = ("frame_indices", "timestamps", "height", "width")
        (one,) = groups[0]["media"]
        media.append((groups[0]["prompt"], groups[0]["prompt_tokens"], {key: one[key] for key in shown}))
    assert media[0] == media[1]


def test_ids_that_two_sources_share_are_told(world: World, place: Path) -> None:
    chosen = [row for row in world.read() if row["videos"]][:2]
    paths = [write_rows(place / name, chosen) for name in ("first.jsonl", "second.jsonl")]
    _, shown = train(world.short(data__train=[{"path": path} for path in paths]))
    text = " ".join(shown.split())
    assert f"have the id {chosen[0]['problem_id']!r}, and 1 more are shared" in text
