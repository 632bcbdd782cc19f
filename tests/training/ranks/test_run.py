"""``evr1 train`` on several ranks is the run of one process, however its ranks are started; a dead rank ends it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from easyvideor1.config import write_config
from training.runs import json_lines, train

pytestmark = pytest.mark.model

#: Rounding of a gradient that is nothing else must not become a step of AdamW.
CHANGES = {
    "data__validation": [],
    "data__test": [],
    "stages__0__steps": 1,
    "stages__1__steps": 2,
    "stages__1__save_every": 1,
    "stages__0__optimizer__eps": 1e-4,
    "stages__1__optimizer__eps": 1e-4,
    "evaluation__every": 0,
}
TRAIN = ["-m", "easyvideor1.cli", "train", "run.yaml"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
DEADLINE = 600.0


@pytest.fixture
def alone(world, place):
    """The directory of the run in one process; the configuration is ``run.yaml``."""
    config = world.config(**CHANGES)
    write_config(config, place / "run.yaml")
    train(config)
    return place / "runs/small"


def start(arguments, *overrides):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments, "cluster.ranks=2", *overrides]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    try:
        return process.communicate(timeout=DEADLINE)[1]
    finally:
        process.kill()


def same_run(found: Path, wanted: Path) -> None:
    for stage, steps in (("01-sft", 1), ("02-grpo", 2)):
        mine, theirs = (json_lines(run / "stages" / stage / "metrics.jsonl") for run in (found, wanted))
        assert len(mine) == len(theirs) == steps
        for one, other in zip(mine, theirs, strict=True):
            assert one == pytest.approx(other, rel=1e-5, abs=1e-5)
        one, other = (
            load_file(run / f"stages/{stage}/checkpoints/step_00000{steps}/model.safetensors")
            for run in (found, wanted)
        )
        for name, tensor in other.items():
            torch.testing.assert_close(one[name], tensor, rtol=1e-5, atol=1e-5, msg=lambda text, name=name: name + text)


def test_runs_on_two_ranks_are_those_of_one_process(alone) -> None:
    """Started by the run, or by torchrun; then both compute every micro-batch together."""
    said = finish(one := start(TRAIN, "name=two"))
    assert one.returncode == 0, said
    same_run(alone.parent / "two", alone)
    said = finish(other := start([*TORCHRUN, *TRAIN], "name=torchrun", "cluster.sequence_parallel=2"))
    assert other.returncode == 0, said
    same_run(alone.parent / "torchrun", alone)


def rank_of(process) -> int:
    """The process of rank 1."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (found,) = [pid for pid in children if b"ranks.member" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return int(found)


def test_a_killed_rank_ends_the_run_in_one_sentence(alone) -> None:
    run = alone.parent / "killed"
    process = start(TRAIN, "name=killed", "stages.grpo.steps=200")
    until = time.monotonic() + DEADLINE
    while not (run / "stages/02-grpo/checkpoints/step_000001/state.json").exists():
        assert process.poll() is None and time.monotonic() < until, finish(process)
        time.sleep(0.05)
    os.kill(rank_of(process), signal.SIGKILL)
    killed = time.monotonic()
    said = finish(process)
    assert process.returncode == 3, said
    assert time.monotonic() - killed < 60
    (sentence,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert sentence.startswith("error: rank 1 ended while it "), sentence
    assert "killed by SIGKILL" in sentence and "run the same command to resume" in sentence
    assert "Traceback" not in said
