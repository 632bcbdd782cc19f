"""The section of ``benchmarks.engines`` that trains: what overlap hides, and whether a process changes a bit."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.engine_sections import Bench
from benchmarks.measure import table
from easyvideor1.config import dump_config

#: The runs by name, and what of ``rollout`` they set.
RUNS = {
    "in process": {"workers": 0},
    "own process": {"workers": 1},
    "one step ahead": {"workers": 1, "max_staleness": 1},
}


def measure_overlap(bench: Bench) -> dict[str, Any]:
    """The steps of three runs, one after the other: the same but for where and when they generate.

    Trainer and engine have one thread each, so that two cores can be busy.
    """
    runs = {name: _train(bench, name) for name in RUNS}
    rows, steps = [], dict[str, dict[str, float]]()
    for name, run in runs.items():
        clocks = [json.loads(line) for line in (run / "stages/01-grpo/timings.jsonl").read_text().splitlines()]
        counted = clocks[-bench.size.counted - 1 : -1]  # while the last one runs nothing is left to be generated
        steps[name] = {key: statistics.median(row.get(key, 0.0) for row in counted) for key in counted[-1]}
        one = steps[name]
        updating = one["advantages"] + one["update"] + one["sync"]
        cells = [one["total"], one["rollout"] + one["score"], updating, one["idle/trainer"], one["idle/engine"]]
        rows.append([name, *(f"{cell:.3f}" for cell in cells)])
    header = ["run", "step s", "waiting for responses s", "updating s", "trainer idle", "engine idle"]
    title = f"GRPO, {bench.size.steps} steps: median of the last {bench.size.counted} but the very last"
    print(table(title, header, rows))
    alone, ahead = steps["own process"], steps["one step ahead"]
    shorter = min(alone["rollout"] + alone["score"], alone["advantages"] + alone["update"] + alone["sync"])
    # Within the run that overlaps, which other work on the machine cannot make differ from itself.
    generating = (1 - ahead["idle/engine"]) * ahead["total"]
    waiting, updating = ahead["rollout"] + ahead["score"], ahead["advantages"] + ahead["update"] + ahead["sync"]
    within = (generating - waiting) / min(generating, updating)
    return {
        "overlap_hidden_within": round(within, 3),
        "overlap_hidden": round((alone["total"] - ahead["total"]) / shorter, 3),
        "step_seconds": {name: round(one["total"], 4) for name, one in steps.items()},
        "staleness0_bitwise": _outcome(runs["in process"]) == _outcome(runs["own process"]),
    }


def _train(bench: Bench, name: str) -> Path:
    """Run ``evr1 train`` in a process of its own; returns the run directory."""
    run = bench.work / "runs" / name.replace(" ", "-")
    stage = {
        "name": "grpo",
        "advantage": "grpo",
        "steps": bench.size.steps,
        "prompts_per_step": max(2, bench.size.prompts // 4),
        "group_size": bench.size.n,
        "optimizer": {"lr": 3e-4},
    }
    rollout = {"max_new_tokens": bench.size.tokens, **RUNS[name]}
    config = bench.config(stages=[stage], rollout=rollout, output_dir=str(run), seed=3)
    file = run.with_suffix(".yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(dump_config(config), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "easyvideor1.cli", "train", str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the run {name!r} ended with status {done.returncode}:\n{done.stderr[-4000:]}")
    return run


def _outcome(run: Path) -> str:
    """A digest of the metrics and the last weights of a run."""
    last = max((run / "stages/01-grpo/checkpoints").iterdir())
    digest = hashlib.sha256((run / "stages/01-grpo/metrics.jsonl").read_bytes())
    for file in sorted(last.glob("model*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
