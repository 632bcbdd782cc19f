"""Runs that are killed, again and again, end as if they never had been."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from easyvideor1.cli.train import train_and_report
from easyvideor1.config import write_config
from easyvideor1.types import ConfigError

from .runs import World, differing, lasting, train

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
    write_config(world.config(stages__1__async_save=True), place / "run.yaml")
    draw = random.Random(seed)
    # A step makes four durable writes and a checkpoint about a dozen.
    moments = [str(draw.randint(2, 30)) for _ in range(14)]
    script = Path(__file__).with_name("faults.py")
    process = start([str(script), "run.yaml", *moments], place)
    out, errors = process.communicate(timeout=900)
    ends = [json.loads(line) for line in out.splitlines() if line.startswith('{"moment"')]
    assert len(ends) == len(moments) + 1, errors
    assert ends[-1] == {"moment": None, "killed": False, "status": 0}, errors
    assert sum(end["killed"] for end in ends) >= 9, "the moments are too late to test anything"
    assert all(end["killed"] or end["status"] == 0 for end in ends), errors
    run = place / "runs/small"
    assert "resuming after step" in errors
    assert json.loads((run / "run.json").read_text())["starts"] > 9
    assert differing(run, finished) == ["config.yaml"], "which says that one of them saves in the background"


def test_the_same_command_again_finishes_a_killed_run(finished: Path, world: World, place: Path) -> None:
    write_config(world.config(), place / "run.yaml")
    command = ["-m", "easyvideor1.cli", "train", "run.yaml"]
    run = place / "runs/small"
    metrics = run / "stages/02-grpo/metrics.jsonl"
    process = start(command, place)
    limit = time.monotonic() + 300
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < 3:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < limit
        time.sleep(0.002)
    second = start(command, place)
    assert second.wait(timeout=300) in (0, 2)
    said = second.communicate()[1]
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert "in use by another process" in said or "is finished" in said
    last = start(command, place)
    _, said = last.communicate(timeout=300)
    assert last.returncode == 0, said
    assert lasting(run) == lasting(finished)


def test_a_stop_before_the_first_save_says_so_and_how_to_save_sooner(world: World, place: Path) -> None:
    """Ctrl-C at the third step of the stage; then a start that is told what is lost, and another that saves sooner."""
    (place / "stopping.py").write_text(
        "from pathlib import Path\n"
        "from own_parts import vowels\n"
        "left = 12\n"
        "def reward(sample, response):\n"
        "    global left\n"
        "    left -= 1\n"
        "    if left < 0 and Path('stop').exists():\n"
        "        raise KeyboardInterrupt\n"
        "    return vowels(sample, response)\n"
    )
    values = {"rewards__custom": {"*": "stopping:reward"}, "stages__0__steps": 4, "stages__0__save_every": 50}
    (place / "stop").touch()
    shown = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        train_and_report(world.short(**values), Console(file=shown, width=300))
    told = (
        "stage rl: there is no checkpoint yet, so it restarts from its first step. The first checkpoint "
        "comes after step 4 of 4 (stages.rl.save_every=50); for an earlier one, run the same command "
        "with stages.rl.save_every=2"
    )
    assert told in shown.getvalue()
    (place / "stop").unlink()
    _, said = train(world.short(**{**values, "stages__0__save_every": 2, "stages__0__keep_checkpoints": 5}))
    assert "stage rl: there is no checkpoint yet" in said and "The first checkpoint comes after step 2 of 4" in said
    names = [path.name for path in (place / "runs/small/stages/01-rl/checkpoints").iterdir()]
    assert sorted(names) == ["step_000002", "step_000004"]
    with pytest.raises(ConfigError, match="another configuration"):
        train(world.short(**values, seed=8))
