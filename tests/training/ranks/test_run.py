"""``evr1 train`` on several ranks is the run of one process, however its ranks are started; a dead rank ends it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from easyvideor1.config import write_config
from training.runs import differing, json_lines, train

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


def test_a_run_that_torchrun_starts_is_that_of_one_process(alone) -> None:
    """Both ranks compute every micro-batch together."""
    said = finish(process := start([*TORCHRUN, *TRAIN], "name=torchrun", "cluster.sequence_parallel=2"))
    assert process.returncode == 0, said
    same_run(alone.parent / "torchrun", alone)


#: Ends rank 1 in the second step of reinforcement learning, once the first is saved, where there is a file ``kill``.
KILLING = """
import os
import shutil
import signal
import time
from pathlib import Path

from own_parts import vowels

RUN = Path("runs/ranked")
STAGE = RUN / "stages/02-grpo"


def reward(sample, response):
    if Path("kill").exists() and (STAGE / "rollouts/step_000001.jsonl").exists():
        while not (STAGE / "checkpoints/step_000001").exists():
            time.sleep(0.01)
        shutil.copytree(RUN, "interrupted")
        Path("kill").unlink()
        for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
            if b"ranks.member" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)
    return vowels(sample, response)
"""


def test_a_run_that_is_interrupted_on_ranks_resumes_on_any_number_of_them(alone, world, place) -> None:
    """On as many it ends as if nothing had been, to the bit. Checkpoints are written in the background."""
    (place / "killing.py").write_text(KILLING)
    config = world.config(**CHANGES, name="ranked", rewards__custom={"*": "killing:reward"})
    write_config(config, place / "run.yaml")
    run = place / "runs/ranked"
    said = finish(whole := start(TRAIN, "stages.grpo.async_save=true"))
    assert whole.returncode == 0, said
    same_run(run, alone)
    clocks = [json_lines(each / "stages/02-grpo/timings.jsonl") for each in (run, alone)]
    assert all(0 < row["ranks/driver_bytes_per_sample"] < 64_000 for row in clocks[0])
    assert not any("ranks/driver_bytes_per_sample" in row for row in clocks[1])
    shutil.move(run, place / "whole")
    (place / "kill").touch()
    said = finish(resumed := start(TRAIN, "stages.grpo.async_save=true"))
    assert resumed.returncode == 0 and "restart 1 of 2" in said and "resuming after step 1" in said, said
    assert differing(run, place / "whole") == []
    shutil.rmtree(run)
    shutil.move(place / "interrupted", run)
    _, said = train(config)
    assert "resuming after step 1" in said, said
    same_run(run, alone)


def rank_of(process) -> int:
    """The process of rank 1."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (found,) = [pid for pid in children if b"ranks.member" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return int(found)


def last_saved(run: Path) -> int:
    """The step of the last whole checkpoint of the second stage, 0 without one."""
    files = run.glob("stages/02-grpo/checkpoints/step_*/state.json")
    return max((int(file.parent.name.removeprefix("step_")) for file in files), default=0)


def kill_rank(process, run: Path, step: int) -> None:
    """Kill rank 1 once there is a checkpoint of ``step`` or later."""
    until = time.monotonic() + DEADLINE
    while last_saved(run) < step:
        assert process.poll() is None and time.monotonic() < until, finish(process)
        time.sleep(0.05)
    os.kill(rank_of(process), signal.SIGKILL)


def test_a_run_resumes_by_itself_after_a_killed_rank_and_ends_after_too_many(alone) -> None:
    run = alone.parent / "killed"
    process = start(TRAIN, "name=killed", "stages.grpo.steps=200", "cluster.max_restarts=1")
    kill_rank(process, run, 1)
    kill_rank(process, run, last_saved(run) + 2)  # one may have been under way; the next is of the ranks after these
    killed = time.monotonic()
    said = finish(process)
    assert process.returncode == 3, said
    assert time.monotonic() - killed < 60
    first, second = [line for line in said.splitlines() if line.startswith("error: ")]
    for sentence in (first, second):
        assert sentence.startswith("error: rank 1 ended while it ") and "killed by SIGKILL" in sentence, sentence
    assert "the run resumes by itself from the last checkpoint (restart 1 of 1)" in first
    assert "run the same command to resume from the last checkpoint" in second
    assert "Traceback" not in said
    incidents = json.loads((run / "run.json").read_text())["incidents"]
    assert any(each["text"].startswith("restart 1 of 1: rank 1 ended while it ") for each in incidents), incidents
