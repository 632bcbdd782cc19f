"""Rows of every format are planned and trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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


def test_ids_that_two_sources_share_are_told(world: World, place: Path) -> None:
    chosen = [row for row in world.read() if row["videos"]][:2]
    paths = [write_rows(place / name, chosen) for name in ("first.jsonl", "second.jsonl")]
    _, shown = train(world.short(data__train=[{"path": path} for path in paths]))
    text = " ".join(shown.split())
    assert f"have the id {chosen[0]['problem_id']!r}, and 1 more are shared" in text
