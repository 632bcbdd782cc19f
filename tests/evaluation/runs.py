"""A run directory as training leaves it, made of seeded numbers and moving squares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from easyvideor1.config.schema import EvaluationConfig
from easyvideor1.engines.engine import Sampling
from easyvideor1.evaluation.asking import Asking
from easyvideor1.evaluation.evaluate import evaluate
from easyvideor1.types import Frames, Sample
from easyvideor1.video import HealthLedger

from .worlds import ASKING, TableEngine, letter_score, make_plan, make_sample

HOSTILE = '<script src="http://evil.example/x.js"></script><img src=//evil.example onerror=alert(1)>{{ 7*7 }}"\'>'
TASKS = ("multiple_choice", "boolean", "numerical", "temporal_grounding")


def frames_of(digest: str, side: int = 64, count: int = 8) -> Frames:
    """A square that crosses the picture; its colour follows from the digest."""
    rng = np.random.default_rng(sum(digest.encode()))
    colour, row = rng.integers(80, 255, 3), int(rng.integers(4, side - 24))
    pixels = np.full((count, side, side, 3), 28, np.uint8)
    for i in range(count):
        left = int(i * (side - 20) / max(1, count - 1))
        pixels[i, row : row + 20, left : left + 20] = colour
    return Frames(pixels, make_plan(digest, count, side))


def held_out(count: int = 48) -> list[Sample]:
    samples = [make_sample(i, TASKS[i % len(TASKS)], "AB"[i % 2]) for i in range(count)]
    return [*samples, make_sample(count, video="broken.mp4")]


def write_evaluations(run_dir: Path, *names: str) -> None:
    samples = held_out()
    rng = np.random.default_rng(5)
    luck = rng.random(len(samples))
    for name in names:
        level = {"before": 0.35, "after": 0.8}.get(name, 0.6)
        table = {
            i: sample.answer if luck[i] < level else "<think>I cannot tell.</think>" for i, sample in enumerate(samples)
        }
        if name == "after":
            table[3] = HOSTILE
        evaluate(
            name,
            samples,
            Asking(TableEngine(table), ASKING, EvaluationConfig(samples=2), Sampling(max_new_tokens=64), seed=0),
            letter_score,
        ).write(run_dir / "evaluations")


def metrics_row(step: int, rng: np.random.Generator) -> dict[str, Any]:
    level = 0.35 + 0.5 * (1 - np.exp(-step / 30))
    by_task = {f"accuracy/{task}": float(np.clip(level + rng.normal(0, 0.12), 0, 1)) for task in TASKS}
    return {
        "step": step,
        "loss": float(0.02 * rng.normal()),
        "reward/total": float(np.clip(level + rng.normal(0, 0.05), 0, 1)),
        "reward/accuracy": float(np.clip(level - 0.05 + rng.normal(0, 0.05), 0, 1)),
        "reward/format": float(min(1.0, level + 0.2)),
        "response/not_applicable": 0.0,
        "response/tokens": float(22 + rng.normal(0, 1.5)),
        "kl": float(0.002 * step / 100),
        "grad_norm": float(abs(rng.normal(1, 0.2))),
        **by_task,
    }


def rollout_row(step: int, number: int, origin: str, group_size: int = 4) -> dict[str, Any]:
    digest = f"clip_{number}"
    plan = make_plan(digest, 8, 64)
    rng = np.random.default_rng((step, number))
    trajectories = []
    for i in range(group_size):
        right = float(rng.random() < (0.3 if step == 1 else 0.8))
        text = f"<think>The square moves right in clip {number}.</think><answer>{'A' if right else 'C'}</answer>"
        score = {"accuracy": right, "format": 1.0, "total": 0.9 * right + 0.1, "parts": {}, "parsed": "A"}
        score |= {"applicable": True, "reason": ""}
        trajectories.append(
            {"origin": origin, "response": HOSTILE if (number, i) == (0, 0) else text, "tokens": 24, "finish": "stop"}
            | {"logprob": -3.2, "advantage": right - 0.5, "score": score}
        )
    media = {"kind": "video", "path": f"clips/{digest}.mp4", "digest": digest, "height": 64, "width": 64}
    media |= {"frame_indices": list(plan.frame_indices), "timestamps": list(plan.timestamps)}
    return {
        "step": step,
        "sample": f"t{number}",
        "task": TASKS[number % 2],
        "question": f"<video>Which way does the square of clip {number} move?",
        "answer": "A",
        "options": ["A. right", "B. left", "C. up", "D. down"],
        "prompt": "...",
        "prompt_tokens": 60,
        "media": [media],
        "used": number != 2,
        "trajectories": trajectories,
    }


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_stage(run_dir: Path, name: str, steps: int, seed: int, origin: str = "online") -> None:
    rng = np.random.default_rng(seed)
    stage = run_dir / "stages" / name
    write_lines(stage / "metrics.jsonl", [metrics_row(step, rng) for step in range(1, steps + 1)])
    write_lines(stage / "timings.jsonl", [{"step": step, "total": 1.5} for step in range(1, steps + 1)])
    for step in range(1, steps + 1):
        write_lines(
            stage / f"rollouts/step_{step:06d}.jsonl", [rollout_row(step, number, origin) for number in range(6)]
        )


def write_run(run_dir: Path) -> Path:
    """A finished run with two stages."""
    run_dir.mkdir(parents=True)
    write_stage(run_dir, "01-sft", 20, 1, "offline")
    write_stage(run_dir, "02-grpo", 80, 2)
    write_evaluations(run_dir, "before", "grpo-000040", "after")
    (run_dir / "config.yaml").write_text(f"name: toy\ncache:\n  dir: {run_dir / 'cache'}\n# {HOSTILE}\n")
    (run_dir / "run.json").write_text(
        json.dumps({"name": f"toy & {HOSTILE}", "seed": 7, "command": "evr1 train", "versions": {"torch": "2.13"}})
    )
    source = {"path": "train.jsonl", "rows": 400, "used": 398, "refused": 2, "filtered": 0}
    source |= {"tasks": {"boolean": 198, "multiple_choice": 200}, "reasons": {"videos": 2}}
    source |= {"bad": [f"train.jsonl:{line}: field 'videos': {HOSTILE}" for line in (3, 9)]}
    (run_dir / "data_report.json").write_text(json.dumps({"train": [source], "validation": []}))
    HealthLedger(run_dir / "cache" / "health.jsonl").record("bad.mp4", "truncated", HOSTILE, "skipped")
    return run_dir
