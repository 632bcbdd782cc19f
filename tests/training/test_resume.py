"""Runs that are killed, again and again, end as if they never had been."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from easyvideor1.config import write_config

from .runs import World, lasting

pytestmark = pytest.mark.model


def start(command: list[str], place: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("seed", [0])
def test_kills_at_any_moment_leave_no_trace(finished: Path, world: World, place: Path, seed: int) -> None:
    write_config(world.config(), place / "run.yaml")
    draw = random.Random(seed)
    # A step makes four durable writes and a checkpoint about a dozen.
    moments = [str(draw.randint(2, 30)) for _ in range(14)]
    script = Path(__file__).with_name("faults.py")
    process = start([str(script), "run.yaml", *moments], place)
    out, errors = process.communicate(timeout=300)
    ends = [json.loads(line) for line in out.splitlines() if line.startswith('{"moment"')]
    assert len(ends) == len(moments) + 1, errors
    assert ends[-1] == {"moment": None, "killed": False, "status": 0}, errors
    assert sum(end["killed"] for end in ends) >= 9, "the moments are too late to test anything"
    assert all(end["killed"] or end["status"] == 0 for end in ends), errors
    run = place / "runs/small"
    assert "going on after step" in errors
    assert json.loads((run / "run.json").read_text())["starts"] > 9
    assert lasting(run) == lasting(finished)


def test_the_same_command_again_finishes_a_killed_run(finished: Path, world: World, place: Path) -> None:
    write_config(world.config(), place / "run.yaml")
    command = ["-m", "easyvideor1.cli", "train", "run.yaml"]
    run = place / "runs/small"
    metrics = run / "stages/02-grpo/metrics.jsonl"
    process = start(command, place)
    limit = time.monotonic() + 120
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < 3:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < limit
        time.sleep(0.002)
    second = start(command, place)
    assert second.wait(timeout=120) in (0, 2)
    said = second.communicate()[1]
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert "in use by another process" in said or "is finished" in said
    last = start(command, place)
    _, said = last.communicate(timeout=120)
    assert last.returncode == 0, said
    assert lasting(run) == lasting(finished)
