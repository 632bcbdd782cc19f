"""GRPO steps of a tiny model that differ only in where their frames come from.

The loop, the stage, the policy and the engine are those of a run. Every step asks about clips of its own of one long
film, as an epoch over real data does, so nothing that an earlier step left in memory helps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Timing, Work, interleaved, timed
from easyvideor1.components import Components
from easyvideor1.config import RunConfig
from easyvideor1.data import SampleStream
from easyvideor1.families.tiny import write_tiny_checkpoint
from easyvideor1.policy.policy import Policy
from easyvideor1.training.loop import Stage, train
from easyvideor1.training.run_directory.run_log import StageLog
from easyvideor1.training.stages import build_stage
from easyvideor1.training.timeline import Timeline
from easyvideor1.training.timings import Timings
from easyvideor1.types import Frames, MediaPlan, MediaRef
from easyvideor1.video import FrameSource


@dataclass(frozen=True, slots=True)
class StepSize:
    """What a step does: prompts, responses to each, and their tokens."""

    prompts: int = 4
    responses: int = 8
    tokens: int = 48


FULL_STEP = StepSize()


class RamFrames(FrameSource):
    """Frames that were all read into memory before the clock starts."""

    held: dict[str, Frames]

    def load(self, ref: MediaRef, plan: MediaPlan) -> Frames:
        return self.held[plan.digest]


def compare_steps(film: Path, seconds: int, work: Path, rounds: int, size: StepSize) -> dict[str, Timing]:
    """Seconds of a step: ``ram``, ``cached`` (from the store), ``decoded`` (no store, decoded once per step when it is
    needed), ``decoded ahead`` (the same while the step before computes).
    """
    torch.set_num_threads(1)
    steps = rounds + 1
    rows = write_rows(film, seconds, work, steps * size.prompts)
    checkpoint = work / "tiny"
    if not (checkpoint / "config.json").exists():
        write_tiny_checkpoint(checkpoint, [rows.read_text(encoding="utf-8"), "<0.5 seconds>" * 9, "<answer></answer>"])
    with ExitStack() as stack:

        def opened(name: str, source: type[FrameSource] = FrameSource, **cache: Any) -> Stage:
            config = _config(rows, checkpoint, work / "steps-store", steps, size, cache)
            return stack.enter_context(_stage(config, source, work / "steps" / name))

        cached = opened("cached")  # the first fills the store
        works: dict[str, Work] = {
            "ram": _steps(opened("ram", RamFrames)),
            "cached": _steps(cached),
            "decoded": _steps(opened("decoded", mode="decode_only", prefetch_steps=0)),
        }
        timings = interleaved(works, rounds, warm_up=1)
        # What is decoded ahead would run on while others are measured, so these steps follow one another.
        ahead = _steps(opened("decoded ahead", mode="decode_only", prefetch_steps=1))
        return timings | interleaved({"decoded ahead": ahead}, rounds, warm_up=1)


def write_rows(film: Path, seconds: int, work: Path, count: int) -> Path:
    """Rows that ask about different minutes of one film."""
    length = min(60.0, seconds / 2)
    starts = np.linspace(0, seconds - length, count)
    path = work / "rows.jsonl"
    rows = [
        {
            "problem_id": f"clip-{number}",
            "problem": "<video>\nHow many shapes move?",
            "problem_type": "numerical",
            "solution": "<answer>4</answer>",
            "answer": "4",
            "videos": [str(film.resolve())],
            "images": [],
            "start": round(float(start), 3),
            "end": round(float(start) + length, 3),
        }
        for number, start in enumerate(starts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _config(rows: Path, checkpoint: Path, store: Path, steps: int, size: StepSize, cache: dict[str, Any]) -> RunConfig:
    stage = {
        "name": "grpo",
        "steps": steps,
        "prompts_per_step": size.prompts,
        "group_size": size.responses,
        "selection": {"drop_flat_groups": False},
        "save_every": 10**6,
        "optimizer": {"lr": 1e-5},
    }
    return RunConfig.model_validate(
        {
            "name": "steps",
            "seed": 3,
            "model": {"path": str(checkpoint)},
            "data": {
                "train": [{"path": str(rows)}],
                "video": {"fps": 2, "max_frames": 32, "min_pixels": 16_384, "max_pixels": 65_536},
            },
            "cache": {"dir": str(store), **cache},
            "rollout": {"max_new_tokens": size.tokens},
            "stages": [stage],
        }
    )


@contextmanager
def _stage(config: RunConfig, source: type[FrameSource], directory: Path) -> Iterator[Stage]:
    with Components.open(config) as components:
        components.__dict__["frames"] = frames = source(components.store, components.ledger, config.cache)
        (loaded,) = components.load_sources(config.data.train)
        if isinstance(frames, RamFrames):
            frames.held = {}
            for sample in loaded.samples:
                for ref in sample.media:
                    entry = components.store.get(components.plan(ref))
                    assert entry is not None
                    frames.held[entry.plan.digest] = Frames(entry.pixels.copy(), entry.plan)
        elif config.cache.mode != "decode_only":
            report = components.fill_cache([loaded])
            assert report.failed == 0, report.failures
        policy = Policy.open(config.model)
        policy.begin(config.stages[0])
        engine = components.open_engine(policy.model)
        yield build_stage(
            config.stages[0],
            config,
            components=components,
            policy=policy,
            engine=engine,
            stream=SampleStream([loaded.samples], [1.0], config.seed),
            first=0,
            record=StageLog(directory),
            evaluate=lambda name, engine: {},
            on_step=_finite,
            save=lambda step: None,
            is_best=lambda step: False,
            timeline=Timeline(engine, components.scorer.spans, None, lambda step: Timings()),
        )


def _steps(stage: Stage) -> Work:
    """One further step of the stage every time it is called."""
    numbers = iter(range(1, stage.steps + 1))

    def step() -> None:
        number = next(numbers)
        train(replace(stage, steps=number), number - 1)

    return timed(step)


def _finite(stage: str, step: int, steps: int, metrics: dict[str, float]) -> None:
    assert math.isfinite(metrics["loss"]) and metrics["groups/media_failed"] == 0, metrics
