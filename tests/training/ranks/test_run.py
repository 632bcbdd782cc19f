"""``evr1 train`` on several ranks is the run of one process, however its ranks are started; a dead rank ends it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from easyvideor1.config import write_config
from easyvideor1.training.run_directory.sameness import differing_files
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


def test_a_run_that_torchrun_starts_is_that_of_one_process(alone) -> None:
    """Both ranks compute every micro-batch together."""
    said = finish(process := start([*TORCHRUN, *TRAIN], "name=torchrun", "cluster.sequence_parallel=2"))
    assert process.returncode == 0, said
    same_run(alone.parent / "torchrun", alone)


#: Ends rank 1 in the second step of reinforcement learning, once the first is saved, where there is a file ``kill``.
KILLING = """
import os
import signal
import time
from pathlib import Path

from own_parts import vowels

STAGE = Path("runs/ranked/stages/02-grpo")


def reward(sample, response):
    if Path("kill").exists() and (STAGE / "rollouts/step_000001.jsonl").exists():
        while not (STAGE / "checkpoints/step_000001").exists():
            time.sleep(0.01)
        for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
            if b"ranks.member" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)
    return vowels(sample, response)
"""


def test_a_run_whose_rank_is_killed_resumes_on_any_number_of_ranks(alone, world, place) -> None:
    """On as many it ends as if nothing had been, to the bit. Checkpoints are written in the background."""
    (place / "killing.py").write_text(KILLING)
    config = world.config(**CHANGES, name="ranked", rewards__custom={"*": "killing:reward"})
    write_config(config, place / "run.yaml")
    asynchronous = "stages.grpo.async_save=true"
    said = finish(whole := start(TRAIN, asynchronous))
    assert whole.returncode == 0, said
    same_run(place / "runs/ranked", alone)
    shutil.move(place / "runs/ranked", place / "whole")
    (place / "kill").touch()
    said = finish(killed := start(TRAIN, asynchronous))
    assert killed.returncode == 3, said
    (sentence,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert sentence.startswith("error: rank 1 ended while it "), sentence
    assert "killed by SIGKILL" in sentence and "run the same command to resume" in sentence
    assert "Traceback" not in said
    (place / "kill").unlink()
    shutil.copytree(place / "runs/ranked", place / "kept")
    said = finish(again := start(TRAIN, asynchronous))
    assert again.returncode == 0 and "resuming after step 1" in said, said
    assert differing_files(place / "runs/ranked", place / "whole") == []
    shutil.rmtree(place / "runs/ranked")
    shutil.move(place / "kept", place / "runs/ranked")
    _, said = train(config)
    assert "resuming after step 1" in said, said
    same_run(place / "runs/ranked", alone)
